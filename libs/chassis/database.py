"""PostgreSQL: one database per service, one transaction per entry point, migrations of the chassis and of the service run together.

URLs have the libpq form: `postgresql://user@/referrals?host=/run/postgresql` or `postgresql://user:password@host/referrals`.
"""

import asyncio
import importlib.util
import re
from collections.abc import AsyncIterator, Coroutine, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import asyncpg
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.script.revision import ResolutionError
from sqlalchemy import Connection, MetaData, Row, event, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError, DisconnectionError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import registry
from sqlalchemy.pool import PoolProxiedConnection
from sqlmodel import SQLModel

if TYPE_CHECKING:
    RawConnection = asyncpg.Connection[asyncpg.Record]  # generic in its stubs only
else:
    RawConnection = asyncpg.Connection

T = TypeVar("T")

PlainRow = Row[*tuple[Any, ...]]
"""A row of columns, which answers to their names as an object of the table would."""

_PARAMETER = re.compile(r"(?<!:):([a-z_]+)")
_DRIVER = "driver"
_BEGIN = text("SELECT")
"""SQLAlchemy begins with the first statement that it is given."""
_FOR_READING = {
    # a state may be one row in ten or one in ten thousand: a plan made for any of them suits none
    "plan_cache_mode": "force_custom_plan",
    "default_transaction_read_only": "on",
}
_MIGRATION_LOCK = 0x4D41494C  # "MAIL": only one process migrates a database at a time


def table_base() -> type[SQLModel]:
    """A base for the tables of one service, with a registry and metadata of its own.

    Without it all SQLModel tables of a process share one metadata, and two services could not be looked at side by side.
    """

    class Table(SQLModel, registry=registry(metadata=MetaData())):
        pass

    return Table


def _engine(url: str, server_settings: dict[str, str] | None = None, **options: Any) -> AsyncEngine:
    async def connect() -> RawConnection:
        return await asyncpg.connect(url, timeout=10, server_settings=server_settings)

    # asyncpg reads the URL itself: SQLAlchemy would pass sslmode, sslrootcert and others on as arguments that asyncpg does not have
    return create_async_engine(make_url(url).set(drivername="postgresql+asyncpg"), async_creator=connect, **options)


def _refuse_closed(connection: Any, *_: object) -> None:
    """One that the server closed is replaced. SQLAlchemy learns of it by what it runs itself; the driver knows without asking."""
    if connection.driver_connection.is_closed():
        raise DisconnectionError


def sqlstate(error: BaseException) -> str:
    """The SQLSTATE of a database error, whether SQLAlchemy or the driver raised it; "" where PostgreSQL was not reached, or it is none of its."""
    origin = getattr(error, "orig", error)
    return str(getattr(origin, "sqlstate", None) or getattr(origin.__cause__, "sqlstate", None) or "")


class Statement:
    """A statement with `:named` parameters that the driver runs itself (`run`). Each parameter's type is plain from its place, or cast."""

    def __init__(self, written: str) -> None:
        self.names: list[str] = []
        self.text = _PARAMETER.sub(self._place, written)

    def _place(self, found: re.Match[str]) -> str:
        if found[1] not in self.names:
            self.names.append(found[1])
        return f"${self.names.index(found[1]) + 1}"


async def run(session: AsyncSession, statement: Statement, parameters: Mapping[str, Any]) -> list[asyncpg.Record]:
    """Run a statement in the session's transaction past SQLAlchemy, which took a fifth of an intake's CPU (docs/decisions/0011).

    For what a busy path does. Raises DBAPIError like any statement of the session.
    """
    connection = await driver_of(session)
    with _errors_of_a_session(connection):
        return await connection.fetch(statement.text, *(parameters[name] for name in statement.names))


async def copy(session: AsyncSession, table: str, columns: Iterable[str], records: Iterable[tuple[Any, ...]]) -> None:
    """Add rows by COPY in the session's transaction: half the cost of an INSERT from arrays (measured: 15 against 30 µs a row of reporting's facts).

    Raises DBAPIError like any statement of the session.
    """
    connection = await driver_of(session)
    with _errors_of_a_session(connection):
        await connection.copy_records_to_table(table, records=records, columns=list(columns))


@asynccontextmanager
async def meanwhile(statement: Coroutine[Any, Any, T]) -> AsyncIterator[asyncio.Task[T]]:
    """Have PostgreSQL begin, and do in the body what needs neither its answer nor the session: a batch of an intake spends a third of its time waiting.

    The body waits for nothing. The statement is over once it is left, cancelled where the body failed; `result()` then gives its answer or raises its error.
    """
    task = asyncio.ensure_future(statement)
    try:
        await asyncio.sleep(0)
        yield task
    except BaseException:
        task.cancel()
        raise
    finally:
        await asyncio.gather(task, return_exceptions=True)
    task.result()


