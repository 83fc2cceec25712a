"""What changes the directory. Each command locks what it changes, says what listeners need, and never commits.

A registration with an id of the caller's choice may be repeated: the same content answers the same again, other content is refused.
"""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar
from uuid import UUID

from sqlalchemy import delete, exists, func, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from libs.chassis import outbox
from libs.chassis.ids import new_id
from libs.chassis.refusals import NotFound, Pointer, StaleVersion
from libs.chassis.security import Principal
from libs.contracts.envelope import Event
from libs.contracts.partners import (
    CapacityChanged,
    CoverageChanged,
    OrganizationChanged,
    OrganizationClosed,
    OrganizationRegistered,
    PostClosed,
    PostFilled,
    PostOpened,
    PostSuspended,
    PostVacant,
    ServiceChanged,
    ServiceClosed,
    ServiceRegistered,
    UnitChanged,
    UnitClosed,
    UnitRegistered,
)
from libs.contracts.vocabularies import Role
from services.partners import queries
from services.partners.domain import (
    FORCES_SERVED,
    POST_STATES,
    Closed,
    CoverageEmpty,
    ForceFixed,
    IdTaken,
    Move,
    PostState,
    SiretTaken,
    StillUsed,
    Unknown,
    location_id_of,
    moved,
)
from services.partners.models import Commune, Location, Organization, Post, Service, Unit, UnitCommune
from services.partners.schemas import (
    CapacityIn,
    CoverageIn,
    LocationIn,
    OrganizationChange,
    OrganizationIn,
    OrganizationOut,
    PostIn,
    PostLabel,
    PostOut,
    ServiceChange,
    ServiceIn,
    ServiceOut,
    UnitChange,
    UnitIn,
    UnitOut,
)

Row = TypeVar("Row", Organization, Service, Unit, Post)

_FOR_THEIR_ORGANIZATION = frozenset({Role.PARTNER, Role.EMPLOYER})


def _within(caller: Principal, departement: str) -> None:
    """What lies outside the caller's perimeter is answered as if it were not there."""
    if not caller.covers_departement(departement):
        raise NotFound


async def _locked(session: AsyncSession, table: type[Row], id: UUID) -> Row:
    row = await session.get(table, id, with_for_update=True, populate_existing=True)
    if row is None:
        raise NotFound
    return row


def _changeable(row: Organization | Service | Unit | Post, version: int | None = None) -> None:
    if row.closed_at is not None:
        raise Closed
    if version is not None and row.version != version:
        raise StaleVersion


def _set(row: Organization | Service | Unit | Post, values: dict[str, Any], now: datetime) -> set[str]:
    """Write what differs. Returns the names of what changed; the version moves when something did."""
    changed = {name for name, value in values.items() if getattr(row, name) != value}
    for name in changed:
        setattr(row, name, values[name])
    if changed:
        _touch(row, now)
    return changed


def _touch(row: Organization | Service | Unit | Post, now: datetime) -> None:
    row.version += 1
    row.changed_at = now


def _close(row: Organization | Service | Unit | Post, now: datetime) -> None:
    row.closed_at = now
    _touch(row, now)


async def _insert(session: AsyncSession, table: type[Row], values: dict[str, Any]) -> Row | None:
    """The new row, or `None` when a unique key is taken (the id, or the SIRET of an open organisation)."""
    made = await session.scalar(insert(table).values(**values).on_conflict_do_nothing().returning(col(table.id)))
    return await session.get(table, made) if made is not None else None


def _life(now: datetime, first: str = "registered_at") -> dict[str, Any]:
    return {"version": 1, first: now, "changed_at": now, "closed_at": None}


async def _open_organization(session: AsyncSession, id: UUID, pointer: str) -> Organization:
    """Held until the end of the transaction, so that it is not closed meanwhile."""
    found = await session.scalar(
        select(Organization).where(col(Organization.id) == id, col(Organization.closed_at).is_(None)).with_for_update(read=True)
    )
    if found is None:
        raise Unknown([(pointer, "Aucune structure ouverte ne porte cet identifiant.")])
    return found


async def _known_communes(session: AsyncSession, communes: Sequence[str], pointer: str = "/communes/{}") -> list[str]:
    """The codes, sorted, each once. Raises Unknown, with a pointer for each that INSEE's list does not hold."""
    known = set(await session.scalars(select(col(Commune.code)).where(col(Commune.code).in_(set(communes))))) if communes else set()
    wrong = [
        (pointer.format(place), "Cette commune n'est pas dans la liste de l'INSEE.")
        for place, code in enumerate(communes)
        if code not in known
    ]
    if wrong:
        raise Unknown(wrong)
    return sorted(set(communes))


