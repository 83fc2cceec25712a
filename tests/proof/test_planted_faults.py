"""The comparison of `make proof` turns red: each guarantee is taken away in a small, certain scene, and the accounts differ; with the guarantee they agree.

The scenes run on the chassis' own relay, consumer and outbox. A fault is planted from here, by replacing one piece of them.
"""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from libs.chassis import outbox, projector, streams
from libs.chassis.ahead import Fetched
from libs.chassis.bus import Bus
from libs.chassis.consumer import Consumer
from libs.chassis.database import Database, RawConnection
from libs.chassis.feed import Feed
from libs.chassis.listener import Heard, Listener, Source
from libs.chassis.outbox import append
from libs.chassis.projector import Projector, Read
from libs.chassis.relay import send, stamp
from libs.chassis.security import ServiceToken
from libs.contracts.partners import UnitClosed
from tests.chassis.speaking import MORNING, database, drain, everything, fact, say, stamp_all
from tests.proof.accounts import Verdict
from tests.settings import settings_for
from tests.waiting import ended, until

DatabaseUrl = Callable[[str | None], str]


@dataclass
class Scene:
    """A speaker and what its clients were told: unit → the facts, in order. A fact is told apart by its second."""

    speaker: Database
    told: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    def tell(self, unit: UUID, number: int) -> None:
        self.told[str(unit)].append(str(number))

    async def verdict(self) -> Verdict:
        """What was told against the stream, and the stream itself."""
        found = Verdict()
        records = await everything(self.speaker)
        async with self.speaker.transaction() as session:
            head = await streams.head(session, streams.INTERNAL)
        found.compare("told / stream", self.told, facts_of(records))
        found.stream("stream", records, streams.Place(head.epoch, head.sequence, head.digest), streams.Place(1, 0, streams.GENESIS))
        return found


def numbered(unit: UUID, number: int) -> UnitClosed:
    return fact(unit, MORNING + timedelta(seconds=number))


def facts_of(records: Sequence[streams.Record]) -> Mapping[str, list[str]]:
    found: dict[str, list[str]] = defaultdict(list)
    for record in records:
        event = UnitClosed.model_validate_json(record.data)
        found[str(event.unit_id)].append(_number_of(event))
    return found


def _number_of(event: UnitClosed) -> str:
    return str(int((event.closed_at - MORNING).total_seconds()))


@pytest.fixture
async def scene(database_url: DatabaseUrl) -> Any:
    made = Scene(database(database_url(None)))
    async with made.speaker.transaction() as session:
        await session.execute(text("CREATE TABLE units (id uuid PRIMARY KEY, version integer NOT NULL)"))
        await session.execute(text("CREATE TABLE noted (place bigint GENERATED ALWAYS AS IDENTITY, unit_id uuid, fact text)"))
    yield made
    await made.speaker.close()


class Instead:
    """A connection that says one statement otherwise."""

    def __init__(self, connection: RawConnection, change: Callable[[str], str]) -> None:
        self._connection = connection
        self._change = change
        self.changed = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    async def fetch(self, statement: str, *arguments: Any) -> Any:
        changed = self._change(statement)
        self.changed += changed != statement
        return await self._connection.fetch(changed, *arguments)


# Outbox rows found by "position greater than the last seen"


@pytest.mark.parametrize(("planted", "missing"), [(False, 0), (True, 1)])
async def test_rows_found_by_position_greater_than_the_last_seen_lose_one(scene: Scene, planted: bool, missing: int) -> None:
    slow, quick = uuid4(), uuid4()
    connection = await scene.speaker.connect()
    seen = 0
    relay: Any = (
        Instead(connection, lambda said: said.replace("FROM outbox ORDER BY", f"FROM outbox WHERE position > {seen} ORDER BY"))
        if planted
        else connection
    )
    async with scene.speaker.transaction() as first:
        await append(first, numbered(slow, 1))  # draws the first position, commits second
        await say(scene.speaker, numbered(quick, 1))
        seen = await connection.fetchval("SELECT max(position) FROM outbox WHERE stream IS NOT NULL") if planted else 0
        before, seen = seen, 0
        await stamp(relay)
        seen = before
    scene.tell(quick, 1)
    scene.tell(slow, 1)
    await stamp(relay)

    verdict = await scene.verdict()

    assert verdict.counts == {"missing": missing, "doubled": 0, "out_of_order": 0, "chain_breaks": 0}
    await connection.close()


# The aggregate locked after its event was numbered


