"""The doors to a service's database."""

import asyncio
from collections.abc import Callable

import pytest
from alembic import command
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession

from libs.chassis.database import Database, Statement, _alembic, _engine, driver_of, meanwhile, migrate, run
from libs.contracts.registry import SPEAKERS
from tests.waiting import until


async def test_what_reads_lists_cannot_write_sees_what_was_committed_meanwhile_and_plans_for_its_values(
    database_url: Callable[[str | None], str],
) -> None:
    database = Database(database_url(None))
    try:
        async with database.transaction() as session:
            await session.execute(text("CREATE TABLE seen (id int)"))

        async with database.reading() as reading, database.asking() as asking:
            for driver in (await driver_of(reading), asking):
                assert await driver.fetchval("SHOW plan_cache_mode") == "force_custom_plan"
                assert await driver.fetchval("SELECT count(*) FROM seen") == 0
            async with database.transaction() as session:
                await session.execute(text("INSERT INTO seen VALUES (1)"))

            assert (await reading.scalar(text("SELECT count(*) FROM seen")), await asking.fetchval("SELECT count(*) FROM seen")) == (0, 1)
            with pytest.raises(DBAPIError, match="read-only"):
                await reading.execute(text("INSERT INTO seen VALUES (2)"))
        with pytest.raises(DBAPIError, match="read-only"):
            async with database.asking() as asking:
                await asking.execute("INSERT INTO seen VALUES (2)")
    finally:
        await database.close()


async def test_a_connection_that_the_server_closed_while_nobody_used_it_is_replaced(database_url: Callable[[str | None], str]) -> None:
    database = Database(database_url(None))
    try:
        async with database.asking() as asking:
            before = await asking.fetchval("SELECT pg_backend_pid()")
        async with database.transaction() as session:
            await session.execute(text("SELECT pg_terminate_backend(:pid, 5000)"), {"pid": before})
        await until(asking.is_closed)

        async with database.asking() as asking:
            assert await asking.fetchval("SELECT pg_backend_pid()") != before
    finally:
        await database.close()


@pytest.mark.parametrize("service", [None, *sorted(SPEAKERS)])
def test_migrations_of_the_chassis_and_of_a_service_are_one_line_each(service: str | None) -> None:
    """Two that follow one another's predecessor were written side by side: in which order they run would be anybody's guess."""
    heads = ScriptDirectory.from_config(_alembic(service)).get_heads()

    assert len(heads) == (1 if service is None else 2), heads


@pytest.mark.parametrize("when", ["as it begins", "meanwhile"])
async def test_a_statement_that_goes_on_meanwhile_ends_with_who_waits_for_it(database_url: Callable[[str | None], str], when: str) -> None:
    database = Database(database_url(None), pool_size=1)
    begun = asyncio.Event()

    async def ask() -> None:
        async with database.transaction() as session, meanwhile(sleep(session)):
            begun.set()

    async def sleep(session: AsyncSession) -> None:
        if when == "as it begins":
            waiting.cancel()
        await run(session, Statement("SELECT pg_sleep(30)"), {})

    try:
        waiting = asyncio.create_task(ask())
        if when == "meanwhile":
            await begun.wait()
            waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            async with asyncio.timeout(10):
                await waiting

        async with asyncio.timeout(10), database.transaction() as session:
            assert await session.scalar(text("SELECT 1")) == 1
    finally:
        await database.close()


@pytest.mark.parametrize("service", sorted(SPEAKERS))
async def test_every_migration_can_be_taken_back_and_done_again(database_url: Callable[[str | None], str], service: str) -> None:
    url = database_url(service)
    engine = _engine(url)

    def take_back(connection: Connection) -> None:
        config = _alembic(service)
        config.attributes["connection"] = connection
        command.downgrade(config, "base")

    try:
        async with engine.connect() as connection:
            await connection.run_sync(take_back)
            await connection.commit()
            left = await connection.scalars(text("SELECT tablename FROM pg_tables WHERE schemaname = 'public'"))
            assert list(left) == ["alembic_version"]
    finally:
        await engine.dispose()

    await migrate(url, service)
