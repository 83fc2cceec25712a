"""The table of what was said to be overdue."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import Column, ForeignKey, Text, UniqueConstraint, Uuid
from sqlmodel import Field

from services.referrals.models import Table, instant


class Overdue(Table, table=True):
    """A due time that passed without a contact: said once each, to whoever had the referral then."""

    __tablename__ = "overdues"

    __table_args__ = (UniqueConstraint("referral_id", "due_at"),)

    id: UUID = Field(primary_key=True)
    referral_id: UUID = Field(sa_column=Column(Uuid, ForeignKey("referrals.id"), nullable=False))
    due_at: datetime = Field(sa_column=instant())
    urgency: str = Field(sa_type=Text)
    post_id: UUID | None = Field(sa_column=Column(Uuid, nullable=True))
    noticed_at: datetime = Field(sa_column=instant())
