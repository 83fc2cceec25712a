"""Events are thin by construction: a walk over every field of every event, through parts, tuples and unions, down to the leaves.

Refused: text without a pattern of the list, names, free text, birth dates, contact details. Whatever is not allowed by name is refused.
"""

from collections.abc import Iterator
from datetime import date, datetime
from enum import StrEnum
from types import NoneType, UnionType
from typing import Annotated, Any, ClassVar, Literal, Union, get_args, get_origin, get_type_hints
from uuid import UUID

import pytest
from pydantic import ConfigDict, Field, computed_field

from libs.contracts.envelope import Event, Part
from libs.contracts.registry import EVENTS
from libs.contracts.types import Cents, Code, CommuneCode, Count, Day, DepartementCode, Id, Instant, SignedCents
from libs.contracts.vocabularies import Theme

LEAVES = (Id, Instant, Day, Cents, SignedCents, Count, CommuneCode, DepartementCode, bool, int)
"""All there is besides code lists. Two of them are text, each of a fixed form: the codes of communes and départements."""

DAYS = {"occurred_on", "opened_on", "starts_on", "ends_on", "ended_on", "due_on", "paid_on", "from_on", "until_on"}
"""Each day an event may tell; none is of a person's life. To add one is to argue it here."""

REFUSED_WORDS = frozenset(
    {
        *(
            "name",
            "names",
            "firstname",
            "lastname",
            "surname",
            "forename",
            "nickname",
            "alias",
            "identity",
            "birth",
            "born",
            "birthday",
            "dob",
            "age",
        ),
        *("phone", "telephone", "tel", "mobile", "fax", "email", "mail", "address", "street", "postcode", "city", "latitude", "longitude"),
        *("nir", "iban", "siret", "procedure", "natinf", "reference", "login", "user", "password", "token", "url", "ip"),
        *(
            "text",
            "comment",
            "comments",
            "note",
            "notes",
            "narrative",
            "summary",
            "description",
            "remark",
            "message",
            "content",
            "label",
            "title",
        ),
    }
)
ARGUED = {"age_band", "age_bands"}
"""A name with a refused word in it that tells no such thing."""


def flaws(part: type[Part], path: str = "", seen: frozenset[type[Part]] = frozenset()) -> Iterator[str]:
    """Why a part is not thin, one sentence per field; nothing when it is."""
    path = path or part.__name__
    if part in seen:
        yield f"{path}: refers to itself"
        return
    if part.model_config.get("extra") != "ignore" or part.model_computed_fields:
        yield f"{path}: carries fields that it does not declare"
    hints = get_type_hints(part, include_extras=True)
    for name in part.model_fields:
        here = f"{path}.{name}"
        if name not in ARGUED and (refused := REFUSED_WORDS & set(name.split("_"))):
            yield f"{here}: no event tells a {min(refused)}"
        yield from _type_flaws(hints[name], name, here, seen | {part})


def _type_flaws(hint: Any, name: str, path: str, seen: frozenset[type[Part]]) -> Iterator[str]:
    origin, arguments = get_origin(hint), get_args(hint)
    if hint is NoneType:
        return
    if origin in (Union, UnionType):
        for each in arguments:
            yield from _type_flaws(each, name, path, seen)
    elif origin is tuple:
        if len(arguments) != 2 or arguments[1] is not Ellipsis:
            yield f"{path}: a tuple has one type of item"
        yield from _type_flaws(arguments[0], name, path, seen)
    elif isinstance(hint, type) and issubclass(hint, Part):
        yield from flaws(hint, path, seen)
    elif isinstance(hint, type) and issubclass(hint, Code):
        return
    elif hint not in LEAVES:
        yield f"{path}: {hint} is not a type that events are made of"
    elif hint == Day and name not in DAYS:
        yield f"{path}: a day that is not in the list"
    elif hint == Instant and not name.endswith("_at"):
        yield f"{path}: an instant's name ends in _at"
    elif hint == Id and not name.endswith(("_id", "_ids")) and name != "units":
        yield f"{path}: an id's name ends in _id"


@pytest.mark.parametrize("event", EVENTS.values(), ids=EVENTS)
def test_an_event_holds_ids_codes_dates_places_and_numbers_only(event: type[Event]) -> None:
    assert list(flaws(event)) == []


