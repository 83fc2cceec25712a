"""The demonstration territory's fixed ids: the Val-d'Oise (95), and a smaller set for the Yvelines (78).

The second set shows the walls between perimeters. Communes and units are real (INSEE, the Interior's public jurisdiction file). Everything
else is fictitious and looks so: SIREN numbers that begin with 000 are assigned to nobody, and telephone numbers come out of the ranges
that ARCEP keeps for fiction (01 99 00 …, 06 39 98 …).

The embedded token issuer, the seed, the OpenAPI examples and the tests take their ids here, so that an example works as it stands.
An id tells what it is: `00000095-0004-4000-8000-000000000001` is post (0004) number 1 of département 95.
"""

from typing import NamedTuple
from uuid import UUID

from libs.contracts.units import unit_id_of
from libs.contracts.vocabularies import (
    AgeBand,
    Channel,
    Force,
    FunderKind,
    Need,
    PartnerKind,
    PostForce,
    Role,
    Sex,
)

_ORGANIZATION, _SERVICE, _POST, _FUNDER, _ACCOUNT = 1, 2, 4, 5, 6
_REFERRAL, _PERSON, _ORIENTATION, _CONTACT, _INTERVIEW, _ASSESSMENT, _ALERT, _ERASURE = 16, 17, 18, 19, 20, 21, 22, 23
_PLAN, _CONTRIBUTION, _AGREEMENT, _INSTALMENT, _FINANCIAL_REPORT = 32, 33, 34, 35, 36
_RELEASE, _ACTIVITY_REPORT = 48, 49


def _id(departement: int, kind: int, number: int) -> UUID:
    return UUID(f"{departement:08d}-{kind:04x}-4000-8000-{number:012d}")


class DemonstrationOrganization(NamedTuple):
    id: UUID
    name: str
    siret: str
    kind: PartnerKind
    departement: str
    offence_data_allowed: bool


class DemonstrationService(NamedTuple):
    id: UUID
    organization_id: UUID
    name: str
    kind: PartnerKind
    departement: str
    needs: tuple[Need, ...]
    communes: tuple[str, ...]
    """Empty: the whole département."""
    capacity: int | None
    sexes: tuple[Sex, ...] = ()
    age_bands: tuple[AgeBand, ...] = ()
    """Whom it takes, as `sexes`; empty: anybody."""


class DemonstrationUnit(NamedTuple):
    id: UUID
    name: str
    """As in the jurisdiction file."""
    force: Force
    departement: str
    commune: str


class DemonstrationPost(NamedTuple):
    id: UUID
    employer_id: UUID
    name: str
    force: PostForce
    departement: str
    units: tuple[UUID, ...]
    communes: tuple[str, ...]
    channels: tuple[Channel, ...]
    full_time_percent: int


class DemonstrationFunder(NamedTuple):
    id: UUID
    name: str
    kind: FunderKind
    departement: str


class DemonstrationClient(NamedTuple):
    """A client of the embedded token issuer: `curl -d client_id=police-95 127.0.0.1:8000/token`."""

    client_id: str
    label: str
    role: Role
    perimeter: frozenset[str]
    organization: UUID | None


class DemonstrationPerson(NamedTuple):
    """A person who may sign in through the embedded token issuer."""

    id: UUID
    """The `sub` of its tokens."""
    name: str
    client_id: str
    """Of `CLIENTS`: its role, its perimeter."""


class DemonstrationDesk(NamedTuple):
    """A web desk where persons sign in. Its addresses are on loopback, at any port (RFC 8252 §7.3): only their paths are registered."""

    client_id: str
    label: str
    redirect_paths: frozenset[str]
    post_logout_paths: frozenset[str]


# Val-d'Oise

EMPLOYER = _id(95, _ORGANIZATION, 1)
ASSOCIATION = _id(95, _ORGANIZATION, 2)
"""An approved victim-support association: it may process offence data."""
SHELTER = _id(95, _ORGANIZATION, 3)
SOCIAL_CENTRE = _id(95, _ORGANIZATION, 4)

