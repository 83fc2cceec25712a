"""A creating request may be repeated: one effect, equal answers. On real PostgreSQL."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import asyncpg
import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from libs.chassis import idempotency
from libs.chassis.database import Database
from libs.chassis.idempotency import KeyReused, Stored, claim, claim_of, purge, store
from tests.chassis import answering
from tests.chassis.answering import Issuer, app_of, calling
from tests.chassis.test_problems import problem
from tests.planted import seen_red

ISSUER = Issuer()


@pytest.fixture
async def database(database_url: Callable[[str | None], str]) -> AsyncIterator[Database]:
    database = Database(database_url(None))
    raw = await database.connect()
    await raw.execute("CREATE TABLE things (id uuid PRIMARY KEY, name text NOT NULL UNIQUE, version integer NOT NULL DEFAULT 1)")
    await raw.close()
    yield database
    await database.close()


@pytest.fixture
def app(database: Database) -> FastAPI:
    return app_of(ISSUER, database_url=database.url)


@pytest.fixture
async def client(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    async with calling(app, ISSUER.headers()) as client:
        yield client


async def _make(client: httpx.AsyncClient, key: str | None, name: str = "Premier", **headers: str) -> httpx.Response:
    return await client.post(
        "/v1/things", json={"name": name}, headers={**({"Idempotency-Key": key} if key is not None else {}), **headers}
    )


async def _count(database: Database, table: str = "things") -> int:
    raw = await database.connect()
    try:
        return int(await raw.fetchval(f"SELECT count(*) FROM {table}"))  # the name of one of our tables
    finally:
        await raw.close()


async def test_the_same_request_again_gets_the_same_answer(client: httpx.AsyncClient, database: Database) -> None:
    first = await _make(client, "k-1")

    second = await _make(client, "k-1")

    assert first.status_code == second.status_code == 201
    assert first.content == second.content
    assert first.headers["location"] == second.headers["location"] == f"/v1/things/{first.json()['id']}"
    assert first.headers["etag"] == second.headers["etag"] == '"1"'
    assert "idempotency-replayed" not in first.headers
    assert second.headers["idempotency-replayed"] == "true"
    assert await _count(database) == 1


async def test_a_hundred_equal_posts_at_once_make_one_thing_and_a_hundred_equal_answers(
    client: httpx.AsyncClient, database: Database
) -> None:
    answers = await asyncio.gather(*(_make(client, "k-100") for _ in range(100)))

    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.content for answer in answers}) == 1
    assert sum("idempotency-replayed" not in answer.headers for answer in answers) == 1
    assert await _count(database) == 1


async def test_planted_a_key_that_is_not_claimed_before_the_work_makes_it_many_times(
    client: httpx.AsyncClient, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def nobody_was_first(session: AsyncSession, claims: Sequence[idempotency.Claim]) -> list[None]:
        return [None for _ in claims]

    async def forgotten(session: AsyncSession, stored: object) -> None: ...

    monkeypatch.setattr(idempotency, "claim", nobody_was_first)
    monkeypatch.setattr(idempotency, "store", forgotten)

    await seen_red(test_a_hundred_equal_posts_at_once_make_one_thing_and_a_hundred_equal_answers(client, database), "{201}")


async def test_the_key_for_another_content_is_refused(client: httpx.AsyncClient, database: Database) -> None:
    await _make(client, "k-1")

    problem(await _make(client, "k-1", "Second"), 422, "idempotency-key-reused")

    assert await _count(database) == 1


async def test_keys_belong_to_their_client(client: httpx.AsyncClient, database: Database) -> None:
    await _make(client, "k-1")

    other = await _make(client, "k-1", "Second", **ISSUER.headers(client_id="police-78"))

    assert other.status_code == 201
    assert await _count(database) == 2


async def test_keys_belong_to_each_person_of_a_client(client: httpx.AsyncClient, database: Database) -> None:
    first = await _make(client, "k-1", **ISSUER.headers(client_id="desk", sub="one"))

    other = await _make(client, "k-1", "Second", **ISSUER.headers(client_id="desk", sub="another"))
    again = await _make(client, "k-1", **ISSUER.headers(client_id="desk", sub="one"))

    assert [one.status_code for one in (first, other, again)] == [201, 201, 201]
    assert again.content == first.content
    assert await _count(database) == 2


async def test_a_refusal_is_not_remembered(client: httpx.AsyncClient, database: Database) -> None:
    made = (await _make(client, "k-1")).json()
    problem(await _make(client, "k-2"), 409, "thing-taken")
    raw = await database.connect()
    await raw.execute("DELETE FROM things WHERE id = $1", made["id"])
    await raw.close()

    again = await _make(client, "k-2")

    assert again.status_code == 201
    assert await _count(database, "idempotency_keys") == 2


@pytest.mark.parametrize(
    ("key", "type"), [(None, "idempotency-key-missing"), ("", "idempotency-key-missing"), ("a b", "malformed"), ("a" * 201, "malformed")]
)
async def test_a_key_is_needed_and_is_plain(client: httpx.AsyncClient, database: Database, key: str | None, type: str) -> None:
    problem(await _make(client, key), 400, type)

    assert await _count(database) == 0


async def test_a_twin_that_takes_too_long_is_told_to_come_back(
    client: httpx.AsyncClient, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(idempotency, "WAIT", "100ms")
    async with database.transaction() as session:
        await claim(session, [claim_of("police-95", "k-1", "make_thing", "/v1/things", b"")])

        answer = await _make(client, "k-1")

    problem(answer, 409, "idempotency-in-flight")
    assert answer.headers["retry-after"] == "1"


async def test_a_twin_whose_first_one_failed_does_the_work_itself(
    client: httpx.AsyncClient, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(idempotency, "WAIT", "60s")
    waiting = asyncio.Event()
    behind = text("SELECT count(*) FROM pg_locks WHERE NOT granted AND pg_backend_pid() = ANY (pg_blocking_pids(pid))")

    async def first() -> None:
        async with database.transaction() as session:
            await claim(session, [claim_of("police-95", "k-1", "make_thing", "/v1/things", b"")])
            waiting.set()
            while not await session.scalar(behind):  # noqa: ASYNC110  # it happens in PostgreSQL
                await asyncio.sleep(0.01)
            raise RuntimeError("killed")

    failing = asyncio.create_task(first())
    await waiting.wait()

    answer = await _make(client, "k-1")

    assert answer.status_code == 201
    with pytest.raises(RuntimeError):
        await failing


async def test_many_requests_are_claimed_and_stored_in_one_go(database: Database) -> None:
    claims = [claim_of("c", f"k-{number}", "op", "/p", b"body") for number in (3, 1, 2)]
    async with database.transaction() as session:
        assert await claim(session, claims[:2]) == [None, None]
        await store(session, [(one, Stored(201, {"Location": one.key}, b'{"a": 1e2}')) for one in claims[:2]])

    async with database.transaction() as session:
        outcomes = await claim(session, [claims[0], claims[2], claim_of("c", "k-1", "op", "/p", b"other")])

    assert outcomes[0] == Stored(201, {"Location": "k-3"}, b'{"a": 1e2}')
    assert outcomes[1] is None
    assert isinstance(outcomes[2], KeyReused)


async def test_answers_are_forgotten_after_their_time(database: Database) -> None:
    async with database.transaction() as session:
        await claim(session, [claim_of("c", key, "op", "/p", b"") for key in ("old", "new")])
    raw = await database.connect()
    await raw.execute("UPDATE idempotency_keys SET created_at = now() - interval '49 hours' WHERE key = 'old'")

    async with database.transaction() as session:
        assert await purge(session, hours=48) == 1

    assert [row["key"] for row in await raw.fetch("SELECT key FROM idempotency_keys")] == ["new"]
    await raw.close()


# If-Match and pages, on the same things


@pytest.fixture
async def made(client: httpx.AsyncClient) -> dict[str, Any]:
    made: dict[str, Any] = (await _make(client, "k-1")).json()
    return made


async def _rename(client: httpx.AsyncClient, id: str, version: str | None, name: str = "Autre") -> httpx.Response:
    return await client.patch(f"/v1/things/{id}", json={"name": name}, headers={"If-Match": version} if version is not None else {})


async def test_a_change_names_the_version_it_was_made_from(client: httpx.AsyncClient, made: dict[str, Any]) -> None:
    answer = await _rename(client, made["id"], '"1"')

    assert (answer.status_code, answer.headers["etag"]) == (200, '"2"')


@pytest.mark.parametrize(
    ("version", "status", "type"),
    [
        (None, 428, "version-missing"),
        ("*", 428, "version-missing"),
        ('"2"', 412, "stale-version"),
        ('W/"1"', 412, "stale-version"),
        ('"abc"', 412, "stale-version"),
        ("1", 400, "malformed"),
        ('"1", "2"', 400, "malformed"),
    ],
)
async def test_a_change_without_the_right_version_is_refused(
    client: httpx.AsyncClient, made: dict[str, Any], version: str | None, status: int, type: str
) -> None:
    problem(await _rename(client, made["id"], version), status, type)


async def test_of_two_people_who_change_one_thing_one_is_told(client: httpx.AsyncClient, made: dict[str, Any]) -> None:
    answers = await asyncio.gather(*(_rename(client, made["id"], '"1"', name) for name in ("Un", "Deux")))

    assert sorted(answer.status_code for answer in answers) == [200, 412]


async def test_planted_a_version_that_nobody_compares_lets_both_change(
    client: httpx.AsyncClient, made: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answering, "match", lambda current, expected: None)

    await seen_red(test_of_two_people_who_change_one_thing_one_is_told(client, made), "[200, 412]")


async def test_a_list_is_followed_to_its_end(client: httpx.AsyncClient) -> None:
    for number in range(5):
        await _make(client, f"k-{number}", f"Chose {number}")

    seen, address = [], "/v1/things?limit=2"
    while address:
        answer = await client.get(address)
        seen.append([item["name"] for item in answer.json()["items"]])
        address = answer.links["next"]["url"] if "next" in answer.links else ""
        assert ("next" in answer.links) == (answer.json()["next"] is not None)

    assert seen == [["Chose 0", "Chose 1"], ["Chose 2", "Chose 3"], ["Chose 4"]]


async def test_a_database_that_goes_away_is_503_and_comes_back(client: httpx.AsyncClient, database: Database) -> None:
    await _make(client, "k-1")
    raw = await database.connect()
    await raw.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    await raw.close()

    problem(await _make(client, "k-1"), 503, "unavailable")
    answer = await _make(client, "k-1")

    assert (answer.status_code, answer.headers["idempotency-replayed"]) == (201, "true")
    assert issubclass(asyncpg.AdminShutdownError, asyncpg.PostgresError)
