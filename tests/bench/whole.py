"""Everything on one machine, as `make run` starts it, on ports of its own and without the embedding environment's Kafka."""

import asyncio
import json
import os
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from libs.embedded import children
from libs.embedded.broker import HOST, free_port
from libs.embedded.house import ROOT
from services.__main__ import SERVICES
from tests.bench.ground import STOP


@dataclass(frozen=True)
class Whole:
    seconds: float
    """From the start of the process until every service was ready."""
    process: children.Process
    folder: Path
    log: Path

    async def settled(self) -> None:
        """Once the first journey was played and everything waits for work."""
        async with asyncio.timeout(120):
            while b"Ctrl-C" not in self.log.read_bytes():  # noqa: ASYNC110 - what another process writes
                await asyncio.sleep(0.1)

    def memory(self) -> int:
        """Resident bytes of all its processes."""
        parts = json.loads((self.folder / "processes.json").read_text())
        return sum(children.memory_of({"owner": self.process.pid} | {name: pid for name, (pid, *_) in parts.items()}).values())


@asynccontextmanager
async def everything(folder: Path) -> AsyncIterator[Whole]:
    ports = {f"{name.upper()}_PORT": free_port() for name in SERVICES}
    environment = {name: value for name, value in os.environ.items() if name != "KAFKA_BOOTSTRAP_SERVERS"}
    environment |= {name: str(port) for name, port in ports.items()} | {"ISSUER_PORT": str(free_port()), "PYTHONUNBUFFERED": "1"}
    log = folder.with_suffix(".out")
    with log.open("wb") as output:
        started = time.perf_counter()
        process = children.start([sys.executable, "-m", "services", "--data", folder], env=environment, cwd=ROOT, output=output)
    try:
        async with httpx.AsyncClient(trust_env=False, timeout=2) as client, asyncio.timeout(120), asyncio.TaskGroup() as waiting:
            for port in ports.values():
                waiting.create_task(_until_ready(client, f"http://{HOST}:{port}/readyz"))
        yield Whole(time.perf_counter() - started, process, folder, log)
    finally:
        await asyncio.to_thread(children.stop, process, (STOP[0][0], 30.0))


async def _until_ready(client: httpx.AsyncClient, url: str) -> None:
    while True:
        try:
            if (await client.get(url)).status_code == 200:
                return
        except httpx.HTTPError:
            pass  # not listening yet
        await asyncio.sleep(0.02)
