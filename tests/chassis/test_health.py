"""/livez and /readyz: what they say to whoever starts, stops and watches processes."""

import asyncio
from collections.abc import Callable

import httpx
import pytest
from fastapi import FastAPI

from libs.chassis import operations_api
from libs.chassis.health import Heartbeat
from libs.chassis.runtime import Runtime
from tests.chassis.answering import Issuer, app_of, calling
from tests.chassis.test_problems import problem
from tests.planted import seen_red

ISSUER = Issuer()


async def _ask(app: FastAPI, path: str) -> httpx.Response:
    async with calling(app) as client:
        return await client.get(path)


async def test_a_process_lives_while_its_loops_make_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    app = app_of(ISSUER)
    relay, consumer = Heartbeat("relay", 30), Heartbeat("consumer", 60)
    app.state.runtime.heartbeats = {"relay": relay, "consumer": consumer}

    assert (await _ask(app, "/livez")).json() == {"status": "alive"}
    monkeypatch.setattr(relay, "_last", relay._last - 31)
    said = problem(await _ask(app, "/livez"), 503, "unavailable")
    assert said["stuck"] == "relay"
    relay.beat()
    assert (await _ask(app, "/livez")).status_code == 200


async def test_without_its_database_it_is_not_ready() -> None:
    answer = await _ask(app_of(ISSUER), "/readyz")

    problem(answer, 503, "unavailable")
    assert "retry-after" in answer.headers


async def test_with_an_old_database_it_is_not_ready(database_url: Callable[[str | None], str]) -> None:
    said = problem(await _ask(app_of(ISSUER, database_url=database_url(None)), "/readyz"), 503, "unavailable")

    assert "migrate" in said["detail"]


async def test_with_its_database_it_is_ready(database_url: Callable[[str | None], str]) -> None:
    answer = await _ask(app_of(ISSUER, database_url=database_url("partners")), "/readyz")

    assert answer.json() == {"status": "ready", "troubles": [], "sources": []}


async def test_a_database_ahead_of_this_code_will_do(database_url: Callable[[str | None], str]) -> None:
    app = app_of(ISSUER, database_url=database_url("partners"))
    runtime: Runtime = app.state.runtime
    raw = await runtime.database.connect()
    await raw.execute("UPDATE alembic_version SET version_num = 'partners_9999' WHERE version_num LIKE 'partners%'")
    await raw.close()

    assert (await _ask(app, "/readyz")).status_code == 200


async def test_a_dead_broker_degrades_and_takes_nothing_away(database_url: Callable[[str | None], str]) -> None:
    app = app_of(ISSUER, database_url=database_url("partners"))
    runtime: Runtime = app.state.runtime
    runtime.relay.bus_error = "KafkaConnectionError"

    async with calling(app) as client:  # the lifespan starts no worker: a process whose relay had been started is imitated
        runtime.roles = frozenset({"api", "worker"})
        answer = await client.get("/readyz")
        runtime.roles = frozenset({"api"})

    assert answer.status_code == 200
    assert answer.json()["status"] == "degraded"
    assert answer.json()["troubles"] == ["broker-absent"]


async def test_a_diverged_stream_is_told(database_url: Callable[[str | None], str]) -> None:
    app = app_of(ISSUER, database_url=database_url("partners"))
    runtime: Runtime = app.state.runtime
    raw = await runtime.database.connect()
    await raw.execute(
        "INSERT INTO streams (stream, digest, purged_digest, diverged_at, diverged_reason) VALUES ('internal', ''::bytea, ''::bytea, now(), 'x')"
    )
    await raw.close()

    assert (await _ask(app, "/readyz")).json()["troubles"] == ["stream-diverged:internal"]


async def test_who_asks_while_a_look_is_under_way_has_its_answer(
    database_url: Callable[[str | None], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Anybody may ask, /readyz however many do: it is no way to the connections of those who work."""
    app = app_of(ISSUER, database_url=database_url("partners"))
    runtime: Runtime = app.state.runtime
    looks = 0
    begun, ends = asyncio.Event(), asyncio.Event()

    async def troubles() -> list[str]:
        nonlocal looks
        looks += 1
        begun.set()
        await ends.wait()
        return []

    monkeypatch.setattr(runtime, "troubles", troubles)
    async with calling(app) as client:
        for path in ("/readyz", "/metrics"):
            looks = 0
            begun.clear()
            ends.clear()
            asked = [asyncio.create_task(client.get(path)) for _ in range(8)]
            await begun.wait()
            ends.set()
            answers = await asyncio.gather(*asked)

            assert [one.status_code for one in answers] == [200] * 8
            assert looks == 1, path
            assert (await client.get(path)).status_code == 200
            assert looks == 2, "the next one looks again"


async def test_planted_a_look_for_everybody_who_asks_is_seen(
    database_url: Callable[[str | None], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(operations_api, "_together", lambda _request, look: look())

    await seen_red(test_who_asks_while_a_look_is_under_way_has_its_answer(database_url, monkeypatch), "/readyz")
