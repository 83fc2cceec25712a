"""Figures are the same whatever way the facts came: order between sources, batches, repeats, a restored source, an erasure, a rebuild."""

import asyncio
import importlib
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from libs.chassis.database import Database
from libs.chassis.listener import Heard
from libs.contracts import referrals
from libs.contracts.envelope import Event
from libs.contracts.vocabularies import AlertKind
from services.reporting import handlers, queries, rebuild, rebuilding
from services.reporting.projections.rows import TABLES
from tests.services.reporting import telling

Contents = dict[str, list[tuple[Any, ...]]]


async def contents(session: AsyncSession) -> Contents:
    """Every row of every projection, and the counters that are not zero."""
    found = {table: sorted((tuple(row) for row in await session.execute(text(f"SELECT * FROM {table}"))), key=repr) for table in TABLES}
    tallies = await session.execute(text("SELECT * FROM tallies WHERE number <> 0"))
    return found | {"tallies": sorted(tuple(row) for row in tallies)}


async def hear(database: Database, told: Sequence[Heard[Event]]) -> None:
    async with database.transaction() as session:
        await handlers.on_batch(session, told)


async def figures(database: Database) -> Contents:
    async with database.transaction() as session:
        return await contents(session)


async def empty(database: Database) -> None:
    async with database.transaction() as session:
        await session.execute(text(f"TRUNCATE facts, tallies, {', '.join(TABLES)}"))


def interleaved(draw: st.DrawFn, lives: list[list[Event]]) -> list[Event]:
    """Mix lives, each keeping its own order."""
    left = [list(life) for life in lives if life]
    mixed = []
    while left:
        chosen = draw(st.integers(0, len(left) - 1))
        mixed.append(left[chosen].pop(0))
        left = [life for life in left if life]
    return mixed


@st.composite
def a_world(draw: st.DrawFn) -> dict[str, list[Heard[Event]]]:
    """What the three services said, each in its own order."""
    choices = draw(st.lists(st.tuples(st.sampled_from(["95", "78"]), st.integers(0, 10)), min_size=1, max_size=5))
    lives = [telling.a_life(number, departement, choice) for number, (departement, choice) in enumerate(choices, 1)]
    posts: list[list[Event]] = [
        [telling.post_opened(), telling.post_vacant()],
        [telling.post_opened(telling.OTHER_POST, "78", filled=False)],
    ]
    plans: list[list[Event]] = [
        [telling.planned(1), telling.planned(1, amounts=(3_000_000, 1_000_000)), telling.planned(1, amounts=(6_000_000,))],
        [telling.planned(2, departement="78", amounts=())],
    ]
    return {
        "referrals": telling.heard("referrals", interleaved(draw, lives)),
        "partners": telling.heard("partners", interleaved(draw, posts)),
        "funding": telling.heard("funding", interleaved(draw, plans)),
    }


@st.composite
def an_order(draw: st.DrawFn, world: dict[str, list[Heard[Event]]]) -> list[list[Heard[Event]]]:
    """Batches of one source each, sources in any order, with repeats of what was heard already."""
    at = dict.fromkeys(world, 0)
    batches = []
    while left := [source for source in world if at[source] < len(world[source])]:
        source = draw(st.sampled_from(left))
        size = draw(st.integers(1, len(world[source]) - at[source]))
        again = draw(st.integers(0, min(3, at[source])))
        batches.append(world[source][at[source] - again : at[source] + size])
        at[source] += size
        if draw(st.booleans()):  # something old comes again, by itself
            first = draw(st.integers(0, at[source] - 1))
            batches.append(world[source][first : draw(st.integers(first + 1, at[source]))])
    return batches


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(data=st.data())
async def test_figures_are_the_same_whatever_the_order_between_sources_the_batches_and_the_repeats(
    database: Database, data: st.DataObject
) -> None:
    world = data.draw(a_world())
    await empty(database)
    for told in world.values():
        for one in told:
            await hear(database, [one])
    expected = await figures(database)

    await empty(database)
    for batch in data.draw(an_order(world)):
        await hear(database, batch)

    assert await figures(database) == expected


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(data=st.data())
async def test_a_rebuild_equals_the_live_figures_to_the_last_digit(database: Database, data: st.DataObject) -> None:
    world = data.draw(a_world())
    await empty(database)
    for batch in data.draw(an_order(world)):
        await hear(database, batch)
    before = await figures(database)

    rebuilt = await rebuild.rebuild(database, batch=data.draw(st.integers(1, 20)))

    assert rebuilt.differences == {}
    assert rebuilt.events == sum(len(told) for told in world.values())
    assert await figures(database) == before


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(data=st.data())
async def test_what_a_restored_source_takes_back_was_never_counted(database: Database, data: st.DataObject) -> None:
    world = data.draw(a_world())
    source = data.draw(st.sampled_from(sorted(world)))
    valid = data.draw(st.integers(0, len(world[source])))
    if any(one.event.type.endswith("erased.v1") for one in world[source][valid:]):
        valid = len(world[source])  # the ids of persons are gone from the log for good: that is tested apart
    await empty(database)
    for name, told in world.items():
        await hear(database, told[:valid] if name == source else told)
    expected = await figures(database)
    if world[source][valid:]:
        await hear(database, world[source][valid:])

    async with database.transaction() as session:
        await handlers.on_rewind(session, source, valid)

    assert await figures(database) == expected
    new_history = telling.heard(source, (one.event for one in world[source][valid:]), after=valid, epoch=2)
    if new_history:
        await hear(database, new_history)
    assert (await rebuild.rebuild(database)).equal


