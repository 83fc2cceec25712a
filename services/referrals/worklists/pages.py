"""A page out of a large table, at the same cost whatever its size: the head of one index range for each key and state, merged.

A list asked for "post A or B, assigned or accepted, oldest first" is four index ranges that each come in order: of each the first rows are taken, and of
those the first again. One condition `IN (…)` instead would let the database sort, or walk through years of closed referrals in front of those that wait.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final
from uuid import UUID

from sqlalchemy import ColumnElement, Select, func, literal, select, text, tuple_, union_all
from sqlalchemy.ext.asyncio import AsyncSession

from libs.chassis.pagination import Key

Conditions = Sequence[ColumnElement[bool]]


async def plan_for_these_values(session: AsyncSession) -> None:
    """For the rest of the transaction: a state may be one row in ten or one in ten thousand, and a plan made for any of them suits none."""
    await session.execute(text("SET LOCAL plan_cache_mode = force_custom_plan"))


def head(ranges: Iterable[Conditions], at: Any, id: Any, after: Key | None, limit: int) -> Select[UUID]:
    """The ids of the first `limit + 1` rows after a key, in the order of `at` and `id`: one branch for each range of conditions."""
    branches = []
    for conditions in ranges:
        branch = select(id.label("id"), at.label("at")).where(*conditions)
        if after is not None:
            branch = branch.where(tuple_(at, id) > tuple_(*after))
        branches.append(branch.order_by(at, id).limit(limit + 1))
    found = union_all(*(select(branch.subquery()) for branch in branches)).subquery("found")
    return select(found.c.id).order_by(found.c.at, found.c.id).limit(limit + 1)


COUNTED_UP_TO: Final = 1_000
"""Counts say how much work waits, and stop here ("more than 1 000"): then they cost the same for a post and for the nation.

A table of counters kept up to date by every change would answer at once and exactly, but every intake of a département would wait for the same row; the
exact figures, closed cases of ten years included, are those of reporting.
"""


async def numbers(session: AsyncSession, ranges: Sequence[tuple[str, Conditions]]) -> Callable[[str], dict[str, Any]]:
    """How many rows each named range holds, as `count` and `more`; ranges of one name add up. Of a range no more than one too many are looked at."""
    found: dict[str, int] = {}
    if ranges:
        branches = []
        for name, conditions in ranges:
            some = select(literal(1)).where(*conditions).limit(COUNTED_UP_TO + 1).subquery()
            branches.append(select(literal(name).label("name"), func.count().label("number")).select_from(some))
        parts = union_all(*branches).subquery("parts")
        await plan_for_these_values(session)
        rows = await session.execute(select(parts.c.name, func.sum(parts.c.number)).group_by(parts.c.name))
        found = {name: int(number) for name, number in rows}
    return lambda name: {"count": min(found.get(name, 0), COUNTED_UP_TO), "more": found.get(name, 0) > COUNTED_UP_TO}
