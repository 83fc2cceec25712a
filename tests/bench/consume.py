"""`consume`: from Kafka to figures committed, against a raw aiokafka consumer that COPYs the same events into a table like the log of facts.

Both consumers stand ready before the events are sent, so that both begin with what their client has fetched already: ours is held by the lock of its
cursor, which the measure then lets go. What ours has read of them meanwhile (`ahead.py`) is read once more and added, as if nothing had gone on beside it.
"""

import asyncio
import time
from datetime import datetime
from uuid import UUID

import asyncpg
from aiokafka import AIOKafkaConsumer, TopicPartition

from libs.chassis import streams
from libs.chassis.ahead import BATCH
from libs.chassis.bus import PARTITION, Bus, headers_of, record_of, stop_client
from libs.chassis.consumer import Consumer
from libs.chassis.database import Database, RawConnection
from libs.chassis.feed import Feed
from libs.chassis.security import ServiceToken
from libs.chassis.streams import Record
from services.reporting.handlers import LISTENER
from tests.bench.ground import Ground, Line, compared
from tests.bench.told import lives, records
from tests.settings import settings_for
from tests.waiting import ended, until

WARM = 200
EVENTS = 3000
"""The embedded broker keeps 5 MB of a topic: they must fit. On Apache Kafka several times as many."""

_SEQUENCE = "SELECT sequence FROM cursors WHERE projection = 'figures' AND source = 'referrals'"


async def measure(on: Ground) -> list[Line]:
    told = records(lives(EVENTS * (5 if on.on_kafka else 1) + WARM))

    async def one() -> tuple[float, float]:
        url = await on.database("reporting")
        return await consumed(on, url, told), await copied(on, await on.database("reporting"), told)

    return [compared("consume", await on.rounds(one), "events/s")]


def _bus(on: Ground) -> Bus:
    return Bus(
        settings_for(
            "reporting", kafka_bootstrap_servers=on.bootstrap_servers, kafka_create_topics=on.on_kafka, kafka_topic_prefix=on.prefix()
        )
    )


async def consumed(on: Ground, url: str, told: list[Record]) -> float:
    """Events a second through our consumer, into the figures of this database."""
    settings = settings_for("reporting")
    database, bus, feed = Database(url), _bus(on), Feed({}, ServiceToken(settings))
    consumer = Consumer(database, bus, feed, LISTENER, group=on.prefix(), share_group=on.on_kafka, park_limit=50, head_seconds=3600)
    topic = bus.topic("referrals", streams.INTERNAL)
    running = asyncio.create_task(consumer.run())
    watcher = await asyncpg.connect(url)

    async def stands_at(number: int) -> bool:
        return bool(await watcher.fetchval(_SEQUENCE) == number)

    try:
        await bus.send(topic, told[:WARM])
        await until(lambda: stands_at(told[WARM - 1].sequence), 60)
        async with watcher.transaction():
            await watcher.execute(f"{_SEQUENCE} FOR UPDATE")
            await _sent(bus, topic, told[WARM:])
            started = time.perf_counter()
        while not await stands_at(told[-1].sequence):  # noqa: ASYNC110 - a cursor tells nobody that it moved
            await asyncio.sleep(0.005)
        seconds = time.perf_counter() - started
        return (len(told) - WARM) / (seconds + _seconds_to_read(consumer, told[WARM : WARM + BATCH]))
    finally:
        await ended(running)
        await watcher.close()
        await feed.close()
        await bus.close()
        await database.close()


def _seconds_to_read(consumer: Consumer, told: list[Record]) -> float:
    messages = [(headers_of(record), record.data) for record in told]
    started = time.perf_counter()
    for headers, value in messages:
        consumer.projector.read("referrals", record_of(streams.INTERNAL, headers, value))
    return time.perf_counter() - started


async def _sent(bus: Bus, topic: str, told: list[Record]) -> None:
    for first in range(0, len(told), 1000):
        await bus.send(topic, told[first : first + 1000])
    await asyncio.sleep(0.5)  # the consumers' clients fetch ahead


async def copied(on: Ground, url: str, told: list[Record]) -> float:
    """Events a second by hand: consumed and copied, a commit each time, nothing checked and nothing counted."""
    bus = _bus(on)
    topic = bus.topic("referrals", streams.INTERNAL)
    place = TopicPartition(topic, PARTITION)
    consumer = bus.consumer(group=on.prefix(), max_poll_records=BATCH)
    connection = await asyncpg.connect(url)
    try:
        await bus.send(topic, told[:WARM])
        consumer.subscribe([topic])
        await consumer.start()
        while await _copy(consumer, place, connection) == 0:
            continue
        await _sent(bus, topic, told[WARM:])
        started, left = time.perf_counter(), len(told) - WARM
        while left:
            left -= await _copy(consumer, place, connection)
        return (len(told) - WARM) / (time.perf_counter() - started)
    finally:
        await stop_client(consumer)
        await connection.close()
        await bus.close()


async def _copy(consumer: AIOKafkaConsumer, place: TopicPartition, connection: RawConnection) -> int:
    messages = (await consumer.getmany(timeout_ms=1000, max_records=BATCH)).get(place, [])
    if not messages:
        return 0
    rows = []
    for message in messages:
        headers = dict(message.headers)
        rows.append(
            (
                "referrals",
                int(headers["ce_epoch"]),
                int(headers["ce_sequence"]),
                headers["ce_type"].decode(),
                UUID(message.key.decode().rpartition("/")[2]),
                datetime.fromisoformat(headers["ce_time"].decode()),
                message.value.decode(),
            )
        )
    async with connection.transaction():
        columns = ["source", "epoch", "sequence", "type", "subject", "occurred_at", "data"]
        await connection.copy_records_to_table("facts", records=rows, columns=columns)
    await consumer.commit({place: messages[-1].offset + 1})
    return len(messages)
