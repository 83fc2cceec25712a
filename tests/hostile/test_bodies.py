"""Bodies and headers made to hurt, sent to a really served process: a clear refusal, and its memory hardly grows."""

import gzip
import json
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import httpx
import pytest

from libs.chassis.settings import development_secrets
from libs.embedded.issuer import Issuer
from libs.embedded.issuer import create_app as create_issuer
from tests.hostile.schema_fuzz import listening
from tests.settings import NOWHERE
from tests.waiting import until

pytestmark = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read where Linux shows it")

MB = 1024 * 1024
BODY = 100 * MB
MOST_GROWTH = 50 * MB
MARK = b"marqueur-personnel"
PIECE = (MARK + b"a" * 65_536)[:65_536]


@dataclass
class Served:
    process: subprocess.Popen[bytes]
    port: int
    token: str
    log: Path

    def memory(self, line: str) -> int:
        """`VmRSS`: resident now, `VmHWM`: the most since `forget`; in bytes."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return next(int(one.split()[1]) * 1024 for one in status.splitlines() if one.startswith(f"{line}:"))

    def forget(self) -> int:
        """Start measuring: the most memory from now on. Gives what is resident now."""
        Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")
        return self.memory("VmRSS")

    def head(self, path: str = "/v1/referrals", /, **headers: str) -> bytes:
        given = {"Host": "x", "Authorization": f"Bearer {self.token}", "Content-Type": "application/json", "Idempotency-Key": "k"} | {
            name.replace("_", "-"): value for name, value in headers.items()
        }
        return "\r\n".join([f"POST {path} HTTP/1.1", *(f"{name}: {value}" for name, value in given.items())]).encode() + b"\r\n\r\n"

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=30)

    def ask(self, parts: Iterable[bytes]) -> tuple[int, dict[str, str], bytes]:
        """Send all of it, whatever is answered meanwhile; then read the answer. A connection closed by the other side ends the sending."""
        with self.connect() as connection:
            try:
                for part in parts:
                    connection.sendall(part)
            except ConnectionError:
                pass  # the answer was sent before
            with connection.makefile("rb") as answer:
                status = int(answer.readline().split()[1])
                lines = iter(lambda: answer.readline().strip().decode(), "")
                headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
                if "content-length" in headers:
                    return status, headers, answer.read(int(headers["content-length"]))
                content = b""
                while size := int(answer.readline(), 16):
                    content += answer.read(size + 2)[:-2]
                return status, headers, content


def started(environment: dict[str, str], written: IO[bytes]) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-m", "services.referrals"], env=environment, stdout=written, stderr=subprocess.STDOUT)


@pytest.fixture
async def served(request: pytest.FixtureRequest, database_url: Callable[[str | None], str], tmp_path: Path) -> AsyncIterator[Served]:
    """`python -m services.referrals` on a database of its own, without a broker; a body may take two seconds. Its parameter: more of its environment."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = int(free.getsockname()[1])
    issuer, log = Issuer(NOWHERE), tmp_path / "log"
    with listening(create_issuer(issuer)) as url, log.open("wb") as written:
        environment = {
            "PATH": os.environ["PATH"],
            "MAILLON_ENVIRONMENT": "development",
            "REFERRALS_DATABASE_URL": database_url("referrals"),
            "REFERRALS_PORT": str(port),
            "REFERRALS_CLIENT_ID": "referrals",
            "KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1",
            "TOKEN_ISSUER": NOWHERE,
            "TOKEN_JWKS_URL": f"{url}/jwks",
            "TOKEN_URL": f"{url}/token",
            "BODY_TIMEOUT_SECONDS": "2",
            "RATE_LIMIT_REFUSALS": "100000",
        } | {f"REFERRALS_{name.upper()}": value for name, value in development_secrets("referrals").items()}
        environment |= getattr(request, "param", {})
        process = started(environment, written)
        one = Served(process, port, issuer.issue("police-95"), log)
        await until(lambda: alive(one))
        yield one
        process.terminate()
        assert process.wait(30) == 0


async def alive(served: Served) -> bool:
    assert served.process.poll() is None, served.log.read_text()
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{served.port}", timeout=10) as client:
        try:
            return (await client.get("/livez")).status_code == 200
        except httpx.TransportError:
            return False


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


TEXT = '{"note": "é ' + MARK.decode() + '"}'
UNREADABLE: dict[str, tuple[dict[str, str], bytes, set[int]]] = {
    # what: headers, body, statuses
    "nested lists": ({}, nested(b"[", b"]"), {400, 422}),
    "nested objects": ({}, nested(b'{"a":', b"}"), {400, 422}),
    "lists that never close": ({}, b"[" * 1_000_000, {400}),
    "objects that never close": ({}, b'{"a":' * 200_000, {400}),
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
