"""The tables of names. No foreign key to the copies: those come and go with what is heard, and a referral still names a unit that was closed."""

from datetime import datetime

from sqlalchemy import Column, Index, SmallInteger, Text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlmodel import Field

from services.referrals.models import Table, instant


class DirectoryName(Table, table=True):
    """How partners calls one item of one of its lists. `key`: its id, or a commune's code. `folded`: what a search compares with."""

    __tablename__ = "directory_names"
    __table_args__ = (Index("directory_names_departement", "kind", "departement"),)

    kind: str = Field(sa_type=Text, primary_key=True)
    key: str = Field(sa_type=Text, primary_key=True)
    departement: str = Field(sa_type=Text)
    name: str = Field(sa_type=Text)
    organization: str | None = Field(sa_column=Column(Text, nullable=True))
    """Whose service it is."""
    themes: list[str] = Field(sa_column=Column(ARRAY(Text), nullable=False))
    """Of a service: what it is for, in the words of reception."""
    folded: str = Field(sa_type=Text)


class DirectoryRead(Table, table=True):
    """When a list of a département is to be read next: at once when something of it was heard, else every few hours.

    `marks` counts what was heard: a list that was marked while it was being read is read again. `failures`: in a row.
    """

    __tablename__ = "directory_reads"

    kind: str = Field(sa_type=Text, primary_key=True)
    departement: str = Field(sa_type=Text, primary_key=True)
    due_at: datetime = Field(sa_column=instant())
    marks: int
    failures: int = Field(sa_column=Column(SmallInteger, nullable=False))
