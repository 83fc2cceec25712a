"""Rates: what one client asks for does not disturb another; what strangers send is counted by address; memory is bounded."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from joserfc.jwk import ECKey
from limits.strategies import FixedWindowRateLimiter

from libs.chassis import app as application
from libs.chassis import rates
from libs.chassis.limits import LEAVE
from libs.chassis.rates import RATE_HEADERS, Rates, TooManyRequests, Windows, _address, _Share
from libs.chassis.refusals import Unauthenticated, Unavailable
from libs.chassis.security import TokenVerifier
from libs.chassis.serve import configured, documentary_settings
from tests.chassis.answering import Issuer, ThingSettings, app_of, calling
from tests.planted import seen_red

ECHO = {"name": "Premier"}


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def rates_of(clock: Clock, room: int = 100, **settings: int) -> Rates:
    return Rates(documentary_settings(ThingSettings, **settings), room=room, now=clock)


async def _echo(client: httpx.AsyncClient, issuer: Issuer, who: str) -> httpx.Response:
    return await client.post("/v1/echo", json=ECHO, headers=issuer.headers(client_id=who))


async def test_a_client_that_asks_too_much_is_told_when_to_come_back_and_its_neighbour_is_not_disturbed() -> None:
    issuer = Issuer()
    async with calling(app_of(issuer, rate_limit_requests=3, rate_limit_seconds=600)) as client:
        answers = [await _echo(client, issuer, "police-95") for _ in range(4)]
        neighbour = await _echo(client, issuer, "police-78")

    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    assert [answer.headers.get("ratelimit", "").partition(";t=")[0] for answer in answers] == [
        f'"client";r={left}' for left in (2, 1, 0, 0)
    ]
    assert {answer.headers.get("ratelimit-policy") for answer in answers} == {'"client";q=3;w=600'}
    refusal = answers[-1]
    assert refusal.headers["content-type"] == "application/problem+json"
    assert refusal.json()["type"].endswith("/too-many-requests")
    assert 1 <= int(refusal.headers.get("retry-after", "0")) <= 600
    assert neighbour.status_code == 200
    assert neighbour.headers["ratelimit"].startswith('"client";r=2;')


def test_the_default_is_generous_a_client_at_work_for_a_whole_departement_never_meets_it() -> None:
    """Twice what one process of the fastest machine so far took (1,100 referrals a second, docs/decisions/0011)."""
    settings = documentary_settings(ThingSettings)

    assert settings.rate_limit_requests / settings.rate_limit_seconds >= 2000


async def test_each_person_of_a_client_has_a_rate_of_their_own() -> None:
    issuer = Issuer()
    async with calling(app_of(issuer, rate_limit_requests=1, rate_limit_seconds=600)) as client:
        answers = [
            (await client.post("/v1/echo", json=ECHO, headers=issuer.headers(client_id="desk", sub=who))).status_code
            for who in ("one", "one", "another")
        ]

    assert answers == [200, 429, 200]


async def test_planted_a_limit_that_is_told_and_not_kept_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FixedWindowRateLimiter, "hit", lambda self, item, *keys: True)

    await seen_red(test_a_client_that_asks_too_much_is_told_when_to_come_back_and_its_neighbour_is_not_disturbed(), "429")


async def test_planted_a_limit_that_is_kept_and_not_told_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(application, "RATE_HEADERS", "nowhere")

    await seen_red(test_a_client_that_asks_too_much_is_told_when_to_come_back_and_its_neighbour_is_not_disturbed(), '"client";r=2')


async def test_planted_a_refusal_that_does_not_say_when_to_come_back_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rates, "TooManyRequests", lambda detail, headers: TooManyRequests(detail))

    await seen_red(test_a_client_that_asks_too_much_is_told_when_to_come_back_and_its_neighbour_is_not_disturbed(), "1 <= 0")


async def test_planted_one_rate_for_all_clients_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = Rates.spend
    monkeypatch.setattr(Rates, "spend", lambda self, scope, owner: plain(self, scope, "everybody"))

    await seen_red(test_a_client_that_asks_too_much_is_told_when_to_come_back_and_its_neighbour_is_not_disturbed(), "429 == 200")


async def test_a_refused_request_counts_too_and_carries_the_headers() -> None:
    issuer = Issuer()
    async with calling(app_of(issuer, rate_limit_requests=2)) as client:
        answers = [await client.get("/v1/things", params={"unknown": 1}, headers=issuer.headers()) for _ in range(3)]
        forbidden = await client.get("/v1/things", headers=issuer.headers(client_id="other", role="partner"))

    assert [answer.status_code for answer in answers] == [422, 422, 429]
    assert forbidden.status_code == 403
    assert forbidden.headers["ratelimit"].startswith('"client";r=1;')


async def test_bad_tokens_are_limited_by_address_and_a_valid_one_from_there_still_passes() -> None:
    issuer = Issuer()
    async with calling(app_of(issuer, rate_limit_refusals=2, rate_limit_seconds=600)) as client:
        given = [{}, {"Authorization": "Bearer a.b.c"}, {"Authorization": "Bearer a.b.c"}, issuer.headers(aud="another")]
        strangers = [await client.post("/v1/echo", json=ECHO, headers=headers) for headers in given]
        valid = await _echo(client, issuer, "police-95")

    assert [answer.status_code for answer in strangers] == [401, 401, 429, 429]
    assert strangers[-1].headers["ratelimit-policy"] == '"stranger";q=2;w=600'
    assert "retry-after" in strangers[-1].headers
    assert valid.status_code == 200


async def test_planted_bad_tokens_that_nobody_counts_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Rates, "refuse", lambda self, scope, refusal: refusal)

    await seen_red(test_bad_tokens_are_limited_by_address_and_a_valid_one_from_there_still_passes(), "[401, 401, 401, 401]")


async def test_public_addresses_are_not_counted() -> None:
    async with calling(app_of(Issuer(), rate_limit_requests=1, rate_limit_refusals=1)) as client:
        answers = [await client.get("/livez") for _ in range(3)]

    assert [answer.status_code for answer in answers] == [200, 200, 200]
    assert all("ratelimit" not in answer.headers for answer in answers)


class Waiting:
    """Requests of one client whose bodies do not end before they are let go."""

    def __init__(self, client: httpx.AsyncClient, headers: dict[str, str], count: int) -> None:
        self._gate, self._begun, self._count = asyncio.Event(), asyncio.Semaphore(0), count
        headers = {"Content-Type": "application/json", **headers}
        self._asked = [asyncio.create_task(client.post("/v1/echo", content=self._body(), headers=headers)) for _ in range(count)]

    async def _body(self) -> AsyncIterator[bytes]:
        yield b'{"name": '
        self._begun.release()  # the rest is asked for: it is in work
        await self._gate.wait()
        yield b'"a"}'

    async def begun(self) -> None:
        for _ in range(self._count):
            await self._begun.acquire()

    async def answers(self) -> list[int]:
        self._gate.set()
        return [answer.status_code for answer in await asyncio.gather(*self._asked)]


async def test_one_client_takes_its_share_of_the_places_and_no_more() -> None:
    issuer = Issuer()
    async with calling(app_of(issuer, concurrency_limit=4, client_concurrency_limit=2)) as client:
        waiting = Waiting(client, issuer.headers(client_id="police-95"), 2)
        await waiting.begun()
        beyond = await _echo(client, issuer, "police-95")
        neighbour = await _echo(client, issuer, "police-78")
        answers = await waiting.answers()
        after = await _echo(client, issuer, "police-95")

    assert beyond.status_code == 429
    assert beyond.json()["type"].endswith("/too-many-at-once")
    assert beyond.headers["retry-after"] == "1"
    assert neighbour.status_code == 200
    assert answers == [200, 200]
    assert after.status_code == 200


def _unknown(number: int) -> dict[str, str]:
    """A token of a key that nobody published."""
    return Issuer().headers(key=ECKey.generate_key("P-256", {"kid": f"unknown-{number}"}))


async def test_who_waits_for_the_issuers_keys_takes_a_share_of_its_address_and_shuts_out_nobody_else() -> None:
    issuer, asked, answers = Issuer(), asyncio.Event(), asyncio.Event()
    app = app_of(issuer, concurrency_limit=4, client_concurrency_limit=2)
    keys, published = app.state.runtime.tokens.keys, issuer.client()

    async def slowly(request: httpx.Request) -> httpx.Response:
        asked.set()
        await answers.wait()
        return await published.get(request.url)

    async with calling(app) as client:
        known = issuer.headers(client_id="police-95")
        await client.post("/v1/echo", json=ECHO, headers=known)
        keys._refetch_seconds, keys._client = 0, httpx.AsyncClient(transport=httpx.MockTransport(slowly))
        strangers = [asyncio.create_task(client.post("/v1/echo", json=ECHO, headers=_unknown(number))) for number in range(2)]
        await asked.wait()
        beyond = asyncio.create_task(client.post("/v1/echo", json=ECHO, headers=_unknown(2)))
        await asyncio.wait([beyond], timeout=2)
        neighbours = [await client.post("/v1/echo", json=ECHO, headers=one) for one in (known, issuer.headers(client_id="police-78"))]
        answers.set()
        refused = await asyncio.gather(*strangers)
        issuer.keys.append(ECKey.generate_key("P-256", {"kid": "second"}))
        waiting = Waiting(client, issuer.headers(client_id="police-93"), 2)
        await waiting.begun()
        another = await client.post("/v1/echo", json=ECHO, headers=_unknown(3))

        assert (await beyond).status_code == 503
        assert "Trop de demandes de cette adresse" in (await beyond).json()["detail"]
        assert [one.status_code for one in neighbours] == [200, 200], "whose key is known waits for nobody, seen before or not"
        assert [one.status_code for one in refused] == [401, 401]
        assert another.status_code == 401, "a token that proved good counts for its client, no longer for its address"
        assert await waiting.answers() == [200, 200]


async def test_a_token_is_looked_at_however_many_strangers_of_its_address_are_in_work() -> None:
    issuer = Issuer()
    app = app_of(issuer, client_concurrency_limit=1)
    stranger: dict[str, Any] = {"client": ("127.0.0.1", 123)}
    app.state.rates.admit(stranger)

    async with calling(app) as client:
        assert (await client.get("/openapi.json")).status_code == 503
        assert (await _echo(client, issuer, "police-95")).status_code == 200  # the issuer is asked for its keys for the first time


async def test_planted_a_stranger_who_waits_for_keys_without_a_share_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = TokenVerifier.verify
    monkeypatch.setattr(TokenVerifier, "verify", lambda self, token, _: plain(self, token))

    await seen_red(test_who_waits_for_the_issuers_keys_takes_a_share_of_its_address_and_shuts_out_nobody_else(), "== 503")


async def test_planted_a_share_that_is_not_kept_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_Share, "take", lambda self, scope, caller: True)

    await seen_red(test_one_client_takes_its_share_of_the_places_and_no_more(), "200 == 429")


async def test_a_refused_and_a_failed_request_give_their_places_back() -> None:
    issuer = Issuer()
    async with calling(app_of(issuer, client_concurrency_limit=1)) as client:
        refused = [await client.post("/v1/echo", json={}, headers=issuer.headers()) for _ in range(3)]
        failed = [await client.get("/v1/broken", headers=issuer.headers()) for _ in range(3)]

    assert [answer.status_code for answer in refused] == [422] * 3
    assert [answer.status_code for answer in failed] == [500] * 3


def test_who_has_no_token_takes_the_share_of_an_address() -> None:
    rates = rates_of(Clock(), client_concurrency_limit=1)
    first: dict[str, Any] = {"client": ("192.0.2.1", 1)}
    rates.admit(first)
    with pytest.raises(Unavailable):
        rates.admit({"client": ("192.0.2.1", 2)})
    rates.admit({"client": ("192.0.2.2", 1)})

    first[LEAVE]()

    rates.admit({"client": ("192.0.2.1", 2)})


def test_the_window_ends() -> None:
    clock = Clock()
    rates = rates_of(clock, rate_limit_requests=1, rate_limit_seconds=10)
    rates.spend({}, "a")
    with pytest.raises(TooManyRequests) as refused:
        rates.spend({}, "a")
    assert refused.value.headers["Retry-After"] == "10"

    clock.now += 9.5
    with pytest.raises(TooManyRequests) as refused:
        rates.spend({}, "a")
    assert refused.value.headers["Retry-After"] == "1"
    clock.now += 0.5
    scope: dict[str, object] = {}
    rates.spend(scope, "a")

    assert scope[RATE_HEADERS] == ((b"ratelimit-policy", b'"client";q=1;w=10'), (b"ratelimit", b'"client";r=0;t=10'))


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 4)), max_size=60))
def test_windows_count_like_a_list_of_all_hits_would(steps: list[tuple[int, int]]) -> None:
    clock = Clock()
    windows = Windows(room=100, now=clock)
    begun: dict[str, tuple[float, int]] = {}

    for key, pause in steps:
        clock.now += pause
        name = str(key)
        start, count = begun.get(name, (clock.now, 0))
        start, count = (start, count + 1) if clock.now < start + 7 else (clock.now, 1)
        begun[name] = (start, count)
        assert windows.incr(name, 7) == count
        assert windows.get(name) == count
        assert windows.get_expiry(name) == start + 7


def test_a_flood_of_addresses_takes_bounded_memory() -> None:
    clock = Clock()
    windows = Windows(room=50, now=clock)
    for number in range(1000):
        clock.now += 0.001
        windows.incr(f"address-{number}", 60)

    assert len(windows) == 50
    assert windows.get("address-999") == 1
    assert windows.get("address-0") == 0


@pytest.mark.parametrize(
    ("client", "counted"),
    [
        (("192.0.2.7", 5), "192.0.2.7"),
        (("2001:db8:1:2:3:4:5:6", 5), "2001:db8:1:2::"),
        (("fe80::1%eth0", 5), "fe80::"),
        (("::ffff:192.0.2.7", 5), "192.0.2.7"),
        (("not:an:address", 5), "not:an:address"),
        (None, "local"),
    ],
)
def test_an_address_is_a_machine_or_its_network(client: tuple[str, int] | None, counted: str) -> None:
    assert _address({"client": client}) == counted


def test_a_stranger_of_another_address_gets_the_plain_refusal() -> None:
    rates = rates_of(Clock(), rate_limit_refusals=1)
    refusal = Unauthenticated("Jeton absent.")

    answers = [rates.refuse({"client": (host, 1)}, refusal) for host in ("192.0.2.1", "192.0.2.1", "192.0.2.2")]

    assert [answer.status for answer in answers] == [401, 429, 401]


def test_every_operation_that_asks_for_a_token_documents_it() -> None:
    operations = [one for path in app_of(Issuer()).openapi()["paths"].values() for one in path.values()]

    guarded = [one for one in operations if one["security"]]
    assert guarded
    assert all(set(one["responses"]["429"]["headers"]) == {"Retry-After", "RateLimit-Policy", "RateLimit"} for one in guarded)
    assert not any("429" in one["responses"] for one in operations if not one["security"])


PROXY, STRANGER = "10.20.0.5", "203.0.113.9"


def _served(issuer: Issuer, address: str, **settings: Any) -> httpx.AsyncClient:
    """The application as it is served, to who comes from this address."""
    app = app_of(issuer, rate_limit_refusals=1, **settings)
    config = configured(app, app.state.settings)
    config.load()
    return httpx.AsyncClient(transport=httpx.ASGITransport(config.loaded_app, client=(address, 5)), base_url="http://partners.test")


async def _refused(client: httpx.AsyncClient, *forwarded: str) -> list[int]:
    return [(await client.post("/v1/echo", json=ECHO, headers={"X-Forwarded-For": one})).status_code for one in forwarded]


@pytest.mark.parametrize("trusted", [PROXY, "10.20.0.0/24"])
async def test_behind_a_trusted_proxy_one_strangers_rubbish_is_not_counted_for_the_others(trusted: str) -> None:
    async with _served(Issuer(), PROXY, trusted_proxies=[trusted]) as client:
        answers = await _refused(client, STRANGER, STRANGER, "198.51.100.7", "2001:db8:1::1", f"198.51.100.99, {STRANGER}")

    assert answers == [401, 429, 401, 401, 429]  # the last one wrote himself another address: the proxy added his own


@pytest.mark.parametrize("trusted", [[], [PROXY]])
async def test_whoever_is_no_trusted_proxy_writes_himself_no_other_address(trusted: list[str]) -> None:
    async with _served(Issuer(), STRANGER, trusted_proxies=trusted) as client:
        answers = await _refused(client, "198.51.100.1", "198.51.100.2", "198.51.100.3")

    assert answers == [401, 429, 429]


async def test_without_the_setting_a_proxy_is_one_caller() -> None:
    async with _served(Issuer(), "127.0.0.1") as client:
        answers = await _refused(client, "198.51.100.1", "198.51.100.2")

    assert answers == [401, 429]