VICTIM_SUPPORT_SERVICE = _id(95, _SERVICE, 1)
"""Of `ASSOCIATION`."""
LEGAL_ADVICE_SERVICE = _id(95, _SERVICE, 2)
"""Of `ASSOCIATION`."""
SHELTER_SERVICE = _id(95, _SERVICE, 3)
"""Of `SHELTER`."""
SOCIAL_SERVICE = _id(95, _SERVICE, 4)
"""Of `SOCIAL_CENTRE`."""

UNIT = UNIT_CERGY = unit_id_of("PN", "", "Commissariat de police de Cergy")
UNIT_SARCELLES = unit_id_of("PN", "", "Commissariat de police de Sarcelles")
UNIT_MAGNY = unit_id_of("GN", "1003396", "Gendarmerie - Brigade de Magny-en-Vexin")

POST = POST_CERGY = _id(95, _POST, 1)
POST_SARCELLES = _id(95, _POST, 2)
POST_MAGNY = _id(95, _POST, 3)

FUNDER_STATE = _id(95, _FUNDER, 1)
FUNDER_DEPARTEMENT = _id(95, _FUNDER, 2)
FUNDER_COMMUNE = _id(95, _FUNDER, 3)

REFERRAL = _id(95, _REFERRAL, 1)
VICTIM = _id(95, _PERSON, 1)
ALLEGED_PERPETRATOR = _id(95, _PERSON, 2)
CHILD = _id(95, _PERSON, 3)
ORIENTATION = _id(95, _ORIENTATION, 1)
CONTACT = _id(95, _CONTACT, 1)
INTERVIEW = _id(95, _INTERVIEW, 1)
ASSESSMENT = _id(95, _ASSESSMENT, 1)
ALERT = _id(95, _ALERT, 1)
ERASURE = _id(95, _ERASURE, 1)

PLAN = _id(95, _PLAN, 1)
CONTRIBUTION_STATE = _id(95, _CONTRIBUTION, 1)
CONTRIBUTION_DEPARTEMENT = _id(95, _CONTRIBUTION, 2)
AGREEMENT = _id(95, _AGREEMENT, 1)
INSTALMENT = _id(95, _INSTALMENT, 1)
FINANCIAL_REPORT = _id(95, _FINANCIAL_REPORT, 1)

RELEASE = _id(95, _RELEASE, 1)
ACTIVITY_REPORT = _id(95, _ACTIVITY_REPORT, 1)

COMMUNE = COMMUNE_CERGY = "95127"
COMMUNE_SARCELLES = "95585"
DEPARTEMENT = "95"
YEAR = 2026

PHONE = "+33639980001"
"""Out of a range that ARCEP keeps for fiction."""

# Yvelines

EMPLOYER_78 = _id(78, _ORGANIZATION, 1)
ASSOCIATION_78 = _id(78, _ORGANIZATION, 2)
"""Any other association: it may not process offence data."""
SERVICE_78 = _id(78, _SERVICE, 1)
UNIT_78 = unit_id_of("PN", "", "Commissariat de police de Versailles")
POST_78 = _id(78, _POST, 1)
FUNDER_78 = _id(78, _FUNDER, 1)
REFERRAL_78 = _id(78, _REFERRAL, 1)
VICTIM_78 = _id(78, _PERSON, 1)
ORIENTATION_78 = _id(78, _ORIENTATION, 1)
PLAN_78 = _id(78, _PLAN, 1)
COMMUNE_78 = "78646"

ORGANIZATIONS: tuple[DemonstrationOrganization, ...] = (
    DemonstrationOrganization(EMPLOYER, "Employeur fictif du Val-d'Oise", "00095001400019", PartnerKind.INTERCOMMUNAL, "95", False),
    DemonstrationOrganization(
        ASSOCIATION, "Association fictive d'aide aux victimes", "00095002200012", PartnerKind.VICTIM_SUPPORT, "95", True
    ),
    DemonstrationOrganization(SHELTER, "Hébergement fictif Les Tilleuls", "00095003000015", PartnerKind.SHELTER, "95", False),
    DemonstrationOrganization(SOCIAL_CENTRE, "CCAS fictif", "00095004800017", PartnerKind.SOCIAL_CENTRE, "95", False),
    DemonstrationOrganization(EMPLOYER_78, "Employeur fictif des Yvelines", "00078001500012", PartnerKind.INTERCOMMUNAL, "78", False),
    DemonstrationOrganization(ASSOCIATION_78, "Association fictive des Yvelines", "00078002300016", PartnerKind.WOMEN_RIGHTS, "78", False),
)

