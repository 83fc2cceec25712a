"""The rows of the projections, as they are now: one per referral, person, orientation, post, plan and share. Pure: no database here."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any, NamedTuple, TypeAlias
from uuid import UUID

from libs.contracts.vocabularies import CloseReason
from services.reporting.indicators import Seen


@dataclass(slots=True)
class Situation:
    """`received_on` is None until the reception was heard: such a row is not counted."""

    referral_id: UUID
    departement: str
    status: str
    received_on: date | None = None
    commune: str | None = None
    unit_id: UUID | None = None
    force: str | None = None
    channel: str | None = None
    urgency: str | None = None
    theme: str | None = None
    themes: str | None = None
    penal: bool | None = None
    danger: bool | None = None
    post_id: UUID | None = None
    close_reason: str | None = None
    first_contact_minutes: int | None = None
    seen_before: bool | None = None
    """Whether one of its persons was in an earlier referral, as reception told; `None`: of nobody it could be told."""
    alerts: str = ""
    """The kinds of alerts that were sent and not withdrawn, in order, joined by commas."""
    first_contact_at: datetime | None = None
    due_passed_at: datetime | None = None
    """The earliest due time that passed without a contact, as it was noticed: a contact that is noted later may have been tried before."""

    @property
    def seen(self) -> str | bool | None:
        return _seen(self)


@dataclass(slots=True)
class Person:
    """`person_id` is a number within the referral once it was erased (`facts.forget_persons`)."""

    referral_id: UUID
    person_id: UUID
    departement: str
    received_on: date
    role: str
    sex: str
    age_band: str
    agreement: str
    known_to_services: str
    seen_before: bool | None = None
    close_reason: str | None = None
    """The referral's."""

    @property
    def seen(self) -> str | bool | None:
        return _seen(self)


def _seen(row: Situation | Person) -> str | bool | None:
    """What is closed as a duplicate is neither new nor known: it was counted with the other (`indicators.Seen`)."""
    return Seen.DUPLICATE if row.close_reason == CloseReason.DUPLICATE else row.seen_before


@dataclass(slots=True)
class Orientation:
    """`requested_on` is None until the request was heard: such a row is not counted."""

    orientation_id: UUID
    referral_id: UUID
    departement: str
    post_id: UUID
    status: str
    requested_on: date | None = None
    partner_kind: str | None = None
    need: str | None = None
    rejection: str | None = None
    outcome: str | None = None


@dataclass(slots=True)
class Post:
    post_id: UUID
    departement: str
    state: str
    employer_id: UUID | None = None
    force: str | None = None
    full_time_percent: int | None = None


@dataclass(slots=True)
class Plan:
    plan_id: UUID
    post_id: UUID
    departement: str
    year: int
    state: str
    budget_cents: int
    funded_cents: int
    gap_cents: int


@dataclass(slots=True)
class Share:
    """One funder's part of a plan, `number` its place in it."""

    plan_id: UUID
    number: int
    post_id: UUID
    departement: str
    year: int
    funder_id: UUID
    funder_kind: str
    firmness: str
    amount_cents: int


Key: TypeAlias = tuple[UUID, ...] | tuple[UUID, int]


class Table(NamedTuple):
    """A projection's table: its rows are loaded by the id in the first column of the key, all that share it together."""

    name: str
    row: type[Any]
    key: tuple[str, ...]
    types: Mapping[str, str]
    """Column → PostgreSQL type, in the order of the row's fields."""


TABLES: dict[str, Table] = {
    table.name: table
    for table in (
        Table(
            "situations",
            Situation,
            ("referral_id",),
            {
                "referral_id": "uuid",
                "departement": "text",
                "status": "text",
                "received_on": "date",
                "commune": "text",
                "unit_id": "uuid",
                "force": "text",
                "channel": "text",
                "urgency": "text",
                "theme": "text",
                "themes": "text",
                "penal": "boolean",
                "danger": "boolean",
                "post_id": "uuid",
                "close_reason": "text",
                "first_contact_minutes": "integer",
                "seen_before": "boolean",
                "alerts": "text",
                "first_contact_at": "timestamptz",
                "due_passed_at": "timestamptz",
            },
        ),
        Table(
            "persons",
            Person,
            ("referral_id", "person_id"),
            {
                "referral_id": "uuid",
                "person_id": "uuid",
                "departement": "text",
                "received_on": "date",
                "role": "text",
                "sex": "text",
                "age_band": "text",
                "agreement": "text",
                "known_to_services": "text",
                "seen_before": "boolean",
                "close_reason": "text",
            },
        ),
        Table(
            "orientations",
            Orientation,
            ("orientation_id",),
            {
                "orientation_id": "uuid",
                "referral_id": "uuid",
                "departement": "text",
                "post_id": "uuid",
                "status": "text",
                "requested_on": "date",
                "partner_kind": "text",
                "need": "text",
                "rejection": "text",
                "outcome": "text",
            },
        ),
        Table(
            "posts",
            Post,
            ("post_id",),
            {
                "post_id": "uuid",
                "departement": "text",
                "state": "text",
                "employer_id": "uuid",
                "force": "text",
                "full_time_percent": "integer",
            },
        ),
        Table(
            "plans",
            Plan,
            ("plan_id",),
            {
                "plan_id": "uuid",
                "post_id": "uuid",
                "departement": "text",
                "year": "integer",
                "state": "text",
                "budget_cents": "bigint",
                "funded_cents": "bigint",
                "gap_cents": "bigint",
            },
        ),
        Table(
            "shares",
            Share,
            ("plan_id", "number"),
            {
                "plan_id": "uuid",
                "number": "integer",
                "post_id": "uuid",
                "departement": "text",
                "year": "integer",
                "funder_id": "uuid",
                "funder_kind": "text",
                "firmness": "text",
                "amount_cents": "bigint",
            },
        ),
    )
}


@dataclass(slots=True)
class State:
    """The rows that a batch touches: table → owner's id → key → row. An owner is the referral of persons, the plan of shares, else the row itself."""

    rows: dict[str, dict[UUID, dict[Key, Any]]] = field(default_factory=lambda: {name: {} for name in TABLES})
    stored: dict[str, set[Key]] = field(default_factory=lambda: {name: set() for name in TABLES})
    """The keys of the rows that came out of the database."""

    def one(self, table: str, owner: UUID) -> Any:
        found = self.rows[table].get(owner)
        return found[(owner,)] if found else None

    def put(self, table: str, row: Any) -> None:
        key = tuple(getattr(row, column) for column in TABLES[table].key)
        self.rows[table].setdefault(key[0], {})[key] = row

    def load(self, table: str, row: Any) -> None:
        self.put(table, row)
        self.stored[table].add(tuple(getattr(row, column) for column in TABLES[table].key))

    def every(self, table: str) -> Iterable[tuple[Key, Any]]:
        for owned in self.rows[table].values():
            yield from owned.items()
