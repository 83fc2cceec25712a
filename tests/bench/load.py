"""A load client that costs little beside what it measures: raw sockets, one request in flight for each connection, answers looked at for status and length."""

import asyncio
import json
import time
from collections.abc import Callable
from functools import partial
from itertools import count
from typing import Any
from uuid import uuid4

from libs.embedded.broker import HOST
from services.referrals.api import REFERRAL_EXAMPLE

Make = Callable[[], bytes]
"""Makes the next request."""

_numbers = count(1)
_run = uuid4().hex[:8]


def referral() -> bytes:
    """The example of the API's documents under a reference of its own: two persons, a narrative."""
    return json.dumps(REFERRAL_EXAMPLE | {"external_reference": f"bench-{_run}-{next(_numbers)}"}, default=str).encode()


def post(path: str, token: str, body: Callable[[], bytes]) -> Make:
    """Makes requests, each with a key of its own."""
    head = f"POST {path} HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: application/json\r\nAuthorization: Bearer {token}\r\n"

    def make() -> bytes:
        content = body()
        return f"{head}Idempotency-Key: {_run}-{next(_numbers)}\r\nContent-Length: {len(content)}\r\n\r\n".encode() + content

    return make


class _Connection(asyncio.Protocol):
    def __init__(self, make: Make, begin: float, every: float, until: float, answered: Callable[[bytes], object]) -> None:
        """Sends first at `begin`, then each time when answered, but not before `every` seconds have passed; until `until`."""
        self._make, self._due, self._every, self._until, self._answered = make, begin, every, until, answered
        self._buffer = b""
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._next()

    def _next(self) -> None:
        wait = self._due - time.perf_counter()
        if wait > 0:
            asyncio.get_running_loop().call_later(wait, self._send)
        else:
            self._send()

    def _send(self) -> None:
        self._due += self._every
        self._transport.write(self._make())

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head = self._buffer.find(b"\r\n\r\n")
        if head < 0:
            return
        lowered = self._buffer[:head].lower()
        place = lowered.index(b"content-length:") + 15
        length = int(lowered[place:].split(b"\r\n", 1)[0])
        if len(self._buffer) < head + 4 + length:
            return
        status, body = self._buffer[9:12], self._buffer[head + 4 :]
        if status != b"201":
            self._end(RuntimeError(f"answered {status.decode()}: {body.decode()}"))
            return
        self._answered(body)
        self._buffer = b""
        if max(time.perf_counter(), self._due) < self._until:
            self._next()
        else:
            self._end(None)

    def _end(self, error: Exception | None) -> None:
        if not self.ended.done():
            self.ended.set_exception(error) if error else self.ended.set_result(None)
        self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.ended.done():
            self.ended.set_exception(exc or ConnectionResetError("the service hung up"))


async def rate(port: int, make: Make, *, connections: int = 32, seconds: float = 3) -> float:
    """Answered requests a second, as fast as it goes. Raises RuntimeError when one is not answered 201."""
    answers = 0

    def answered(_: bytes) -> None:
        nonlocal answers
        answers += 1

    started = time.perf_counter()
    await _through(port, [_Connection(make, started, 0, started + seconds, answered) for _ in range(connections)])
    return answers / (time.perf_counter() - started)


async def paced(port: int, make: Make, answered: Callable[[bytes], object], *, a_second: float, seconds: float, connections: int) -> None:
    """So many requests a second, evenly; `answered` is told each body. Raises RuntimeError when one is not answered 201."""
    started, every = time.perf_counter(), connections / a_second
    await _through(
        port,
        [_Connection(make, started + number / a_second, every, started + seconds, answered) for number in range(connections)],
    )


def _itself(connection: _Connection) -> _Connection:
    return connection


async def _through(port: int, connections: list[_Connection]) -> None:
    loop = asyncio.get_running_loop()
    for connection in connections:
        await loop.create_connection(partial(_itself, connection), HOST, port)
    await asyncio.gather(*(connection.ended for connection in connections))
