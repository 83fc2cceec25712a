"""PostgreSQL over TLS, its certificate verified: the chassis' two doors (session and raw connection) use it; a plain connection and a foreign
authority are refused. On Debian's server: the one out of the wheel is built without TLS."""

import os
import shutil
import signal
import ssl
import subprocess
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import asyncpg
import pytest
import trustme
from sqlalchemy import text

from libs.chassis.database import Database
from libs.embedded import children
from libs.embedded.broker import free_port
from tests.planted import seen_red

pytestmark = pytest.mark.kafka  # in CI's second lane too, where the package is installed
SECURE = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"


def _programs() -> Path:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not found:
        pytest.skip("needs PostgreSQL built with TLS (Debian: postgresql)")
    return found[-1].parent


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def server(authority: trustme.CA) -> Iterator[str]:
    """The address of a server that accepts connections over TLS only."""
    with _server(authority, "hostssl") as address:
        yield address


@contextmanager
def _server(authority: trustme.CA, accepted: str) -> Iterator[str]:
    programs, port = _programs(), free_port()
    folder = Path(f"/tmp/maillon-tls-{os.getpid()}-{port}")
    user = "nobody" if os.geteuid() == 0 else None
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700)
    if user:
        shutil.chown(folder, user)
    data = folder / "data"
    initdb: list[str | Path] = [
        programs / "initdb",
        "-D",
        data,
        "-U",
        "postgres",
        "--auth=trust",
        "--no-sync",
        "--locale=C",
        "--encoding=UTF8",
    ]
    subprocess.run(children.command(initdb, user=user), check=True, capture_output=True, cwd="/")
    own = authority.issue_cert("127.0.0.1")
    (folder / "server.crt").write_bytes(b"".join(one.bytes() for one in own.cert_chain_pems))
    (folder / "server.key").write_bytes(own.private_key_pem.bytes())
    for name in ("server.crt", "server.key"):
        (folder / name).chmod(0o600)
        if user:
            shutil.chown(folder / name, user)
    (data / "pg_hba.conf").write_text(f"{accepted} all all 127.0.0.1/32 trust\n")
    options = {
        "listen_addresses": "127.0.0.1",
        "port": str(port),
        "unix_socket_directories": "",
        "fsync": "off",
        "ssl": "on",
        "ssl_cert_file": str(folder / "server.crt"),
        "ssl_key_file": str(folder / "server.key"),
    }
    program: list[str | Path] = [
        programs / "postgres",
        "-D",
        data,
        *(word for name, value in options.items() for word in ("-c", f"{name}={value}")),
    ]
    process = children.start(program, ends_with=signal.SIGINT, user=user, cwd=Path("/"))
    try:
        while not _ready(data / "postmaster.pid"):
            assert process.poll() is None, "the server ended"
            time.sleep(0.02)
        yield f"postgresql://postgres@127.0.0.1:{port}/postgres"
    finally:
        children.stop(process, (signal.SIGINT, 20.0))
        shutil.rmtree(folder)


def _ready(pid_file: Path) -> bool:
    """Its eighth line is the server's state."""
    return pid_file.exists() and [line.strip() for line in pid_file.read_text().split("\n")][7:8] == ["ready"]


def _verified(server: str, authority: trustme.CA, folder: Path) -> str:
    file = folder / "authority.pem"
    file.write_bytes(authority.cert_pem.bytes())
    return f"{server}?sslmode=verify-full&sslrootcert={quote(str(file))}"


async def test_both_doors_to_a_database_go_through_tls(server: str, authority: trustme.CA, tmp_path: Path) -> None:
    database = Database(_verified(server, authority, tmp_path))
    try:
        async with database.transaction() as session:
            assert await session.scalar(text(SECURE)) is True
        raw = await database.connect()
        assert await raw.fetchval(SECURE) is True
        await raw.close()
    finally:
        await database.close()


async def test_a_server_of_another_authority_and_a_plain_connection_are_refused(server: str, tmp_path: Path) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        await Database(_verified(server, trustme.CA(), tmp_path)).connect()
    with pytest.raises(asyncpg.InvalidAuthorizationSpecificationError):
        await Database(f"{server}?sslmode=disable").connect()


def _asks_for(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the address says of TLS."""
    connect: Callable[..., Awaitable[Any]] = asyncpg.connect
    monkeypatch.setattr(asyncpg, "connect", lambda url, **options: connect(f"{url.partition('?')[0]}?sslmode={mode}", **options))


async def test_planted_a_client_that_checks_no_certificate_is_seen(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _asks_for("require", monkeypatch)

    await seen_red(
        test_a_server_of_another_authority_and_a_plain_connection_are_refused(server, tmp_path), "DID NOT RAISE SSLCertVerificationError"
    )


async def test_planted_a_server_that_takes_plain_connections_is_seen(
    authority: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with _server(authority, "host") as server:
        await seen_red(
            test_a_server_of_another_authority_and_a_plain_connection_are_refused(server, tmp_path),
            "DID NOT RAISE InvalidAuthorizationSpecificationError",
        )

        _asks_for("disable", monkeypatch)
        await seen_red(test_both_doors_to_a_database_go_through_tls(server, authority, tmp_path), "assert False is True")
