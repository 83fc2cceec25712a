"""What measures stand on: a durable PostgreSQL, a broker, a token issuer, services as processes of their own."""

import asyncio
import json
import os
import signal
import statistics
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx

from libs.chassis.database import migrate
from libs.chassis.serve import spare_the_collector
from libs.embedded import children
from libs.embedded.broker import HOST, Broker, free_port
from libs.embedded.house import ROOT, Plan, environment_of
from libs.embedded.postgres import Postgres
from services.referrals.app import SERVICE as REFERRALS
from tests.services.referrals.conftest import territory
from tests.serving import served

STOP = ((signal.SIGTERM, 10.0),)


@dataclass(frozen=True)
class Sizes:
    """How much is measured: small enough for all measures in about ten minutes."""

    rounds: int = 3
    seconds: float = 3
    events: int = 20_000
    referrals: int = 2_000_000


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


def alone(measure: str, values: Sequence[float], unit: str) -> Line:
    """A measure that has a goal of its own instead of a baseline."""
    return Line(measure, statistics.median(values), None, None, unit)


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
    sizes: Sizes
    report: Callable[[str], None]
    """Told what is going on."""
    stage: str = ""
    _numbers: Any = field(default_factory=lambda: count(1))
    _processes: list[children.Process] = field(default_factory=list)

    def say(self, what: str) -> None:
        self.report(f"{self.stage}: {what}")

    async def rounds(self, one: Callable[[], Awaitable[tuple[float, float]]]) -> list[tuple[float, float]]:
        """So many (value, baseline), one after the other."""
        found = []
        for number in range(1, self.sizes.rounds + 1):
            self.say(f"round {number} of {self.sizes.rounds}")
            spare_the_collector()  # what is measured in this process, ours or the baseline, runs as in one of a service
            found.append(await one())
        return found

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
        """A service's process, in these roles (all of them unless told); gives its port once it answers. `sources`: whom it hears, where."""
        port = free_port()
        if sources is not None:
            more |= {"SOURCE_URLS": json.dumps(sources)}
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
async def ground(sizes: Sizes, report: Callable[[str], None]) -> AsyncIterator[Ground]:
    given = os.environ.get("KAFKA_BOOTSTRAP_SERVERS")
    broker = None if given else Broker.started()
    with tempfile.TemporaryDirectory(prefix="maillon-bench-") as folder:
        postgres = Postgres.start(Path(folder) / "postgres")
        port = free_port()
        servers = given or (broker.bootstrap_servers if broker is not None else "")
        made = Ground(Path(folder), postgres, servers, bool(given), port, sizes, report)
        try:
            made.run(["libs.embedded.issuer", "--port", str(port), "--folder", str(made.folder / "issuer")])
            await until_answers(f"http://{HOST}:{port}/livez")
            yield made
        finally:
            made.end()
            postgres.stop()
            if broker is not None:
                broker.stop()
