"""Clients that post referrals and work them through their whole life (lives.py), repeating what was not acknowledged with the same key."""

import asyncio
import json
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar
from urllib.parse import urlsplit
from uuid import uuid4

import httpx

from libs.embedded.network import CallFailed, Network
from tests.proof.told import Told

_ANYTHING = tuple(range(200, 600))
_AGAIN = frozenset({401, 408, 425, 429, 500, 502, 503, 504})
_NDJSON = "application/x-ndjson"
Answer = TypeVar("Answer")


class Refused(Exception):
    """A service said no to what no client did wrong: the proof has failed."""


class Late(Refused):
    """Somebody else changed it first."""


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

        async def attempt(replica: Network) -> list[dict[str, Any]] | None:
            async with await replica.client("referrals", who) as client:
                answer = await client.post(path, content=sent, headers={"Content-Type": _NDJSON})
            if not _is_answer(answer, path):
                return None
            results = [json.loads(line) for line in answer.text.splitlines() if line]
            for result in results:
                if result["problem"] is not None and not _comes_again(result["problem"]["status"], json.dumps(result["problem"])):
                    raise Refused(f"line {result['line']} of {path}: {result['problem']}")
            received = [result["referral"] for result in results if result["referral"] is not None]
            return received if len(received) == len(bodies) else None

        return await self._patiently(attempt)

    async def fill(self, url: str, fields: dict[str, str], is_done: Callable[[], Awaitable[bool]]) -> None:
        """Send a form that answers once. It has no key: whether a first try was heard, `is_done` says."""

        async def attempt(replica: Network) -> bool | None:
            async with httpx.AsyncClient(base_url=replica.urls["referrals"], timeout=15, trust_env=False) as browser:
                answer = await browser.post(urlsplit(url).path, data=fields)
            if answer.status_code in {409, 410, 412} and await is_done():
                return True
            return True if _is_answer(answer, "an answer link") else None

        await self._patiently(attempt)

    async def _call(self, who: str, method: str, path: str, body: Any, headers: dict[str, str], key: str | None) -> dict[str, Any]:
        async def attempt(replica: Network) -> dict[str, Any] | None:
            answer = await replica.call("referrals", who, method, path, body=body, key=key, headers=headers, accepted=_ANYTHING)
            found: dict[str, Any] | None = answer.json() if _is_answer(answer, f"{method} {path}") else None
            return found

        return await self._patiently(attempt)

    async def _patiently(self, attempt: Callable[[Network], Awaitable[Answer | None]]) -> Answer:
        await asyncio.sleep(self.dice.uniform(0, 0.1))
        while True:
            # now and then a client loses its patience: its connection is cut, and whether it was heard is not known
            patience = self.dice.uniform(0.001, 0.05) if self.dice.random() < 0.04 else 15
            try:
                async with asyncio.timeout(patience):
                    found = await attempt(self.dice.choice(self._replicas))
            except (CallFailed, TimeoutError, httpx.HTTPError):
                found = None
            if found is not None:
                return found
            self.told.repeated += 1
            await asyncio.sleep(self.dice.uniform(0.05, 0.4))


def _is_answer(answer: httpx.Response, what: str) -> bool:
    """False when it is to be asked again. Raises Refused."""
    if answer.status_code < 300:
        return True
    if _comes_again(answer.status_code, answer.text):
        return False
    raise (Late if answer.status_code == 412 else Refused)(f"{answer.status_code} to {what}: {answer.text[:500]}")


def _comes_again(status: int, text: str) -> bool:
    return status in _AGAIN or "idempotency-in-flight" in text
