"""The end of the retention: two years after the last contact with the person (CNIL, délibération 2023-095; a setting), everything sealed is erased.

A contact is the reception, the joining of a person, an acceptance or a reopening, an attempt to reach the person, an interview, an assessment, or a step
of an orientation; not what was noted by mistake and withdrawn.
Only what is closed is erased, and held by nothing (held.py): what is past the term and still open, supported by a partner or asked for by a requisition is
told (`still_held`), so that somebody ends it. And only what was announced long
enough before (`announce`), with the last contact that still holds: a term that was set wrong, or a case that must be kept, shows before anything is gone.

With what is sealed goes the police's own reference, for it leads back to the persons of their file, and with it which police system sent the referral
(`unlink`): it is in no list of the police any more. What was erased before, because a person asked or refused, keeps both until the same day, and so do
the words of its alerts when it was a refusal; longer, where a requisition waits for its answer. So the police,
which needs the reference to follow a case and has it in its own file, learns of no erasure: neither when it is made, nor by what is missing or left later.
"""

from collections import Counter
from datetime import datetime, timedelta
from uuid import UUID

import structlog
from sqlalchemy import delete, select, text
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from libs.chassis.security import Principal
from libs.chassis.vault import Vault
from libs.contracts.types import civil_day
from libs.contracts.vocabularies import Role
from services.referrals import notices
from services.referrals.models import Person, Referral
from services.referrals.rights import erasure
from services.referrals.rights.domain import HeldBecause, Term
from services.referrals.rights.erasure import ErasureCause
from services.referrals.rights.held import ASKED_FOR, SUPPORTED
from services.referrals.rights.models import AnnouncedEnd
from services.referrals.rights.schemas import AnnouncedEndOut, HeldEndOut

_log = structlog.get_logger(__name__)

_STEPS = (
    "SELECT p.joined_at FROM persons p WHERE p.referral_id = r.id",
    "SELECT m.at FROM moves m WHERE m.referral_id = r.id AND m.move IN ('accept', 'reopen', 'reopen_unrouted')",
    "SELECT a.recorded_at FROM assessments a WHERE a.referral_id = r.id AND a.withdrawn_at IS NULL",
    "SELECT c.attempted_at FROM contact_attempts c WHERE c.referral_id = r.id AND c.withdrawn_at IS NULL",
    "SELECT i.held_at FROM interviews i WHERE i.referral_id = r.id AND i.withdrawn_at IS NULL",
    "SELECT greatest(o.requested_at, o.answered_at, o.ended_at) FROM orientations o WHERE o.referral_id = r.id",
)
"""What counts as a contact of a referral `r`, besides its reception: the instants of each kind."""

