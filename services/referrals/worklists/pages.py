"""A page out of a large table, at the same cost whatever its size: the head of one index range for each key and state, merged.

A list asked for "post A or B, assigned or accepted, oldest first" is four index ranges that each come in order: of each the first rows are taken, and of
those the first again. One condition `IN (…)` instead would let the database sort, or walk through years of closed referrals in front of those that wait.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final
from uuid import UUID

from sqlalchemy import ColumnElement, Select, func, literal, select, tuple_, union_all
from sqlalchemy.ext.asyncio import AsyncSession

from libs.chassis.pagination import CursorInvalid, Key

Conditions = Sequence[ColumnElement[bool]]


def head(ranges: Sequence[Conditions], order: Sequence[ColumnElement[Any]], after: Key | None, limit: int) -> Select[UUID]:
    """The ids of the first `limit + 1` rows after a key: one branch for each range of conditions. `order` ends with the id.

    Raises CursorInvalid for a key of another order: the list was asked for otherwise meanwhile.
    """
    if after is not None and len(after) != len(order):
        raise CursorInvalid("Ce curseur est d'une liste dans un autre ordre : reprenez celle-ci depuis le début.")
    further = [tuple_(*order) > tuple_(*after)] if after is not None else []
    keys = [column.label(f"key_{place}") for place, column in enumerate(order)]
    branches = [select(*keys).where(*conditions, *further).order_by(*order).limit(limit + 1) for conditions in ranges]
    found = (union_all(*branches) if len(branches) > 1 else branches[0]).subquery("found")
    *_, id = found.c
    return select(id).order_by(*found.c).limit(limit + 1)


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
        rows = await session.execute(select(parts.c.name, func.sum(parts.c.number)).group_by(parts.c.name))
        found = {name: int(number) for name, number in rows}
    return lambda name: {"count": min(found.get(name, 0), COUNTED_UP_TO), "more": found.get(name, 0) > COUNTED_UP_TO}
