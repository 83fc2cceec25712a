"""A really served process, to be sent what hurts; how much memory it takes; what it answers to raw bytes."""

import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import httpx
import pytest

from libs.chassis.settings import development_secrets
from libs.embedded.broker import free_port
from libs.embedded.issuer import Issuer
from libs.embedded.issuer import create_app as create_issuer
from tests.hostile.schema_fuzz import listening
from tests.settings import NOWHERE
from tests.waiting import until

MB = 1024 * 1024
shows_memory = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read where Linux shows it")


@dataclass
class Reached:
    """What listens on a port of this machine, and who signs the tokens that it takes."""

    port: int
    issuer: Issuer
    client_id: str

    def token(self, who: str | None = None) -> str:
        return f"Bearer {self.issuer.issue(who or self.client_id)}"

    def head(self, path: str = "/v1/referrals", /, method: str = "POST", **headers: str) -> bytes:
        given = {"Host": "x", "Authorization": self.token(), "Content-Type": "application/json", "Idempotency-Key": "k"} | {
            name.replace("_", "-"): value for name, value in headers.items()
        }
        return "\r\n".join([f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in given.items())]).encode() + b"\r\n\r\n"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def connect(self, room: int | None = None) -> socket.socket:
        """`room`: of its receive buffer."""
        opened = socket.socket()
        if room is not None:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, room)
        opened.settimeout(120)
        opened.connect(("127.0.0.1", self.port))
        return opened

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


@dataclass
class Served(Reached):
    process: subprocess.Popen[bytes]
    log: Path

    def memory(self, line: str) -> int:
        """`VmRSS`: resident now, `VmHWM`: the most since `forget`; in bytes."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return next(int(one.split()[1]) * 1024 for one in status.splitlines() if one.startswith(f"{line}:"))

    def forget(self) -> int:
        """Start measuring: the most memory from now on. Gives what is resident now."""
        Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")
        return self.memory("VmRSS")


def started(program: Sequence[str], environment: dict[str, str], written: IO[bytes], folder: Path | None = None) -> subprocess.Popen[bytes]:
    return subprocess.Popen(program, env=environment, stdout=written, stderr=subprocess.STDOUT, cwd=folder)


@asynccontextmanager
async def serving(
    service: str, client_id: str, database_url: str, folder: Path, *, program: Sequence[str] = (), code: int = 0, **more: str
) -> AsyncIterator[Served]:
    """`python -m services.SERVICE`, without a broker; a body may take two seconds. `client_id`: who its tokens are of; `more`: of its environment.

    `program`: started in its place, in `folder`; `code`: with which it ends.
    """
    port, issuer, log, prefix = free_port(), Issuer(NOWHERE), folder / "log", service.upper()
    with listening(create_issuer(issuer)) as url, log.open("wb") as written:
        environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(Path.cwd()),
            "MAILLON_ENVIRONMENT": "development",
            f"{prefix}_DATABASE_URL": database_url,
            f"{prefix}_PORT": str(port),
            f"{prefix}_CLIENT_ID": service,
            "KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1",
            "TOKEN_ISSUER": NOWHERE,
            "TOKEN_JWKS_URL": f"{url}/jwks",
            "TOKEN_URL": f"{url}/token",
            "BODY_TIMEOUT_SECONDS": "2",
            "RATE_LIMIT_REFUSALS": "100000",
        } | {f"{prefix}_{name.upper()}": value for name, value in development_secrets(service).items()}
        process = started(
            program or [sys.executable, "-m", f"services.{service}"], environment | more, written, folder if program else None
        )
        one = Served(port, issuer, client_id, process, log)
        try:
            await until(lambda: alive(one), 300)
            yield one
        finally:
            process.terminate()
        assert process.wait(120) == code


async def alive(served: Served) -> bool:
    assert served.process.poll() is None, served.log.read_text()
    async with httpx.AsyncClient(base_url=served.url, timeout=60) as client:
        try:
            return (await client.get("/livez")).status_code == 200
        except httpx.TransportError:
            return False
