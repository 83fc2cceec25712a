"""The tables of the partners service. They do not validate: requests do (schemas.py), and the rules (domain.py)."""

from datetime import date, datetime
from uuid import UUID

from sqlalchemy import BigInteger, Column, DateTime, ForeignKey, Index, MetaData, SmallInteger, Text, Uuid, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import registry
from sqlmodel import Field, SQLModel


class Table(SQLModel, registry=registry(metadata=MetaData())):
    """Of this service alone: otherwise all SQLModel tables of a process share one metadata."""


def _texts(*, empty: bool = False) -> Column[list[str]]:
    """`empty`: where the writer says nothing, as a process of a release before the column does."""
    return Column(ARRAY(Text), nullable=False, server_default="{}" if empty else None)


def _instant(*, nullable: bool = False) -> Column[datetime]:
    return Column(DateTime(timezone=True), nullable=nullable)


class Organization(Table, table=True):
    __tablename__ = "organizations"
    __table_args__ = (
        # a closed organisation frees its SIRET
        Index("organizations_siret", "siret", unique=True, postgresql_where=text("closed_at IS NULL")),
        Index("organizations_departement", "departement", "id"),
    )

    id: UUID = Field(primary_key=True)
    departement: str = Field(sa_type=Text)
    name: str = Field(sa_type=Text)
    kind: str = Field(sa_type=Text)
    siret: str = Field(sa_type=Text)
    rna: str | None = Field(sa_type=Text)
    offence_data_allowed: bool
    version: int
    registered_at: datetime = Field(sa_column=_instant())
    changed_at: datetime = Field(sa_column=_instant())
    closed_at: datetime | None = Field(sa_column=_instant(nullable=True))


class Service(Table, table=True):
    __tablename__ = "services"
    __table_args__ = (
        Index("services_departement", "departement", "id"),
        Index("services_organization", "organization_id"),
        Index("services_communes", "communes", postgresql_using="gin"),
    )

    id: UUID = Field(primary_key=True)
    organization_id: UUID = Field(sa_column=Column(Uuid, ForeignKey("organizations.id"), nullable=False))
    departement: str = Field(sa_type=Text)
    name: str = Field(sa_type=Text)
    kind: str = Field(sa_type=Text)
    description: str | None = Field(sa_type=Text)
    themes: list[str] = Field(sa_column=_texts())
    needs: list[str] = Field(sa_column=_texts())
    communes: list[str] = Field(sa_column=_texts())
    """Empty: the whole département."""
    sexes: list[str] = Field(sa_column=_texts(empty=True))
    age_bands: list[str] = Field(sa_column=_texts(empty=True))
    """Empty: anybody, as of `sexes`."""
    capacity: int | None
    phone: str | None = Field(sa_type=Text)
    email: str | None = Field(sa_type=Text)
    url: str | None = Field(sa_type=Text)
    opening_hours: str | None = Field(sa_type=Text)
    version: int
    registered_at: datetime = Field(sa_column=_instant())
    changed_at: datetime = Field(sa_column=_instant())
    closed_at: datetime | None = Field(sa_column=_instant(nullable=True))


class Location(Table, table=True):
    """Where a service receives people; replaced with the service, in the order it gives them."""

    __tablename__ = "locations"

    service_id: UUID = Field(sa_column=Column(Uuid, ForeignKey("services.id"), primary_key=True))
    position: int = Field(sa_column=Column(SmallInteger, primary_key=True, autoincrement=False))
    id: UUID
    name: str = Field(sa_type=Text)
    address: str = Field(sa_type=Text)
    postcode: str = Field(sa_type=Text)
    commune: str = Field(sa_type=Text)


class Commune(Table, table=True):
    """INSEE's reference. A commune that leaves the list stays: software may know it by its old code."""

    __tablename__ = "communes"
    __table_args__ = (
        Index("communes_departement", "departement", "code"),
        Index("communes_postcodes", "postcodes", postgresql_using="gin"),
    )

    code: str = Field(sa_column=Column(Text, primary_key=True))
    name: str = Field(sa_type=Text)
    departement: str = Field(sa_type=Text)
    region: str = Field(sa_type=Text)
    population: int | None
    postcodes: list[str] = Field(sa_column=_texts())


