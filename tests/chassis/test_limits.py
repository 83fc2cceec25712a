"""What a caller can make us hold is bounded: tried over real sockets, on uvicorn with our protocol class."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
import uvicorn
from starlette.responses import PlainTextResponse
from uvicorn.protocols.http import httptools_impl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from libs.chassis import limits
from libs.chassis.limits import BoundedProtocol, Limits, TooSlow
from tests.chassis.answering import Issuer, app_of
from tests.planted import red, seen_red
from tests.skipping import Another, at_once
from tests.waiting import until

ISSUER = Issuer()


@asynccontextmanager
async def listening(app: Any) -> AsyncIterator[int]:
    """Its port."""
    sock = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, http=BoundedProtocol, ws="none", log_config=None, access_log=False))
    serving = asyncio.create_task(server.serve(sockets=[sock]))
    while not server.started:  # noqa: ASYNC110  # uvicorn has no event for it
        await asyncio.sleep(0.01)
    yield sock.getsockname()[1]
    server.should_exit = True
    await serving


@pytest.fixture
async def port() -> AsyncIterator[int]:
    """A body has more time than any test takes."""
    async with listening(app_of(ISSUER, body_limit_bytes=20_000, body_timeout_seconds=600)) as port:
        yield port


@pytest.fixture
async def impatient() -> AsyncIterator[int]:
    """The port of who gives a body no time."""
    async with listening(app_of(ISSUER, body_limit_bytes=20_000, body_timeout_seconds=0.4)) as port:
        yield port


class Answering:
    """An application that gives a large answer at once, to who takes a share."""

    def __init__(self) -> None:
        self.bounded = Limits(self, body_bytes=10, body_seconds=1, concurrency=2)
        self.answered = self.left = self.left_at_first = False

    async def __call__(self, scope: limits.Scope, receive: limits.Receive, send: limits.Send) -> None:
        scope[limits.LEAVE] = self._leave
        await PlainTextResponse(b"a" * LARGE)(scope, receive, send)
        self.answered, self.left_at_first = True, self.left

    def _leave(self) -> None:
        self.left = True


class Connection:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def open(cls, port: int) -> "Connection":
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    async def send(self, raw: bytes) -> None:
        self.writer.write(raw)
        await self.writer.drain()

    async def answer(self) -> tuple[int, dict[str, str], bytes]:
        async with asyncio.timeout(10):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
            body = await self.reader.readexactly(int(headers.get("content-length", 0)))
        return int(head[0].split()[1]), headers, body

    async def closed(self) -> bool:
        try:
            async with asyncio.timeout(5):
                return await self.reader.read() == b""
        except ConnectionError:
            return True


def _head(path: str = "/v1/echo", method: str = "POST", **headers: str) -> bytes:
    given = {"Host": "x", "Authorization": ISSUER.headers()["Authorization"], "Content-Type": "application/json", **headers}
    lines = [f"{method} {path} HTTP/1.1", *(f"{name.replace('_', '-')}: {value}" for name, value in given.items())]
    return "\r\n".join(lines).encode() + b"\r\n\r\n"


def _problem(answer: tuple[int, dict[str, str], bytes], status: int, type: str) -> None:
    assert answer[0] == status, answer
    assert answer[1]["content-type"] == "application/problem+json"
    said: dict[str, Any] = json.loads(answer[2])
    assert said["type"] == f"https://maillon.example/problems/{type}"
    assert said["instance"].startswith("urn:uuid:")


async def test_a_body_announced_too_large_is_refused_before_it_comes(port: int) -> None:
    connection = await Connection.open(port)

    await connection.send(_head(Content_Length="104857600"))

    _problem(await connection.answer(), 413, "too-large")
    assert await connection.closed()


async def test_a_body_that_grows_too_large_is_refused_while_it_comes(port: int) -> None:
    connection = await Connection.open(port)

    await connection.send(_head("/v1/things", Transfer_Encoding="chunked", Idempotency_Key="k"))
    chunk = b"1000\r\n" + b"x" * 4096 + b"\r\n"
    await connection.send(chunk * 6)

    _problem(await connection.answer(), 413, "too-large")


async def test_a_route_may_have_a_limit_of_its_own(port: int) -> None:
    answers = []
    for path, size in (("/v1/echo", 4097), ("/v1/things", 4097)):
        connection = await Connection.open(port)
        await connection.send(_head(path, Content_Length=str(size), Idempotency_Key="k") + b" " * size)
        answers.append((await connection.answer())[0])

    assert answers == [413, 400]  # the second was read, and is no JSON


async def test_a_body_that_comes_too_slowly_is_given_up(impatient: int) -> None:
    connection = await Connection.open(impatient)

    await connection.send(_head(Content_Length="100") + b'{"name"')

    _problem(await connection.answer(), 408, "too-slow")
    assert await connection.closed()


async def test_a_body_that_drips_does_not_gain_time(impatient: int) -> None:
    connection = await Connection.open(impatient)
    await connection.send(_head(Content_Length="1000"))

    async def drip() -> None:
        for _ in range(100):
            await connection.send(b" ")
            await asyncio.sleep(0.05)

    dripping = asyncio.create_task(drip())
    _problem(await connection.answer(), 408, "too-slow")
    dripping.cancel()
    await asyncio.gather(dripping, return_exceptions=True)


async def test_headers_that_come_too_slowly_are_given_up(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "HEADER_SECONDS", 0.2)
    silent, half = await Connection.open(port), await Connection.open(port)

    await half.send(b"GET /livez HTTP/1.1\r\nHost: x\r\nX-Slow: ")

    for connection in (silent, half):
        _problem(await connection.answer(), 408, "too-slow")
        assert await connection.closed()


class Wire(asyncio.Transport):
    """What a protocol says, and whether it has hung up."""

    def __init__(self) -> None:
        super().__init__()
        self.said, self.closed = b"", False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.said += data

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True


BEGUN = b"GET /livez HTTP/1.1\r\nX-Slow: "
UNFINISHED = {"silent": [], "half a header, then silent": [BEGUN], "a byte a second": [BEGUN, *[b"a"] * 100]}


async def _in_time(parts: list[bytes], most: int) -> Wire:
    """What is sent, a part a second; the connection after so many seconds."""
    wire = Wire()
    protocol = BoundedProtocol(uvicorn.Config(_never, interface="asgi3", log_config=None), ServerState(), {})
    protocol.connection_made(wire)
    for second in range(most):
        assert not wire.closed, f"after {second} s"
        for part in parts[second : second + 1]:
            protocol.data_received(part)
        await asyncio.sleep(1)
    return wire


async def _never(scope: Any, receive: Any, send: Any) -> None:
    raise AssertionError("no request is whole")


@pytest.mark.parametrize("case", UNFINISHED)
def test_headers_have_fifteen_seconds_however_they_come(case: str) -> None:
    wire = at_once(_in_time(UNFINISHED[case], 15))

    assert wire.said.startswith(b"HTTP/1.1 408 "), "is still waited for"
    assert wire.closed


@pytest.mark.parametrize("case", UNFINISHED)
@pytest.mark.parametrize(
    ("of", "name", "wrong"), [(BoundedProtocol, "_start_header_timer", lambda _: None), (limits, "HEADER_SECONDS", 60)]
)
def test_planted_headers_that_have_all_the_time_are_seen(
    monkeypatch: pytest.MonkeyPatch, of: Any, name: str, wrong: Any, case: str
) -> None:
    monkeypatch.setattr(of, name, wrong)

    with red("is still waited for"):
        test_headers_have_fifteen_seconds_however_they_come(case)


def test_planted_headers_that_gain_time_by_each_byte_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = BoundedProtocol.data_received

    def gaining(protocol: BoundedProtocol, data: bytes) -> None:
        plain(protocol, data)
        protocol._start_header_timer()

    monkeypatch.setattr(BoundedProtocol, "data_received", gaining)

    with red("is still waited for"):
        test_headers_have_fifteen_seconds_however_they_come("a byte a second")


def _coming(parts: list[bytes], pause: float) -> limits.Receive:
    left = list(parts)

    async def receive() -> limits.Message:
        await asyncio.sleep(pause)
        return {"type": "http.request", "body": left.pop(0), "more_body": bool(left)}

    return receive


async def _read_whole(scope: limits.Scope, receive: limits.Receive, send: limits.Send) -> None:
    while (await receive())["more_body"]:
        pass


async def _bounded(parts: list[bytes], pause: float) -> None:
    """A body has ten seconds."""
    scope = {"type": "http", "path": "/v1/x", "raw_path": b"/v1/x", "query_string": b"", "headers": []}
    await Limits(_read_whole, body_bytes=1000, body_seconds=10, concurrency=1)(scope, _coming(parts, pause), _unsaid)


async def _unsaid(message: limits.Message) -> None:
    raise AssertionError("nothing is said")


LATE = {"silent": ([b"a"], 11), "a byte a second": ([b"a"] * 11, 1)}


@pytest.mark.parametrize("case", LATE)
def test_a_body_has_its_seconds_however_it_comes(case: str) -> None:
    parts, pause = LATE[case]

    with pytest.raises(TooSlow):
        at_once(_bounded(parts, pause))


def test_a_body_that_is_whole_in_its_seconds_is_read() -> None:
    at_once(_bounded([b"a"] * 9, 1))


@pytest.mark.parametrize("case", LATE)
def test_planted_a_body_that_has_all_the_time_is_seen(monkeypatch: pytest.MonkeyPatch, case: str) -> None:
    monkeypatch.setattr(limits, "asyncio", Another(asyncio, timeout_at=lambda _: asyncio.timeout(None)))

    with red("DID NOT RAISE"):
        test_a_body_has_its_seconds_however_it_comes(case)


def test_planted_a_body_that_gains_time_by_each_byte_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "asyncio", Another(asyncio, timeout_at=lambda _: asyncio.timeout(10)))

    with red("DID NOT RAISE"):
        test_a_body_has_its_seconds_however_it_comes("a byte a second")


NOT_REQUESTS: dict[str, tuple[bytes, int, str]] = {
    "many headers": (_head(**{f"X-{number}": "a" for number in range(101)}), 431, "headers-too-large"),
    "long headers": (_head(X_Long="a" * 40_000), 431, "headers-too-large"),
    "a long address": (_head("/" + "a" * 9000), 414, "url-too-long"),
    "bytes in the address": (b"GET /\xff HTTP/1.1\r\nHost: x\r\n\r\n", 400, "malformed"),
    "no HTTP": (b"nonsense\r\n\r\n", 400, "malformed"),
    "a header without colon": (b"GET / HTTP/1.1\r\nHost x\r\n\r\n", 400, "malformed"),
    "two lengths": (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400, "malformed"),
    "a length and chunks": (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400, "malformed"),
    "no host": (b"GET / HTTP/1.1\r\n\r\n", 400, "malformed"),
    "two hosts": (b"GET / HTTP/1.1\r\nHost: x\r\nhost: x\r\n\r\n", 400, "malformed"),
    "two hosts in HTTP/1.0": (b"GET / HTTP/1.0\r\nHost: x\r\nHost: y\r\n\r\n", 400, "malformed"),
    "another coding before chunks": (b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 400, "malformed"),
    "another coding in a header before": (
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
        "malformed",
    ),
    "a negative length": (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", 400, "malformed"),
    "NUL in a header": (b"GET / HTTP/1.1\r\nHost: x\r\nX-Nul: a\x00b\r\n\r\n", 400, "malformed"),
    "CONNECT": (b"CONNECT evil:80 HTTP/1.1\r\nHost: x\r\n\r\n", 400, "malformed"),
    "a bad chunk": (_head(Transfer_Encoding="chunked") + b"zz\r\n", 400, "malformed"),
}


@pytest.mark.parametrize("case", NOT_REQUESTS)
async def test_what_is_not_a_request_is_a_problem_too(port: int, case: str) -> None:
    raw, status, type = NOT_REQUESTS[case]
    connection = await Connection.open(port)

    await connection.send(raw)

    _problem(await connection.answer(), status, type)
    assert await connection.closed()


@pytest.mark.parametrize(
    ("bound", "case"), [("MOST_HEADERS", "many headers"), ("MOST_HEADER_BYTES", "long headers"), ("LONGEST_URL", "a long address")]
)
async def test_planted_a_bound_on_headers_that_is_not_kept_is_seen(
    port: int, monkeypatch: pytest.MonkeyPatch, bound: str, case: str
) -> None:
    monkeypatch.setattr(limits, bound, 10**9)

    await seen_red(test_what_is_not_a_request_is_a_problem_too(port, case), f"== {NOT_REQUESTS[case][1]}")


@pytest.mark.parametrize("case", ["two hosts", "another coding before chunks"])
async def test_planted_a_request_that_two_servers_may_read_differently_is_seen(
    port: int, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    monkeypatch.setattr(BoundedProtocol, "_is_plain", lambda _: True)

    await seen_red(test_what_is_not_a_request_is_a_problem_too(port, case), "== 400")


ENDLESS = {
    "header": (b"GET /livez HTTP/1.1\r\nX-Endless: ", b"a"),
    "header name": (b"GET /livez HTTP/1.1\r\n", b"a"),
    "address": (b"GET /", b"a"),
    "trailer": (_head(Transfer_Encoding="chunked") + b"1\r\n{\r\n0\r\nX-Endless: ", b"a"),
    "chunk extension": (_head(Transfer_Encoding="chunked") + b"1;x=", b"a"),
}


MORE_THAN_KEPT = 8_000_000
"""More than the kernel's buffers hold, besides our bound."""


