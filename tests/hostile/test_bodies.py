"""Bodies and headers made to hurt, sent to a really served process: a clear refusal, and its memory hardly grows."""

import gzip
import json
import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from libs.chassis import app as application
from libs.chassis import strict
from libs.chassis.app import create_app
from libs.chassis.security import IssuerKeys
from libs.embedded.issuer import Issuer
from libs.embedded.issuer import create_app as create_issuer
from services.referrals.app import SERVICE
from tests.hostile.process import MB, Reached, Served, alive, shows_memory
from tests.hostile.schema_fuzz import listening
from tests.planted import red
from tests.settings import NOWHERE, settings_for

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
    "more fields than anybody asks for": ({}, unknown(1_000), {400}),
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


def refuses_what_cannot_be_read(reached: Reached) -> None:
    for what, (headers, body, statuses) in UNREADABLE.items():
        answer = reached.ask([reached.head(Content_Length=str(len(body)), **headers), body])
        assert answer[0] in statuses, what
        problem(answer, *statuses)


@shows_memory
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

    refuses_what_cannot_be_read(served)

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


@shows_memory
@pytest.mark.parametrize("served", [{"BODY_LIMIT_BYTES": str(2 * BODY), "BODY_TIMEOUT_SECONDS": "60"}], indirect=True)
async def test_planted_a_body_that_is_read_whole_is_seen_in_the_memory(served: Served) -> None:
    before = served.forget()

    status, *_ = served.ask(announced(served))

    assert status == 400  # it came whole, and is no JSON
    assert served.memory("VmHWM") - before > MOST_GROWTH


@pytest.fixture(scope="module")
def within() -> Iterator[Reached]:
    """The referrals in this process, where a guard can be taken away; what is refused needs no database."""
    app, issuer = create_app(SERVICE, settings_for("referrals", SERVICE.settings), roles=("api",)), Issuer(NOWHERE)
    app.state.runtime.tokens.keys = IssuerKeys(f"{NOWHERE}/jwks", httpx.AsyncClient(transport=httpx.ASGITransport(create_issuer(issuer))))
    with listening(app) as url:
        yield Reached(int(url.rpartition(":")[2]), issuer, "police-95")


read_json = strict.read_json


def guessing(body: bytes) -> Any:
    return read_json(body.decode(json.detect_encoding(body), "replace").encode())


def mending(body: bytes) -> Any:
    return read_json(body.decode("utf-8", "replace").encode())


class Nothing(Exception):
    """Is never raised."""


UNGUARDED: dict[str, tuple[Any, str, Any, str]] = {
    # the fault: where it is planted, what is in its place there, what is read then
    "depth that nobody expects": (strict, "RecursionError", Nothing, "nested lists"),
    "objects of any width": (strict, "MOST_FIELDS", 10**9, "more fields than anybody asks for"),
    "bodies of any width": (strict, "MOST_COMMAS", 10**9, "persons without end"),
    "an encoding that is guessed": (strict, "read_json", guessing, "UTF-16"),
    "an encoding that is mended": (strict, "read_json", mending, "Latin-1"),
    "any charset": (application, "_JSON", re.compile("application/json.*"), "a charset"),
    "any kind of body": (application, "_check_content_type", lambda _: None, "a charset"),
}


@pytest.mark.parametrize("fault", UNGUARDED)
def test_planted_a_body_that_is_read_though_it_should_not_be_is_seen(within: Reached, monkeypatch: pytest.MonkeyPatch, fault: str) -> None:
    where, name, wrong, what = UNGUARDED[fault]
    monkeypatch.setattr(where, name, wrong, raising=False)

    with red(f"{what}\n"):
        refuses_what_cannot_be_read(within)
