"""A service as a process: it starts or says what stands in the way, and ends in time."""

import asyncio
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from libs.chassis.serve import CannotStart, _wait_for_database, documentary_settings
from libs.chassis.settings import development_secrets
from libs.embedded import children, nursery
from libs.embedded.broker import free_port
from libs.embedded.nursery import Nursery
from libs.embedded.postgres import Postgres
from tests.chassis.answering import ThingSettings

PROGRAM = "tests.chassis.one_service"
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


class Programs:
    """Starts the program as a process. Out of a nursery where there can be one: the imports of a service take 2 s of each process."""

    def __init__(self, folder: Path, grown_in: Nursery | None) -> None:
        self.output = folder / "output"
        self._grown_in = grown_in

    def start(self, *arguments: str, environment: dict[str, str]) -> children.Process:
        if self._grown_in:
            return self._grown_in.spawn([PROGRAM, *arguments], environment, self.output)
        with self.output.open("ab") as output:
            return children.start([sys.executable, "-m", PROGRAM, *arguments], env=environment, output=output)

    def run(self, *arguments: str, environment: dict[str, str]) -> tuple[int, str]:
        """Its exit code, and what it printed."""
        before = len(self.printed())
        code = self.start(*arguments, environment=environment).wait(300)
        printed = self.printed()[before:]
        assert "Traceback" not in printed
        assert "hunter2" not in printed
        return code, printed

    def printed(self) -> str:
        return self.output.read_text() if self.output.exists() else ""


@pytest.fixture(scope="module")
def _grown_in() -> Iterator[Nursery | None]:
    if not nursery.is_possible():
        yield None
        return
    made = Nursery(["tests.chassis.answering"], dict(os.environ))
    yield made
    made.close()


@pytest.fixture
def programs(tmp_path: Path, _grown_in: Nursery | None) -> Programs:
    return Programs(tmp_path, _grown_in)


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def running(programs: Programs, database_url: Callable[[str | None], str], port: int) -> Iterator[children.Process]:
    """With its database, and without a broker."""
    environment = _environment(PARTNERS_DATABASE_URL=database_url("partners"), PARTNERS_PORT=str(port))
    process = programs.start(environment=environment)
    yield process
    process.kill()
    process.wait()


async def _alive(process: children.Process, port: int) -> None:
    async with httpx.AsyncClient(timeout=1) as client, asyncio.timeout(30):
        while process.poll() is None:
            try:
                assert (await client.get(f"http://127.0.0.1:{port}/livez")).status_code == 200
            except httpx.TransportError:
                await asyncio.sleep(0.05)
            else:
                return
    raise AssertionError("it ended")


def test_missing_settings_are_named(programs: Programs) -> None:
    code, said = programs.run(environment=_environment(TOKEN_ISSUER="", PARTNERS_DATABASE_URL=""))

    assert code == 2
    assert "TOKEN_ISSUER manque" in said
    assert "PARTNERS_DATABASE_URL manque" in said


def test_production_refuses_the_secrets_of_the_embedded_default(programs: Programs) -> None:
    code, said = programs.run(environment=_environment(MAILLON_ENVIRONMENT="production"))

    assert code == 2
    assert "SIGNING_KEY est un secret de démonstration" in said


def test_a_port_in_use_is_told_with_what_to_do(programs: Programs, port: int) -> None:
    with socket.create_server(("127.0.0.1", port)):
        code, said = programs.run(environment=_environment(PARTNERS_PORT=str(port)))

    assert code == 4
    assert f"Le port {port}" in said
    assert "PARTNERS_PORT" in said


def test_a_database_that_does_not_exist_is_told_with_what_to_do(
    programs: Programs, database_url: Callable[[str | None], str], port: int
) -> None:
    absent = database_url(None).replace("/chassis_", "/absent_")

    code, said = programs.run(environment=_environment(PARTNERS_DATABASE_URL=absent, PARTNERS_PORT=str(port)))

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
def test_documents_are_written_without_any_environment(programs: Programs, document: str) -> None:
    code, printed = programs.run(document, environment={"PATH": os.environ["PATH"]})

    assert code == 0
    assert json.loads(printed)[document]


def test_an_empty_database_asks_for_its_migrations(programs: Programs, postgres: Postgres, port: int) -> None:
    postgres.create_database("empty")
    url = postgres.url("empty")

    code, said = programs.run(environment=_environment(PARTNERS_DATABASE_URL=url, PARTNERS_PORT=str(port)))
    first, again = (programs.run("migrate", environment=_environment(PARTNERS_DATABASE_URL=url)) for _ in range(2))
    postgres.drop_database("empty")

    assert code == 3
    assert "lancez d'abord « python -m services.partners migrate »" in said
    assert [first[0], again[0]] == [0, 0]
    assert "est à jour" in again[1]


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
async def test_it_ends_in_time_with_a_dead_broker(programs: Programs, running: children.Process, port: int, sent: signal.Signals) -> None:
    await _alive(running, port)

    asked = time.monotonic()
    running.send_signal(sent)
    code = await asyncio.to_thread(running.wait, 20)

    assert time.monotonic() - asked < 10
    assert code == 0
    lines = [json.loads(line) for line in programs.printed().splitlines()]
    assert [line["event"] for line in lines if line["event"].startswith("process.")] == [
        "process.started",
        "process.stopping",
        "process.stopped",
    ]


async def test_it_ends_in_time_with_a_request_that_never_ends(running: children.Process, port: int) -> None:
    await _alive(running, port)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /livez HTTP/1.1\r\nHost: x\r\n")
    await writer.drain()

    asked = time.monotonic()
    running.send_signal(signal.SIGTERM)
    code = await asyncio.to_thread(running.wait, 20)

    assert time.monotonic() - asked < 10
    assert code == 0
    writer.close()
    del reader
