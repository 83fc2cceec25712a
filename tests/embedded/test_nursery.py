"""Programs out of the nursery are processes like any other."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from libs.embedded import children, nursery
from libs.embedded.nursery import Nursery

pytestmark = pytest.mark.skipif(not nursery.is_possible(), reason="adopting a process is Linux's: elsewhere programs are started plainly")
_ROOT = Path(__file__).parents[2]

_PROGRAM = """
import json, os, sys, time, uuid_utils
seen = {"argv": sys.argv[1:], "name": __name__, "environment": os.environ.get("SAID"), "secret": os.environ.get("KEPT"), "id": str(uuid_utils.uuid7())}
print(json.dumps(seen), flush=True)
if sys.argv[1] == "fail":
    sys.exit(7)
if sys.argv[1] == "say":
    sys.exit("une phrase")
if sys.argv[1] == "break":
    raise ValueError("cassé")
time.sleep(60 if sys.argv[1] == "stay" else 0)
"""


@pytest.fixture(scope="module")
def grown_in(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nursery]:
    """One for all: to have it costs its imports."""
    folder = tmp_path_factory.mktemp("programs")
    (folder / "grown_program.py").write_text(_PROGRAM)
    environment = dict(os.environ) | {"PYTHONPATH": str(folder), "KEPT": "the nursery's own"}
    made = Nursery(["libs.chassis.serve"], environment)
    yield made
    made.close()


def _wait_for(file: Path, words: str) -> str:
    deadline = time.monotonic() + 60
    while not file.exists() or words not in file.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return file.read_text()


def test_a_program_has_its_own_arguments_environment_output_and_command_line(grown_in: Nursery, tmp_path: Path) -> None:
    output = tmp_path / "output"

    process = grown_in.spawn(["grown_program", "stay", "deux mots"], {"SAID": "oui"}, output)

    printed = _wait_for(output, "}")
    assert '"argv": ["stay", "deux mots"], "name": "__main__", "environment": "oui", "secret": null' in printed
    assert children.command_of(process.pid) == nursery.command_line(["grown_program", "stay", "deux mots"])
    assert int(Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[1]) == os.getpid()
    children.stop(process, (signal.SIGTERM, 10.0))
    assert process.poll() == -signal.SIGTERM


@pytest.mark.parametrize(
    ("how", "code", "words"), [("end", 0, ""), ("fail", 7, ""), ("say", 1, "une phrase"), ("break", 1, "ValueError: cassé")]
)
def test_exit_codes_and_last_words_are_the_program_s_own(grown_in: Nursery, tmp_path: Path, how: str, code: int, words: str) -> None:
    process = grown_in.spawn(["grown_program", how], {}, tmp_path / "output")

    assert process.wait(60) == code
    assert words in (tmp_path / "output").read_text()


def test_two_programs_never_draw_the_same_identifier(grown_in: Nursery, tmp_path: Path) -> None:
    outputs = [tmp_path / "one", tmp_path / "two"]

    for output in outputs:
        grown_in.spawn(["grown_program", "end"], {}, output).wait(60)

    assert outputs[0].read_text() != outputs[1].read_text()


def test_programs_outlive_the_nursery_and_end_with_the_one_that_asked_for_them(tmp_path: Path) -> None:
    (tmp_path / "grown_program.py").write_text(_PROGRAM)
    asking = f"""
import os, sys, time
from pathlib import Path
from libs.embedded.nursery import Nursery
nursery = Nursery(["json"], dict(os.environ))
process = nursery.spawn(["grown_program", "stay"], {{}}, Path({str(tmp_path / "output")!r}))
nursery.close()
print(process.pid, process.poll(), flush=True)
time.sleep(60)
"""
    environment = dict(os.environ) | {"PYTHONPATH": str(tmp_path)}
    asker = subprocess.Popen([sys.executable, "-c", asking], stdout=subprocess.PIPE, cwd=_ROOT, env=environment)
    assert asker.stdout
    pid, state = asker.stdout.readline().split()
    assert state == b"None"
    _wait_for(tmp_path / "output", "}")

    asker.kill()
    asker.wait()

    deadline = time.monotonic() + 30
    while "grown_program" in children.command_of(int(pid)):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_nursery_whose_imports_start_threads_starts_nothing(tmp_path: Path) -> None:
    (tmp_path / "threaded.py").write_text("import threading, time\nthreading.Thread(target=time.sleep, args=(60,), daemon=True).start()\n")
    made = Nursery(["threaded"], dict(os.environ) | {"PYTHONPATH": str(tmp_path)})

    with pytest.raises(OSError):  # noqa: PT011  whichever end of the pipe notices first
        made.spawn(["json.tool"], {}, tmp_path / "output")
    made.close()


def test_a_nursery_within_another_leaves_it_the_processes_to_come(grown_in: Nursery, tmp_path: Path) -> None:
    Nursery(["json"], dict(os.environ)).close()

    assert grown_in.spawn(["grown_program", "fail"], {}, tmp_path / "output").wait(60) == 7
