"""Calling a service of Maillon: tokens, repeats that do no harm, refusals as exceptions, lists as iterators, streams followed and proved.

    async with Client("https://referrals.example", credentials=Credentials(token_url, "police-95", secret)) as client:
        referral = await client.post("/v1/referrals", body)
        async for unit in client.pages("/v1/units"): ...
        async for event in client.follow("interior", Cursor.start()): ...

What fails in passing (no connection, 429, 502, 503, 504, a twin in flight) is tried again with growing pauses, a creation under one and the same
`Idempotency-Key`. A change under `If-Match` whose answer was lost is not repeated: the second one would be refused as stale. Read the object again.
"""

import asyncio
import json
import random
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import quote
from uuid import uuid4

import httpx

from libs.chassis.signing import SignatureInvalid, verify_detached
from libs.chassis.streams import GENESIS, Record, canonical, read_position
from libs.client.receipts import ReceiptInvalid, Verified, verify_receipt

T = TypeVar("T")

_PASSING = frozenset({429, 502, 503, 504})
_IN_FLIGHT = "idempotency-in-flight"
_LONGEST_PAUSE = 20.0
LINES = 500
"""Lines in one request of NDJSON: an HTTP/1.1 client that writes all before it reads must not write without end."""
PAGE = 500
"""Events asked for at a time."""


class Problem(Exception):
    """The service refused: RFC 9457 problem+json. `type` is the stable kebab-case name, `detail` a French sentence, `errors` point into the body."""

    def __init__(self, status: int, said: Mapping[str, Any]) -> None:
        self.status = status
        self.type = str(said.get("type", "")).rstrip("/").rpartition("/")[2] or f"http-{status}"
        self.title = str(said.get("title", ""))
        self.detail = str(said.get("detail", ""))
        self.instance = str(said.get("instance", ""))
        errors = said.get("errors")
        self.errors: list[dict[str, str]] = [one for one in errors if isinstance(one, dict)] if isinstance(errors, list) else []
        self.more = dict(said)
        super().__init__(f"{status} {self.type}: {self.detail}")


class Unreachable(Exception):
    """No answer, or only ones that ask to come back later, after all attempts."""


class TokenRefused(Exception):
    """The token endpoint gives this client no token."""


class _TokensAway(httpx.ConnectError):
    """The token endpoint does not answer, or asks to come back later: nothing was sent to the service."""


class ChainBroken(Exception):
    """What the feed gives is not what was signed or chained: an event is missing, changed, moved, or the head is not theirs."""


class HistoryReplaced(Exception):
    """The service's database was restored: go back to `cursor`, forget what came after it, and follow from there."""

    def __init__(self, cursor: "Cursor") -> None:
        super().__init__(f"epoch {cursor.epoch} goes on after number {cursor.sequence}")
        self.cursor = cursor


class FeedTooOld(Exception):
    """The feed begins later: read the lists, then follow from their `Stream-Position`."""

    def __init__(self, oldest_sequence: int) -> None:
        super().__init__(f"the feed begins at number {oldest_sequence}")
        self.oldest_sequence = oldest_sequence


