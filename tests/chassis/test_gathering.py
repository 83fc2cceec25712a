"""Requests that gather are one transaction, and for each caller it is as if it had been alone."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from libs.chassis.database import Database
from libs.chassis.gathering import Done, Gathering
from libs.chassis.idempotency import WAIT, Claim, InFlight, KeyReused, claim, claim_of
from libs.chassis.problems import is_away
from libs.chassis.refusals import Refusal
from tests.chassis.answering import Taken, ThingOut
from tests.planted import seen_red


@dataclass
class Things:
    """Makes things by name. "division" is a value that fails the whole statement, "closed" one that is refused. `batches`: the names of each call."""

    batches: list[list[str]] = field(default_factory=list)
    held: asyncio.Event = field(default_factory=asyncio.Event)

    async def make(self, session: AsyncSession, names: Sequence[str]) -> list[ThingOut | Refusal]:
        self.batches.append(list(names))
        await self.held.wait()
        good = [name for name in names if name != "closed"]
        rows = await session.execute(
            text(
                "INSERT INTO things (id, name) SELECT gen_random_uuid(), name FROM unnest(CAST(:names AS text[])) AS new (name)"
                " WHERE 1 / (CASE name WHEN 'division' THEN 0 ELSE 1 END) = 1 RETURNING id, name"
            ),
            {"names": good},
        )
        made = {row.name: row.id for row in rows}
        return [ThingOut(id=made[name], name=name, version=1) if name in made else Taken("Refusé.") for name in names]


@pytest.fixture
async def database(database_url: Callable[[str | None], str]) -> AsyncIterator[Database]:
    database = Database(database_url(None))
    async with database.transaction() as session:
        await session.execute(text("CREATE TABLE things (id uuid PRIMARY KEY, name text NOT NULL UNIQUE)"))
    yield database
    await database.close()


@pytest.fixture
def things() -> Things:
    made = Things()
    made.held.set()
    return made


@pytest.fixture
async def gathering(database: Database, things: Things) -> AsyncIterator[Gathering[str]]:
    gathering = Gathering(database, things.make, location="/v1/things/{id}", at_once=1)
    yield gathering
    things.held.set()
    await gathering.close()


def key(name: str, body: bytes = b"") -> Claim:
    return claim_of("police-95", f"key-{name}", "make_thing", "/v1/things", body)


async def names(database: Database, table: str = "things", column: str = "name") -> list[str]:
    async with database.transaction() as session:
        return list(await session.scalars(text(f"SELECT {column} FROM {table} ORDER BY 1")))


async def held(gathering: Gathering[str], things: Things) -> asyncio.Task[Done]:
    """A first request is being written, so that all that follow gather."""
    things.held.clear()
    first = asyncio.create_task(gathering(key("first"), "first"))
    while not things.batches:  # noqa: ASYNC110  # it happens in PostgreSQL
        await asyncio.sleep(0.001)
    return first


async def test_what_waits_at_the_same_moment_is_one_transaction(gathering: Gathering[str], things: Things, database: Database) -> None:
    first = await held(gathering, things)
    others = [asyncio.create_task(gathering(key(name), name)) for name in ("a", "b", "c")]
    await asyncio.sleep(0)

    things.held.set()
    done = await asyncio.gather(first, *others)

    assert things.batches == [["first"], ["a", "b", "c"]]
    assert [one.replayed for one in done] == [False] * 4
    assert len({one.stored.headers["Location"] for one in done}) == 4
    assert await names(database) == ["a", "b", "c", "first"]


async def test_a_batch_is_bounded(database: Database, things: Things) -> None:
    gathering = Gathering(database, things.make, most=2, at_once=1)

    await asyncio.gather(*(gathering(key(f"n-{number}"), f"n-{number}") for number in range(5)))

    assert max(map(len, things.batches)) == 2


async def test_nobody_is_answered_before_the_commit(gathering: Gathering[str], database: Database) -> None:
    seen = []

    async def ask(name: str) -> None:
        await gathering(key(name), name)
        seen.append(name in await names(database))

    await asyncio.gather(*(ask(f"n-{number}") for number in range(8)))

    assert seen == [True] * 8, "somebody was answered before the commit"


async def test_a_refused_request_does_not_fail_its_neighbours_and_leaves_its_key_free(
    gathering: Gathering[str], things: Things, database: Database
) -> None:
    outcomes = await asyncio.gather(*(gathering(key(name), name) for name in ("a", "closed", "b")), return_exceptions=True)

    assert [type(one) for one in outcomes] == [Done, Taken, Done], "a refused request failed its neighbours"
    assert things.batches == [["a", "closed", "b"]]
    assert await names(database, "idempotency_keys", "key") == ["key-a", "key-b"], "a refused request keeps its key"
    assert not (await gathering(key("closed"), "another")).replayed


async def test_what_fails_the_whole_batch_fails_only_the_guilty(gathering: Gathering[str], things: Things, database: Database) -> None:
    outcomes = await asyncio.gather(*(gathering(key(name), name) for name in ("a", "division", "b")), return_exceptions=True)

    assert [isinstance(one, Done) for one in outcomes] == [True, False, True], "what failed took its neighbours with it"
    assert "division by zero" in str(outcomes[1])
    assert await names(database) == ["a", "b"]
    assert await names(database, "idempotency_keys", "key") == ["key-a", "key-b"]


async def test_planted_an_answer_before_the_commit_is_seen(
    gathering: Gathering[str], database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with AsyncExitStack() as uncommitted:

        @asynccontextmanager
        async def left_open() -> AsyncIterator[AsyncSession]:
            yield await uncommitted.enter_async_context(database.transaction())

        monkeypatch.setattr(gathering, "_database", SimpleNamespace(transaction=left_open))

        await seen_red(test_nobody_is_answered_before_the_commit(gathering, database), "somebody was answered before the commit")


async def test_planted_a_refusal_that_is_everybodys_is_seen(
    gathering: Gathering[str], things: Things, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = things.make

    async def all_or_none(session: AsyncSession, names: Sequence[str]) -> list[ThingOut | Refusal]:
        made = await make(session, names)
        refused = next((one for one in made if isinstance(one, Refusal)), None)
        return [refused or one for one in made]

    monkeypatch.setattr(gathering, "_command", all_or_none)

    await seen_red(
        test_a_refused_request_does_not_fail_its_neighbours_and_leaves_its_key_free(gathering, things, database),
        "a refused request failed its neighbours",
    )


async def test_planted_a_key_that_a_refused_request_keeps_is_seen(
    gathering: Gathering[str], things: Things, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def keep(*_: object) -> None: ...

    monkeypatch.setattr("libs.chassis.gathering.release", keep)

    await seen_red(
        test_a_refused_request_does_not_fail_its_neighbours_and_leaves_its_key_free(gathering, things, database),
        "a refused request keeps its key",
    )


async def test_planted_a_failed_batch_that_nobody_takes_apart_is_seen(
    gathering: Gathering[str], things: Things, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("libs.chassis.gathering._SHORT_WAIT", WAIT)  # as if each had been alone already

    await seen_red(
        test_what_fails_the_whole_batch_fails_only_the_guilty(gathering, things, database), "what failed took its neighbours with it"
    )


async def test_twins_that_gather_are_one_request_with_equal_answers(gathering: Gathering[str], things: Things) -> None:
    done = await asyncio.gather(*(gathering(key("a"), "a") for _ in range(50)))

    assert things.batches == [["a"]]
    assert len({one.stored.body for one in done}) == 1
    assert sorted(one.replayed for one in done) == [False] + [True] * 49


async def test_twins_of_a_refused_request_are_refused_as_well(gathering: Gathering[str], database: Database) -> None:
    outcomes = await asyncio.gather(*(gathering(key("closed"), "closed") for _ in range(3)), return_exceptions=True)

    assert [type(one) for one in outcomes] == [Taken] * 3
    assert await names(database, "idempotency_keys", "key") == []


async def test_a_key_that_gathers_twice_for_two_requests_is_refused_the_second_time(gathering: Gathering[str], things: Things) -> None:
    outcomes = await asyncio.gather(gathering(key("a"), "a"), gathering(key("a", b"other"), "b"), return_exceptions=True)

    assert [type(one) for one in outcomes] == [Done, KeyReused]
    assert things.batches == [["a"]]


async def test_a_twin_in_flight_elsewhere_holds_up_nobody_else(
    gathering: Gathering[str], database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("libs.chassis.gathering.WAIT", "200ms")
    async with database.transaction() as session:
        await claim(session, [key("a")])

        outcomes = await asyncio.gather(*(gathering(key(name), name) for name in ("a", "b", "c")), return_exceptions=True)

    assert [type(one) for one in outcomes] == [InFlight, Done, Done]


async def test_what_was_done_before_is_replayed_among_new_ones(gathering: Gathering[str], database: Database) -> None:
    first = await gathering(key("a"), "a")

    again, new = await asyncio.gather(gathering(key("a"), "a"), gathering(key("b"), "b"))

    assert again == Done(first.stored, replayed=True)
    assert not new.replayed
    assert await names(database) == ["a", "b"]


async def test_a_caller_that_goes_away_harms_nobody_and_finds_its_request_done(
    gathering: Gathering[str], things: Things, database: Database
) -> None:
    first = await held(gathering, things)
    leaving, staying = (asyncio.create_task(gathering(key(name), name)) for name in ("leaving", "staying"))
    await asyncio.sleep(0)

    first.cancel()
    leaving.cancel()
    things.held.set()

    assert not (await staying).replayed
    assert (await gathering(key("first"), "first")).replayed
    assert (await gathering(key("leaving"), "leaving")).replayed
    assert await names(database) == ["first", "leaving", "staying"]


async def test_who_went_away_and_asks_again_waits_for_what_it_had_asked_and_nobody_waits_with_it(
    gathering: Gathering[str], things: Things, monkeypatch: pytest.MonkeyPatch
) -> None:
    claimed: list[list[str]] = []

    async def noted(session: AsyncSession, claims: Sequence[Claim], **how: Any) -> Any:
        claimed.append([one.key for one in claims])
        return await claim(session, claims, **how)

    monkeypatch.setattr("libs.chassis.gathering.claim", noted)
    first = await held(gathering, things)
    first.cancel()
    await asyncio.wait([first])

    again, other = (asyncio.create_task(gathering(key(name), name)) for name in ("first", "other"))
    await asyncio.sleep(0)
    things.held.set()

    assert [done.replayed for done in await asyncio.gather(again, other)] == [True, False]
    assert claimed == [["key-first"], ["key-other"]]


async def test_closing_writes_what_was_asked(gathering: Gathering[str], things: Things, database: Database) -> None:
    first = await held(gathering, things)
    second = asyncio.create_task(gathering(key("second"), "second"))
    await asyncio.sleep(0)
    closing = asyncio.create_task(gathering.close())
    await asyncio.sleep(0)

    things.held.set()
    await closing

    assert await names(database) == ["first", "second"]
    assert [one.replayed for one in await asyncio.gather(first, second)] == [False, False]


async def test_a_database_that_goes_away_fails_the_batch_and_the_next_one_works(
    gathering: Gathering[str], things: Things, database: Database
) -> None:
    first = await held(gathering, things)
    raw = await database.connect()
    await raw.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    await raw.close()
    things.held.set()

    [failure] = await asyncio.gather(first, return_exceptions=True)

    assert isinstance(failure, Exception)
    assert is_away(failure)
    assert not (await gathering(key("first"), "first")).replayed
    assert await names(database) == ["first"]


async def test_two_processes_with_crossing_batches_do_not_deadlock(database: Database, things: Things) -> None:
    one, other = (Gathering(database, things.make, at_once=1) for _ in range(2))
    asked = [f"n-{number}" for number in range(40)]

    done = await asyncio.gather(*(one(key(name), name) for name in asked), *(other(key(name), name) for name in reversed(asked)))

    assert sum(not each.replayed for each in done) == 40
    assert await names(database) == sorted(asked)
