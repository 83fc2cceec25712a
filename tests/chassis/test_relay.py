"""The relay on a real broker: everything said arrives, in order, with its numbers, whatever the broker does meanwhile."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from uuid import uuid4

import pytest
from aiokafka import TopicPartition
from sqlalchemy import text

from libs.chassis import bus as bus_module
from libs.chassis import relay as relay_module
from libs.chassis import streams, worker
from libs.chassis.bus import Bus, BusError, record_of, stop_client
from libs.chassis.database import Database, RawConnection
from libs.chassis.outbox import SESSION_KEY, Speaker
from libs.chassis.relay import Relay, RelayDiverged, send, stamp
from libs.contracts.envelope import Projection
from libs.embedded.broker import Broker
from tests.chassis.speaking import MORNING, broken_links, database, everything, fact, say, stamp_all
from tests.planted import seen_red
from tests.settings import settings_for
from tests.waiting import ended, until

pytestmark = pytest.mark.kafka
DatabaseUrl = Callable[[str | None], str]


async def on_topic(bus: Bus, stream: str = streams.INTERNAL, at_least: int = 0) -> list[streams.Record]:
    """All that lies on the topic of a stream, once at least so many have come."""
    consumer = bus.consumer(group=None)
    place = TopicPartition(bus.topic("partners", stream), 0)
    await consumer.start()
    try:
        consumer.assign([place])
        await consumer.seek_to_beginning(place)
        found: list[streams.Record] = []
        async with asyncio.timeout(60):
            while len(found) < at_least or await consumer.position(place) < (await consumer.end_offsets([place]))[place]:
                for messages in (await consumer.getmany(timeout_ms=200)).values():
                    found += [record_of(stream, message.headers, message.value) for message in messages]
        return found
    finally:
        await stop_client(consumer)


async def sent_up_to(speaker: Database, stream: str, number: int) -> bool:
    async with speaker.transaction() as session:
        return (await streams.head(session, stream)).sent_sequence >= number


async def arrived_once(bus: Bus, number: int) -> bool:
    """Whether the numbers up to this one are on the topic, unbroken; a relay that died may have sent its last batch without noting it, so some come twice."""
    records = {record.sequence: record for record in await on_topic(bus, at_least=number)}
    return len(records) == number and broken_links([records[one] for one in sorted(records)]) == []


@pytest.fixture
async def bus(bootstrap_servers: str, on_kafka: bool) -> AsyncIterator[Bus]:
    made = Bus(
        settings_for(
            "partners", kafka_bootstrap_servers=bootstrap_servers, kafka_create_topics=on_kafka, kafka_topic_prefix=f"t{uuid4().hex[:12]}"
        )
    )
    yield made
    await made.close()


async def test_what_is_none_of_ours_on_our_topic_stops_no_relay(database_url: DatabaseUrl, bus: Bus) -> None:
    speaker, topic = database(database_url(None)), bus.topic("partners", streams.INTERNAL)
    producer = await bus._ready_producer(topic)
    await producer.send_and_wait(topic, b"rubbish", partition=0, headers=[("ce_id", None)])
    await say(speaker, fact())

    running = asyncio.create_task(Relay(speaker, bus, "partners").run())

    await until(partial(sent_up_to, speaker, streams.INTERNAL, 1))
    await ended(running)
    await speaker.close()


@pytest.mark.parametrize("stray", [1, 150])
async def test_a_stray_message_behind_ours_hides_no_restore(database_url: DatabaseUrl, bus: Bus, stray: int) -> None:
    speaker, topic = database(database_url(None)), bus.topic("partners", streams.INTERNAL)
    await say(speaker, fact(), fact())
    await stamp_all(speaker)
    await bus.send(topic, await everything(speaker))
    producer = await bus._ready_producer(topic)
    for _ in range(stray):
        await producer.send_and_wait(topic, b"rubbish", partition=0, headers=[("ce_id", None)])
    restored = database(database_url(None))

    found = await bus.last_record("partners", streams.INTERNAL)
    assert found is not None, "the topic passes for an empty one"
    assert found.sequence == 2
    await say(restored, fact())
    await stamp_all(restored)
    relay = Relay(restored, bus, "partners")
    running = asyncio.create_task(relay.run())
    await until(lambda: relay.diverged is not None)

    assert relay.diverged == "the topic of internal holds number 2, this database only 1"
    await ended(running)
    for one in (speaker, restored):
        await one.close()


async def test_planted_a_relay_that_looks_at_the_last_message_alone_is_seen(
    database_url: DatabaseUrl, bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bus_module, "LOOK_BACK", (1,))

    await seen_red(test_a_stray_message_behind_ours_hides_no_restore(database_url, bus, 1), "the topic passes for an empty one")


async def test_what_is_said_arrives_in_order_and_chained(database_url: DatabaseUrl, bus: Bus) -> None:
    speaker = database(database_url(None))
    relay = Relay(speaker, bus, "partners")
    running = asyncio.create_task(relay.run())
    for _ in range(20):
        await say(speaker, fact(), fact())

    arrived = await on_topic(bus, at_least=40)
    told = await on_topic(bus, "departement:95", at_least=40)

    assert arrived == await everything(speaker)
    assert broken_links(arrived) == []
    assert broken_links(told) == []
    await ended(running)
    await speaker.close()


async def test_a_message_bears_no_finer_time_than_its_event(database_url: DatabaseUrl, bus: Bus) -> None:
    """Kafka would date it to the millisecond for who is told days only."""
    day = {"recordedtime": "2026-11-24T00:00:00+01:00", "datacontenttype": "application/json", "subject": "units/1"}
    record = streams.Record("interior", 1, 1, streams.GENESIS, streams.canonical(day), b"{}")

    await bus.send(bus.topic("partners", "interior"), [record])

    consumer = bus.consumer(group=None)
    await consumer.start()
    try:
        consumer.assign([TopicPartition(bus.topic("partners", "interior"), 0)])
        message = await asyncio.wait_for(consumer.getone(), 60)
    finally:
        await stop_client(consumer)
    assert message.timestamp == datetime(2026, 11, 23, 23, tzinfo=UTC).timestamp() * 1000


async def test_a_stand_by_takes_over_when_the_leader_dies(database_url: DatabaseUrl, bus: Bus) -> None:
    speaker = database(database_url(None))
    first, second = Relay(speaker, bus, "partners"), Relay(speaker, bus, "partners")
    leading = asyncio.create_task(first.run())
    await until(lambda: first.leading)
    standing_by = asyncio.create_task(second.run())
    await say(speaker, fact())
    await on_topic(bus, at_least=1)
    assert not second.leading

    await ended(leading)
    await until(lambda: second.leading)
    await say(speaker, fact())

    await until(partial(arrived_once, bus, 2))
    await ended(standing_by)
    await speaker.close()


class _Stamping:
    """The connection of a relay; the first of all to take rows out of the outbox holds them until the other one stands before its lock.

    Without locks: until the other one stamped.
    """

    def __init__(self, connection: RawConnection, speaker: Database, taken: asyncio.Event, *, locks: bool) -> None:
        self._connection, self._speaker, self._taken, self._locks = connection, speaker, taken, locks

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    async def fetch(self, statement: str, *arguments: Any) -> Any:
        found = await self._connection.fetch(
            statement if self._locks else statement.replace("FOR UPDATE)", "FOR UPDATE SKIP LOCKED)"), *arguments
        )
        if found and not self._taken.is_set():
            self._taken.set()
            await until(self._the_other_came)
        return found

    async def _the_other_came(self) -> bool:
        # before a lock of this very connection: others wait for each other for a moment, with NOTIFY for instance
        behind = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE :mine = ANY (pg_blocking_pids(pid)))"
        stamped = "SELECT EXISTS (SELECT FROM stream_events)"
        async with self._speaker.transaction() as session:
            if self._locks:
                return bool(await session.scalar(text(behind), {"mine": self._connection.get_server_pid()}))
            return bool(await session.scalar(text(stamped)))


async def _two_relays(database_url: DatabaseUrl, bus: Bus, monkeypatch: pytest.MonkeyPatch, *, locks: bool = True) -> None:
    """Each holds a lock of its own: as if the election had failed. What both send comes twice on the wire, with one number."""
    speaker, other_bus, taken = database(database_url(None)), Bus(bus._settings), asyncio.Event()
    monkeypatch.setattr(relay_module, "stamp", lambda connection: stamp(_Stamping(connection, speaker, taken, locks=locks)))  # type: ignore[arg-type]  # a stand-in
    first, second = Relay(speaker, bus, "partners"), Relay(speaker, other_bus, "partners")
    running = [asyncio.create_task(first.run())]
    await until(lambda: first.leading)
    monkeypatch.setattr(relay_module, "LEADER_LOCK", relay_module.LEADER_LOCK + 1)
    running.append(asyncio.create_task(second.run()))
    await until(lambda: second.leading)

    try:
        said = [fact(closed_at=MORNING + timedelta(minutes=number)) for number in range(80)]
        await say(speaker, said[0])
        await taken.wait()
        for number in range(1, 80):
            await say(speaker, said[number])

        await until(partial(arrived_once, bus, 80))
        stamped = await everything(speaker)
        assert not [task for task in running if task.done()], "a relay ended"
        assert broken_links(stamped) == []
        assert [record.data for record in stamped] == [one.model_dump_json().encode() for one in said], (
            "not in the order in which it was said"
        )
    finally:
        for task in running:
            await ended(task)
        await other_bus.close()
        await speaker.close()


async def test_two_relays_forced_to_run_at_once_do_no_harm(database_url: DatabaseUrl, bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    await _two_relays(database_url, bus, monkeypatch)


async def test_planted_two_relays_that_do_not_wait_for_each_other_are_seen(
    database_url: DatabaseUrl, bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    await seen_red(_two_relays(database_url, bus, monkeypatch, locks=False), "not in the order in which it was said")


async def test_sending_that_was_cancelled_by_nobody_ends_the_relay_and_is_begun_again(
    database_url: DatabaseUrl, bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As aiokafka does when the broker dies while a client is stopped: stamping went on, and nothing was sent any more."""
    speaker, look, looked = database(database_url(None)), bus.last_record, 0

    async def cancelled_once(source: str, stream: str) -> streams.Record | None:
        nonlocal looked
        looked += 1
        if looked == 1:
            raise asyncio.CancelledError
        return await look(source, stream)

    monkeypatch.setattr(bus, "last_record", cancelled_once)
    await say(speaker, fact())
    relay = Relay(speaker, bus, "partners")
    running = asyncio.create_task(worker._for_ever("relay", relay.run, relay.heartbeat))

    await until(lambda: arrived_once(bus, 1))

    await ended(running)
    await speaker.close()


