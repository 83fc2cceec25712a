"""Applies what was heard to a projection: exactly once in effect, in order, and no row per event to get there.

In one transaction: lock the cursor, skip what is not after it, check that the next event is the successor by number and digest, apply the handlers, move the
cursor. Knows neither Kafka nor HTTP.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import asyncpg
import structlog
from pydantic import ValidationError
from pydantic_core import from_json
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncSession

from libs.chassis import streams
from libs.chassis.database import Database, sqlstate
from libs.chassis.feed import FeedError
from libs.chassis.listener import E, Heard, Listener, ReadList
from libs.chassis.parking import Parked, park, parked_subjects, supersede
from libs.chassis.streams import Place
from libs.chassis.telemetry import continued
from libs.contracts.envelope import Event

_log = structlog.get_logger(__name__)


class TooManyParked(Exception):
    """More aggregates would be parked than bad events explain: a bad deployment. The listener pauses and moves nothing."""


class ChainBroken(Exception):
    """The next event is not the successor of what was heard, although its number is."""


TRANSIENT_STATES = frozenset({"08", "25", "40", "53", "55", "57", "58"})
"""SQLSTATE classes: connection, read-only after a failover, serialisation and deadlock, resources, locks, shutdown, system."""


def transient(error: BaseException) -> bool:
    """Whether an error is of the moment (connection, deadlock, serialisation, resources, shutdown) rather than of the event."""
    if isinstance(error, OSError | TimeoutError | PoolTimeoutError | FeedError | asyncio.CancelledError):
        return True
    if isinstance(error, DBAPIError | asyncpg.PostgresError | asyncpg.InterfaceError):
        state = sqlstate(error)
        return not state or state[:2] in TRANSIENT_STATES or (isinstance(error, DBAPIError) and error.connection_invalidated)
    return False


def _named(error: Exception) -> str:
    """What an error is, without what it says, which may quote what was heard."""
    state = sqlstate(error)
    return f"{type(error).__name__} {state}".rstrip()


# one statement: the cursor moves in the transaction that parks
_ACTED = text(
    "SELECT coalesce(parked.epoch, c.epoch) AS epoch, coalesce(parked.sequence - 1, c.sequence) AS sequence FROM cursors c"
    " LEFT JOIN LATERAL (SELECT d.epoch, d.sequence FROM dead_letters d WHERE d.projection = c.projection AND d.source = c.source"
    "  AND d.stream = c.stream AND d.status = 'parked' ORDER BY d.epoch, d.sequence LIMIT 1) AS parked ON true"
    " WHERE c.projection = :projection AND c.source = :source AND c.stream = :stream"
)


class Read(NamedTuple):
    """A record and what it says. Neither heard nor at fault: the listener ignores its type."""

    record: streams.Record
    subject: str
    heard: Heard[Event] | None
    fault: str | None
    """Why it is parked."""
    error: str | None = None
    """Of what kind the error was."""


class Projector:
    """Applies records to a projection: the transaction described at the head of this file. Knows neither Kafka nor HTTP."""

    def __init__(self, database: Database, listener: Listener, *, park_limit: int) -> None:
        self._database = database
        self._listener = listener
        self._park_limit = park_limit
        self.projection = listener.projection
        self._sources = {source.name: source for source in listener.sources}
        self._types = {source.name: {kind.type: kind for kind in (*source.handles, *source.ignores)} for source in listener.sources}

    async def ensure_cursors(self) -> None:
        """A row must exist before it can be locked."""
        async with self._database.transaction() as session:
            for name in sorted(self._sources):
                await session.execute(
                    text(
                        "INSERT INTO cursors (projection, source, stream, digest) VALUES (:projection, :source, :stream, :digest) ON CONFLICT DO NOTHING"
                    ),
                    self._key(name) | {"digest": streams.GENESIS},
                )

    def _key(self, source: str) -> dict[str, Any]:
        return {"projection": self._listener.projection, "source": source, "stream": streams.INTERNAL}

    async def cursor(self, session: AsyncSession, source: str, *, lock: bool = False) -> Place:
        query = "SELECT epoch, sequence, digest FROM cursors WHERE projection = :projection AND source = :source AND stream = :stream"
        row = (await session.execute(text(f"{query} FOR UPDATE" if lock else query), self._key(source))).one()
        return Place(row.epoch, row.sequence, bytes(row.digest))

    async def where(self, source: str) -> Place:
        async with self._database.transaction() as session:
            return await self.cursor(session, source)

    async def acted_up_to(self, source: str) -> tuple[int, int]:
        """Epoch and number up to which everything was acted on: the cursor, or just before the first event that is parked."""
        async with self._database.transaction() as session:
            row = (await session.execute(_ACTED, self._key(source))).one()
        return row.epoch, row.sequence

    def read(self, source: str, record: streams.Record) -> Read:
        """What a record says, before it is known whether it is the next one: touches no database."""
        attributes = from_json(record.attributes)
        subject: str = attributes["subject"]
        kind = self._types[source].get(attributes["type"])
        if kind is None:
            return Read(record, subject, None, "unknown-type")
        if kind in self._sources[source].ignores:
            return Read(record, subject, None, None)
        try:
            return Read(record, subject, heard_of(source, kind, record, attributes), None)
        except (ValidationError, ValueError, KeyError) as error:
            return Read(record, subject, None, "invalid", type(error).__name__)

    async def apply(self, source: str, records: Sequence[streams.Record]) -> bool:
        """`apply_read` of records as they are."""
        return await self.apply_read(source, [self.read(source, record) for record in records])

    async def apply_read(self, source: str, read: Sequence[Read]) -> bool:
        """Apply the records that follow the cursor. Returns False when a record is out of reach: some before it are missing, or it is of a newer epoch.

        Raises ChainBroken, TooManyParked, or a transient error; in each case nothing was changed.
        """
        async with self._database.transaction() as session:
            cursor = await self.cursor(session, source, lock=True)
            run, complete = successors(cursor, read)
            if run:
                await self._process(session, source, run)
                last = run[-1].record
                await self._move(session, source, Place(last.epoch, last.sequence, last.digest))
        return complete

    async def _move(self, session: AsyncSession, source: str, to: Place) -> None:
        await session.execute(
            text(
                "UPDATE cursors SET epoch = :epoch, sequence = :sequence, digest = :digest, moved_at = now()"
                " WHERE projection = :projection AND source = :source AND stream = :stream"
            ),
            self._key(source) | {"epoch": to.epoch, "sequence": to.sequence, "digest": to.digest},
        )

    async def _process(self, session: AsyncSession, source: str, run: Sequence[Read]) -> None:
        pending = await parked_subjects(session, self._listener.projection, source)
        parked: list[Parked] = []
        good: list[tuple[streams.Record, Heard[Event]]] = []
        for record, subject, heard, fault, error in run:
            if subject in pending:
                parked.append(Parked(record, "follows", None))
            elif fault is not None:
                parked.append(Parked(record, fault, error))
                pending.add(subject)
            elif heard is not None:
                good.append((record, heard))
        await self._apply_or_park(session, source, good, parked, pending)
        if parked:
            if len(pending) > self._park_limit:
                raise TooManyParked(f"{len(pending)} aggregates of {source}")
            await park(session, self._listener.projection, source, parked)
            _log.error(
                "consumer.parked",
                projection=self._listener.projection,
                source=source,
                events=len(parked),
                causes=sorted({p.cause for p in parked}),
                errors=sorted({p.error for p in parked if p.error is not None}),
            )

    async def _apply_or_park(
        self,
        session: AsyncSession,
        source: str,
        run: Sequence[tuple[streams.Record, Heard[Event]]],
        parked: list[Parked],
        pending: set[str],
    ) -> None:
        """One savepoint for the run; on failure it is halved until the event that fails stands alone and is parked."""
        todo = []
        for record, heard in run:
            if heard.subject in pending:
                parked.append(Parked(record, "follows", None))
            else:
                todo.append((record, heard))
        if not todo:
            return
        try:
            async with session.begin_nested():
                await self.handle(session, source, [heard for _, heard in todo])
        except Exception as error:
            if transient(error):
                raise
            if len(todo) == 1:
                record, heard = todo[0]
                parked.append(Parked(record, "failed", _named(error)))
                pending.add(heard.subject)
                if len(pending) > self._park_limit:
                    raise TooManyParked(f"{len(pending)} aggregates of {source}") from error
                return
            middle = len(todo) // 2
            await self._apply_or_park(session, source, todo[:middle], parked, pending)
            await self._apply_or_park(session, source, todo[middle:], parked, pending)

    async def handle(self, session: AsyncSession, source: str, run: Sequence[Heard[Event]]) -> None:
        if self._listener.apply is not None:
            with continued(None, None, None, f"apply {self._listener.projection}"):
                await self._listener.apply(session, run)
            return
        for heard in run:
            with continued(heard.correlation_id, heard.event_id, heard.traceparent, f"on {heard.event.type}"):
                await self._sources[source].handler(type(heard.event))(session, heard)

    async def replay_one(self, session: AsyncSession, source: str, record: streams.Record) -> str | None:
        """Try a parked event again, in a savepoint. Returns why it failed, `None` when it took effect. The caller holds the cursor's lock."""
        attributes = from_json(record.attributes)
        kind = self._types[source].get(attributes["type"])
        if kind is None:
            return "unknown-type"
        if kind in self._sources[source].ignores:
            return None
        try:
            async with session.begin_nested():
                await self.handle(session, source, [heard_of(source, kind, record, attributes)])
        except Exception as error:
            if transient(error):
                raise
            return _named(error)
        return None

    async def enter_epoch(self, source: str, heard: Place, last: Place, read_list: ReadList, position: Callable[[], Place | None]) -> None:
        """To a cursor at `heard` the source said that the history after `last` was replaced, by what its epoch goes on with: forget what it took back.

        Where the cursor was moved meanwhile nothing is done: whoever moved it asks again.
        """
        async with self._database.transaction() as session:
            cursor = await self.cursor(session, source, lock=True)
            if cursor != heard:
                return
            if cursor.sequence <= last.sequence:
                await self._move(session, source, Place(last.epoch, cursor.sequence, cursor.digest))
                return
            _log.warning(
                "consumer.rewound", projection=self._listener.projection, source=source, heard=cursor.sequence, valid=last.sequence
            )
            await self._take_back(session, source, last.sequence)
            if self._listener.keeps_log:
                await self._move(session, source, last)
            else:
                await self._start_anew(session, source, Place(1, 0, streams.GENESIS), read_list, position)

    async def _take_back(self, session: AsyncSession, source: str, valid: int) -> None:
        await session.execute(
            text("DELETE FROM dead_letters WHERE projection = :projection AND source = :source AND stream = :stream AND sequence > :valid"),
            self._key(source) | {"valid": valid},
        )
        await self._listener.rewind(session, source, valid)

    async def bootstrap(self, source: str, read_list: ReadList, position: Callable[[], Place | None]) -> bool:
        """The feed no longer reaches back to the cursor: list, then follow. Returns False when this projection has no such way."""
        if self._listener.bootstrap is None:
            return False
        async with self._database.transaction() as session:
            cursor = await self.cursor(session, source, lock=True)
            await self._start_anew(session, source, cursor, read_list, position)
        return True

    async def go_on(self, source: str, heard: Place, valid: int, beginning: Place) -> int | None:
        """Follow from where the feed begins, without what came before: counted, and told with every figure. Returns how many; None where the cursor was moved.

        `valid`: the last number heard that holds; what a history told after it that was replaced meanwhile is forgotten.
        """
        async with self._database.transaction() as session:
            if await self.cursor(session, source, lock=True) != heard:
                return None
            missed = max(beginning.sequence - valid, 0)
            if heard.sequence > valid:
                await self._take_back(session, source, valid)
            await self._move(session, source, beginning)
            await session.execute(
                text(
                    "UPDATE cursors SET missed = missed + :missed WHERE projection = :projection AND source = :source AND stream = :stream"
                ),
                self._key(source) | {"missed": missed},
            )
        _log.warning(
            "consumer.went_on", projection=self._listener.projection, source=source, heard=heard.sequence, valid=valid, missed=missed
        )
        return missed

    async def _start_anew(
        self, session: AsyncSession, source: str, otherwise: Place, read_list: ReadList, position: Callable[[], Place | None]
    ) -> None:
        whole = self._listener.bootstrap is not None and await self._listener.bootstrap(session, source, read_list)
        listed = position()
        if whole and listed is not None:
            await supersede(session, self._listener.projection, source, listed)
        await self._move(session, source, listed or otherwise)

    async def saw_head(self, source: str, head: Place) -> None:
        async with self._database.transaction() as session:
            await session.execute(
                text(
                    "UPDATE cursors SET head_epoch = :epoch, head_sequence = :sequence, head_seen_at = now()"
                    " WHERE projection = :projection AND source = :source AND stream = :stream"
                ),
                self._key(source) | {"epoch": head.epoch, "sequence": head.sequence},
            )