@dataclass(frozen=True, slots=True)
class Credentials:
    """OAuth 2.0 client credentials (RFC 6749 §4.4)."""

    token_url: str
    client_id: str
    client_secret: str = field(default="", repr=False)
    audience: str = "maillon"


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where a follower stands: the last event it has. Keep it with what was made of the event. `digest` None: to be asked for."""

    epoch: int
    sequence: int
    digest: bytes | None

    @classmethod
    def start(cls) -> "Cursor":
        return cls(1, 0, GENESIS)

    @classmethod
    def at(cls, position: str) -> "Cursor":
        """Out of a `Stream-Position` header, `<epoch>:<sequence>`. Raises ValueError."""
        epoch, sequence = read_position(position)
        return cls(epoch, sequence, GENESIS if sequence == 0 else None)


class Client:
    """One service, one caller. `token` or `credentials`, or neither for what is public."""

    def __init__(
        self,
        base_url: str,
        *,
        credentials: Credentials | None = None,
        token: str | None = None,
        attempts: int = 6,
        pause_seconds: float = 0.25,
        transport: httpx.AsyncBaseTransport | None = None,
        token_transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._credentials = credentials
        self._token, self._renew_at = token or "", float("inf") if token else 0.0
        self._renewing = asyncio.Lock()
        self._attempts, self._pause = attempts, pause_seconds
        timeout = httpx.Timeout(30, connect=5)
        self._http = httpx.AsyncClient(base_url=base_url.rstrip("/"), timeout=timeout, transport=transport)
        self._token_http = httpx.AsyncClient(timeout=10, transport=token_transport)
        self._keys: dict[str, Any] | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.close()

    async def close(self) -> None:
        await self._http.aclose()
        await self._token_http.aclose()

    # Calls

    async def get(self, path: str, *, purpose: str | None = None, **query: str | int | None) -> Any:
        """The JSON of an answer. `purpose`: why a person's content is read. Raises Problem, Unreachable, TokenRefused."""
        return _json(await self.call("GET", path, query=query, headers={"X-Purpose": purpose} if purpose else {}))

    async def post(self, path: str, body: Any = None, *, key: str | None = None) -> Any:
        """Create or act, once, however often it must be sent. `key`: the caller's own, to repeat it after a crash."""
        return _json(await self.call("POST", path, body=body, headers={"Idempotency-Key": key or str(uuid4())}))

    async def put(self, path: str, body: Any, version: int) -> Any:
        """Change what was read at that version. Raises Problem 412 when it was changed since."""
        return _json(await self.call("PUT", path, body=body, headers={"If-Match": f'"{version}"'}))

    async def patch(self, path: str, body: Any, version: int) -> Any:
        """Change a part of what was read at that version. Raises Problem 412 when it was changed since."""
        return _json(await self.call("PATCH", path, body=body, headers={"If-Match": f'"{version}"'}))

    async def delete(self, path: str) -> None:
        await self.call("DELETE", path)

    async def pages(self, path: str, **query: str | int | None) -> AsyncIterator[dict[str, Any]]:
        """Every item of a list, page after page. Raises Unreachable when the pages go in circles."""
        cursor: str | None = None
        read: set[str | None] = set()
        while not (read and cursor is None):
            if cursor in read:
                raise Unreachable(f"GET {path}: the pages of the list go in circles")
            read.add(cursor)
            page = _json(await self.call("GET", path, query={**query, "cursor": cursor}))
            for item in page["items"]:
                yield item
            cursor = page["next"]

    async def send_lines(self, path: str, lines: Iterable[bytes]) -> AsyncIterator[dict[str, Any]]:
        """Send NDJSON (`{"key": …, "referral": …}`) of any length, in pieces; gives the result of each line, in order, `line` counted from 1 over all.

        A line for which the service had no time is sent again with its key, so that it takes effect once. Raises Problem, Unreachable, TokenRefused.
        """
        whole = iter(lines)
        before = 0
        while piece := list(islice(whole, LINES)):
            for result in await self._send_piece(path, piece):
                yield {**result, "line": before + result["line"]}
            before += len(piece)

    async def _send_piece(self, path: str, piece: Sequence[bytes]) -> list[dict[str, Any]]:
        results: dict[int, dict[str, Any]] = {}
        waiting = [number for number, line in enumerate(piece, 1) if line.strip()]
        for attempt in range(self._attempts):
            if not waiting:
                break
            if attempt:
                await asyncio.sleep(min(_LONGEST_PAUSE, self._pause * 2 ** (attempt - 1)))
            content = b"".join(piece[number - 1].strip() + b"\n" for number in waiting)
            answer = await self.call("POST", path, content=content, headers={"Content-Type": "application/x-ndjson"})
            for said in map(json.loads, answer.content.splitlines()):
                results[waiting[said["line"] - 1]] = said
            waiting = [number for number in waiting if _is_open(results.get(number))]
        if waiting:
            raise Unreachable(f"POST {path}: {len(waiting)} lines have no result")
        return [{**results[number], "line": number} for number in sorted(results)]

    async def call(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str | int | None] | None = None,
        body: Any = None,
        content: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> httpx.Response:
        """One request, repeated as the head of this file says. Raises Problem, Unreachable, TokenRefused."""
        sent = dict(headers or {})
        params = {name: value for name, value in (query or {}).items() if value is not None} or None
        repeatable = "If-Match" not in sent
        renewed, why = False, ""
        for attempt in range(self._attempts):
            if attempt:
                await asyncio.sleep(min(_LONGEST_PAUSE, self._pause * 2 ** (attempt - 1)) * random.uniform(0.5, 1.0))  # noqa: S311  # spreads retries
            try:
                answer = await self._send(method, path, params, body, content, sent)
                if answer.status_code == 401 and self._credentials is not None and not renewed:
                    renewed, self._renew_at = True, 0.0
                    answer = await self._send(method, path, params, body, content, sent)
            except _TokensAway as error:
                why = str(error)
                continue
            except httpx.ConnectError as error:  # nothing was sent
                why = type(error).__name__
                continue
            except httpx.TransportError as error:
                if not repeatable:
                    raise Unreachable(f"{method} {path}: {type(error).__name__}; it may have taken effect") from error
                why = type(error).__name__
                continue
            if answer.is_success:
                return answer
            problem = Problem(answer.status_code, _said(answer))
            if problem.status not in _PASSING and problem.type != _IN_FLIGHT:
                raise problem
            why = str(problem)
            if attempt + 1 < self._attempts:
                await asyncio.sleep(_retry_after(answer))
        raise Unreachable(f"{method} {path}: {why}")

    async def _send(
        self, method: str, path: str, params: Any, body: Any, content: bytes | None, headers: Mapping[str, str]
    ) -> httpx.Response:
        token = await self._bearer()
        authorization = {"Authorization": f"Bearer {token}"} if token else {}
        return await self._http.request(method, path, params=params, json=body, content=content, headers={**headers, **authorization})

    async def _bearer(self) -> str:
        if self._credentials is None or time.monotonic() < self._renew_at:
            return self._token
        async with self._renewing:
            if time.monotonic() >= self._renew_at:
                await self._renew(self._credentials)
        return self._token

    async def _renew(self, credentials: Credentials) -> None:
        form = {"grant_type": "client_credentials", "client_id": credentials.client_id, "audience": credentials.audience}
        if credentials.client_secret:
            form["client_secret"] = credentials.client_secret
        try:
            answer = await self._token_http.post(credentials.token_url, data=form)
        except httpx.TransportError as error:
            raise _TokensAway(f"no token from {credentials.token_url} ({type(error).__name__})") from error
        try:
            said = answer.raise_for_status().json()
            token, lifetime = str(said["access_token"]), float(said.get("expires_in", 60))
        except httpx.HTTPStatusError as error:
            if error.response.status_code in _PASSING:
                raise _TokensAway(f"no token from {credentials.token_url} ({answer.status_code})") from error
            raise TokenRefused(f"{credentials.token_url} gives {credentials.client_id} no token ({answer.status_code})") from None
        except (ValueError, KeyError, TypeError):
            raise TokenRefused(f"{credentials.token_url} answers without a token") from None
        self._token, self._renew_at = token, time.monotonic() + max(1.0, lifetime - min(60.0, lifetime / 5))

    # Streams

    async def head(self, stream: str) -> dict[str, Any]:
        """A stream's head, its signature checked. Raises ChainBroken."""
        said: dict[str, Any] = await self.get(f"/v1/streams/{quote(stream, safe='')}")
        await self._check_head(stream, said)
        return said

    async def now(self, stream: str) -> Cursor:
        """After the last event said so far."""
        said = await self.head(stream)
        return Cursor(said["epoch"], said["sequence"], bytes.fromhex(said["digest"]))

    async def follow(self, stream: str, cursor: Cursor, *, for_ever: bool = True, poll_seconds: float = 1.0) -> AsyncIterator[Record]:
        """The events after the cursor, in order, each checked to be the successor of the one before; what was read last is `cursor_of(event)`.

        Whenever the end is reached, the chain is compared with the signed head. `for_ever`: wait for more, else stop there. Raises ChainBroken,
        HistoryReplaced, FeedTooOld, Problem, Unreachable, TokenRefused.
        """
        path = f"/v1/streams/{quote(stream, safe='')}"
        if cursor.digest is None:
            known = await self.get(f"{path}/digests/{cursor.sequence}")
            cursor = replace(cursor, digest=bytes.fromhex(known["digest"]))
        while True:
            try:
                page = await self.get(
                    f"{path}/events", after=cursor.sequence, epoch=cursor.epoch, digest=(cursor.digest or GENESIS).hex(), limit=PAGE
                )
            except Problem as problem:
                raise _of_feed(problem) from None
            records = _records(stream, page)
            for record in records:
                cursor = _successor(record, cursor)
                yield record
            head = page["head"]
            if cursor.sequence == head["sequence"]:
                await self._check_head(stream, head)
                if (cursor.digest or GENESIS).hex() != head["digest"]:
                    raise ChainBroken(f"the signed head of {stream} at number {cursor.sequence} is not the end of this chain")
                if not for_ever:
                    return
            elif cursor.sequence > head["sequence"]:
                raise ChainBroken(f"{stream} ends at number {head['sequence']}, before number {cursor.sequence} that it gave")
            if not records:
                await asyncio.sleep(poll_seconds)

    async def _check_head(self, stream: str, head: Mapping[str, Any]) -> None:
        """The head says what its signed statement says, and a published key signed that. Keys are asked for again when one is unknown."""
        try:
            members = {name: str(head[name]) for name in ("source", "stream", "epoch", "sequence", "digest")}
            statement, signature = str(head["statement"]).encode(), str(head["signature"])
        except (KeyError, TypeError):
            raise ChainBroken(f"the head of {stream} is incomplete") from None
        if members["stream"] != stream or canonical(members) != statement:
            raise ChainBroken(f"the head of {stream} is not what its signed statement says")
        try:
            await self._with_keys(lambda keys: verify_detached(signature, statement, keys))
        except SignatureInvalid:
            raise ChainBroken(f"the head of {stream} is not signed by a published key") from None

    # Receipts

    async def check_receipt(self, said: Mapping[str, Any], sent: bytes) -> Verified:
        """`verify_receipt` of these bytes, with the keys that the service publishes. Raises ReceiptInvalid."""
        return await self._with_keys(lambda keys: verify_receipt(said, sent, keys))

    async def _with_keys(self, check: Callable[[Mapping[str, Any]], T]) -> T:
        """Once more with the keys of this moment when it fails with those at hand: the service may have a new one."""
        if self._keys is not None:
            try:
                return check(self._keys)
            except (SignatureInvalid, ReceiptInvalid):
                pass
        self._keys = await self.get("/v1/keys")
        return check(self._keys or {"keys": []})


