"""What funding answers. Lists are in the order of their ids; `limit` + 1 rows tell whether more follow."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from uuid import UUID

from sqlalchemy import ColumnElement, Uuid, false, literal, or_, select, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped
from sqlmodel import col

from libs.chassis.pagination import Key
from libs.chassis.refusals import NotFound
from libs.chassis.security import Principal
from libs.contracts.vocabularies import Channel, FunderKind, Role, Urgency
from services.funding.domain import Status, balance_of, cost_per_situation, moves_from
from services.funding.models import Agreement, Contribution, Funder, Plan
from services.funding.schemas import AgreementOut, BudgetOut, ContributionOut, FirmnessOut, FunderOut, PlanOut, TargetOut


def may_read(caller: Principal, plan: Plan) -> bool:
    """An employer reads the plans of its posts; everybody else those of its départements."""
    if caller.role is Role.EMPLOYER:
        return caller.organization == plan.employer_id
    return caller.covers_departement(plan.departement)


def _of_departements(caller: Principal, column: Mapped[str]) -> list[ColumnElement[bool]]:
    departements = caller.departements()
    return [] if departements is None else [column.in_(sorted(departements))]


# Funders


def funder_out(row: Funder) -> FunderOut:
    return FunderOut.model_validate(row, from_attributes=True)


async def funder(session: AsyncSession, caller: Principal, funder_id: UUID) -> FunderOut:
    row = await session.get(Funder, funder_id)
    if row is None or not sees_funder(caller, row):
        raise NotFound
    return funder_out(row)


def sees_funder(caller: Principal, row: Funder) -> bool:
    return row.departement is None or caller.role is Role.EMPLOYER or caller.covers_departement(row.departement)


async def funders(
    session: AsyncSession, caller: Principal, *, departement: str | None, kind: FunderKind | None, after: Key | None, limit: int
) -> list[FunderOut]:
    statement = select(Funder).order_by(col(Funder.id)).limit(limit + 1)
    departements = caller.departements()
    if departements is not None and caller.role is not Role.EMPLOYER:
        statement = statement.where(or_(col(Funder.departement).is_(None), col(Funder.departement).in_(sorted(departements))))
    if departement is not None:
        statement = statement.where(or_(col(Funder.departement).is_(None), col(Funder.departement) == departement))
    if kind is not None:
        statement = statement.where(col(Funder.kind) == kind)
    if after is not None:
        statement = statement.where(col(Funder.id) > after[0])
    return [funder_out(row) for row in await session.scalars(statement)]


# Plans


async def plan(session: AsyncSession, caller: Principal, plan_id: UUID) -> PlanOut:
    row = await session.get(Plan, plan_id)
    if row is None or not may_read(caller, row):
        raise NotFound
    return (await plans_out(session, [row]))[0]


async def plans(
    session: AsyncSession,
    caller: Principal,
    *,
    departement: str | None,
    post_id: UUID | None,
    year: int | None,
    after: Key | None,
    limit: int,
) -> list[PlanOut]:
    statement = select(Plan).order_by(col(Plan.id)).limit(limit + 1)
    if caller.role is Role.EMPLOYER:
        own = false() if caller.organization is None else col(Plan.employer_id) == caller.organization
        statement = statement.where(own)
    else:
        statement = statement.where(*_of_departements(caller, col(Plan.departement)))
    if departement is not None:
        statement = statement.where(col(Plan.departement) == departement)
    if post_id is not None:
        statement = statement.where(col(Plan.post_id) == post_id)
    if year is not None:
        statement = statement.where(col(Plan.year) == year)
    if after is not None:
        statement = statement.where(col(Plan.id) > after[0])
    return await plans_out(session, (await session.scalars(statement)).all())


async def plans_out(session: AsyncSession, rows: Sequence[Plan]) -> list[PlanOut]:
    """Plans with their contributions and activity: two more statements, whatever their number."""
    contributions = await contributions_of(session, [row.id for row in rows])
    activity = await _activity(session, rows)
    return [_plan_out(row, contributions[row.id], *activity.get((row.post_id, row.year), (0, 0))) for row in rows]


async def contributions_of(session: AsyncSession, plan_ids: Iterable[UUID]) -> dict[UUID, list[tuple[Contribution, Funder]]]:
    statement = (
        select(Contribution, Funder)
        .join(Funder, col(Contribution.funder_id) == col(Funder.id))
        .where(col(Contribution.plan_id).in_(list(plan_ids)))
        .order_by(col(Contribution.plan_id), col(Contribution.id))
    )
    found: dict[UUID, list[tuple[Contribution, Funder]]] = defaultdict(list)
    for contribution, funder in await session.execute(statement):
        found[contribution.plan_id].append((contribution, funder))
    return found


async def _activity(session: AsyncSession, rows: Sequence[Plan]) -> dict[tuple[UUID, int], tuple[int, int]]:
    """(post, year) → referrals assigned to it, each at its last post, and referrals it closed."""
    counted = await session.execute(
        text(
            "SELECT a.post_id, a.year, count(DISTINCT a.referral_id) FILTER (WHERE a.what = 'assigned' AND NOT EXISTS ("
            "  SELECT FROM activity_heard later WHERE later.referral_id = a.referral_id AND later.what = 'assigned'"
            "  AND later.source = a.source AND later.sequence > a.sequence)) AS situations,"
            " count(DISTINCT a.referral_id) FILTER (WHERE a.what = 'closed') AS closed"
            " FROM activity_heard a JOIN unnest(CAST(:posts AS uuid[]), CAST(:years AS smallint[])) AS asked (post_id, year)"
            " ON a.post_id = asked.post_id AND a.year = asked.year GROUP BY 1, 2"
        ),
        {"posts": [row.post_id for row in rows], "years": [row.year for row in rows]},
    )
    return {(post_id, year): (situations, closed) for post_id, year, situations, closed in counted}


def budget_of(row: Plan) -> int:
    return row.salary_cents + row.charges_cents + row.travel_cents + row.equipment_cents + row.overheads_cents


def _plan_out(row: Plan, contributions: Sequence[tuple[Contribution, Funder]], situations: int, closed: int) -> PlanOut:
    balance = balance_of(budget_of(row), ((Status(one.status), one.amount_cents) for one, _ in contributions))
    return PlanOut(
        id=row.id,
        post_id=row.post_id,
        departement=row.departement,
        employer_id=row.employer_id,
        year=row.year,
        balanced=balance.gap_cents == 0,
        budget=BudgetOut.model_validate(row, from_attributes=True),
        budget_cents=balance.budget_cents,
        funded_cents=balance.funded_cents,
        firm_cents=balance.firm_cents,
        gap_cents=balance.gap_cents,
        by_firmness=[FirmnessOut(firmness=firmness, amount_cents=amount) for firmness, amount in balance.by_firmness.items()],
        contributions=[
            ContributionOut(
                id=one.id,
                funder_id=funder.id,
                funder_kind=FunderKind(funder.kind),
                funder_name=funder.name,
                amount_cents=one.amount_cents,
                status=Status(one.status),
                moves=moves_from(Status(one.status)),
                changed_at=one.changed_at,
            )
            for one, funder in contributions
        ],
        situations=situations,
        closed=closed,
        cost_per_situation_cents=cost_per_situation(balance.budget_cents, situations),
        version=row.version,
        opened_at=row.opened_at,
        changed_at=row.changed_at,
    )


# Agreements


def agreement_out(row: Agreement) -> AgreementOut:
    return AgreementOut(
        id=row.id,
        departement=row.departement,
        post_ids=row.post_ids,
        starts_on=row.starts_on,
        ends_on=row.ends_on,
        channels=[Channel(channel) for channel in row.channels],
        targets=[
            TargetOut(urgency=Urgency(urgency), minutes=int(minutes)) for urgency, _, minutes in (one.partition("=") for one in row.targets)
        ],
        version=row.version,
        signed_at=row.signed_at,
    )


async def agreement(session: AsyncSession, caller: Principal, agreement_id: UUID) -> AgreementOut:
    row = await session.get(Agreement, agreement_id)
    if row is None or not (
        await _employs_one_of(session, caller, row.post_ids) if caller.role is Role.EMPLOYER else caller.covers_departement(row.departement)
    ):
        raise NotFound
    return agreement_out(row)


async def agreements(
    session: AsyncSession, caller: Principal, *, departement: str | None, post_id: UUID | None, after: Key | None, limit: int
) -> list[AgreementOut]:
    statement = select(Agreement).order_by(col(Agreement.id)).limit(limit + 1)
    if caller.role is Role.EMPLOYER:
        statement = statement.where(col(Agreement.post_ids).op("&&")(literal(await _employed(session, caller), ARRAY(Uuid))))
    else:
        statement = statement.where(*_of_departements(caller, col(Agreement.departement)))
    if departement is not None:
        statement = statement.where(col(Agreement.departement) == departement)
    if post_id is not None:
        statement = statement.where(col(Agreement.post_ids).contains([post_id]))
    if after is not None:
        statement = statement.where(col(Agreement.id) > after[0])
    return [agreement_out(row) for row in await session.scalars(statement)]


async def _employed(session: AsyncSession, caller: Principal) -> list[UUID]:
    """The posts of an employer, as heard."""
    if caller.organization is None:
        return []
    rows = await session.scalars(
        text("SELECT DISTINCT post_id FROM posts_heard WHERE employer_id = :employer"), {"employer": caller.organization}
    )
    return list(rows)


async def _employs_one_of(session: AsyncSession, caller: Principal, post_ids: Iterable[UUID]) -> bool:
    return not set(post_ids).isdisjoint(await _employed(session, caller))
