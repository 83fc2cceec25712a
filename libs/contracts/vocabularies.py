"""Code lists with their French labels (DOMAIN: channels §3, themes §4, sex and age bands §5, funders §6).

A vocabulary only grows within a version. A code is never reused with another meaning.
"""

from libs.contracts.types import Code


class Force(Code):
    """Who hosts the unit."""

    POLICE = "police", "Police nationale"
    GENDARMERIE = "gendarmerie", "Gendarmerie nationale"


class PostForce(Code):
    """Which force a post serves (DOMAIN §5: 349 posts in Nov 2020 = 132 gendarmerie + 65 mixed + 152 police)."""

    POLICE = "police", "Police"
    GENDARMERIE = "gendarmerie", "Gendarmerie"
    MIXED = "mixed", "Mixte police et gendarmerie"


class UnitKind(Code):
    COMMISSARIAT = "commissariat", "Commissariat de police"
    BRIGADE = "brigade", "Brigade de gendarmerie"
    COMPANY = "company", "Compagnie de gendarmerie"
    GROUP = "group", "Groupement de gendarmerie"
    PREFECTURE = "prefecture", "Préfecture de police"
    OTHER = "other", "Autre unité"


class Channel(Code):
    """How the ISCG is seized (mode de saisine)."""

    INTERVENTION = "intervention", "Lors d'une intervention"
    COMPLAINT = "complaint", "À la suite d'une plainte"
    DAYBOOK = "daybook", "Exploitation de la main courante"
    REPORT = "report", "Compte rendu d'intervention sans plainte"
    RECEPTION = "reception", "Accueil du public"
    OFFICER = "officer", "Demande d'un agent"
    PERSON = "person", "Demande de la personne"
    PARTNER = "partner", "Demande d'un partenaire"
    HOME_VISIT = "home_visit", "Visite à domicile conjointe"


class Urgency(Code):
    """Target delays to the first contact attempt are configuration (DOMAIN §3, unconfirmed): 4 h, 24 h, 72 h."""

    IMMEDIATE = "immediate", "Immédiate"
    PRIORITY = "priority", "Prioritaire"
    STANDARD = "standard", "Normale"


class Theme(Code):
    """What the police saw at reception; several allowed, one principal."""

    COUPLE_VIOLENCE = "couple_violence", "Violences dans le couple"
    FAMILY_VIOLENCE = "family_violence", "Violences intrafamiliales"
    SEXUAL_VIOLENCE = "sexual_violence", "Violences sexuelles"
    CONFLICTUAL_SEPARATION = "conflictual_separation", "Séparation conflictuelle"
    CHILD_NOT_RETURNED = "child_not_returned", "Non-représentation d'enfant"
    HOME_ABANDONED = "home_abandoned", "Abandon du domicile"
    FAMILY_DISPUTE = "family_dispute", "Différend familial"
    CHILD_IN_DANGER = "child_in_danger", "Mineur en danger"
    RUNAWAY_MINOR = "runaway_minor", "Fugue de mineur"
    MINOR_ADRIFT = "minor_adrift", "Mineur en voie de marginalisation"
    SCHOOL_VIOLENCE = "school_violence", "Violences scolaires"
    PARENTING = "parenting", "Difficultés éducatives"
    SOCIAL_DISTRESS = "social_distress", "Détresse sociale"
    SUICIDE_ATTEMPT = "suicide_attempt", "Tentative de suicide"
    SUICIDE = "suicide", "Suicide"
    PSYCHIATRIC_DISORDER = "psychiatric_disorder", "Troubles psychiatriques"
    ADDICTION = "addiction", "Ivresse publique, addictions"
    RADICALISATION = "radicalisation", "Radicalisation"
    NEIGHBOUR_DISPUTE = "neighbour_dispute", "Différend de voisinage"
    EMERGENCY_REHOUSING = "emergency_rehousing", "Relogement d'urgence"
    HOUSING = "housing", "Logement"
    EVICTION = "eviction", "Expulsion locative"
    HARASSMENT = "harassment", "Harcèlement, y compris au travail"
    ELDERLY_FRAUD = "elderly_fraud", "Escroquerie de personnes âgées"
    ELDERLY_ISOLATION = "elderly_isolation", "Isolement de personnes âgées"
    ABUSE_OF_TRUST = "abuse_of_trust", "Abus de confiance"
    RISK_BEHAVIOUR = "risk_behaviour", "Conduites à risque"
    TRAFFICKING = "trafficking", "Traite, prostitution"
    DISCRIMINATION = "discrimination", "Discrimination"
    DISABILITY = "disability", "Handicap"
    HOMELESSNESS = "homelessness", "Sans domicile"
    BEREAVEMENT = "bereavement", "Deuil"
    OTHER = "other", "Autre"


