"""`relay`: outbox, stamped, acknowledged by the broker, against a raw producer with the same bytes. Medians of three.

On the embedded broker, or on KAFKA_BOOTSTRAP_SERVERS.
"""

import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from uuid import uuid4

from libs.chassis import streams
from libs.chassis.bus import Bus
from libs.chassis.database import migrate
from libs.chassis.relay import send, stamp
from libs.embedded.broker import Broker
from libs.embedded.postgres import Postgres
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


async def main() -> None:
    given = os.environ.get("KAFKA_BOOTSTRAP_SERVERS")
    broker = None if given else Broker.started()
    servers = given or (broker.bootstrap_servers if broker is not None else "")
    with tempfile.TemporaryDirectory(prefix="maillon-bench-") as folder:
        postgres = Postgres.start(Path(folder) / "postgres")
        measured = []
        for number in range(3):
            postgres.create_database(f"bench_{number}")
            await migrate(postgres.url(f"bench_{number}"), None)
            measured.append(await relay(postgres.url(f"bench_{number}"), servers, bool(given)))
        postgres.stop()
    if broker is not None:
        broker.stop()
    value, baseline = (statistics.median(column) for column in zip(*measured, strict=True))
    ratio = statistics.median(through / raw for through, raw in measured)
    line = {"measure": "relay", "value": round(value), "baseline": round(baseline), "ratio": round(ratio, 2), "unit": "events/s"}
    sys.stdout.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    asyncio.run(main())
