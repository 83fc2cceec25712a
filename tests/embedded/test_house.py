"""The house: what stands in the way of a start is one sentence; what dies is started again; what was orphaned is ended."""

import asyncio
import json
import os
import shutil
import socket
import sys
from collections import namedtuple
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import httpx
import pytest

from libs.embedded import children
from libs.embedded.broker import free_port, is_listening
from libs.embedded.errors import CannotStart
from libs.embedded.house import House, Plan, environment_of


def _plan(folder: Path, **services: int) -> Plan:
    """Without services it needs no PostgreSQL: broker and issuer alone."""
    return Plan(folder, services, free_port(), dict(os.environ))


def _nobody(name: str, what: str) -> None:
    """Is told, and says nothing."""


@pytest.fixture
async def standing(tmp_path: Path) -> AsyncIterator[House]:
    made = House(_plan(tmp_path / "data"))
    await made.start(_nobody)
    yield made
    await made.stop()


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110  processes tell nobody
            await asyncio.sleep(0.02)


async def _refused(plan: Plan, sentence: str) -> None:
    made = House(plan)
    with pytest.raises(CannotStart, match=sentence):
        await made.start(_nobody)
    await made.stop()


async def test_a_second_house_on_the_folder_is_told_so(standing: House) -> None:
    await _refused(_plan(standing.folder), "Maillon tourne déjà sur le dossier .* arrêtez-le")


async def test_a_folder_of_another_layout_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "layout").write_text("99")

    await _refused(_plan(tmp_path), r"autre version de Maillon \(disposition 99, il faut 1\) : déplacez-le")

    assert (tmp_path / "layout").read_text() == "99"


async def test_data_of_another_postgresql_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "layout").write_text("1")
    (tmp_path / "postgres").mkdir()
    (tmp_path / "postgres" / "PG_VERSION").write_text("16")

    await _refused(_plan(tmp_path, partners=free_port()), "viennent de PostgreSQL 16 et il faut la version 18")


async def test_a_full_disk_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(2**30, 2**30, 3 * 2**20))

    await _refused(_plan(tmp_path / "data"), "Il reste 3 Mo .* libérez de la place, ou indiquez un autre dossier par MAILLON_DATA")


async def test_a_folder_that_is_a_file_is_said(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")

    await _refused(_plan(tmp_path / "data"), "n'est pas un dossier")


async def test_a_port_in_use_is_said_with_the_variable_that_changes_it(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()

        await _refused(_plan(tmp_path, funding=taken.getsockname()[1]), "est pris par un autre programme.*FUNDING_PORT")


async def test_a_port_given_twice_is_said(tmp_path: Path) -> None:
    port = free_port()

    await _refused(_plan(tmp_path, funding=port, partners=port), f"Le port {port} est demandé deux fois")


async def test_what_dies_is_started_again_at_the_same_address(standing: House) -> None:
    said: list[tuple[str, str]] = []
    watching = asyncio.create_task(standing.watch(lambda name, what: said.append((name, what))))
    before = standing.pids

    for part in standing.parts:
        assert part.process
        part.process.kill()

    await _until(lambda: {name for name, what in said if what == "relancé"} == {"courtier", "émetteur de jetons"})
    assert {what for _, what in said if "arrêté" in what} >= {"s'est arrêté (signal SIGKILL), relancé dans 0,2 s"}
    assert set(standing.pids) == set(before)
    assert set(standing.pids.values()).isdisjoint(before.values())
    assert standing.broker
    port = standing.broker.port
    await _until(lambda: is_listening(port) and is_listening(standing.plan.issuer_port))
    watching.cancel()


async def test_tokens_survive_a_restart_of_everything(tmp_path: Path) -> None:
    plan = _plan(tmp_path / "data")
    keys = []
    for _ in range(2):
        made = House(plan)
        await made.start(_nobody)
        async with httpx.AsyncClient(trust_env=False) as client:
            keys.append((await client.get(f"http://127.0.0.1:{plan.issuer_port}/jwks")).json())
        await made.stop()

    assert keys[0] == keys[1]


async def test_stopping_leaves_no_process_and_no_lock(tmp_path: Path) -> None:
    made = House(_plan(tmp_path / "data"))
    await made.start(_nobody)
    pids = list(made.pids.values())

    await made.stop()

    assert [pid for pid in pids if children.command_of(pid)] == []
    again = House(made.plan)
    await again.start(_nobody)
    await again.stop()


async def test_what_a_killed_owner_left_behind_does_not_hold_the_ports(tmp_path: Path) -> None:
    plan = _plan(tmp_path)
    command = [sys.executable, "-m", "http.server", "--bind", "127.0.0.1", str(plan.issuer_port)]
    orphan = children.start(command)
    await _until(lambda: is_listening(plan.issuer_port))
    stranger = children.start([sys.executable, "-c", "import time; time.sleep(60)"])
    known = {
        "orphan": [orphan.pid, children.started_at(orphan.pid), " ".join(command)],
        "stranger": [stranger.pid, children.started_at(stranger.pid), "its id was that of one of ours before"],
    }
    (tmp_path / "processes.json").write_text(json.dumps(known))

    made = House(plan)
    await made.start(_nobody)

    assert orphan.wait(5) != 0
    assert stranger.poll() is None
    await made.stop()
    children.stop(stranger)


def test_what_the_caller_says_goes_before_what_is_made_up(tmp_path: Path) -> None:
    given = {"KAFKA_BOOTSTRAP_SERVERS": "kafka:9092", "PARTNERS_LOG_LEVEL": "debug", "TOKEN_ISSUER": "https://issuer.example", "EMPTY": ""}
    plan = Plan(tmp_path, {"partners": 8002}, 8000, given)

    made = environment_of(plan, "partners", "postgresql://x", "kafka:9092")

    assert made.items() >= {"KAFKA_BOOTSTRAP_SERVERS": "kafka:9092", "PARTNERS_LOG_LEVEL": "debug", "PARTNERS_PORT": "8002"}.items()
    assert {"KAFKA_CREATE_TOPICS", "TOKEN_JWKS_URL", "EMPTY"}.isdisjoint(made)
    assert made["MAILLON_ENVIRONMENT"] == "development"
    assert (plan.needs_broker, plan.needs_issuer, plan.needs_postgres) == (False, False, True)