class Unit(Table, table=True):
    __tablename__ = "units"
    __table_args__ = (Index("units_departement", "departement", "id"),)

    id: UUID = Field(primary_key=True)
    departement: str = Field(sa_type=Text)
    force: str = Field(sa_type=Text)
    kind: str = Field(sa_type=Text)
    code: str | None = Field(sa_type=Text)
    """The Interior's `id_service`; police rows have none."""
    label: str = Field(sa_type=Text)
    imported: bool
    """The jurisdiction file knows it: an import says where it is competent. A unit that only the directory knows (a company) is left alone."""
    version: int
    registered_at: datetime = Field(sa_column=_instant())
    changed_at: datetime = Field(sa_column=_instant())
    closed_at: datetime | None = Field(sa_column=_instant(nullable=True))


class UnitCommune(Table, table=True):
    """A unit is competent in a commune."""

    __tablename__ = "unit_communes"
    __table_args__ = (Index("unit_communes_commune", "commune"),)

    unit_id: UUID = Field(sa_column=Column(Uuid, ForeignKey("units.id"), primary_key=True))
    commune: str = Field(sa_column=Column(Text, primary_key=True))


class Post(Table, table=True):
    __tablename__ = "posts"
    __table_args__ = (
        Index("posts_departement", "departement", "id"),
        Index("posts_employer", "employer_id"),
        Index("posts_units", "units", postgresql_using="gin"),
        Index("posts_communes", "communes", postgresql_using="gin"),
        Index("posts_absent", "until_on", "id", postgresql_where=text("until_on IS NOT NULL")),
    )

    id: UUID = Field(primary_key=True)
    departement: str = Field(sa_type=Text)
    employer_id: UUID = Field(sa_column=Column(Uuid, ForeignKey("organizations.id"), nullable=False))
    force: str = Field(sa_type=Text)
    label: str = Field(sa_type=Text)
    full_time_percent: int = Field(sa_column=Column(SmallInteger, nullable=False))
    channels: list[str] = Field(sa_column=_texts())
    """Empty: every channel."""
    units: list[UUID] = Field(sa_column=Column(ARRAY(Uuid), nullable=False))
    communes: list[str] = Field(sa_column=_texts())
    """Covered directly, besides those of its units."""
    state: str = Field(sa_type=Text)
    suspended_from: str | None = Field(default=None, sa_type=Text)
    """While suspended: the state it goes back to at the end of the absence."""
    until_on: date | None = None
    """The last day of the absence."""
    replacement_post_id: UUID | None = Field(default=None, sa_column=Column(Uuid, ForeignKey("posts.id"), nullable=True))
    opened_on: date
    version: int
    opened_at: datetime = Field(sa_column=_instant())
    changed_at: datetime = Field(sa_column=_instant())
    closed_at: datetime | None = Field(sa_column=_instant(nullable=True))


class PlanHeard(Table, table=True):
    """Heard of funding: how a plan of a post stood at a place of its stream; the highest sequence is the present.

    A few rows a year for each post. Keeping them lets a restored source be forgotten after a number, to the row. `sequence` is 0 for a
    plan that was read in funding's list. No foreign key: there is no order between sources.
    """

    __tablename__ = "plans_heard"
    __table_args__ = (Index("plans_heard_post", "post_id", "year"),)

    source: str = Field(sa_column=Column(Text, primary_key=True))
    plan_id: UUID = Field(primary_key=True)
    sequence: int = Field(sa_column=Column(BigInteger, primary_key=True, autoincrement=False))
    post_id: UUID
    year: int = Field(sa_column=Column(SmallInteger, nullable=False))
    balanced: bool
    budget_cents: int = Field(sa_column=Column(BigInteger, nullable=False))
    funded_cents: int = Field(sa_column=Column(BigInteger, nullable=False))
    changed_at: datetime = Field(sa_column=_instant())


class OrientationAnswer(Table, table=True):
    """Heard of referrals: one service answered, or let expire, one orientation. Which one, and whose, is not kept.

    The place in the source's stream is the key: a restored source can be forgotten after a number, and nothing counts twice.
    """

    __tablename__ = "orientation_answers"
    __table_args__ = (Index("orientation_answers_service", "service_id", "answered_at"),)

    source: str = Field(sa_column=Column(Text, primary_key=True))
    sequence: int = Field(sa_column=Column(BigInteger, primary_key=True, autoincrement=False))
    service_id: UUID
    answer: str = Field(sa_type=Text)
    """`accepted`, `rejected` or `expired`."""
    delay_minutes: int | None
    answered_at: datetime = Field(sa_column=_instant())
