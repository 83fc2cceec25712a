"""The tables of the referrals service. They do not validate: requests do (schemas.py), and the rules (domain.py), here and in the folders.

What is sealed is opened only with its data key in the vault: one key per person, one per narrative.
"""

from datetime import date, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ARRAY, Boolean, Column, Date, DateTime, ForeignKey, Index, Integer, LargeBinary, MetaData, Text, Uuid, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import registry
from sqlmodel import Field, SQLModel


class Table(SQLModel, registry=registry(metadata=MetaData())):
    """Of this service alone: otherwise all SQLModel tables of a process share one metadata."""


def instant(*, nullable: bool = False) -> Column[datetime]:
    return Column(DateTime(timezone=True), nullable=nullable)


def texts(*, empty: bool = False) -> Column[list[str]]:
    """`empty`: where the writer says nothing, as a process of a release before the column does."""
    return Column(ARRAY(Text), nullable=False, server_default="{}" if empty else None)


def ids() -> Column[list[UUID]]:
    return Column(ARRAY(Uuid), nullable=False)


def sealed() -> Column[bytes]:
    return Column(LargeBinary, nullable=True)


class Authored(Table):
    """Who did it: the subject of the token and its role. None: the service itself, or an earlier version, which did not keep it."""

    actor: str | None = Field(default=None, sa_type=Text)
    actor_role: str | None = Field(default=None, sa_type=Text)


class Withdrawable(Table):
    """What was noted by mistake is withdrawn: it stays, and counts no longer."""

    withdrawn_at: datetime | None = Field(default=None, sa_type=DateTime(timezone=True))
    withdrawn_by: str | None = Field(default=None, sa_type=Text)
    withdrawn_by_role: str | None = Field(default=None, sa_type=Text)
    withdrawn_because: str | None = Field(default=None, sa_type=Text)


OPEN = "status IN ('unrouted', 'assigned', 'accepted')"
WAITING = f"awaits_contact AND {OPEN}"
"""Of a referral of which somebody is still to be called (working/helping.py)."""
TURN = "((urgency <> 'immediate'::text AND NOT danger)::integer * 2 + (NOT awaits_contact)::integer)"
"""In which turn an open referral is worked; within it, by its due time. 0: urgent, and somebody is still to be called; 1: urgent; 2: somebody is to be called;
3: the others."""
TURN_FILTERS = ["status", "urgency", "danger", "awaits_contact", "post_id", "unit_id", "commune", "principal_theme"]
"""What open referrals are filtered by, and what their turn is made of: in the index, so that what is passed over is not fetched."""


