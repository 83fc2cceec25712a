"""Organisations: what registers, changes and closes them. Each command locks what it changes, says what listeners need, and never commits.

A registration with an id of the caller's choice may be repeated: the same content answers the same again, other content is refused.
"""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import exists, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from libs.chassis import outbox
from libs.chassis.ids import new_id
from libs.chassis.security import Principal
from libs.contracts.partners import (
    OrganizationChanged,
    OrganizationClosed,
    OrganizationRegistered,
)
from services.partners import queries
from services.partners.domain import (
    IdTaken,
    SiretTaken,
    StillUsed,
)
from services.partners.models import Organization, Post, Service
from services.partners.rows import check_changeable, check_perimeter, insert_row, locked, mark_closed, new_life, write
from services.partners.schemas import (
    OrganizationChange,
    OrganizationIn,
    OrganizationOut,
)


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
    check_perimeter(caller, body.departement)
    values = _organization_values(body)
    made = await insert_row(session, Organization, {"id": body.id or new_id(), **values, **new_life(now)})
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
    organization = await locked(session, Organization, organization_id)
    check_perimeter(caller, organization.departement)
    check_perimeter(caller, body.departement)
    check_changeable(organization, version)
    try:
        async with session.begin_nested():
            changed = write(organization, _organization_values(body), now)
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
    organization = await locked(session, Organization, organization_id)
    check_perimeter(caller, organization.departement)
    check_changeable(organization)
    used = await session.scalar(
        select(
            exists().where(col(Service.organization_id) == organization_id, col(Service.closed_at).is_(None))
            | exists().where(col(Post.employer_id) == organization_id, col(Post.closed_at).is_(None))
        )
    )
    if used:
        raise StillUsed("Cette structure a encore des services ouverts ou des postes : fermez-les d'abord.")
    mark_closed(organization, now)
    await outbox.append(session, OrganizationClosed(departement=organization.departement, organization_id=organization_id, closed_at=now))
    return queries.organization_out(organization)
