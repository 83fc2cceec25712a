"""NDJSON in and out of one request, in bounded memory for any length: lines are answered while later ones are still on their way."""

import asyncio
import re
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from typing import ClassVar, TypeVar

from fastapi import Request
from starlette.responses import Response

from libs.chassis.limits import BODY_LIMIT, Receive, Scope, Send, TooSlow
from libs.chassis.refusals import Refusal
from libs.chassis.strict import one_header

S = TypeVar("S")
T = TypeVar("T")

MEDIA_TYPE = "application/x-ndjson"
_WORTH_GIVING = 8
"""Lines, where more have come already: who is at work on one alone takes as long as on eight."""
_ACCEPTED = re.compile(r'application/(?:x-)?ndjson(?:[ \t]*;[ \t]*charset="?utf-8"?)?', re.ASCII | re.IGNORECASE)


class NotNdjson(Refusal):
    status: ClassVar[int] = 415
    type: ClassVar[str] = "not-ndjson"
    title: ClassVar[str] = "Format non accepté"


class LineTooLong(Refusal):
    status: ClassVar[int] = 413
    type: ClassVar[str] = "line-too-long"
    title: ClassVar[str] = "Ligne trop longue"


def expect_lines(request: Request) -> None:
    """To be called before the first look at `lines`: this body may have any length, as long as lines keep coming. Raises NotNdjson."""
    kind = one_header(request.scope, "content-type")
    encoding = one_header(request.scope, "content-encoding")
    if kind is None or not _ACCEPTED.fullmatch(kind) or (encoding is not None and encoding.lower() != "identity"):
        raise NotNdjson(f"Le corps de la demande doit être du NDJSON en UTF-8, non compressé (Content-Type: {MEDIA_TYPE}).")
    request.scope[BODY_LIMIT] = None


async def lines(request: Request, longest: int, seconds: float) -> AsyncIterator[list[bytes | LineTooLong]]:
    """The lines that have come, each time some have; without their line breaks. A line longer than `longest` bytes is passed over, and said.

    A line that is not blank has `seconds` to become whole: of waiting for the sender, not of what is done between. Of a request that is broken off,
    the line that was not whole is not given. Raises ClientDisconnect, TooSlow.
    """
    rest, passing, waited = b"", False, 0.0
    parts, now = request.stream(), asyncio.get_running_loop().time
    while True:
        began = now()
        try:
            async with asyncio.timeout_at(began + seconds - waited):
                part = await anext(parts, None)
        except TimeoutError:
            raise TooSlow("Aucune ligne entière n'est arrivée à temps : envoyez à nouveau ce qui n'a pas eu de résultat.") from None
        if part is None:
            break
        waited += now() - began
        *whole, rest = (rest + part).split(b"\n")
        if passing and whole:
            whole, passing = whole[1:], False  # the end of the long line
        found: list[bytes | LineTooLong] = [line if len(line) <= longest else _too_long(longest) for line in whole]
        if passing or len(rest) > longest:
            if not passing:
                found.append(_too_long(longest))
            rest, passing = b"", True
        if any(_is_a_line(line) for line in found):
            waited = 0.0
        if found:
            yield found
    if rest:
        yield [rest]


async def read_ahead(came: AsyncIterator[Sequence[S]], read: Callable[[S], T], most: int) -> AsyncGenerator[list[T]]:
    """What has come, each time some has, at most so many at once: read while whoever asks is at work on what came before, at most so many in advance.

    Raises what `came` ends with, once all that came before was given. To be closed (`contextlib.aclosing`).
    """
    found: deque[T] = deque()
    there, room = asyncio.Event(), asyncio.Event()

    async def reading() -> None:
        try:
            async for some in came:
                for number, one in enumerate(some, 1):
                    if len(found) >= most:
                        there.set()
                        room.clear()
                        await room.wait()
                    found.append(read(one))
                    if number % _WORTH_GIVING == 0 or number == len(some):
                        there.set()
                    await asyncio.sleep(0)  # who waits for PostgreSQL goes on as soon as it answers, not eight lines later
        finally:
            there.set()

    task = asyncio.create_task(reading())
    try:
        while True:
            await there.wait()
            if not found:
                await task
                return
            part = [found.popleft() for _ in range(min(most, len(found)))]
            room.set()
            if not found and not task.done():
                there.clear()
            yield part
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def _is_a_line(found: bytes | LineTooLong) -> bool:
    """Blank ones gain no time."""
    return not isinstance(found, bytes) or bool(found.strip())


def _too_long(longest: int) -> LineTooLong:
    return LineTooLong(f"Cette ligne dépasse la taille permise de {longest // 1024} Kio.")


class Lines(Response):
    """An answer that is written as it is made. (Starlette's StreamingResponse waits for the caller to hang up by reading what `lines` reads.)"""

    media_type = MEDIA_TYPE

    def __init__(self, content: AsyncIterator[bytes]) -> None:
        super().__init__()
        del self.headers["content-length"]
        self._content = content

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        async for part in self._content:
            await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body", "body": b""})