class Need(Code):
    """What the ISCG assessed: an axis apart from the themes at reception."""

    PROTECTION = "protection", "Mise en sécurité"
    SHELTER = "shelter", "Hébergement"
    HOUSING = "housing", "Logement"
    LEGAL_ADVICE = "legal_advice", "Information juridique"
    VICTIM_SUPPORT = "victim_support", "Aide aux victimes"
    PSYCHOLOGICAL_SUPPORT = "psychological_support", "Soutien psychologique"
    HEALTH_CARE = "health_care", "Soins"
    ADDICTION_CARE = "addiction_care", "Soins en addictologie"
    CHILD_PROTECTION = "child_protection", "Protection de l'enfance"
    PARENTING_SUPPORT = "parenting_support", "Soutien à la parentalité"
    FAMILY_MEDIATION = "family_mediation", "Médiation familiale"
    FINANCIAL_AID = "financial_aid", "Aide financière"
    RIGHTS = "rights", "Accès aux droits sociaux"
    EMPLOYMENT = "employment", "Emploi, formation"
    AUTONOMY = "autonomy", "Autonomie, handicap, grand âge"
    PERPETRATOR_CARE = "perpetrator_care", "Prise en charge des auteurs"
    LISTENING = "listening", "Écoute, information"
    OTHER = "other", "Autre"


class PersonRole(Code):
    VICTIM = "victim", "Victime"
    ALLEGED_PERPETRATOR = "alleged_perpetrator", "Mis en cause"
    WITNESS = "witness", "Témoin"
    OTHER = "other", "Autre"


class Sex(Code):
    FEMALE = "female", "Femme"
    MALE = "male", "Homme"
    UNKNOWN = "unknown", "Non connu"


class AgeBand(Code):
    """DOMAIN §5. `age_band_of` gives the band of an age in years."""

    AGE_0_5 = "0-5", "0 à 5 ans"
    AGE_6_10 = "6-10", "6 à 10 ans"
    AGE_11_14 = "11-14", "11 à 14 ans"
    AGE_15_17 = "15-17", "15 à 17 ans"
    AGE_18_24 = "18-24", "18 à 24 ans"
    AGE_25_39 = "25-39", "25 à 39 ans"
    AGE_40_59 = "40-59", "40 à 59 ans"
    AGE_60_74 = "60-74", "60 à 74 ans"
    AGE_75_UP = "75+", "75 ans et plus"
    UNKNOWN = "unknown", "Non connu"


_BAND_ENDS = (
    (5, AgeBand.AGE_0_5),
    (10, AgeBand.AGE_6_10),
    (14, AgeBand.AGE_11_14),
    (17, AgeBand.AGE_15_17),
    (24, AgeBand.AGE_18_24),
    (39, AgeBand.AGE_25_39),
    (59, AgeBand.AGE_40_59),
    (74, AgeBand.AGE_60_74),
)


def age_band_of(age: int | None) -> AgeBand:
    """The band of an age in completed years; `None` is unknown."""
    if age is None:
        return AgeBand.UNKNOWN
    return next((band for end, band in _BAND_ENDS if age <= end), AgeBand.AGE_75_UP)


class ContactAgreement(Code):
    """A social-work rule, not the GDPR legal basis (DOMAIN §3)."""

    ACCEPTED = "accepted", "La personne accepte d'être contactée"
    REFUSED = "refused", "La personne refuse d'être contactée"
    NOT_ASKED = "not_asked", "Non demandé (absence, danger)"


class LegalGround(Code):
    """On what a person is sent to a partner without their agreement."""

    MINOR_IN_DANGER = "minor_in_danger", "Mineur en danger (CASF, article L. 226-2-1)"
    VULNERABLE_ADULT = "vulnerable_adult", "Majeur qui n'est pas en mesure de se protéger (code pénal, article 226-14)"
    VITAL_DANGER = "vital_danger", "Danger vital immédiat (code pénal, article 226-14)"
    COURT_DECISION = "court_decision", "Décision de justice"