class Referral(Table, table=True):
    __tablename__ = "referrals"
    __table_args__ = (
        # a reference is of the unit that gave it, whoever sends it and whatever is corrected since; without a unit, of the client
        Index(
            "referrals_reference_unit",
            "external_reference",
            "first_unit_id",
            unique=True,
            postgresql_where=text("first_unit_id IS NOT NULL"),
        ),
        Index("referrals_reference_client", "external_reference", "client_id", unique=True, postgresql_where=text("first_unit_id IS NULL")),
        Index("referrals_post", "post_id", "received_at", "id"),
        Index("referrals_departement", "departement", "received_at", "id"),
        Index("referrals_received", "received_at", "id"),
        # worklists (worklists/pages.py): each list, by each filter, is a range of one of these
        Index("referrals_post_status", "post_id", "status", "received_at", "id"),
        Index("referrals_departement_status", "departement", "status", "received_at", "id"),
        Index("referrals_status", "status", "received_at", "id"),
        Index("referrals_client_status", "client_id", "status", "received_at", "id", postgresql_include=["contacted"]),
        Index("referrals_commune", "commune", "received_at", "id"),
        Index("referrals_unit", "unit_id", "departement", "received_at", "id"),
        Index("referrals_theme", "principal_theme", "departement", "received_at", "id"),
        Index("referrals_departement_changed", "departement", "changed_at", "id", postgresql_include=["status"]),
        Index("referrals_changed", "changed_at", "id", postgresql_include=["status"]),
        Index("referrals_due_everywhere", "due_at", "id", postgresql_where=text(WAITING)),
        Index("referrals_due_unsaid", "due_at", "id", postgresql_where=text(f"{WAITING} AND NOT overdue_said")),
        Index("referrals_turn_post", "post_id", text(TURN), "due_at", "id", postgresql_where=text(OPEN), postgresql_include=TURN_FILTERS),
        Index(
            "referrals_turn_departement",
            "departement",
            text(TURN),
            "due_at",
            "id",
            postgresql_where=text(OPEN),
            postgresql_include=TURN_FILTERS,
        ),
        Index("referrals_turn", text(TURN), "due_at", "id", postgresql_where=text(OPEN), postgresql_include=TURN_FILTERS),
        Index("referrals_kept", "received_at", "id", postgresql_where=text("status <> 'erased'")),
        Index("referrals_given_up", "given_up_at", postgresql_where=text("given_up_at IS NOT NULL")),
        Index("referrals_duplicates", "duplicate_of", postgresql_where=text("duplicate_of IS NOT NULL")),
        Index("referrals_linked", "received_at", "id", postgresql_where=text("status = 'erased' AND client_id <> ''")),
    )

    id: UUID = Field(primary_key=True)
    client_id: str = Field(sa_type=Text)
    """Who sent it; empty from the end of its retention on, when the reference goes too (rights/retention.py)."""
    external_reference: str = Field(sa_type=Text)
    first_unit_id: UUID | None = Field(sa_column=Column(Uuid, nullable=True))
    """As it was received: the unit that gave the reference, and under which the police looks for it."""
    unit_id: UUID | None = Field(sa_column=Column(Uuid, nullable=True))
    commune: str = Field(sa_type=Text)
    departement: str = Field(sa_type=Text)
    channel: str = Field(sa_type=Text)
    urgency: str = Field(sa_type=Text)
    principal_theme: str = Field(sa_type=Text)
    themes: list[str] = Field(sa_column=texts())
    penal: bool | None
    natinf: list[int] = Field(sa_column=Column(ARRAY(Integer), nullable=False))
    danger: bool
    children_present: int
    occurred_at: datetime = Field(sa_column=instant())
    received_at: datetime = Field(sa_column=instant())
    request_digest: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    narrative_key_id: UUID | None = Field(sa_column=Column(Uuid, nullable=True))
    narrative: bytes | None = Field(sa_column=sealed())
    status: str = Field(sa_type=Text)
    post_id: UUID | None = Field(sa_column=Column(Uuid, nullable=True))
    routing: dict[str, Any] = Field(sa_column=Column(JSONB, nullable=False))
    first_contact_at: datetime | None = Field(sa_column=instant(nullable=True))
    """The first attempt to contact somebody whom it is there to help."""
    awaits_contact: bool = Field(default=True, sa_column=Column(Boolean, nullable=False, server_default=text("true")))
    """Somebody may be called, and none of those whom it is there to help was since it was received, or closed before it was last reopened; or one of them
    joined later, and was not yet."""
    contacted: bool = Field(default=False, sa_column=Column(Boolean, nullable=False, server_default=text("false")))
    """One of those was reached since then, and the police told so."""
    accepted_at: datetime | None = Field(sa_column=instant(nullable=True))
    closed_at: datetime | None = Field(sa_column=instant(nullable=True))
    close_reason: str | None = Field(sa_type=Text)
    duplicate_of: UUID | None = Field(default=None, sa_column=Column(Uuid, nullable=True))
    """The one that it repeats, while it is closed as its duplicate and that was named."""
    given_up_at: datetime | None = Field(default=None, sa_column=instant(nullable=True))
    """When a partner last gave up after it was closed; none again once it is reopened."""
    declined_by: list[UUID] = Field(sa_column=ids())
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
        Index("persons_name", "name_hash", postgresql_where=text("name_hash IS NOT NULL")),
    )

    id: UUID = Field(primary_key=True)
    referral_id: UUID = Field(sa_column=Column(Uuid, ForeignKey("referrals.id"), nullable=False))
    position: int
    role: str = Field(sa_type=Text)
    sex: str = Field(sa_type=Text)
    age_band: str = Field(sa_type=Text)
    agreement: str = Field(sa_type=Text)
    refused_at: datetime | None = Field(sa_column=instant(nullable=True))
    """When a correction noted the refusal; none: it was refused at reception."""
    known_to_services: str = Field(sa_type=Text)
    key_id: UUID = Field(sa_column=Column(Uuid, nullable=False))
    content: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    """Sealed JSON: identity, birth, contact and safe-contact rules (schemas.PersonContent)."""
    identity_hash: bytes | None = Field(sa_column=sealed())
    """Of the names and the birth date, keyed; none where one of them is missing (persons.hashes_of)."""
    name_hash: bytes | None = Field(default=None, sa_column=sealed())
    """Of the names alone."""
    joined_at: datetime | None = Field(default=None, sa_column=instant(nullable=True))
    """When a correction added them, or said that they are a victim: they are to be called from then on. None: as named at reception."""


