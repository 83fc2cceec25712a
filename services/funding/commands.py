"""What changes funding. Each command locks the plan it changes, says what listeners need, and never commits.

An id of the caller's choice may be repeated: the same content answers the same again, other content is refused.
"""

from datetime import UTC, datetime
from typing import Any, TypeVar
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from libs.chassis import outbox
from libs.chassis.etag import match
from libs.chassis.ids import new_id
from libs.chassis.refusals import Invalid, NotFound
from libs.chassis.security import Principal
from libs.contracts.envelope import Event
from libs.contracts.funding import (
    AgreementSigned,
    ContributionAgreed,
    ContributionGranted,
    ContributionRefused,
    ContributionRequested,
    PlanBalanced,
    PlanGapped,
    Share,
    TargetDelay,
)
from libs.contracts.vocabularies import FunderKind
from services.funding import queries
from services.funding.domain import (
    AMOUNT_OPEN,
    MAX_CONTRIBUTIONS,
    AmountFixed,
    FunderAlreadyContributes,
    IdTaken,
    Move,
    PeriodInverted,
    PlanExists,
    PostNotYetKnown,
    Status,
    TooManyContributions,
    UnknownFunder,
    balance_of,
    firmness_of,
    moved,
)
from services.funding.models import Agreement, Contribution, Funder, Plan
from services.funding.schemas import (
    AgreementIn,
    AgreementOut,
    AmountIn,
    Budget,
    BudgetChange,
    ContributionIn,
    FunderIn,
    FunderOut,
    MoveIn,
    PlanIn,
    PlanOut,
)

Row = TypeVar("Row", Funder, Plan, Contribution, Agreement)


async def _insert(session: AsyncSession, table: type[Row], values: dict[str, Any]) -> bool:
    """Whether the row is new; False when a unique key is taken."""
    return await session.scalar(insert(table).values(**values).on_conflict_do_nothing().returning(col(table.id))) is not None


def _same(row: Row, values: dict[str, Any], ignored: frozenset[str]) -> bool:
    return all(getattr(row, name) == value for name, value in values.items() if name not in ignored)


# Funders


async def register_funder(session: AsyncSession, caller: Principal, body: FunderIn) -> FunderOut:
    if body.departement is None and caller.departements() is not None:
        sentence = "Seul l'administrateur du réseau enregistre un financeur national : indiquez le département."
        raise Invalid(sentence, pointers=[("/departement", sentence)])
    if body.departement is not None and not caller.covers_departement(body.departement):
        raise NotFound
    if body.siren is not None and body.siret is not None and not body.siret.startswith(body.siren):
        sentence = "Le SIRET ne commence pas par ce SIREN."
        raise Invalid(sentence, pointers=[("/siret", sentence)])
    now = datetime.now(UTC)
    values = body.model_dump() | {"id": body.id or new_id(), "version": 1, "registered_at": now}
    if not await _insert(session, Funder, values):
        row = await session.get_one(Funder, values["id"])
        if not queries.sees_funder(caller, row) or not _same(row, values, frozenset({"version", "registered_at"})):
            raise IdTaken
        return queries.funder_out(row)
    return queries.funder_out(await session.get_one(Funder, values["id"]))


# Plans


async def _post(session: AsyncSession, caller: Principal, post_id: UUID, pointer: str = "/post_id") -> tuple[str, UUID]:
    """Département and employer of a post, as last heard. Raises PostNotYetKnown."""
    row = (
        await session.execute(
            text("SELECT departement, employer_id FROM posts_heard WHERE post_id = :post ORDER BY sequence DESC LIMIT 1"), {"post": post_id}
        )
    ).one_or_none()
    if row is None or not caller.covers_departement(row.departement):
        raise PostNotYetKnown(pointer)
    return row.departement, row.employer_id


async def open_plan(session: AsyncSession, caller: Principal, body: PlanIn) -> PlanOut:
    """Open the plan of a post for a year. Nothing is promised yet: it is said to be gapped by its whole budget."""
    departement, employer_id = await _post(session, caller, body.post_id)
    now = datetime.now(UTC)
    values = {"id": body.id or new_id(), "post_id": body.post_id, "departement": departement, "employer_id": employer_id, "year": body.year}
    values |= body.budget.model_dump() | {"version": 1, "opened_at": now, "changed_at": now}
    if not await _insert(session, Plan, values):
        known = await session.get(Plan, values["id"]) if body.id is not None else None
        if known is None:
            raise PlanExists
        if not queries.may_read(caller, known) or (known.post_id, known.year) != (body.post_id, body.year):
            raise IdTaken
        return (await queries.plans_out(session, [known]))[0]
    return await _said(session, await session.get_one(Plan, values["id"]), now)


