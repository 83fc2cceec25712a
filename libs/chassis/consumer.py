"""How a service listens: at least once on the wire, exactly once in effect, in order, and no row per event to get there.

In one transaction: lock the cursor, skip what is not after it, check that the next event is the successor by number and digest, apply the handlers, move the
cursor; only then is the Kafka offset committed. Whatever Kafka did not bring, for whatever reason, is read from the speaker's feed: one way of recovery.
"""

import asyncio
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar

import json

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError
from pydantic import ValidationError
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncSession

from libs.chassis import streams
from libs.chassis.bus import Bus, record_of, stop_client
from libs.chassis.database import Database
from libs.chassis.parking import Parked, park, parked_subjects
from libs.chassis.feed import Feed, FeedError, FeedPast, FeedReplaced
from libs.chassis.health import Heartbeat
from libs.chassis.telemetry import continued
from libs.contracts.envelope import Event

_log = structlog.get_logger(__name__)

E = TypeVar("E", bound=Event)
Handler = Callable[[AsyncSession, "Heard[Any]"], Awaitable[None]]
BatchHandler = Callable[[AsyncSession, "Sequence[Heard[Event]]"], Awaitable[None]]
Rewind = Callable[[AsyncSession, str, int], Awaitable[None]]
ReadList = Callable[[str], AsyncIterator[dict[str, Any]]]
Bootstrap = Callable[[AsyncSession, str, ReadList], Awaitable[None]]

BATCH = 2000
PAUSE_SECONDS = 15.0
STUCK_SECONDS = 30.0
EXCLUSIVE_LOCK = 0x434F4E53  # "CONS": one consumer at a time where the broker cannot share a group


@dataclass(frozen=True, slots=True)
class Heard(Generic[E]):
    """One event as a handler gets it."""

    event: E
    source: str
    epoch: int
    sequence: int
    event_id: str
    occurred_at: datetime
    recorded_at: datetime
    subject: str
    correlation_id: str | None
    traceparent: str | None


@dataclass(frozen=True)
class Source:
    """What is heard of one service. A type in neither list is parked, not skipped: a newer speaker said it."""

    name: str
    handles: Mapping[type[Event], Handler] | Collection[type[Event]]
    ignores: Collection[type[Event]] = ()

    def handler(self, event: type[Event]) -> Handler:
        assert isinstance(self.handles, Mapping)
        handler: Handler = self.handles[event]
        return handler


async def forget_nothing(session: AsyncSession, source: str, after_sequence: int) -> None:
    """The `rewind` of a listener whose handlers are upserts of whole states: hearing them again puts everything right."""


@dataclass(frozen=True)
class Listener:
    """A projection: who it hears, what it does with it.

    `apply` takes whole batches where a handler per event would be too slow; `handles` is then a set of types. `rewind` makes the projection forget what it heard
    of a source after a number (the source was restored from a backup). With `keeps_log` that is exact and listening goes on from there; without, everything of the source is
    forgotten and heard anew: from `bootstrap` (the source's lists) where given, else from the start of the feed.
    """

    projection: str
    sources: Sequence[Source]
    apply: BatchHandler | None = None
    rewind: Rewind = forget_nothing
    bootstrap: Bootstrap | None = None
    keeps_log: bool = False


class TooManyParked(Exception):
    """More aggregates would be parked than bad events explain: a bad deployment. The listener pauses and moves nothing."""


class ChainBroken(Exception):
    """The next event is not the successor of what was heard, although its number is."""


@dataclass(frozen=True, slots=True)
class Cursor:
    epoch: int
    sequence: int
    digest: bytes


@dataclass
class SourceState:
    """What the listener knows of one source, for health, metrics and completeness."""

    health: str = "starting"
    detail: str | None = None
    last_progress: float = field(default_factory=time.monotonic)


def transient(error: BaseException) -> bool:
    """Whether an error is of the moment (connection, deadlock, serialisation, resources, shutdown) rather than of the event: SQLSTATE classes 08, 25, 40, 53, 55, 57, 58."""
    if isinstance(error, OSError | TimeoutError | InterfaceError | PoolTimeoutError | FeedError | asyncio.CancelledError):
        return True
    if isinstance(error, DBAPIError):
        if error.connection_invalidated or isinstance(error, OperationalError):
            return True
        state = getattr(error.orig, "sqlstate", None) or ""
        return state == "" or state[:2] in {"08", "25", "40", "53", "55", "57", "58"}
    return False


