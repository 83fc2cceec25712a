"""A service as a process: it starts or says what stands in the way, and ends in time."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import httpx
import pytest

from libs.chassis.serve import CannotStart, _wait_for_database, documentary_settings
from libs.chassis.settings import development_secrets
from libs.embedded.postgres import Postgres
from tests.chassis.answering import ThingSettings

PROGRAM = [sys.executable, "-m", "tests.chassis.one_service"]
NO_BROKER = "127.0.0.1:1"


def _environment(**changed: str) -> dict[str, str]:
    environment = {
        "PATH": os.environ["PATH"],
        "MAILLON_ENVIRONMENT": "development",
        "PARTNERS_DATABASE_URL": "postgresql://nobody:hunter2@127.0.0.1:1/partners",
        "KAFKA_BOOTSTRAP_SERVERS": NO_BROKER,
        "TOKEN_ISSUER": "http://127.0.0.1:1",
        "TOKEN_JWKS_URL": "http://127.0.0.1:1/jwks",
        "TOKEN_URL": "http://127.0.0.1:1/token",
        "PARTNERS_CLIENT_ID": "partners",
        **{f"PARTNERS_{name.upper()}": value for name, value in development_secrets("partners").items()},
    }
    return {name: value for name, value in {**environment, **changed}.items() if value}


def _run(*arguments: str, **environment: str) -> tuple[int, str, str]:
    done = subprocess.run([*PROGRAM, *arguments], env=_environment(**environment), capture_output=True, text=True, timeout=60, check=False)
    assert "Traceback" not in done.stderr
    assert "hunter2" not in done.stdout + done.stderr
    return done.returncode, done.stdout, done.stderr


@pytest.fixture
def port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


@pytest.fixture
def running(database_url: Callable[[str | None], str], port: int) -> Iterator[subprocess.Popen[str]]:
    """With its database, and without a broker."""
    environment = _environment(PARTNERS_DATABASE_URL=database_url("partners"), PARTNERS_PORT=str(port))
    process = subprocess.Popen(PROGRAM, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    yield process
    if process.poll() is None:
        process.kill()
    process.communicate()


async def _alive(process: subprocess.Popen[str], port: int) -> None:
    async with httpx.AsyncClient(timeout=1) as client, asyncio.timeout(30):
        while process.poll() is None:
            try:
                assert (await client.get(f"http://127.0.0.1:{port}/livez")).status_code == 200
            except httpx.TransportError:
                await asyncio.sleep(0.05)
            else:
                return
    raise AssertionError("it ended")


def test_missing_settings_are_named(port: int) -> None:
    code, _, said = _run(TOKEN_ISSUER="", PARTNERS_DATABASE_URL="")

    assert code == 2
    assert "TOKEN_ISSUER manque" in said
    assert "PARTNERS_DATABASE_URL manque" in said


def test_production_refuses_the_secrets_of_the_embedded_default() -> None:
    code, _, said = _run(MAILLON_ENVIRONMENT="production")

    assert code == 2
    assert "SIGNING_KEY est un secret de démonstration" in said


def test_a_port_in_use_is_told_with_what_to_do(port: int) -> None:
    with socket.create_server(("127.0.0.1", port)):
        code, _, said = _run(PARTNERS_PORT=str(port))

    assert code == 4
    assert f"Le port {port}" in said
    assert "PARTNERS_PORT" in said


def test_a_database_that_does_not_exist_is_told_with_what_to_do(database_url: Callable[[str | None], str], port: int) -> None:
    code, _, said = _run(PARTNERS_DATABASE_URL=database_url(None).replace("/chassis_", "/absent_"), PARTNERS_PORT=str(port))

    assert code == 3
    assert "n'existe pas : créez-la (createdb), ou corrigez PARTNERS_DATABASE_URL" in said


async def test_a_database_that_does_not_answer_is_told_with_what_to_do_and_without_its_password() -> None:
    settings = documentary_settings(ThingSettings, database_url="postgresql://nobody:hunter2@127.0.0.1:1/partners")

    with pytest.raises(CannotStart) as caught:
        await _wait_for_database(settings, seconds=0)

    assert caught.value.code == 3
    assert caught.value.sentences == (
        "PostgreSQL ne répond pas pour partners (127.0.0.1:1) : démarrez-le, ou corrigez PARTNERS_DATABASE_URL, puis recommencez.",
    )


@pytest.mark.parametrize("document", ["openapi", "asyncapi"])
def test_documents_are_written_without_any_environment(document: str) -> None:
    done = subprocess.run([*PROGRAM, document], env={"PATH": os.environ["PATH"]}, capture_output=True, text=True, timeout=60, check=True)

    assert json.loads(done.stdout)[document]


def test_an_empty_database_asks_for_its_migrations(postgres: Postgres, port: int) -> None:
    postgres.create_database("empty")
    url = postgres.url("empty")

    code, _, said = _run(PARTNERS_DATABASE_URL=url, PARTNERS_PORT=str(port))
    first, again = _run("migrate", PARTNERS_DATABASE_URL=url), _run("migrate", PARTNERS_DATABASE_URL=url)
    postgres.drop_database("empty")

    assert code == 3
    assert "lancez d'abord « python -m services.partners migrate »" in said
    assert [first[0], again[0]] == [0, 0]
    assert "est à jour" in again[2]


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
async def test_it_ends_in_time_with_a_dead_broker(running: subprocess.Popen[str], port: int, sent: signal.Signals) -> None:
    await _alive(running, port)

    asked = time.monotonic()
    running.send_signal(sent)
    written, _ = await asyncio.to_thread(running.communicate, timeout=20)

    assert time.monotonic() - asked < 10
    assert running.returncode == 0
    lines = [json.loads(line) for line in written.splitlines()]
    assert [line["event"] for line in lines if line["event"].startswith("process.")] == [
        "process.started",
        "process.stopping",
        "process.stopped",
    ]


async def test_it_ends_in_time_with_a_request_that_never_ends(running: subprocess.Popen[str], port: int) -> None:
    await _alive(running, port)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /livez HTTP/1.1\r\nHost: x\r\n")
    await writer.drain()

    asked = time.monotonic()
    running.send_signal(signal.SIGTERM)
    await asyncio.to_thread(running.communicate, timeout=20)

    assert time.monotonic() - asked < 10
    assert running.returncode == 0
    writer.close()
    del reader