# Organisations


def _organization_values(body: OrganizationChange) -> dict[str, Any]:
    return {
        "departement": body.departement,
        "name": body.name,
        "kind": body.kind,
        "siret": body.siret,
        "rna": body.rna,
        "offence_data_allowed": body.offence_data_allowed,
    }


async def _siret_holder(session: AsyncSession, siret: str) -> UUID | None:
    found: UUID | None = await session.scalar(
        select(col(Organization.id)).where(col(Organization.siret) == siret, col(Organization.closed_at).is_(None))
    )
    return found


async def register_organization(session: AsyncSession, caller: Principal, body: OrganizationIn) -> OrganizationOut:
    """Raises IdTaken, SiretTaken."""
    now = datetime.now(UTC)
    _within(caller, body.departement)
    values = _organization_values(body)
    made = await _insert(session, Organization, {"id": body.id or new_id(), **values, **_life(now)})
    if made is None:
        there = await session.get(Organization, body.id) if body.id is not None else None
        if there is None:
            holder = await _siret_holder(session, body.siret)
            raise SiretTaken(holder)
        if any(getattr(there, name) != value for name, value in values.items()):
            raise IdTaken
        return queries.organization_out(there)
    await outbox.append(
        session,
        OrganizationRegistered(
            departement=made.departement,
            organization_id=made.id,
            kind=body.kind,
            offence_data_allowed=made.offence_data_allowed,
            registered_at=now,
        ),
    )
    return queries.organization_out(made)


async def change_organization(
    session: AsyncSession, caller: Principal, organization_id: UUID, version: int, body: OrganizationChange
) -> OrganizationOut:
    """Raises NotFound, Closed, StaleVersion, SiretTaken."""
    now = datetime.now(UTC)
    organization = await _locked(session, Organization, organization_id)
    _within(caller, organization.departement)
    _within(caller, body.departement)
    _changeable(organization, version)
    try:
        async with session.begin_nested():
            changed = _set(organization, _organization_values(body), now)
    except IntegrityError as error:
        raise SiretTaken(await _siret_holder(session, body.siret)) from error
    if changed & {"departement", "kind", "offence_data_allowed"}:
        await outbox.append(
            session,
            OrganizationChanged(
                departement=body.departement,
                organization_id=organization_id,
                kind=body.kind,
                offence_data_allowed=body.offence_data_allowed,
                changed_at=now,
            ),
        )
    return queries.organization_out(organization)


async def close_organization(session: AsyncSession, caller: Principal, organization_id: UUID) -> OrganizationOut:
    """Raises NotFound, Closed, StillUsed (open services, or posts it employs)."""
    now = datetime.now(UTC)
    organization = await _locked(session, Organization, organization_id)
    _within(caller, organization.departement)
    _changeable(organization)
    used = await session.scalar(
        select(
            exists().where(col(Service.organization_id) == organization_id, col(Service.closed_at).is_(None))
            | exists().where(col(Post.employer_id) == organization_id, col(Post.closed_at).is_(None))
        )
    )
    if used:
        raise StillUsed("Cette structure a encore des services ouverts ou des postes : fermez-les d'abord.")
    _close(organization, now)
    await outbox.append(session, OrganizationClosed(departement=organization.departement, organization_id=organization_id, closed_at=now))
    return queries.organization_out(organization)


# Services


async def _service_values(session: AsyncSession, body: ServiceChange) -> dict[str, Any]:
    return {
        "departement": body.departement,
        "name": body.name,
        "kind": body.kind,
        "description": body.description,
        "themes": sorted(set(body.themes)),
        "needs": sorted(set(body.needs)),
        "communes": await _known_communes(session, body.communes),
        "capacity": body.capacity,
        "phone": body.phone,
        "email": body.email,
        "url": body.url,
        "opening_hours": body.opening_hours,
    }


async def _locations(session: AsyncSession, service_id: UUID, given: Sequence[LocationIn]) -> list[dict[str, Any]]:
    await _known_communes(session, [one.commune for one in given], "/locations/{}/commune")
    rows = [
        {"service_id": service_id, "position": position, "id": location_id_of(service_id, **_place(one)), **one.model_dump()}
        for position, one in enumerate(given)
    ]
    ids = [row["id"] for row in rows]
    twice = [position for position, id in enumerate(ids) if ids.index(id) != position]
    if twice:
        raise Unknown([(f"/locations/{position}", "Ce lieu figure déjà plus haut.") for position in twice])
    return rows


