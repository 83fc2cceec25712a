"""The tables of the referrals service. They do not validate: requests do (schemas.py), and the rules (domain.py), here and in the folders.

What is sealed is opened only with its data key in the vault: one key per person, one per narrative.
"""

from datetime import date, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Boolean,
    Column,
    Date,
    DateTime,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Text,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import registry
from sqlmodel import Field, SQLModel


class Table(SQLModel, registry=registry(metadata=MetaData())):
    """Of this service alone: otherwise all SQLModel tables of a process share one metadata."""


def _instant(*, nullable: bool = False) -> Column[datetime]:
    return Column(DateTime(timezone=True), nullable=nullable)


def _texts() -> Column[list[str]]:
    return Column(ARRAY(Text), nullable=False)


def _ids() -> Column[list[UUID]]:
    return Column(ARRAY(Uuid), nullable=False)


def _sealed() -> Column[bytes]:
    return Column(LargeBinary, nullable=True)


WAITING = "first_contact_at IS NULL AND status IN ('unrouted', 'assigned', 'accepted')"
"""Of a referral that somebody is still to call."""


class Referral(Table, table=True):
    __tablename__ = "referrals"
    __table_args__ = (
        # a reference is of the unit, whoever sends it; without a unit, of the client
        Index("referrals_reference_unit", "external_reference", "unit_id", unique=True, postgresql_where=text("unit_id IS NOT NULL")),
        Index("referrals_reference_client", "external_reference", "client_id", unique=True, postgresql_where=text("unit_id IS NULL")),
        Index("referrals_post", "post_id", "received_at", "id"),
        Index("referrals_departement", "departement", "received_at", "id"),
        Index("referrals_received", "received_at", "id"),
        # worklists (worklists/pages.py): each list, by each filter, is a range of one of these
        Index("referrals_post_status", "post_id", "status", "received_at", "id"),
        Index("referrals_departement_status", "departement", "status", "received_at", "id"),
        Index("referrals_status", "status", "received_at", "id"),
        Index("referrals_client_status", "client_id", "status", "received_at", "id"),
        Index("referrals_commune", "commune", "received_at", "id"),
        Index("referrals_unit", "unit_id", "departement", "received_at", "id"),
        Index("referrals_theme", "principal_theme", "departement", "received_at", "id"),
        Index("referrals_departement_changed", "departement", "changed_at", "id"),
        Index("referrals_changed", "changed_at", "id"),
        Index("referrals_due", "departement", "due_at", "id", postgresql_where=text(WAITING)),
        Index("referrals_due_everywhere", "due_at", "id", postgresql_where=text(WAITING)),
        Index("referrals_due_unsaid", "due_at", "id", postgresql_where=text(f"{WAITING} AND NOT overdue_said")),
        Index("referrals_kept", "received_at", "id", postgresql_where=text("status <> 'erased'")),
    )

    id: UUID = Field(primary_key=True)
    client_id: str = Field(sa_type=Text)
    external_reference: str = Field(sa_type=Text)
    unit_id: UUID | None = Field(sa_column=Column(Uuid, nullable=True))
    commune: str = Field(sa_type=Text)
    departement: str = Field(sa_type=Text)
    channel: str = Field(sa_type=Text)
    urgency: str = Field(sa_type=Text)
    principal_theme: str = Field(sa_type=Text)
    themes: list[str] = Field(sa_column=_texts())
    penal: bool | None
    natinf: list[int] = Field(sa_column=Column(ARRAY(Integer), nullable=False))
    danger: bool
    children_present: int
    occurred_at: datetime = Field(sa_column=_instant())
    received_at: datetime = Field(sa_column=_instant())
    request_digest: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    narrative_key_id: UUID | None = Field(sa_column=Column(Uuid, nullable=True))
    narrative: bytes | None = Field(sa_column=_sealed())
    status: str = Field(sa_type=Text)
    post_id: UUID | None = Field(sa_column=Column(Uuid, nullable=True))
    routing: dict[str, Any] = Field(sa_column=Column(JSONB, nullable=False))
    first_contact_at: datetime | None = Field(sa_column=_instant(nullable=True))
    accepted_at: datetime | None = Field(sa_column=_instant(nullable=True))
    closed_at: datetime | None = Field(sa_column=_instant(nullable=True))
    close_reason: str | None = Field(sa_type=Text)
    declined_by: list[UUID] = Field(sa_column=_ids())
    """Posts that gave it back: it is not routed to them again."""
    decline_reason: str | None = Field(sa_type=Text)
    version: int
    due_from: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False, server_default=text("now()")))
    due_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False, server_default=text("now() + interval '72 hours'")))
    """Until when the first contact is to be attempted (delays/due.py)."""
    overdue_said: bool = Field(sa_column=Column(Boolean, nullable=False, server_default=text("false")))
    """Whether this due time was looked at since it passed."""
    changed_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False, server_default=text("now()")))
    """When it last got another version: written by the database (migration `referrals_worklists`)."""