class Projector:
    """Applies records to a projection: the transaction described at the head of this file. Knows neither Kafka nor HTTP."""

    def __init__(self, database: Database, listener: Listener, *, park_limit: int) -> None:
        self._database = database
        self._listener = listener
        self._park_limit = park_limit
        self.projection = listener.projection
        self._sources = {source.name: source for source in listener.sources}
        self._types = {
            source.name: {kind.type: kind for kind in (*source.handles, *source.ignores)} for source in listener.sources
        }

    async def ensure_cursors(self) -> None:
        """A row must exist before it can be locked."""
        async with self._database.transaction() as session:
            for name in sorted(self._sources):
                await session.execute(
                    text("INSERT INTO cursors (projection, source, stream, digest) VALUES (:projection, :source, :stream, :digest) ON CONFLICT DO NOTHING"),
                    self._key(name) | {"digest": streams.GENESIS},
                )

    def _key(self, source: str) -> dict[str, Any]:
        return {"projection": self._listener.projection, "source": source, "stream": streams.INTERNAL}

    async def cursor(self, session: AsyncSession, source: str, *, lock: bool = False) -> Cursor:
        row = (
            await session.execute(
                text(
                    "SELECT epoch, sequence, digest FROM cursors WHERE projection = :projection AND source = :source AND stream = :stream"
                    + (" FOR UPDATE" if lock else "")
                ),
                self._key(source),
            )
        ).one()
        return Cursor(row.epoch, row.sequence, bytes(row.digest))

    async def where(self, source: str) -> Cursor:
        async with self._database.transaction() as session:
            return await self.cursor(session, source)

    async def apply(self, source: str, records: Sequence[streams.Record]) -> bool:
        """Apply the records that follow the cursor. Returns False when a record is out of reach: some before it are missing, or it is of a newer epoch.

        Raises ChainBroken, TooManyParked, or a transient error; in each case nothing was changed.
        """
        async with self._database.transaction() as session:
            cursor = await self.cursor(session, source, lock=True)
            run, complete = successors(cursor, records)
            if run:
                await self._process(session, source, run)
                await self._move(session, source, Cursor(run[-1].epoch, run[-1].sequence, run[-1].digest))
        return complete

    async def _move(self, session: AsyncSession, source: str, to: Cursor) -> None:
        await session.execute(
            text(
                "UPDATE cursors SET epoch = :epoch, sequence = :sequence, digest = :digest, moved_at = now()"
                " WHERE projection = :projection AND source = :source AND stream = :stream"
            ),
            self._key(source) | {"epoch": to.epoch, "sequence": to.sequence, "digest": to.digest},
        )

    async def _process(self, session: AsyncSession, source: str, run: Sequence[streams.Record]) -> None:
        pending = await parked_subjects(session, self._listener.projection, source)
        parked: list[Parked] = []
        good: list[tuple[streams.Record, Heard[Event]]] = []
        for record in run:
            attributes = json.loads(record.attributes)
            subject = attributes["subject"]
            if subject in pending:
                parked.append(Parked(record, "follows", None))
                continue
            kind = self._types[source].get(attributes["type"])
            if kind is None:
                parked.append(Parked(record, "unknown-type", None))
                pending.add(subject)
                continue
            if kind in self._sources[source].ignores:
                continue
            try:
                good.append((record, heard_of(source, kind, record, attributes)))
            except (ValidationError, ValueError, KeyError) as error:
                parked.append(Parked(record, "invalid", type(error).__name__))
                pending.add(subject)
        await self._apply_or_park(session, source, good, parked, pending)
        if parked:
            if len(pending) > self._park_limit:
                raise TooManyParked(f"{len(pending)} aggregates of {source}")
            await park(session, self._listener.projection, source, parked)
            _log.error("consumer.parked", projection=self._listener.projection, source=source, events=len(parked), causes=sorted({p.cause for p in parked}))

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
                parked.append(Parked(record, "failed", type(error).__name__))
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
        attributes = json.loads(record.attributes)
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
            return type(error).__name__
        return None

    async def enter_epoch(self, source: str, epoch: int, last: Cursor, read_list: ReadList, position: Callable[[], Cursor | None]) -> None:
        """The source opened a new epoch after `last`: forget what it took back."""
        async with self._database.transaction() as session:
            cursor = await self.cursor(session, source, lock=True)
            if cursor.epoch >= epoch:
                return
            if cursor.sequence <= last.sequence:
                await self._move(session, source, Cursor(epoch, cursor.sequence, cursor.digest))
                return
            _log.warning("consumer.rewound", projection=self._listener.projection, source=source, heard=cursor.sequence, valid=last.sequence)
            await session.execute(
                text("DELETE FROM dead_letters WHERE projection = :projection AND source = :source AND stream = :stream AND sequence > :valid"),
                self._key(source) | {"valid": last.sequence},
            )
            await self._listener.rewind(session, source, last.sequence)
            if self._listener.keeps_log:
                await self._move(session, source, Cursor(epoch, last.sequence, last.digest))
            else:
                await self._start_anew(session, source, Cursor(1, 0, streams.GENESIS), read_list, position)

    async def bootstrap(self, source: str, read_list: ReadList, position: Callable[[], Cursor | None]) -> bool:
        """The feed no longer reaches back to the cursor: list, then follow. Returns False when this projection has no such way."""
        if self._listener.bootstrap is None:
            return False
        async with self._database.transaction() as session:
            cursor = await self.cursor(session, source, lock=True)
            await self._start_anew(session, source, cursor, read_list, position)
        return True

    async def _start_anew(
        self, session: AsyncSession, source: str, otherwise: Cursor, read_list: ReadList, position: Callable[[], Cursor | None]
    ) -> None:
        if self._listener.bootstrap is not None:
            await self._listener.bootstrap(session, source, read_list)
        await self._move(session, source, position() or otherwise)

    async def saw_head(self, source: str, head: Cursor) -> None:
        async with self._database.transaction() as session:
            await session.execute(
                text(
                    "UPDATE cursors SET head_epoch = :epoch, head_sequence = :sequence, head_seen_at = now()"
                    " WHERE projection = :projection AND source = :source AND stream = :stream"
                ),
                self._key(source) | {"epoch": head.epoch, "sequence": head.sequence},
            )