async def test_sending_that_ends_by_itself_ends_the_stamping_too(
    database_url: DatabaseUrl, bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    speaker, looked = database(database_url(None)), asyncio.Event()

    async def cancelled(source: str, stream: str) -> streams.Record | None:
        looked.set()
        raise asyncio.CancelledError

    async def over_or_stamping() -> bool:
        async with speaker.transaction() as session:
            return running.done() or (await streams.head(session, streams.INTERNAL)).sequence > 1

    monkeypatch.setattr(bus, "last_record", cancelled)
    await say(speaker, fact())
    running = asyncio.create_task(Relay(speaker, bus, "partners").run())
    try:
        await asyncio.wait_for(looked.wait(), 30)
        await asyncio.wait([running], timeout=1)
        await say(speaker, fact())
        await until(over_or_stamping)
        assert running.done(), "stamping goes on, and nothing is sent"
        assert running.exception() is not None
    finally:
        await ended(running)
        await speaker.close()


async def test_planted_sending_that_ends_in_silence_is_seen(database_url: DatabaseUrl, bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    async def as_it_is(loop: Awaitable[None]) -> None:
        await loop

    monkeypatch.setattr(relay_module, "endless", as_it_is)

    await seen_red(
        test_sending_that_ends_by_itself_ends_the_stamping_too(database_url, bus, monkeypatch), "stamping goes on, and nothing is sent"
    )


async def test_a_stream_whose_topic_is_refused_stops_no_other_and_none_is_sent_twice(
    database_url: DatabaseUrl, bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a cluster where one topic is missing from the access lists."""
    speaker, deliver, refused = database(database_url(None)), bus.send, bus.topic("partners", "departement:95")

    async def all_but_one(to: str, records: Sequence[streams.Record]) -> None:
        if to == refused:
            raise BusError(f"TopicAuthorizationFailedError on {to}")
        await deliver(to, records)

    monkeypatch.setattr(bus, "send", all_but_one)
    relay = Relay(speaker, bus, "partners")
    running = asyncio.create_task(relay.run())
    for _ in range(2):
        await say(speaker, fact())
        await until(lambda: relay.bus_error is not None)
    await until(partial(sent_up_to, speaker, streams.INTERNAL, 2))

    assert [record.sequence for record in await on_topic(bus, at_least=2)] == [1, 2]
    assert not await sent_up_to(speaker, "departement:95", 1)
    monkeypatch.undo()
    await until(partial(sent_up_to, speaker, "departement:95", 2))
    assert [record.sequence for record in await on_topic(bus, "departement:95", at_least=2)] == [1, 2]
    await until(lambda: relay.bus_error is None)
    await ended(running)
    await speaker.close()


async def test_a_stream_without_topic_is_not_sent(database_url: DatabaseUrl, bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    """The audit log is heard by nobody, an organization and a police system read their own by feed and webhook."""
    names = ["audit", f"organization:{uuid4()}", f"police:{uuid4()}", streams.INTERNAL, "public"]
    told = [Projection(audience=name, event_id=str(uuid4()), subject="units/1", data=b"{}") for name in names]
    speaker = Database(database_url(None), info={SESSION_KEY: Speaker("partners", lambda event, event_id: told)})
    sent: list[str] = []

    async def note(to: str, records: Sequence[streams.Record]) -> None:
        sent.append(to)

    monkeypatch.setattr(bus, "send", note)
    await say(speaker, fact())
    await stamp_all(speaker)
    connection = await speaker.connect()

    await send(connection, bus, "partners", among=names)

    assert sorted(sent) == sorted(bus.topic("partners", name) for name in (streams.INTERNAL, "public"))
    await connection.close()
    await speaker.close()


async def test_after_the_broker_was_away_a_topic_is_looked_at_again_before_anything_is_sent(
    database_url: DatabaseUrl, bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Meanwhile another database spoke to the same topic: what lies there is more than this one knows."""
    speaker, other, deliver = database(database_url(None)), database(database_url(None)), bus.send
    away = {bus.topic("partners", stream) for stream in (streams.INTERNAL, "departement:95")}
    relay = Relay(speaker, bus, "partners")
    running = asyncio.create_task(relay.run())
    await say(speaker, fact())
    await until(partial(sent_up_to, speaker, streams.INTERNAL, 1))
    await say(other, *(fact() for _ in range(5)))
    await stamp_all(other)
    connection = await other.connect()
    await send(connection, bus, "partners")
    before = len(await on_topic(bus, at_least=6))

    async def once_away(to: str, records: Sequence[streams.Record]) -> None:
        if to in away:
            away.remove(to)
            raise BusError(f"KafkaConnectionError on {to}")
        await deliver(to, records)

    monkeypatch.setattr(bus, "send", once_away)
    await say(speaker, fact())
    await until(lambda: not away)
    await until(lambda: relay.diverged is not None)

    assert len(await on_topic(bus)) == before
    await ended(running)
    await connection.close()
    await other.close()
    await speaker.close()


@pytest.mark.parametrize("process", ["the same", "another"])
async def test_nothing_is_numbered_before_the_topic_was_looked_at(database_url: DatabaseUrl, bus: Bus, process: str) -> None:
    """A restored database whose outbox held facts: had they been numbered, listeners would have to be told that these numbers were given twice."""
    speaker = database(database_url(None))
    relay = Relay(speaker, bus, "partners")
    running = asyncio.create_task(relay.run())
    await say(speaker, *(fact() for _ in range(3)))
    await until(partial(sent_up_to, speaker, "departement:95", 3))
    await until(partial(sent_up_to, speaker, streams.INTERNAL, 3))
    await ended(running)
    async with speaker.transaction() as session:
        await session.execute(text("DELETE FROM stream_events WHERE sequence > 1"))
        await session.execute(
            text(
                "UPDATE streams s SET sequence = 1, sent_sequence = 1,"
                " digest = (SELECT digest FROM stream_events e WHERE e.stream = s.stream AND e.sequence = 1)"
            )
        )
    await say(speaker, fact())

    late = relay if process == "the same" else Relay(speaker, bus, "partners")
    running = asyncio.create_task(late.run())
    await until(lambda: late.diverged is not None)

    assert len(await everything(speaker)) == 1
    await ended(running)
    await speaker.close()


async def test_a_topic_that_holds_more_than_the_database_stops_the_relay(database_url: DatabaseUrl, bus: Bus) -> None:
    """As after a restore of an older backup: another database speaks to the topics of the first."""
    speaker, restored = database(database_url(None)), database(database_url(None))
    relay = Relay(speaker, bus, "partners")
    running = asyncio.create_task(relay.run())
    await say(speaker, fact(), fact(), fact())
    await on_topic(bus, at_least=3)
    await ended(running)
    await say(restored, fact())

    late = Relay(restored, bus, "partners")
    restarted = asyncio.create_task(late.run())
    await until(lambda: late.diverged is not None)
    await say(restored, fact(), fact())

    assert len(await on_topic(bus, at_least=3)) == 3
    async with restored.transaction() as session:
        assert (await streams.head(session, "internal")).diverged_reason is not None
    await ended(restarted)
    await speaker.close()
    await restored.close()


async def test_a_diverged_service_sends_nothing(database_url: DatabaseUrl, bus: Bus) -> None:
    """Not even what was stamped before."""
    speaker = database(database_url(None))
    await say(speaker, fact())
    await stamp_all(speaker)
    async with speaker.transaction() as session:
        await streams.mark_diverged(session, streams.INTERNAL, "test", epoch=1)
    connection = await speaker.connect()

    try:
        with pytest.raises(RelayDiverged, match="test"):
            await send(connection, bus, "partners")
        assert not await sent_up_to(speaker, "departement:95", 1)
    finally:
        await connection.close()
        await speaker.close()


async def test_planted_a_relay_that_sends_whatever_is_marked_is_seen(
    database_url: DatabaseUrl, bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetch = RawConnection.fetch

    async def unmarked(self: RawConnection, statement: str, *given: Any, **how: Any) -> Any:
        return await fetch(
            self, statement.replace(" AND NOT EXISTS (SELECT FROM streams WHERE diverged_at IS NOT NULL)", ""), *given, **how
        )

    monkeypatch.setattr(RawConnection, "fetch", unmarked)

    await seen_red(test_a_diverged_service_sends_nothing(database_url, bus), "DID NOT RAISE")


async def test_the_feed_grows_while_the_broker_is_absent_and_all_is_sent_when_it_comes(database_url: DatabaseUrl) -> None:
    broker = Broker()
    bus = Bus(settings_for("partners", kafka_bootstrap_servers=broker.bootstrap_servers, kafka_create_topics=False))
    speaker = database(database_url(None))
    relay = Relay(speaker, bus, "partners")
    running = asyncio.create_task(relay.run())
    units = [uuid4() for _ in range(5)]
    await say(speaker, *(fact(unit) for unit in units))
    await until(lambda: relay.bus_error is not None)

    assert len(await everything(speaker)) == 5
    broker.start()
    try:
        assert broken_links(await on_topic(bus, at_least=5)) == []
    finally:
        await ended(running)
        await bus.close()
        await speaker.close()
        broker.stop()