class Person(Table, table=True):
    __tablename__ = "persons"
    __table_args__ = (
        Index("persons_referral", "referral_id", "position"),
        Index("persons_refused", "referral_id", postgresql_where=text("agreement = 'refused' AND content <> ''::bytea")),
        Index("persons_identity", "identity_hash", postgresql_where=text("identity_hash IS NOT NULL")),
    )

    id: UUID = Field(primary_key=True)
    referral_id: UUID = Field(sa_column=Column(Uuid, ForeignKey("referrals.id"), nullable=False))
    position: int
    role: str = Field(sa_type=Text)
    sex: str = Field(sa_type=Text)
    age_band: str = Field(sa_type=Text)
    agreement: str = Field(sa_type=Text)
    refused_at: datetime | None = Field(sa_column=_instant(nullable=True))
    """When a correction noted the refusal; none: it was refused at reception."""
    known_to_services: str = Field(sa_type=Text)
    key_id: UUID = Field(sa_column=Column(Uuid, nullable=False))
    content: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    """Sealed JSON: identity, birth, contact and safe-contact rules (schemas.PersonContent)."""
    identity_hash: bytes | None = Field(sa_column=_sealed())


class ContactAttempt(Table, table=True):
    __tablename__ = "contact_attempts"
    __table_args__ = (Index("contact_attempts_referral", "referral_id", "attempted_at"),)

    id: UUID = Field(primary_key=True)
    referral_id: UUID = Field(sa_column=Column(Uuid, ForeignKey("referrals.id"), nullable=False))
    person_id: UUID = Field(sa_column=Column(Uuid, nullable=False))
    post_id: UUID = Field(sa_column=Column(Uuid, nullable=False))
    mode: str = Field(sa_type=Text)
    result: str = Field(sa_type=Text)
    attempted_at: datetime = Field(sa_column=_instant())
    override_reason: str | None = Field(sa_type=Text)
    """Why a safe-contact rule was passed over, and which ones were."""
    overridden: list[str] = Field(sa_column=_texts())
    withdrawn_at: datetime | None = Field(default=None, sa_column=_instant(nullable=True))
    """It was noted by mistake; it stays, and counts no longer."""
    withdrawn_by: str | None = Field(default=None, sa_type=Text)
    withdrawn_because: str | None = Field(default=None, sa_type=Text)


class Interview(Table, table=True):
    __tablename__ = "interviews"
    __table_args__ = (Index("interviews_referral", "referral_id", "held_at"),)

    id: UUID = Field(primary_key=True)
    referral_id: UUID = Field(sa_column=Column(Uuid, ForeignKey("referrals.id"), nullable=False))
    post_id: UUID = Field(sa_column=Column(Uuid, nullable=False))
    person_ids: list[UUID] = Field(sa_column=_ids())
    place: str = Field(sa_type=Text)
    duration_minutes: int
    held_at: datetime = Field(sa_column=_instant())
    withdrawn_at: datetime | None = Field(default=None, sa_column=_instant(nullable=True))
    withdrawn_by: str | None = Field(default=None, sa_type=Text)
    withdrawn_because: str | None = Field(default=None, sa_type=Text)


class Assessment(Table, table=True):
    __tablename__ = "assessments"
    __table_args__ = (Index("assessments_referral", "referral_id", "recorded_at"),)

    id: UUID = Field(primary_key=True)
    referral_id: UUID = Field(sa_column=Column(Uuid, ForeignKey("referrals.id"), nullable=False))
    person_id: UUID = Field(sa_column=Column(Uuid, nullable=False))
    post_id: UUID = Field(sa_column=Column(Uuid, nullable=False))
    needs: list[str] = Field(sa_column=_texts())
    known_to_services: str = Field(sa_type=Text)
    recorded_at: datetime = Field(sa_column=_instant())


class Correction(Table, table=True):
    """Who corrected what, when, why. `changes`: the codes, places and dates before and after, by JSON pointer."""

    __tablename__ = "corrections"
    __table_args__ = (Index("corrections_referral", "referral_id", "corrected_at"),)

    id: UUID = Field(primary_key=True)
    referral_id: UUID = Field(sa_column=Column(Uuid, ForeignKey("referrals.id"), nullable=False))
    reason: str = Field(sa_type=Text)
    actor: str = Field(sa_type=Text)
    changes: dict[str, Any] = Field(sa_column=Column(JSONB, nullable=False))
    corrected_at: datetime = Field(sa_column=_instant())


