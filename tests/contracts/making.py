"""Events out of their own declarations: a hypothesis strategy for any event type, every field within its bounds."""

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from types import NoneType, UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from hypothesis import strategies as st

from libs.contracts.envelope import Event, Part
from libs.contracts.territories import DEPARTEMENTS
from libs.contracts.types import Cents, Code, CommuneCode, Count, Day, DepartementCode, Id, Instant, SignedCents

_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
P = TypeVar("P", bound=Part)

_LEAVES: tuple[tuple[Any, Callable[[int, int], st.SearchStrategy[Any]]], ...] = (
    (Id, lambda low, high: st.uuids()),
    (Instant, lambda low, high: st.integers(0, 4 * 10**15).map(lambda microseconds: _EPOCH + timedelta(microseconds=microseconds))),
    (Day, lambda low, high: st.dates(date(2000, 1, 1), date(2100, 1, 1))),
    (Cents, lambda low, high: st.integers(max(low, 0), 10**12)),
    (SignedCents, lambda low, high: st.integers(-(10**12), 10**12)),
    (Count, lambda low, high: st.integers(max(low, 0), 10**9)),
    (DepartementCode, lambda low, high: st.sampled_from(list(DEPARTEMENTS))),
    (CommuneCode, lambda low, high: st.sampled_from(["95127", "2A004", "97105", "78646"])),
    (bool, lambda low, high: st.booleans()),
    (int, lambda low, high: st.integers(low, high)),
)


def parts(part: type[P]) -> st.SearchStrategy[P]:
    """Any value of a part or an event that its declaration allows."""
    hints = get_type_hints(part, include_extras=True)
    return st.builds(part, **{name: _values(hints[name], *_bounds(field.metadata)) for name, field in part.model_fields.items()})


def events(*types: type[Event]) -> st.SearchStrategy[Event]:
    return st.one_of(*(parts(event) for event in types))


def _bounds(metadata: list[Any]) -> tuple[int, int]:
    low, high = 0, 4
    for each in metadata:
        low = max(low, getattr(each, "ge", 0), getattr(each, "min_length", 0) or 0, getattr(each, "gt", -1) + 1)
        high = max(high, getattr(each, "le", 0))
    return low, max(low, high)


def _values(hint: Any, low: int, high: int) -> st.SearchStrategy[Any]:
    origin, arguments = get_origin(hint), get_args(hint)
    if hint is NoneType:
        return st.none()
    if origin in (Union, UnionType):
        return st.one_of(*(_values(each, low, high) for each in arguments))
    if origin is tuple:
        return st.lists(_values(arguments[0], 0, 4), min_size=low, max_size=max(low, 3)).map(tuple)
    if isinstance(hint, type) and issubclass(hint, Part):
        return parts(hint)
    if isinstance(hint, type) and issubclass(hint, Code):
        return st.sampled_from(list(hint))
    return next(make for leaf, make in _LEAVES if leaf == hint)(low, high)
