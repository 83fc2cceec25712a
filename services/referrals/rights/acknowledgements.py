"""Who has acted on an erasure: the numbers under which it was said, held against how far each reader of those streams says it is.

A reader acknowledges by `PUT /v1/streams/{stream}/position`; our own services do it with their cursors,
but never past an event that they parked; a webhook by its 2xx. An erasure is complete
when every known reader of every stream it was said in is past it; our services and the organizations that were asked must be among them.
"""

from collections.abc import Collection, Sequence
from uuid import UUID

from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from libs.chassis.pagination import Key
from libs.chassis.refusals import NotFound
from libs.chassis.security import Principal
from libs.contracts.vocabularies import Role
from services.referrals.models import Erasure, ErasureNotice
from services.referrals.rights.schemas import ErasureOut, NoticeOut

_PLACE = text(
    "UPDATE erasure_notices n SET epoch = e.epoch, sequence = e.sequence FROM stream_events e WHERE n.sequence IS NULL AND e.stream = n.stream"
    " AND e.event_id = n.event_id AND e.recorded_at > now() - interval '30 days'"
)
_READERS = (
    "readers AS (SELECT stream, client_id, epoch, sequence FROM stream_readers"
    " UNION ALL SELECT stream, client_id, epoch, sequence FROM subscriptions),"
    # who has not: a reader none of whose doors is past the number, one of ours that never said anything, an organization that never did
    " waiting AS (SELECT n.erasure_id, n.stream, r.client_id FROM erasure_notices n JOIN readers r ON r.stream = n.stream"
    "  WHERE n.acknowledged_at IS NULL GROUP BY n.erasure_id, n.stream, r.client_id"
    "  HAVING NOT coalesce(bool_or((r.epoch, r.sequence) >= (n.epoch, n.sequence)), false)"
    " UNION ALL SELECT n.erasure_id, n.stream, ours.client_id FROM erasure_notices n, unnest(CAST(:ours AS text[])) AS ours (client_id)"
    "  WHERE n.acknowledged_at IS NULL AND n.stream = 'internal'"
    "  AND NOT EXISTS (SELECT FROM readers r WHERE r.stream = n.stream AND r.client_id = ours.client_id)"
    " UNION ALL SELECT n.erasure_id, n.stream, n.stream FROM erasure_notices n WHERE n.acknowledged_at IS NULL AND n.stream LIKE 'organization:%'"
    "  AND NOT EXISTS (SELECT FROM readers r WHERE r.stream = n.stream))"
)
_ACKNOWLEDGE = text(
    f"WITH {_READERS} UPDATE erasure_notices n SET acknowledged_at = now() WHERE n.acknowledged_at IS NULL AND n.sequence IS NOT NULL"  # noqa: S608 - a constant
    " AND NOT EXISTS (SELECT FROM waiting w WHERE w.erasure_id = n.erasure_id AND w.stream = n.stream)"
)
_COMPLETE = text(
    "UPDATE erasures e SET completed_at = now() WHERE e.completed_at IS NULL"
    " AND NOT EXISTS (SELECT FROM erasure_notices n WHERE n.erasure_id = e.id AND n.acknowledged_at IS NULL)"
)
_WAITING = text(
    f"WITH {_READERS} SELECT erasure_id, stream, client_id FROM waiting WHERE erasure_id = ANY(CAST(:ids AS uuid[])) ORDER BY 1, 2, 3"  # noqa: S608 - a constant
)


async def look(session: AsyncSession, ours: Collection[str]) -> None:
    """Bring the register up to what the relay numbered and the readers said. `ours`: the clients of our own services."""
    await session.execute(_PLACE)
    await session.execute(_ACKNOWLEDGE, {"ours": list(ours)})
    await session.execute(_COMPLETE)


def _sees(caller: Principal, erasure: Erasure) -> bool:
    return caller.role in (Role.ADMINISTRATOR, Role.AUDITOR) or caller.covers_departement(erasure.departement)


async def erasures(
    session: AsyncSession, caller: Principal, ours: Collection[str], *, waiting: bool | None, after: Key | None, limit: int
) -> list[ErasureOut]:
    """The register, oldest first; `waiting`: only those that somebody has not acted on yet (or only the others)."""
    query = select(Erasure)
    departements = caller.departements()
    if caller.role is Role.COORDINATOR and departements is not None:
        query = query.where(col(Erasure.departement).in_(departements))
    if waiting is not None:
        query = query.where(col(Erasure.completed_at).is_(None) if waiting else col(Erasure.completed_at).is_not(None))
    if after is not None:
        query = query.where(col(Erasure.id) > after[0])
    return await _told(session, (await session.scalars(query.order_by(col(Erasure.id)).limit(limit + 1))).all(), ours)


async def erasure(session: AsyncSession, caller: Principal, ours: Collection[str], erasure_id: UUID) -> ErasureOut:
    """Raises NotFound."""
    found = await session.get(Erasure, erasure_id)
    if found is None or not _sees(caller, found):
        raise NotFound
    [told] = await _told(session, [found], ours)
    return told


async def _told(session: AsyncSession, rows: Sequence[Erasure], ours: Collection[str]) -> list[ErasureOut]:
    ids = [row.id for row in rows]
    notices = (
        await session.scalars(select(ErasureNotice).where(col(ErasureNotice.erasure_id).in_(ids)).order_by(col(ErasureNotice.stream)))
    ).all()
    waiting: dict[tuple[UUID, str], list[str]] = {}
    for row in await session.execute(_WAITING, {"ids": ids, "ours": list(ours)}):
        waiting.setdefault((row.erasure_id, row.stream), []).append(row.client_id)
    return [
        ErasureOut(
            id=row.id,
            referral_id=row.referral_id,
            departement=row.departement,
            person_ids=row.person_ids,
            whole=row.whole,
            cause=row.cause,
            erased_at=row.erased_at,
            completed_at=row.completed_at,
            notices=[
                NoticeOut(
                    stream=one.stream,
                    sequence=one.sequence,
                    acknowledged_at=one.acknowledged_at,
                    waiting_for=waiting.get((row.id, one.stream), []),
                )
                for one in notices
                if one.erasure_id == row.id
            ],
        )
        for row in rows
    ]