_ADULTS = (AgeBand.AGE_18_24, AgeBand.AGE_25_39, AgeBand.AGE_40_59, AgeBand.AGE_60_74, AgeBand.AGE_75_UP)

SERVICES: tuple[DemonstrationService, ...] = (
    DemonstrationService(
        VICTIM_SUPPORT_SERVICE,
        ASSOCIATION,
        "Accompagnement fictif des victimes",
        PartnerKind.VICTIM_SUPPORT,
        "95",
        (Need.VICTIM_SUPPORT, Need.PSYCHOLOGICAL_SUPPORT, Need.LISTENING),
        (),
        None,
    ),
    DemonstrationService(
        LEGAL_ADVICE_SERVICE,
        ASSOCIATION,
        "Permanence juridique fictive",
        PartnerKind.LEGAL,
        "95",
        (Need.LEGAL_ADVICE, Need.RIGHTS),
        (COMMUNE_CERGY, COMMUNE_SARCELLES),
        10,
    ),
    DemonstrationService(
        SHELTER_SERVICE,
        SHELTER,
        "Mise à l'abri fictive",
        PartnerKind.SHELTER,
        "95",
        (Need.SHELTER, Need.PROTECTION),
        (),
        4,
        (Sex.FEMALE,),
    ),
    DemonstrationService(
        SOCIAL_SERVICE,
        SOCIAL_CENTRE,
        "Service social fictif",
        PartnerKind.SOCIAL_CENTRE,
        "95",
        (Need.FINANCIAL_AID, Need.HOUSING, Need.RIGHTS),
        (COMMUNE_CERGY,),
        None,
        (),
        _ADULTS,
    ),
    DemonstrationService(
        SERVICE_78,
        ASSOCIATION_78,
        "Accueil fictif des Yvelines",
        PartnerKind.WOMEN_RIGHTS,
        "78",
        (Need.LISTENING, Need.RIGHTS),
        (),
        None,
        (Sex.FEMALE,),
        _ADULTS,
    ),
)

UNITS: tuple[DemonstrationUnit, ...] = (
    DemonstrationUnit(UNIT_CERGY, "Commissariat de police de Cergy", Force.POLICE, "95", COMMUNE_CERGY),
    DemonstrationUnit(UNIT_SARCELLES, "Commissariat de police de Sarcelles", Force.POLICE, "95", COMMUNE_SARCELLES),
    DemonstrationUnit(UNIT_MAGNY, "Gendarmerie - Brigade de Magny-en-Vexin", Force.GENDARMERIE, "95", "95355"),
    DemonstrationUnit(UNIT_78, "Commissariat de police de Versailles", Force.POLICE, "78", COMMUNE_78),
)

POSTS: tuple[DemonstrationPost, ...] = (
    DemonstrationPost(POST_CERGY, EMPLOYER, "Poste fictif de Cergy", PostForce.POLICE, "95", (UNIT_CERGY,), (), (), 100),
    DemonstrationPost(POST_SARCELLES, EMPLOYER, "Poste fictif de Sarcelles", PostForce.POLICE, "95", (UNIT_SARCELLES,), (), (), 80),
    DemonstrationPost(
        POST_MAGNY, EMPLOYER, "Poste fictif du Vexin", PostForce.GENDARMERIE, "95", (UNIT_MAGNY,), (), (Channel.OFFICER, Channel.REPORT), 50
    ),
    DemonstrationPost(POST_78, EMPLOYER_78, "Poste fictif de Versailles", PostForce.POLICE, "78", (UNIT_78,), (COMMUNE_78,), (), 100),
)

