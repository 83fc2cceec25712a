"""Kinds of notices that a recipient does not want."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "referrals_notices_left_out"
down_revision = "referrals_kept_forms"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("notice_preferences", sa.Column("left_out", postgresql.ARRAY(sa.Text), nullable=False, server_default="{}"))


def downgrade() -> None:
    op.drop_column("notice_preferences", "left_out")