@pytest.mark.parametrize(("planted", "out_of_order"), [(False, 0), (True, 1)])
async def test_an_aggregate_locked_after_its_event_was_numbered_is_told_in_the_wrong_order(
    scene: Scene, planted: bool, out_of_order: int
) -> None:
    unit = uuid4()
    async with scene.speaker.transaction() as session:
        await session.execute(text("INSERT INTO units VALUES (:unit, 0)"), {"unit": unit})

    async def lock(session: AsyncSession) -> None:
        await session.execute(text("SELECT version FROM units WHERE id = :unit FOR UPDATE"), {"unit": unit})

    async def change(number: int, half_way: Callable[[], Awaitable[None]]) -> None:
        async with scene.speaker.transaction() as session:
            for step in (append, lock) if planted else (lock, append):
                await (append(session, numbered(unit, number)) if step is append else lock(session))
                if step is (append if planted else lock):
                    await half_way()
        scene.tell(unit, number)

    async def nothing() -> None:
        return

    others: list[asyncio.Task[None]] = []

    async def let_the_other_try() -> None:
        others.append(asyncio.create_task(change(2, nothing)))
        await until(lambda: _done_or_waiting(scene.speaker, others[0]))

    await change(1, let_the_other_try)
    await others[0]
    await stamp_all(scene.speaker)

    verdict = await scene.verdict()

    assert verdict.counts == {"missing": 0, "doubled": 0, "out_of_order": out_of_order, "chain_breaks": 0}


async def _done_or_waiting(speaker: Database, task: "asyncio.Task[Any]") -> bool:
    """Whether the task has ended, or stands before a lock."""
    if task.done():
        return True
    async with speaker.transaction() as session:
        return bool(
            await session.scalar(
                text("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'")
            )
        )


# Publishing before the commit


