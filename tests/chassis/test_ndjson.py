"""The pace of lines: each is whole in time, however many bytes come; what we make the sender wait is not counted."""

import asyncio
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import pytest
from fastapi import Request

from libs.chassis import ndjson
from libs.chassis.limits import TooSlow
from tests.planted import red
from tests.skipping import Another, at_once

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


async def _read(request: Request, pause: float = 0) -> list[Any]:
    """`pause`: what is done with each part of the lines takes so long."""
    found: list[Any] = []
    async for some in ndjson.lines(request, 100, SECONDS):
        found += some
        await asyncio.sleep(pause)
    return found


@pytest.mark.parametrize("case", NEVER_WHOLE)
def test_bytes_that_complete_no_line_gain_no_time(case: str) -> None:
    request = _coming(islice(NEVER_WHOLE[case](), 100), SECONDS / 10)

    with pytest.raises(TooSlow):
        at_once(_read(request))


def test_planted_bytes_that_gain_time_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ndjson, "asyncio", Another(asyncio, timeout_at=lambda _: asyncio.timeout(SECONDS)))

    for case in NEVER_WHOLE:
        with red("DID NOT RAISE"):
            test_bytes_that_complete_no_line_gain_no_time(case)


def test_planted_blank_lines_that_gain_time_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ndjson, "_is_a_line", lambda _: True)

    with red("DID NOT RAISE"):
        test_bytes_that_complete_no_line_gain_no_time("blank lines")


def test_lines_that_keep_coming_may_take_any_time() -> None:
    parts = [b"a", b"b\n"] * 6

    assert at_once(_read(_coming(iter(parts), SECONDS / 4))) == [b"ab"] * 6


def test_what_the_sender_waits_for_us_is_not_counted() -> None:
    parts = [b"a\nb", b"c", b"d\n"]

    assert at_once(_read(_coming(iter(parts), SECONDS / 10), 2 * SECONDS)) == [b"a", b"bcd"]
