"""The tables of notices: who wants to be told and how, what there is to tell, and the mails that tell it."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import Column, Index, LargeBinary, Text, Uuid, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlmodel import Field

from services.referrals.models import Table, instant


class NoticePreference(Table, table=True):
    """`recipient`: "post:<id>", "departement:95" or "organization:<id>". The address is sealed with a key of its own."""

    __tablename__ = "notice_preferences"

    recipient: str = Field(sa_type=Text, primary_key=True)
    key_id: UUID = Field(sa_column=Column(Uuid, nullable=False))
    address: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    mode: str = Field(sa_type=Text)
    by_link: bool
    own: bool
    """Set by the recipient itself: nobody else changes it any more."""
    left_out: list[str] = Field(sa_column=Column(ARRAY(Text), nullable=False, server_default="{}"))
    """Kinds that it does not want to be told; what is urgent is told all the same."""
    updated_at: datetime = Field(sa_column=instant())
    version: int


class NoticeRow(Table, table=True):
    """One thing to tell one recipient. Ids and codes only."""

    __tablename__ = "notices"
    __table_args__ = (
        Index("notices_cause", "cause", "recipient", unique=True),
        Index("notices_waiting", "due_at", postgresql_where=text("mail_id IS NULL")),
        Index("notices_waiting_of", "recipient", postgresql_where=text("mail_id IS NULL")),
        Index("notices_mail", "mail_id", postgresql_where=text("mail_id IS NOT NULL")),
    )

    id: UUID = Field(primary_key=True)
    cause: str = Field(sa_type=Text)
    recipient: str = Field(sa_type=Text)
    kind: str = Field(sa_type=Text)
    referral_id: UUID | None = Field(sa_column=Column(Uuid, nullable=True))
    orientation_id: UUID | None = Field(sa_column=Column(Uuid, nullable=True))
    link_id: UUID | None = Field(sa_column=Column(Uuid, nullable=True))
    created_at: datetime = Field(sa_column=instant())
    due_at: datetime = Field(sa_column=instant())
    mail_id: UUID | None = Field(sa_column=Column(Uuid, nullable=True))


class NoticeMail(Table, table=True):
    """`state`: waiting, sent, withdrawn (the recipient wants none any more) or abandoned (its address is refused for good: it waits for another)."""

    __tablename__ = "notice_mails"
    __table_args__ = (
        Index("notice_mails_waiting", "next_attempt_at", postgresql_where=text("state = 'waiting'")),
        Index("notice_mails_recipient", "recipient", "created_at"),
    )

    id: UUID = Field(primary_key=True)
    recipient: str = Field(sa_type=Text)
    created_at: datetime = Field(sa_column=instant())
    state: str = Field(sa_type=Text)
    attempts: int
    next_attempt_at: datetime = Field(sa_column=instant())
    sent_at: datetime | None = Field(sa_column=instant(nullable=True))
    last_failure: str | None = Field(sa_type=Text)