_PAST = " AND r.received_at < :before" + "".join(
    f" AND NOT EXISTS (SELECT FROM ({step}) AS step (at) WHERE step.at >= :before)" for step in _STEPS
)
_LAST_CONTACT = f"greatest(r.received_at, {', '.join(f'(SELECT max(step.at) FROM ({step}) AS step (at))' for step in _STEPS)})"  # noqa: S608 - constants
_LAST = text(f"SELECT {_LAST_CONTACT} FROM referrals r WHERE r.id = :id")  # noqa: S608 - constants
_ENDED = f"r.status = 'closed' AND NOT {SUPPORTED} AND NOT {ASKED_FOR}"
_DUE = f"FROM referrals r WHERE {_ENDED}{_PAST}"
_STAY = f"FROM referrals r WHERE r.status <> 'erased' AND NOT ({_ENDED}){_PAST}"
_HELD = text(f"SELECT r.id, r.departement {_STAY} ORDER BY r.departement, r.received_at, r.id LIMIT :limit")
_HELD_PAGE = text(
    f"SELECT r.id, r.departement, {_LAST_CONTACT} AS last_contact_at,"
    f" CASE WHEN r.status <> 'closed' THEN 'open' WHEN {SUPPORTED} THEN 'supported' ELSE 'asked_for' END AS because {_STAY}"
    " AND (CAST(:departements AS text[]) IS NULL OR r.departement = ANY(CAST(:departements AS text[])))"
    " AND (CAST(:after AS uuid) IS NULL OR r.id > CAST(:after AS uuid)) ORDER BY r.id LIMIT :limit"
)
_HELD_WHERE = text(f"SELECT DISTINCT r.departement {_STAY} ORDER BY r.departement")
_VOID = text(
    "DELETE FROM announced_ends a USING referrals r WHERE r.id = a.referral_id"  # noqa: S608 - constants
    f" AND (NOT ({_ENDED}) OR a.counted_from >= :before OR a.counted_from <> {_LAST_CONTACT})"
)
_ANNOUNCE = text(
    "INSERT INTO announced_ends (referral_id, departement, counted_from, announced_at)"  # noqa: S608 - constants
    f" SELECT r.id, r.departement, {_LAST_CONTACT}, :now {_DUE} AND NOT EXISTS (SELECT FROM announced_ends a WHERE a.referral_id = r.id)"
    " ON CONFLICT (referral_id) DO NOTHING RETURNING departement"
)
_ANNOUNCED = (
    f"FROM referrals r JOIN announced_ends a ON a.referral_id = r.id WHERE {_ENDED}{_PAST}"
    f" AND a.announced_at <= :announced AND a.counted_from = {_LAST_CONTACT}"
)
_COUNT = text(f"SELECT count(*) {_ANNOUNCED}")
_NEXT = text(f"SELECT r.id {_ANNOUNCED} ORDER BY r.received_at, r.id LIMIT :limit FOR UPDATE OF r SKIP LOCKED")
_UNLINK = text(
    "UPDATE referrals SET external_reference = 'erased-' || id, client_id = '' WHERE id IN (SELECT r.id FROM referrals r"  # noqa: S608 - constants
    f" WHERE r.status = 'erased' AND r.client_id <> '' AND NOT {ASKED_FOR}{_PAST} ORDER BY r.received_at, r.id LIMIT :limit FOR UPDATE SKIP LOCKED) RETURNING id"
)
_ALERTS = text("UPDATE alerts SET content = '' WHERE referral_id = ANY(:ids) AND content <> '' RETURNING key_id")
_STILL = text(f"SELECT r.id {_ANNOUNCED} AND r.id = ANY(:ids)")


async def last_contact(session: AsyncSession, referral_id: UUID) -> datetime:
    """From which on the retention counts."""
    found: datetime = await session.scalar(_LAST, {"id": referral_id})
    return found


def _before(now: datetime, term: Term) -> dict[str, datetime]:
    """What counts from before the one instant has reached its end; what was announced by the other, long enough ago."""
    return {"before": now - timedelta(days=term.days), "announced": now - timedelta(days=term.notice_days)}


async def announce(session: AsyncSession, now: datetime, term: Term) -> dict[str, int]:
    """Announce what will have reached its end by the time the notice is over, once; and take back what no longer will. Coordinators are told of
    those that are new. Gives how many, by département."""
    horizon = now - timedelta(days=term.days - term.notice_days)
    await session.execute(_VOID, {"before": horizon})
    new = Counter(await session.scalars(_ANNOUNCE, {"before": horizon, "now": now}))
    await notices.notify(session, *(notices.of_ends_announced(departement, now) for departement in sorted(new)), now=now)
    for departement, referrals in sorted(new.items()):
        _log.info("retention.announced", departement=departement, referrals=referrals, notice_days=term.notice_days)
    return new


