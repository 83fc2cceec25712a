"""Corrections with what was there before; who refused, until erased."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "referrals_corrections"
down_revision = "referrals_work"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "corrections",
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column("referral_id", sa.Uuid, sa.ForeignKey("referrals.id"), nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("changes", JSONB, nullable=False),
        sa.Column("corrected_at", sa.DateTime(timezone=True), nullable=False),
    )
    op.create_index("corrections_referral", "corrections", ["referral_id", "corrected_at"])
    op.create_table(
        "corrected_contents",
        sa.Column("correction_id", sa.Uuid, sa.ForeignKey("corrections.id"), primary_key=True),
        sa.Column("key_id", sa.Uuid, primary_key=True),
        sa.Column("person_id", sa.Uuid, nullable=True),
        sa.Column("before", sa.LargeBinary, nullable=False),
    )
    op.add_column("persons", sa.Column("refused_at", sa.DateTime(timezone=True), nullable=True))
    op.create_index(
        "persons_refused", "persons", ["referral_id"], postgresql_where=sa.text("agreement = 'refused' AND content <> ''::bytea")
    )


def downgrade() -> None:
    op.drop_index("persons_refused", "persons")
    op.drop_column("persons", "refused_at")
    op.drop_table("corrected_contents")
    op.drop_table("corrections")
