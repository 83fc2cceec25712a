"""Absences of posts: until when, who stands in, and what the post goes back to."""

import sqlalchemy as sa
from alembic import op

revision = "partners_absences"
down_revision = "partners_0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("posts", sa.Column("suspended_from", sa.Text, nullable=True))
    op.add_column("posts", sa.Column("until_on", sa.Date, nullable=True))
    op.add_column("posts", sa.Column("replacement_post_id", sa.Uuid, sa.ForeignKey("posts.id"), nullable=True))
    op.create_index("posts_absent", "posts", ["until_on", "id"], postgresql_where=sa.text("until_on IS NOT NULL"))


def downgrade() -> None:
    op.drop_index("posts_absent", "posts")
    for name in ("suspended_from", "until_on", "replacement_post_id"):
        op.drop_column("posts", name)
