"""Child processes that cannot outlive their parent, and what is known of processes by their id."""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Protocol

_LAUNCHER = Path(__file__).with_name("launch.py")


class Process(Protocol):
    """A child: `subprocess.Popen`, or one that came out of the nursery."""

    pid: int

    def poll(self) -> int | None: ...
    def wait(self, timeout: float | None = None) -> int: ...
    def send_signal(self, sig: int) -> None: ...
    def kill(self) -> None: ...


def command(program: Sequence[str | Path], *, ends_with: signal.Signals = signal.SIGTERM, user: str | None = None) -> list[str]:
    """The command line that runs `program` in a session of its own and sends it `ends_with` when the calling **thread** ends (Linux).

    Call it from the main thread, or from one that lives as long as the child shall.
    """
    become = ["--user", user] if user else []
    launcher = [sys.executable, "-I", "-S", str(_LAUNCHER), "--signal", str(int(ends_with)), "--parent", str(os.getpid())]
    return [*launcher, *become, "--", *map(str, program)]


def start(
    program: Sequence[str | Path],
    *,
    ends_with: signal.Signals = signal.SIGTERM,
    user: str | None = None,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    output: IO[bytes] | int = subprocess.DEVNULL,
) -> subprocess.Popen[bytes]:
    """Starts `program`; its output and errors go to `output`."""
    return subprocess.Popen(
        command(program, ends_with=ends_with, user=user),
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        env=dict(env) if env is not None else None,
        cwd=cwd,
    )


def stop(process: Process, *signals: tuple[signal.Signals, float]) -> None:
    """Sends each signal in turn until the process ends within the signal's seconds; at last SIGKILL."""
    for number, seconds in signals:
        if process.poll() is not None:
            return
        process.send_signal(number)
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            continue
        return
    process.kill()
    process.wait()


def command_of(pid: int) -> str:
    """The command line of a running process, or nothing."""
    if pid <= 0:
        return ""
    if Path("/proc/self").exists():
        try:
            return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
        except OSError:
            return ""
    return subprocess.run(["ps", "-ww", "-o", "args=", "-p", str(pid)], capture_output=True, text=True).stdout.strip()


def started_at(pid: int) -> str:
    """When the process started, in the machine's own terms; with its command line it tells a process from another that got its id later."""
    try:
        # after the name, which may hold anything: the twentieth field is the start time in ticks since the machine's own
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return subprocess.run(["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True).stdout.strip()


def memory_of(roots: Mapping[str, int]) -> dict[str, int]:
    """Resident bytes of each named process and its descendants; a page that several share counts once, in parts (PSS). Linux only."""
    parents: dict[int, int] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue  # it ended meanwhile
    named = {pid: name for name, pid in roots.items()}
    found = dict.fromkeys(roots, 0)
    for pid in parents:
        ancestor = pid
        while ancestor in parents and ancestor not in named:
            ancestor = parents[ancestor]
        if ancestor in named:
            found[named[ancestor]] += _resident(pid)
    return found


def _resident(pid: int) -> int:
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    except OSError:
        return 0
    return 0