async def test_events_that_come_while_a_rebuild_is_at_work_are_in_its_figures(database: Database) -> None:
    lives = [event for number in range(1, 41) for event in telling.a_life(number, "95", number)]
    told = telling.heard("referrals", lives)
    await hear(database, told[:100])
    left = [told[start : start + 7] for start in range(100, len(told), 7)]
    more = iter(left)

    async def go_on() -> None:
        for batch in more:
            await hear(database, batch)

    going_on = asyncio.create_task(go_on())
    rebuilt = await rebuild.rebuild(database, batch=10)
    await going_on

    assert rebuilt.equal
    again = await rebuild.rebuild(database)
    assert again.equal
    assert again.events == len(told)


async def test_an_erasure_heard_while_a_rebuild_reads_leaves_no_person_id_behind(database: Database) -> None:
    told = telling.heard("referrals", [*telling.a_life(1, "95", 3), telling.erased(1)])
    await hear(database, told[:-1])
    read = asyncio.Event()

    def progress(events: int) -> None:
        if events >= 3:
            read.set()

    async def erase_once_it_was_read() -> None:
        await read.wait()
        await hear(database, told[-1:])

    erasing = asyncio.create_task(erase_once_it_was_read())
    rebuilt = await rebuild.rebuild(database, batch=1, progress=progress)
    await erasing

    assert rebuilt.equal
    assert (await rebuild.rebuild(database)).equal


async def test_a_counter_that_went_wrong_is_found_and_the_live_tables_stay(database: Database) -> None:
    await hear(database, telling.heard("referrals", telling.a_life(1, "95", 3)))
    async with database.transaction() as session:
        await session.execute(text("UPDATE tallies SET number = number + 1 WHERE measure = 'situations' AND dimension = 'theme'"))
        await session.execute(text("UPDATE persons SET sex = 'unknown'"))

    rebuilt = await rebuild.rebuild(database)

    assert rebuilt.differences == {"persons": 4, "tallies": 2}
    assert {row[5] for row in (await figures(database))["persons"]} == {"unknown"}


async def test_the_ids_of_erased_persons_leave_the_log_and_the_figures_and_the_counts_stay(database: Database) -> None:
    lives = telling.heard("referrals", [*telling.a_life(1, "95", 3), *telling.a_life(2, "95", 3)])
    await hear(database, lives)
    before = await figures(database)

    await hear(database, telling.heard("referrals", [telling.erased(1)], after=len(lives)))

    after = await figures(database)
    gone = {str(telling.an_id(17, 101)), str(telling.an_id(17, 102))}
    async with database.transaction() as session:
        log = "".join(await session.scalars(text("SELECT data FROM facts")))
    assert not any(one in log for one in gone)
    assert str(telling.an_id(17, 201)) in log
    assert not gone & {str(row[1]) for row in after["persons"]}
    assert [row[2:] for row in after["persons"]] == [row[2:] for row in before["persons"]]
    assert [row for row in after["tallies"] if row[0] == "persons"] == [row for row in before["tallies"] if row[0] == "persons"]
    assert (await rebuild.rebuild(database)).equal


