"""The end of a campaign: what every part of the house holds, gathered to be judged against what the clients were told."""

import asyncio
import time
from base64 import b64decode
from collections import defaultdict
from collections.abc import Callable
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from sqlalchemy import text

from libs.chassis import streams
from libs.chassis.bus import record_of
from libs.chassis.database import Database
from libs.contracts import demonstration as d
from libs.contracts.pseudonyms import PseudonymKeys
from libs.embedded.network import Network
from services.reporting.rebuild import rebuild
from tests.proof.accounts import Verdict
from tests.proof.judging import Held, Stream, judge
from tests.proof.readers import Tokens
from tests.proof.standing import SERVICES, Kafka, Standing
from tests.proof.told import BREAKDOWNS, Told

_EVERYTHING = 10_000_000


async def settled(house: Standing, seconds: float, say: Callable[[str], None]) -> bool:
    """Until every part stands again and everything is stamped, sent and heard, or the time is over."""
    deadline, said = time.monotonic() + seconds, 0.0
    databases = {name: Database(house.url(name), pool_size=1) for name in SERVICES}
    left = "everything"
    try:
        while time.monotonic() < deadline:
            try:
                left = ", ".join(await house.silent()) or await _left(databases)
            except Exception as error:  # PostgreSQL may be starting still; whatever else it is ends as "not settled"
                left = type(error).__name__
            if not left:
                return True
            if time.monotonic() > said + 5:
                said = time.monotonic()
                say(f"waiting for {left}")
            await asyncio.sleep(0.5)
        say(f"gave up waiting for {left}")
        return False
    finally:
        for database in databases.values():
            await database.close()


async def _left(databases: dict[str, Database]) -> str:
    heads, left = {}, []
    for name, database in databases.items():
        async with database.transaction() as session:
            outbox = await session.scalar(text("SELECT count(*) FROM outbox"))
            found = await streams.heads(session)
            unsent = sum(head.sequence - head.sent_sequence for head in found if streams.has_topic(head.stream))
            heads[name] = next((head.sequence for head in found if head.stream == streams.INTERNAL), 0)
            if outbox or unsent:
                left.append(f"{name} (outbox {outbox}, unsent {unsent})")
    for name, database in databases.items():
        async with database.transaction() as session:
            for source, sequence in await session.execute(text("SELECT source, sequence FROM cursors")):
                if sequence != heads[source]:
                    left.append(f"{name} (heard {sequence} of {heads[source]} of {source})")
    return ", ".join(left)


async def reckon(house: Standing, kafka: Kafka, network: Network, told: Told, *, wiped: bool) -> tuple[Verdict, int]:
    """The verdict, and how many events were on all streams."""
    held = await _gathered(house, kafka, network)
    return judge(told, held, wiped=wiped), sum(len(stream.kept) for found in held.said.values() for stream in found)


async def _gathered(house: Standing, kafka: Kafka, network: Network) -> Held:
    databases = {name: Database(house.url(name), pool_size=2) for name in SERVICES}
    tokens = Tokens(f"http://127.0.0.1:{house.plan.issuer_port}", house.folder / "issuer")
    try:
        held = Held(
            said={name: await _streams(name, database, kafka, network, tokens) for name, database in databases.items()},
            keys={name: PseudonymKeys(b64decode(house.environments[name][f"{name.upper()}_PSEUDONYM_KEY"])) for name in SERVICES},
            waiting={},
            referrals={},
            orientations=defaultdict(dict),
            facts={},
            rebuilt={},
            figures={measure: await _figure(network, measure, by) for measure, by in BREAKDOWNS.items()},
            answers={str(service): await _answers(network, service) for service in (d.VICTIM_SUPPORT_SERVICE, d.LEGAL_ADVICE_SERVICE)},
        )
        for name, database in databases.items():
            async with database.transaction() as session:
                for table in ("outbox", "dead_letters"):
                    held.waiting[f"{name}, {table}"] = await session.scalar(text(f"SELECT count(*) FROM {table}")) or 0
        async with databases["referrals"].transaction() as session:
            held.referrals.update({str(id): status for id, status in await session.execute(text("SELECT id, status FROM referrals"))})
            for referral_id, id, status in await session.execute(text("SELECT referral_id, id, status FROM orientations")):
                held.orientations[str(referral_id)][str(id)] = status
        async with databases["reporting"].transaction() as session:
            for source in ("referrals", "partners", "funding"):
                heard = text("SELECT sequence, type, data FROM facts WHERE source = :source ORDER BY position")
                held.facts[source] = [(number, type, data) for number, type, data in await session.execute(heard, {"source": source})]
        for listener, database in databases.items():
            async with database.transaction() as session:
                sources = list(await session.scalars(text("SELECT source FROM cursors")))
            for source, number in (await _uncommitted(kafka, listener, sources)).items():
                next(one for one in held.said[source] if one.name == streams.INTERNAL).uncommitted[listener] = number
        held.rebuilt = (await rebuild(databases["reporting"])).differences
        return held
    finally:
        for database in databases.values():
            await database.close()


