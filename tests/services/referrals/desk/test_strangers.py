"""What strangers, and a provider that does not answer, may take of the desk: never what others need."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from sqlalchemy import AsyncAdaptedQueuePool, text
from sqlalchemy.ext.asyncio import AsyncSession

from libs.chassis.database import Database
from libs.chassis.limits import LEAVE
from libs.chassis.rates import Rates
from libs.chassis.refusals import Unavailable
from services.referrals.desk import sessions as kept_sessions
from services.referrals.desk.provider import Provider, Tokens
from services.referrals.desk.sessions import Sessions
from tests.planted import seen_red
from tests.services.referrals.desk.browser import BASE, FORM
from tests.services.referrals.desk.conftest import Desk
from tests.services.referrals.desk.test_sign_in import COOKIE, execute, provider_of
from tests.serving import app_of
from tests.settings import settings_for

ENDED = -3600
FROM_HERE = {"Origin": BASE, "Sec-Fetch-Site": "same-origin", "Content-Type": FORM}


async def a_session(desk: Desk, lifetime: int = 600) -> str:
    """Its secret."""
    token = desk.issuer.issue("iscg-95", client_id="desk", lifetime=lifetime)
    tokens = Tokens(access_token=token, id_token=token, refresh_token="first", name="Camille Exemple")
    async with desk.runtime.database.transaction() as session:
        return await Sessions.of(desk.runtime).make(session, tokens, datetime.now(UTC))


async def ask(desk: Desk, secret: str, path: str = "/desk/purpose") -> int:
    answer = await desk.client.get(path, headers={"Cookie": f"{COOKIE}={secret}"})
    return answer.status_code


async def test_forms_without_a_session_that_come_slowly_take_the_share_of_their_address_and_no_more(desk: Desk) -> None:
    app_of(desk.client).state.rates = Rates(settings_for("referrals", client_concurrency_limit=2))
    read, ends = asyncio.Semaphore(0), asyncio.Event()

    async def slowly() -> AsyncIterator[bytes]:
        read.release()
        yield b"csrf="
        await ends.wait()
        yield b"another"

    async def send(content: bytes | AsyncIterator[bytes]) -> int:
        return (await desk.client.post("/desk/sign-out", content=content, headers=FROM_HERE)).status_code

    slow = [asyncio.create_task(send(slowly())) for _ in range(2)]
    for _ in slow:
        await read.acquire()
    beyond = await send(b"csrf=another")
    person = await a_session(desk)
    signed_in = [await ask(desk, person), await ask(desk, person, "/desk/")]
    elsewhere = httpx.AsyncClient(transport=httpx.ASGITransport(app_of(desk.client), client=("192.0.2.9", 5)), base_url=BASE)
    neighbour = await elsewhere.get("/desk/")
    ends.set()

    assert beyond == 503
    assert signed_in == [200, 200], "who is signed in has a share of their own"
    assert neighbour.status_code == 200
    assert await asyncio.gather(*slow) == [401, 401]
    assert await send(b"csrf=another") == 401, "the places are given back"


async def test_planted_a_stranger_who_takes_no_share_is_seen(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Rates, "admit", lambda self, scope: None)

    await seen_red(test_forms_without_a_session_that_come_slowly_take_the_share_of_their_address_and_no_more(desk), "401 == 503")


async def test_who_waits_until_it_is_known_whose_session_it_is_takes_a_share_that_strangers_do_not_have(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    rates = app_of(desk.client).state.rates = Rates(settings_for("referrals", client_concurrency_limit=2))
    secret, use, looked, known = await a_session(desk), Sessions._use, asyncio.Semaphore(0), asyncio.Event()

    async def slowly(self: Sessions, *given: Any) -> Any:
        looked.release()
        await known.wait()
        return await use(self, *given)

    monkeypatch.setattr(Sessions, "_use", slowly)
    strangers: list[dict[str, Any]] = [{"client": ("127.0.0.1", port)} for port in (1, 2)]
    for stranger in strangers:
        rates.admit(stranger)
    waiting = [asyncio.create_task(ask(desk, secret)) for _ in range(2)]
    for _ in waiting:
        await looked.acquire()
    beyond = asyncio.create_task(ask(desk, secret))
    token = await desk.client.get("/v1/referrals", headers={"Authorization": f"Bearer {desk.issuer.issue('iscg-95')}"})
    await asyncio.wait([beyond], timeout=5)
    refused = beyond.done()
    known.set()

    assert await asyncio.gather(*waiting) == [200, 200], "strangers of the address shut out who is signed in"
    assert (refused, await beyond) == (True, 503), "lookups without end"
    assert token.status_code == 200
    assert await ask(desk, secret) == 200, "the places are given back"


class Renewing:
    """A provider that is slow to renew tokens: it answers once it is let go, each time as it is told."""

    def __init__(self, desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
        self._desk = desk
        self.asked, self.answers = asyncio.Semaphore(0), asyncio.Event()
        self.refresh_tokens: list[str] = []
        self.away = False
        self.error: Exception | None = None
        monkeypatch.setattr(provider_of(desk), "_token", self._token)

    async def _token(self, metadata: Any, form: dict[str, str]) -> dict[str, Any]:
        self.refresh_tokens.append(form["refresh_token"])
        self.asked.release()
        await self.answers.wait()
        if self.away:
            raise Unavailable("away")
        if self.error is not None:
            raise self.error
        return {"access_token": self._desk.issuer.issue("iscg-95", client_id="desk"), "refresh_token": "second"}


async def test_while_the_provider_hangs_whom_it_should_renew_keeps_no_connection_of_the_database(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider, pool = Renewing(desk, monkeypatch), desk.runtime.database.engine.pool
    assert isinstance(pool, AsyncAdaptedQueuePool)
    waiting = [asyncio.create_task(ask(desk, await a_session(desk, ENDED))) for _ in range(3)]
    for _ in waiting:
        await provider.asked.acquire()

    kept = pool.checkedout()
    provider.answers.set()
    answers = await asyncio.gather(*waiting)

    assert kept == 0, "connections kept"
    assert answers == [200] * 3


async def test_planted_a_transaction_that_is_open_while_the_provider_is_asked_is_seen(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    provider, renew = provider_of(desk), Provider.renew

    async def inside(tokens: Tokens) -> Any:
        async with desk.runtime.database.transaction() as session:
            await session.connection()
            return await renew(provider, tokens)

    monkeypatch.setattr(provider, "renew", inside)

    await seen_red(
        test_while_the_provider_hangs_whom_it_should_renew_keeps_no_connection_of_the_database(desk, monkeypatch), "connections kept"
    )


async def test_tokens_are_renewed_by_one_request_at_a_time_and_the_others_have_what_it_got(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider, secret = Renewing(desk, monkeypatch), await a_session(desk, ENDED)
    tried, renew = asyncio.Semaphore(0), Sessions._renew

    async def tries(self: Sessions, *given: Any) -> None:
        tried.release()
        await renew(self, *given)

    monkeypatch.setattr(Sessions, "_renew", tries)
    monkeypatch.setattr(kept_sessions, "_LOOK_SECONDS", 0.01)
    monkeypatch.setattr(kept_sessions, "_LOOKS", 10_000)
    waiting = [asyncio.create_task(ask(desk, secret)) for _ in range(12)]
    await provider.asked.acquire()
    for _ in waiting:
        await tried.acquire()
    provider.answers.set()

    assert await asyncio.gather(*waiting) == [200] * 12
    assert provider.refresh_tokens == ["first"], "asked once"


async def test_planted_tokens_that_every_request_renews_are_seen(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_sessions, "_CLAIM", text("SELECT id_hash FROM desk_sessions WHERE id_hash = :id"))

    await seen_red(test_tokens_are_renewed_by_one_request_at_a_time_and_the_others_have_what_it_got(desk, monkeypatch), "asked once")


async def test_who_waits_for_a_renewal_that_does_not_end_is_told_so(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    provider, secret = Renewing(desk, monkeypatch), await a_session(desk, ENDED)
    monkeypatch.setattr(kept_sessions, "_LOOK_SECONDS", 0)
    first = asyncio.create_task(ask(desk, secret))
    await provider.asked.acquire()

    assert await ask(desk, secret) == 503
    provider.answers.set()

    assert await first == 200


async def test_who_waits_for_a_renewal_takes_a_share_of_their_address(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    provider = Renewing(desk, monkeypatch)
    app_of(desk.client).state.rates = Rates(settings_for("referrals", client_concurrency_limit=2))
    waiting = [asyncio.create_task(ask(desk, await a_session(desk, ENDED))) for _ in range(2)]
    for _ in waiting:
        await provider.asked.acquire()

    assert await ask(desk, await a_session(desk, ENDED)) == 503
    assert await ask(desk, await a_session(desk)) == 200
    provider.answers.set()

    assert await asyncio.gather(*waiting) == [200] * 2
    assert await ask(desk, await a_session(desk, ENDED)) == 200


async def test_who_is_signed_in_by_a_key_that_is_not_known_yet_waits_in_the_share_of_those_who_wait_for_the_issuer(desk: Desk) -> None:
    rates = app_of(desk.client).state.rates = Rates(settings_for("referrals", client_concurrency_limit=1))
    secret, tokens = await a_session(desk), desk.runtime.tokens
    waiting: dict[str, Any] = {"client": ("127.0.0.1", 1)}
    rates.admit_unproven(waiting)
    tokens._verified.clear()
    tokens.keys._keys = {}

    meanwhile = await ask(desk, secret)
    waiting[LEAVE]()

    assert meanwhile == 503
    assert await ask(desk, secret) == 200


async def test_a_renewal_that_failed_or_died_is_tried_again(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    provider, secret = Renewing(desk, monkeypatch), await a_session(desk, ENDED)
    provider.answers.set()
    provider.away = True
    assert [await ask(desk, secret) for _ in range(2)] == [503, 503]
    assert provider.refresh_tokens == ["first"] * 2, "who failed made nobody wait"

    provider.away = False
    await execute(desk, "UPDATE desk_sessions SET renewing_until = now() - interval '1 second'")

    assert await ask(desk, secret) == 200


async def test_a_renewal_that_ended_by_an_error_that_nobody_foresaw_makes_nobody_wait(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    provider, secret = Renewing(desk, monkeypatch), await a_session(desk, ENDED)
    monkeypatch.setattr(kept_sessions, "_LOOK_SECONDS", 0)
    provider.answers.set()
    provider.error = RuntimeError()
    assert await ask(desk, secret) == 500

    provider.error = None

    assert await ask(desk, secret) == 200


async def test_a_renewal_whose_request_was_cancelled_makes_nobody_wait(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    provider, secret = Renewing(desk, monkeypatch), await a_session(desk, ENDED)
    monkeypatch.setattr(kept_sessions, "_LOOK_SECONDS", 0)
    cancelled = asyncio.create_task(ask(desk, secret))
    await provider.asked.acquire()

    cancelled.cancel()
    await asyncio.wait([cancelled])
    provider.answers.set()

    assert await ask(desk, secret) == 200


async def test_renewed_tokens_are_kept_though_the_database_is_away_for_a_moment(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    provider, secret, transaction = Renewing(desk, monkeypatch), await a_session(desk, ENDED), Database.transaction
    failures = 2

    @asynccontextmanager
    async def away_twice(self: Database, **given: Any) -> AsyncIterator[AsyncSession]:
        nonlocal failures
        if provider.answers.is_set() and failures:
            failures -= 1
            raise ConnectionRefusedError
        async with transaction(self, **given) as session:
            yield session

    monkeypatch.setattr(Database, "transaction", away_twice)
    waiting = asyncio.create_task(ask(desk, secret))
    await provider.asked.acquire()
    provider.answers.set()

    assert await waiting == 200
    assert await ask(desk, secret) == 200
    assert (failures, provider.refresh_tokens) == (0, ["first"])


async def test_a_session_that_ended_while_it_was_renewed_stays_over(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    provider, secret = Renewing(desk, monkeypatch), await a_session(desk, ENDED)
    waiting = asyncio.create_task(ask(desk, secret))
    await provider.asked.acquire()

    await execute(desk, "DELETE FROM desk_sessions")
    provider.answers.set()

    assert await waiting == 303
    assert await desk.rows("SELECT created_at FROM desk_sessions") == []