async def announced(
    session: AsyncSession, caller: Principal, term: Term, *, after: UUID | None = None, limit: int = 1000
) -> list[AnnouncedEndOut]:
    """What was announced in the caller's départements, and from which day on it is erased; one more than `limit` when there are more."""
    query = select(AnnouncedEnd).order_by(col(AnnouncedEnd.referral_id)).limit(limit + 1)
    departements = caller.departements()
    if caller.role is Role.COORDINATOR and departements is not None:
        query = query.where(col(AnnouncedEnd.departement).in_(departements))
    if after is not None:
        query = query.where(col(AnnouncedEnd.referral_id) > after)
    return [
        AnnouncedEndOut(
            referral_id=one.referral_id,
            departement=one.departement,
            last_contact_at=one.counted_from,
            announced_at=one.announced_at,
            erased_from=civil_day(max(one.counted_from + timedelta(days=term.days), one.announced_at + timedelta(days=term.notice_days))),
        )
        for one in await session.scalars(query)
    ]


async def due(session: AsyncSession, now: datetime, term: Term) -> int:
    """How many referrals have reached the end and were announced long enough before: what `--dry-run` says."""
    return await session.scalar(_COUNT, _before(now, term)) or 0


async def still_held(session: AsyncSession, now: datetime, days: int, limit: int = 1000) -> list[tuple[UUID, str]]:
    """What is past the term and not closed, or held, with its département."""
    rows = await session.execute(_HELD, {"before": now - timedelta(days=days), "limit": limit})
    return [(row.id, row.departement) for row in rows]


async def held_ends(
    session: AsyncSession, caller: Principal, now: datetime, term: Term, *, after: UUID | None = None, limit: int = 1000
) -> list[HeldEndOut]:
    """What is past the term in the caller's départements and is not erased, with what holds it; one more than `limit` when there are more."""
    departements = caller.departements()
    given = {
        "before": now - timedelta(days=term.days),
        "departements": None if departements is None else sorted(departements),
        "after": after,
        "limit": limit + 1,
    }
    return [
        HeldEndOut(referral_id=row.id, departement=row.departement, last_contact_at=row.last_contact_at, because=HeldBecause(row.because))
        for row in await session.execute(_HELD_PAGE, given)
    ]


async def tell_held(session: AsyncSession, now: datetime, term: Term) -> None:
    """The coordinators of départements where something is past the term and held: once a week, as long as it is."""
    where = (await session.scalars(_HELD_WHERE, {"before": now - timedelta(days=term.days)})).all()
    await notices.notify(session, *(notices.of_ends_held(departement, now) for departement in where), now=now)


async def erase_due(session: AsyncSession, vault: Vault, now: datetime, term: Term, limit: int = 50) -> int:
    """Erase the oldest of them, at most `limit`. Returns how many."""
    ids = list(await session.scalars(_NEXT, _before(now, term) | {"limit": limit}))
    # a requisition that was entered while its referral was being found is seen under the lock
    for referral_id in await session.scalars(_STILL, _before(now, term) | {"ids": ids}):
        referral = await session.get_one(Referral, referral_id, populate_existing=True)
        await erase_whole(session, vault, referral, ErasureCause.RETENTION, now, by="retention")
    await session.execute(delete(AnnouncedEnd).where(col(AnnouncedEnd.referral_id).in_(ids)))
    return len(ids)


async def unlink(session: AsyncSession, vault: Vault, now: datetime, term: Term, limit: int = 50) -> int:
    """What is erased and past its end belongs to no police system any more, and no alert of it keeps words. Returns how many, at most `limit`."""
    ids = (await session.scalars(_UNLINK, {"before": now - timedelta(days=term.days), "limit": limit})).all()
    await vault.destroy(session, *await session.scalars(_ALERTS, {"ids": list(ids)}))
    return len(ids)


async def erase_whole(
    session: AsyncSession, vault: Vault, referral: Referral, cause: ErasureCause, now: datetime, *, by: str
) -> UUID | None:
    """All that is sealed of a referral that the caller has locked."""
    persons = list(await session.scalars(select(col(Person.id)).where(col(Person.referral_id) == referral.id)))
    return await erasure.erase(session, vault, referral, persons, cause, now, by=by, narrative=True)
