"""The projections, rebuilt from the log of facts beside the live ones, compared with them to the last digit, then put in their place. Events keep coming.

1. Empty tables of the same shape are made beside the live ones (`situations_next`...).
2. Every fact is brought into them in the order heard, without counters; then the counters are made of the finished rows in one statement per breakdown. The live
   counters were moved event by event: the two ways must agree.
3. What was heard meanwhile is caught up with until little is left.
4. In one repeatable-read snapshot, in which the live tables reflect exactly the facts that are visible, the last facts are brought in and every table is compared
   both ways. Listening goes on while this takes its time.
5. Listening stands aside for a moment (an advisory lock): the very last facts come in, and the tables change places.

A difference stops it at 4 with its kind and number: the live tables stay, the others too, for looking at. The database role must own its tables.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import structlog
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from libs.chassis.database import Database
from libs.contracts.referrals import ReferralErased
from services.reporting import commands, facts
from services.reporting.indicators import TALLIED, TOTAL, code_expression
from services.reporting.projections import store
from services.reporting.projections.rows import TABLES

_log = structlog.get_logger(__name__)

NEXT = "_next"
BATCH = 10_000
_NEARLY_THERE = 1_000
_LISTENING = 0x46494755  # "FIGU": shared by whoever changes the live tables, exclusive while they change places
_REBUILDING = 0x52454255  # "REBU": one rebuild at a time


class AlreadyRunning(Exception):
    """Another rebuild is at work on this database."""


@dataclass
class Rebuilt:
    """What a rebuild did. `differences`: table → number of rows that were in one of the two only; empty when equal, and only then were the tables put in place."""

    events: int = 0
    rows: dict[str, int] = field(default_factory=dict)
    differences: dict[str, int] = field(default_factory=dict)

    @property
    def equal(self) -> bool:
        return not self.differences


async def stand_aside(session: AsyncSession) -> None:
    """Whoever is about to change the live tables waits here, until the end of its transaction, while they change places."""
    await session.execute(text("SELECT pg_advisory_xact_lock_shared(:lock)"), {"lock": _LISTENING})


async def rebuild(database: Database, *, progress: Callable[[int], None] | None = None, batch: int = BATCH) -> Rebuilt:
    """Rebuild, compare and, when equal, put in place. `progress` is told how many events were brought in so far. Raises AlreadyRunning."""
    guard = await database.connect()
    try:
        if not await guard.fetchval("SELECT pg_try_advisory_lock($1)", _REBUILDING):
            raise AlreadyRunning
        return await _rebuild(database, _Work(progress, batch))
    finally:
        await guard.close()


@dataclass
class _Work:
    progress: Callable[[int], None] | None
    batch: int
    done: Rebuilt = field(default_factory=Rebuilt)
    reached: dict[str, int] = field(default_factory=lambda: dict.fromkeys(facts.SOURCES, 0))
    """Source → position of the last fact brought in."""
    erased_after: int = 0
    """Referrals erased at a later position lost their persons' ids in the log while we were reading it."""


async def _rebuild(database: Database, work: _Work) -> Rebuilt:
    async with database.transaction() as session:
        work.erased_after = await session.scalar(text("SELECT coalesce(max(position), 0) FROM facts WHERE source = 'referrals'")) or 0
        for table in (*TABLES, store.TALLIES):
            await session.execute(text(f"DROP TABLE IF EXISTS {table}{NEXT}"))
            await session.execute(text(f"CREATE TABLE {table}{NEXT} (LIKE {table} INCLUDING ALL)"))
            await session.execute(text(f"ALTER TABLE {table}{NEXT} SET (autovacuum_enabled = false)"))
    for source in work.reached:
        while await _step(database, work, source, tallied=False) == work.batch:
            pass
    async with database.transaction() as session:
        for statement in _tallies_of_rows():
            await session.execute(text(statement))
    while sum([await _step(database, work, source, tallied=True) for source in work.reached]) >= _NEARLY_THERE:
        pass

    async with database.transaction(repeatable_read=True) as session:
        await _bring_all(session, work)
        for table in (*TABLES, store.TALLIES):
            work.done.rows[table], different = await _compare(session, table)
            if different:
                work.done.differences[table] = different
    if not work.done.equal:
        _log.error("rebuild.differs", events=work.done.events, differences=work.done.differences)
        return work.done

    async with database.transaction() as session:
        await session.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LISTENING})
        await _bring_all(session, work)
        for table in (*TABLES, store.TALLIES):
            await _put_in_place(session, table)
    _log.info("rebuild.done", events=work.done.events)
    return work.done