def _place(one: LocationIn) -> dict[str, str]:
    return {"name": one.name, "address": one.address, "commune": one.commune}


async def register_service(session: AsyncSession, caller: Principal, body: ServiceIn) -> ServiceOut:
    """Raises NotFound (another département), Unknown, IdTaken."""
    now = datetime.now(UTC)
    _within(caller, body.departement)
    await _open_organization(session, body.organization_id, "/organization_id")
    values = {"organization_id": body.organization_id, **await _service_values(session, body)}
    service_id = body.id or new_id()
    locations = await _locations(session, service_id, body.locations)
    made = await _insert(session, Service, {"id": service_id, **values, **_life(now)})
    if made is None:
        there = await _locked(session, Service, service_id)
        if any(getattr(there, name) != value for name, value in values.items()) or locations != await queries.location_rows(
            session, service_id
        ):
            raise IdTaken
        return await queries.service_out(session, there)
    if locations:
        await session.execute(insert(Location), locations)
    await outbox.append(
        session,
        ServiceRegistered(
            departement=made.departement,
            service_id=made.id,
            organization_id=made.organization_id,
            kind=body.kind,
            needs=tuple(sorted(set(body.needs))),
            communes=tuple(made.communes),
            capacity=made.capacity,
            registered_at=now,
        ),
    )
    return await queries.service_out(session, made)


async def change_service(session: AsyncSession, caller: Principal, service_id: UUID, version: int, body: ServiceChange) -> ServiceOut:
    """Raises NotFound, Closed, StaleVersion, Unknown."""
    now = datetime.now(UTC)
    service = await _locked(session, Service, service_id)
    _within(caller, service.departement)
    _within(caller, body.departement)
    _changeable(service, version)
    changed = _set(service, await _service_values(session, body), now)
    locations = await _locations(session, service_id, body.locations)
    if locations != await queries.location_rows(session, service_id):
        await session.execute(delete(Location).where(col(Location.service_id) == service_id))
        if locations:
            await session.execute(insert(Location), locations)
        if not changed:
            _touch(service, now)
    if changed & {"departement", "kind", "needs", "communes"}:
        await outbox.append(
            session,
            ServiceChanged(
                departement=service.departement,
                service_id=service_id,
                organization_id=service.organization_id,
                kind=body.kind,
                needs=tuple(sorted(set(body.needs))),
                communes=tuple(service.communes),
                capacity=service.capacity,
                changed_at=now,
            ),
        )
    elif "capacity" in changed:
        await outbox.append(session, _capacity_changed(service, now))
    return await queries.service_out(session, service)


def _capacity_changed(service: Service, now: datetime) -> CapacityChanged:
    return CapacityChanged(
        departement=service.departement,
        service_id=service.id,
        organization_id=service.organization_id,
        capacity=service.capacity,
        changed_at=now,
    )


async def change_capacity(session: AsyncSession, caller: Principal, service_id: UUID, version: int, body: CapacityIn) -> ServiceOut:
    """By its own organisation, or by the coordination of its département. Raises NotFound, Closed, StaleVersion."""
    now = datetime.now(UTC)
    service = await _locked(session, Service, service_id)
    if caller.role in _FOR_THEIR_ORGANIZATION:
        if caller.organization != service.organization_id:
            raise NotFound
    else:
        _within(caller, service.departement)
    _changeable(service, version)
    if _set(service, {"capacity": body.capacity}, now):
        await outbox.append(session, _capacity_changed(service, now))
    return await queries.service_out(session, service)


async def close_service(session: AsyncSession, caller: Principal, service_id: UUID) -> ServiceOut:
    """Raises NotFound, Closed."""
    now = datetime.now(UTC)
    service = await _locked(session, Service, service_id)
    _within(caller, service.departement)
    _changeable(service)
    _close(service, now)
    await outbox.append(
        session,
        ServiceClosed(departement=service.departement, service_id=service_id, organization_id=service.organization_id, closed_at=now),
    )
    return await queries.service_out(session, service)


# Units

_UNITS_LOCK = 0x554E4954  # "UNIT"


