"""A load client that costs little beside what it measures: raw sockets, one request in flight for each connection, answers looked at for status and length."""

import asyncio
import json
import time
from collections.abc import Callable
from itertools import count
from typing import Any
from uuid import uuid4

from libs.embedded.broker import HOST
from services.referrals.api import REFERRAL_EXAMPLE

_numbers = count(1)
_run = uuid4().hex[:8]


def referral() -> bytes:
    """The example of the API's documents under a reference of its own: two persons, a narrative."""
    return json.dumps(REFERRAL_EXAMPLE | {"external_reference": f"bench-{_run}-{next(_numbers)}"}, default=str).encode()


def post(path: str, token: str, body: Callable[[], bytes]) -> Callable[[], bytes]:
    """Makes requests, each with a key of its own."""
    head = f"POST {path} HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: application/json\r\nAuthorization: Bearer {token}\r\n"

    def make() -> bytes:
        content = body()
        return f"{head}Idempotency-Key: {_run}-{next(_numbers)}\r\nContent-Length: {len(content)}\r\n\r\n".encode() + content

    return make


class _Connection(asyncio.Protocol):
    def __init__(self, make: Callable[[], bytes], until: float, answered: Callable[[bytes, float], None]) -> None:
        self._make, self._until, self._answered = make, until, answered
        self._buffer = b""
        self._sent_at = 0.0
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._send()

    def _send(self) -> None:
        self._sent_at = time.perf_counter()
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
        self._answered(body, time.perf_counter() - self._sent_at)
        self._buffer = b""
        if time.perf_counter() < self._until:
            self._send()
        else:
            self._end(None)

    def _end(self, error: Exception | None) -> None:
        if not self.ended.done():
            self.ended.set_exception(error) if error else self.ended.set_result(None)
        self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.ended.done():
            self.ended.set_exception(exc or ConnectionResetError("the service hung up"))


async def rate(port: int, make: Callable[[], bytes], *, connections: int = 32, seconds: float = 3) -> float:
    """Answered requests a second. Raises RuntimeError when one is not answered 201."""
    answers = 0

    def answered(_: bytes, __: float) -> None:
        nonlocal answers
        answers += 1

    started = time.perf_counter()
    loop = asyncio.get_running_loop()
    made = [await loop.create_connection(lambda: _Connection(make, started + seconds, answered), HOST, port) for _ in range(connections)]
    await asyncio.gather(*(connection.ended for _, connection in made))
    return answers / (time.perf_counter() - started)
