"""The tables of reporting: the log of facts, the projections made of it, the counters. All but the log can be dropped and rebuilt (`rebuild.py`)."""

from datetime import date, datetime
from uuid import UUID

from sqlalchemy import BigInteger, Column, DateTime, Identity, Index, MetaData, Text, UniqueConstraint
from sqlalchemy.orm import registry
from sqlmodel import Field, SQLModel


class Table(SQLModel, registry=registry(metadata=MetaData())):
    """Of this service alone: otherwise all SQLModel tables of a process share one metadata."""


class Fact(Table, table=True):
    """One thin event as it was heard: `data` is the JSON text that was said, without the ids of persons whose data was erased.

    `position` orders what was heard of one source: a parked event that was replayed later stands where it took effect.
    """

    __tablename__ = "facts"
    __table_args__ = (UniqueConstraint("source", "sequence"), Index("facts_subject_idx", "subject"))

    source: str = Field(primary_key=True, sa_type=Text)
    position: int = Field(sa_column=Column(BigInteger, Identity(always=True), primary_key=True))
    epoch: int
    sequence: int = Field(sa_type=BigInteger)
    type: str = Field(sa_type=Text)
    subject: UUID
    occurred_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))
    data: str = Field(sa_type=Text)


class SituationRow(Table, table=True):
    __tablename__ = "situations"
    __table_args__ = (Index("situations_departement_received_on_idx", "departement", "received_on"),)

    referral_id: UUID = Field(primary_key=True)
    departement: str = Field(sa_type=Text)
    status: str = Field(sa_type=Text)
    received_on: date | None
    commune: str | None = Field(sa_type=Text)
    unit_id: UUID | None
    force: str | None = Field(sa_type=Text)
    channel: str | None = Field(sa_type=Text)
    urgency: str | None = Field(sa_type=Text)
    theme: str | None = Field(sa_type=Text)
    themes: str | None = Field(sa_type=Text)
    penal: bool | None
    danger: bool | None
    post_id: UUID | None
    close_reason: str | None = Field(sa_type=Text)
    first_contact_minutes: int | None
    seen_before: bool | None
    alerts: str = Field(sa_type=Text)
    first_contact_at: datetime | None = Field(sa_column=Column(DateTime(timezone=True), nullable=True))
    due_passed_at: datetime | None = Field(sa_column=Column(DateTime(timezone=True), nullable=True))


class PersonRow(Table, table=True):
    __tablename__ = "persons"
    __table_args__ = (Index("persons_departement_received_on_idx", "departement", "received_on"),)

    referral_id: UUID = Field(primary_key=True)
    person_id: UUID = Field(primary_key=True)
    departement: str = Field(sa_type=Text)
    received_on: date
    role: str = Field(sa_type=Text)
    sex: str = Field(sa_type=Text)
    age_band: str = Field(sa_type=Text)
    agreement: str = Field(sa_type=Text)
    known_to_services: str = Field(sa_type=Text)
    seen_before: bool | None
    close_reason: str | None = Field(sa_type=Text)


class OrientationRow(Table, table=True):
    __tablename__ = "orientations"
    __table_args__ = (Index("orientations_departement_requested_on_idx", "departement", "requested_on"),)

    orientation_id: UUID = Field(primary_key=True)
    referral_id: UUID
    departement: str = Field(sa_type=Text)
    post_id: UUID
    status: str = Field(sa_type=Text)
    requested_on: date | None
    partner_kind: str | None = Field(sa_type=Text)
    need: str | None = Field(sa_type=Text)
    rejection: str | None = Field(sa_type=Text)
    outcome: str | None = Field(sa_type=Text)


class PostRow(Table, table=True):
    __tablename__ = "posts"

    post_id: UUID = Field(primary_key=True)
    departement: str = Field(sa_type=Text)
    state: str = Field(sa_type=Text)
    employer_id: UUID | None
    force: str | None = Field(sa_type=Text)
    full_time_percent: int | None


class PlanRow(Table, table=True):
    __tablename__ = "plans"

    plan_id: UUID = Field(primary_key=True)
    post_id: UUID
    departement: str = Field(sa_type=Text)
    year: int
    state: str = Field(sa_type=Text)
    budget_cents: int = Field(sa_type=BigInteger)
    funded_cents: int = Field(sa_type=BigInteger)
    gap_cents: int = Field(sa_type=BigInteger)


class ShareRow(Table, table=True):
    __tablename__ = "shares"

    plan_id: UUID = Field(primary_key=True)
    number: int = Field(primary_key=True, sa_column_kwargs={"autoincrement": False})
    post_id: UUID
    departement: str = Field(sa_type=Text)
    year: int
    funder_id: UUID
    funder_kind: str = Field(sa_type=Text)
    firmness: str = Field(sa_type=Text)
    amount_cents: int = Field(sa_type=BigInteger)


class TallyRow(Table, table=True):
    """How many rows of a measure stand at a code, by département and month. `number` may be 0 where rows have moved away."""

    __tablename__ = "tallies"

    measure: str = Field(primary_key=True, sa_type=Text)
    dimension: str = Field(primary_key=True, sa_type=Text)
    departement: str = Field(primary_key=True, sa_type=Text)
    month: date = Field(primary_key=True)
    code: str = Field(primary_key=True, sa_type=Text)
    number: int = Field(sa_type=BigInteger)