@contextmanager
def _errors_of_a_session(connection: RawConnection) -> Iterator[None]:
    try:
        yield
    except (asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise DBAPIError(None, None, error, connection_invalidated=connection.is_closed()) from error


async def driver_of(session: AsyncSession) -> RawConnection:
    """The driver's own connection of a session, in the session's transaction."""
    found: RawConnection | None = session.info.get(_DRIVER)
    if found is None or not found.is_in_transaction():
        await session.execute(_BEGIN)
        found = session.info[_DRIVER] = _driver_in(await (await session.connection()).get_raw_connection())
    return found


def _driver_in(pooled: PoolProxiedConnection) -> RawConnection:
    if not isinstance(pooled.driver_connection, asyncpg.Connection):
        raise TypeError("a connection of another driver")
    return pooled.driver_connection


class Database:
    """The door to one service's database. `info` rides in every session (`session.info`): what commands need to speak."""

    def __init__(self, url: str, *, pool_size: int = 10, info: Mapping[str, Any] | None = None) -> None:
        self.url = url
        pool: dict[str, Any] = {"pool_size": pool_size, "max_overflow": 0, "pool_timeout": 10, "pool_pre_ping": False}
        self.engine = _engine(url, **pool)
        self._sessions = async_sessionmaker(self.engine, expire_on_commit=False, info=dict(info or {}))
        self.reading_engine = _engine(url, _FOR_READING, isolation_level="AUTOCOMMIT", **pool)
        event.listen(self.reading_engine.sync_engine, "checkout", _refuse_closed)
        self._reading_sessions = async_sessionmaker(self.reading_engine)

    @asynccontextmanager
    async def transaction(self, *, repeatable_read: bool = False) -> AsyncIterator[AsyncSession]:
        """One transaction: committed at the end, rolled back by any exception. Commands inside never commit."""
        async with self._sessions() as session:
            if repeatable_read:
                await session.connection(execution_options={"isolation_level": "REPEATABLE READ"})
            yield session
            await session.commit()

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncSession]:
        """For pages of lists out of large tables: all that it asks sees the same, each statement is planned for its values, and what writes is refused."""
        async with self._reading_sessions() as session:
            await session.connection(execution_options={"isolation_level": "REPEATABLE READ"})
            yield session

    @asynccontextmanager
    async def asking(self) -> AsyncIterator[RawConnection]:
        """The same for one question: the driver's own connection, without a transaction, so that it takes one round trip. Raises DBAPIError."""
        async with self.reading_engine.connect() as connection:
            driver = _driver_in(await connection.get_raw_connection())
            with _errors_of_a_session(driver):
                yield driver

    async def connect(self) -> RawConnection:
        """A raw connection outside the pool, the caller's to close: the relay holds its lock on one."""
        return await asyncpg.connect(self.url, timeout=10)

    async def close(self) -> None:
        await self.engine.dispose()
        await self.reading_engine.dispose()


def _alembic(service: str | None) -> Config:
    here = Path(__file__).parent / "migrations"
    locations = [here / "versions"]
    if service is not None:
        spec = importlib.util.find_spec(f"services.{service}")
        if spec is None or spec.origin is None:
            raise LookupError(f"there is no room services/{service}")
        locations.append(Path(spec.origin).parent / "migrations" / "versions")
    config = Config()
    config.set_main_option("script_location", str(here))
    config.set_main_option("path_separator", "newline")
    config.set_main_option("version_locations", "\n".join(map(str, locations)))
    return config


def _upgrade(connection: Connection, config: Config) -> None:
    config.attributes["connection"] = connection
    command.upgrade(config, "heads")


async def migrate(url: str, service: str | None) -> None:
    """Bring a service's database to its newest shape (`None`: the chassis' tables alone). Safe at every start, from several processes at once."""
    engine = _engine(url)
    try:
        async with engine.connect() as connection:
            await connection.execute(text("SELECT pg_advisory_lock(:lock)"), {"lock": _MIGRATION_LOCK})
            await connection.commit()
            await connection.run_sync(_upgrade, _alembic(service))
            await connection.commit()
    finally:
        await engine.dispose()


async def is_migrated(session: AsyncSession, service: str | None) -> bool:
    """Whether the database holds all that this code needs. One that is ahead does too: migrations are additive first, and during a deployment
    the old replicas go on beside the new ones."""
    if await session.scalar(text("SELECT to_regclass('alembic_version')")) is None:
        return False
    applied = tuple(await session.scalars(text("SELECT version_num FROM alembic_version")))
    scripts = ScriptDirectory.from_config(_alembic(service))
    try:
        # alembic keeps no row for what another revision depends on: the heads cannot be compared with the rows
        return not list(scripts.iterate_revisions("heads", applied, implicit_base=True))
    except ResolutionError:  # a revision this code does not know
        return True
