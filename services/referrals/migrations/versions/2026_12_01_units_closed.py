"""A unit that closed is kept: of what force it was is told with each correction of its referrals."""

import sqlalchemy as sa
from alembic import op

revision = "referrals_units_closed"
down_revision = "referrals_given_up"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("units_heard", sa.Column("closed", sa.Boolean(), nullable=False, server_default=sa.text("false")))


def downgrade() -> None:
    op.execute("DELETE FROM units_heard WHERE closed")
    op.drop_column("units_heard", "closed")
