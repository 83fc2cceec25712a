"""What the directory answers. Lists are in the order of their key, so that a cursor is one key; `limit` + 1 rows tell whether more follow."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar
from uuid import UUID

from sqlalchemy import ColumnElement, Select, and_, exists, func, or_, select, text
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from libs.chassis.pagination import Key
from libs.chassis.refusals import NotFound
from libs.chassis.security import Principal
from libs.contracts.types import departement_of
from libs.contracts.vocabularies import Force, Need, PartnerKind, PostForce, Role, UnitKind
from services.partners.domain import POST_STATES, Answers, PostState, moves_from
from services.partners.models import Commune, Location, Organization, Post, Service, Unit, UnitCommune
from services.partners.schemas import (
    AnswersOut,
    CommuneOut,
    CoveredCommune,
    LocationOut,
    OrganizationOut,
    PlanOut,
    PostDetail,
    PostOut,
    ServiceDetail,
    ServiceOut,
    UnitOut,
)

ANSWERS_DAYS = 365
"""Answers to orientations count for twelve months, then they are dropped."""

Row = TypeVar("Row", Organization, Service, Unit, Post)


async def _one(session: AsyncSession, table: type[Row], id: UUID) -> Row:
    row = await session.get(table, id)
    if row is None:
        raise NotFound
    return row


def _page(table: type[Row], where: Sequence[ColumnElement[bool]], *, closed: bool, after: Key | None, limit: int) -> Select[Row]:
    statement = select(table).where(*where).order_by(col(table.id)).limit(limit + 1)
    if not closed:
        statement = statement.where(col(table.closed_at).is_(None))
    return statement if after is None else statement.where(col(table.id) > after[0])


def _equal(column: Any, value: object | None) -> list[ColumnElement[bool]]:
    return [] if value is None else [col(column) == value]


# Organisations


def organization_out(row: Organization) -> OrganizationOut:
    return OrganizationOut.model_validate(row, from_attributes=True)


async def organization(session: AsyncSession, organization_id: UUID) -> OrganizationOut:
    return organization_out(await _one(session, Organization, organization_id))


async def organizations(
    session: AsyncSession,
    *,
    departement: str | None = None,
    kind: PartnerKind | None = None,
    siret: str | None = None,
    closed: bool = False,
    after: Key | None = None,
    limit: int = 50,
) -> list[OrganizationOut]:
    where = [*_equal(Organization.departement, departement), *_equal(Organization.kind, kind), *_equal(Organization.siret, siret)]
    rows = await session.scalars(_page(Organization, where, closed=closed, after=after, limit=limit))
    return [organization_out(row) for row in rows]


async def _names(session: AsyncSession, organization_ids: set[UUID]) -> dict[UUID, str]:
    rows = await session.execute(select(col(Organization.id), col(Organization.name)).where(col(Organization.id).in_(organization_ids)))
    return {row.id: row.name for row in rows}


# Services


async def location_rows(session: AsyncSession, service_id: UUID) -> list[dict[str, Any]]:
    return (await _locations(session, {service_id})).get(service_id, [])


async def _locations(session: AsyncSession, service_ids: set[UUID]) -> dict[UUID, list[dict[str, Any]]]:
    rows = await session.scalars(
        select(Location).where(col(Location.service_id).in_(service_ids)).order_by(col(Location.service_id), col(Location.position))
    )
    found: dict[UUID, list[dict[str, Any]]] = {}
    for row in rows:
        found.setdefault(row.service_id, []).append(row.model_dump())
    return found


async def _services_out(session: AsyncSession, rows: Sequence[Service]) -> list[ServiceOut]:
    names = await _names(session, {row.organization_id for row in rows})
    places = await _locations(session, {row.id for row in rows})
    return [
        ServiceOut.model_validate(
            {
                **row.model_dump(),
                "organization_name": names[row.organization_id],
                "locations": [
                    LocationOut.model_validate({name: place[name] for name in LocationOut.model_fields}) for place in places.get(row.id, [])
                ],
            }
        )
        for row in rows
    ]


async def service_out(session: AsyncSession, row: Service) -> ServiceOut:
    return (await _services_out(session, [row]))[0]


async def service(session: AsyncSession, service_id: UUID) -> ServiceDetail:
    out = await service_out(session, await _one(session, Service, service_id))
    answers = await answers_of(session, service_id)
    return ServiceDetail(
        **dict(out),
        answers=AnswersOut(
            accepted=answers.accepted,
            rejected=answers.rejected,
            expired=answers.expired,
            acceptance_percent=answers.acceptance_percent,
            median_delay_minutes=answers.median_delay_minutes,
        ),
    )


async def answers_of(session: AsyncSession, service_id: UUID) -> Answers:
    row = (
        await session.execute(
            text(
                "SELECT count(*) FILTER (WHERE answer = 'accepted'), count(*) FILTER (WHERE answer = 'rejected'),"
                " count(*) FILTER (WHERE answer = 'expired'), percentile_disc(0.5) WITHIN GROUP (ORDER BY delay_minutes)"
                " FROM orientation_answers WHERE service_id = :service_id AND answered_at > :since"
            ),
            {"service_id": service_id, "since": datetime.now(UTC) - timedelta(days=ANSWERS_DAYS)},
        )
    ).one()
    return Answers(*row)


async def services(
    session: AsyncSession,
    *,
    departement: str | None = None,
    commune: str | None = None,
    need: Need | None = None,
    kind: PartnerKind | None = None,
    organization: UUID | None = None,
    closed: bool = False,
    after: Key | None = None,
    limit: int = 50,
) -> list[ServiceOut]:
    """`commune`: what covers it, by name or with its whole département."""
    where = [*_equal(Service.departement, departement), *_equal(Service.kind, kind), *_equal(Service.organization_id, organization)]
    if need is not None:
        where.append(col(Service.needs).contains([need]))
    if commune is not None:
        whole = and_(func.cardinality(col(Service.communes)) == 0, col(Service.departement) == departement_of(commune))
        where.append(or_(col(Service.communes).contains([commune]), whole))
    return await _services_out(session, list(await session.scalars(_page(Service, where, closed=closed, after=after, limit=limit))))


# Units


async def unit_communes(session: AsyncSession, unit_id: UUID) -> list[str]:
    return (await _communes_of(session, {unit_id})).get(unit_id, [])


async def _communes_of(session: AsyncSession, unit_ids: set[UUID]) -> dict[UUID, list[str]]:
    rows = await session.execute(
        select(col(UnitCommune.unit_id), func.array_agg(col(UnitCommune.commune)))
        .where(col(UnitCommune.unit_id).in_(unit_ids))
        .group_by(col(UnitCommune.unit_id))
    )
    return {id: sorted(communes) for id, communes in rows}


async def _units_out(session: AsyncSession, rows: Sequence[Unit]) -> list[UnitOut]:
    communes = await _communes_of(session, {row.id for row in rows})
    return [UnitOut.model_validate({**row.model_dump(exclude={"imported"}), "communes": communes.get(row.id, [])}) for row in rows]


async def unit_out(session: AsyncSession, row: Unit) -> UnitOut:
    return (await _units_out(session, [row]))[0]


async def unit(session: AsyncSession, unit_id: UUID) -> UnitOut:
    return await unit_out(session, await _one(session, Unit, unit_id))


async def units(
    session: AsyncSession,
    *,
    departement: str | None = None,
    commune: str | None = None,
    force: Force | None = None,
    kind: UnitKind | None = None,
    closed: bool = False,
    after: Key | None = None,
    limit: int = 50,
) -> list[UnitOut]:
    """`commune`: those that are competent there."""
    where = [*_equal(Unit.departement, departement), *_equal(Unit.force, force), *_equal(Unit.kind, kind)]
    if commune is not None:
        where.append(exists().where(col(UnitCommune.unit_id) == col(Unit.id), col(UnitCommune.commune) == commune))
    return await _units_out(session, list(await session.scalars(_page(Unit, where, closed=closed, after=after, limit=limit))))


# Communes


async def commune(session: AsyncSession, code: str) -> CommuneOut:
    row = await session.get(Commune, code)
    if row is None:
        raise NotFound
    return CommuneOut.model_validate(row, from_attributes=True)


async def communes(
    session: AsyncSession, *, departement: str | None = None, postcode: str | None = None, after: Key | None = None, limit: int = 50
) -> list[CommuneOut]:
    statement = select(Commune).where(*_equal(Commune.departement, departement)).order_by(col(Commune.code)).limit(limit + 1)
    if postcode is not None:
        statement = statement.where(col(Commune.postcodes).contains([postcode]))
    if after is not None:
        statement = statement.where(col(Commune.code) > after[0])
    return [CommuneOut.model_validate(row, from_attributes=True) for row in await session.scalars(statement)]


_COVERAGE = text(
    "SELECT code, name, departement, population, units, posts FROM (SELECT c.code, c.name, c.departement, c.population,"
    " array(SELECT u.id FROM unit_communes uc JOIN units u ON u.id = uc.unit_id AND u.closed_at IS NULL WHERE uc.commune = c.code ORDER BY u.id)"
    " AS units,"
    " array(SELECT p.id FROM posts p WHERE p.closed_at IS NULL AND (p.communes @> array[c.code]"
    " OR p.units && array(SELECT uc.unit_id FROM unit_communes uc WHERE uc.commune = c.code)) ORDER BY p.id) AS posts"
    " FROM communes c WHERE c.departement = :departement AND c.code > :after) covered"
    " WHERE CAST(:covered AS boolean) IS NULL OR (cardinality(posts) > 0) = :covered ORDER BY code LIMIT :limit"
)


async def coverage(
    session: AsyncSession, *, departement: str, covered: bool | None = None, after: Key | None = None, limit: int = 50
) -> list[CoveredCommune]:
    """The communes of a département with their units and posts. `covered`: only those that a post covers, or only the others."""
    rows = await session.execute(
        _COVERAGE, {"departement": departement, "covered": covered, "after": after[0] if after is not None else "", "limit": limit + 1}
    )
    return [CoveredCommune.model_validate(row, from_attributes=True) for row in rows]


# Posts


def _post_out(row: Post, names: Mapping[UUID, str]) -> PostOut:
    return PostOut.model_validate(
        {**row.model_dump(exclude={"suspended_from"}), "employer_name": names[row.employer_id], "moves": moves_from(POST_STATES[row.state])}
    )


async def post_out(session: AsyncSession, row: Post) -> PostOut:
    return _post_out(row, await _names(session, {row.employer_id}))


async def post(session: AsyncSession, caller: Principal, post_id: UUID) -> PostDetail:
    row = await _one(session, Post, post_id)
    plans = await _plans(session, post_id) if _may_see_funding(caller, row) else None
    return PostDetail(**dict(await post_out(session, row)), funding=plans)


def _may_see_funding(caller: Principal, row: Post) -> bool:
    """Who pays what concerns those who pay, employ or steer."""
    match caller.role:
        case Role.ADMINISTRATOR | Role.AUDITOR | Role.SERVICE:
            return True
        case Role.MINISTRY:
            return "interior" in caller.perimeter
        case Role.COORDINATOR | Role.FUNDER:
            return caller.covers_departement(row.departement)
        case Role.EMPLOYER:
            return caller.organization == row.employer_id
        case _:
            return False


async def _plans(session: AsyncSession, post_id: UUID) -> list[PlanOut]:
    rows = await session.execute(
        text(
            "SELECT plan_id, year, balanced, budget_cents, funded_cents, changed_at FROM ("
            "SELECT DISTINCT ON (source, plan_id) * FROM plans_heard WHERE post_id = :post_id ORDER BY source, plan_id, sequence DESC) latest"
            " ORDER BY year DESC, plan_id"
        ),
        {"post_id": post_id},
    )
    return [
        PlanOut(
            plan_id=row.plan_id,
            year=row.year,
            state="balanced" if row.balanced else "gapped",
            budget_cents=row.budget_cents,
            funded_cents=row.funded_cents,
            gap_cents=max(0, row.budget_cents - row.funded_cents),
            changed_at=row.changed_at,
        )
        for row in rows
    ]


async def posts(
    session: AsyncSession,
    *,
    departement: str | None = None,
    commune: str | None = None,
    unit: UUID | None = None,
    force: PostForce | None = None,
    state: PostState | None = None,
    employer: UUID | None = None,
    closed: bool = False,
    after: Key | None = None,
    limit: int = 50,
) -> list[PostOut]:
    """`commune`: those that cover it, by one of their units or directly."""
    where = [
        *_equal(Post.departement, departement),
        *_equal(Post.force, force),
        *_equal(Post.state, state),
        *_equal(Post.employer_id, employer),
    ]
    if unit is not None:
        where.append(col(Post.units).contains([unit]))
    if commune is not None:
        competent = select(func.array_agg(col(UnitCommune.unit_id))).where(col(UnitCommune.commune) == commune).scalar_subquery()
        where.append(or_(col(Post.communes).contains([commune]), col(Post.units).op("&&")(competent)))
    rows = list(await session.scalars(_page(Post, where, closed=closed or state is PostState.CLOSED, after=after, limit=limit)))
    names = await _names(session, {row.employer_id for row in rows})
    return [_post_out(row, names) for row in rows]
