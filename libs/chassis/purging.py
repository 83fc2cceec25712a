"""How long events are kept: 30 days, the audit log three years; what a service that listens has not confirmed, until it is back (decision 0016)."""

from collections.abc import Collection

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from libs.chassis import streams

PURGE = 10_000
"""Events of a stream that one transaction forgets."""
_OLDER = text(
    "SELECT max(sequence) FROM (SELECT sequence, recorded_at FROM stream_events WHERE stream = :stream ORDER BY sequence LIMIT :limit) oldest"
    " WHERE recorded_at < now() - make_interval(days => :days)"
)
# the time beside an entry can be edited unnoticed, that of a signed checkpoint not: what it vouched for then is older than it
_OLDER_AND_VOUCHED_FOR = text(
    "SELECT max(sequence) FROM (SELECT sequence FROM stream_events WHERE stream = :stream ORDER BY sequence LIMIT :limit) oldest"
    " WHERE sequence <= (SELECT max(sequence) FROM stream_checkpoints WHERE stream = :stream AND at < now() - make_interval(days => :days))"
)
_LISTENERS = (
    "(SELECT client_id, sequence FROM stream_readers WHERE stream = 'internal' AND acknowledged_at IS NOT NULL"
    " UNION ALL SELECT client_id, 0 FROM unnest(CAST(:awaited AS text[])) AS awaited (client_id) WHERE NOT EXISTS"
    "  (SELECT FROM stream_readers r WHERE r.stream = 'internal' AND r.client_id = awaited.client_id AND r.acknowledged_at IS NOT NULL)) listener"
)
_UNHEARD = text(f"SELECT min(sequence) FROM {_LISTENERS}")  # noqa: S608 - a constant
_AWAY = text(
    f"SELECT client_id FROM {_LISTENERS} JOIN streams h ON h.stream = 'internal' JOIN stream_events e"  # noqa: S608 - a constant
    " ON e.stream = 'internal' AND e.sequence = greatest(listener.sequence, h.purged_sequence) + 1"
    " WHERE e.recorded_at < now() - make_interval(days => :days) ORDER BY client_id"
)


async def away(session: AsyncSession, *, keep_days: int, awaited: Collection[str] = ()) -> list[str]:
    """The services that have not confirmed what was told to them longer ago than streams are kept. `awaited`: those that may never have come."""
    return list(await session.scalars(_AWAY, {"days": keep_days, "awaited": list(awaited)}))


async def purge(
    session: AsyncSession, *, keep_days: int, keep_audit_days: int, unheard_days: int = 0, awaited: Collection[str] = (), limit: int = PURGE
) -> int:
    """Forget the oldest events of each stream, at most `limit` each, oldest first and without a hole. Only what was sent goes. Returns how many went.

    What a service that listens to `internal`, or is `awaited` there, has not confirmed is kept until it is older than `unheard_days` as well (decision 0016).
    Of the audit log goes what a checkpoint that was signed so long ago vouches for.
    """
    gone = 0
    for now in await streams.heads(session):
        older, days = (_OLDER_AND_VOUCHED_FOR, keep_audit_days) if now.stream == streams.AUDIT else (_OLDER, keep_days)
        last = await session.scalar(older, {"stream": now.stream, "limit": limit, "days": days})
        if last is not None and now.stream == streams.INTERNAL:
            heard = await session.scalar(_UNHEARD, {"awaited": list(awaited)})
            if heard is not None and heard < last:
                last = max(
                    heard, await session.scalar(_OLDER, {"stream": now.stream, "limit": limit, "days": max(days, unheard_days)}) or 0
                )
        if streams.has_topic(now.stream) and last is not None:
            last = min(last, now.sent_sequence)
        if last is None or last <= now.purged_sequence:
            continue
        await session.execute(
            text(
                "UPDATE streams SET purged_sequence = :last, purged_digest ="
                " (SELECT digest FROM stream_events WHERE stream = :stream AND sequence = :last) WHERE stream = :stream"
            ),
            {"stream": now.stream, "last": last},
        )
        await session.execute(
            text("DELETE FROM stream_events WHERE stream = :stream AND sequence <= :last"), {"stream": now.stream, "last": last}
        )
        gone += last - now.purged_sequence
    return gone
