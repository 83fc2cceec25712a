"""Interviews, assessments, moves, and the overrides of safe-contact rules."""

import sqlalchemy as sa
from alembic import op

revision = "referrals_work"
down_revision = "referrals_notices"
branch_labels = None
depends_on = None


def _text(name: str, *, nullable: bool = False) -> sa.Column[object]:
    return sa.Column(name, sa.Text(), nullable=nullable)


def _id(name: str, *, nullable: bool = False) -> sa.Column[object]:
    return sa.Column(name, sa.Uuid, nullable=nullable)


def _of_referral(table: str, by: list[str], *columns: sa.Column[object]) -> None:
    op.create_table(
        table,
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column("referral_id", sa.Uuid, sa.ForeignKey("referrals.id"), nullable=False),
        *columns,
    )
    op.create_index(f"{table}_referral", table, ["referral_id", *by])


def _instant(name: str) -> sa.Column[object]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=False)


def _texts(name: str) -> sa.Column[object]:
    return sa.Column(name, sa.ARRAY(sa.Text), nullable=False)


def upgrade() -> None:
    op.add_column("contact_attempts", _text("override_reason", nullable=True))
    op.add_column("contact_attempts", sa.Column("overridden", sa.ARRAY(sa.Text), nullable=False, server_default="{}"))
    op.alter_column("contact_attempts", "overridden", server_default=None)
    _of_referral(
        "interviews",
        ["held_at"],
        _id("post_id"),
        sa.Column("person_ids", sa.ARRAY(sa.Uuid), nullable=False),
        _text("place"),
        sa.Column("duration_minutes", sa.Integer, nullable=False),
        _instant("held_at"),
    )
    _of_referral(
        "assessments",
        ["recorded_at"],
        _id("person_id"),
        _id("post_id"),
        _texts("needs"),
        _text("known_to_services"),
        _instant("recorded_at"),
    )
    _of_referral(
        "moves",
        ["at", "id"],
        _text("move"),
        _text("status_before"),
        _text("status_after"),
        _id("post_before", nullable=True),
        _id("post_after", nullable=True),
        _text("reason", nullable=True),
        _text("actor", nullable=True),
        _instant("at"),
    )


def downgrade() -> None:
    for table in ("moves", "assessments", "interviews"):
        op.drop_table(table)
    op.drop_column("contact_attempts", "overridden")
    op.drop_column("contact_attempts", "override_reason")
