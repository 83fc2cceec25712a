"""Absences of posts as partners says them: until when, and who stands in."""

import sqlalchemy as sa
from alembic import op

revision = "referrals_absences"
down_revision = "referrals_worklists"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("posts_heard", sa.Column("until_on", sa.Date, nullable=True))
    op.add_column("posts_heard", sa.Column("replacement_post_id", sa.Uuid, nullable=True))


def downgrade() -> None:
    op.drop_column("posts_heard", "until_on")
    op.drop_column("posts_heard", "replacement_post_id")
