"""The tables of orientations, and of the links by which they are answered."""

from datetime import datetime
from typing import Final
from uuid import UUID

from sqlalchemy import Column, ForeignKey, Index, LargeBinary, Text, Uuid, text
from sqlmodel import Field

from services.referrals.models import Authored, Table, instant, sealed

LIVING: Final = "status IN ('requested', 'accepted', 'in-progress')"
"""`ORIENTATION_LIVES` in SQL."""


class Orientation(Authored, table=True):
    __tablename__ = "orientations"
    __table_args__ = (
        Index("orientations_referral", "referral_id", "id"),
        Index("orientations_organization_requested", "organization_id", "requested_at", "id"),
        Index("orientations_organization_status", "organization_id", "status", "requested_at", "id"),
        Index("orientations_current_post_requested", "current_post_id", "requested_at", "id"),
        Index("orientations_current_post_status", "current_post_id", "status", "requested_at", "id"),
        Index("orientations_departement_requested", "departement", "requested_at", "id"),
        Index("orientations_departement_status", "departement", "status", "requested_at", "id"),
        Index("orientations_post", "post_id", "id"),
        Index("orientations_service_open", "service_id", postgresql_where=text(LIVING)),
        Index(
            "orientations_organization_open",
            "organization_id",
            "status",
            "expires_at",
            postgresql_where=text(LIVING),
        ),
        Index("orientations_waiting", "expires_at", postgresql_where=text("status = 'requested'")),
    )

    id: UUID = Field(primary_key=True)
    referral_id: UUID = Field(sa_column=Column(Uuid, ForeignKey("referrals.id"), nullable=False))
    departement: str = Field(sa_type=Text)
    """The referral's, as it is now; like the post that has it: kept by the database (migration `referrals_worklists`)."""
    current_post_id: UUID | None = Field(sa_column=Column(Uuid, nullable=True))
    person_id: UUID = Field(sa_column=Column(Uuid, nullable=False))
    post_id: UUID = Field(sa_column=Column(Uuid, nullable=False))
    service_id: UUID = Field(sa_column=Column(Uuid, nullable=False))
    organization_id: UUID = Field(sa_column=Column(Uuid, nullable=False))
    partner_kind: str = Field(sa_type=Text)
    need: str = Field(sa_type=Text)
    status: str = Field(sa_type=Text)
    reason: str | None = Field(sa_type=Text)
    reason_text: bytes | None = Field(default=None, sa_column=sealed())
    """What the partner wrote when it rejected, sealed under the key of the person."""
    outcome: str | None = Field(sa_type=Text)
    replaces_id: UUID | None = Field(sa_column=Column(Uuid, nullable=True))
    """The one that came to nothing, when the person was oriented again."""
    legal_ground: str | None = Field(sa_type=Text)
    """On what it was asked without the person's agreement."""
    requested_at: datetime = Field(sa_column=instant())
    expires_at: datetime = Field(sa_column=instant())
    reminded_at: datetime | None = Field(sa_column=instant(nullable=True))
    answered_at: datetime | None = Field(sa_column=instant(nullable=True))
    started_at: datetime | None = Field(default=None, sa_column=instant(nullable=True))
    ended_at: datetime | None = Field(sa_column=instant(nullable=True))
    version: int
    updated_at: datetime | None = Field(default=None, sa_column=instant(nullable=True))
    """When what its partner reads last became another, while it lived."""


class OrientationLink(Table, table=True):
    """A signed link by which a partner without account answers once. Of the token only its SHA-256 is here; one open link for an orientation."""

    __tablename__ = "orientation_links"
    __table_args__ = (
        Index("orientation_links_open", "orientation_id", unique=True, postgresql_where=text("used_at IS NULL AND revoked_at IS NULL")),
    )

    id: UUID = Field(primary_key=True)
    orientation_id: UUID = Field(sa_column=Column(Uuid, ForeignKey("orientations.id"), nullable=False))
    token_hash: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    created_at: datetime = Field(sa_column=instant())
    expires_at: datetime = Field(sa_column=instant())
    used_at: datetime | None = Field(sa_column=instant(nullable=True))
    revoked_at: datetime | None = Field(sa_column=instant(nullable=True))