@pytest.mark.parametrize("event", EVENTS.values(), ids=EVENTS)
def test_an_event_says_its_type_its_version_and_whose_fact_it_is(event: type[Event]) -> None:
    prefix, network, noun, fact, version = event.type.split(".")

    assert (prefix, network, version) == ("fr", "maillon", "v1")
    assert noun.replace("_", "").isalpha()
    assert fact.replace("_", "").isalpha()
    assert get_type_hints(event, include_extras=True)[event.aggregate[1]] == Id
    assert event.classification in ("public", "internal", "restricted")
    assert event.model_config["frozen"] is True
    assert event.model_config["strict"] is True


def test_no_day_of_the_list_is_a_birth_date() -> None:
    assert not any("birth" in name or "born" in name for name in DAYS)


def test_every_list_is_bounded() -> None:
    def unbounded(part: type[Part]) -> Iterator[str]:
        for name, field in part.model_fields.items():
            if get_origin(field.annotation) is tuple:
                if not any(getattr(each, "max_length", None) for each in field.metadata):
                    yield f"{part.__name__}.{name}"
                item = get_args(field.annotation)[0]
                if isinstance(item, type) and issubclass(item, Part):
                    yield from unbounded(item)

    assert [found for event in EVENTS.values() for found in unbounded(event)] == []


# Planted faults: the walk sees red, each for its reason


class _Planted(Event):
    type: ClassVar[str] = "fr.maillon.planted.fault.v1"
    aggregate: ClassVar[tuple[str, str]] = ("planted", "planted_id")

    planted_id: Id


class _FreeText(_Planted):
    motive: str


class _BoundedText(_Planted):
    motive: Annotated[str, Field(max_length=10)]


class _PatternOfItsOwn(_Planted):
    motive: Annotated[str, Field(pattern="^[a-z]+$")]


class _Name(_Planted):
    last_name: Theme


class _BirthDay(_Planted):
    birth_on: Day


class _AnotherDay(_Planted):
    seen_on: Day


class _BareDate(_Planted):
    due_on: date


class _BareInstant(_Planted):
    seen_at: datetime


class _Phone(_Planted):
    phone: Count


class _Inner(Part):
    motive: str | None


class _InAPart(_Planted):
    inner: _Inner


class _InATupleOfParts(_Planted):
    inners: tuple[_Inner, ...] = Field(max_length=3)


class _InAUnion(_Planted):
    inner: _Inner | Theme | None


class _TextInATuple(_Planted):
    motives: tuple[str, ...] = Field(max_length=3)


class _Mapping(_Planted):
    values: dict[str, int]


class _Anything(_Planted):
    value: Any


class _Bytes(_Planted):
    photo: bytes


class _Number(_Planted):
    ratio: float


class _OtherEnum(StrEnum):
    JEAN = "Jean Exemple"


class _EnumWithoutLabels(_Planted):
    motive: _OtherEnum


class _Literal(_Planted):
    motive: Literal["a"]


class _BareUuid(_Planted):
    other_id: UUID


class _IdInDisguise(_Planted):
    person: Id


class _Computed(_Planted):
    @computed_field  # type: ignore[prop-decorator]  # pydantic's documented use
    @property
    def motive(self) -> str:
        return "text"


class _Open(_Planted):
    model_config = ConfigDict(extra="allow")


PLANTED: tuple[tuple[type[Event], str], ...] = (
    (_FreeText, "not a type"),
    (_BoundedText, "not a type"),
    (_PatternOfItsOwn, "not a type"),
    (_Name, "no event tells a name"),
    (_BirthDay, "no event tells a birth"),
    (_AnotherDay, "not in the list"),
    (_BareDate, "not a type"),
    (_BareInstant, "not a type"),
    (_Phone, "no event tells a phone"),
    (_InAPart, "_InAPart.inner.motive"),
    (_InATupleOfParts, "_InATupleOfParts.inners.motive"),
    (_InAUnion, "_InAUnion.inner.motive"),
    (_TextInATuple, "not a type"),
    (_Mapping, "not a type"),
    (_Anything, "not a type"),
    (_Bytes, "not a type"),
    (_Number, "not a type"),
    (_EnumWithoutLabels, "not a type"),
    (_Literal, "not a type"),
    (_BareUuid, "not a type"),
    (_IdInDisguise, "ends in _id"),
    (_Computed, "does not declare"),
    (_Open, "does not declare"),
)


@pytest.mark.parametrize(("event", "reason"), PLANTED, ids=[event.__name__ for event, _ in PLANTED])
def test_a_planted_field_that_could_tell_a_person_is_seen(event: type[Event], reason: str) -> None:
    found = list(flaws(event))

    assert len(found) >= 1
    assert any(reason in sentence for sentence in found), found


def test_a_thin_event_beside_the_planted_ones_is_left_alone() -> None:
    assert list(flaws(_Planted)) == []
