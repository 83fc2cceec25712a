"""What the counters hold of the rows: each stands in them by its month, its département and its value in each dimension; a change is a difference."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from datetime import date
from operator import attrgetter
from typing import Any, NamedTuple, TypeAlias

from services.reporting.indicators import TALLIED, TOTAL
from services.reporting.projections.rows import Key, State

Tally: TypeAlias = tuple[str, str, str, date, str]
"""Measure, dimension, département, first day of the month, code."""


Standing: TypeAlias = tuple[Any, ...]
"""What the counters need of a row: its day, its département, then its value in each dimension."""


def _text(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


class Counted(NamedTuple):
    """How the rows of a table stand in the counters."""

    standing: Callable[[Any], Standing]
    dimensions: tuple[tuple[int, str, bool], ...]
    """Place in the standing, code, whether the value lists several."""


COUNTED: dict[str, Counted] = {
    measure: Counted(
        attrgetter(day, "departement", *(dimension.column for dimension in TALLIED[measure].values())),
        tuple((place, dimension.code, dimension.many) for place, dimension in enumerate(TALLIED[measure].values(), 2)),
    )
    for measure, day in (("situations", "received_on"), ("persons", "received_on"), ("orientations", "requested_on"))
}
"""The tables that are counted, each by the measure of its name. The same row always stands the same way: a change is a difference of two standings."""

Before: TypeAlias = dict[str, dict[Key, Standing]]


def standing(state: State) -> Before:
    """Where the rows of a state stand in the counters."""
    return {table: {key: counted.standing(row) for key, row in state.every(table)} for table, counted in COUNTED.items()}


def differences(before: Before, after: State) -> Counter[Tally]:
    """What to add to each counter when rows went from `before` to `after`; none is zero."""
    deltas: Counter[Tally] = Counter()
    for table, counted in COUNTED.items():
        raw: Counter[tuple[str, date, str, Any]] = Counter()
        old = before[table]
        now: Mapping[Key, Standing] = {key: counted.standing(row) for key, row in after.every(table)}
        for key, new in now.items():
            was = old.get(key)
            if was is None:
                _stand(raw, new, counted.dimensions, 1)
            elif was != new:
                # by far the most changes move one value: the others cancel out without being touched
                moved = counted.dimensions if was[:2] != new[:2] else tuple(one for one in counted.dimensions if was[one[0]] != new[one[0]])
                _stand(raw, was, moved, -1, total=was[:2] != new[:2])
                _stand(raw, new, moved, 1, total=was[:2] != new[:2])
        for key in old.keys() - now.keys():
            _stand(raw, old[key], counted.dimensions, -1)
        for (departement, month, dimension, value), number in raw.items():
            if number:
                deltas[(table, dimension, departement, month, _text(value))] += number
    return deltas


def _stand(
    raw: Counter[tuple[str, date, str, Any]], row: Standing, dimensions: Iterable[tuple[int, str, bool]], number: int, *, total: bool = True
) -> None:
    if row[0] is None:
        return
    month, departement = row[0].replace(day=1), row[1]
    if total:
        raw[(departement, month, TOTAL, "")] += number
    for place, code, many in dimensions:
        value = row[place]
        if many:
            for one in value.split(","):
                raw[(departement, month, code, one)] += number
        else:
            raw[(departement, month, code, value)] += number
