"""The tables of erasure: the register, where each was said and who acknowledged it, the ends that were announced."""

from datetime import date, datetime
from uuid import UUID

from sqlalchemy import BigInteger, Column, Date, ForeignKey, Index, Text, Uuid, text
from sqlmodel import Field

from services.referrals.models import Table, ids, instant


class Erasure(Table, table=True):
    """The register of what was erased. `person_ids` name persons of whom nothing is left but counts."""

    __tablename__ = "erasures"
    __table_args__ = (
        Index("erasures_referral", "referral_id"),
        Index("erasures_departement", "departement", "id"),
        Index("erasures_waiting", "id", postgresql_where=text("completed_at IS NULL")),
    )

    id: UUID = Field(primary_key=True)
    referral_id: UUID = Field(sa_column=Column(Uuid, ForeignKey("referrals.id"), nullable=False))
    departement: str = Field(sa_type=Text)
    person_ids: list[UUID] = Field(sa_column=ids())
    whole: bool
    cause: str = Field(sa_type=Text)
    erased_at: datetime = Field(sa_column=instant())
    erased_by: str = Field(sa_type=Text)
    completed_at: datetime | None = Field(default=None, sa_column=instant(nullable=True))
    """When everybody who was told had acted on it."""


class AnnouncedEnd(Table, table=True):
    """A closed referral that the end of the retention will take, as it was announced. `counted_from`: its last contact; a later one voids the announcement."""

    __tablename__ = "announced_ends"
    __table_args__ = (Index("announced_ends_departement", "departement", "referral_id"),)

    referral_id: UUID = Field(sa_column=Column(Uuid, ForeignKey("referrals.id"), primary_key=True))
    departement: str = Field(sa_type=Text)
    counted_from: datetime = Field(sa_column=instant())
    announced_at: datetime = Field(sa_column=instant())


class ErasureNotice(Table, table=True):
    """In which stream an erasure was said, and under which number (`None` until the relay gave it one)."""

    __tablename__ = "erasure_notices"
    __table_args__ = (
        Index("erasure_notices_unplaced", "stream", "event_id", postgresql_where=text("sequence IS NULL")),
        Index("erasure_notices_waiting", "stream", postgresql_where=text("acknowledged_at IS NULL")),
    )

    erasure_id: UUID = Field(sa_column=Column(Uuid, ForeignKey("erasures.id"), primary_key=True))
    stream: str = Field(sa_type=Text, primary_key=True)
    event_id: str = Field(sa_type=Text)
    epoch: int | None
    sequence: int | None = Field(sa_type=BigInteger)
    acknowledged_at: datetime | None = Field(default=None, sa_column=instant(nullable=True))
    """Since when nobody is waited for."""
    acknowledged_by: str | None = Field(default=None, sa_type=Text)
    """`stream`, `hand`, or `no_reader`: there is nobody to wait for."""
    confirmed_on: date | None = Field(default=None, sa_column=Column(Date, nullable=True))
    confirmed_how: str | None = Field(default=None, sa_type=Text)
    recorded_by: str | None = Field(default=None, sa_type=Text)
    """By hand: the day on which it was confirmed and how, and who wrote that down."""
