"""`make run` as its user sees it: real processes, a data folder of its own, ports that are free."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from libs.embedded.broker import free_port
from libs.embedded.errors import CannotStart
from libs.embedded.journey import referral
from libs.embedded.postgres import Postgres
from services.__main__ import plan_of
from tests.needles import held
from tests.planted import red

MARKER = "zqxjvmaison"
ROOT = Path(__file__).parents[1]
PATIENCE = 60.0
"""Seconds: on a machine ten times too busy an answer took longer than the five of httpx."""
ROOMS = ("referrals", "partners", "funding", "reporting", "issuer")


@dataclass
class Run:
    """A house to start, with its folder and ports; what it printed goes to a file."""

    folder: Path
    ports: dict[str, int]
    output: Path

    def start(self, *options: str) -> "subprocess.Popen[bytes]":
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("KAFKA_", "MAILLON_"))}
        environment |= {f"{room.upper()}_PORT": str(port) for room, port in self.ports.items()} | {"MAILLON_DATA": str(self.folder)}
        with self.output.open("ab") as output:
            return subprocess.Popen(
                [sys.executable, "-m", "services", *options], cwd=ROOT, env=environment, stdout=output, stderr=subprocess.STDOUT
            )

    @contextmanager
    def running(self) -> "Iterator[subprocess.Popen[bytes]]":
        """A house that is not left standing where the test fails."""
        process = self.start()
        try:
            yield process
        finally:
            if process.poll() is None:
                stop(process)

    def printed(self) -> str:
        return self.output.read_text(encoding="utf-8")

    def wait_for(self, words: str, process: "subprocess.Popen[bytes]", seconds: float = 300) -> None:
        deadline = time.monotonic() + seconds
        while words not in self.printed():
            assert process.poll() is None, self.printed()
            assert time.monotonic() < deadline, self.printed()
            time.sleep(0.1)

    def token(self, who: str) -> dict[str, str]:
        answer = httpx.post(f"http://127.0.0.1:{self.ports['issuer']}/token", data={"client_id": who}, timeout=PATIENCE)
        return {"Authorization": f"Bearer {answer.json()['access_token']}"}

    def refused(self) -> list[int]:
        """A person's name sent where none belongs, to the running process: how it was answered."""
        url = f"http://127.0.0.1:{self.ports['referrals']}/v1/referrals"
        headers = self.token("police-95") | {"Idempotency-Key": "refused", "Content-Type": "application/json"}
        bodies = [f'{{"narrative": "{MARKER}', json.dumps(referral(MARKER) | {MARKER: MARKER}), json.dumps({"persons": [MARKER]})]
        broken, unknown, wrong = (httpx.post(url, content=body, headers=headers, timeout=PATIENCE) for body in bodies)
        answers = [broken, httpx.get(f"{url}/{MARKER}/{MARKER}", headers=headers, timeout=PATIENCE), unknown, wrong]
        assert [answer.text for answer in answers if held(answer.text, [MARKER])] == []
        return [answer.status_code for answer in answers]

    def situations(self) -> int:
        url = f"http://127.0.0.1:{self.ports['reporting']}/v1/figures?measure=situations&departement=95"
        return int(httpx.get(url, headers=self.token("coordinator-95"), timeout=PATIENCE).json()["total"]["value"])


def _run_in(folder: Path) -> Run:
    return Run(folder / "data", {room: free_port() for room in ROOMS}, folder / "printed")


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return _run_in(tmp_path)


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """After `make run ARGS=--once` in a new folder."""
    made = _run_in(tmp_path_factory.mktemp("played"))
    assert made.start("--once").wait(120) == 0, made.printed()
    return made


def stop(process: "subprocess.Popen[bytes]") -> int:
    process.send_signal(signal.SIGINT)
    return process.wait(30)


def test_one_referral_plays_its_journey_and_the_run_ends_well(played: Run) -> None:
    printed = played.printed()
    for fact in ("referral.received, referral.assigned", "contact.attempted", "orientation.requested", "referral.closed"):
        assert fact in printed
    assert "1 saisine(s), 2 personne(s), 1 orientation(s)" in printed
    assert "il manque 10\u202f000 €" in printed


def test_what_the_run_leaves_in_its_folder_and_prints_tells_nothing_of_the_persons(played: Run) -> None:
    _tells_nothing_of(_personal(referral("x")["persons"][0]), played)


def _tells_nothing_of(values: list[str], run: Run) -> None:
    """The clear and the sealed part of the same referral lie in the folder, and only the clear one is read there."""
    found = _files_with(run.folder, ["couple_violence", *values])
    assert found.pop("couple_violence") != [], "the search is blind"
    assert found == {value: [] for value in values}, "somebody can be read in the folder"
    assert held(run.printed(), values) == [], "somebody was printed"


def _personal(person: dict[str, Any]) -> list[str]:
    return [*person["identity"].values(), *(phone.removeprefix("+33") for phone in person["contact"]["phones"])]


def _into_a_log(run: Run, value: str) -> None:
    _write(run.folder / "logs" / "referrals.log", value)


