"""Police and gendarmerie units, one by one (imports.py does it in bulk). Each command locks what it changes, says what listeners need, and never commits.

A registration with an id of the caller's choice may be repeated: the same content answers the same again, other content is refused.
"""

from datetime import UTC, datetime
from uuid import UUID

from sqlalchemy import delete, exists, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from libs.chassis import outbox
from libs.chassis.ids import new_id
from libs.chassis.security import Principal
from libs.contracts.partners import (
    UnitChanged,
    UnitClosed,
    UnitRegistered,
)
from services.partners import queries
from services.partners.domain import (
    ForceFixed,
    IdTaken,
    StillUsed,
)
from services.partners.models import Post, Unit, UnitCommune
from services.partners.rows import (
    check_changeable,
    check_perimeter,
    insert_row,
    known_communes,
    locked,
    mark_closed,
    new_life,
    touch,
    write,
)
from services.partners.schemas import (
    UnitChange,
    UnitIn,
    UnitOut,
)

_UNITS_LOCK = 0x554E4954  # "UNIT"


async def take_turn(session: AsyncSession) -> None:
    """Whoever changes units or communes does so alone, imports included: an import reads where units are competent before it can lock them."""
    await session.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _UNITS_LOCK})


async def register_unit(session: AsyncSession, caller: Principal, body: UnitIn) -> UnitOut:
    """Raises Unknown, IdTaken."""
    now = datetime.now(UTC)
    await take_turn(session)
    check_perimeter(caller, body.departement)
    communes = await known_communes(session, body.communes)
    values = {"departement": body.departement, "force": body.force, "kind": body.kind, "code": body.code, "label": body.label}
    unit_id = body.id or new_id()
    made = await insert_row(session, Unit, {"id": unit_id, **values, "imported": False, **new_life(now)})
    if made is None:
        there = await locked(session, Unit, unit_id)
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
    unit = await locked(session, Unit, unit_id)
    check_perimeter(caller, unit.departement)
    check_perimeter(caller, body.departement)
    check_changeable(unit, version)
    if unit.force != body.force:
        raise ForceFixed
    communes = await known_communes(session, body.communes)
    changed = write(unit, {"departement": body.departement, "kind": body.kind, "code": body.code, "label": body.label}, now)
    if communes != await queries.unit_communes(session, unit_id):
        await session.execute(delete(UnitCommune).where(col(UnitCommune.unit_id) == unit_id))
        if communes:
            await session.execute(insert(UnitCommune), [{"unit_id": unit_id, "commune": commune} for commune in communes])
        if not changed:
            touch(unit, now)
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
    unit = await locked(session, Unit, unit_id)
    check_perimeter(caller, unit.departement)
    check_changeable(unit)
    if await session.scalar(select(exists().where(col(Post.units).contains([unit_id]), col(Post.closed_at).is_(None)))):
        raise StillUsed("Un poste couvre encore cette unité : changez d'abord son ressort.")
    mark_closed(unit, now)
    await outbox.append(session, UnitClosed(departement=unit.departement, unit_id=unit_id, closed_at=now))
    return await queries.unit_out(session, unit)