class KnownToServices(Code):
    KNOWN = "known", "Connue des services sociaux"
    UNKNOWN = "unknown", "Inconnue des services sociaux"
    NOT_KNOWN_WHETHER = "not_known_whether", "Information non disponible"


class ContactMode(Code):
    PHONE = "phone", "Téléphone"
    TEXT = "text", "SMS"
    EMAIL = "email", "Courriel"
    LETTER = "letter", "Courrier"
    VISIT = "visit", "Visite"
    IN_PERSON = "in_person", "Sur place"


class ContactResult(Code):
    REACHED = "reached", "Personne jointe"
    NO_ANSWER = "no_answer", "Sans réponse"
    MESSAGE_LEFT = "message_left", "Message laissé"
    WRONG_CONTACT = "wrong_contact", "Coordonnées erronées"
    DECLINED = "declined", "La personne décline l'aide"


class InterviewPlace(Code):
    STATION = "station", "Commissariat ou brigade"
    TOWN_HALL = "town_hall", "Mairie"
    HOME = "home", "Domicile"
    PHONE = "phone", "Téléphone"
    PARTNER = "partner", "Chez un partenaire"
    OTHER = "other", "Autre lieu"


class RoutingReason(Code):
    UNIT = "unit", "Par l'unité"
    COMMUNE = "commune", "Par la commune"
    MANUAL = "manual", "Par le coordinateur"
    TRANSFER = "transfer", "Par transfert"


class UnroutedReason(Code):
    NO_COVERAGE = "no_coverage", "Aucun poste ne couvre cette unité ni cette commune"
    CHANNEL_NOT_ACCEPTED = "channel_not_accepted", "Aucun poste n'accepte ce mode de saisine"
    NO_OPEN_POST = "no_open_post", "Aucun poste ouvert"
    DECLINED = "declined", "Refusée par l'ISCG"


class CloseReason(Code):
    COMPLETED = "completed", "Accompagnement terminé"
    ORIENTED = "oriented", "Relais pris par un partenaire"
    DECLINED_BY_PERSON = "declined_by_person", "La personne décline l'aide"
    UNREACHABLE = "unreachable", "Personne injoignable"
    OUT_OF_SCOPE = "out_of_scope", "Hors champ"
    DUPLICATE = "duplicate", "Doublon"
    CONTACT_REFUSED = "contact_refused", "Contact refusé"


class OrientationRejection(Code):
    """Seen in the French twin system (DOMAIN §3)."""

    OUTSIDE_AREA = "outside_area", "Hors secteur"
    OUTSIDE_COMPETENCE = "outside_competence", "Hors compétence"
    DUPLICATE = "duplicate", "Déjà suivi"
    NO_CAPACITY = "no_capacity", "Pas de place"
    OTHER = "other", "Autre motif"


class OrientationOutcome(Code):
    SUPPORTED = "supported", "Personne accompagnée"
    INFORMED = "informed", "Personne informée"
    HOUSED = "housed", "Personne hébergée ou relogée"
    REFERRED_ON = "referred_on", "Relais vers une autre structure"


class OrientationFailure(Code):
    UNREACHABLE = "unreachable", "Personne injoignable"
    DECLINED_BY_PERSON = "declined_by_person", "La personne décline"
    NO_SHOW = "no_show", "Absence au rendez-vous"
    OTHER = "other", "Autre motif"


class OrientationCancellation(Code):
    """Why an orientation was taken back. The last two are the service's own: nobody gives them by hand."""

    DECLINED_BY_PERSON = "declined_by_person", "La personne décline"
    OTHER_SOLUTION = "other_solution", "Une autre solution a été trouvée"
    NO_LONGER_SUITABLE = "no_longer_suitable", "L'orientation ne convient plus à la situation"
    MISTAKE = "mistake", "Demande faite par erreur"
    OTHER = "other", "Autre motif"
    PERSON_REFUSED = "person_refused", "La personne refuse d'être contactée"
    PERSON_ERASED = "person_erased", "Données de la personne effacées"


class OrientedContent(Code):
    """Of what a partner reads with an orientation: which part is another than before."""

    CONTACT = "contact", "Coordonnées ou consignes de contact"
    PERSON = "person", "Identité, qualité ou accord de la personne"
    SITUATION = "situation", "Commune, urgence ou danger"


