"""A page out of a large table, at the same cost whatever its size: the head of one index range for each key and state, merged.

A list asked for "post A or B, assigned or accepted, oldest first" is four index ranges that each come in order: of each the first rows are taken, and of
those the first again. One condition `IN (…)` instead would let the database sort, or walk through years of closed referrals in front of those that wait.
States are written out, posts and départements joined: a region's thirteen took longer to plan for one by one than to read.

Statements are written as text, for the driver: SQLAlchemy took longer to put one together than PostgreSQL to answer it (docs/decisions/0011). What a caller
says is never in the text.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple, Self

from libs.chassis.database import RawConnection
from libs.chassis.pagination import CursorInvalid, Key


class Condition(NamedTuple):
    """SQL of ours with a `{}` for each value."""

    text: str
    values: tuple[Any, ...]

    @classmethod
    def of(cls, text: str, *values: Any) -> Self:
        return cls(text, values)


where = Condition.of
Conditions = Sequence[Condition]


class Within(NamedTuple):
    """One range for each of these values of a column; none for nobody."""

    column: str
    type: str
    values: Sequence[Any]


EVERYWHERE: Final = None
_NOWHERE: Final = where("false")


class Question:
    """A statement while it is written: `values` are those of its parameters, from `$1` on."""

    def __init__(self, table: str, within: Within | None) -> None:
        self.table, self.within = table, within
        self.values: list[Any] = []

    def head(self, ranges: Sequence[Conditions], order: Sequence[str], after: Key | None, limit: int) -> str:
        """The keys (`key_0`, …) of the first `limit + 1` rows after one, in any of the ranges. `order` ends with the id.

        Raises CursorInvalid for a key of another order: the list was asked for otherwise meanwhile.
        """
        if after is not None and len(after) != len(order):
            raise CursorInvalid("Ce curseur est d'une liste dans un autre ordre : reprenez celle-ci depuis le début.")
        columns = ", ".join(order)
        further = [where(f"({columns}) > ({', '.join('{}' for _ in order)})", *after)] if after is not None else []
        keys = ", ".join(f"{column} AS key_{place}" for place, column in enumerate(order))
        first = f"ORDER BY {columns} LIMIT {limit + 1}"
        merged = ", ".join(keys_of(order))
        branches = [self._each(keys, [*conditions, *further], first, merged) for conditions in ranges or [[_NOWHERE]]]
        together = " UNION ALL ".join(f"({branch})" for branch in branches)
        return f"SELECT {merged} FROM ({together}) AS parts ORDER BY {merged} LIMIT {limit + 1}"

    def number(self, conditions: Conditions, most: int) -> str:
        """How many rows there are, as far as `most`."""
        few = self._each("", conditions, f"LIMIT {most}")
        return f"(SELECT count(*) FROM (SELECT FROM ({few}) AS parts LIMIT {most}) AS few)"

    def _each(self, columns: str, conditions: Conditions, end: str, names: str = "") -> str:
        """Of each part of the perimeter the beginning."""
        if self.within is None:
            return f"SELECT {columns} FROM {self._all_of(conditions)} {end}"
        column, type, values = self.within
        if len(values) == 1:  # planned for that value
            return f"SELECT {columns} FROM {self._all_of([where(f'{column} = {{}}', *values), *conditions])} {end}"
        parts = self._written(where(f"unnest(CAST({{}} AS {type}[])) AS part (value)", values))
        one = self._all_of([where(f"{column} = part.value"), *conditions])
        return f"SELECT {names} FROM {parts} CROSS JOIN LATERAL (SELECT {columns} FROM {one} {end}) AS beginning"

    def _all_of(self, conditions: Conditions) -> str:
        return " WHERE ".join([self.table, *([" AND ".join(map(self._written, conditions))] if conditions else [])])

    def _written(self, condition: Condition) -> str:
        places = range(len(self.values) + 1, len(self.values) + len(condition.values) + 1)
        self.values += condition.values
        return condition.text.format(*(f"${place}" for place in places))


def keys_of(order: Sequence[str]) -> list[str]:
    """The keys of a head, in its order; the id is the last."""
    return [f"key_{place}" for place, _ in enumerate(order)]


COUNTED_UP_TO: Final = 1_000
"""Counts say how much work waits, and stop here ("more than 1 000"): then they cost the same for a post and for the nation.

A table of counters kept up to date by every change would answer at once and exactly, but every intake of a département would wait for the same row; the
exact figures, closed cases of ten years included, are those of reporting.
"""


async def numbers(connection: RawConnection, asked: Question, ranges: Sequence[tuple[str, Conditions]]) -> Callable[[str], dict[str, Any]]:
    """How many rows each named range holds, as `count` and `more`; ranges of one name add up. Of a range no more than one too many are looked at."""
    found: Counter[str] = Counter()
    row = await connection.fetchrow(
        f"SELECT {', '.join(asked.number(conditions, COUNTED_UP_TO + 1) for _, conditions in ranges)}", *asked.values
    )
    for (name, _), number in zip(ranges, row or (), strict=True):
        found[name] += number
    return lambda name: {"count": min(found[name], COUNTED_UP_TO), "more": found[name] > COUNTED_UP_TO}
