"""What measures stand on: a durable PostgreSQL, a broker, a token issuer, services as processes of their own."""

import asyncio
import os
import signal
import statistics
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx

from libs.chassis.database import migrate
from libs.embedded import children
from libs.embedded.broker import HOST, Broker, free_port
from libs.embedded.house import ROOT, Plan, environment_of
from libs.embedded.postgres import Postgres
from services.referrals.app import SERVICE as REFERRALS
from tests.services.referrals.conftest import territory
from tests.serving import served

STOP = ((signal.SIGTERM, 10.0),)


@dataclass(frozen=True)
class Line:
    """One line of the answer. `ratio` is the value's to the baseline: the median of the rounds' own ratios."""

    measure: str
    value: float
    baseline: float | None
    ratio: float | None
    unit: str

    def said(self) -> dict[str, Any]:
        return {
            "measure": self.measure,
            "value": _short(self.value),
            "baseline": None if self.baseline is None else _short(self.baseline),
            "ratio": None if self.ratio is None else round(self.ratio, 2),
            "unit": self.unit,
        }


def _short(number: float) -> float:
    return round(number) if number >= 100 else round(number, 2)


def compared(measure: str, rounds: Sequence[tuple[float, float]], unit: str) -> Line:
    """Of rounds of (value, baseline) that were measured right after each other."""
    value, baseline = (statistics.median(column) for column in zip(*rounds, strict=True))
    return Line(measure, value, baseline, statistics.median(one / other for one, other in rounds), unit)


@dataclass
class Ground:
    folder: Path
    postgres: Postgres
    bootstrap_servers: str
    on_kafka: bool
    issuer_port: int
    _numbers: Any = field(default_factory=lambda: count(1))
    _processes: list[children.Process] = field(default_factory=list)

    async def database(self, service: str | None) -> str:
        """A fresh migrated database; referrals knows the demonstration territory."""
        name = f"bench_{next(self._numbers)}"
        self.postgres.create_database(name)
        url = self.postgres.url(name)
        await migrate(url, service)
        if service == "referrals":
            async with served(REFERRALS, url) as up:
                await up.hear("partners", *territory())
        return url

    async def start(
        self, service: str, url: str, *roles: str, sources: dict[str, str] | None = None, **more: str
    ) -> tuple[int, children.Process]:
        """A service's process, in one of its roles; gives its port once it answers."""
        port = free_port()
        plan = Plan(self.folder, {service: port}, self.issuer_port, dict(os.environ) | more)
        environment = environment_of(plan, service, url, self.bootstrap_servers)
        process = self.run([f"services.{service}", *roles], environment)
        await until_answers(f"http://{HOST}:{port}/livez")
        return port, process

    def run(self, program: Sequence[str], environment: dict[str, str] | None = None) -> children.Process:
        """`python -m program…`, ended with the ground."""
        with (self.folder / f"{program[0]}.log").open("ab") as log:
            process = children.start(
                [sys.executable, "-m", *program],
                env=environment or dict(os.environ) | {"MAILLON_ENVIRONMENT": "development"},
                cwd=ROOT,
                output=log,
            )
        self._processes.append(process)
        return process

    async def token(self, who: str) -> str:
        async with httpx.AsyncClient(trust_env=False) as client:
            answer = await client.post(
                f"http://{HOST}:{self.issuer_port}/token", data={"grant_type": "client_credentials", "client_id": who}
            )
        return str(answer.raise_for_status().json()["access_token"])

    def prefix(self) -> str:
        """For topics of a round's own."""
        return f"b{uuid4().hex[:8]}"

    def end(self) -> None:
        for process in self._processes:
            children.stop(process, *STOP)


async def until_answers(url: str) -> None:
    async with asyncio.timeout(60), httpx.AsyncClient(trust_env=False, timeout=2) as client:
        while True:
            try:
                if (await client.get(url)).status_code == 200:
                    return
            except httpx.HTTPError:
                pass  # not listening yet
            await asyncio.sleep(0.05)


@asynccontextmanager
async def ground() -> AsyncIterator[Ground]:
    given = os.environ.get("KAFKA_BOOTSTRAP_SERVERS")
    broker = None if given else Broker.started()
    with tempfile.TemporaryDirectory(prefix="maillon-bench-") as folder:
        postgres = Postgres.start(Path(folder) / "postgres")
        port = free_port()
        made = Ground(Path(folder), postgres, given or (broker.bootstrap_servers if broker is not None else ""), bool(given), port)
        try:
            made.run(["libs.embedded.issuer", "--port", str(port), "--folder", str(made.folder / "issuer")])
            await until_answers(f"http://{HOST}:{port}/livez")
            yield made
        finally:
            made.end()
            postgres.stop()
            if broker is not None:
                broker.stop()