async def take_turn(session: AsyncSession) -> None:
    """Whoever changes units or communes does so alone, imports included: an import reads where units are competent before it can lock them."""
    await session.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _UNITS_LOCK})


async def register_unit(session: AsyncSession, caller: Principal, body: UnitIn) -> UnitOut:
    """Raises Unknown, IdTaken."""
    now = datetime.now(UTC)
    await take_turn(session)
    _within(caller, body.departement)
    communes = await _known_communes(session, body.communes)
    values = {"departement": body.departement, "force": body.force, "kind": body.kind, "code": body.code, "label": body.label}
    unit_id = body.id or new_id()
    made = await _insert(session, Unit, {"id": unit_id, **values, "imported": False, **_life(now)})
    if made is None:
        there = await _locked(session, Unit, unit_id)
        if any(getattr(there, name) != value for name, value in values.items()) or communes != await queries.unit_communes(
            session, unit_id
        ):
            raise IdTaken
        return await queries.unit_out(session, there)
    if communes:
        await session.execute(insert(UnitCommune), [{"unit_id": unit_id, "commune": commune} for commune in communes])
    await outbox.append(
        session,
        UnitRegistered(
            departement=made.departement, unit_id=unit_id, force=body.force, kind=body.kind, communes=tuple(communes), registered_at=now
        ),
    )
    return await queries.unit_out(session, made)


async def change_unit(session: AsyncSession, caller: Principal, unit_id: UUID, version: int, body: UnitChange) -> UnitOut:
    """Raises NotFound, Closed, StaleVersion, ForceFixed, Unknown."""
    now = datetime.now(UTC)
    await take_turn(session)
    unit = await _locked(session, Unit, unit_id)
    _within(caller, unit.departement)
    _within(caller, body.departement)
    _changeable(unit, version)
    if unit.force != body.force:
        raise ForceFixed
    communes = await _known_communes(session, body.communes)
    changed = _set(unit, {"departement": body.departement, "kind": body.kind, "code": body.code, "label": body.label}, now)
    if communes != await queries.unit_communes(session, unit_id):
        await session.execute(delete(UnitCommune).where(col(UnitCommune.unit_id) == unit_id))
        if communes:
            await session.execute(insert(UnitCommune), [{"unit_id": unit_id, "commune": commune} for commune in communes])
        if not changed:
            _touch(unit, now)
        changed.add("communes")
    if changed & {"departement", "kind", "communes"}:
        await outbox.append(
            session,
            UnitChanged(
                departement=unit.departement, unit_id=unit_id, force=body.force, kind=body.kind, communes=tuple(communes), changed_at=now
            ),
        )
    return await queries.unit_out(session, unit)


async def close_unit(session: AsyncSession, caller: Principal, unit_id: UUID) -> UnitOut:
    """Raises NotFound, Closed, StillUsed (an open post covers it)."""
    now = datetime.now(UTC)
    await take_turn(session)
    unit = await _locked(session, Unit, unit_id)
    _within(caller, unit.departement)
    _changeable(unit)
    if await session.scalar(select(exists().where(col(Post.units).contains([unit_id]), col(Post.closed_at).is_(None)))):
        raise StillUsed("Un poste couvre encore cette unité : changez d'abord son ressort.")
    _close(unit, now)
    await outbox.append(session, UnitClosed(departement=unit.departement, unit_id=unit_id, closed_at=now))
    return await queries.unit_out(session, unit)


# Posts


async def _coverage(
    session: AsyncSession, departement: str, force: str, units: Sequence[UUID], communes: Sequence[str]
) -> tuple[list[UUID], list[str]]:
    """The units and communes, sorted, each once. The units are held open until the end of the transaction.

    Raises CoverageEmpty, or Unknown for a unit that is closed, of a force the post does not serve, or not at work in its département.
    """
    if not units and not communes:
        raise CoverageEmpty
    at_work = exists().where(col(UnitCommune.unit_id) == col(Unit.id), func.starts_with(col(UnitCommune.commune), departement))
    rows = await session.execute(
        select(col(Unit.id), col(Unit.force), (col(Unit.departement) == departement) | at_work)
        .where(col(Unit.id).in_(set(units)), col(Unit.closed_at).is_(None))
        .order_by(col(Unit.id))
        .with_for_update(read=True, of=Unit)
    )
    known = {id: (unit_force, here) for id, unit_force, here in rows}
    wrong = list(_wrong_units(units, known, force))
    if wrong:
        raise Unknown(wrong)
    return sorted(known), await _known_communes(session, communes)