class CorrectedContent(Table, table=True):
    """What was sealed before a correction, under the same key: it goes with the person, or with the narrative."""

    __tablename__ = "corrected_contents"

    correction_id: UUID = Field(sa_column=Column(Uuid, ForeignKey("corrections.id"), primary_key=True))
    key_id: UUID = Field(sa_column=Column(Uuid, primary_key=True))
    person_id: UUID | None = Field(sa_column=Column(Uuid, nullable=True))
    """None: the narrative."""
    before: bytes = Field(sa_column=Column(LargeBinary, nullable=False))


class Moved(Table, table=True):
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
    actor: str | None = Field(sa_type=Text)
    """The subject of the token; none: the service itself."""
    at: datetime = Field(sa_column=_instant())


class Orientation(Table, table=True):
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
        Index("orientations_service_open", "service_id", postgresql_where=text("status IN ('requested', 'accepted', 'in-progress')")),
        Index(
            "orientations_organization_open",
            "organization_id",
            "status",
            "expires_at",
            postgresql_where=text("status IN ('requested', 'accepted', 'in-progress')"),
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
    reason_text: bytes | None = Field(default=None, sa_column=_sealed())
    """What the partner wrote when it rejected, sealed under the key of the person."""
    outcome: str | None = Field(sa_type=Text)
    replaces_id: UUID | None = Field(sa_column=Column(Uuid, nullable=True))
    """The one that came to nothing, when the person was oriented again."""
    legal_ground: str | None = Field(sa_type=Text)
    """On what it was asked without the person's agreement."""
    requested_at: datetime = Field(sa_column=_instant())
    expires_at: datetime = Field(sa_column=_instant())
    reminded_at: datetime | None = Field(sa_column=_instant(nullable=True))
    answered_at: datetime | None = Field(sa_column=_instant(nullable=True))
    ended_at: datetime | None = Field(sa_column=_instant(nullable=True))
    version: int
    updated_at: datetime | None = Field(default=None, sa_column=_instant(nullable=True))
    """When what its partner reads last became another, while it lived."""


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
    person_ids: list[UUID] = Field(sa_column=_ids())
    whole: bool
    cause: str = Field(sa_type=Text)
    erased_at: datetime = Field(sa_column=_instant())
    erased_by: str = Field(sa_type=Text)
    completed_at: datetime | None = Field(default=None, sa_column=_instant(nullable=True))
    """When everybody who was told had acted on it."""


class AnnouncedEnd(Table, table=True):
    """A closed referral that the end of the retention will take, as it was announced. `counted_from`: its last contact; a later one voids the announcement."""

    __tablename__ = "announced_ends"
    __table_args__ = (Index("announced_ends_departement", "departement", "referral_id"),)

    referral_id: UUID = Field(sa_column=Column(Uuid, ForeignKey("referrals.id"), primary_key=True))
    departement: str = Field(sa_type=Text)
    counted_from: datetime = Field(sa_column=_instant())
    announced_at: datetime = Field(sa_column=_instant())


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
    acknowledged_at: datetime | None = Field(default=None, sa_column=_instant(nullable=True))
    """Since when nobody is waited for."""
    acknowledged_by: str | None = Field(default=None, sa_type=Text)
    """`stream`, `hand`, or `no_reader`: there is nobody to wait for."""
    confirmed_on: date | None = Field(default=None, sa_column=Column(Date, nullable=True))
    confirmed_how: str | None = Field(default=None, sa_type=Text)
    recorded_by: str | None = Field(default=None, sa_type=Text)
    """By hand: the day on which it was confirmed and how, and who wrote that down."""


class Alert(Table, table=True):
    """An information préoccupante (CASF L.226-2-1) or a report to the prosecutor, as it was sent. `content`: sealed JSON (reference, note), if any."""

    __tablename__ = "alerts"
    __table_args__ = (Index("alerts_referral", "referral_id", "sent_at", "id"),)

    id: UUID = Field(primary_key=True)
    referral_id: UUID = Field(sa_column=Column(Uuid, ForeignKey("referrals.id"), nullable=False))
    kind: str = Field(sa_type=Text)
    recipient: str = Field(sa_type=Text)
    """The commune where the court sits; empty: the CRIP of the département."""
    departement: str = Field(sa_type=Text)
    person_ids: list[UUID] = Field(sa_column=_ids())
    sent_at: datetime = Field(sa_column=_instant())
    recorded_at: datetime = Field(sa_column=_instant())
    recorded_by: str = Field(sa_type=Text)
    key_id: UUID | None = Field(sa_column=Column(Uuid, nullable=True))
    content: bytes | None = Field(sa_column=_sealed())
    withdrawn_at: datetime | None = Field(default=None, sa_column=_instant(nullable=True))
    """It was noted by mistake; it stays, and counts no longer."""
    withdrawn_by: str | None = Field(default=None, sa_type=Text)
    withdrawn_because: str | None = Field(default=None, sa_type=Text)


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
    person_ids: list[UUID] = Field(sa_column=_ids())
    asked: list[str] = Field(sa_column=_texts())
    handed_over: list[str] = Field(sa_column=_texts())
    received_at: datetime = Field(sa_column=_instant())
    handed_over_at: datetime | None = Field(sa_column=_instant(nullable=True))
    recorded_at: datetime = Field(sa_column=_instant())
    recorded_by: str = Field(sa_type=Text)
    corrects_id: UUID | None = Field(sa_column=Column(Uuid, ForeignKey("requisitions.id"), nullable=True))
    """The earlier entry that this one corrects or completes."""


class OrientationLink(Table, table=True):
    """A signed link by which a partner without account answers once. Of the token only its SHA-256 is here; one open link for an orientation."""

    __tablename__ = "orientation_links"
    __table_args__ = (
        Index("orientation_links_open", "orientation_id", unique=True, postgresql_where=text("used_at IS NULL AND revoked_at IS NULL")),
    )

    id: UUID = Field(primary_key=True)
    orientation_id: UUID = Field(sa_column=Column(Uuid, ForeignKey("orientations.id"), nullable=False))
    token_hash: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    created_at: datetime = Field(sa_column=_instant())
    expires_at: datetime = Field(sa_column=_instant())
    used_at: datetime | None = Field(sa_column=_instant(nullable=True))
    revoked_at: datetime | None = Field(sa_column=_instant(nullable=True))


class DeskSession(Table, table=True):
    """Who sits at the web desk. Of the browser's secret only its hash is here; `sealed` (the tokens) opens with that secret alone."""

    __tablename__ = "desk_sessions"
    __table_args__ = (Index("desk_sessions_end", "expires_at"),)

    id_hash: bytes = Field(sa_column=Column(LargeBinary, primary_key=True))
    sealed: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    purpose: str | None = Field(sa_type=Text)
    """Why persons' content is read in this session."""
    created_at: datetime = Field(sa_column=_instant())
    seen_at: datetime = Field(sa_column=_instant())
    expires_at: datetime = Field(sa_column=_instant())


class UnitHeard(Table, table=True):
    __tablename__ = "units_heard"
    __table_args__ = (Index("units_heard_communes", "communes", postgresql_using="gin"),)

    id: UUID = Field(primary_key=True)
    force: str = Field(sa_type=Text)
    communes: list[str] = Field(sa_column=_texts())


class PostHeard(Table, table=True):
    """`state`: filled, vacant, suspended or closed. While it is suspended: the last day of the absence, and who stands in."""

    __tablename__ = "posts_heard"

    id: UUID = Field(primary_key=True)
    departement: str = Field(sa_type=Text)
    employer_id: UUID = Field(sa_column=Column(Uuid, nullable=False))
    state: str = Field(sa_type=Text)
    full_time_percent: int
    channels: list[str] = Field(sa_column=_texts())
    units: list[UUID] = Field(sa_column=_ids())
    communes: list[str] = Field(sa_column=_texts())
    until_on: date | None = Field(default=None, sa_column=Column(Date, nullable=True))
    replacement_post_id: UUID | None = Field(default=None, sa_column=Column(Uuid, nullable=True))


class ServiceHeard(Table, table=True):
    __tablename__ = "services_heard"
    __table_args__ = (Index("services_heard_departement", "departement", postgresql_where=text("NOT closed")),)

    id: UUID = Field(primary_key=True)
    organization_id: UUID = Field(sa_column=Column(Uuid, nullable=False))
    departement: str = Field(sa_type=Text)
    kind: str = Field(sa_type=Text)
    needs: list[str] = Field(sa_column=_texts())
    communes: list[str] = Field(sa_column=_texts())
    capacity: int | None
    closed: bool


class AgreementHeard(Table, table=True):
    """Which channels an agreement lets its posts accept (empty: all), and its target delays in minutes by urgency."""

    __tablename__ = "agreements_heard"

    id: UUID = Field(primary_key=True)
    post_ids: list[UUID] = Field(sa_column=_ids())
    channels: list[str] = Field(sa_column=_texts())
    targets: dict[str, int] = Field(sa_column=Column(JSONB, nullable=False))
    starts_on: date = Field(sa_column=Column(Date, nullable=False))
    ends_on: date = Field(sa_column=Column(Date, nullable=False))


class RoutingDue(Table, table=True):
    """Départements whose coverage changed: their unrouted referrals are tried again."""

    __tablename__ = "routing_due"

    departement: str = Field(sa_type=Text, primary_key=True)
    marked_at: datetime = Field(sa_column=_instant())
