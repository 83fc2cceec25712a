"""Child processes that cannot outlive their parent."""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

_LAUNCHER = Path(__file__).with_name("launch.py")


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
        stderr=subprocess.STDOUT if output != subprocess.DEVNULL else subprocess.DEVNULL,
        env=dict(env) if env is not None else None,
        cwd=cwd,
    )


def stop(process: subprocess.Popen[bytes], *signals: tuple[signal.Signals, float]) -> None:
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
