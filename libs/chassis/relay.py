"""The relay: takes facts out of the outbox, stamps them with their place in their streams, and sends them.

One relay per service at a time, elected by a PostgreSQL advisory lock held by the very connection it stamps with: when the connection dies, so does the
right to stamp; stand-bys wait for it. Two relays at once would still do no harm: stamping locks the streams' heads, and a number sent twice is skipped by listeners.
"""

import asyncio
import itertools
from collections.abc import Collection
from dataclasses import dataclass
from operator import itemgetter

import asyncpg
import structlog

from libs.chassis import streams
from libs.chassis.bus import Bus, BusError
from libs.chassis.database import Database, RawConnection
from libs.chassis.endless import endless
from libs.chassis.health import Heartbeat

_log = structlog.get_logger(__name__)

BATCH = 1000
LEADER_LOCK = 0x52454C41  # "RELA"
STAND_BY_SECONDS = 1.0
POLL_SECONDS = 0.25
"""NOTIFY wakes the relay at once; this guarantees it when a notice was lost."""


class RelayDiverged(Exception):
    """The topics, or a listener, know a later history than this database: it was restored from the past."""


class NotSent(BusError):
    """The broker took nothing of these streams. What it took of others is noted."""

    def __init__(self, streams: Collection[str], first: BusError) -> None:
        super().__init__(str(first))
        self.streams = streams


_NEW = (
    "INSERT INTO streams (stream, digest, purged_digest) SELECT name, $2, $2 FROM unnest($1::text[]) AS new (name) ON CONFLICT DO NOTHING"
)
_DIVERGED = "SELECT diverged_reason FROM streams WHERE diverged_at IS NOT NULL LIMIT 1"
# a row's own mark is read once it is locked, those of other streams when the statement begins
_LOCKED = (
    f"SELECT stream, epoch, sequence, digest, now() AS now, coalesce(diverged_reason, ({_DIVERGED})) AS diverged"  # noqa: S608 - constants
    " FROM streams WHERE stream = ANY($1::text[]) ORDER BY stream FOR UPDATE"
)
_COLUMNS = ("stream", "sequence", "epoch", "event_id", "type", "subject", "attributes", "data", "digest", "recorded_at")


@dataclass(frozen=True, slots=True)
class _Taken:
    stream: str
    event_id: str
    type: str
    subject: str
    attributes: bytes
    data: bytes


async def stamp(connection: RawConnection, limit: int = BATCH) -> int:
    """Move up to `limit` rows, in order, out of the outbox into their streams: number, digest of the predecessor, new head; one transaction.

    Returns how many were stamped; 0 also when the service has diverged.
    """
    async with connection.transaction():
        rows = await connection.fetch(
            "WITH taken AS (DELETE FROM outbox WHERE position IN (SELECT position FROM outbox ORDER BY position LIMIT $1 FOR UPDATE)"
            " RETURNING position, stream, event_id, type, subject, attributes, data)"
            " SELECT stream, event_id, type, subject, attributes, data FROM taken ORDER BY position",
            limit,
        )
        if not rows:
            return 0
        taken = [_Taken(*row) for row in rows]
        names = sorted({row.stream for row in taken})
        locked = await connection.fetch(_LOCKED, names)
        if len(locked) < len(names):
            await connection.execute(_NEW, names, streams.GENESIS)
            locked = await connection.fetch(_LOCKED, names)
        if reason := next((row["diverged"] for row in locked if row["diverged"] is not None), None):
            raise RelayDiverged(reason)
        heads = {row["stream"]: (row["epoch"], row["sequence"], row["digest"]) for row in locked}
        now = locked[0]["now"]
        stamped = []
        for row in taken:
            epoch, sequence, previous = heads[row.stream]
            sequence += 1
            own = streams.digest(previous, epoch, sequence, row.attributes, row.data)
            heads[row.stream] = (epoch, sequence, own)
            # the audit log is asked for by time: by one that the digest covers
            at = streams.written_at(row.attributes) if row.stream == streams.AUDIT else now
            stamped.append((row.stream, sequence, epoch, row.event_id, row.type, row.subject, row.attributes, row.data, own, at))
        await connection.copy_records_to_table("stream_events", records=stamped, columns=_COLUMNS)
        await connection.execute(
            "UPDATE streams SET sequence = new.sequence, digest = new.digest, stamped_at = now()"
            " FROM unnest($1::text[], $2::bigint[], $3::bytea[]) AS new (stream, sequence, digest) WHERE streams.stream = new.stream",
            names,
            [heads[name][1] for name in names],
            [heads[name][2] for name in names],
        )
        return len(taken)


