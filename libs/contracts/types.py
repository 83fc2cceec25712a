"""The scalar types that events, requests and answers are made of.

Strict: a string stays a string, a number a number. JSON has no type for instants, days and ids, so these are read from one text form each.
"""

import re
from collections.abc import Sequence
from datetime import UTC, date, datetime
from enum import StrEnum
from functools import lru_cache
from typing import Annotated, Any, Final, Self
from uuid import UUID
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, AwareDatetime, BeforeValidator, Field, GetCoreSchemaHandler, GetJsonSchemaHandler, PlainSerializer
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

_INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,6})?(?:Z|[+-]\d\d:\d\d)", re.ASCII)
_DAY = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_ID = r"^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$"


_NOT_IN_CALENDAR: Final = "this day, or this hour, is not in the calendar"


def _instant(value: object) -> object:
    if isinstance(value, str):
        if not _INSTANT.fullmatch(value):
            raise ValueError("an instant looks like 2026-11-23T10:00:00Z, with its time zone")
        try:
            return datetime.fromisoformat(value).astimezone(UTC)
        except ValueError:
            raise ValueError(_NOT_IN_CALENDAR) from None
        except OverflowError:  # 0001-01-01T00:00:00+14:00 lies before the calendar once in UTC
            raise ValueError("an instant looks like 2026-11-23T10:00:00Z, with its time zone") from None
    return value


def _day(value: object) -> object:
    if isinstance(value, str):
        if not _DAY.fullmatch(value):
            raise ValueError("a day looks like 2026-11-23")
        try:
            return date.fromisoformat(value)
        except ValueError:
            raise ValueError(_NOT_IN_CALENDAR) from None
    return value


def write_instant(value: datetime) -> str:
    """`2026-11-23T10:00:00.000000Z`"""
    # [:-6] takes off the +00:00
    return f"{(value if value.tzinfo is UTC else value.astimezone(UTC)).isoformat(timespec='microseconds')[:-6]}Z"


def _in_utc(value: datetime) -> datetime:
    return value.astimezone(UTC)


Instant = Annotated[
    AwareDatetime, BeforeValidator(_instant), AfterValidator(_in_utc), PlainSerializer(write_instant, return_type=str, when_used="json")
]
"""A moment with its time zone (RFC 3339), kept and written in UTC. Names end in `_at`."""

PARIS: Final = ZoneInfo("Europe/Paris")
"""The calendar of the figures, of absences and of budgets: a referral of 00:30 on 1 January in Paris belongs to the new year."""


def civil_day(at: datetime) -> date:
    """The day it was in Paris: figures are national."""
    return at.astimezone(PARIS).date()


def day_of(instant: str) -> str:
    """The beginning of an instant's day in Paris, an instant as well: `2026-11-23T23:30:00.5Z` -> `2026-11-24T00:00:00+01:00`.

    For whom is told days only. `instant` is as events are written, in UTC with a `Z`, from 1911 on.
    """
    return _day_of_hour(instant[:13])


@lru_cache(maxsize=1024)
def _day_of_hour(hour: str) -> str:
    """Of `2026-11-23T23`, in UTC: Paris has been whole hours away from it since 1911."""
    return datetime.fromisoformat(f"{hour}:00:00+00:00").astimezone(PARIS).replace(hour=0).isoformat()


Day = Annotated[date, BeforeValidator(_day)]
"""A calendar day (ISO 8601). Names end in `_on`."""


class _CanonicalId:
    """Read by pydantic's own code from end to end: 0.7 µs an id; a validator in Python took 2.8, half of the time of reading an event."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        text = core_schema.chain_schema([core_schema.str_schema(pattern=_ID, strict=True), core_schema.uuid_schema(strict=False)])
        either = core_schema.json_or_python_schema(
            json_schema=text, python_schema=core_schema.union_schema([core_schema.is_instance_schema(UUID), text])
        )
        return core_schema.custom_error_schema(either, "id", custom_error_message="an id is a UUID in lower case with dashes")

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {"type": "string", "format": "uuid"}


Id = Annotated[UUID, _CanonicalId()]
"""An opaque identifier: a UUID in its one canonical text form."""

Cents = Annotated[int, Field(ge=0, le=10**12)]
"""Money: integer cents of euro, zero or more."""

SignedCents = Annotated[int, Field(ge=-(10**12), le=10**12)]
"""A difference of money in integer cents of euro."""

Count = Annotated[int, Field(ge=0, le=10**9)]
"""A number of things."""

CommuneCode = Annotated[str, Field(pattern=r"^(?:(?:0[1-9]|1[0-9]|2[1-9AB]|[3-8][0-9]|9[0-5])[0-9]{3}|9[78][0-9]{3})$", examples=["95127"])]
"""A commune of INSEE's COG: five characters. The form is checked, not its existence: police software may know communes merged since."""

DepartementCode = Annotated[str, Field(pattern=r"^(?:0[1-9]|1[0-9]|2[1-9AB]|[3-8][0-9]|9[0-5]|9[78][0-9])$", examples=["95"])]
"""A département, or an overseas collectivity, of INSEE's COG."""


def departement_of(commune: str) -> str:
    """The département a commune code belongs to: its first two characters, three overseas (INSEE COG)."""
    return commune[:3] if commune.startswith(("97", "98")) else commune[:2]


class Code(StrEnum):
    """One code of a vocabulary, with its French label: `Channel.ON_SCENE = "on_scene", "Lors d'une intervention"`.

    Read from its exact text only, in JSON and in Python alike.
    """

    label: str

    def __new__(cls, value: str, label: str = "") -> Self:  # the default is for `Channel("x")`, which looks up; a test wants every label
        member = str.__new__(cls, value)
        member._value_ = value
        member.label = label
        return member

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        # written as the str it is: pydantic reads `.value` through a Python property otherwise, 0.4 µs for each code;
        # with a ref, so that a schema document tells each list once
        return core_schema.enum_schema(
            cls,
            list(cls),
            sub_type="str",
            strict=False,
            ref=f"{cls.__module__}.{cls.__qualname__}",
            serialization=core_schema.simple_ser_schema("str"),
        )


def label_of(value: object, vocabularies: Sequence[type[Code]]) -> str:
    """The label of a code, by the first of these vocabularies that knows it; "" when none does."""
    return next((one.label for vocabulary in vocabularies for one in vocabulary if one.value == value), "")
