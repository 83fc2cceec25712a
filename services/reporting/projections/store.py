"""The projections in the database: whole sets of rows at once, one statement per table. `suffix` names the tables beside the live ones (`rebuild.py`)."""

from collections import Counter
from collections.abc import Iterable, Mapping
from functools import cache
from operator import attrgetter
from typing import Any
from uuid import UUID

from sqlalchemy import TextClause, text
from sqlalchemy.ext.asyncio import AsyncSession

from libs.chassis.database import copy
from services.reporting.projections.counters import Tally
from services.reporting.projections.rows import TABLES, State

LIVE = ""
TALLIES = "tallies"


@cache
def _select(table: str, suffix: str) -> TextClause:
    shape = TABLES[table]
    return text(f"SELECT {', '.join(shape.types)} FROM {table}{suffix} WHERE {shape.key[0]} = ANY(CAST(:ids AS uuid[]))")  # noqa: S608 - names of our own


@cache
def _update(table: str, suffix: str) -> TextClause:
    shape = TABLES[table]
    arrays = ", ".join(f"CAST(:{column} AS {kind}[])" for column, kind in shape.types.items())
    changes = ", ".join(f"{column} = new.{column}" for column in shape.types if column not in shape.key)
    same = " AND ".join(f"old.{column} = new.{column}" for column in shape.key)
    return text(
        f"UPDATE {table}{suffix} AS old SET {changes} FROM unnest({arrays}) AS new ({', '.join(shape.types)}) WHERE {same}"  # noqa: S608 - names of our own
    )


@cache
def _delete(table: str, suffix: str) -> TextClause:
    shape = TABLES[table]
    arrays = ", ".join(f"CAST(:{column} AS {shape.types[column]}[])" for column in shape.key)
    return text(f"DELETE FROM {table}{suffix} WHERE ({', '.join(shape.key)}) IN (SELECT * FROM unnest({arrays}))")  # noqa: S608 - names of our own


@cache
def _tally(suffix: str) -> TextClause:
    return text(
        f"INSERT INTO {TALLIES}{suffix} AS known (measure, dimension, departement, month, code, number)"  # noqa: S608 - names of our own
        " SELECT * FROM unnest(CAST(:measures AS text[]), CAST(:dimensions AS text[]), CAST(:departements AS text[]),"
        " CAST(:months AS date[]), CAST(:codes AS text[]), CAST(:numbers AS bigint[]))"
        " ON CONFLICT (measure, dimension, departement, month, code) DO UPDATE SET number = known.number + excluded.number"
    )


async def load(session: AsyncSession, wanted: Mapping[str, Iterable[UUID]], suffix: str = LIVE) -> State:
    """The rows of these owners, as far as they exist."""
    state = State()
    for table, ids in wanted.items():
        make = TABLES[table].row
        for row in await session.execute(_select(table, suffix), {"ids": list(ids)}):
            state.load(table, make(*row))
    return state


async def save(session: AsyncSession, state: State, suffix: str = LIVE) -> None:
    """Write the state's rows, and delete those that were loaded and are gone from it.

    Rows that were not found when the state was loaded are new, and copied: one source has one writer at a time, under the lock of its cursor.
    """
    for table, shape in TABLES.items():
        rows = dict(state.every(table))
        stored = state.stored[table]
        gone = sorted(stored - rows.keys())
        if gone:
            await session.execute(_delete(table, suffix), _columns(shape.key, gone))
        values = attrgetter(*shape.types)
        changed = [values(rows[key]) for key in sorted(rows.keys() & stored)]
        if changed:
            await session.execute(_update(table, suffix), _columns(shape.types, changed))
        new = [values(row) for key, row in rows.items() if key not in stored]
        if new:
            await copy(session, f"{table}{suffix}", shape.types, new)


def _columns(names: Iterable[str], keys: Iterable[tuple[Any, ...]]) -> dict[str, list[Any]]:
    return dict(zip(names, (list(values) for values in zip(*keys, strict=True)), strict=True))


async def tally(session: AsyncSession, deltas: Counter[Tally], suffix: str = LIVE) -> None:
    """Add to the counters."""
    if deltas:
        tallies = sorted(deltas)
        names = ("measures", "dimensions", "departements", "months", "codes")
        await session.execute(_tally(suffix), _columns(names, tallies) | {"numbers": [deltas[tally] for tally in tallies]})