@pytest.mark.parametrize(("planted", "doubled"), [(False, 0), (True, 1)])
async def test_what_is_published_before_the_commit_is_told_though_it_never_happened(
    scene: Scene, planted: bool, doubled: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = outbox.insert

    async def at_once(session: AsyncSession, rows: Sequence[outbox.Said]) -> None:
        async with scene.speaker.transaction() as another:
            await right(another, rows)

    if planted:
        monkeypatch.setattr(outbox, "insert", at_once)
    kept, undone = uuid4(), uuid4()
    await say(scene.speaker, numbered(kept, 1))
    scene.tell(kept, 1)
    with pytest.raises(RuntimeError, match="killed"):
        async with scene.speaker.transaction() as session:
            await append(session, numbered(undone, 1))
            raise RuntimeError("killed before the commit")
    await stamp_all(scene.speaker)

    verdict = await scene.verdict()

    assert verdict.counts == {"missing": 0, "doubled": doubled, "out_of_order": 0, "chain_breaks": 0}


# A relay without the lock


@pytest.mark.parametrize(("planted", "out_of_order"), [(False, 0), (True, 1)])
async def test_relays_without_a_lock_on_the_outbox_overtake_each_other(scene: Scene, planted: bool, out_of_order: int) -> None:
    unit = uuid4()
    for number in (1, 2):
        await say(scene.speaker, numbered(unit, number))
        scene.tell(unit, number)
    connections = [await scene.speaker.connect() for _ in range(2)]
    others: list[asyncio.Task[int]] = []

    def without_lock(statement: str) -> str:
        return statement.replace("FOR UPDATE)", "FOR UPDATE SKIP LOCKED)") if planted else statement

    class Slow(Instead):
        """Takes its rows, and lets the other relay try before it asks for the heads."""

        async def fetch(self, statement: str, *arguments: Any) -> Any:
            found = await super().fetch(statement, *arguments)
            if not others:
                others.append(asyncio.create_task(drain(Instead(connections[1], without_lock))))  # type: ignore[arg-type]  # a stand-in
                await until(lambda: _done_or_waiting(scene.speaker, others[0]))
            return found

    await stamp(Slow(connections[0], without_lock), 2)  # type: ignore[arg-type]  # a stand-in; two rows: one fact for its two audiences
    await others[0]

    verdict = await scene.verdict()

    assert verdict.counts == {"missing": 0, "doubled": 0, "out_of_order": out_of_order, "chain_breaks": 0}
    for connection in connections:
        await connection.close()


# The cursor check dropped


def listener_of(handled: Callable[[AsyncSession, Heard[UnitClosed]], Awaitable[None]]) -> Listener:
    return Listener("proof", [Source("partners", handles={UnitClosed: handled})])


async def note(session: AsyncSession, heard: Heard[UnitClosed]) -> None:
    await session.execute(
        text("INSERT INTO noted (unit_id, fact) VALUES (:unit, :fact)"), {"unit": heard.event.unit_id, "fact": _number_of(heard.event)}
    )


async def noted(listening: Database) -> Mapping[str, list[str]]:
    found: dict[str, list[str]] = defaultdict(list)
    async with listening.transaction() as session:
        for unit, one in await session.execute(text("SELECT unit_id, fact FROM noted ORDER BY place")):
            found[str(unit)].append(one)
    return found


@pytest.mark.parametrize(("planted", "doubled"), [(False, 0), (True, 2)])
async def test_without_the_check_of_the_cursor_what_comes_again_counts_again(
    scene: Scene, planted: bool, doubled: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    unit = uuid4()
    for number in (1, 2, 3):
        await say(scene.speaker, numbered(unit, number))
        scene.tell(unit, number)
    await stamp_all(scene.speaker)
    records = await everything(scene.speaker)
    listening = Projector(scene.speaker, listener_of(note), park_limit=3)
    await listening.ensure_cursors()
    if planted:
        monkeypatch.setattr(projector, "successors", lambda cursor, records: (list(records), True))

    await listening.apply("partners", records[:2])
    await listening.apply("partners", records)  # Kafka brings again what was not committed

    verdict = Verdict()
    verdict.compare("told / heard", scene.told, await noted(scene.speaker))
    assert verdict.counts == {"missing": 0, "doubled": doubled, "out_of_order": 0, "chain_breaks": 0}


# Offsets committed before handling


@pytest.mark.kafka
@pytest.mark.parametrize(("planted", "missing"), [(False, 0), (True, 1)])
async def test_offsets_committed_before_handling_lose_what_was_in_hand(
    scene: Scene, bootstrap_servers: str, on_kafka: bool, planted: bool, missing: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With no feed to heal by: the speaker's API is away."""
    settings = settings_for(
        "partners", kafka_bootstrap_servers=bootstrap_servers, kafka_create_topics=on_kafka, kafka_topic_prefix=f"t{uuid4().hex[:12]}"
    )
    speaking, hearing = Bus(settings), Bus(settings)
    feed = Feed({}, ServiceToken(settings))
    in_hand = asyncio.Event()

    async def never_done(session: AsyncSession, heard: Heard[UnitClosed]) -> None:
        in_hand.set()
        await asyncio.Event().wait()

    def consumer(handled: Callable[[AsyncSession, Heard[UnitClosed]], Awaitable[None]]) -> Consumer:
        return Consumer(
            scene.speaker,
            hearing,
            feed,
            listener_of(handled),
            group=settings.kafka_topic_prefix,
            share_group=on_kafka,
            park_limit=3,
            head_seconds=1,
        )

    if planted:
        right = Consumer._take

        async def offsets_first(self: Consumer, client: Any, fetched: Mapping[Any, Fetched[Read]]) -> None:
            for place, (_, next_offset) in fetched.items():
                await client.commit({place: next_offset})
            await right(self, client, fetched)

        monkeypatch.setattr(Consumer, "_take", offsets_first)
    unit = uuid4()
    connection = await scene.speaker.connect()
    await say(scene.speaker, numbered(unit, 1))
    scene.tell(unit, 1)
    await stamp(connection)
    await send(connection, speaking, "partners")
    killed = asyncio.create_task(consumer(never_done).run())
    await until(in_hand.is_set)
    await ended(killed)
    await say(scene.speaker, numbered(unit, 2))
    await stamp(connection)
    await send(connection, speaking, "partners")

    second = consumer(note)
    running = asyncio.create_task(second.run())

    async def heard_or_stuck() -> bool:
        return len((await noted(scene.speaker)).get(str(unit), ())) == 2 or second.states["partners"].health == "retrying"

    await until(heard_or_stuck)
    heard = {one: facts[:1] for one, facts in (await noted(scene.speaker)).items()}  # the second fact only shows what became of the first
    verdict = Verdict()
    verdict.compare("told / heard", scene.told, heard)
    assert verdict.counts == {"missing": missing, "doubled": 0, "out_of_order": 0, "chain_breaks": 0}
    await ended(running)
    await connection.close()
    for bus in (speaking, hearing):
        await bus.close()


# A stream and a topic that were tampered with


async def test_a_changed_a_skipped_and_a_foreign_event_are_seen(scene: Scene) -> None:
    await say(scene.speaker, *(numbered(uuid4(), 1) for _ in range(4)))
    await stamp_all(scene.speaker)
    records = await everything(scene.speaker)
    head, begin = streams.Place(1, 4, records[-1].digest), streams.Place(1, 0, streams.GENESIS)
    kept = {record.sequence: record for record in records}
    changed = [*records[:2], streams.Record("internal", 1, 3, records[2].previous_digest, records[2].attributes, b"{}"), records[3]]
    hole = [records[0], records[2], records[3]]

    def of_stream(found: list[streams.Record]) -> dict[str, int]:
        verdict = Verdict()
        verdict.stream("stream", found, head, begin)
        return verdict.counts

    def of_topic(found: list[streams.Record], *, whole: bool = True) -> dict[str, int]:
        verdict = Verdict()
        verdict.topic("topic", found, kept, 4, whole=whole)
        return verdict.counts

    clean = {"missing": 0, "doubled": 0, "out_of_order": 0, "chain_breaks": 0}
    assert of_stream(records) == clean
    assert of_stream(changed) == clean | {"chain_breaks": 1}
    assert of_stream(hole) == clean | {"missing": 1, "chain_breaks": 1}
    assert of_stream(records[:3]) == clean | {"missing": 1, "chain_breaks": 1}
    assert of_topic([*records[:3], *records]) == clean  # a batch sent again
    assert of_topic(changed) == clean | {"chain_breaks": 1}
    assert of_topic(hole) == clean | {"missing": 1}
    assert of_topic(records[:3]) == clean | {"missing": 1}
    assert of_topic(records[2:]) == clean | {"missing": 2}
    assert of_topic(records[2:], whole=False) == clean
    assert of_topic([], whole=False) == clean
