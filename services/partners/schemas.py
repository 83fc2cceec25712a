"""What requests bring and answers say."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, JsonValue, WithJsonSchema
from pydantic_core import PydanticCustomError

from libs.chassis.strict import Answer, Body, line, prose
from libs.contracts.types import Cents, CommuneCode, Count, Day, DepartementCode, Id, Instant
from libs.contracts.vocabularies import AgeBand, Channel, Force, Need, PartnerKind, PostForce, Sex, Theme, UnitKind
from services.partners.domain import MAX_COMMUNES, Move, PostState, is_siret

MAX_ROWS = 1000
"""Of one import request."""


def _siret(text: str) -> str:
    if not is_siret(text):
        raise PydanticCustomError("siret", "Ce numéro n'est pas un SIRET : vérifiez ses quatorze chiffres.")
    return text


Siret = Annotated[str, Field(pattern=r"^[0-9]{14}$", examples=["00095002200012"]), AfterValidator(_siret)]
"""Fourteen digits that satisfy Luhn's formula (La Poste: a sum that is a multiple of five). DOMAIN §7."""

Rna = Annotated[str, Field(pattern=r"^W[0-9A-Z]{9}$", examples=["W751004076"])]
"""The number of an association in the national register; those of Alsace-Moselle have none."""

Postcode = Annotated[str, Field(pattern=r"^[0-9]{5}$", examples=["95000"])]

Phone = Annotated[str, Field(pattern=r"^(?:\+[1-9][0-9]{5,14}|0[1-9][0-9]{8}|[13][0-9]{1,5})$", examples=["+33199000000", "3919"])]
"""A service's number: international (E.164), ten French digits, or a short number. Without spaces or dots."""

Email = Annotated[
    str,
    Field(
        max_length=254, pattern=r"^[A-Za-z0-9._%+-]{1,64}@(?:[A-Za-z0-9-]{1,63}\.)+[A-Za-z]{2,63}$", examples=["accueil@exemple.invalid"]
    ),
]
"""A service's address, not a person's."""

Url = Annotated[str, Field(max_length=500, pattern=r"^https?://[!-~]{1,490}$", examples=["https://exemple.invalid/"])]

Communes = Annotated[list[CommuneCode], Field(max_length=MAX_COMMUNES)]


class OrganizationChange(Body):
    departement: DepartementCode
    name: Annotated[str, line(200)]
    kind: PartnerKind
    siret: Siret
    rna: Rna | None = None
    offence_data_allowed: bool = False
    """Whether the law lets this body process offence data (GDPR art. 10, LIL art. 46): false unless it was shown."""


class OrganizationIn(OrganizationChange):
    id: Id | None = None
    """Chosen by the caller, so that a repeated registration is the same one; else given by the service."""


class OrganizationOut(Answer):
    id: Id
    departement: DepartementCode
    name: str
    kind: PartnerKind
    siret: str
    rna: str | None
    offence_data_allowed: bool
    version: int
    registered_at: Instant
    changed_at: Instant
    closed_at: Instant | None


class OrganizationList(Answer):
    items: list[OrganizationOut]
    next: str | None


class LocationIn(Body):
    """Where people are received."""

    name: Annotated[str, line(200)]
    address: Annotated[str, line(300)]
    postcode: Postcode
    commune: CommuneCode


class LocationOut(Answer):
    id: Id
    name: str
    address: str
    postcode: str
    commune: CommuneCode


class ServiceChange(Body):
    """What a service does, for whom and where. `communes` empty: the whole département. `capacity`: how many people it can take now."""

    departement: DepartementCode
    name: Annotated[str, line(200)]
    kind: PartnerKind
    description: Annotated[str, prose(4000)] | None = None
    themes: Annotated[list[Theme], Field(max_length=33)] = Field(default_factory=list)
    needs: Annotated[list[Need], Field(min_length=1, max_length=18)]
    communes: Communes = Field(default_factory=list)
    sexes: Annotated[list[Sex], Field(max_length=3)] = Field(default_factory=list)
    age_bands: Annotated[list[AgeBand], Field(max_length=10)] = Field(default_factory=list)
    """Whom it takes, as `sexes` does; empty: anybody."""
    capacity: Count | None = None
    """`null`: no limit."""
    phone: Phone | None = None
    email: Email | None = None
    url: Url | None = None
    opening_hours: Annotated[str, prose(1000)] | None = None
    locations: Annotated[list[LocationIn], Field(max_length=50)] = Field(default_factory=list)


class ServiceIn(ServiceChange):
    id: Id | None = None
    organization_id: Id


class CapacityIn(Body):
    capacity: Count | None
    """The number of people the service can take now; `null`: no limit."""


class ServiceOut(Answer):
    id: Id
    organization_id: Id
    organization_name: str
    departement: DepartementCode
    name: str
    kind: PartnerKind
    description: str | None
    themes: list[Theme]
    needs: list[Need]
    communes: list[CommuneCode]
    sexes: list[Sex]
    age_bands: list[AgeBand]
    capacity: int | None
    phone: str | None
    email: str | None
    url: str | None
    opening_hours: str | None
    locations: list[LocationOut]
    version: int
    registered_at: Instant
    changed_at: Instant
    closed_at: Instant | None


class AnswersOut(Answer):
    """How the service answered orientations over the last twelve months."""

    accepted: int
    rejected: int
    expired: int
    acceptance_percent: int | None
    median_delay_minutes: int | None


class ServiceDetail(ServiceOut):
    answers: AnswersOut


class ServiceList(Answer):
    items: list[ServiceOut]
    next: str | None