async def test_a_source_restored_from_before_an_erasure_says_it_again_and_figures_stay_whole(database: Database) -> None:
    told = telling.heard("referrals", [telling.received(1), telling.assigned(1), telling.erased(1)])
    await hear(database, told)

    async with database.transaction() as session:
        await handlers.on_rewind(session, "referrals", 1)
    await hear(database, telling.heard("referrals", [telling.assigned(1), telling.erased(1)], after=1, epoch=2))

    found = await figures(database)
    assert len(found["persons"]) == 2
    assert (await rebuild.rebuild(database)).equal


async def test_a_fact_whose_referral_was_never_heard_of_is_kept_and_not_counted(database: Database) -> None:
    await hear(database, telling.heard("referrals", [telling.assigned(1), *telling.oriented(1)[1:]]))
    assert (await figures(database))["tallies"] == []

    await hear(database, telling.heard("referrals", [telling.received(2)], after=2))

    totals = [row for row in (await figures(database))["tallies"] if row[1] == "total"]
    assert {(row[0], row[5]) for row in totals} == {("situations", 1), ("persons", 2)}


async def test_a_second_rebuild_at_the_same_time_is_refused(database: Database) -> None:
    connection = await database.connect()
    await connection.execute("SELECT pg_advisory_lock($1)", rebuild._REBUILDING)

    with pytest.raises(rebuild.AlreadyRunning):
        await rebuild.rebuild(database)
    await connection.close()


async def test_a_reader_never_sees_less_while_tables_change_places(database: Database) -> None:
    told = telling.heard("referrals", [event for number in range(1, 31) for event in telling.a_life(number, "95", 2)])
    await hear(database, told)
    seen: list[int | None] = []
    done = asyncio.Event()

    async def read() -> None:
        while not done.is_set():
            async with database.transaction(repeatable_read=True) as session:
                await queries.lock_names(session)
                statement = text(
                    "SELECT sum(number), (SELECT count(*) FROM situations) FROM tallies WHERE measure = 'situations' AND dimension = 'total'"
                )
                total, rows = (await session.execute(statement)).one()
            seen.extend((total, rows))

    reading = asyncio.create_task(read())
    for _ in range(5):
        assert (await rebuild.rebuild(database, batch=25)).equal
    done.set()
    await reading

    assert seen
    assert set(seen) == {30}


async def test_a_batch_in_work_when_tables_change_places_is_in_the_new_ones(database: Database) -> None:
    await hear(database, telling.heard("referrals", telling.a_life(1, "95", 2)))
    async with database.transaction() as session:
        await handlers.on_batch(session, telling.heard("referrals", telling.a_life(2, "95", 2), after=4))
        waiting = asyncio.create_task(rebuild.rebuild(database))
        while not await session.scalar(
            text("SELECT count(*) FROM pg_locks WHERE NOT granted AND pg_backend_pid() = ANY (pg_blocking_pids(pid))")
        ):
            assert not waiting.done()
            await asyncio.sleep(0.01)

    assert (await waiting).equal
    assert [row[0] for row in (await figures(database))["situations"]] == [telling.referral_id(1), telling.referral_id(2)]
    assert (await rebuild.rebuild(database)).equal


async def test_indexes_keep_their_names_after_a_rebuild(database: Database) -> None:
    names = text("SELECT indexname FROM pg_indexes WHERE schemaname = 'public' ORDER BY 1")
    async with database.transaction() as session:
        before = list(await session.scalars(names))

    await rebuild.rebuild(database)
    await rebuild.rebuild(database)

    async with database.transaction() as session:
        assert list(await session.scalars(names)) == before


def test_every_field_that_names_a_person_is_known_to_the_erasure() -> None:
    for kind in referrals.EVENTS:
        fields = {name for name in kind.model_fields if "person" in name}
        assert fields <= {"persons", "person_id", "person_ids"}, f"facts.forget_persons must learn {kind.type}"
    assert {name for name in referrals.PersonCounted.model_fields if name.endswith("_id")} == {"person_id"}


async def test_an_operator_rebuilds_from_the_command_line(database: Database) -> None:
    told = telling.heard("referrals", telling.a_life(1, "95", 3))
    await hear(database, told)

    rebuilt, seconds = await rebuilding.run(database.url)

    assert rebuilt.equal
    assert rebuilt.events == len(told)
    assert seconds > 0


