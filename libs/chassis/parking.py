"""Where events that could not be handled are kept, with the later events of the same aggregate, until somebody replays or discards them."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import structlog
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from libs.chassis import streams
from libs.chassis.ids import new_id
from libs.chassis.refusals import NotFound

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Parked:
    """An event to park.

    `cause`: `unknown-type`, `invalid` (it does not parse), `failed` (its handler raised `error`), `follows` (another of its aggregate is parked).
    """

    record: streams.Record
    cause: str
    error: str | None


@dataclass(frozen=True, slots=True)
class DeadLetter:
    id: UUID
    projection: str
    source: str
    epoch: int
    sequence: int
    event_id: str
    type: str
    subject: str
    cause: str
    error: str | None
    status: str
    attempts: int
    parked_at: datetime
    decided_at: datetime | None
    decided_by: str | None
    decision_reason: str | None


COLUMNS = "id, projection, source, epoch, sequence, event_id, type, subject, cause, error, status, attempts, parked_at, decided_at, decided_by, decision_reason"


async def parked_subjects(session: AsyncSession, projection: str, source: str) -> set[str]:
    """The aggregates of a source that have a parked event. Few by construction: the listener pauses before there are many."""
    return set(
        await session.scalars(
            text("SELECT DISTINCT subject FROM dead_letters WHERE projection = :projection AND source = :source AND status = 'parked'"),
            {"projection": projection, "source": source},
        )
    )


async def park(session: AsyncSession, projection: str, source: str, parked: Sequence[Parked]) -> None:
    for one in parked:
        attributes = json.loads(one.record.attributes)
        await session.execute(
            text(
                "INSERT INTO dead_letters (id, projection, source, stream, epoch, sequence, event_id, type, subject, attributes, data, cause, error)"
                " VALUES (:id, :projection, :source, :stream, :epoch, :sequence, :event_id, :type, :subject, :attributes, :data, :cause, :error)"
                " ON CONFLICT DO NOTHING"
            ),
            {
                "id": new_id(),
                "projection": projection,
                "source": source,
                "stream": one.record.stream,
                "epoch": one.record.epoch,
                "sequence": one.record.sequence,
                "event_id": attributes["id"],
                "type": attributes["type"],
                "subject": attributes["subject"],
                "attributes": one.record.attributes,
                "data": one.record.data,
                "cause": one.cause,
                "error": one.error,
            },
        )


async def supersede(session: AsyncSession, projection: str, source: str, listed: streams.Place) -> None:
    """What was parked up to the position of a list is over: replayed, it would bring an old state over a newer one."""
    gone = await session.execute(
        text(
            "UPDATE dead_letters SET status = 'superseded', decided_at = now(), decision_reason = :reason WHERE projection = :projection AND source = :source"
            " AND stream = :stream AND status = 'parked' AND (epoch, sequence) <= (:epoch, :sequence) RETURNING sequence"
        ),
        {
            "projection": projection,
            "source": source,
            "stream": streams.INTERNAL,
            "epoch": listed.epoch,
            "sequence": listed.sequence,
            "reason": f"listed up to number {listed.sequence} of epoch {listed.epoch}",
        },
    )
    if numbers := sorted(gone.scalars()):
        _log.warning("consumer.superseded", projection=projection, source=source, events=numbers)


async def read(session: AsyncSession, letter_id: UUID) -> DeadLetter:
    row = (await session.execute(text(f"SELECT {COLUMNS} FROM dead_letters WHERE id = :id"), {"id": letter_id})).one_or_none()  # noqa: S608 - a constant
    if row is None:
        raise NotFound
    return DeadLetter(*row)


async def page(session: AsyncSession, *, status: str | None, after: UUID | None, limit: int) -> list[DeadLetter]:
    """Oldest first (ids are in order of time)."""
    rows = await session.execute(
        text(
            f"SELECT {COLUMNS} FROM dead_letters WHERE (CAST(:status AS text) IS NULL OR status = :status)"  # noqa: S608 - a constant
            " AND (CAST(:after AS uuid) IS NULL OR id > :after) ORDER BY id LIMIT :limit"
        ),
        {"status": status, "after": after, "limit": limit},
    )
    return [DeadLetter(*row) for row in rows]


async def decide(session: AsyncSession, letter_id: UUID, status: str, by: str, reason: str | None) -> None:
    await session.execute(
        text(
            "UPDATE dead_letters SET status = :status, decided_at = now(), decided_by = :by, decision_reason = :reason, attempts = attempts + 1 WHERE id = :id"
        ),
        {"id": letter_id, "status": status, "by": by, "reason": reason},
    )


async def counts(session: AsyncSession) -> dict[str, int]:
    """How many aggregates of each source are parked, for metrics and readiness."""
    rows = await session.execute(text("SELECT source, count(DISTINCT subject) FROM dead_letters WHERE status = 'parked' GROUP BY source"))
    return {row[0]: row[1] for row in rows}
