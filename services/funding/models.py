"""The tables of the funding service. They do not validate: requests do (schemas.py), and the rules (domain.py)."""

from datetime import date, datetime
from uuid import UUID

from sqlalchemy import BigInteger, Column, DateTime, ForeignKey, Index, MetaData, SmallInteger, Text, UniqueConstraint, Uuid, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import registry
from sqlmodel import Field, SQLModel


class Table(SQLModel, registry=registry(metadata=MetaData())):
    """Of this service alone: otherwise all SQLModel tables of a process share one metadata."""


def _instant() -> Column[datetime]:
    return Column(DateTime(timezone=True), nullable=False)


class Funder(Table, table=True):
    """`departement` is None for a funder that works everywhere."""

    __tablename__ = "funders"

    id: UUID = Field(primary_key=True)
    kind: str = Field(sa_type=Text)
    name: str = Field(sa_type=Text)
    departement: str | None = Field(sa_type=Text)
    siren: str | None = Field(sa_type=Text)
    siret: str | None = Field(sa_type=Text)
    version: int
    registered_at: datetime = Field(sa_column=_instant())


class Plan(Table, table=True):
    """Département and employer as the post had them when the plan was opened: who may read it does not change with the copy of posts."""

    __tablename__ = "plans"
    __table_args__ = (UniqueConstraint("post_id", "year"), Index("plans_departement", "departement", "id"))

    id: UUID = Field(primary_key=True)
    post_id: UUID
    departement: str = Field(sa_type=Text)
    employer_id: UUID
    year: int = Field(sa_type=SmallInteger)
    salary_cents: int = Field(sa_type=BigInteger)
    charges_cents: int = Field(sa_type=BigInteger)
    travel_cents: int = Field(sa_type=BigInteger)
    equipment_cents: int = Field(sa_type=BigInteger)
    overheads_cents: int = Field(sa_type=BigInteger)
    version: int
    opened_at: datetime = Field(sa_column=_instant())
    changed_at: datetime = Field(sa_column=_instant())


class Contribution(Table, table=True):
    __tablename__ = "contributions"
    __table_args__ = (
        Index("contributions_plan", "plan_id", "id"),
        # one in progress per funder and plan: a second one would be the same euro declared twice
        Index("contributions_one_each", "plan_id", "funder_id", unique=True, postgresql_where=text("status <> 'refused'")),
    )

    id: UUID = Field(primary_key=True)
    plan_id: UUID = Field(sa_column=Column(Uuid, ForeignKey("plans.id"), nullable=False))
    funder_id: UUID = Field(sa_column=Column(Uuid, ForeignKey("funders.id"), nullable=False))
    amount_cents: int = Field(sa_type=BigInteger)
    status: str = Field(sa_type=Text)
    changed_at: datetime = Field(sa_column=_instant())


class Agreement(Table, table=True):
    """`targets`: minutes to the first contact by urgency, as `urgency=minutes`."""

    __tablename__ = "agreements"
    __table_args__ = (Index("agreements_departement", "departement", "id"),)

    id: UUID = Field(primary_key=True)
    departement: str = Field(sa_type=Text)
    post_ids: list[UUID] = Field(sa_column=Column(ARRAY(Uuid), nullable=False))
    starts_on: date
    ends_on: date
    channels: list[str] = Field(sa_column=Column(ARRAY(Text), nullable=False))
    targets: list[str] = Field(sa_column=Column(ARRAY(Text), nullable=False))
    version: int
    signed_at: datetime = Field(sa_column=_instant())


class PostHeard(Table, table=True):
    """What partners said of a post, at its number: the newest one counts, and a restored source is forgotten after a number, to the row."""

    __tablename__ = "posts_heard"

    source: str = Field(primary_key=True, sa_type=Text)
    post_id: UUID = Field(primary_key=True)
    sequence: int = Field(primary_key=True, sa_type=BigInteger, sa_column_kwargs={"autoincrement": False})
    departement: str = Field(sa_type=Text)
    employer_id: UUID
    closed: bool


class ActivityHeard(Table, table=True):
    """A referral assigned to a post, or closed by it, at its number in the source's stream."""

    __tablename__ = "activity_heard"
    __table_args__ = (
        Index("activity_heard_post", "post_id", "year"),
        Index("activity_heard_referral", "referral_id"),
    )

    source: str = Field(primary_key=True, sa_type=Text)
    sequence: int = Field(primary_key=True, sa_type=BigInteger, sa_column_kwargs={"autoincrement": False})
    referral_id: UUID
    post_id: UUID
    what: str = Field(sa_type=Text)
    year: int = Field(sa_type=SmallInteger)
