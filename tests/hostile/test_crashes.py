"""A served process that crashes (SIGABRT, as of an assertion in C) leaves nothing of what it held in memory, though the machine keeps cores."""

import json
import os
import resource
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from libs.embedded.journey import referral
from tests.hostile.process import alive, serving
from tests.planted import seen_red

MARK = "zqxjvmemoire"
PATTERN = Path("/proc/sys/kernel/core_pattern")
CORES_LIE_HERE = PATTERN.exists() and PATTERN.read_text()[:1] not in "|/" and resource.getrlimit(resource.RLIMIT_CORE)[1] != 0
FORGETS = "import resource; resource.setrlimit = lambda *_: None; from libs.chassis.serve import main; "
FORGETS += "from services.referrals.app import SERVICE; main(SERVICE, [])"


def _where_cores_are_kept(*words: str) -> list[str]:
    return ["sh", "-c", 'ulimit -c unlimited; exec "$0" "$@"', sys.executable, *words]


async def _crash(database_url: str, folder: Path, *words: str) -> None:
    waits = {"BODY_TIMEOUT_SECONDS": "60"}  # for the last byte, until it is killed
    async with serving(
        "referrals", "police-95", database_url, folder, program=_where_cores_are_kept(*words), code=-signal.SIGABRT, **waits
    ) as served:
        body = json.dumps(referral("crash") | {"narrative": f"Une dispute, {MARK}."}, default=str).encode()
        with served.connect() as connection:
            connection.sendall(served.head(Content_Length=str(len(body) + 1)) + body)
            assert await alive(served)  # asked later, answered: what was sent before is read, and waits for its last byte
            os.kill(served.process.pid, signal.SIGABRT)
            served.process.wait(60)
    assert _holding_the_mark(folder) == [], "left by the crash"


def _holding_the_mark(folder: Path) -> list[str]:
    """The core is removed: it takes 200 MB."""
    found = [path for path in folder.rglob("*") if path.is_file() and MARK.encode() in path.read_bytes()]
    for path in folder.glob("core*"):
        path.unlink()
    return [path.name for path in found]


async def test_a_crash_leaves_nothing_of_what_the_process_held(database_url: Callable[[str | None], str], tmp_path: Path) -> None:
    await _crash(database_url("referrals"), tmp_path, "-m", "services.referrals")


@pytest.mark.skipif(not CORES_LIE_HERE, reason="cores are written elsewhere on this machine")
async def test_planted_a_process_that_allows_a_core_is_seen(database_url: Callable[[str | None], str], tmp_path: Path) -> None:
    await seen_red(_crash(database_url("referrals"), tmp_path, "-c", FORGETS), "left by the crash")