async def _step(database: Database, work: _Work, source: str, *, tallied: bool) -> int:
    async with database.transaction() as session:
        await session.execute(text("SET LOCAL synchronous_commit = off"))  # what a crash loses here is only read again
        return await _bring(session, work, source, tallied=tallied)


async def _bring_all(session: AsyncSession, work: _Work) -> None:
    for source in work.reached:
        while await _bring(session, work, source, tallied=True):
            pass


async def _bring(session: AsyncSession, work: _Work, source: str, *, tallied: bool) -> int:
    """Bring the next facts of a source into the tables beside. Returns how many."""
    found = await facts.after(session, source, work.reached[source], work.batch)
    if not found:
        return 0
    await commands.project(session, (fact.event for fact in found), NEXT, tallied=tallied)
    just_erased = [fact.event for fact in found if fact.position > work.erased_after and isinstance(fact.event, ReferralErased)]
    if just_erased:
        await commands.count_anew(session, source, just_erased, NEXT, tallied=tallied)
    work.reached[source] = found[-1].position
    work.done.events += len(found)
    if work.progress is not None:
        work.progress(work.done.events)
    return len(found)


def _tallies_of_rows() -> list[str]:
    """The counters of finished rows: one statement per breakdown, made of the same table of indicators as the counters that move."""
    statements = []
    for measure, dimensions in TALLIED.items():
        day = "requested_on" if measure == "orientations" else "received_on"
        for dimension, code in ((TOTAL, "''"), *((one.code, code_expression(one)) for one in dimensions.values())):
            statements.append(
                f"INSERT INTO {store.TALLIES}{NEXT} (measure, dimension, departement, month, code, number)"  # noqa: S608 - names of our own
                f" SELECT '{measure}', '{dimension}', departement, date_trunc('month', {day})::date, {code}, count(*)"
                f" FROM {measure}{NEXT} WHERE {day} IS NOT NULL GROUP BY 3, 4, 5"
            )
    return statements


async def _compare(session: AsyncSession, table: str) -> tuple[int, int]:
    """How many rows the table beside has, and how many are in one of the two only. A counter at zero is no row."""
    where = " WHERE number <> 0" if table == store.TALLIES else ""
    live, beside = f"SELECT * FROM {table}{where}", f"SELECT * FROM {table}{NEXT}{where}"  # noqa: S608 - names of our own
    rows = await session.scalar(text(f"SELECT count(*) FROM ({beside}) AS beside"))  # noqa: S608
    different = await session.scalar(
        text(f"SELECT count(*) FROM (({live} EXCEPT {beside}) UNION ALL ({beside} EXCEPT {live})) AS one_sided")  # noqa: S608
    )
    return rows or 0, different or 0


async def _put_in_place(session: AsyncSession, table: str) -> None:
    await session.execute(text(f"DROP TABLE {table}"))
    await session.execute(text(f"ALTER TABLE {table}{NEXT} RENAME TO {table}"))
    await session.execute(text(f"ALTER TABLE {table} RESET (autovacuum_enabled)"))
    names = await session.scalars(
        text("SELECT indexrelid::regclass::text FROM pg_index WHERE indrelid = CAST(:table AS regclass)"), {"table": table}
    )
    for name in names.all():
        await session.execute(text(f"ALTER INDEX {name} RENAME TO {name.replace(f'{table}{NEXT}', table, 1)}"))
