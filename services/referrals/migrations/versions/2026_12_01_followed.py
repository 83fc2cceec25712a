"""What a contact changed of the person's agreement goes with it; when a partner's support began is kept."""

import sqlalchemy as sa
from alembic import op

revision = "referrals_followed"
down_revision = "referrals_turns"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("contact_attempts", sa.Column("correction_id", sa.Uuid, sa.ForeignKey("corrections.id"), nullable=True))
    op.add_column("orientations", sa.Column("started_at", sa.DateTime(timezone=True), nullable=True))


def downgrade() -> None:
    op.drop_column("orientations", "started_at")
    op.drop_column("contact_attempts", "correction_id")