FUNDERS: tuple[DemonstrationFunder, ...] = (
    DemonstrationFunder(FUNDER_STATE, "État, FIPD (démonstration)", FunderKind.STATE_FIPD, "95"),
    DemonstrationFunder(FUNDER_DEPARTEMENT, "Département financeur fictif", FunderKind.DEPARTEMENT, "95"),
    DemonstrationFunder(FUNDER_COMMUNE, "Commune financeuse fictive", FunderKind.COMMUNE, "95"),
    DemonstrationFunder(FUNDER_78, "État, FIPD (démonstration, 78)", FunderKind.STATE_FIPD, "78"),
)


def _client(client_id: str, label: str, role: Role, *perimeter: str, organization: UUID | None = None) -> DemonstrationClient:
    return DemonstrationClient(client_id, label, role, frozenset(perimeter), organization)


CLIENTS: dict[str, DemonstrationClient] = {
    client.client_id: client
    for client in (
        _client("police-95", "Logiciel de police, Val-d'Oise", Role.POLICE, "departement:95"),
        _client("iscg-95", "Intervenante sociale de Cergy", Role.ISCG, f"post:{POST_CERGY}", "departement:95"),
        _client("coordinator-95", "Coordination départementale du Val-d'Oise", Role.COORDINATOR, "departement:95"),
        _client("partner-95", "Association fictive d'aide aux victimes", Role.PARTNER, organization=ASSOCIATION),
        _client("employer-95", "Employeur fictif du Val-d'Oise", Role.EMPLOYER, organization=EMPLOYER),
        _client("funder-95", "Préfecture du Val-d'Oise (démonstration)", Role.FUNDER, "departement:95"),
        _client("police-78", "Logiciel de police, Yvelines", Role.POLICE, "departement:78"),
        _client("iscg-78", "Intervenante sociale de Versailles", Role.ISCG, f"post:{POST_78}", "departement:78"),
        _client("coordinator-78", "Coordination départementale des Yvelines", Role.COORDINATOR, "departement:78"),
        _client("partner-78", "Association fictive des Yvelines", Role.PARTNER, organization=ASSOCIATION_78),
        _client("interior", "Ministère de l'Intérieur", Role.MINISTRY, "interior", "national"),
        _client("justice", "Ministère de la Justice", Role.MINISTRY, "justice", "national"),
        _client("administrator", "Administration du réseau", Role.ADMINISTRATOR, "national"),
        _client("auditor", "Contrôle interne", Role.AUDITOR, "national"),
        _client("referrals", "Service referrals", Role.SERVICE, "national"),
        _client("partners", "Service partners", Role.SERVICE, "national"),
        _client("funding", "Service funding", Role.SERVICE, "national"),
        _client("reporting", "Service reporting", Role.SERVICE, "national"),
    )
}
"""Every client of the embedded issuer, by client id. They exist in the embedded default only."""


PERSONS: dict[str, DemonstrationPerson] = {
    str(person.id): person
    for person in (
        DemonstrationPerson(_id(95, _ACCOUNT, 1), "Camille Exemple", "iscg-95"),
        DemonstrationPerson(_id(95, _ACCOUNT, 2), "Dominique Modèle", "coordinator-95"),
        DemonstrationPerson(_id(78, _ACCOUNT, 1), "Claude Spécimen", "iscg-78"),
        DemonstrationPerson(_id(78, _ACCOUNT, 2), "Sacha Fictif", "coordinator-78"),
        DemonstrationPerson(_id(95, _ACCOUNT, 3), "Andréa Factice", "partner-95"),
        DemonstrationPerson(_id(78, _ACCOUNT, 3), "Charlie Invente", "partner-78"),
    )
}
"""Who may sign in at a desk of the demonstration, by `sub`."""

DESKS: dict[str, DemonstrationDesk] = {
    desk.client_id: desk
    for desk in (
        DemonstrationDesk("desk", "Poste de travail de l'ISCG et de la coordination", frozenset({"/desk/callback"}), frozenset({"/desk/"})),
    )
}
"""Every desk of the embedded issuer, by client id: it signs persons in, and has no rights of its own."""