def cursor_of(record: Record) -> Cursor:
    """Where a follower stands once it has this event."""
    return Cursor(record.epoch, record.sequence, record.digest)


def _successor(record: Record, cursor: Cursor) -> Cursor:
    if record.sequence != cursor.sequence + 1:
        raise ChainBroken(f"number {cursor.sequence + 1} of {record.stream} is missing: number {record.sequence} came")
    if record.previous_digest != cursor.digest or record.epoch < cursor.epoch:
        raise ChainBroken(f"number {record.sequence} of {record.stream} does not continue number {cursor.sequence}")
    return cursor_of(record)


def _records(stream: str, page: Any) -> list[Record]:
    try:
        return [Record.of_cloudevent(stream, event) for event in page["events"]]
    except (ValueError, KeyError, TypeError):
        raise ChainBroken(f"the feed of {stream} is unreadable") from None


def _of_feed(problem: Problem) -> Exception:
    if problem.type == "feed-too-old":
        return FeedTooOld(int(problem.more["oldest_sequence"]))
    if problem.type == "epoch-ended":
        more = problem.more
        return HistoryReplaced(Cursor(int(more["epoch"]), int(more["last_sequence"]), bytes.fromhex(more["last_digest"])))
    return problem


def _is_open(result: Mapping[str, Any] | None) -> bool:
    """Whether a line is to be sent again: no result, or one that says to come back."""
    problem = result and result["problem"]
    return result is None or bool(problem and (problem["status"] in _PASSING or str(problem["type"]).endswith(_IN_FLIGHT)))


def _json(answer: httpx.Response) -> Any:
    return answer.json() if answer.content else None


def _said(answer: httpx.Response) -> dict[str, Any]:
    try:
        said = answer.json()
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}


def _retry_after(answer: httpx.Response) -> float:
    given = answer.headers.get("retry-after", "")
    return min(_LONGEST_PAUSE, float(given)) if given.isascii() and given.isdigit() else 0.0