async def test_one_erased_person_leaves_the_log_and_the_others_stay_counted_under_their_ids(database: Database) -> None:
    life = [telling.received(1), telling.assigned(1)]
    received = telling.received(1)
    first, second = (person.person_id for person in received.persons[:2])
    await hear(database, telling.heard("referrals", life))

    partly = telling.erased(1).model_copy(update={"person_ids": (second,), "whole": False})
    await hear(database, telling.heard("referrals", [partly], after=len(life)))

    async with database.transaction() as session:
        rows = await session.execute(text("SELECT data FROM facts WHERE source = 'referrals'"))
        log = "".join(row.data for row in rows)
        situation = await session.scalar(text("SELECT status FROM situations"))
    assert str(first) in log
    assert str(second) not in log
    assert situation == "assigned"


async def test_a_correction_after_an_erasure_leaves_the_figures_of_who_was_erased(database: Database) -> None:
    received = telling.received(1)
    second, third = received.persons[1], telling.person(1, 3, returning=True)
    whole = received.model_copy(update={"persons": (received.persons[0], second.model_copy(update={"returning": True}), third)})
    gone = [telling.erased(1).model_copy(update={"person_ids": (one.person_id,), "whole": False}) for one in (third, second)]
    await hear(database, telling.heard("referrals", [whole, *gone]))
    before = await figures(database)

    numbered = [one.model_copy(update={"person_id": referrals.number_of(place)}) for place, one in ((2, second), (3, third))]
    kept = [one.model_copy(update={"returning": None}) for one in (received.persons[0], *numbered)]
    await hear(database, telling.heard("referrals", [telling.corrected(1, persons=tuple(kept))], after=3))

    assert await figures(database) == before
    assert (await rebuild.rebuild(database)).equal


async def test_who_cannot_be_told_from_others_any_more_is_neither_new_nor_known(database: Database) -> None:
    person = telling.person(1, 1, returning=True)
    await hear(database, telling.heard("referrals", [telling.received(1, persons=(person,))]))

    async def seen_before() -> Any:
        async with database.transaction() as session:
            situation, whoever = "SELECT seen_before FROM situations", "SELECT seen_before FROM persons"
            return [await session.scalar(text(one)) for one in (situation, whoever)]

    before = await seen_before()
    lost = person.model_copy(update={"returning": None, "identified": False})
    await hear(database, telling.heard("referrals", [telling.corrected(1, persons=(lost,))], after=1))

    assert (before, await seen_before()) == ([True, True], [None, None])
    assert (await rebuild.rebuild(database)).equal


async def test_what_was_sent_for_a_situation_is_counted_once_for_each_kind_whatever_the_number_and_the_order(database: Database) -> None:
    report = AlertKind.PROSECUTOR_REPORT
    told = [
        telling.alerted(1),
        telling.received(1),
        telling.received(2),
        telling.alerted(1, report),
        telling.alerted(1),
        telling.received(3),
    ]
    await hear(database, telling.heard("referrals", told))

    kept = await figures(database)
    counted = {row[4]: row[5] for row in kept["tallies"] if row[1] == "alerts"}

    assert counted == {"": 2, "concerning_information": 1, "prosecutor_report": 1}
    assert (await rebuild.rebuild(database)).equal


async def test_what_was_heard_before_the_migration_is_counted_by_it_as_the_events_count_it(database: Database) -> None:
    await hear(database, telling.heard("referrals", [event for number in range(1, 12) for event in telling.a_life(number, "95", number)]))
    expected = await figures(database)
    versions = ("2026_11_25_seen_before", "2026_11_25_alerts", "2026_12_01_duplicates")
    migrations = [importlib.import_module(f"services.reporting.migrations.versions.{version}") for version in versions]

    async with database.transaction() as session:
        await session.execute(text("DELETE FROM tallies WHERE dimension IN ('seen_before', 'alerts')"))
        await session.execute(text("DELETE FROM tallies WHERE measure = 'persons' AND dimension = 'close_reason'"))
        for table in ("persons", "situations"):
            await session.execute(text(f"ALTER TABLE {table} DROP COLUMN seen_before"))
        await session.execute(text("ALTER TABLE persons DROP COLUMN close_reason"))
        await session.execute(text("ALTER TABLE situations DROP COLUMN alerts, DROP COLUMN first_contact_at, DROP COLUMN due_passed_at"))
        for migration in migrations:
            for statement in migration.STATEMENTS:
                await session.execute(text(statement))

    assert await figures(database) == expected
    assert (await rebuild.rebuild(database)).equal
