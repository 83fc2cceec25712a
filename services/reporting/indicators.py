"""The indicators: what each one counts, in which unit, how it may be broken down, and where its numbers lie. Definitions are fixed (report 1.4).

Situations (referrals) and persons are different units and never added up (DOMAIN §5: 407 situations were 1,208 persons). A breakdown is a *partition* when each
unit falls into exactly one of its cells; otherwise its cells do not add up to the total. The civil day is that of metropolitan France.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from libs.contracts import vocabularies
from libs.contracts.types import Code


class PostState(Code):
    """What a post is now, made of what partners said of it."""

    FILLED = "filled", "Pourvu"
    VACANT = "vacant", "Vacant"
    SUSPENDED = "suspended", "Suspendu"
    CLOSED = "closed", "Fermé"


class PlanState(Code):
    BALANCED = "balanced", "Équilibré"
    GAPPED = "gapped", "Non équilibré"


class YesNo(Code):
    YES = "true", "Oui"
    NO = "false", "Non"


class Seen(Code):
    NEW = "false", "Nouvelle"
    KNOWN = "true", "Déjà connue"
    DUPLICATE = "duplicate", "Doublon"


@dataclass(frozen=True, slots=True)
class Dimension:
    """One way to break a measure down. `column`: of the projection's rows; its text is the cell's code, and nothing known is the empty code.

    `many`: the column lists several codes, joined by commas: no partition. `tallied`: kept in the counters; else counted from the rows, within one département.
    `local`: shows single units or posts: for those who steer the département, not for ministries.
    """

    code: str
    label: str
    column: str
    vocabulary: type[Code] | None = None
    many: bool = False
    tallied: bool = True
    local: bool = False
    definition: str | None = None
    """What falls into which cell, where the label does not say it."""
    sql: str | None = None
    """Of a column that the rows compute out of others: the same in SQL."""

    @property
    def partition(self) -> bool:
        return not self.many


def code_expression(dimension: Dimension) -> str:
    """The SQL expression of a row's code, or codes, in a dimension."""
    if dimension.many:
        return f"regexp_split_to_table(coalesce({dimension.column}, ''), ',')"  # of no code it makes the empty one, as the counters hold it
    return f"coalesce({dimension.sql or f'{dimension.column}::text'}, '')"


Aggregate = Literal["count", "sum", "median", "ninetieth"]


@dataclass(frozen=True, slots=True)
class Measure:
    """One indicator. `day`: the column the interval applies to; `None`: the state now, without an interval. `year`: the interval applies to a column of years.

    `personal`: about persons or situations, so that small cells are suppressed. `given`: an SQL condition on the rows.
    """

    code: str
    label: str
    unit: str
    definition: str
    table: str
    dimensions: Mapping[str, Dimension]
    aggregate: Aggregate = "count"
    value: str | None = None
    day: str | None = None
    year: str | None = None
    personal: bool = True
    given: str | None = None


def _table(*dimensions: Dimension) -> dict[str, Dimension]:
    return {dimension.code: dimension for dimension in dimensions}


_IDENTITY = (
    "reconnue par l'empreinte à clé de son nom, de son premier prénom et de sa date de naissance"
    " (deux homonymes nés le même jour sont confondus), telle que la réception l'a dite"
)

_TWICE = "Doublon : la saisine est close comme doublon d'une autre, et sera retranchée de qui compte chacune une fois. "
_SEEN = f"CASE WHEN close_reason = '{vocabularies.CloseReason.DUPLICATE.value}' THEN '{Seen.DUPLICATE.value}' ELSE seen_before::text END"

SITUATION_DIMENSIONS = _table(
    Dimension("unit", "Unité", "unit_id", local=True),
    Dimension("post", "Poste", "post_id", local=True),
    Dimension("force", "Force", "force", vocabularies.Force),
    Dimension("channel", "Mode de saisine", "channel", vocabularies.Channel),
    Dimension("urgency", "Urgence", "urgency", vocabularies.Urgency),
    Dimension("theme", "Thème principal", "theme", vocabularies.Theme),
    Dimension("themes", "Thèmes (plusieurs possibles)", "themes", vocabularies.Theme, many=True),
    Dimension("penal", "Pénal", "penal", YesNo),
    Dimension("danger", "Danger signalé", "danger", YesNo),
    Dimension("status", "État", "status", vocabularies.ReferralStatus),
    Dimension("close_reason", "Motif de clôture", "close_reason", vocabularies.CloseReason),
    Dimension(
        "seen_before",
        "Nouvelle ou déjà connue",
        "seen",
        Seen,
        sql=_SEEN,
        definition=f"{_TWICE}Déjà connue : l'une au moins de ses personnes figure dans une saisine antérieure du réseau, {_IDENTITY}. Nouvelle : aucune de"
        " celles dont l'identité suffit n'y figure. Non renseigné : aucune identité ne suffit. Taux de retour = déjà connues rapportées"
        " aux déjà connues et nouvelles.",
    ),
    Dimension(
        "alerts",
        "Information préoccupante ou signalement",
        "alerts",
        vocabularies.AlertKind,
        many=True,
        definition="Ce qui a été noté comme envoyé pour la situation, quel que soit le nombre d'envois ; non renseigné : rien.",
    ),
    # Most cells of a month would hold one situation: 35,000 communes for 500,000 situations a year.
    Dimension("commune", "Commune", "commune", tallied=False, local=True),
)