async def _streams(service: str, database: Database, kafka: Kafka, network: Network, tokens: Tokens) -> list[Stream]:
    found = []
    async with database.transaction() as session:
        heads = await streams.heads(session)
        kept = {head.stream: await streams.read(session, head.stream, head.purged_sequence, _EVERYTHING) for head in heads}
    for head in heads:
        made = Stream(
            head.stream,
            streams.Place(head.epoch, head.sequence, head.digest),
            streams.Place(head.epoch, head.purged_sequence, head.purged_digest),
            list(kept[head.stream]),
        )
        if streams.has_topic(head.stream):
            made.topic = await _on_topic(kafka, service, head.stream)
        if (token := tokens.of(head.stream)) is not None:
            made.feed = await _on_feed(network, service, head.stream, token)
        found.append(made)
    return found


async def _on_topic(kafka: Kafka, source: str, stream: str) -> list[streams.Record]:
    name = streams.topic(source, stream)
    consumer = AIOKafkaConsumer(bootstrap_servers=kafka.address, enable_auto_commit=False)
    await consumer.start()
    try:
        if name not in await consumer.topics():
            return []
        place = TopicPartition(name, 0)
        consumer.assign([place])
        await consumer.seek_to_beginning(place)
        end = (await consumer.end_offsets([place]))[place]
        found: list[streams.Record] = []
        async with asyncio.timeout(60):
            while await consumer.position(place) < end:
                for messages in (await consumer.getmany(timeout_ms=500)).values():
                    found += [record_of(stream, message.headers, message.value) for message in messages]
        return found
    finally:
        await consumer.stop()


async def _uncommitted(kafka: Kafka, listener: str, sources: list[str], seconds: float = 120) -> dict[str, int]:
    """By source, how many messages the listener's consumer group has yet to commit: none soon, when it hears by Kafka and not by the feed alone."""
    places = {source: TopicPartition(streams.topic(source, streams.INTERNAL), 0) for source in sources}
    consumer = AIOKafkaConsumer(bootstrap_servers=kafka.address, enable_auto_commit=False)
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka.address)
    await consumer.start()
    await admin.start()
    try:
        there = await consumer.topics()
        ends = await consumer.end_offsets([place for place in places.values() if place.topic in there])
        deadline = time.monotonic() + seconds
        while True:
            committed = await admin.list_consumer_group_offsets(f"maillon.{listener}")
            left = {
                source: max(0, ends.get(place, 0) - (committed[place].offset if place in committed else 0))
                for source, place in places.items()
            }
            if not any(left.values()) or time.monotonic() > deadline:
                return left
            await asyncio.sleep(0.5)
    finally:
        await consumer.stop()
        await admin.close()


async def _on_feed(network: Network, service: str, stream: str, token: str) -> list[streams.Record]:
    found: list[streams.Record] = []
    while True:
        after = found[-1].sequence if found else 0
        path = f"/v1/streams/{stream}/events?after={after}&limit=1000"
        page = (await network.call(service, "reporting", "GET", path, headers={"Authorization": f"Bearer {token}"})).json()["events"]
        if not page:
            return found
        found += [streams.Record.of_cloudevent(stream, event) for event in page]


async def _figure(network: Network, measure: str, by: str) -> dict[str, int]:
    """By code, empty cells left out."""
    path = f"/v1/figures?measure={measure}&by={by}&departement={d.DEPARTEMENT}"
    answer = (await network.call("reporting", "coordinator-95", "GET", path)).json()
    if by == "total":
        return {"total": answer["total"]["value"] or 0}
    return {cell["code"]: cell["value"] for cell in answer["cells"] if cell["value"]}


async def _answers(network: Network, service: Any) -> dict[str, int]:
    found = (await network.call("partners", "coordinator-95", "GET", f"/v1/services/{service}")).json()
    answers: dict[str, int] = found["answers"] or {}
    return answers