def _into_a_database(run: Run, value: str) -> None:
    """And out of it again: the file of the table is gone with it, the write-ahead log is not."""
    postgres = Postgres.start(run.folder / "postgres")
    try:
        postgres.psql("referrals", f"CREATE TABLE leaked AS SELECT convert_to('{value}', 'UTF8') AS value")
        postgres.psql("referrals", "DROP TABLE leaked")
    finally:
        postgres.stop()


def _into_what_is_printed(run: Run, value: str) -> None:
    _write(run.output, value)


def _write(file: Path, value: str) -> None:
    with file.open("a", encoding="utf-8") as open_file:
        open_file.write(f"{value}\n")


@pytest.mark.parametrize(
    ("leak", "because"),
    [
        (_into_a_log, "somebody can be read in the folder"),
        (_into_a_database, "somebody can be read in the folder"),
        (_into_what_is_printed, "somebody was printed"),
    ],
    ids=["a log", "a database", "what is printed"],
)
def test_planted_a_leak_of_the_run_is_found(played: Run, tmp_path: Path, leak: Callable[[Run, str], None], because: str) -> None:
    subprocess.run(["cp", "-a", str(played.folder), str(tmp_path / "data")], check=True)  # with the owners of its files
    run = replace(played, folder=tmp_path / "data", output=tmp_path / "printed")
    run.output.write_text(played.printed(), encoding="utf-8")

    leak(run, _personal(referral("x")["persons"][0])[0])

    with red(because):
        test_what_the_run_leaves_in_its_folder_and_prints_tells_nothing_of_the_persons(run)


def test_planted_a_search_that_reads_nothing_is_seen(run: Run) -> None:
    with red("the search is blind"):
        test_what_the_run_leaves_in_its_folder_and_prints_tells_nothing_of_the_persons(run)


def _files_with(folder: Path, words: list[str]) -> dict[str, list[str]]:
    """The files under a folder that hold some words in any form, read byte by byte: databases, write-ahead log, the processes' logs, keys."""
    found: dict[str, list[str]] = {word: [] for word in words}
    for path in filter(Path.is_file, folder.rglob("*")):
        for word in held(path.read_bytes(), words):
            found[word].append(path.name)
    return found


def test_a_killed_service_comes_back_and_nothing_is_lost_over_a_restart_of_everything(played: Run, tmp_path: Path) -> None:
    run = replace(played, output=tmp_path / "printed")  # what the first run printed says nothing of this one
    with run.running() as process:
        run.wait_for("est en marche", process)
        assert f":{run.ports['referrals']}/desk/" in run.printed()
        sign_in = httpx.get(f"http://127.0.0.1:{run.ports['referrals']}/desk/sign-in", timeout=PATIENCE)
        assert sign_in.headers["location"].startswith(f"http://127.0.0.1:{run.ports['issuer']}/authorize?")
        refused = run.refused()
        [victim] = _processes(process.pid, "services.reporting")
        os.kill(victim, signal.SIGKILL)
        run.wait_for("reporting", process)
        deadline = time.monotonic() + 300
        while not (found := _processes(process.pid, "services.reporting")) or found == [victim]:
            assert time.monotonic() < deadline, run.printed()
            time.sleep(0.1)
        process.kill()  # the whole house, without a word
        process.wait(10)

    with run.running() as again:
        run.wait_for("3 saisine(s)", again)
        run.wait_for("est en marche", again)

        assert run.situations() == 3
        assert stop(again) == 0
    assert refused == [400, 404, 422, 422]
    _tells_nothing_of([MARKER], run)


def test_a_port_in_use_is_said_in_a_sentence(run: Run) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-m", "http.server", "--bind", "127.0.0.1", str(run.ports["funding"])],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 120
        while not _answers(run.ports["funding"]):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        process = run.start("--once")
        assert process.wait(300) == 1
    finally:
        holder.terminate()
        holder.wait(10)

    printed = run.printed()
    assert str(run.ports["funding"]) in printed
    assert "Traceback" not in printed


def _answers(port: int) -> bool:
    try:
        httpx.get(f"http://127.0.0.1:{port}/", timeout=1)
    except httpx.HTTPError:
        return False
    return True


def _processes(parent: int, words: str) -> list[int]:
    """Children of a process whose command line holds some words."""
    found = []
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            status = (folder / "status").read_text()
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
        owner = re.search(r"^PPid:\s+(\d+)$", status, re.MULTILINE)
        if owner is not None and int(owner[1]) == parent and words in command:
            found.append(int(folder.name))
    return found


def test_the_embedded_issuer_is_refused_before_anything_starts_where_development_is_not_said(tmp_path: Path) -> None:
    production = {"MAILLON_ENVIRONMENT": "production"}

    with pytest.raises(CannotStart, match="donnez TOKEN_ISSUER"):
        plan_of(tmp_path, production)

    assert not plan_of(tmp_path, production | {"TOKEN_ISSUER": "https://issuer.example"}).needs_issuer