PERSON_DIMENSIONS = _table(
    Dimension("role", "Rôle", "role", vocabularies.PersonRole),
    Dimension("sex", "Sexe", "sex", vocabularies.Sex),
    Dimension("age_band", "Tranche d'âge", "age_band", vocabularies.AgeBand),
    Dimension("agreement", "Accord pour être contactée", "agreement", vocabularies.ContactAgreement),
    Dimension("known_to_services", "Connue des services sociaux", "known_to_services", vocabularies.KnownToServices),
    Dimension("close_reason", "Motif de clôture de la saisine", "close_reason", vocabularies.CloseReason),
    Dimension(
        "seen_before",
        "Nouvelle ou déjà connue",
        "seen",
        Seen,
        sql=_SEEN,
        definition=f"{_TWICE}Déjà connue : la personne figure dans une saisine antérieure du réseau, {_IDENTITY}. Non renseigné : l'identité ne suffit pas"
        " à le dire. Taux de retour = déjà connues rapportées aux nouvelles et déjà connues.",
    ),
)

ORIENTATION_DIMENSIONS = _table(
    Dimension("status", "État", "status", vocabularies.OrientationStatus),
    Dimension("partner_kind", "Type de partenaire", "partner_kind", vocabularies.PartnerKind),
    Dimension("need", "Besoin", "need", vocabularies.Need),
    Dimension("rejection", "Motif de refus", "rejection", vocabularies.OrientationRejection),
    Dimension("outcome", "Issue", "outcome", vocabularies.OrientationOutcome),
    Dimension("post", "Poste", "post_id", local=True),
)

DELAY_DIMENSIONS = _table(
    Dimension("urgency", "Urgence", "urgency", vocabularies.Urgency, tallied=False),
    Dimension("post", "Poste", "post_id", tallied=False, local=True),
)

POST_DIMENSIONS = _table(
    Dimension("state", "État du poste", "state", PostState, tallied=False),
    Dimension("force", "Force", "force", vocabularies.PostForce, tallied=False),
)

PLAN_DIMENSIONS = _table(
    Dimension("year", "Année", "year", tallied=False),
    Dimension("state", "État du plan", "state", PlanState, tallied=False),
    Dimension("post", "Poste", "post_id", tallied=False, local=True),
)

SHARE_DIMENSIONS = _table(
    Dimension("year", "Année", "year", tallied=False),
    Dimension("funder_kind", "Type de financeur", "funder_kind", vocabularies.FunderKind, tallied=False),
    Dimension("firmness", "Fermeté", "firmness", vocabularies.Firmness, tallied=False),
    Dimension("post", "Poste", "post_id", tallied=False, local=True),
)

_OVERDUE = "(due_passed_at IS NOT NULL AND (first_contact_at IS NULL OR first_contact_at > due_passed_at))"
_TARGET = (
    "Le délai est celui de la convention du poste, à défaut celui du réseau selon l'urgence. Part dans le délai = « contacted_within_target »"
    " rapportée à « contacted_within_target » et « contact_overdue » ensemble : qui n'est jamais appelé y compte dès que son délai est passé."
)
_PLAN_YEARS = "plans des années civiles que l'intervalle touche"