class Reached(NamedTuple):
    """ "Seen `sequence` of `head_sequence`, at `head_seen_at`", of one source. The head is asked for every few seconds: what was heard since is part of it."""

    source: str
    epoch: int
    sequence: int
    head_sequence: int | None
    head_seen_at: datetime | None
    missed: int
    """Events before `sequence` that were never heard: they were no longer kept when somebody decided to go on without them."""


_REACHED = text(
    "SELECT source, epoch, sequence, CASE WHEN head_epoch = epoch THEN greatest(head_sequence, sequence) ELSE head_sequence END, head_seen_at, missed"
    " FROM cursors WHERE projection = :projection ORDER BY source"
)


async def reached(session: AsyncSession, projection: str) -> list[Reached]:
    """How far each source was heard when the snapshot of this transaction was taken, and how far it was known to have spoken."""
    return [Reached(*row) for row in await session.execute(_REACHED, {"projection": projection})]


def successors(cursor: Place, read: Sequence[Read]) -> tuple[list[Read], bool]:
    """The records that follow the cursor without a hole, and whether that was all there was to take.

    What is not after the cursor, or of an older epoch, is skipped. Raises ChainBroken when a successor by number is none by digest.
    """
    run: list[Read] = []
    sequence, previous = cursor.sequence, cursor.digest
    for one in read:
        record = one.record
        if record.epoch < cursor.epoch or (record.epoch == cursor.epoch and record.sequence <= sequence):
            continue
        if record.epoch > cursor.epoch or record.sequence != sequence + 1:
            return run, False
        if record.previous_digest != previous:
            if run:
                return run, False  # take what holds; the next look at the feed tells who is wrong
            raise ChainBroken(f"number {record.sequence} of epoch {record.epoch}")
        run.append(one)
        sequence, previous = record.sequence, record.digest
    return run, True


def heard_of(source: str, kind: type[E], record: streams.Record, attributes: Mapping[str, str]) -> Heard[E]:
    return Heard(
        event=kind.__pydantic_validator__.validate_json(record.data),
        source=source,
        epoch=record.epoch,
        sequence=record.sequence,
        event_id=attributes["id"],
        occurred_at=datetime.fromisoformat(attributes["time"]).astimezone(UTC),
        recorded_at=datetime.fromisoformat(attributes["recordedtime"]).astimezone(UTC),
        subject=attributes["subject"],
        data=record.data,
        correlation_id=attributes.get("correlationid"),
        traceparent=attributes.get("traceparent"),
    )
