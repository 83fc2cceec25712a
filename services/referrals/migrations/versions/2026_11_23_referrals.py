"""Referrals, persons, contact attempts, orientations, and the copies of what partners and funding said."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "referrals_0001"
down_revision = None
branch_labels = ("referrals",)
depends_on = "chassis_vault_0001"


def _text(name: str, *, nullable: bool = False, primary_key: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.Text, nullable=nullable, primary_key=primary_key)


def _id(name: str, *, nullable: bool = False) -> sa.Column[object]:
    return sa.Column(name, sa.Uuid, nullable=nullable)


def _key() -> sa.Column[object]:
    return sa.Column("id", sa.Uuid, primary_key=True)


def _referral() -> sa.Column[object]:
    return sa.Column("referral_id", sa.Uuid, sa.ForeignKey("referrals.id"), nullable=False)


def _instant(name: str, *, nullable: bool = False) -> sa.Column[object]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable)


def _whole(name: str, *, nullable: bool = False) -> sa.Column[int]:
    return sa.Column(name, sa.Integer, nullable=nullable)


def _texts(name: str) -> sa.Column[object]:
    return sa.Column(name, sa.ARRAY(sa.Text), nullable=False)


def _ids(name: str) -> sa.Column[object]:
    return sa.Column(name, sa.ARRAY(sa.Uuid), nullable=False)


def upgrade() -> None:
    op.create_table(
        "referrals",
        _key(),
        _text("client_id"),
        _text("external_reference"),
        _id("unit_id", nullable=True),
        _text("commune"),
        _text("departement"),
        _text("channel"),
        _text("urgency"),
        _text("principal_theme"),
        _texts("themes"),
        sa.Column("penal", sa.Boolean, nullable=True),
        sa.Column("natinf", sa.ARRAY(sa.Integer), nullable=False),
        sa.Column("danger", sa.Boolean, nullable=False),
        _whole("children_present"),
        _instant("occurred_at"),
        _instant("received_at"),
        sa.Column("request_digest", sa.LargeBinary, nullable=False),
        _id("narrative_key_id", nullable=True),
        sa.Column("narrative", sa.LargeBinary, nullable=True),
        _text("status"),
        _id("post_id", nullable=True),
        sa.Column("routing", JSONB, nullable=False),
        _instant("first_contact_at", nullable=True),
        _instant("accepted_at", nullable=True),
        _instant("closed_at", nullable=True),
        _text("close_reason", nullable=True),
        _ids("declined_by"),
        _text("decline_reason", nullable=True),
        _whole("version"),
    )
    op.create_index(
        "referrals_reference",
        "referrals",
        ["client_id", sa.text("coalesce(unit_id, '00000000-0000-0000-0000-000000000000'::uuid)"), "external_reference"],
        unique=True,
    )
    op.create_index("referrals_post", "referrals", ["post_id", "received_at", "id"])
    op.create_index("referrals_departement", "referrals", ["departement", "received_at", "id"])
    op.create_index("referrals_received", "referrals", ["received_at", "id"])
    op.create_index("referrals_client", "referrals", ["client_id", "received_at", "id"])
    op.create_index("referrals_load", "referrals", ["post_id"], postgresql_where=sa.text("status IN ('assigned', 'accepted')"))
    op.create_index("referrals_unrouted", "referrals", ["departement"], postgresql_where=sa.text("status = 'unrouted'"))
    op.create_table(
        "persons",
        _key(),
        _referral(),
        _whole("position"),
        _text("role"),
        _text("sex"),
        _text("age_band"),
        _text("agreement"),
        _text("known_to_services"),
        _id("key_id"),
        sa.Column("content", sa.LargeBinary, nullable=False),
        sa.Column("identity_hash", sa.LargeBinary, nullable=True),
    )
    op.create_index("persons_referral", "persons", ["referral_id", "position"])
    op.create_index("persons_identity", "persons", ["identity_hash"], postgresql_where=sa.text("identity_hash IS NOT NULL"))
    op.create_table(
        "contact_attempts",
        _key(),
        _referral(),
        _id("person_id"),
        _id("post_id"),
        _text("mode"),
        _text("result"),
        _instant("attempted_at"),
    )
    op.create_index("contact_attempts_referral", "contact_attempts", ["referral_id", "attempted_at"])
    op.create_table(
        "orientations",
        _key(),
        _referral(),
        _id("person_id"),
        _id("post_id"),
        _id("service_id"),
        _id("organization_id"),
        _text("partner_kind"),
        _text("need"),
        _text("status"),
        _text("reason", nullable=True),
        _text("outcome", nullable=True),
        _instant("requested_at"),
        _instant("expires_at"),
        _instant("answered_at", nullable=True),
        _instant("ended_at", nullable=True),
        _whole("version"),
    )
    op.create_index("orientations_referral", "orientations", ["referral_id", "id"])
    op.create_index("orientations_organization", "orientations", ["organization_id", "id"])
    op.create_index("orientations_post", "orientations", ["post_id", "id"])
    op.create_index(
        "orientations_service_open",
        "orientations",
        ["service_id"],
        postgresql_where=sa.text("status IN ('requested', 'accepted', 'in-progress')"),
    )
    op.create_index("orientations_waiting", "orientations", ["expires_at"], postgresql_where=sa.text("status = 'requested'"))
    op.create_table("units_heard", _key(), _text("force"), _texts("communes"))
    op.create_index("units_heard_communes", "units_heard", ["communes"], postgresql_using="gin")
    op.create_table(
        "posts_heard",
        _key(),
        _text("departement"),
        _id("employer_id"),
        _text("state"),
        _whole("full_time_percent"),
        _texts("channels"),
        _ids("units"),
        _texts("communes"),
    )
    op.create_table(
        "services_heard",
        _key(),
        _id("organization_id"),
        _text("departement"),
        _text("kind"),
        _texts("needs"),
        _texts("communes"),
        _whole("capacity", nullable=True),
        sa.Column("closed", sa.Boolean, nullable=False),
    )
    op.create_table(
        "agreements_heard",
        _key(),
        _ids("post_ids"),
        _texts("channels"),
        sa.Column("targets", JSONB, nullable=False),
        sa.Column("starts_on", sa.Date, nullable=False),
        sa.Column("ends_on", sa.Date, nullable=False),
    )
    op.create_table("routing_due", _text("departement", primary_key=True), _instant("marked_at"))


def downgrade() -> None:
    for table in (
        "routing_due",
        "agreements_heard",
        "services_heard",
        "posts_heard",
        "units_heard",
        "orientations",
        "contact_attempts",
        "persons",
        "referrals",
    ):
        op.drop_table(table)
