"""Starts Python programs out of a process that has already imported what they share (Linux).

Four services import the same libraries for 1.2 s each; here that is done once, and the memory of it counts once: on two cores everything is ready
in 3 s instead of 5, and takes 150 MB less. A program that comes out of the nursery is a process like any other: its parent is the one that asked
for it, its command line is its own, it can be killed and started again alone.

The nursery has one thread, opens nothing, and is closed when everything is there.
"""

import ctypes
import gc
import importlib
import json
import os
import runpy
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from libs.embedded import children
from libs.embedded.launch import end_with

_ROOT = Path(__file__).parents[2]
_PR_SET_CHILD_SUBREAPER, _PR_GET_CHILD_SUBREAPER = 36, 37  # linux/prctl.h
_PADDING = "·" * 100  # room in the command line for that of the program: a process can overwrite its own, not lengthen it


def command_line(program: Sequence[str]) -> str:
    """How `python -m program` looks in a list of processes."""
    return " ".join([sys.executable, "-m", *program])


class Nursery:
    """In the process that asks. `spawn` from its main thread; `close` when all are there."""

    def __init__(self, modules: Sequence[str], environment: Mapping[str, str]) -> None:
        """`modules`: what to import beforehand. Their import must start no thread and open nothing."""
        self._adopted_before = _adopts()
        _adopt(True)
        self._process = subprocess.Popen(
            children.command([sys.executable, "-m", "libs.embedded.nursery", *modules, _PADDING], ends_with=signal.SIGKILL),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=dict(environment),
            cwd=_ROOT,
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    def spawn(self, program: Sequence[str], environment: Mapping[str, str], output: Path) -> "Grown":
        """Starts `python -m program…`; what it prints is added to a file. Raises `OSError` when the nursery is gone."""
        asked = {"program": [*program], "environment": dict(environment), "output": str(output), "parent": os.getpid()}
        stdin, stdout = self._process.stdin, self._process.stdout
        if stdin is None or stdout is None:
            raise BrokenPipeError
        stdin.write(json.dumps(asked).encode() + b"\n")
        stdin.flush()
        answer = stdout.readline()
        if not answer:
            raise BrokenPipeError
        return Grown(int(answer), command_line(program))

    def close(self) -> None:
        """May be called twice."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe:
                pipe.close()
        self._process.kill()
        self._process.wait()
        _adopt(self._adopted_before)


def _adopt(orphans: bool) -> None:
    """Whether a process whose parent ends becomes ours, not the init process's: a program's first parent ends at once."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, int(orphans), 0, 0, 0)


def _adopts() -> bool:
    adopts = ctypes.c_int()
    ctypes.CDLL(None).prctl(_PR_GET_CHILD_SUBREAPER, ctypes.byref(adopts), 0, 0, 0)
    return bool(adopts.value)


class Grown:
    """A process that came out of the nursery, with what `subprocess.Popen` offers of use here."""

    def __init__(self, pid: int, args: str) -> None:
        self.pid = pid
        self.args = args
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """The exit code, negative for a signal; None while it runs."""
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Raises `subprocess.TimeoutExpired`."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while (code := self.poll()) is None:
            if deadline is not None and time.monotonic() > deadline:
                raise subprocess.TimeoutExpired(self.args, timeout or 0)
            time.sleep(0.01)
        return code

    def send_signal(self, sig: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, sig)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def is_possible() -> bool:
    """Adopting a process and renaming it are Linux's."""
    return sys.platform == "linux"


# In the nursery's own process


def main() -> None:
    """Imports, then starts one program for each line of the standard input."""
    for module in sys.argv[1:-1]:
        importlib.import_module(module)
    if threading.active_count() > 1:
        sys.exit("an import started a thread: a copy of this process would hold its locks for ever")
    gc.collect()
    gc.freeze()  # the collector does not touch, and so does not copy, the pages that are shared
    for line in sys.stdin.buffer:
        asked = json.loads(line)
        reading, writing = os.pipe()
        if os.fork() == 0:
            os.close(reading)
            grown = os.fork()
            if grown:
                os.write(writing, b"%d\n" % grown)
                os._exit(0)
            _become(asked)
        os.close(writing)
        os.wait()
        with os.fdopen(reading, "rb") as answer:
            sys.stdout.buffer.write(answer.readline())
            sys.stdout.buffer.flush()


def _become(asked: Mapping[str, Any]) -> None:
    """Turns this copy into the program. Never returns."""
    code = 1
    try:
        program: list[str] = asked["program"]
        os.setsid()
        while os.getppid() != asked["parent"] and _is_alive(asked["parent"]):
            time.sleep(0.001)
        end_with(asked["parent"], signal.SIGTERM)
        _print_to(asked["output"])
        _rename(program)
        os.environ.clear()
        os.environ.update(asked["environment"])
        sys.argv = list(program)
        runpy.run_module(program[0], run_name="__main__", alter_sys=True)
        code = 0
    except SystemExit as stop:
        if isinstance(stop.code, str):
            sys.stderr.write(stop.code + "\n")
        code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except BaseException as error:
        sys.excepthook(type(error), error, error.__traceback__)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)  # not through the code that waits for more lines


def _is_alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def _print_to(output: str) -> None:
    nothing = os.open(os.devnull, os.O_RDONLY)
    file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for source, target in ((nothing, 0), (file, 1), (file, 2)):
        os.dup2(source, target)
    os.closerange(3, 256)
    sys.stdin, sys.stdout, sys.stderr = open(0), open(1, "w", buffering=1), open(2, "w", buffering=1)  # noqa: SIM115  for as long as it lives


def _rename(program: Sequence[str]) -> None:
    """Writes the program's command line over the nursery's, as it would be without it."""
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    begins, ends = int(fields[45]), int(fields[46])  # arg_start, arg_end: fields 48 and 49 of proc_pid_stat(5)
    text = b"\0".join(os.fsencode(word) for word in (sys.executable, "-m", *program))[: ends - begins - 1]
    ctypes.memmove(begins, text.ljust(ends - begins, b"\0"), ends - begins)


if __name__ == "__main__":
    main()