def successors(cursor: Cursor, records: Sequence[streams.Record]) -> tuple[list[streams.Record], bool]:
    """The records that follow the cursor without a hole, and whether that was all there was to take.

    What is not after the cursor, or of an older epoch, is skipped. Raises ChainBroken when a successor by number is none by digest.
    """
    run: list[streams.Record] = []
    sequence, previous = cursor.sequence, cursor.digest
    for record in records:
        if record.epoch < cursor.epoch or (record.epoch == cursor.epoch and record.sequence <= sequence):
            continue
        if record.epoch > cursor.epoch or record.sequence != sequence + 1:
            return run, False
        if record.previous_digest != previous:
            if run:
                return run, False  # take what holds; the next look at the feed tells who is wrong
            raise ChainBroken(f"number {record.sequence} of epoch {record.epoch}")
        run.append(record)
        sequence, previous = record.sequence, record.digest
    return run, True


def heard_of(source: str, kind: type[E], record: streams.Record, attributes: Mapping[str, str]) -> Heard[E]:
    return Heard(
        event=kind.model_validate_json(record.data),
        source=source,
        epoch=record.epoch,
        sequence=record.sequence,
        event_id=attributes["id"],
        occurred_at=datetime.fromisoformat(attributes["time"]).astimezone(UTC),
        recorded_at=datetime.fromisoformat(attributes["recordedtime"]).astimezone(UTC),
        subject=attributes["subject"],
        correlation_id=attributes.get("correlationid"),
        traceparent=attributes.get("traceparent"),
    )


