"""The tables of child protection and justice."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import Column, ForeignKey, Index, LargeBinary, Text, Uuid
from sqlmodel import Field

from services.referrals.models import Table, Withdrawable, ids, instant, sealed, texts


class Alert(Withdrawable, table=True):
    """An information préoccupante (CASF L.226-2-1) or a report to the prosecutor, as it was sent. `content`: sealed JSON (reference, note), if any."""

    __tablename__ = "alerts"
    __table_args__ = (Index("alerts_referral", "referral_id", "sent_at", "id"),)

    id: UUID = Field(primary_key=True)
    referral_id: UUID = Field(sa_column=Column(Uuid, ForeignKey("referrals.id"), nullable=False))
    kind: str = Field(sa_type=Text)
    recipient: str = Field(sa_type=Text)
    """The commune where the court sits; empty: the CRIP of the département."""
    departement: str = Field(sa_type=Text)
    person_ids: list[UUID] = Field(sa_column=ids())
    sent_at: datetime = Field(sa_column=instant())
    recorded_at: datetime = Field(sa_column=instant())
    recorded_by: str = Field(sa_type=Text)
    recorded_by_role: str | None = Field(default=None, sa_type=Text)
    key_id: UUID | None = Field(sa_column=Column(Uuid, nullable=True))
    content: bytes | None = Field(sa_column=sealed())


class Requisition(Table, table=True):
    """The register of judicial requisitions, which only grows. `content`: sealed JSON (the authority's name, reference, scope in words)."""

    __tablename__ = "requisitions"
    __table_args__ = (
        Index("requisitions_referral", "referral_id", "id"),
        Index("requisitions_departement", "departement", "id"),
        Index("requisitions_corrects", "corrects_id", unique=True),
    )

    id: UUID = Field(primary_key=True)
    referral_id: UUID = Field(sa_column=Column(Uuid, ForeignKey("referrals.id"), nullable=False))
    departement: str = Field(sa_type=Text)
    ground: str = Field(sa_type=Text)
    authority: str = Field(sa_type=Text)
    key_id: UUID = Field(sa_column=Column(Uuid, nullable=False))
    content: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    person_ids: list[UUID] = Field(sa_column=ids())
    asked: list[str] = Field(sa_column=texts())
    handed_over: list[str] = Field(sa_column=texts())
    received_at: datetime = Field(sa_column=instant())
    handed_over_at: datetime | None = Field(sa_column=instant(nullable=True))
    recorded_at: datetime = Field(sa_column=instant())
    recorded_by: str = Field(sa_type=Text)
    corrects_id: UUID | None = Field(sa_column=Column(Uuid, ForeignKey("requisitions.id"), nullable=True))
    """The earlier entry that this one corrects or completes."""