async def _locked(session: AsyncSession, caller: Principal, plan_id: UUID, version: int | None) -> Plan:
    """The plan, its contributions with it: whoever changes one of them holds its plan. Raises NotFound, StaleVersion."""
    row = await session.get(Plan, plan_id, with_for_update=True, populate_existing=True)
    if row is None or not caller.covers_departement(row.departement):
        raise NotFound
    if version is not None:
        match(row.version, version)
    return row


async def _said(session: AsyncSession, plan: Plan, now: datetime, *more: Event) -> PlanOut:
    """Say how the plan stands after the change, whole, after what is said of one contribution. Raises Overfunded."""
    await session.flush()
    contributions = (await queries.contributions_of(session, [plan.id]))[plan.id]
    balance = balance_of(queries.budget_of(plan), ((Status(one.status), one.amount_cents) for one, _ in contributions))
    whole: dict[str, Any] = {
        "plan_id": plan.id,
        "post_id": plan.post_id,
        "departement": plan.departement,
        "year": plan.year,
        "budget_cents": balance.budget_cents,
        "funded_cents": balance.funded_cents,
        "shares": tuple(
            Share(funder_id=funder.id, funder_kind=FunderKind(funder.kind), firmness=firmness, amount_cents=one.amount_cents)
            for one, funder in contributions
            if (firmness := firmness_of(Status(one.status))) is not None
        ),
        "changed_at": now,
    }
    event = PlanGapped(**whole, gap_cents=balance.gap_cents) if balance.gap_cents else PlanBalanced(**whole)
    await outbox.append(session, *more, event, occurred_at=now)
    return (await queries.plans_out(session, [plan]))[0]


def _touch(plan: Plan) -> datetime:
    plan.version += 1
    plan.changed_at = datetime.now(UTC)
    return plan.changed_at


async def change_budget(session: AsyncSession, caller: Principal, plan_id: UUID, version: int, body: BudgetChange) -> PlanOut:
    plan = await _locked(session, caller, plan_id, version)
    for name in Budget.model_fields:
        setattr(plan, name, getattr(body.budget, name))
    return await _said(session, plan, _touch(plan))


# Contributions

_SAID: dict[Status, type[ContributionRequested] | type[ContributionGranted] | type[ContributionRefused] | type[ContributionAgreed]] = {
    Status.REQUESTED: ContributionRequested,
    Status.GRANTED: ContributionGranted,
    Status.REFUSED: ContributionRefused,
    Status.AGREED: ContributionAgreed,
}
"""What is said when a contribution reaches a state. A forecast and a payment show in the plan alone: instalments come with the money issue."""


def _reached(plan: Plan, contribution: Contribution, funder: Funder, now: datetime) -> list[Event]:
    status = Status(contribution.status)
    if status not in _SAID:
        return []
    return [
        _SAID[status].model_validate(
            {
                "departement": plan.departement,
                "plan_id": plan.id,
                "contribution_id": contribution.id,
                "post_id": plan.post_id,
                "year": plan.year,
                "funder_id": funder.id,
                "funder_kind": FunderKind(funder.kind),
                "amount_cents": contribution.amount_cents,
                f"{status}_at": now,
            }
        )
    ]