def _wrong_units(units: Sequence[UUID], known: dict[UUID, tuple[str, bool]], force: str) -> Iterable[Pointer]:
    for place, id in enumerate(units):
        if id not in known:
            yield f"/units/{place}", "Aucune unité ouverte ne porte cet identifiant."
        elif known[id][0] not in FORCES_SERVED[force]:
            yield f"/units/{place}", "Cette unité n'est pas de la force que sert le poste."
        elif not known[id][1]:
            yield f"/units/{place}", "Cette unité n'intervient pas dans le département du poste."


async def open_post(session: AsyncSession, caller: Principal, body: PostIn) -> PostOut:
    """Raises NotFound (another département), Unknown, CoverageEmpty, IdTaken."""
    now = datetime.now(UTC)
    _within(caller, body.departement)
    await _open_organization(session, body.employer_id, "/employer_id")
    units, communes = await _coverage(session, body.departement, body.force, body.units, body.communes)
    values = {
        "departement": body.departement,
        "employer_id": body.employer_id,
        "force": body.force,
        "label": body.label,
        "full_time_percent": body.full_time_percent,
        "channels": sorted(set(body.channels)),
        "units": units,
        "communes": communes,
        "state": moved(None, Move.OPEN_FILLED if body.filled else Move.OPEN),
        "opened_on": body.opened_on,
    }
    post_id = body.id or new_id()
    made = await _insert(session, Post, {"id": post_id, **values, **_life(now, "opened_at")})
    if made is None:
        there = await _locked(session, Post, post_id)
        if any(getattr(there, name) != value for name, value in values.items()):
            raise IdTaken
        return await queries.post_out(session, there)
    await outbox.append(
        session,
        PostOpened(
            departement=made.departement,
            post_id=post_id,
            employer_id=made.employer_id,
            force=body.force,
            full_time_percent=made.full_time_percent,
            channels=tuple(sorted(set(body.channels))),
            units=tuple(units),
            communes=tuple(communes),
            filled=body.filled,
            opened_on=made.opened_on,
            opened_at=now,
        ),
    )
    return await queries.post_out(session, made)


async def rename_post(session: AsyncSession, caller: Principal, post_id: UUID, version: int, body: PostLabel) -> PostOut:
    """Raises NotFound, Closed, StaleVersion."""
    post = await _locked(session, Post, post_id)
    _within(caller, post.departement)
    _changeable(post, version)
    _set(post, {"label": body.label}, datetime.now(UTC))
    return await queries.post_out(session, post)


async def change_coverage(session: AsyncSession, caller: Principal, post_id: UUID, version: int, body: CoverageIn) -> PostOut:
    """Raises NotFound, Closed, StaleVersion, CoverageEmpty, Unknown."""
    now = datetime.now(UTC)
    post = await _locked(session, Post, post_id)
    _within(caller, post.departement)
    _changeable(post, version)
    units, communes = await _coverage(session, post.departement, post.force, body.units, body.communes)
    if _set(post, {"units": units, "communes": communes}, now):
        await outbox.append(
            session,
            CoverageChanged(
                departement=post.departement,
                post_id=post_id,
                employer_id=post.employer_id,
                units=tuple(units),
                communes=tuple(communes),
                changed_at=now,
            ),
        )
    return await queries.post_out(session, post)


def _post_event(post: Post, state: PostState, now: datetime) -> Event:
    whose: dict[str, Any] = {"departement": post.departement, "post_id": post.id, "employer_id": post.employer_id}
    match state:
        case PostState.FILLED:
            return PostFilled(**whose, filled_at=now)
        case PostState.VACANT:
            return PostVacant(**whose, vacant_at=now)
        case PostState.SUSPENDED:
            return PostSuspended(**whose, suspended_at=now)
        case PostState.CLOSED:
            return PostClosed(**whose, closed_at=now)


async def move_post(session: AsyncSession, caller: Principal, post_id: UUID, move: Move) -> PostOut:
    """Fill, vacate, suspend or close. Raises NotFound, MoveRefused."""
    now = datetime.now(UTC)
    post = await _locked(session, Post, post_id)
    _within(caller, post.departement)
    state = moved(POST_STATES[post.state], move)
    post.state = state
    if state is PostState.CLOSED:
        _close(post, now)
    else:
        _touch(post, now)
    await outbox.append(session, _post_event(post, state, now))
    return await queries.post_out(session, post)