class DeskSession(Table, table=True):
    """Who sits at the web desk. Of the browser's secret only its hash is here; `sealed` (the tokens) opens with that secret alone."""

    __tablename__ = "desk_sessions"
    __table_args__ = (Index("desk_sessions_end", "expires_at"),)

    id_hash: bytes = Field(sa_column=Column(LargeBinary, primary_key=True))
    sealed: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    purpose: str | None = Field(sa_type=Text)
    """Why persons' content is read in this session."""
    created_at: datetime = Field(sa_column=instant())
    seen_at: datetime = Field(sa_column=instant())
    expires_at: datetime = Field(sa_column=instant())
    renewing_until: datetime | None = Field(sa_column=instant(nullable=True))
    """One request asks the provider for new tokens, with no transaction open; until then the others wait for it."""


class DeskKeptForm(Table, table=True):
    """What was written in a form whose session was over (desk/kept.py). `owner` is a keyed hash of who wrote it; their key opens `sealed`."""

    __tablename__ = "desk_kept_forms"
    __table_args__ = (Index("desk_kept_forms_end", "ends_at"),)

    owner: bytes = Field(sa_column=Column(LargeBinary, primary_key=True))
    path: str = Field(sa_type=Text, primary_key=True)
    key: str = Field(sa_type=Text)
    """Of the form: sent again under the same one, it is forgotten here, and taken once."""
    sealed: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    ends_at: datetime = Field(sa_column=instant())


class UnitHeard(Table, table=True):
    """Once it is closed nothing is routed by it; of what force it was stays, for the referrals that it sent."""

    __tablename__ = "units_heard"
    __table_args__ = (Index("units_heard_communes", "communes", postgresql_using="gin"),)

    id: UUID = Field(primary_key=True)
    force: str = Field(sa_type=Text)
    communes: list[str] = Field(sa_column=texts())
    closed: bool = Field(default=False, sa_column=Column(Boolean, nullable=False, server_default=text("false")))


class PostHeard(Table, table=True):
    """`state`: filled, vacant, suspended or closed. While it is suspended: the last day of the absence, and who stands in."""

    __tablename__ = "posts_heard"

    id: UUID = Field(primary_key=True)
    departement: str = Field(sa_type=Text)
    employer_id: UUID = Field(sa_column=Column(Uuid, nullable=False))
    state: str = Field(sa_type=Text)
    full_time_percent: int
    channels: list[str] = Field(sa_column=texts())
    units: list[UUID] = Field(sa_column=ids())
    communes: list[str] = Field(sa_column=texts())
    until_on: date | None = Field(default=None, sa_column=Column(Date, nullable=True))
    replacement_post_id: UUID | None = Field(default=None, sa_column=Column(Uuid, nullable=True))


class ServiceHeard(Table, table=True):
    __tablename__ = "services_heard"
    __table_args__ = (Index("services_heard_departement", "departement", postgresql_where=text("NOT closed")),)

    id: UUID = Field(primary_key=True)
    organization_id: UUID = Field(sa_column=Column(Uuid, nullable=False))
    departement: str = Field(sa_type=Text)
    kind: str = Field(sa_type=Text)
    needs: list[str] = Field(sa_column=texts())
    communes: list[str] = Field(sa_column=texts())
    capacity: int | None
    closed: bool
    sexes: list[str] = Field(sa_column=texts(empty=True))
    age_bands: list[str] = Field(sa_column=texts(empty=True))
    """Whom it takes, as `sexes`; empty: anybody."""


class AgreementHeard(Table, table=True):
    """Which channels an agreement lets its posts accept (empty: all), and its target delays in minutes by urgency."""

    __tablename__ = "agreements_heard"

    id: UUID = Field(primary_key=True)
    post_ids: list[UUID] = Field(sa_column=ids())
    channels: list[str] = Field(sa_column=texts())
    targets: dict[str, int] = Field(sa_column=Column(JSONB, nullable=False))
    starts_on: date = Field(sa_column=Column(Date, nullable=False))
    ends_on: date = Field(sa_column=Column(Date, nullable=False))


class RoutingDue(Table, table=True):
    """Départements whose coverage, or a post's presence, changed: the referrals that nobody has are tried again (receiving/routing.py)."""

    __tablename__ = "routing_due"

    departement: str = Field(sa_type=Text, primary_key=True)
    marked_at: datetime = Field(sa_column=instant())