class Consumer:
    """Feeds a projector from Kafka and, wherever Kafka is behind, from the speakers' feeds. `run` returns only by cancellation."""

    def __init__(
        self, database: Database, bus: Bus, feed: Feed, listener: Listener, *, group: str, share_group: bool, park_limit: int, head_seconds: float
    ) -> None:
        self._database = database
        self._bus = bus
        self._feed = feed
        self._group = group
        self._share_group = share_group
        self._head_seconds = head_seconds
        self.listener = listener
        self.projector = Projector(database, listener, park_limit=park_limit)
        self._names = [source.name for source in listener.sources]
        self._topics = {streams.topic(name, streams.INTERNAL): name for name in self._names}
        self.states: dict[str, SourceState] = {name: SourceState() for name in self._names}
        self.heartbeat = Heartbeat("consumer", 60)
        self._kafka_progress = time.monotonic()
        self._kafka_connected = False
        self._behind: set[str] = set()

    async def run(self) -> None:
        await self.projector.ensure_cursors()
        async with asyncio.TaskGroup() as both:
            both.create_task(self._listen_for_ever())
            both.create_task(self._look_at_heads_for_ever())

    # Kafka, the fast path

    async def _listen_for_ever(self) -> None:
        delay = 0.5
        while True:
            try:
                if self._share_group:
                    await self._listen()
                else:
                    await self._listen_alone()
                delay = 0.5
            except (KafkaError, OSError, TimeoutError) as error:
                _log.info("consumer.broker_absent", projection=self.listener.projection, error=type(error).__name__)
                self.heartbeat.beat()  # the feed goes on meanwhile
                await asyncio.sleep(delay)
                delay = min(delay * 2, 5)

    async def _listen_alone(self) -> None:
        """Where the broker cannot share a group, the replicas take turns by an advisory lock."""
        connection = await self._database.connect()
        try:
            while not await connection.fetchval("SELECT pg_try_advisory_lock($1)", EXCLUSIVE_LOCK):
                self.heartbeat.beat()
                await asyncio.sleep(1)
            await self._listen()
        finally:
            connection.terminate()

    async def _listen(self) -> None:
        consumer = self._bus.consumer(group=self._group, max_poll_records=BATCH, metadata_max_age_ms=5000)
        try:
            async with asyncio.timeout(15):
                await self._bus.ensure_topics([topic for topic in self._topics if topic])
                consumer.subscribe([topic for topic in self._topics if topic])
                await consumer.start()
            self._kafka_progress = time.monotonic()
            self._kafka_connected = True
            while time.monotonic() - self._kafka_progress < STUCK_SECONDS:
                self.heartbeat.beat()
                fetched = await asyncio.wait_for(consumer.getmany(timeout_ms=1000, max_records=BATCH), 15)
                await self._take(consumer, fetched)
                if not self._behind:
                    self._kafka_progress = time.monotonic()
            _log.warning("consumer.stuck", projection=self.listener.projection)
        finally:
            self._kafka_connected = False
            await stop_client(consumer)

    async def _take(self, consumer: AIOKafkaConsumer, fetched: Mapping[TopicPartition, Sequence[Any]]) -> None:
        for place, messages in fetched.items():
            source = self._topics.get(place.topic)
            if source is None or not messages:
                continue
            records = []
            for message in messages:
                try:
                    records.append(record_of(streams.INTERNAL, message.headers, message.value))
                except (ValueError, KeyError, UnicodeDecodeError):
                    # None of ours on our topic: the numbers tell whether something is missing, and the feed brings it
                    _log.error("consumer.foreign_message", topic=place.topic, offset=message.offset)
            await self._apply_until_done(source, records)
            self._kafka_progress = time.monotonic()
            try:
                await consumer.commit({place: messages[-1].offset + 1})
            except KafkaError as error:
                # The group rebalanced meanwhile: the next owner gets these again and skips them by the cursor
                _log.info("consumer.commit_refused", error=type(error).__name__)

    async def _apply_until_done(self, source: str, records: Sequence[streams.Record]) -> None:
        """Apply, reading the feed for what is missing, retrying what is transient. Returns only when the records lie behind the cursor, or cannot be had."""
        delay = 0.2
        while True:
            self.heartbeat.beat()
            try:
                while not await self.projector.apply(source, records):
                    if not await self.catch_up(source):
                        return
                self._well(source)
                return
            except ChainBroken as error:
                self._ill(source, "diverged", str(error))
                if await self.catch_up(source):
                    continue
                await asyncio.sleep(5)
            except TooManyParked as error:
                self._ill(source, "paused", str(error))
                await self._pause()
            except Exception as error:
                if not transient(error):
                    raise
                self._ill(source, "retrying", type(error).__name__)
                await asyncio.sleep(delay)
                delay = min(delay * 2, 5)

    async def _pause(self) -> None:
        for _ in range(int(PAUSE_SECONDS)):
            self.heartbeat.beat()
            await asyncio.sleep(1)

    def _well(self, source: str) -> None:
        self.states[source].health, self.states[source].detail = "following", None
        self.states[source].last_progress = time.monotonic()

    def _ill(self, source: str, health: str, detail: str) -> None:
        if self.states[source].health != health:
            _log.error(f"consumer.{health}", projection=self.listener.projection, source=source, detail=detail)
        self.states[source].health, self.states[source].detail = health, detail

    # The feed, the truth

    async def catch_up(self, source: str) -> bool:
        """Read the feed from the cursor to its end. Returns whether the cursor moved. Raises FeedError, TooManyParked."""
        start = await self.projector.where(source)
        while True:
            cursor = await self.projector.where(source)
            try:
                page = await self._feed.events(source, streams.INTERNAL, cursor.epoch, cursor.sequence, cursor.digest)
            except FeedReplaced as replaced:
                await self._enter_epoch(source, replaced)
                continue
            except FeedPast as past:
                listing = self._feed.listing(source)
                if not await self.projector.bootstrap(source, listing.read, listing.position):
                    self._ill(source, "lost", f"the feed begins at number {past.oldest_sequence}, heard up to {cursor.sequence}")
                    return False
                continue
            if not page.records:
                if page.head.epoch > cursor.epoch:
                    await self._enter_epoch(source, FeedReplaced(page.head.epoch, cursor.sequence, cursor.digest))
                return await self.projector.where(source) != start
            first = page.records[0]
            if first.epoch > cursor.epoch and first.sequence == cursor.sequence + 1:
                await self._enter_epoch(source, FeedReplaced(first.epoch, cursor.sequence, cursor.digest))
            before = await self.projector.where(source)
            await self.projector.apply(source, page.records)
            self.heartbeat.beat()
            if await self.projector.where(source) == before:
                return before != start

    async def _enter_epoch(self, source: str, replaced: FeedReplaced) -> None:
        listing = self._feed.listing(source)
        last = Cursor(replaced.epoch, replaced.last_sequence, replaced.last_digest)
        await self.projector.enter_epoch(source, replaced.epoch, last, listing.read, listing.position)

    async def _look_at_heads_for_ever(self) -> None:
        """A lost tail shows no gap: ask each source for its head, and read the feed when Kafka did not bring what it counts."""
        last_seen: dict[str, int] = defaultdict(int)
        while True:
            for source in self._names:
                try:
                    head = await self._feed.head(source, streams.INTERNAL)
                    await self.projector.saw_head(source, Cursor(head.epoch, head.sequence, head.digest))
                    cursor = await self.projector.where(source)
                    behind = (cursor.epoch, cursor.sequence) != (head.epoch, head.sequence)
                    if behind and (last_seen[source] == cursor.sequence or not self._kafka_connected):
                        # Nothing moved since the last look: Kafka is not bringing it (or we hold more than the speaker: the feed will say so)
                        self._behind.add(source)
                        await self.catch_up(source)
                        self._well(source)
                    elif not behind:
                        self._behind.discard(source)
                        self._well(source)
                    last_seen[source] = (await self.projector.where(source)).sequence
                except FeedError as error:
                    if self.states[source].health in {"starting", "following"}:
                        self.states[source].detail = f"feed: {error}"
                except TooManyParked as error:
                    self._ill(source, "paused", str(error))
                except ChainBroken as error:
                    self._ill(source, "diverged", str(error))
                except Exception as error:
                    if not transient(error):
                        raise
                    self._ill(source, "retrying", type(error).__name__)
            await asyncio.sleep(self._head_seconds if self._kafka_connected else min(1.0, self._head_seconds))
