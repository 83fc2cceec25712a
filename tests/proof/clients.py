"""Clients that post referrals and work them through their whole life (lives.py), repeating what was not acknowledged with the same key.

What a fault of the campaign explains is repeated and counted; what none explains (500, a valid token refused) is repeated, kept and a finding; when
nothing at all is acknowledged any more, `watch` ends it.
"""

import asyncio
import json
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar
from urllib.parse import urlsplit
from uuid import uuid4

import httpx

from libs.embedded.network import CallFailed, Network
from tests.proof.told import Told

_ANYTHING = tuple(range(200, 600))
_AGAIN = frozenset({408, 429, 503})
"""The database is away, or busy; the body came too slowly, on a machine that is."""
_QUIET_SECONDS = 300.0
"""A killed broker is back in a minute and a half on a machine ten times too slow, PostgreSQL sooner; and neither keeps all clients from all services."""
_NDJSON = "application/x-ndjson"
Answer = TypeVar("Answer")


class Refused(Exception):
    """A service said no to what no client did wrong: the proof has failed."""


class Late(Refused):
    """Somebody else changed it first."""


class Stuck(Exception):
    """For minutes nothing was acknowledged to anybody."""


class Again(Exception):
    """Not this time. `why`: a status, or what came in its place."""

    def __init__(self, why: str, *, broken: str = "") -> None:
        super().__init__(why)
        self.why = why
        self.broken = broken
        """What no fault of the campaign explains."""


async def watch(told: Told, seconds: float = _QUIET_SECONDS) -> None:
    """Until it is cancelled. Raises Stuck, with what is waited for, when nothing was acknowledged for so long."""
    seen, since = told.commits, time.monotonic()
    while True:
        await asyncio.sleep(1)
        if told.commits != seen:
            seen, since = told.commits, time.monotonic()
        elif time.monotonic() - since >= seconds:
            raise Stuck(f"nothing acknowledged for {seconds:g} s; waiting for {'; '.join(told.waiting.values()) or 'what no client knows'}")


class Client:
    """One of them. Each call is repeated until it is answered, at one of the replicas or the other."""

    def __init__(self, replicas: Sequence[Network], dice: random.Random, told: Told) -> None:
        self._replicas = replicas
        self.dice = dice
        self.told = told

    async def read(self, path: str, who: str = "iscg-95") -> dict[str, Any]:
        return await self._call(who, "GET", path, None, {"X-Purpose": "follow_up"}, None)

    async def post(self, who: str, path: str, body: Any = None, *, version: int | None = None) -> dict[str, Any]:
        headers = {"If-Match": f'"{version}"'} if version is not None else {}
        return await self._call(who, "POST", path, body, headers, uuid4().hex)

    async def post_lines(self, who: str, path: str, bodies: Sequence[Any]) -> list[dict[str, Any]]:
        """NDJSON, each line under a key of its own. All lines are sent again until each has its result."""
        sent = "".join(json.dumps({"key": uuid4().hex, "referral": body}) + "\n" for body in bodies)

        async def attempt(replica: Network) -> list[dict[str, Any]]:
            async with await replica.client("referrals", who) as client:
                answer = await client.post(path, content=sent, headers={"Content-Type": _NDJSON})
            _check(answer.status_code, answer.text, path)
            results = [json.loads(line) for line in answer.text.splitlines() if line]
            for result in results:
                if result["problem"] is not None:
                    _check(result["problem"]["status"], json.dumps(result["problem"]), f"line {result['line']} of {path}")
            received = [result["referral"] for result in results if result["referral"] is not None]
            if len(received) != len(bodies):
                raise Again("part of an answer")
            return received

        return await self._patiently(path, attempt)

    async def fill(self, url: str, fields: dict[str, str], is_done: Callable[[], Awaitable[bool]]) -> None:
        """Send a form that answers once. It has no key: whether a first try was heard, `is_done` says."""

        async def attempt(replica: Network) -> None:
            async with httpx.AsyncClient(base_url=replica.urls["referrals"], timeout=15, trust_env=False) as browser:
                answer = await browser.post(urlsplit(url).path, data=fields)
            if not (answer.status_code in {409, 410, 412} and await is_done()):
                _check(answer.status_code, answer.text, "an answer link")

        await self._patiently("an answer link", attempt)

    async def _call(self, who: str, method: str, path: str, body: Any, headers: dict[str, str], key: str | None) -> dict[str, Any]:
        async def attempt(replica: Network) -> dict[str, Any]:
            answer = await replica.call("referrals", who, method, path, body=body, key=key, headers=headers, accepted=_ANYTHING)
            _check(answer.status_code, answer.text, f"{method} {path}")
            found: dict[str, Any] = answer.json()
            return found

        return await self._patiently(f"{method} {path}", attempt)

    async def _patiently(self, what: str, attempt: Callable[[Network], Awaitable[Answer]]) -> Answer:
        await asyncio.sleep(self.dice.uniform(0, 0.1))
        question = object()
        while True:
            # now and then a client loses its patience: its connection is cut, and whether it was heard is not known
            is_impatient = self.dice.random() < 0.04
            patience = self.dice.uniform(0.001, 0.05) if is_impatient else 15
            try:
                async with asyncio.timeout(patience):
                    found = await attempt(self.dice.choice(self._replicas))
            except Again as again:
                why = again.why
                if again.broken:
                    self.told.broken.append(again.broken)
            except (CallFailed, TimeoutError, httpx.HTTPError) as error:
                why = "cut by the client" if is_impatient else type(error.__cause__ or error).__name__
            else:
                self.told.waiting.pop(question, None)
                return found
            self.told.again[why] += 1
            self.told.waiting[question] = f"{what} ({why})"
            await asyncio.sleep(self.dice.uniform(0.05, 0.4))


def _check(status: int, text: str, what: str) -> None:
    """Raises Again or Refused unless it is a success."""
    if status < 300:
        return
    said = f"{status} to {what}: {text[:500]}"
    if status in _AGAIN or "idempotency-in-flight" in text:
        raise Again(str(status))
    if status == 401 or status >= 500:
        raise Again(str(status), broken=said)
    raise (Late if status == 412 else Refused)(said)
