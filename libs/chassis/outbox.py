"""The outbox: facts are said in the transaction that makes them true.

An event is validated, projected for every audience and serialised here, at append: what cannot be published fails its own command, not the relay. The caller
has locked the aggregate before (a transaction that draws its outbox position and then waits for the lock publishes two facts of one aggregate in the wrong order).
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from libs.chassis.database import copy
from libs.chassis.ids import new_id
from libs.chassis.streams import INTERNAL, canonical
from libs.chassis.telemetry import Trace, current_trace
from libs.contracts.envelope import Event, Projection
from libs.contracts.types import day_of, write_instant

SESSION_KEY = "speaker"


@dataclass(frozen=True)
class Speaker:
    """Who speaks: the CloudEvents source and how its events are projected for the audiences. Rides in every session of the service."""

    source: str
    project: Callable[[Event, UUID], Sequence[Projection]]


class Said(NamedTuple):
    """One row of the outbox: one event as one audience is told."""

    stream: str
    event_id: str
    type: str
    subject: str
    attributes: bytes
    data: bytes


def source_uri(source: str) -> str:
    """The CloudEvents `source` attribute of a service."""
    return f"urn:maillon:{source}"


def write(speaker: Speaker, event: Event, occurred_at: datetime | None, trace: Trace | None = None) -> list[Said]:
    """What each audience is told of an event, as the rows to insert. Only `internal` learns how facts hang together (correlation, causation, trace)."""
    now = write_instant(datetime.now(UTC))
    time = now if occurred_at is None else write_instant(occurred_at)
    trace = trace or current_trace()
    source, schema = source_uri(speaker.source), f"urn:maillon:schema:{event.type}"
    said = []
    for told in speaker.project(event, new_id()):
        inside = told.audience == INTERNAL
        # in the order of `canonical`, which sorts what is not
        attributes = {
            "datacontenttype": "application/json",
            "dataclassification": event.classification,
            "dataschema": schema if inside else f"{schema}:{told.audience.partition(':')[0]}",
            "id": told.event_id,
            "recordedtime": day_of(now) if told.by_day else now,
            "source": source,
            "specversion": "1.0",
            "subject": told.subject,
            "time": day_of(time) if told.by_day else time,
        }
        if inside:
            attributes = _woven(attributes, trace)
        attributes["type"] = event.type
        said.append(Said(told.audience, told.event_id, event.type, told.subject, canonical(attributes), told.data))
    return said


def _woven(attributes: dict[str, str], trace: Trace) -> dict[str, str]:
    """With how the fact hangs together with others."""
    before = {"correlationid": trace.correlation_id}
    if trace.causation_id is not None:
        before = {"causationid": trace.causation_id, **before}
    return {**before, **attributes, "traceparent": trace.traceparent}


async def append(session: AsyncSession, *events: Event, occurred_at: datetime | None = None) -> list[Said]:
    """Say facts, in order, in the caller's transaction. `occurred_at` is when they happened, now unless told. Gives what each audience will be told."""
    speaker: Speaker = session.info[SESSION_KEY]
    said = [row for event in events for row in write(speaker, event, occurred_at)]
    await insert(session, said)
    return said


def written(session: AsyncSession, events: Iterable[tuple[Event, Trace | None]]) -> list[Said]:
    """The facts of many requests that one transaction does, each with the story it is part of; said once they are given to `insert`."""
    speaker: Speaker = session.info[SESSION_KEY]
    return [row for event, trace in events for row in write(speaker, event, None, trace)]


async def append_raw(session: AsyncSession, *, stream: str, type: str, subject: str, data: bytes) -> None:
    """Write an entry of the chassis' own (the audit log) to a stream that is no audience's: numbered and chained like any other."""
    speaker: Speaker = session.info[SESSION_KEY]
    now = write_instant(datetime.now(UTC))
    event_id = str(new_id())
    attributes = canonical(
        {
            "specversion": "1.0",
            "source": source_uri(speaker.source),
            "type": type,
            "id": event_id,
            "subject": subject,
            "time": now,
            "recordedtime": now,
            "datacontenttype": "application/json",
            "dataclassification": "restricted",
        }
    )
    await insert(session, [Said(stream, event_id, type, subject, attributes, data)])


async def insert(session: AsyncSession, rows: Sequence[Said]) -> None:
    """Say what was written, in this order."""
    if rows:
        await copy(session, "outbox", Said._fields, rows)
