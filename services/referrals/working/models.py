"""The tables of work: moves, contacts, interviews, assessments, corrections."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Column, ForeignKey, Index, LargeBinary, Text, Uuid
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field

from services.referrals.models import Authored, Table, Withdrawable, ids, instant, texts


class ContactAttempt(Authored, Withdrawable, table=True):
    __tablename__ = "contact_attempts"
    __table_args__ = (Index("contact_attempts_referral", "referral_id", "attempted_at"),)

    id: UUID = Field(primary_key=True)
    referral_id: UUID = Field(sa_column=Column(Uuid, ForeignKey("referrals.id"), nullable=False))
    person_id: UUID = Field(sa_column=Column(Uuid, nullable=False))
    post_id: UUID = Field(sa_column=Column(Uuid, nullable=False))
    mode: str = Field(sa_type=Text)
    result: str = Field(sa_type=Text)
    attempted_at: datetime = Field(sa_column=instant())
    override_reason: str | None = Field(sa_type=Text)
    """Why a safe-contact rule was passed over, and which ones were."""
    overridden: list[str] = Field(sa_column=texts())
    correction_id: UUID | None = Field(default=None, sa_column=Column(Uuid, ForeignKey("corrections.id"), nullable=True))
    """By which the person's agreement became what they said then."""


class Interview(Authored, Withdrawable, table=True):
    __tablename__ = "interviews"
    __table_args__ = (Index("interviews_referral", "referral_id", "held_at"),)

    id: UUID = Field(primary_key=True)
    referral_id: UUID = Field(sa_column=Column(Uuid, ForeignKey("referrals.id"), nullable=False))
    post_id: UUID = Field(sa_column=Column(Uuid, nullable=False))
    person_ids: list[UUID] = Field(sa_column=ids())
    place: str = Field(sa_type=Text)
    duration_minutes: int
    held_at: datetime = Field(sa_column=instant())


class Assessment(Authored, Withdrawable, table=True):
    __tablename__ = "assessments"
    __table_args__ = (Index("assessments_referral", "referral_id", "recorded_at"),)

    id: UUID = Field(primary_key=True)
    referral_id: UUID = Field(sa_column=Column(Uuid, ForeignKey("referrals.id"), nullable=False))
    person_id: UUID = Field(sa_column=Column(Uuid, nullable=False))
    post_id: UUID = Field(sa_column=Column(Uuid, nullable=False))
    needs: list[str] = Field(sa_column=texts())
    known_to_services: str = Field(sa_type=Text)
    known_before: str | None = Field(default=None, sa_type=Text)
    """What was known of the person before it; `None`: it was written by an earlier version, which did not keep it."""
    recorded_at: datetime = Field(sa_column=instant())


class Correction(Table, table=True):
    """Who corrected what, when, why. `changes`: the codes, places and dates before and after, by JSON pointer."""

    __tablename__ = "corrections"
    __table_args__ = (Index("corrections_referral", "referral_id", "corrected_at"),)

    id: UUID = Field(primary_key=True)
    referral_id: UUID = Field(sa_column=Column(Uuid, ForeignKey("referrals.id"), nullable=False))
    reason: str = Field(sa_type=Text)
    actor: str = Field(sa_type=Text)
    actor_role: str | None = Field(default=None, sa_type=Text)
    changes: dict[str, Any] = Field(sa_column=Column(JSONB, nullable=False))
    corrected_at: datetime = Field(sa_column=instant())


class CorrectedContent(Table, table=True):
    """What was sealed before a correction, under the same key: it goes with the person, or with the narrative."""

    __tablename__ = "corrected_contents"

    correction_id: UUID = Field(sa_column=Column(Uuid, ForeignKey("corrections.id"), primary_key=True))
    key_id: UUID = Field(sa_column=Column(Uuid, primary_key=True))
    person_id: UUID | None = Field(sa_column=Column(Uuid, nullable=True))
    """None: the narrative."""
    before: bytes = Field(sa_column=Column(LargeBinary, nullable=False))


class Moved(Authored, table=True):
    """A move from one state or post to another. The first state and post of a referral are those before its first row (reception writes none)."""

    __tablename__ = "moves"
    __table_args__ = (Index("moves_referral", "referral_id", "at", "id"),)

    id: UUID = Field(primary_key=True)
    referral_id: UUID = Field(sa_column=Column(Uuid, ForeignKey("referrals.id"), nullable=False))
    move: str = Field(sa_type=Text)
    status_before: str = Field(sa_type=Text)
    status_after: str = Field(sa_type=Text)
    post_before: UUID | None = Field(sa_column=Column(Uuid, nullable=True))
    post_after: UUID | None = Field(sa_column=Column(Uuid, nullable=True))
    reason: str | None = Field(sa_type=Text)
    duplicate_of: UUID | None = Field(default=None, sa_column=Column(Uuid, nullable=True))
    """Of a closing as a duplicate: the referral that was named as the original."""
    at: datetime = Field(sa_column=instant())