async def add_contribution(session: AsyncSession, caller: Principal, plan_id: UUID, body: ContributionIn) -> PlanOut:
    """Write a funder's contribution into the plan, at the firmness it has reached already."""
    plan = await _locked(session, caller, plan_id, None)
    funder = await session.get(Funder, body.funder_id)
    if funder is None or funder.departement not in (None, plan.departement):
        raise UnknownFunder
    now = datetime.now(UTC)
    values = {
        "id": body.id or new_id(),
        "plan_id": plan.id,
        "funder_id": funder.id,
        "amount_cents": body.amount_cents,
        "status": body.firmness.value,
        "changed_at": now,
    }
    in_progress = [one for one, _ in (await queries.contributions_of(session, [plan.id]))[plan.id] if one.status != Status.REFUSED]
    if len(in_progress) >= MAX_CONTRIBUTIONS:
        raise TooManyContributions
    if not await _insert(session, Contribution, values):
        known = await session.get(Contribution, values["id"]) if body.id is not None else None
        if known is None:
            raise FunderAlreadyContributes
        if (known.plan_id, known.funder_id) != (plan.id, funder.id):
            raise IdTaken
        return (await queries.plans_out(session, [plan]))[0]
    contribution = await session.get_one(Contribution, values["id"])
    now = _touch(plan)
    return await _said(session, plan, now, *_reached(plan, contribution, funder, now))


async def _contribution(session: AsyncSession, plan: Plan, contribution_id: UUID) -> Contribution:
    row = await session.get(Contribution, contribution_id)
    if row is None or row.plan_id != plan.id:
        raise NotFound
    return row


async def change_contribution(
    session: AsyncSession, caller: Principal, plan_id: UUID, contribution_id: UUID, version: int, body: AmountIn
) -> PlanOut:
    plan = await _locked(session, caller, plan_id, version)
    contribution = await _contribution(session, plan, contribution_id)
    if Status(contribution.status) not in AMOUNT_OPEN:
        raise AmountFixed
    contribution.amount_cents = body.amount_cents
    contribution.changed_at = _touch(plan)
    return await _said(session, plan, plan.changed_at)


async def move_contribution(
    session: AsyncSession, caller: Principal, plan_id: UUID, contribution_id: UUID, version: int, body: MoveIn
) -> PlanOut:
    plan = await _locked(session, caller, plan_id, version)
    contribution = await _contribution(session, plan, contribution_id)
    contribution.status = moved(Status(contribution.status), body.move).value
    if body.amount_cents is not None and body.amount_cents != contribution.amount_cents:
        if body.move not in (Move.GRANT, Move.REQUEST):
            raise AmountFixed
        contribution.amount_cents = body.amount_cents
    contribution.changed_at = _touch(plan)
    funder = await session.get_one(Funder, contribution.funder_id)
    return await _said(session, plan, plan.changed_at, *_reached(plan, contribution, funder, plan.changed_at))


# Agreements


async def sign_agreement(session: AsyncSession, caller: Principal, body: AgreementIn) -> AgreementOut:
    """Record a signed agreement: which posts, for how long, which channels and target delays. Referrals hear of it."""
    if not caller.covers_departement(body.departement):
        raise NotFound
    if body.ends_on < body.starts_on:
        raise PeriodInverted
    for place, post_id in enumerate(body.post_ids):
        departement, _ = await _post(session, caller, post_id, f"/post_ids/{place}")
        if departement != body.departement:
            raise PostNotYetKnown(f"/post_ids/{place}")
    if len({target.urgency for target in body.targets}) < len(body.targets):
        sentence = "Chaque urgence a un seul délai cible."
        raise Invalid(sentence, pointers=[("/targets", sentence)])
    now = datetime.now(UTC)
    values = {
        "id": body.id or new_id(),
        "departement": body.departement,
        "post_ids": list(dict.fromkeys(body.post_ids)),
        "starts_on": body.starts_on,
        "ends_on": body.ends_on,
        "channels": [channel.value for channel in dict.fromkeys(body.channels)],
        "targets": [f"{target.urgency}={target.minutes}" for target in body.targets],
        "version": 1,
        "signed_at": now,
    }
    if not await _insert(session, Agreement, values):
        known = await session.get_one(Agreement, values["id"])
        if not _same(known, values, frozenset({"version", "signed_at"})):
            raise IdTaken
        return queries.agreement_out(known)
    row = await session.get_one(Agreement, values["id"])
    await outbox.append(
        session,
        AgreementSigned(
            departement=row.departement,
            agreement_id=row.id,
            post_ids=tuple(row.post_ids),
            starts_on=row.starts_on,
            ends_on=row.ends_on,
            channels=tuple(dict.fromkeys(body.channels)),
            targets=tuple(TargetDelay(urgency=target.urgency, minutes=target.minutes) for target in body.targets),
            signed_at=now,
        ),
        occurred_at=now,
    )
    return queries.agreement_out(row)
