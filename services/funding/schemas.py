"""What requests bring and answers say."""

from typing import Annotated

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from libs.chassis.strict import Answer, Body, line
from libs.contracts.identifiers import is_siren, is_siret
from libs.contracts.types import Cents, Count, Day, DepartementCode, Id, Instant
from libs.contracts.vocabularies import Channel, Firmness, FunderKind, Urgency
from services.funding.domain import Move, StartingFirmness, Status


def _siren(text: str) -> str:
    if not is_siren(text):
        raise PydanticCustomError("siren", "Ce numéro n'est pas un SIREN : vérifiez ses neuf chiffres.")
    return text


def _siret(text: str) -> str:
    if not is_siret(text):
        raise PydanticCustomError("siret", "Ce numéro n'est pas un SIRET : vérifiez ses quatorze chiffres.")
    return text


Siren = Annotated[str, Field(pattern=r"^[0-9]{9}$", examples=["000950014"]), AfterValidator(_siren)]
Siret = Annotated[str, Field(pattern=r"^[0-9]{14}$", examples=["00095001400019"]), AfterValidator(_siret)]

Year = Annotated[int, Field(ge=1990, le=2100, examples=[2026])]

Amount = Annotated[int, Field(ge=1, le=10**11, examples=[3_000_000])]
"""Cents of euro, at least one; at most a thousand million euros."""

LineCents = Annotated[int, Field(ge=0, le=10**11)]


class FunderIn(Body):
    id: Id | None = None
    """Chosen by the caller, so that a repeated registration is the same one; else given by the service."""
    kind: FunderKind
    name: Annotated[str, line(200)]
    departement: DepartementCode | None = None
    """None: works in every département (administrators only)."""
    siren: Siren | None = None
    siret: Siret | None = None


class FunderOut(Answer):
    id: Id
    kind: FunderKind
    name: str
    departement: DepartementCode | None
    siren: str | None
    siret: str | None
    version: int
    registered_at: Instant


class FunderList(Answer):
    items: list[FunderOut]
    next: str | None


class Budget(Body):
    """A year's cost of a post, by kind, in cents of euro; above zero together."""

    salary_cents: LineCents
    charges_cents: LineCents = 0
    travel_cents: LineCents = 0
    equipment_cents: LineCents = 0
    overheads_cents: LineCents = 0

    @property
    def total_cents(self) -> int:
        return self.salary_cents + self.charges_cents + self.travel_cents + self.equipment_cents + self.overheads_cents


def _some(budget: Budget) -> Budget:
    if budget.total_cents == 0:
        raise PydanticCustomError("budget_empty", "Un budget ne peut pas être nul.")
    return budget


BudgetIn = Annotated[Budget, AfterValidator(_some)]


class PlanIn(Body):
    id: Id | None = None
    post_id: Id
    year: Year
    budget: BudgetIn


class BudgetChange(Body):
    budget: BudgetIn


class ContributionIn(Body):
    """A contribution may be written into the plan at the firmness it has reached already; paid comes by a move."""

    id: Id | None = None
    funder_id: Id
    amount_cents: Amount
    firmness: StartingFirmness = StartingFirmness.FORECAST


class AmountIn(Body):
    amount_cents: Amount


class MoveIn(Body):
    """`amount_cents`: what was granted, where it differs from what was asked for."""

    move: Move
    amount_cents: Amount | None = None


class BudgetOut(Answer):
    salary_cents: Cents
    charges_cents: Cents
    travel_cents: Cents
    equipment_cents: Cents
    overheads_cents: Cents


class ContributionOut(Answer):
    id: Id
    funder_id: Id
    funder_kind: FunderKind
    funder_name: str
    amount_cents: Cents
    status: Status
    moves: list[Move]
    """What may be done next with the contribution."""
    changed_at: Instant


class FirmnessOut(Answer):
    firmness: Firmness
    amount_cents: Cents


class PlanOut(Answer):
    """`funded_cents`: every contribution that was not refused, even a forecast; `gap_cents` = budget - funded; `firm_cents`: granted, agreed or paid.

    `situations`: referrals assigned to the post in the year (each counted at its last post), as far as they were heard; `closed`: those it closed.
    """

    id: Id
    post_id: Id
    departement: DepartementCode
    employer_id: Id
    year: Year
    balanced: bool
    budget: BudgetOut
    budget_cents: Cents
    funded_cents: Cents
    firm_cents: Cents
    gap_cents: Cents
    by_firmness: list[FirmnessOut]
    contributions: list[ContributionOut]
    situations: Count
    closed: Count
    cost_per_situation_cents: Cents | None
    version: int
    opened_at: Instant
    changed_at: Instant


class PlanList(Answer):
    items: list[PlanOut]
    next: str | None


class Target(Body):
    """Minutes from reception to the first contact attempt."""

    urgency: Urgency
    minutes: Annotated[int, Field(ge=1, le=43_200)]


class AgreementIn(Body):
    """A signed agreement. `channels` empty: every channel. `targets` empty: the network's own."""

    id: Id | None = None
    departement: DepartementCode
    post_ids: Annotated[list[Id], Field(min_length=1, max_length=100)]
    starts_on: Day
    ends_on: Day
    channels: Annotated[list[Channel], Field(max_length=9, default_factory=list)]
    targets: Annotated[list[Target], Field(max_length=3, default_factory=list)]


class TargetOut(Answer):
    urgency: Urgency
    minutes: Count


class AgreementOut(Answer):
    id: Id
    departement: DepartementCode
    post_ids: list[Id]
    starts_on: Day
    ends_on: Day
    channels: list[Channel]
    targets: list[TargetOut]
    version: int
    signed_at: Instant


class AgreementList(Answer):
    items: list[AgreementOut]
    next: str | None