async def send(connection: RawConnection, bus: Bus, source: str, limit: int = BATCH, among: Collection[str] | None = None) -> int:
    """Send what lies after each stream's `sent_sequence`, in order, then move it: one update a batch. Returns how many were sent.

    `among`: of these streams only; a stream that is stamped for the first time meanwhile is not among those whose topics were looked at.

    Each stream goes on by itself. Raises NotSent when some could not; a part of theirs may then be on the topic already and is sent again.
    """
    rows = await connection.fetch(
        "SELECT next.stream, next.epoch, next.sequence, next.attributes, next.data, next.digest, coalesce(before.digest, streams.purged_digest) AS previous"
        " FROM streams CROSS JOIN LATERAL (SELECT * FROM stream_events WHERE stream = streams.stream AND sequence > streams.sent_sequence"
        " AND sequence <= streams.sequence ORDER BY sequence LIMIT $1) next"
        " LEFT JOIN stream_events before ON before.stream = next.stream AND before.sequence = next.sequence - 1"
        " WHERE streams.sequence > streams.sent_sequence AND streams.stream !~ $2"
        " AND ($3::text[] IS NULL OR streams.stream = ANY($3)) AND NOT EXISTS (SELECT FROM streams WHERE diverged_at IS NOT NULL)"
        " ORDER BY next.stream, next.sequence",
        limit,
        streams.WITHOUT_TOPIC,
        None if among is None else [*among],
    )
    if not rows and (reason := await connection.fetchval(_DIVERGED)):
        raise RelayDiverged(reason)
    batches = [
        (stream, [streams.Record(stream, row["epoch"], row["sequence"], row["previous"], row["attributes"], row["data"]) for row in part])
        for stream, part in itertools.groupby(rows, itemgetter("stream"))
    ]
    ended = await asyncio.gather(*(bus.send(bus.topic(source, stream), records) for stream, records in batches), return_exceptions=True)
    sent = [batch for batch, error in zip(batches, ended, strict=True) if error is None]
    if sent:
        await connection.execute(
            "UPDATE streams SET sent_sequence = new.sequence, sent_at = now() FROM unnest($1::text[], $2::bigint[], $3::integer[]) AS new (stream, sequence, epoch)"
            " WHERE streams.stream = new.stream AND streams.epoch = new.epoch AND streams.sent_sequence < new.sequence",
            [stream for stream, _ in sent],
            [records[-1].sequence for _, records in sent],
            [records[-1].epoch for _, records in sent],
        )
    if errors := [error for error in ended if error is not None]:
        await bus.drop_producer()
        refused = [error for error in errors if isinstance(error, BusError)]
        if len(refused) < len(errors):
            raise next(error for error in errors if not isinstance(error, BusError))
        raise NotSent([stream for (stream, _), error in zip(batches, ended, strict=True) if error is not None], refused[0])
    return len(rows)


def divergence(mine: streams.Head, own_digest: bytes | None, last: streams.Record) -> str | None:
    """Why the newest event on a topic shows that this database was restored from the past; `None` when it does not.

    `own_digest` is this database's digest at the topic's newest number, `None` when it does not hold it.
    """
    if last.epoch > mine.epoch:
        return f"the topic of {mine.stream} knows epoch {last.epoch}, this database only {mine.epoch}"
    if last.epoch < mine.epoch:
        return None
    if last.sequence > mine.sequence:
        return f"the topic of {mine.stream} holds number {last.sequence}, this database only {mine.sequence}"
    if own_digest is not None and own_digest != last.digest:
        return f"the topic of {mine.stream} holds another event at number {last.sequence}"
    return None


