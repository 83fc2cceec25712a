"""`visible`: from a referral's acknowledgement to its figure in reporting's database, in milliseconds; at 100 a second, and one now and then.

Both services whole: outbox, relay, Kafka, consumer. A figure is there when another connection can read it: looked for every two milliseconds.
Measured once Kafka brings the events: joining a group takes a listener three seconds, in which it reads the feed, once a second.
"""

import asyncio
import json
import time
from uuid import UUID

import asyncpg
from aiokafka import AIOKafkaConsumer, TopicPartition

from libs.chassis import streams
from libs.chassis.bus import PARTITION, stop_client
from libs.embedded.broker import HOST
from tests.bench.ground import Ground, Line, alone, until_answers
from tests.bench.load import Make, paced, post, referral
from tests.waiting import ended

A_SECOND = 100
NOW_AND_THEN = 4

_COUNTED = "SELECT referral_id FROM situations WHERE referral_id = ANY($1) AND received_on IS NOT NULL"


async def measure(on: Ground) -> list[Line]:
    prefix = on.prefix()
    speaker, _ = await on.start("referrals", await on.database("referrals"), KAFKA_TOPIC_PREFIX=prefix)
    url = await on.database("reporting")
    await on.start("reporting", url, sources={"referrals": f"http://{HOST}:{speaker}"}, KAFKA_TOPIC_PREFIX=prefix)
    await until_answers(f"http://{HOST}:{speaker}/readyz")
    make = post("/v1/referrals", await on.token("police-95"), referral)
    on.say("warms up")
    await delays(speaker, url, make, a_second=A_SECOND, seconds=1)
    await _listens(on, prefix)
    await delays(speaker, url, make, a_second=A_SECOND, seconds=1)
    busy, idle = [], []
    for number in range(1, on.sizes.rounds + 1):
        on.say(f"{A_SECOND} a second, round {number} of {on.sizes.rounds}")
        busy.append(await delays(speaker, url, make, a_second=A_SECOND, seconds=on.sizes.seconds))
        on.say(f"idle, round {number} of {on.sizes.rounds}")
        idle.append(await delays(speaker, url, make, a_second=NOW_AND_THEN, seconds=2 * on.sizes.seconds, connections=1))
    return [
        alone(name, [part(one, share) for one in rounds], "ms")
        for name, rounds, share in (
            ("visible.p50", busy, 0.50),
            ("visible.p95", busy, 0.95),
            ("visible.idle.p50", idle, 0.50),
            ("visible.idle.p95", idle, 0.95),
        )
    ]


async def _listens(on: Ground, prefix: str) -> None:
    """Until reporting has committed what Kafka brought it of referrals."""
    consumer = AIOKafkaConsumer(bootstrap_servers=on.bootstrap_servers, group_id=f"{prefix}.reporting", enable_auto_commit=False)
    place = TopicPartition(streams.topic("referrals", streams.INTERNAL, prefix), PARTITION)
    await consumer.start()
    try:
        consumer.assign([place])  # by hand: no member of the group
        async with asyncio.timeout(60):
            while await consumer.committed(place) is None:  # noqa: ASYNC110 - an offset tells nobody that it moved
                await asyncio.sleep(0.05)
    finally:
        await stop_client(consumer)


def part(values: list[float], share: float) -> float:
    """The value that this share of them does not exceed."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


async def delays(port: int, url: str, make: Make, *, a_second: float, seconds: float, connections: int = 16) -> list[float]:
    """Milliseconds between the answer to each referral and its figure; 0 for a figure that was there first."""
    answered: dict[UUID, float] = {}
    seen: dict[UUID, float] = {}
    watching = asyncio.create_task(_watch(url, answered, seen))
    try:
        await paced(
            port,
            make,
            lambda body: answered.setdefault(UUID(json.loads(body)["id"]), time.perf_counter()),
            a_second=a_second,
            seconds=seconds,
            connections=connections,
        )
        async with asyncio.timeout(60):
            while answered.keys() - seen.keys():  # noqa: ASYNC110 - a figure tells nobody that it is there
                await asyncio.sleep(0.01)
    finally:
        await ended(watching)
    return [max(0.0, seen[one] - answered[one]) * 1000 for one in answered]


async def _watch(url: str, answered: dict[UUID, float], seen: dict[UUID, float]) -> None:
    connection = await asyncpg.connect(url)
    try:
        while True:
            if missing := answered.keys() - seen.keys():
                found = await connection.fetch(_COUNTED, list(missing))
                now = time.perf_counter()
                seen.update((row["referral_id"], now) for row in found)
            await asyncio.sleep(0.002)
    finally:
        connection.terminate()
