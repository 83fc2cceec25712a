"""The end of the retention: two years after the last contact with the person (CNIL, délibération 2023-095; a setting), everything sealed is erased.

A contact is the reception, an acceptance or a reopening, an attempt to reach the person, an interview, an assessment, or a step of an orientation.
Only what is closed is erased: what is still open and past the term is told (`still_open`), so that somebody closes it.
"""

from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from libs.chassis.vault import Vault
from services.referrals.models import Person, Referral
from services.referrals.rights import erasure
from services.referrals.rights.erasure import ErasureCause

_STEPS = (
    "SELECT m.at FROM moves m WHERE m.referral_id = r.id AND m.move IN ('accept', 'reopen', 'reopen_unrouted')",
    "SELECT a.recorded_at FROM assessments a WHERE a.referral_id = r.id",
    "SELECT c.attempted_at FROM contact_attempts c WHERE c.referral_id = r.id",
    "SELECT i.held_at FROM interviews i WHERE i.referral_id = r.id",
    "SELECT greatest(o.requested_at, o.answered_at, o.ended_at) FROM orientations o WHERE o.referral_id = r.id",
)
"""What counts as a contact of a referral `r`, besides its reception: the instants of each kind."""

_PAST = " AND r.received_at < :before" + "".join(
    f" AND NOT EXISTS (SELECT FROM ({step}) AS step (at) WHERE step.at >= :before)" for step in _STEPS
)
_LAST = text(
    f"SELECT greatest(r.received_at, {', '.join(f'(SELECT max(step.at) FROM ({step}) AS step (at))' for step in _STEPS)})"  # noqa: S608 - constants
    " FROM referrals r WHERE r.id = :id"
)
_DUE = f"FROM referrals r WHERE r.status = 'closed'{_PAST}"
_OPEN = text(
    f"SELECT r.id, r.departement FROM referrals r WHERE r.status NOT IN ('closed', 'erased'){_PAST}"  # noqa: S608 - constants
    " ORDER BY r.departement, r.received_at, r.id LIMIT :limit"
)
_COUNT = text(f"SELECT count(*) {_DUE}")
_NEXT = text(f"SELECT r.id {_DUE} ORDER BY r.received_at, r.id LIMIT :limit FOR UPDATE SKIP LOCKED")


async def last_contact(session: AsyncSession, referral_id: UUID) -> datetime:
    """From which on the retention counts."""
    found: datetime = await session.scalar(_LAST, {"id": referral_id})
    return found


async def due(session: AsyncSession, now: datetime, days: int) -> int:
    """How many referrals have reached the end: what `--dry-run` says."""
    return await session.scalar(_COUNT, {"before": now - timedelta(days=days)}) or 0


async def still_open(session: AsyncSession, now: datetime, days: int, limit: int = 1000) -> list[tuple[UUID, str]]:
    """What is past the term and not closed, with its département."""
    rows = await session.execute(_OPEN, {"before": now - timedelta(days=days), "limit": limit})
    return [(row.id, row.departement) for row in rows]


async def erase_due(session: AsyncSession, vault: Vault, now: datetime, days: int, limit: int = 50) -> int:
    """Erase the oldest of them, at most `limit`. Returns how many."""
    ids = list(await session.scalars(_NEXT, {"before": now - timedelta(days=days), "limit": limit}))
    for referral_id in ids:
        referral = await session.get_one(Referral, referral_id, populate_existing=True)
        await erase_whole(session, vault, referral, ErasureCause.RETENTION, now, by="retention")
    return len(ids)


async def erase_whole(
    session: AsyncSession, vault: Vault, referral: Referral, cause: ErasureCause, now: datetime, *, by: str
) -> UUID | None:
    """All that is sealed of a referral that the caller has locked."""
    persons = list(await session.scalars(select(col(Person.id)).where(col(Person.referral_id) == referral.id)))
    return await erasure.erase(session, vault, referral, persons, cause, now, by=by, narrative=True)
