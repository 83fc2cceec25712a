"""Services of organisations, their locations and capacity. Each command locks what it changes, says what listeners need, and never commits.

A registration with an id of the caller's choice may be repeated: the same content answers the same again, other content is refused.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import delete
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from libs.chassis import outbox
from libs.chassis.ids import new_id
from libs.chassis.refusals import NotFound
from libs.chassis.security import Principal
from libs.contracts.partners import (
    CapacityChanged,
    ServiceChanged,
    ServiceClosed,
    ServiceRegistered,
)
from libs.contracts.vocabularies import Role
from services.partners import queries
from services.partners.domain import (
    IdTaken,
    Unknown,
    location_id_of,
)
from services.partners.models import Location, Service
from services.partners.rows import (
    check_changeable,
    check_perimeter,
    insert_row,
    known_communes,
    locked,
    mark_closed,
    new_life,
    open_organization,
    touch,
    write,
)
from services.partners.schemas import (
    CapacityIn,
    LocationIn,
    ServiceChange,
    ServiceIn,
    ServiceOut,
)

_FOR_THEIR_ORGANIZATION = frozenset({Role.PARTNER, Role.EMPLOYER})


async def _service_values(session: AsyncSession, body: ServiceChange) -> dict[str, Any]:
    return {
        "departement": body.departement,
        "name": body.name,
        "kind": body.kind,
        "description": body.description,
        "themes": sorted(set(body.themes)),
        "needs": sorted(set(body.needs)),
        "communes": await known_communes(session, body.communes),
        "sexes": sorted(set(body.sexes)),
        "age_bands": sorted(set(body.age_bands)),
        "capacity": body.capacity,
        "phone": body.phone,
        "email": body.email,
        "url": body.url,
        "opening_hours": body.opening_hours,
    }


async def _locations(session: AsyncSession, service_id: UUID, given: Sequence[LocationIn]) -> list[dict[str, Any]]:
    await known_communes(session, [one.commune for one in given], "/locations/{}/commune")
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
    check_perimeter(caller, body.departement)
    await open_organization(session, body.organization_id, "/organization_id")
    values = {"organization_id": body.organization_id, **await _service_values(session, body)}
    service_id = body.id or new_id()
    locations = await _locations(session, service_id, body.locations)
    made = await insert_row(session, Service, {"id": service_id, **values, **new_life(now)})
    if made is None:
        there = await locked(session, Service, service_id)
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
            sexes=tuple(sorted(set(body.sexes))),
            age_bands=tuple(sorted(set(body.age_bands))),
            capacity=made.capacity,
            registered_at=now,
        ),
    )
    return await queries.service_out(session, made)


async def change_service(session: AsyncSession, caller: Principal, service_id: UUID, version: int, body: ServiceChange) -> ServiceOut:
    """Raises NotFound, Closed, StaleVersion, Unknown."""
    now = datetime.now(UTC)
    service = await locked(session, Service, service_id)
    check_perimeter(caller, service.departement)
    check_perimeter(caller, body.departement)
    check_changeable(service, version)
    changed = write(service, await _service_values(session, body), now)
    locations = await _locations(session, service_id, body.locations)
    if locations != await queries.location_rows(session, service_id):
        await session.execute(delete(Location).where(col(Location.service_id) == service_id))
        if locations:
            await session.execute(insert(Location), locations)
        if not changed:
            touch(service, now)
    if changed & {"departement", "kind", "needs", "communes", "sexes", "age_bands"}:
        await outbox.append(
            session,
            ServiceChanged(
                departement=service.departement,
                service_id=service_id,
                organization_id=service.organization_id,
                kind=body.kind,
                needs=tuple(sorted(set(body.needs))),
                communes=tuple(service.communes),
                sexes=tuple(sorted(set(body.sexes))),
                age_bands=tuple(sorted(set(body.age_bands))),
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
    service = await locked(session, Service, service_id)
    if caller.role in _FOR_THEIR_ORGANIZATION:
        if caller.organization != service.organization_id:
            raise NotFound
    else:
        check_perimeter(caller, service.departement)
    check_changeable(service, version)
    if write(service, {"capacity": body.capacity}, now):
        await outbox.append(session, _capacity_changed(service, now))
    return await queries.service_out(session, service)


async def close_service(session: AsyncSession, caller: Principal, service_id: UUID) -> ServiceOut:
    """Raises NotFound, Closed."""
    now = datetime.now(UTC)
    service = await locked(session, Service, service_id)
    check_perimeter(caller, service.departement)
    check_changeable(service)
    mark_closed(service, now)
    await outbox.append(
        session,
        ServiceClosed(departement=service.departement, service_id=service_id, organization_id=service.organization_id, closed_at=now),
    )
    return await queries.service_out(session, service)