@pytest.mark.parametrize("case", ENDLESS)
async def test_what_never_ends_is_cut_off_before_it_fills_the_memory(port: int, case: str) -> None:
    begin, more = ENDLESS[case]
    connection = await Connection.open(port)
    await connection.send(begin)
    sent = 0

    with suppress(ConnectionError):
        while sent < MORE_THAN_KEPT:
            await connection.send(more * 16_384)
            sent += 16_384

    assert sent < MORE_THAN_KEPT, "never cut off"


@pytest.mark.parametrize("case", sorted(ENDLESS.keys() - {"address"}))  # it has a bound of its own
async def test_planted_what_never_ends_and_is_kept_is_seen(port: int, monkeypatch: pytest.MonkeyPatch, case: str) -> None:
    monkeypatch.setattr(BoundedProtocol, "data_received", HttpToolsProtocol.data_received)

    await seen_red(test_what_never_ends_is_cut_off_before_it_fills_the_memory(port, case), "never cut off")


async def test_a_body_in_many_small_chunks_is_read(port: int) -> None:
    connection = await Connection.open(port)
    body = json.dumps({"name": "a", "story": "b" * 150}).encode()

    await connection.send(_head(Transfer_Encoding="chunked"))
    for byte in body:
        await connection.send(b"1\r\n%c\r\n" % byte)
    await connection.send(b"0\r\n\r\n")

    assert (await connection.answer())[0] == 200


