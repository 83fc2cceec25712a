"""The register of erasures, and what is still kept, oldest first."""

import sqlalchemy as sa
from alembic import op

revision = "referrals_erasures"
down_revision = "referrals_0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "erasures",
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column("referral_id", sa.Uuid, sa.ForeignKey("referrals.id"), nullable=False),
        sa.Column("departement", sa.Text, nullable=False),
        sa.Column("person_ids", sa.ARRAY(sa.Uuid), nullable=False),
        sa.Column("whole", sa.Boolean, nullable=False),
        sa.Column("cause", sa.Text, nullable=False),
        sa.Column("erased_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("erased_by", sa.Text, nullable=False),
    )
    op.create_index("erasures_referral", "erasures", ["referral_id"])
    op.create_index("erasures_departement", "erasures", ["departement", "id"])
    op.create_table(
        "erasure_notices",
        sa.Column("erasure_id", sa.Uuid, sa.ForeignKey("erasures.id"), primary_key=True),
        sa.Column("stream", sa.Text, primary_key=True),
        sa.Column("event_id", sa.Text, nullable=False),
        sa.Column("epoch", sa.Integer),
        sa.Column("sequence", sa.BigInteger),
    )
    op.create_index("erasure_notices_unplaced", "erasure_notices", ["stream", "event_id"], postgresql_where=sa.text("sequence IS NULL"))
    op.create_index("referrals_kept", "referrals", ["received_at", "id"], postgresql_where=sa.text("status <> 'erased'"))


def downgrade() -> None:
    op.drop_index("referrals_kept", "referrals")
    op.drop_table("erasure_notices")
    op.drop_table("erasures")
