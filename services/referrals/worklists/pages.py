"""A page out of a large table, at the same cost whatever its size: the head of one index range for each key and state, merged.

A list asked for "post A or B, assigned or accepted, oldest first" is four index ranges that each come in order: of each the first rows are taken, and of
those the first again. One condition `IN (…)` instead would let the database sort, or walk through years of closed referrals in front of those that wait.
"""

from collections.abc import Iterable, Sequence
from typing import Any
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


def counted(ranges: Iterable[tuple[str, Conditions]], most: int) -> Select[str, int]:
    """How many rows each named range holds; of a range no more than `most + 1` are looked at. Ranges of one name add up."""
    branches = []
    for name, conditions in ranges:
        some = select(literal(1)).where(*conditions).limit(most + 1).subquery()
        branches.append(select(literal(name).label("name"), func.count().label("number")).select_from(some))
    parts = union_all(*branches).subquery("parts")
    return select(parts.c.name, func.sum(parts.c.number)).group_by(parts.c.name)
