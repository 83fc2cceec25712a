"""Feeds a projector: from Kafka, the fast path, and from the speakers' feeds wherever Kafka is behind, for whatever reason. One way of recovery.

At least once on the wire: the Kafka offset is committed only after the projector's transaction.
"""

import asyncio
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from libs.chassis import streams
from libs.chassis.ahead import BATCH, Ahead, Fetched
from libs.chassis.bus import Bus, record_of, stop_client
from libs.chassis.database import Database
from libs.chassis.endless import endless
from libs.chassis.feed import Feed, FeedDiverged, FeedError, FeedPast, FeedReplaced
from libs.chassis.health import Heartbeat
from libs.chassis.listener import Heard, Listener, Source
from libs.chassis.projector import ChainBroken, Projector, Read, TooManyParked, transient
from libs.chassis.streams import Place

__all__ = ["Consumer", "Heard", "Listener", "Source", "SourceState"]

_log = structlog.get_logger(__name__)

PAUSE_SECONDS = 15.0
STUCK_SECONDS = 30.0
EXCLUSIVE_LOCK = 0x434F4E53  # "CONS": one consumer at a time where the broker cannot share a group


@dataclass
class SourceState:
    """What the listener knows of one source, for health, metrics and completeness."""

    health: str = "starting"
    detail: str | None = None
    last_progress: float = field(default_factory=time.monotonic)


