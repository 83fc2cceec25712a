"""What the database cannot do at the moment parks no fact: it is heard again, and counted once."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from uuid import uuid4

import pytest

from libs.chassis import parking
from libs.chassis.database import Database, RawConnection
from libs.chassis.projector import Projector, transient
from services.reporting.app import SERVICE
from tests.chassis.speaking import database as speaking
from tests.chassis.speaking import everything, fact, say, stamp_all
from tests.waiting import until

DatabaseUrl = Callable[[str | None], str]


@asynccontextmanager
async def held_facts(url: str) -> AsyncIterator[RawConnection]:
    """Nobody writes facts meanwhile. The connection is of somebody else who may cancel and terminate."""
    database = Database(url)
    holder, operator = await database.connect(), await database.connect()
    try:
        async with holder.transaction():
            await holder.execute("LOCK TABLE facts IN SHARE MODE")
            yield operator
    finally:
        await holder.close()
        await operator.close()
        await database.close()


@pytest.mark.parametrize("how", ["pg_cancel_backend", "pg_terminate_backend", "lock_timeout", "statement_timeout"])
async def test_a_fact_that_the_database_could_not_take_at_the_moment_is_not_parked(database_url: DatabaseUrl, how: str) -> None:
    speaker, url = speaking(database_url(None)), database_url("reporting")
    await say(speaker, *(fact(uuid4()) for _ in range(3)))
    await stamp_all(speaker)
    records = await everything(speaker)
    assert SERVICE.listener is not None
    listening = Database(url)
    projector = Projector(listening, SERVICE.listener, park_limit=36)
    await projector.ensure_cursors()

    async with held_facts(url) as operator:
        if how.endswith("timeout"):
            name = await operator.fetchval("SELECT quote_ident(current_database())")
            await operator.execute(f"ALTER DATABASE {name} SET {how} = 300")
            await listening.engine.dispose()
        applying = asyncio.create_task(projector.apply("partners", records))
        if how.startswith("pg_"):
            waiting = f"SELECT count({how}(pid)) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
            await until(lambda: operator.fetchval(waiting))
        await asyncio.wait([applying], timeout=60)
        if how.endswith("timeout"):  # what follows has all the time
            await operator.execute(f"ALTER DATABASE {name} RESET {how}")
            await listening.engine.dispose()

    assert transient(applying.exception() or AssertionError("taken for a bad event"))
    assert await _parked(listening) == []
    assert (await projector.where("partners")).sequence == 0
    assert await projector.apply("partners", records)
    assert (await projector.where("partners")).sequence == 3
    await listening.close()
    await speaker.close()


async def _parked(listening: Database) -> list[parking.DeadLetter]:
    async with listening.transaction() as session:
        return await parking.page(session, status="parked", after=None, limit=50)
