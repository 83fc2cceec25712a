"""The pace of lines: each is whole in time, however many bytes come; what we make the sender wait is not counted."""

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fastapi import Request

from libs.chassis import ndjson
from libs.chassis.limits import TooSlow

SECONDS = 0.3


def _coming(parts: Iterator[bytes], pause: float) -> Request:
    async def receive() -> Any:
        await asyncio.sleep(pause)
        part = next(parts, None)
        return {"type": "http.request", "body": part or b"", "more_body": part is not None}

    return Request({"type": "http", "headers": []}, receive)


def _without_end(part: bytes) -> Callable[[], Iterator[bytes]]:
    return lambda: iter(lambda: part, None)


def _many_then(*first: bytes, then: bytes) -> Callable[[], Iterator[bytes]]:
    def parts() -> Iterator[bytes]:
        yield from first
        while True:
            yield then

    return parts


NEVER_WHOLE = {
    "blank bytes": _without_end(b" "),
    "blank lines": _without_end(b"\r\n"),
    "one line, byte by byte": _without_end(b"a"),
    "a line that is too long": _without_end(b"a" * 50),
    "after lines that were whole": _many_then(b"a\nb\n", b"c\n", then=b" "),
}


@pytest.mark.parametrize("case", NEVER_WHOLE)
async def test_bytes_that_complete_no_line_gain_no_time(case: str) -> None:
    request = _coming(NEVER_WHOLE[case](), SECONDS / 10)

    with pytest.raises(TooSlow):
        async with asyncio.timeout(SECONDS * 20):
            async for _ in ndjson.lines(request, 100, SECONDS):
                pass


async def test_lines_that_keep_coming_may_take_any_time() -> None:
    parts = [b"a", b"b\n"] * 6
    request = _coming(iter(parts), SECONDS / 4)

    found = [line async for some in ndjson.lines(request, 100, SECONDS) for line in some]

    assert found == [b"ab"] * 6


async def test_what_the_sender_waits_for_us_is_not_counted() -> None:
    request = _coming(iter([b"a\nb", b"c", b"d\n"]), SECONDS / 10)
    found: list[Any] = []

    async for some in ndjson.lines(request, 100, SECONDS):
        found += some
        await asyncio.sleep(2 * SECONDS)

    assert found == [b"a", b"bcd"]