class OrientationStatus(Code):
    """HL7 FHIR R4 Task.status, the codes in use here."""

    REQUESTED = "requested", "Demandée"
    ACCEPTED = "accepted", "Acceptée"
    REJECTED = "rejected", "Refusée"
    IN_PROGRESS = "in-progress", "En cours"
    COMPLETED = "completed", "Terminée"
    FAILED = "failed", "Sans suite"
    EXPIRED = "expired", "Expirée"
    CANCELLED = "cancelled", "Annulée"


class ReferralStatus(Code):
    RECEIVED = "received", "Reçue"
    UNROUTED = "unrouted", "Sans poste"
    ASSIGNED = "assigned", "Affectée"
    ACCEPTED = "accepted", "Acceptée"
    CLOSED = "closed", "Close"
    ERASED = "erased", "Effacée"


class AlertKind(Code):
    """What the social worker sends for somebody's protection: to the département (CASF L.226-2-1) or to the prosecutor (CASF L.226-4, CPP 40)."""

    CONCERNING_INFORMATION = "concerning_information", "Information préoccupante"
    PROSECUTOR_REPORT = "prosecutor_report", "Signalement au procureur de la République"


class PartnerKind(Code):
    DEPARTEMENT = "departement", "Conseil départemental"
    SOCIAL_CENTRE = "social_centre", "CCAS ou CIAS"
    COMMUNE = "commune", "Commune"
    INTERCOMMUNAL = "intercommunal", "EPCI"
    VICTIM_SUPPORT = "victim_support", "Association d'aide aux victimes"
    WOMEN_RIGHTS = "women_rights", "CIDFF ou association de défense des droits des femmes"
    SHELTER = "shelter", "Structure d'hébergement"
    HEALTH = "health", "Établissement de santé"
    MENTAL_HEALTH = "mental_health", "Santé mentale"
    ADDICTION = "addiction", "Addictologie"
    CHILD_PROTECTION = "child_protection", "Protection de l'enfance"
    LEGAL = "legal", "Accès au droit, avocats"
    HOUSING = "housing", "Logement"
    FAMILY_FUND = "family_fund", "CAF"
    EMPLOYMENT = "employment", "Emploi"
    PERPETRATOR_CENTRE = "perpetrator_centre", "Prise en charge des auteurs"
    STATE = "state", "Service de l'État"
    OTHER = "other", "Autre"


class FunderKind(Code):
    STATE_FIPD = "state_fipd", "État (FIPD)"
    STATE_CENTRAL = "state_central", "État (crédits centraux)"
    DEPARTEMENT = "departement", "Département"
    COMMUNE = "commune", "Commune"
    INTERCOMMUNAL = "intercommunal", "EPCI"
    FAMILY_FUND = "family_fund", "CAF"
    EMPLOYER = "employer", "Fonds propres de l'employeur"
    OTHER = "other", "Autre"


class Firmness(Code):
    """How firm a funder's commitment is, weakest first."""

    FORECAST = "forecast", "Prévue"
    REQUESTED = "requested", "Demandée"
    GRANTED = "granted", "Accordée"
    AGREED = "agreed", "Conventionnée"
    PAID = "paid", "Versée"


class RiskReason(Code):
    GAP = "gap", "Plan non équilibré"
    AGREEMENT_ENDS = "agreement_ends", "Convention arrivant à terme"
    PAYMENT_LATE = "payment_late", "Versement en retard"


class Role(Code):
    """The `role` claim of an access token."""

    POLICE = "police", "Système d'information de police ou de gendarmerie"
    ISCG = "iscg", "Intervenant social"
    COORDINATOR = "coordinator", "Coordinateur départemental"
    PARTNER = "partner", "Structure partenaire"
    EMPLOYER = "employer", "Employeur"
    FUNDER = "funder", "Financeur"
    MINISTRY = "ministry", "Ministère"
    ADMINISTRATOR = "administrator", "Administrateur du réseau"
    AUDITOR = "auditor", "Contrôle interne"
    SERVICE = "service", "Service de Maillon"


class Purpose(Code):
    """Why a person's content is read: the `X-Purpose` header, kept in the audit log."""

    FOLLOW_UP = "follow_up", "Suivi de la situation"
    ORIENTATION = "orientation", "Traitement d'une orientation"
    SUPERVISION = "supervision", "Encadrement, continuité de service"
    PERSONS_RIGHTS = "persons_rights", "Droits des personnes"
    JUDICIAL_REQUISITION = "judicial_requisition", "Réquisition judiciaire"
    INTERNAL_CONTROL = "internal_control", "Contrôle interne"