async def test_requests_on_one_connection_go_on_after_a_refusal(port: int) -> None:
    connection = await Connection.open(port)
    answers = []

    for _ in range(3):
        await connection.send(_head(Content_Length="2") + b"[]")
        answers.append((await connection.answer())[0])

    assert answers == [422] * 3


async def test_who_asks_for_another_protocol_is_answered_in_this_one_and_no_advice_is_logged(
    port: int, caplog: pytest.LogCaptureFixture
) -> None:
    connection = await Connection.open(port)

    await connection.send(b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")

    assert (await connection.answer())[0] == 200
    assert "WebSocket" not in caplog.text


async def test_a_few_requests_sent_before_their_answers_are_answered_in_order(port: int) -> None:
    connection = await Connection.open(port)
    bodies = [b"[]", b'{"name": "a"}', b"{"]

    for _ in range(3):
        await connection.send(b"".join(_head(Content_Length=str(len(body))) + body for body in bodies))
        answers = [(await connection.answer())[0] for _ in bodies]

        assert answers == [422, 200, 400]


async def test_requests_that_pile_up_unanswered_end_the_connection_after_those_that_may(port: int) -> None:
    connection = await Connection.open(port)

    await connection.send(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n" * 5_000)
    answers = [await connection.answer() for _ in range(limits.MOST_WAITING + 2)]

    assert [answer[0] for answer in answers] == [200] * (limits.MOST_WAITING + 1) + [429]
    _problem(answers[-1], 429, "too-many-at-once")
    assert answers[-1][1]["connection"] == "close"
    assert await connection.closed()


async def test_requests_that_pile_up_behind_one_in_work_are_not_kept(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = 0

    class Counted(RequestResponseCycle):
        def __init__(self, *given: Any, **named: Any) -> None:
            nonlocal kept
            kept += 1
            super().__init__(*given, **named)

    monkeypatch.setattr(httptools_impl, "RequestResponseCycle", Counted)
    connection = await Connection.open(port)

    await connection.send(_head(Content_Length="2") + b"[")
    await connection.send(b"]" + _head(Content_Length="0") * 2_000)
    answers = [(await connection.answer())[0] for _ in range(limits.MOST_WAITING + 2)]

    assert (answers[0], answers[-1]) == (422, 429)
    assert kept == limits.MOST_WAITING + 2


async def test_planted_requests_kept_without_a_bound_are_seen(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BoundedProtocol, "on_headers_complete", HttpToolsProtocol.on_headers_complete)

    await seen_red(test_requests_that_pile_up_behind_one_in_work_are_not_kept(port, monkeypatch), "(422, 429)")


LARGE = 16_000_000
"""More than the kernel's buffers take."""


async def _ask_for_a_large_answer(port: int) -> socket.socket:
    loop = asyncio.get_running_loop()
    asking = socket.socket()
    asking.setblocking(False)
    asking.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
    await loop.sock_connect(asking, ("127.0.0.1", port))
    await loop.sock_sendall(asking, b"GET /large HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    return asking


async def _read(asking: socket.socket, pause: float = 0) -> int:
    """How much comes until the other side ends it."""
    read = 0
    with suppress(ConnectionError):
        while part := await asyncio.get_running_loop().sock_recv(asking, 1_000_000):
            read += len(part)
            await asyncio.sleep(pause)
    return read


async def test_who_reads_nothing_of_a_large_answer_is_cut_off_and_keeps_its_share_until_then(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "UNREAD_SECONDS", 0.3)
    answering = Answering()
    async with listening(answering.bounded) as port:
        asking = await _ask_for_a_large_answer(port)
        await until(lambda: answering.answered)
        await until(lambda: answering.left)
        with asking:
            read = await _read(asking)

    assert not answering.left_at_first
    assert 0 < read < LARGE


async def test_who_reads_a_large_answer_slowly_has_all_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "UNREAD_SECONDS", 0.5)
    async with listening(Answering().bounded) as port:
        began = asyncio.get_running_loop().time()
        with await _ask_for_a_large_answer(port) as asking:
            read = await _read(asking, pause=0.01)

    assert read > LARGE
    assert asyncio.get_running_loop().time() - began > 2 * limits.UNREAD_SECONDS


# In the application


async def test_more_requests_than_may_be_in_work_are_sent_away() -> None:
    gate = asyncio.Event()

    async def slow(scope: limits.Scope, receive: limits.Receive, send: limits.Send) -> None:
        await gate.wait()

    bounded = Limits(slow, body_bytes=10, body_seconds=1, concurrency=2)
    scope: dict[str, Any] = {"type": "http", "path": "/v1/x", "raw_path": b"/v1/x", "query_string": b"", "headers": []}
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        raise AssertionError("not read")

    at_work = [asyncio.create_task(bounded(dict(scope), receive, send)) for _ in range(2)]
    await asyncio.sleep(0)
    await bounded(dict(scope), receive, send)
    gate.set()
    await asyncio.gather(*at_work)

    assert sent[0]["status"] == 503
    assert (b"retry-after", b"1") in sent[0]["headers"]
    await bounded(dict(scope), receive, send)
    assert len(sent) == 2
