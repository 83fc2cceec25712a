"""What every audience is told of an event, byte by byte, as the tables of `audiences.py` say."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple, get_origin
from uuid import UUID

from pydantic_core import from_json, to_json

from libs.contracts.audiences import AUDIENCES, INTERNAL, Audience
from libs.contracts.envelope import Event, Projection
from libs.contracts.pseudonyms import PseudonymKeys
from libs.contracts.types import day_of


class _Plan(NamedTuple):
    """How one audience is told of one event type, prepared once."""

    stream: str
    """The stream's name, or the kind before the colon."""
    perimeter: str | None
    only: str | None
    realm: str
    """What is added to the stream's name to name the key of its pseudonyms."""
    fields: tuple[str, ...]
    ids: tuple[str, ...]
    id_lists: tuple[str, ...]
    instants: tuple[str, ...]
    """Those that leave as days."""
    parts: tuple[tuple[str, tuple[tuple[str, bool], ...]], ...]
    subject_hidden: bool
    by_day: bool


def _plan(audience: Audience, event: type[Event]) -> _Plan:
    fields, parts = audience.grants[event]
    hidden = [name for name in fields if name in audience.pseudonyms]
    lists = tuple(name for name in hidden if _is_list(event, name))
    return _Plan(
        stream=audience.kind,
        perimeter=audience.perimeters.get(event),
        only=audience.only.get(event),
        realm="/apart" if event in audience.apart else "",
        fields=fields,
        ids=tuple(name for name in hidden if name not in lists),
        id_lists=lists,
        instants=tuple(name for name in fields if name.endswith("_at")) if audience.by_day else (),
        parts=tuple((name, tuple((inner, inner in audience.pseudonyms) for inner in inside)) for name, inside in parts.items()),
        subject_hidden=event.aggregate[1] in audience.pseudonyms,
        by_day=audience.by_day,
    )


def _is_list(event: type[Event], field: str) -> bool:
    return get_origin(event.model_fields[field].annotation) is tuple


_PLANS: Final[dict[type[Event], tuple[_Plan, ...]]] = {
    event: tuple(_plan(audience, event) for audience in AUDIENCES.values() if audience.kind != INTERNAL and event in audience.grants)
    for event in AUDIENCES["internal"].grants
}


def _streams(plan: _Plan, data: Mapping[str, Any]) -> Sequence[str]:
    if plan.only is not None and not data[plan.only]:
        return ()
    if plan.perimeter is None:
        return (plan.stream,)
    value = data[plan.perimeter]
    if value is None:  # nobody of this kind is to hear of this one
        return ()
    if isinstance(value, list):
        return [f"{plan.stream}:{each}" for each in dict.fromkeys(value)]
    return (f"{plan.stream}:{value}",)


def project(event: Event, event_id: UUID, keys: PseudonymKeys) -> list[Projection]:
    """What every audience is told of one event, `internal` first: the bytes that are stored, hashed and sent.

    Pure: the same event, id and keys give the same bytes. Raises LookupError for an event that no speaker's list holds: what the tables do
    not know is not said.
    """
    plans = _PLANS.get(type(event))
    if plans is None:
        raise LookupError(f"{type(event).__name__} is not among the events of libs.contracts")
    collection, id_field = event.aggregate
    whole = event.__pydantic_serializer__.to_json(event)
    data: dict[str, Any] = from_json(whole)
    own_id = str(event_id)
    told = [Projection(INTERNAL, own_id, f"{collection}/{data[id_field]}", whole)]
    for plan in plans:
        for stream in _streams(plan, data):
            name = keys.namer(stream + plan.realm)
            seen = {field: data[field] for field in plan.fields}
            for field in plan.ids:
                if seen[field] is not None:
                    seen[field] = name(seen[field])
            for field in plan.id_lists:
                seen[field] = [name(value) for value in seen[field]]
            for field in plan.instants:
                if seen[field] is not None:
                    seen[field] = day_of(seen[field])
            for field, inside in plan.parts:
                seen[field] = [{inner: name(part[inner]) if hidden else part[inner] for inner, hidden in inside} for part in seen[field]]
            subject = f"{collection}/{seen[id_field] if plan.subject_hidden else data[id_field]}"
            told.append(Projection(stream, name(own_id), subject, to_json(seen), plan.by_day))
    return told
