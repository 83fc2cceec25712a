"""The embedded PostgreSQL: data survive what machines do, and every refusal says what to do."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from libs.embedded import postgres as embedded
from libs.embedded.errors import CannotStart
from libs.embedded.postgres import Postgres

_ROOT = Path(__file__).parents[2]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Postgres]:
    server = Postgres.start(tmp_path / "postgres", durable=False)
    yield server
    server.stop()


def _connections_close(process: int) -> None:
    deadline = time.monotonic() + 30
    while Path(f"/proc/{process}").exists() and time.monotonic() < deadline:
        time.sleep(0.01)


def test_databases_are_made_from_a_template_and_dropped(server: Postgres) -> None:
    server.create_database("first")
    server.psql("first", "CREATE TABLE kept (word text); INSERT INTO kept VALUES ('oui')")

    server.create_database("second", template="first")

    assert server.psql("second", "SELECT word FROM kept") == "oui\n"
    assert {"first", "second"} <= server.databases()
    server.drop_database("second")
    assert "second" not in server.databases()


def test_a_database_name_that_would_need_quotes_is_refused(server: Postgres) -> None:
    with pytest.raises(ValueError, match="plain database name"):
        server.create_database('x"; DROP DATABASE postgres; --')


def test_the_server_is_postgresql_18_in_utf_8_with_the_settings_that_keep_what_was_committed(tmp_path: Path) -> None:
    server = Postgres.start(tmp_path / "postgres")

    settings = {name: server.psql("postgres", f"SHOW {name}").strip() for name in ("fsync", "synchronous_commit", "full_page_writes")}

    assert settings == {"fsync": "on", "synchronous_commit": "on", "full_page_writes": "on"}
    assert server.psql("postgres", "SHOW server_version").startswith("18.")
    assert server.psql("postgres", "SHOW server_encoding") == "UTF8\n"
    server.stop()


def test_a_killed_server_keeps_what_was_committed(tmp_path: Path) -> None:
    server = Postgres.start(tmp_path / "postgres")
    server.psql("postgres", "CREATE TABLE kept (number int); INSERT INTO kept SELECT generate_series(1, 1000)")

    server.process.kill()
    server.process.wait()
    server.restart()

    assert server.psql("postgres", "SELECT count(*) FROM kept") == "1000\n"
    server.stop()


def test_the_pid_file_of_another_life_does_not_block_the_start(tmp_path: Path) -> None:
    folder = tmp_path / "postgres"
    server = Postgres.start(folder, durable=False)
    lines = (folder / "postmaster.pid").read_text().split("\n")
    server.stop()
    lines[0] = str(os.getpid())  # the number is given again: to a process that is no PostgreSQL
    (folder / "postmaster.pid").write_text("\n".join(lines))

    server = Postgres.start(folder, durable=False)

    assert server.psql("postgres", "SELECT 1") == "1\n"
    server.stop()


def test_a_server_ends_with_the_process_that_owned_it_and_the_next_one_starts(tmp_path: Path) -> None:
    folder = tmp_path / "postgres"
    owner = subprocess.Popen(
        [
            sys.executable,
            "-c",
            f"from pathlib import Path; from libs.embedded.postgres import Postgres; import time\n"
            f"server = Postgres.start(Path({str(folder)!r})); server.psql('postgres', 'CREATE TABLE kept ()')\n"
            f"print(server.process.pid, flush=True); time.sleep(60)",
        ],
        stdout=subprocess.PIPE,
        cwd=_ROOT,
    )
    assert owner.stdout
    orphan = int(owner.stdout.readline())

    owner.send_signal(signal.SIGKILL)
    owner.wait()
    server = Postgres.start(folder)

    _connections_close(orphan)
    assert not Path(f"/proc/{orphan}").exists()
    assert server.psql("postgres", "SELECT count(*) FROM kept") == "0\n"
    server.stop()


def test_a_folder_too_deep_for_a_socket_works(tmp_path: Path) -> None:
    folder = tmp_path / ("profond" * 12) / ("dossier" * 8) / "postgres"

    server = Postgres.start(folder, durable=False)

    assert len(str(folder)) > 107
    assert server.psql("postgres", "SELECT 1") == "1\n"
    assert server.socket_folder.stat().st_mode & 0o077 == 0
    server.stop()


def test_a_folder_that_only_its_owner_may_enter_stays_closed(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)

    server = Postgres.start(closed / "postgres", durable=False)

    assert closed.stat().st_mode & 0o777 == 0o700
    assert (closed / "postgres").stat().st_mode & 0o777 == 0o700
    server.stop()


def test_a_second_process_is_told_that_the_folder_is_in_use(server: Postgres) -> None:
    with pytest.raises(CannotStart, match="sert déjà à un autre processus"):
        Postgres.start(server.folder)


def test_data_of_another_version_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "postgres"
    folder.mkdir()
    (folder / "PG_VERSION").write_text("16\n")

    with pytest.raises(CannotStart, match="viennent de PostgreSQL 16 et il faut la version 18"):
        Postgres.start(folder)


def test_a_folder_with_other_things_in_it_is_left_alone(tmp_path: Path) -> None:
    folder = tmp_path / "postgres"
    folder.mkdir()
    (folder / "photos.zip").write_text("précieux")

    with pytest.raises(CannotStart, match="contient autre chose"):
        Postgres.start(folder)

    assert (folder / "photos.zip").read_text() == "précieux"


def test_a_file_where_the_folder_should_be_is_said(tmp_path: Path) -> None:
    (tmp_path / "postgres").write_text("un fichier")

    with pytest.raises(CannotStart, match="n'est pas un dossier"):
        Postgres.start(tmp_path / "postgres")


def test_a_disk_without_room_is_said_before_anything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "_NEEDED_BYTES", 2**60)

    with pytest.raises(CannotStart, match="libérez de la place"):
        Postgres.start(tmp_path / "postgres")

    assert not (tmp_path / "postgres").exists()


def test_a_disk_that_is_full_while_the_cluster_is_made_is_said(tmp_path: Path) -> None:
    output = "initdb: error: could not write to file: No space left on device"

    assert "libérez de la place" in embedded._sentence_of_output(output, tmp_path)


def test_an_interrupted_creation_leaves_nothing_that_looks_like_data(tmp_path: Path) -> None:
    making = tmp_path / "postgres.new"
    making.mkdir()
    (making / "PG_VERSION").write_text("18\n")

    server = Postgres.start(tmp_path / "postgres", durable=False)

    assert not making.exists()
    server.stop()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_a_folder_that_may_not_be_written_is_said_to_a_normal_user(tmp_path: Path) -> None:
    program = f"""
import os, sys
from pathlib import Path
from libs.embedded.postgres import Postgres
from libs.embedded.errors import CannotStart
os.setgid(65534); os.setuid(65534)
try:
    Postgres.start(Path({str(tmp_path / "closed" / "postgres")!r}))
except CannotStart as reason:
    print(reason)
"""
    (tmp_path / "closed").mkdir(mode=0o755)
    for parent in (tmp_path, *tmp_path.parents[:2]):
        parent.chmod(0o755)

    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=_ROOT).stdout

    assert "n'est pas accessible en écriture" in said
