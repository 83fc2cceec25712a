"""What every test stands on: a real PostgreSQL, a broker that speaks the real protocol (Apache Kafka when KAFKA_BOOTSTRAP_SERVERS is set)."""

import asyncio
import gc
import itertools
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from libs.chassis import operations_api
from libs.chassis.database import migrate
from libs.embedded.broker import Broker
from libs.embedded.postgres import Postgres

_numbers = itertools.count(1)

settings.register_profile("maillon", deadline=None)  # 200 ms an example by default: a flake on a machine that is busy
settings.load_profile("maillon")
operations_api._DATABASE_SECONDS = 60  # 3 s otherwise: on a machine that is busy the first look takes longer, and /readyz says 503


LONGEST = (
    "tests/test_run.py",
    "tests/journeys/test_leaks.py",
    "tests/journeys/test_walls.py",
    "tests/services/reporting/test_counting.py",
    "tests/proof/test_planted_faults.py",
)
"""Begun first: a test of half a minute that begins last keeps everybody waiting.
The search for leaks reads all of PostgreSQL's files: few at first, 40 s of them at the end."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: not item.nodeid.startswith(LONGEST))


def pytest_collection_finish() -> None:
    """What was imported stays: searching all of it for garbage, again and again, took a tenth of the tests' time and more (47 s → 37 to 43 s on a part of them)."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """One more than the processors: a quarter of the tests' time is waiting for processes that start, end or come back."""
    return len(os.sched_getaffinity(0)) + 1 if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1) + 1


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    with tempfile.TemporaryDirectory(prefix="maillon-test-", dir=_in_memory()) as folder:
        server = Postgres.start(Path(folder) / "postgres", durable=False)
        yield server
        server.stop()


@pytest.fixture(autouse=True)
def _own_environment() -> Iterator[None]:
    """The `maillon` command sets what it finds of `make run` for its process, which here is the tests'."""
    before = dict(os.environ)
    yield
    if os.environ != before:
        os.environ.clear()
        os.environ.update(before)


def _in_memory() -> str | None:
    """Where the system keeps files in memory and has room for some: a copy of a database costs 30 ms there, 300 ms on a disk."""
    folder = "/dev/shm"
    return folder if os.access(folder, os.W_OK) and shutil.disk_usage(folder).free > 4 * 2**30 else None


@pytest.fixture(scope="session")
def templates() -> dict[str, str]:
    """The database from which those of each kind are copied. A folder's own fixtures may add a kind: a service that has heard something."""
    return {}


@pytest.fixture
def database_url(postgres: Postgres, templates: dict[str, str]) -> Iterator[Callable[[str | None], str]]:
    """`database_url("referrals")`: a fresh migrated database of that service, `None` for the chassis' tables alone; dropped after the test."""
    made: list[str] = []

    def fresh(service: str | None) -> str:
        kind = service or "chassis"
        if kind not in templates:
            name = f"template_{kind}"
            postgres.create_database(name)
            # in a thread: a session-wide event loop may be running here
            _in_thread(lambda: asyncio.run(migrate(postgres.url(name), service)))
            templates[kind] = name
        name = f"{kind}_{next(_numbers)}"
        postgres.create_database(name, template=templates[kind])
        made.append(name)
        return postgres.url(name)

    yield fresh
    for name in made:
        postgres.drop_database(name)


def _in_thread(work: Callable[[], None]) -> None:
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as pool:
        pool.submit(work).result()


@pytest.fixture(scope="session")
def bootstrap_servers() -> Iterator[str]:
    """Apache Kafka where the lane gives one, else the embedded broker."""
    given = os.environ.get("KAFKA_BOOTSTRAP_SERVERS")
    if given:
        yield given
        return
    broker = Broker.started()
    yield broker.bootstrap_servers
    broker.stop()


@pytest.fixture(scope="session")
def on_kafka() -> bool:
    return bool(os.environ.get("KAFKA_BOOTSTRAP_SERVERS"))
