"""Bodies and headers made to hurt, sent to a really served process: a clear refusal, and its memory hardly grows."""

import gzip
import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.hostile.process import MB, Served, alive, shows_memory

pytestmark = shows_memory

BODY = 100 * MB
MOST_GROWTH = 50 * MB
MARK = b"marqueur-personnel"
PIECE = (MARK + b"a" * 65_536)[:65_536]


def announced(served: Served) -> Iterator[bytes]:
    yield served.head(Content_Length=str(BODY))
    yield from [PIECE] * (BODY // len(PIECE))


def in_chunks(served: Served) -> Iterator[bytes]:
    yield served.head(Transfer_Encoding="chunked")
    yield from [b"%x\r\n%b\r\n" % (len(PIECE), PIECE)] * (BODY // len(PIECE))
    yield b"0\r\n\r\n"


def without_a_token(served: Served) -> Iterator[bytes]:
    yield served.head(Authorization="Bearer x.y.z", Content_Length=str(BODY))
    yield from [PIECE] * (BODY // len(PIECE))


def to_no_route(served: Served) -> Iterator[bytes]:
    yield served.head("/v1/nothing", Content_Length=str(BODY))
    yield from [PIECE] * (BODY // len(PIECE))


def as_lines(served: Served, piece: bytes) -> Iterator[bytes]:
    yield served.head("/v1/referrals/batch", Content_Type="application/x-ndjson", Transfer_Encoding="chunked")
    yield from [b"%x\r\n%b\r\n" % (len(piece), piece)] * (BODY // len(piece))
    yield b"0\r\n\r\n"


def nested(opening: bytes, closing: bytes) -> bytes:
    return opening * 10_000 + b"1" + closing * 10_000


def unknown(count: int) -> bytes:
    """An object of so many fields that nobody knows."""
    return b"{" + b",".join(b'"%x":{}' % number for number in range(count)) + b"}"


TEXT = '{"note": "é ' + MARK.decode() + '"}'
UNREADABLE: dict[str, tuple[dict[str, str], bytes, set[int]]] = {
    # what: headers, body, statuses
    "nested lists": ({}, nested(b"[", b"]"), {400, 422}),
    "nested objects": ({}, nested(b'{"a":', b"}"), {400, 422}),
    "lists that never close": ({}, b"[" * 1_000_000, {400}),
    "objects that never close": ({}, b'{"a":' * 200_000, {400}),
    "fields without end": ({}, unknown(95_000), {400}),
    "a person of fields without end": ({}, b'{"persons":[' + unknown(95_000) + b"]}", {400}),
    "persons without end": ({}, b'{"persons":[' + b",".join([b'{"a":1}'] * 130_000) + b"]}", {400}),
    "lists without end": ({}, b'{"themes":[' + b",".join([b"[1]"] * 250_000) + b"]}", {400}),
    "UTF-16": ({}, TEXT.encode("utf-16"), {400}),
    "UTF-16 without its mark": ({}, TEXT.encode("utf-16-le"), {400}),
    "Latin-1": ({}, TEXT.encode("latin-1"), {400}),
    "broken UTF-8": ({}, TEXT.encode() + b"\xc3", {400}),
    "overlong UTF-8": ({}, b'{"note": "\xc0\xaf"}', {400}),
    "a byte order mark": ({}, TEXT.encode("utf-8-sig"), {400}),
    "half a surrogate": ({}, b'{"external_id": "\\ud800"}', {400, 422}),
    "NUL": ({}, b'{"external_id": "\\u0000"}', {422}),
    "a number without end": ({}, b"9" * 1_000_000, {400}),
    "an exponent without end": ({}, b"1e" + b"9" * 1_000_000, {400}),
    "a charset": ({"Content_Type": "application/json; charset=utf-16"}, TEXT.encode("utf-16"), {415}),
    "gzip, said": ({"Content_Encoding": "gzip"}, gzip.compress(b"a" * 20 * MB), {415}),
    "gzip, not said": ({}, gzip.compress(TEXT.encode()), {400}),
    "a form": ({"Content_Type": "application/x-www-form-urlencoded"}, b"a=b", {415}),
}


def problem(answer: tuple[int, dict[str, str], bytes], *statuses: int) -> dict[str, Any]:
    status, headers, content = answer
    assert status in statuses, answer
    assert headers["content-type"] == "application/problem+json"
    assert MARK not in content
    said: dict[str, Any] = json.loads(content)
    assert said["status"] == status
    assert said["detail"]
    return said


async def test_nothing_of_any_size_shape_or_slowness_makes_a_served_process_grow(served: Served) -> None:
    before = served.forget()

    # bodies of 100 MB
    assert problem(served.ask(announced(served)), 413)["type"].endswith("/too-large")
    assert problem(served.ask(in_chunks(served)), 413)["type"].endswith("/too-large")
    problem(served.ask(without_a_token(served)), 401)
    problem(served.ask(to_no_route(served)), 404)
    status, _, content = served.ask(as_lines(served, PIECE))
    assert (status, content.count(b"\n"), b"line-too-long" in content) == (200, 1, True)
    status, _, content = served.ask(as_lines(served, b"[" * (MB - 1) + b"\n"))
    assert (status, content.count(b"\n"), content.count(b"/malformed")) == (200, 100, 100)

    # what cannot be read
    for what, (headers, body, statuses) in UNREADABLE.items():
        answer = served.ask([served.head(Content_Length=str(len(body)), **headers), body])
        assert answer[0] in statuses, what
        problem(answer, *statuses)

    # floods of headers
    flood = served.head(**{f"X-{number}": "a" for number in range(200)})
    for raw in (flood, served.head(X_Long="a" * MB), served.head("/" + "a" * MB)):
        problem(served.ask([raw]), 414, 431)
    for begin in (b"GET /livez HTTP/1.1\r\nX-Endless: ", b"GET /livez HTTP/1.1\r\n", b"GET /"):
        problem(served.ask([begin, *[b"a" * 65_536] * (BODY // 65_536)]), 400, 414, 431)

    # slow senders, many at a time
    slow = [served.connect() for _ in range(300)]
    for number, connection in enumerate(slow):
        connection.sendall(served.head(Content_Length="1000") + b"{" if number % 2 else b"GET /livez HTTP/1.1\r\nX-Slow: ")
    assert await alive(served)
    for connection in slow[1::2]:
        with connection.makefile("rb") as received:
            assert received.readline().split()[1] == b"408"
    for connection in slow:
        connection.close()

    assert served.memory("VmHWM") - before < MOST_GROWTH
    assert await alive(served)
    assert MARK not in served.log.read_bytes()
    assert {json.loads(line)["level"] for line in served.log.read_text().splitlines() if "operation" in json.loads(line)} == {"info"}


@pytest.mark.parametrize("served", [{"BODY_LIMIT_BYTES": str(2 * BODY)}], indirect=True)
async def test_planted_a_body_that_is_read_whole_is_seen_in_the_memory(served: Served) -> None:
    before = served.forget()

    status, *_ = served.ask(announced(served))

    assert status != 413
    assert served.memory("VmHWM") - before > MOST_GROWTH