class UnitChange(Body):
    departement: DepartementCode
    force: Force
    kind: UnitKind
    code: Annotated[str, line(40)] | None = None
    """The force's own identifier of the unit (`id_service` of the jurisdiction file)."""
    label: Annotated[str, line(200)]
    communes: Communes = Field(default_factory=list)
    """Where the unit is competent."""


class UnitIn(UnitChange):
    id: Id | None = None


class UnitOut(Answer):
    id: Id
    departement: DepartementCode
    force: Force
    kind: UnitKind
    code: str | None
    label: str
    communes: list[CommuneCode]
    version: int
    registered_at: Instant
    changed_at: Instant
    closed_at: Instant | None


class UnitList(Answer):
    items: list[UnitOut]
    next: str | None


class CommuneOut(Answer):
    code: CommuneCode
    name: str
    departement: DepartementCode
    region: str
    population: int | None
    postcodes: list[str]


class CommuneList(Answer):
    items: list[CommuneOut]
    next: str | None


class CoverageIn(Body):
    """The post's whole coverage, after the change: its units, and communes besides those of its units."""

    units: Annotated[list[Id], Field(max_length=500)]
    communes: Communes


class PostIn(Body):
    id: Id | None = None
    departement: DepartementCode
    employer_id: Id
    force: PostForce
    label: Annotated[str, line(200)]
    full_time_percent: Annotated[int, Field(ge=1, le=100)]
    channels: Annotated[list[Channel], Field(max_length=9)] = Field(default_factory=list)
    """Empty: the post accepts every channel."""
    units: Annotated[list[Id], Field(max_length=500)] = Field(default_factory=list)
    communes: Communes = Field(default_factory=list)
    filled: bool
    opened_on: Day


class PostLabel(Body):
    """Employer, force, working time and channels belong to the agreement of the post: another one is another post."""

    label: Annotated[str, line(200)]


class SuspendIn(Body):
    """Without an end, the post comes back when it is said to be filled or vacant."""

    until_on: Day | None = None
    """The last day of the absence: the day after, the post is by itself what it was before."""
    replacement_post_id: Id | None = None
    """A filled post of the same département that serves the same force: it takes over the coverage meanwhile."""


class PostOut(Answer):
    id: Id
    departement: DepartementCode
    employer_id: Id
    employer_name: str
    force: PostForce
    label: str
    full_time_percent: int
    channels: list[Channel]
    units: list[Id]
    communes: list[CommuneCode]
    state: PostState
    until_on: Day | None
    """Of a suspended post: the last day of the absence."""
    replacement_post_id: Id | None
    """Of a suspended post: who takes over its coverage meanwhile."""
    moves: list[Move]
    """What may be done next with the post."""
    opened_on: Day
    version: int
    opened_at: Instant
    changed_at: Instant
    closed_at: Instant | None


class PlanOut(Answer):
    """One year's funding plan of the post, as the funding service says it stands."""

    plan_id: Id
    year: int
    state: Literal["balanced", "gapped"]
    budget_cents: Cents
    funded_cents: Cents
    gap_cents: Cents
    changed_at: Instant


class PostDetail(PostOut):
    funding: list[PlanOut] | None
    """Newest year first; `null`: not shown to this caller."""


class PostList(Answer):
    items: list[PostOut]
    next: str | None


class CoveredCommune(Answer):
    """Who is competent in a commune, and which open posts cover it, by a unit or directly."""

    code: CommuneCode
    name: str
    departement: DepartementCode
    population: int | None
    units: list[Id]
    posts: list[Id]


class CoverageList(Answer):
    items: list[CoveredCommune]
    next: str | None


# Imports: a row is judged by itself, so that a bad one is refused alone and said by its pointer


class CommuneRow(Body):
    """One commune of INSEE's list."""

    code: CommuneCode
    name: Annotated[str, line(200)]
    departement: DepartementCode
    region: Annotated[str, Field(pattern=r"^[0-9]{2,3}$")]
    population: Annotated[int, Field(ge=0, le=10_000_000)] | None
    postcodes: Annotated[list[Postcode], Field(max_length=100)] | None = None
    """`null`: not known; those that are known stay."""


class JurisdictionRow(Body):
    """One row of the Interior's jurisdiction file: a unit is competent in a commune."""

    commune: CommuneCode
    institution: Literal["PN", "GN"]
    id_service: Annotated[str, line(40, 0)]
    """Empty in the rows of the police."""
    service: Annotated[str, line(200)]


def _rows_schema(row: type[Body]) -> dict[str, object]:
    """Any object is taken and judged by itself: the schema names the columns and what is expected of them, the outcome says what is wrong."""
    columns = {name: {"x-expected": expected} for name, expected in row.model_json_schema()["properties"].items()}
    return {
        "type": "array",
        "maxItems": MAX_ROWS,
        "minItems": 1,
        "items": {"type": "object", "description": row.__doc__, "properties": columns},
    }


class CommunesImport(Body):
    rows: Annotated[list[dict[str, JsonValue]], Field(min_length=1, max_length=MAX_ROWS), WithJsonSchema(_rows_schema(CommuneRow))]


class JurisdictionsImport(Body):
    """The rows of one commune and one institution belong in one request: together they replace what was known of the two."""

    rows: Annotated[list[dict[str, JsonValue]], Field(min_length=1, max_length=MAX_ROWS), WithJsonSchema(_rows_schema(JurisdictionRow))]


class RowError(Answer):
    pointer: str
    """Into the row: `/commune`."""
    detail: str


class RowOutcome(Answer):
    outcome: Literal["created", "changed", "unchanged", "refused"]
    errors: list[RowError]


class ImportOutcome(Answer):
    """One outcome for each row, in the order of the request."""

    created: int
    changed: int
    unchanged: int
    refused: int
    rows: list[RowOutcome]