class Consumer:
    """Feeds a projector from Kafka and, wherever Kafka is behind, from the speakers' feeds. `run` returns only by cancellation."""

    def __init__(
        self,
        database: Database,
        bus: Bus,
        feed: Feed,
        listener: Listener,
        *,
        group: str,
        share_group: bool,
        park_limit: int,
        head_seconds: float,
    ) -> None:
        self._database = database
        self._bus = bus
        self.feed = feed
        self._group = group
        self._share_group = share_group
        self._head_seconds = head_seconds
        self.listener = listener
        self.projector = Projector(database, listener, park_limit=park_limit)
        self._names = [source.name for source in listener.sources]
        self._topics = {bus.topic(name, streams.INTERNAL): name for name in self._names}
        self.states: dict[str, SourceState] = {name: SourceState() for name in self._names}
        self.heartbeat = Heartbeat("consumer", 60)
        self._kafka_progress = time.monotonic()
        self._kafka_connected = False
        self._behind: set[str] = set()
        self._acknowledged: dict[str, tuple[int, int]] = {}

    async def run(self) -> None:
        await self.projector.ensure_cursors()
        async with asyncio.TaskGroup() as both:
            both.create_task(endless(self._listen_for_ever()))
            both.create_task(endless(self._look_at_heads_for_ever()))

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
                await self._bus.ensure_topics(self._topics)
                consumer.subscribe(list(self._topics))
                await consumer.start()
            self._kafka_progress = time.monotonic()
            self._kafka_connected = True
            async with Ahead(consumer, self._read) as ahead:
                while time.monotonic() - self._kafka_progress < STUCK_SECONDS:
                    self.heartbeat.beat()
                    await self._take(consumer, await ahead.take())
                    if not self._behind:
                        self._kafka_progress = time.monotonic()
            _log.warning("consumer.stuck", projection=self.listener.projection)
        finally:
            self._kafka_connected = False
            await stop_client(consumer)

    def _read(self, message: Any) -> Read | None:
        try:
            record = record_of(streams.INTERNAL, message.headers, message.value)
        except (ValueError, KeyError, UnicodeDecodeError):
            # None of ours on our topic: the numbers tell whether something is missing, and the feed brings it
            _log.error("consumer.foreign_message", topic=message.topic, offset=message.offset)
            return None
        return self.projector.read(self._topics[message.topic], record)

    async def _take(self, consumer: AIOKafkaConsumer, fetched: Mapping[TopicPartition, Fetched[Read]]) -> None:
        for place, (run, next_offset) in fetched.items():
            await self._apply_until_done(self._topics[place.topic], run)
            self._kafka_progress = time.monotonic()
            try:
                await consumer.commit({place: next_offset})
            except KafkaError as error:
                # The group rebalanced meanwhile: the next owner gets these again and skips them by the cursor
                _log.info("consumer.commit_refused", error=type(error).__name__)

    async def _apply_until_done(self, source: str, run: Sequence[Read]) -> None:
        """Apply, reading the feed for what is missing, retrying what is transient. Returns only when the records lie behind the cursor, or cannot be had."""
        delay = 0.2
        while True:
            self.heartbeat.beat()
            try:
                if await self._apply(source, run):
                    self._well(source)
                break
            except (ChainBroken, FeedDiverged) as error:
                self._ill(source, "diverged", str(error))
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

    async def _apply(self, source: str, run: Sequence[Read]) -> bool:
        """Whether the records lie behind the cursor, once the feed has brought what it can: what is missing, or the history that replaced another."""
        while True:
            try:
                if await self.projector.apply_read(source, run):
                    return True
            except ChainBroken:
                if not await self.catch_up(source):
                    raise
            else:
                if not await self.catch_up(source):
                    return False

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
        """Read the feed from the cursor to its end. Returns whether the cursor moved. Raises FeedError, FeedDiverged, ChainBroken, TooManyParked."""
        start = await self.projector.where(source)
        while True:
            cursor = await self.projector.where(source)
            try:
                page = await self.feed.events(source, streams.INTERNAL, cursor)
            except FeedReplaced as replaced:
                await self._enter_epoch(source, cursor, replaced.last)
                continue
            except FeedPast as past:
                listing = self.feed.listing(source)
                if not await self.projector.bootstrap(source, listing.read, listing.position):
                    self._ill(source, "lost", f"the feed begins at number {past.oldest_sequence}, heard up to {cursor.sequence}")
                    return False
                continue
            if not page.records:
                if page.head.epoch > cursor.epoch:
                    await self._enter_epoch(source, cursor, replace(cursor, epoch=page.head.epoch))
                return await self.projector.where(source) != start
            first = page.records[0]
            if first.epoch > cursor.epoch and first.sequence == cursor.sequence + 1:
                await self._enter_epoch(source, cursor, replace(cursor, epoch=first.epoch))
            before = await self.projector.where(source)
            await self.projector.apply(source, page.records)
            self.heartbeat.beat()
            if await self.projector.where(source) == before:
                return before != start

    async def _enter_epoch(self, source: str, heard: Place, last: Place) -> None:
        listing = self.feed.listing(source)
        await self.projector.enter_epoch(source, heard, last, listing.read, listing.position)

    async def _look_at_heads_for_ever(self) -> None:
        """A lost tail shows no gap: ask each source for its head, and read the feed when Kafka did not bring what it counts."""
        last_seen: dict[str, int] = defaultdict(int)
        while True:
            for source in self._names:
                try:
                    # the cursor before the head: what holds more than the speaker then holds another history
                    cursor = await self.projector.where(source)
                    head = await self.feed.head(source, streams.INTERNAL)
                    await self.projector.saw_head(source, head)
                    if cursor == head:
                        self._behind.discard(source)
                        self._well(source)
                    elif (
                        cursor.sequence in (last_seen[source], head.sequence)
                        or cursor.sequence > head.sequence
                        or not self._kafka_connected
                    ):
                        # Nothing moved since the last look: Kafka is not bringing it; or there is nothing to bring, and the feed says what is wrong
                        self._behind.add(source)
                        await self.catch_up(source)
                        reached = await self.projector.where(source)
                        if (reached.epoch, reached.sequence) >= (head.epoch, head.sequence):
                            self._well(source)
                    await self._acknowledge(source, head)
                    last_seen[source] = (await self.projector.where(source)).sequence
                except FeedDiverged as error:
                    self._ill(source, "diverged", str(error))
                except (FeedReplaced, FeedPast):
                    last_seen[source] = cursor.sequence  # it is read at the next look
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

    async def _acknowledge(self, source: str, head: Place) -> None:
        """Say how far we acted, once the speaker agrees that we stand in its own history: restored from a backup, it takes what was acknowledged for shared."""
        cursor = await self.projector.where(source)
        acted = min(await self.projector.acted_up_to(source), (cursor.epoch, cursor.sequence))
        if self._acknowledged.get(source) != acted:
            if cursor != head:
                await self.feed.events(source, streams.INTERNAL, cursor, limit=1)
            await self.feed.acknowledge(source, streams.INTERNAL, *acted)
            self._acknowledged[source] = acted