class Relay:
    """Stamps and sends for one service, or waits to. `run` returns only by cancellation; a lost connection ends it with an error and the worker starts it again."""

    def __init__(self, database: Database, bus: Bus, source: str) -> None:
        self._database = database
        self._bus = bus
        self._source = source
        self._wake = asyncio.Event()
        self._stamped = asyncio.Event()
        self._compared = asyncio.Event()
        self.leading = False
        self.heartbeat = Heartbeat("relay", 30)
        self.sending = Heartbeat("relay-sending", 60)
        self.bus_error: str | None = None
        self.diverged: str | None = None

    async def run(self) -> None:
        connection = await self._database.connect()
        try:
            while not await connection.fetchval("SELECT pg_try_advisory_lock($1)", LEADER_LOCK):
                self.heartbeat.beat()
                self.sending.beat()
                await asyncio.sleep(STAND_BY_SECONDS)
            self.leading = True
            self._compared.clear()  # a restore cuts the connection, not this process
            _log.info("relay.leading", source=self._source)
            await connection.add_listener("maillon_outbox", self._on_notice)
            async with asyncio.TaskGroup() as both:
                both.create_task(endless(self._stamp_for_ever(connection)))
                both.create_task(endless(self._send_for_ever()))
        finally:
            self.leading = False
            await self._bus.drop_producer()
            await _closed(connection)

    def _on_notice(self, *_: object) -> None:
        self._wake.set()

    async def _stamp_for_ever(self, connection: RawConnection) -> None:
        """Not before the topics were looked at, or the broker was found to be away: a number given after a restore is given twice."""
        while not await _wait(self._compared, POLL_SECONDS):
            self.heartbeat.beat()
        while True:
            self.heartbeat.beat()
            self._wake.clear()
            try:
                stamped = await stamp(connection)
                self.diverged = None
            except RelayDiverged as stop:
                await self._stopped_by(stop)
                continue
            if stamped:
                self._stamped.set()
            if stamped < BATCH:
                await _wait(self._wake, POLL_SECONDS)

    async def _send_for_ever(self) -> None:
        """Its own connection: a broker that hangs must not keep the feed from growing."""
        connection = await self._database.connect()
        looked: set[str] = set()
        try:
            while True:
                self.sending.beat()
                self._stamped.clear()
                try:
                    await self._look_at_topics(connection, looked)
                    sent = await send(connection, self._bus, self._source, among=looked)
                    self.bus_error = None
                except BusError as error:
                    if self.bus_error is None:
                        _log.warning("relay.broker_absent", error=str(error))
                    self.bus_error = str(error)
                    # a refused topic is none but one; when the broker is away, looking fails too
                    looked.difference_update(error.streams if isinstance(error, NotSent) else list(looked))
                    self._compared.set()
                    await asyncio.sleep(1)
                    continue
                except RelayDiverged as stop:
                    await self._stopped_by(stop)
                    continue
                if not sent:
                    await _wait(self._stamped, POLL_SECONDS)
        finally:
            await _closed(connection)

    async def _look_at_topics(self, connection: RawConnection, looked: set[str]) -> None:
        """Before anything of a stream is sent, and again after the broker was away: does its topic know more than this database?"""
        names = {row["stream"] for row in await connection.fetch("SELECT stream FROM streams WHERE stream !~ $1", streams.WITHOUT_TOPIC)}
        # all of a database is restored at once, and `internal` is told nearly everything: it is looked at first, and stamping waits for no other
        for name in sorted(names - looked, key=lambda name: (name != streams.INTERNAL, name)):
            self.sending.beat()
            last = await self._bus.last_record(self._source, name)
            if last is not None:
                async with self._database.transaction() as session:
                    own = await streams.digest_at(session, name, last.sequence)
                    mine = await streams.head(session, name)
                    if reason := divergence(mine, own, last):
                        await streams.mark_diverged(session, name, reason, epoch=mine.epoch)
            looked.add(name)
            self._compared.set()
        self._compared.set()

    async def _stopped_by(self, stop: RelayDiverged) -> None:
        if self.diverged is None:
            _log.error("relay.diverged", reason=str(stop))
        self.diverged = str(stop)
        await asyncio.sleep(1)


async def _wait(event: asyncio.Event, seconds: float) -> bool:
    """Whether it came within so many seconds."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return False
    return True


async def _closed(connection: RawConnection) -> None:
    try:
        await connection.close(timeout=2)
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
        connection.terminate()
