"""Listening: exactly once in effect, in order; what cannot be handled is parked with its successors, what is transient is not."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession

from libs.chassis import dead_letters, parking, projector, streams
from libs.chassis.database import Database, Statement, driver_of, run
from libs.chassis.listener import Heard, Listener, Source
from libs.chassis.projector import ChainBroken, Projector, Read, TooManyParked, reached, successors, transient
from libs.chassis.streams import Place
from libs.contracts.partners import UnitChanged, UnitClosed, UnitRegistered
from libs.contracts.vocabularies import Force, UnitKind
from tests.chassis.speaking import MORNING, database, everything, fact, say, stamp_all
from tests.planted import seen_red

DatabaseUrl = Callable[[str | None], str]


@dataclass
class Scene:
    """A speaker, and a listener that notes what it hears in a table; `poison` are the units whose facts its handler refuses."""

    speaker: Database
    listening: Database
    projector: Projector
    poison: set[UUID] = field(default_factory=set)
    transient: set[UUID] = field(default_factory=set)

    async def say(self, *units: UUID) -> None:
        await say(self.speaker, *(fact(unit) for unit in units))
        await stamp_all(self.speaker)

    async def records(self) -> list[streams.Record]:
        return await everything(self.speaker)

    async def heard(self) -> list[UUID]:
        async with self.listening.transaction() as session:
            return list(await session.scalars(text("SELECT unit_id FROM noted ORDER BY place")))

    async def parked(self) -> list[tuple[int, str]]:
        async with self.listening.transaction() as session:
            return [
                (row.sequence, row.cause)
                for row in await session.execute(text("SELECT sequence, cause FROM dead_letters WHERE status = 'parked' ORDER BY sequence"))
            ]


@pytest.fixture(params=["one by one", "by batches"])
async def scene(database_url: DatabaseUrl, request: pytest.FixtureRequest) -> AsyncIterator[Scene]:
    speaker, listening = database(database_url(None)), Database(database_url(None))
    async with listening.transaction() as session:
        await session.execute(text("CREATE TABLE noted (place bigint GENERATED ALWAYS AS IDENTITY, unit_id uuid NOT NULL)"))

    async def on_unit_closed(session: AsyncSession, heard: Heard[UnitClosed]) -> None:
        await session.execute(text("INSERT INTO noted (unit_id) VALUES (:unit)"), {"unit": heard.event.unit_id})
        if heard.event.unit_id in made.poison:
            raise ValueError("poison")
        if heard.event.unit_id in made.transient:
            await session.execute(text("SELECT pg_cancel_backend(pg_backend_pid())"))

    async def apply(session: AsyncSession, run: Sequence[Heard[UnitClosed]]) -> None:
        for heard in run:
            await on_unit_closed(session, heard)

    if request.param == "one by one":
        listener = Listener("test", [Source("partners", handles={UnitClosed: on_unit_closed}, ignores=(UnitChanged,))])
    else:
        listener = Listener("test", [Source("partners", handles={UnitClosed}, ignores=(UnitChanged,))], apply=apply)  # type: ignore[arg-type]  # a handler of one type
    made = Scene(speaker, listening, Projector(listening, listener, park_limit=3))
    await made.projector.ensure_cursors()
    yield made
    await speaker.close()
    await listening.close()


async def test_what_comes_twice_takes_effect_once(scene: Scene) -> None:
    units = [uuid4() for _ in range(4)]
    await scene.say(*units)
    records = await scene.records()

    assert await scene.projector.apply("partners", records[:3])
    assert await scene.projector.apply("partners", records[:3])
    assert await scene.projector.apply("partners", records[1:])

    assert await scene.heard() == units


async def test_nothing_after_a_hole_takes_effect(scene: Scene) -> None:
    units = [uuid4() for _ in range(4)]
    await scene.say(*units)
    records = await scene.records()

    complete = await scene.projector.apply("partners", [records[0], records[2], records[3]])

    assert not complete
    assert await scene.heard() == units[:1]


async def test_nobody_was_heard_further_than_the_head_that_is_told(scene: Scene) -> None:
    await scene.say(uuid4(), uuid4(), uuid4())
    records = await scene.records()
    await scene.projector.saw_head("partners", Place(1, 2, records[1].digest))

    await scene.projector.apply("partners", records)

    async with scene.listening.transaction() as session:
        [told] = await reached(session, "test")
    assert (told.source, told.sequence, told.head_sequence) == ("partners", 3, 3)


async def test_a_successor_by_number_that_is_none_by_digest_is_refused(scene: Scene) -> None:
    await scene.say(uuid4(), uuid4())
    first, second = await scene.records()
    await scene.projector.apply("partners", [first])
    forged = streams.Record("internal", 1, 2, bytes(32), second.attributes, second.data)

    with pytest.raises(ChainBroken):
        await scene.projector.apply("partners", [forged])

    assert (await scene.projector.where("partners")).sequence == 1


async def test_a_poison_event_is_parked_with_its_successors_and_the_others_go_on(scene: Scene) -> None:
    bad, good, other = uuid4(), uuid4(), uuid4()
    scene.poison.add(bad)
    await scene.say(good, bad, other, bad, good)

    assert await scene.projector.apply("partners", await scene.records())

    assert await scene.heard() == [good, other, good]
    assert await scene.parked() == [(2, "failed"), (4, "follows")]
    assert (await scene.projector.where("partners")).sequence == 5


async def test_a_later_batch_parks_the_successors_of_what_is_parked(scene: Scene) -> None:
    bad, good = uuid4(), uuid4()
    scene.poison.add(bad)
    await scene.say(bad)
    await scene.projector.apply("partners", await scene.records())
    scene.poison.clear()

    await scene.say(bad, good)
    await scene.projector.apply("partners", await scene.records())

    assert await scene.heard() == [good]
    assert await scene.parked() == [(1, "failed"), (2, "follows")]


async def test_a_replay_heals_in_order(scene: Scene) -> None:
    bad, good = uuid4(), uuid4()
    scene.poison.add(bad)
    await scene.say(bad, good, bad)
    await scene.projector.apply("partners", await scene.records())
    async with scene.listening.transaction() as session:
        [first, *_] = await parking.page(session, status="parked", after=None, limit=10)

    with pytest.raises(dead_letters.ReplayFailed):
        async with scene.listening.transaction() as session:
            await dead_letters.replay(session, scene.projector, first.id, "operator")
    scene.poison.clear()
    async with scene.listening.transaction() as session:
        done = await dead_letters.replay(session, scene.projector, first.id, "operator")

    assert len(done) == 2
    assert await scene.heard() == [good, bad, bad]
    assert await scene.parked() == []


async def test_what_is_parked_was_heard_but_not_acted_on_until_it_is_replayed_or_given_up(scene: Scene) -> None:
    bad, worse, good = uuid4(), uuid4(), uuid4()
    scene.poison |= {bad, worse}
    await scene.say(good, bad, good, worse)
    await scene.projector.apply("partners", (await scene.records())[:1])
    assert await scene.projector.acted_up_to("partners") == (1, 1)

    await scene.projector.apply("partners", await scene.records())
    parked = await scene.projector.acted_up_to("partners")
    scene.poison.clear()
    async with scene.listening.transaction() as session:
        first, second = await parking.page(session, status="parked", after=None, limit=10)
        await dead_letters.replay(session, scene.projector, first.id, "operator")
    replayed = await scene.projector.acted_up_to("partners")
    async with scene.listening.transaction() as session:
        await dead_letters.discard(session, scene.projector, second.id, "operator", "a test")

    assert (await scene.projector.where("partners")).sequence == 4
    assert (parked, replayed) == ((1, 1), (1, 3))
    assert await scene.projector.acted_up_to("partners") == (1, 4)


async def test_what_was_replayed_is_not_replayed_again(scene: Scene) -> None:
    bad = uuid4()
    scene.poison.add(bad)
    await scene.say(bad)
    await scene.projector.apply("partners", await scene.records())
    scene.poison.clear()
    async with scene.listening.transaction() as session:
        [letter] = await parking.page(session, status="parked", after=None, limit=10)
        await dead_letters.replay(session, scene.projector, letter.id, "operator")

    with pytest.raises(dead_letters.NotParked):
        async with scene.listening.transaction() as session:
            await dead_letters.replay(session, scene.projector, letter.id, "operator")

    assert await scene.heard() == [bad]


async def test_a_transient_error_parks_nothing_and_moves_nothing(scene: Scene) -> None:
    shaky, good = uuid4(), uuid4()
    scene.transient.add(shaky)
    await scene.say(good, shaky)

    with pytest.raises(DBAPIError):
        await scene.projector.apply("partners", await scene.records())
    assert await scene.heard() == []
    assert await scene.parked() == []
    scene.transient.clear()
    await scene.projector.apply("partners", await scene.records())

    assert await scene.heard() == [good, shaky]


async def by_the_session(session: AsyncSession, statement: str) -> None:
    await session.execute(text(statement))


async def past_sqlalchemy(session: AsyncSession, statement: str) -> None:
    await run(session, Statement(statement), {})


async def by_the_driver(session: AsyncSession, statement: str) -> None:
    await (await driver_of(session)).execute(statement)


OF_THE_MOMENT = {
    "08006": "the connection failed",
    "25006": "read-only after a failover",
    "40001": "serialisation",
    "40P01": "deadlock",
    "53100": "disk full",
    "53300": "too many connections",
    "55P03": "lock_timeout",
    "57014": "statement_timeout, or cancelled by an operator",
    "57P01": "shut down",
}
OF_THE_EVENT = {"22003": "a number out of range", "23505": "a key twice", "42P01": "no such table"}


@pytest.mark.parametrize("way", [by_the_session, past_sqlalchemy, by_the_driver])
async def test_what_the_database_cannot_do_at_the_moment_is_no_fault_of_the_event(
    database_url: DatabaseUrl, way: Callable[[AsyncSession, str], Awaitable[None]]
) -> None:
    listening, found = Database(database_url(None)), {}
    for state in OF_THE_MOMENT | OF_THE_EVENT:
        with pytest.raises((DBAPIError, asyncpg.PostgresError)) as raised:
            async with listening.transaction() as session:
                await way(session, f"DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = '{state}'; END $$")
        found[state] = transient(raised.value)
    await listening.close()

    assert found == dict.fromkeys(OF_THE_MOMENT, True) | dict.fromkeys(OF_THE_EVENT, False)


async def test_a_value_that_no_column_holds_is_the_events_fault_and_a_lost_connection_is_not(database_url: DatabaseUrl) -> None:
    listening = Database(database_url(None))
    with pytest.raises(DBAPIError) as too_large:
        async with listening.transaction() as session:
            await session.execute(text("SELECT CAST(:number AS integer)"), {"number": 2**40})
    with pytest.raises(DBAPIError) as lost:
        async with listening.transaction() as session:
            (await driver_of(session)).terminate()
            await session.execute(text("SELECT 1"))
    await listening.close()

    assert (transient(too_large.value), transient(lost.value)) == (False, True)


async def test_what_was_parked_of_a_history_that_was_taken_back_is_gone_and_what_still_holds_stays_parked(scene: Scene) -> None:
    holds, void = uuid4(), uuid4()
    scene.poison |= {holds, void}
    await scene.say(holds, uuid4(), void)
    records = await scene.records()
    await scene.projector.apply("partners", records)
    assert await scene.parked() == [(1, "failed"), (3, "failed")]

    heard = await scene.projector.where("partners")
    await scene.projector.enter_epoch("partners", heard, Place(2, 2, records[1].digest), no_list, lambda: None)

    assert await scene.parked() == [(1, "failed")]


async def test_a_cursor_that_somebody_else_moved_meanwhile_goes_back_by_nobodys_old_word(scene: Scene) -> None:
    await scene.say(uuid4(), uuid4(), uuid4())
    records = await scene.records()
    await scene.projector.apply("partners", records[:2])
    stale = await scene.projector.where("partners")
    await scene.projector.apply("partners", records)

    await scene.projector.enter_epoch("partners", stale, Place(1, 1, records[0].digest), no_list, lambda: None)

    assert (await scene.projector.where("partners")).sequence == 3


async def no_list(path: str) -> AsyncIterator[dict[str, Any]]:
    raise AssertionError(path)
    yield {}


async def test_a_handler_broken_for_every_event_pauses_instead_of_parking_the_world(scene: Scene) -> None:
    units = [uuid4() for _ in range(10)]
    scene.poison.update(units)
    await scene.say(*units)

    with pytest.raises(TooManyParked):
        await scene.projector.apply("partners", await scene.records())

    assert await scene.parked() == []
    assert (await scene.projector.where("partners")).sequence == 0


async def test_planted_a_transient_error_taken_for_a_bad_event_is_seen(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(projector, "transient", lambda error: False)

    await seen_red(test_a_transient_error_parks_nothing_and_moves_nothing(scene), "DID NOT RAISE")


async def test_planted_a_listener_that_parks_the_world_is_seen(scene: Scene) -> None:
    scene.projector._park_limit = 1000

    await seen_red(test_a_handler_broken_for_every_event_pauses_instead_of_parking_the_world(scene), "DID NOT RAISE")


async def test_a_type_in_neither_list_is_parked_and_an_ignored_one_is_not(scene: Scene) -> None:
    newer, known = uuid4(), uuid4()
    common: dict[str, Any] = {"departement": "95", "force": Force.POLICE, "kind": UnitKind.COMMISSARIAT, "communes": ()}
    await say(
        scene.speaker,
        UnitRegistered(unit_id=newer, registered_at=MORNING, **common),
        UnitChanged(unit_id=known, changed_at=MORNING, **common),
        fact(newer),
        fact(known),
    )
    await stamp_all(scene.speaker)

    await scene.projector.apply("partners", await scene.records())

    assert await scene.heard() == [known]
    assert await scene.parked() == [(1, "unknown-type"), (3, "follows")]


def record(epoch: int, sequence: int, previous: bytes = streams.GENESIS) -> streams.Record:
    return streams.Record("internal", epoch, sequence, previous, b"{}", b"{}")


FIRST = record(1, 1)
SECOND = record(1, 2, FIRST.digest)
NEWER = record(2, 2, FIRST.digest)
START = Place(1, 0, streams.GENESIS)


@pytest.mark.parametrize(
    ("cursor", "records", "taken", "complete"),
    [
        (START, [], 0, True),
        (START, [FIRST, SECOND], 2, True),
        (START, [SECOND], 0, False),  # a hole
        (Place(1, 1, FIRST.digest), [FIRST, SECOND], 1, True),
        (Place(1, 2, SECOND.digest), [FIRST, SECOND], 0, True),
        (Place(1, 1, FIRST.digest), [NEWER], 0, False),  # a newer epoch is entered by the feed's word only
        (Place(2, 2, NEWER.digest), [SECOND, record(1, 3)], 0, True),  # what an ended epoch left on the topic
    ],
)
def test_only_successors_are_taken(cursor: Place, records: list[streams.Record], taken: int, complete: bool) -> None:
    run, done = successors(cursor, [Read(record, "", None, None) for record in records])

    assert (len(run), done) == (taken, complete)


async def test_who_goes_on_where_the_feed_begins_says_how_much_it_missed_and_keeps_nothing_of_a_history_that_was_replaced(
    database_url: DatabaseUrl,
) -> None:
    taken_back: list[tuple[str, int]] = []

    async def rewind(session: AsyncSession, source: str, after_sequence: int) -> None:
        taken_back.append((source, after_sequence))

    listening = Database(database_url(None))
    projector = Projector(
        listening, Listener("test", [Source("partners", handles={UnitClosed})], rewind=rewind, keeps_log=True), park_limit=3
    )
    await projector.ensure_cursors()

    stale = await projector.go_on("partners", Place(1, 7, bytes(32)), 7, Place(1, 40, bytes(32)))
    first = await projector.go_on("partners", START, 0, Place(1, 40, bytes(32)))
    restored = await projector.go_on("partners", Place(1, 40, bytes(32)), 20, Place(2, 30, bytes(32)))
    again = await projector.go_on("partners", Place(2, 30, bytes(32)), 25, Place(3, 90, bytes(32)))

    assert (stale, first, restored, again, taken_back) == (None, 40, 10, 65, [("partners", 20), ("partners", 25)])
    async with listening.transaction() as session:
        [told] = await reached(session, "test")
    assert (told.epoch, told.sequence, told.missed) == (3, 90, 40 + 10 + 65)
    await listening.close()
