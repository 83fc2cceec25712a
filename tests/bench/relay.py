"""`relay`: from the outbox, stamped, to acknowledged by the broker, by the relay itself; against a raw aiokafka producer that is given the same bytes.

Two streams. The relay is at work already and waits when the events are committed; the raw producer has its connection and topics too.
"""

import asyncio
import time

import asyncpg
from aiokafka import AIOKafkaProducer

from libs.chassis import streams
from libs.chassis.bus import PARTITION, Bus, headers_of
from libs.chassis.database import Database
from libs.chassis.outbox import append
from libs.chassis.relay import Relay
from tests.bench.ground import Ground, Line, compared
from tests.chassis.speaking import database, everything, fact, say
from tests.settings import settings_for
from tests.waiting import ended, until

EVENTS = 2000
NAMES = (streams.INTERNAL, "departement:95")

_SENT = "SELECT coalesce(sum(sent_sequence), 0) FROM streams"


async def measure(on: Ground) -> list[Line]:
    async def one() -> tuple[float, float]:
        speaker = database(await on.database(None))
        bus = _bus(on)
        try:
            return await relayed(speaker, bus), await produced(on, speaker)
        finally:
            await bus.close()
            await speaker.close()

    return [compared("relay", await on.rounds(one), "events/s")]


def _bus(on: Ground) -> Bus:
    return Bus(
        settings_for(
            "partners", kafka_bootstrap_servers=on.bootstrap_servers, kafka_create_topics=on.on_kafka, kafka_topic_prefix=on.prefix()
        )
    )


async def relayed(speaker: Database, bus: Bus) -> float:
    """Events a second through the relay, from their commit until the last one is marked as sent."""
    running = asyncio.create_task(Relay(speaker, bus, "partners").run())
    watcher = await asyncpg.connect(speaker.url)

    async def sent(number: int) -> bool:
        return bool(await watcher.fetchval(_SENT) == number)

    try:
        await say(speaker, fact())
        await until(lambda: sent(2), 60)
        async with speaker.transaction() as session:
            await append(session, *(fact() for _ in range(EVENTS)))
            started = time.perf_counter()
        while not await sent(2 * EVENTS + 2):  # noqa: ASYNC110 - a stream tells nobody that it was sent
            await asyncio.sleep(0.005)
        return 2 * EVENTS / (time.perf_counter() - started)
    finally:
        await ended(running)
        await watcher.close()


async def produced(on: Ground, speaker: Database) -> float:
    """Events a second by the producer alone, with keys, headers and values at hand."""
    bus = _bus(on)
    messages = {
        bus.topic("partners", name): [(b"units/0", record.data, headers_of(record)) for record in (await everything(speaker, name))[1:]]
        for name in NAMES
    }
    await bus.ensure_topics(messages)
    producer = AIOKafkaProducer(
        bootstrap_servers=on.bootstrap_servers, acks="all", enable_idempotence=True, linger_ms=0, max_batch_size=256 * 1024
    )
    await producer.start()
    try:
        for topic, [(key, value, headers), *_] in messages.items():
            await producer.send_and_wait(topic, value, key=key, partition=PARTITION, headers=headers)
        started = time.perf_counter()
        acknowledged = [
            await producer.send(topic, value, key=key, partition=PARTITION, headers=headers)
            for topic, those in messages.items()
            for key, value, headers in those
        ]
        await asyncio.gather(*acknowledged)
        return len(acknowledged) / (time.perf_counter() - started)
    finally:
        await producer.stop()
        await bus.close()
