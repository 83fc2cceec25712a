"""What the clients of `make proof` repeat, what they keep as a finding, and when they give up."""

import asyncio
import json
import random
from collections.abc import Iterable
from typing import Any

import httpx
import pytest

from libs.embedded.network import CallFailed, Network
from tests.planted import red
from tests.proof import clients
from tests.proof.__main__ import failures
from tests.proof.clients import Client, Refused, Stuck, watch
from tests.proof.told import Told

DONE = httpx.Response(200, json={"id": "1"})


class Replica(Network):
    """Answers what it is told, the last one for ever. An exception is raised."""

    def __init__(self, *answers: httpx.Response | Exception) -> None:
        super().__init__({}, "")
        self.answers = list(answers)

    async def call(self, *asked: Any, **more: Any) -> httpx.Response:
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


class Patient(random.Random):
    """No client that loses its patience: that is another test's."""

    def random(self) -> float:
        return 0.5


@pytest.fixture(autouse=True)
def nobody_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    pause = asyncio.sleep

    async def at_once(seconds: float) -> None:
        await pause(0)

    monkeypatch.setattr(asyncio, "sleep", at_once)


def problem(status: int, type: str = "unexpected") -> httpx.Response:
    return httpx.Response(status, text=json.dumps({"type": type}))


async def told_after(answers: Iterable[httpx.Response | Exception]) -> Told:
    told = Told()
    await Client([Replica(*answers, DONE)], Patient(1), told).post("iscg-95", "/v1/referrals", {})
    return told


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (problem(503), "503"),
        (problem(429), "429"),
        (problem(408), "408"),
        (problem(409, "idempotency-in-flight"), "409"),
        (CallFailed("nobody"), "CallFailed"),
    ],
)
async def test_what_a_fault_explains_is_asked_again_and_counted(answer: httpx.Response | Exception, why: str) -> None:
    told = await told_after([answer, answer])

    assert (told.again, told.broken, told.waiting) == ({why: 2}, [], {})
    assert told.repeated == f"2 times repeated (2 × {why})"
    assert failures(told, {}, 0) == []


async def broken_answers_are_found(status: int) -> None:
    told = await told_after([problem(status)])

    assert told.again == {str(status): 1}
    assert [said.partition(":")[0] for said in told.broken] == [f"{status} to POST /v1/referrals"], (
        "an answer nobody explains is no finding"
    )
    [why] = failures(told, {}, 0)
    assert why.startswith(f"1 answers that no fault explains, the first: {status} to POST /v1/referrals")


@pytest.mark.parametrize("status", [500, 502, 401])
async def test_what_no_fault_explains_is_asked_again_and_is_a_finding(status: int) -> None:
    await broken_answers_are_found(status)


async def test_planted_a_500_that_is_only_repeated_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clients, "_AGAIN", frozenset({401, 408, 425, 429, 500, 502, 503, 504}))

    with red("an answer nobody explains is no finding"):
        await broken_answers_are_found(500)


@pytest.mark.parametrize("status", [400, 403, 404, 409, 412, 422, 428])
async def test_a_refusal_ends_the_campaign(status: int) -> None:
    with pytest.raises(Refused, match=f"{status} to POST /v1/referrals"):
        await told_after([problem(status)])


async def a_line_that_breaks_is_found(told: Told) -> None:
    """Of a request of many lines."""
    good, broken = {"line": 1, "problem": None, "referral": {"id": "1"}}, {"line": 1, "problem": {"status": 500}, "referral": None}
    bodies = [json.dumps(broken), json.dumps(good)]
    transport = httpx.MockTransport(lambda request: httpx.Response(200, text=bodies.pop(0)))

    class Lines(Replica):
        async def client(self, *asked: str) -> httpx.AsyncClient:
            return httpx.AsyncClient(transport=transport, base_url="http://x")

    await Client([Lines(DONE)], Patient(1), told).post_lines("police-95", "/v1/referrals/batch", [{}])
    assert [said.partition(":")[0] for said in told.broken] == ["500 to line 1 of /v1/referrals/batch"]


async def test_a_line_of_many_that_breaks_is_a_finding() -> None:
    await a_line_that_breaks_is_found(Told())


class Clock:
    """Goes on by a second each time it is looked at."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        self.now += 1
        return self.now


async def stuck_clients_end(answer: httpx.Response | Exception, why: str) -> None:
    told = Told()

    async def tired() -> None:
        """No test lasts for ever: long after the campaign should have ended, the clients are given up."""
        while told.again.total() < 5_000:  # noqa: ASYNC110 - it is counted, not awaited
            await asyncio.sleep(0)
        raise AssertionError("nobody ends it")

    with pytest.raises(ExceptionGroup) as ended:
        async with asyncio.TaskGroup() as both:
            both.create_task(watch(told))
            both.create_task(Client([Replica(answer)], Patient(1), told).post("iscg-95", "/v1/referrals", {}))
            both.create_task(tired())

    [stuck] = ended.value.exceptions
    if not isinstance(stuck, Stuck):
        raise stuck
    assert str(stuck) == f"nothing acknowledged for 300 s; waiting for POST /v1/referrals ({why})"


@pytest.mark.parametrize(
    ("answer", "why"),
    [(problem(503), "503"), (problem(500), "500"), (CallFailed("nobody"), "CallFailed"), (TimeoutError(), "TimeoutError")],
)
async def test_when_nothing_is_acknowledged_for_minutes_the_campaign_fails_with_what_it_waits_for(
    monkeypatch: pytest.MonkeyPatch, answer: httpx.Response | Exception, why: str
) -> None:
    monkeypatch.setattr(clients, "time", Clock())

    await stuck_clients_end(answer, why)


async def test_planted_clients_that_nobody_watches_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    async def nobody(told: Told) -> None:
        pass

    monkeypatch.setitem(globals(), "watch", nobody)

    with red("nobody ends it"):
        await stuck_clients_end(problem(503), "503")


async def test_a_slow_campaign_in_which_something_is_acknowledged_now_and_then_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, told = Clock(), Told()
    monkeypatch.setattr(clients, "time", clock)

    looking = asyncio.create_task(watch(told))
    while clock.now < 3_000:
        if int(clock.now) % 200 == 0:
            told.note("1")
        await asyncio.sleep(0)

    assert not looking.done()
    looking.cancel()
