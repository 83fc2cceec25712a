"""When what a partner reads with an orientation last became another."""

import sqlalchemy as sa
from alembic import op

revision = "referrals_updated"
down_revision = "referrals_withdrawals"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("orientations", sa.Column("updated_at", sa.DateTime(timezone=True), nullable=True))


def downgrade() -> None:
    op.drop_column("orientations", "updated_at")
