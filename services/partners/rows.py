"""What every command of the directory does the same way: lock, check perimeter and version, write what differs."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, TypeVar
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from libs.chassis.refusals import NotFound, StaleVersion
from libs.chassis.security import Principal
from services.partners.domain import (
    Closed,
    Unknown,
)
from services.partners.models import Commune, Organization, Post, Service, Unit

Row = TypeVar("Row", Organization, Service, Unit, Post)


def check_perimeter(caller: Principal, departement: str) -> None:
    """What lies outside the caller's perimeter is answered as if it were not there."""
    if not caller.covers_departement(departement):
        raise NotFound


async def locked(session: AsyncSession, table: type[Row], id: UUID) -> Row:
    row = await session.get(table, id, with_for_update=True, populate_existing=True)
    if row is None:
        raise NotFound
    return row


def check_changeable(row: Organization | Service | Unit | Post, version: int | None = None) -> None:
    if row.closed_at is not None:
        raise Closed
    if version is not None and row.version != version:
        raise StaleVersion


def write(row: Organization | Service | Unit | Post, values: dict[str, Any], now: datetime) -> set[str]:
    """Write what differs. Returns the names of what changed; the version moves when something did."""
    changed = {name for name, value in values.items() if getattr(row, name) != value}
    for name in changed:
        setattr(row, name, values[name])
    if changed:
        touch(row, now)
    return changed


def touch(row: Organization | Service | Unit | Post, now: datetime) -> None:
    row.version += 1
    row.changed_at = now


def mark_closed(row: Organization | Service | Unit | Post, now: datetime) -> None:
    row.closed_at = now
    touch(row, now)


async def insert_row(session: AsyncSession, table: type[Row], values: dict[str, Any]) -> Row | None:
    """The new row, or `None` when a unique key is taken (the id, or the SIRET of an open organisation)."""
    made = await session.scalar(insert(table).values(**values).on_conflict_do_nothing().returning(col(table.id)))
    return await session.get(table, made) if made is not None else None


def new_life(now: datetime, first: str = "registered_at") -> dict[str, Any]:
    return {"version": 1, first: now, "changed_at": now, "closed_at": None}


async def open_organization(session: AsyncSession, id: UUID, pointer: str) -> Organization:
    """Held until the end of the transaction, so that it is not closed meanwhile."""
    found = await session.scalar(
        select(Organization).where(col(Organization.id) == id, col(Organization.closed_at).is_(None)).with_for_update(read=True)
    )
    if found is None:
        raise Unknown([(pointer, "Aucune structure ouverte ne porte cet identifiant.")])
    return found


async def known_communes(session: AsyncSession, communes: Sequence[str], pointer: str = "/communes/{}") -> list[str]:
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
