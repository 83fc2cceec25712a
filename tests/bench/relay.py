"""`relay`: outbox, stamped, acknowledged by the broker, against a raw producer with the same bytes."""

import asyncio
import time
from uuid import uuid4

from libs.chassis import streams
from libs.chassis.bus import Bus
from libs.chassis.relay import send, stamp
from tests.bench.ground import Ground, Line, compared
from tests.chassis.speaking import database, everything, fact, say
from tests.settings import settings_for

EVENTS = 2000


async def relay(url: str, bootstrap_servers: str, on_kafka: bool) -> tuple[float, float]:
    """Events a second through the relay, and through the producer alone: two streams each."""
    speaker = database(url)
    settings = settings_for(
        "partners", kafka_bootstrap_servers=bootstrap_servers, kafka_create_topics=on_kafka, kafka_topic_prefix=f"b{uuid4().hex[:8]}"
    )
    bus, connection = Bus(settings), await speaker.connect()
    await say(speaker, fact())
    while await stamp(connection) or await send(connection, bus, "partners"):
        continue  # topics made, connections warm
    await say(speaker, *(fact() for _ in range(EVENTS)))
    started = time.perf_counter()
    while await stamp(connection) or await send(connection, bus, "partners"):
        continue
    through_relay = 2 * EVENTS / (time.perf_counter() - started)
    records = (await everything(speaker))[1:]
    started = time.perf_counter()
    for first in range(0, EVENTS, 1000):
        part = records[first : first + 1000]
        await asyncio.gather(*(bus.send(bus.topic("partners", name), part) for name in (streams.INTERNAL, "departement:95")))
    raw = 2 * EVENTS / (time.perf_counter() - started)
    await bus.close()
    await connection.close()
    await speaker.close()
    return through_relay, raw


async def measure(on: Ground) -> list[Line]:
    async def one() -> tuple[float, float]:
        return await relay(await on.database(None), on.bootstrap_servers, on.on_kafka)

    return [compared("relay", await on.rounds(one), "events/s")]
