"""The end of a campaign: three independent accounts compared, and every stream by every door."""

import asyncio
import json
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from sqlalchemy import text

from libs.chassis import streams
from libs.chassis.bus import record_of
from libs.chassis.database import Database
from libs.contracts import demonstration as d
from libs.embedded.network import Network
from services.reporting.rebuild import rebuild
from tests.proof.accounts import Verdict
from tests.proof.clients import PERSONS, Told
from tests.proof.standing import SERVICES, Kafka, Standing

_TOLD = frozenset({"referral", "contact", "interview", "assessment", "orientation"})
READERS = {"internal": "reporting", "departement:95": "coordinator-95", "interior": "interior", "justice": "justice"}
"""Stream → who reads its feed."""


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
    verdict, events = Verdict(), 0
    for service in SERVICES:
        database = Database(house.url(service), pool_size=2)
        try:
            async with database.transaction() as session:
                heads = await streams.heads(session)
                kept = {head.stream: await streams.read(session, head.stream, head.purged_sequence, 10_000_000) for head in heads}
                parked = await session.scalar(text("SELECT count(*) FROM dead_letters"))
                outbox = await session.scalar(text("SELECT count(*) FROM outbox"))
            verdict.add(f"{service}, parked", missing=parked or 0)
            verdict.add(f"{service}, outbox", missing=outbox or 0)
            for head in heads:
                records = kept[head.stream]
                events += len(records)
                begin = streams.Place(head.epoch, head.purged_sequence, head.purged_digest)
                verdict.stream(f"{service}, {head.stream}, database", records, streams.Place(head.epoch, head.sequence, head.digest), begin)
                if streams.has_topic(head.stream):
                    found = await _on_topic(kafka, service, head.stream)
                    by_number = {record.sequence: record for record in records}
                    verdict.topic(f"{service}, {head.stream}, topic", found, by_number, head.sequence, whole=not wiped)
                if head.stream in READERS:
                    await _feed(verdict, network, service, head.stream, records)
            if service == "referrals":
                await _referrals(verdict, database, kept, told)
            if service == "reporting":
                await _reporting(verdict, database, house)
        finally:
            await database.close()
    await _figures(verdict, network, told)
    return verdict, events


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


async def _feed(verdict: Verdict, network: Network, service: str, stream: str, kept: list[streams.Record]) -> None:
    """What the feed gives is, byte for byte, what the database holds."""
    found: list[streams.Record] = []
    while True:
        after = found[-1].sequence if found else 0
        path = f"/v1/streams/{stream}/events?after={after}&limit=1000"
        page = (await network.call(service, READERS[stream], "GET", path)).json()["events"]
        if not page:
            break
        found += [streams.Record.of_cloudevent(stream, event) for event in page]
    wrong = sum(one != other for one, other in zip(found, kept, strict=False))
    verdict.add(
        f"{service}, {stream}, feed", chain_breaks=wrong, missing=max(0, len(kept) - len(found)), doubled=max(0, len(found) - len(kept))
    )


async def _referrals(verdict: Verdict, database: Database, kept: dict[str, list[streams.Record]], told: Told) -> None:
    """The clients' account against the events said, and against the rows."""
    said: dict[str, list[str]] = defaultdict(list)
    for record in kept[streams.INTERNAL]:
        fact = json.loads(record.attributes)["type"].removeprefix("fr.maillon.").removesuffix(".v1")
        if fact.partition(".")[0] in _TOLD:
            said[json.loads(record.data)["referral_id"]].append(fact)
    verdict.compare("told / said", told.facts, said)
    async with database.transaction() as session:
        rows = {str(id): [status] for id, status in await session.execute(text("SELECT id, status FROM referrals"))}
        orientations: dict[str, list[str]] = defaultdict(list)
        for id, status in await session.execute(text("SELECT referral_id, status FROM orientations")):
            orientations[str(id)].append(status)
    verdict.compare("told / referrals", {one: ["closed"] for one in told.facts}, rows)
    ends = {one: [facts[-2].removeprefix("orientation.")] for one, facts in told.facts.items()}
    verdict.compare("told / orientations", ends, orientations)


async def _reporting(verdict: Verdict, database: Database, house: Standing) -> None:
    """Every fact that was said is in reporting's log once; the figures rebuilt from it equal the live ones."""
    async with database.transaction() as session:
        facts = {
            source: (number, different)
            for source, number, different in await session.execute(
                text("SELECT source, count(*), count(DISTINCT (epoch, sequence)) FROM facts GROUP BY source")
            )
        }
    for source in ("referrals", "partners", "funding"):
        other = Database(house.url(source), pool_size=1)
        async with other.transaction() as session:
            head = await streams.head(session, streams.INTERNAL)
        await other.close()
        number, different = facts.get(source, (0, 0))
        verdict.add(f"reporting, facts of {source}", missing=max(0, head.sequence - different), doubled=number - different)
    rebuilt = await rebuild(database)
    verdict.add("reporting, rebuilt beside the live figures", missing=sum(rebuilt.differences.values()))


async def _figures(verdict: Verdict, network: Network, told: Told) -> None:
    """What reporting and partners count over HTTP."""
    for measure, number in {
        "situations": len(told.facts),
        "persons": PERSONS * len(told.facts),
        "orientations": told.answers["orientation.requested"],
    }.items():
        path = f"/v1/figures?measure={measure}&departement={d.DEPARTEMENT}"
        answer = (await network.call("reporting", "coordinator-95", "GET", path)).json()
        verdict.count(f"reporting, {measure}", number, answer["total"]["value"] or 0)
    found: dict[str, Any] = (await network.call("partners", "coordinator-95", "GET", f"/v1/services/{d.VICTIM_SUPPORT_SERVICE}")).json()[
        "answers"
    ] or {"accepted": 0, "rejected": 0}
    for answer in ("accepted", "rejected"):
        verdict.count(f"partners, {answer}", told.answers[f"orientation.{answer}"], found[answer])