MEASURES: dict[str, Measure] = {
    measure.code: measure
    for measure in (
        Measure(
            "situations",
            "Situations",
            "situations",
            "Saisines reçues dans l'intervalle, quel que soit leur état, y compris celles dont les données personnelles ont été effacées et"
            " celles closes comme doublons : celles-ci se retranchent par « close_reason ». Une affaire transmise deux fois et non close comme"
            " doublon compte deux fois.",
            "situations",
            SITUATION_DIMENSIONS,
            day="received_on",
        ),
        Measure(
            "persons",
            "Personnes",
            "personnes",
            "Personnes concernées par les saisines reçues dans l'intervalle ; une personne de deux saisines compte deux fois. Celles de saisines closes"
            " comme doublons se retranchent par « close_reason », ou par « seen_before ».",
            "persons",
            PERSON_DIMENSIONS,
            day="received_on",
        ),
        Measure(
            "orientations",
            "Orientations",
            "orientations",
            "Orientations demandées dans l'intervalle, selon leur état au moment de la lecture.",
            "orientations",
            ORIENTATION_DIMENSIONS,
            day="requested_on",
        ),
        Measure(
            "contacted",
            "Situations avec un premier contact tenté",
            "situations",
            "Saisines reçues dans l'intervalle pour lesquelles un contact a été tenté.",
            "situations",
            DELAY_DIMENSIONS,
            day="received_on",
            given="first_contact_minutes IS NOT NULL",
        ),
        Measure(
            "contacted_within_target",
            "Situations contactées dans le délai cible",
            "situations",
            f"Saisines reçues dans l'intervalle dont le premier contact a été tenté avant que le délai cible ne passe. {_TARGET}",
            "situations",
            DELAY_DIMENSIONS,
            day="received_on",
            given=f"first_contact_minutes IS NOT NULL AND NOT {_OVERDUE}",
        ),
        Measure(
            "contact_overdue",
            "Situations dont le délai cible est passé sans contact",
            "situations",
            f"Saisines reçues dans l'intervalle qui attendaient un premier contact quand leur délai cible est passé, tenté depuis ou non. {_TARGET}",
            "situations",
            DELAY_DIMENSIONS,
            day="received_on",
            given=_OVERDUE,
        ),
        Measure(
            "first_contact_median",
            "Délai médian de premier contact",
            "minutes",
            "Médiane du délai, en minutes entières, entre la réception et la première tentative de contact.",
            "situations",
            DELAY_DIMENSIONS,
            aggregate="median",
            value="first_contact_minutes",
            day="received_on",
            given="first_contact_minutes IS NOT NULL",
        ),
        Measure(
            "first_contact_p90",
            "Neuvième décile du délai de premier contact",
            "minutes",
            "Délai, en minutes entières, que neuf premiers contacts sur dix ne dépassent pas.",
            "situations",
            DELAY_DIMENSIONS,
            aggregate="ninetieth",
            value="first_contact_minutes",
            day="received_on",
            given="first_contact_minutes IS NOT NULL",
        ),
        Measure(
            "posts",
            "Postes",
            "postes",
            "Postes connus du réseau et leur état au moment de la lecture, postes fermés compris.",
            "posts",
            POST_DIMENSIONS,
            personal=False,
        ),
        Measure(
            "plans",
            "Plans de financement",
            "plans",
            f"Un plan par poste et par année : {_PLAN_YEARS}.",
            "plans",
            PLAN_DIMENSIONS,
            year="year",
            personal=False,
        ),
        Measure(
            "budget",
            "Budgets",
            "centimes d'euro",
            f"Somme des budgets, {_PLAN_YEARS}.",
            "plans",
            PLAN_DIMENSIONS,
            aggregate="sum",
            value="budget_cents",
            year="year",
            personal=False,
        ),
        Measure(
            "gap",
            "Reste à financer",
            "centimes d'euro",
            f"Somme des budgets non couverts, toutes contributions non refusées comptées, même prévues ; {_PLAN_YEARS}.",
            "plans",
            PLAN_DIMENSIONS,
            aggregate="sum",
            value="gap_cents",
            year="year",
            personal=False,
        ),
        Measure(
            "funded",
            "Contributions",
            "centimes d'euro",
            f"Somme des contributions non refusées, selon leur fermeté ; {_PLAN_YEARS}.",
            "shares",
            SHARE_DIMENSIONS,
            aggregate="sum",
            value="amount_cents",
            year="year",
            personal=False,
        ),
    )
}

TALLIED: dict[str, Mapping[str, Dimension]] = {
    measure: {code: dimension for code, dimension in dimensions.items() if dimension.tallied}
    for measure, dimensions in (
        ("situations", SITUATION_DIMENSIONS),
        ("persons", PERSON_DIMENSIONS),
        ("orientations", ORIENTATION_DIMENSIONS),
    )
}
"""What the counters hold, besides the total: measure (also the name of its table) → dimensions."""

TOTAL = "total"
"""The dimension of the counters that holds each month's total, under the empty code."""
