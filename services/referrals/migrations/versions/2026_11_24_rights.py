"""Who has acted on an erasure; what was sent for a child's protection or to the prosecutor; the register of judicial requisitions."""

import sqlalchemy as sa
from alembic import op

revision = "referrals_rights"
down_revision = "referrals_orientations"
branch_labels = None
depends_on = "chassis_readers_0001"


def _instant(name: str, *, nullable: bool = False) -> sa.Column[object]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable)


def _referral() -> sa.Column[object]:
    return sa.Column("referral_id", sa.Uuid, sa.ForeignKey("referrals.id"), nullable=False)


def upgrade() -> None:
    op.add_column("erasures", _instant("completed_at", nullable=True))
    op.add_column("erasure_notices", _instant("acknowledged_at", nullable=True))
    op.create_index("erasures_waiting", "erasures", ["id"], postgresql_where=sa.text("completed_at IS NULL"))
    op.create_index("erasure_notices_waiting", "erasure_notices", ["stream"], postgresql_where=sa.text("acknowledged_at IS NULL"))
    op.create_table(
        "alerts",
        sa.Column("id", sa.Uuid, primary_key=True),
        _referral(),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("recipient", sa.Text, nullable=False),
        sa.Column("departement", sa.Text, nullable=False),
        sa.Column("person_ids", sa.ARRAY(sa.Uuid), nullable=False),
        _instant("sent_at"),
        _instant("recorded_at"),
        sa.Column("recorded_by", sa.Text, nullable=False),
    )
    op.create_index("alerts_referral", "alerts", ["referral_id", "sent_at", "id"])
    op.create_table(
        "requisitions",
        sa.Column("id", sa.Uuid, primary_key=True),
        _referral(),
        sa.Column("departement", sa.Text, nullable=False),
        sa.Column("ground", sa.Text, nullable=False),
        sa.Column("key_id", sa.Uuid, nullable=False),
        sa.Column("content", sa.LargeBinary, nullable=False),
        sa.Column("person_ids", sa.ARRAY(sa.Uuid), nullable=False),
        sa.Column("handed_over", sa.ARRAY(sa.Text), nullable=False),
        _instant("received_at"),
        _instant("handed_over_at", nullable=True),
        _instant("recorded_at"),
        sa.Column("recorded_by", sa.Text, nullable=False),
    )
    op.create_index("requisitions_referral", "requisitions", ["referral_id", "id"])
    op.create_index("requisitions_departement", "requisitions", ["departement", "id"])


def downgrade() -> None:
    op.drop_table("requisitions")
    op.drop_table("alerts")
    op.drop_index("erasure_notices_waiting", "erasure_notices")
    op.drop_index("erasures_waiting", "erasures")
    op.drop_column("erasure_notices", "acknowledged_at")
    op.drop_column("erasures", "completed_at")
