"""What was written in a form of the desk whose session was over, sealed, for an hour."""

import sqlalchemy as sa
from alembic import op

revision = "referrals_kept_forms"
down_revision = "referrals_interviews_withdrawn"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "desk_kept_forms",
        sa.Column("owner", sa.LargeBinary, primary_key=True),
        sa.Column("path", sa.Text, primary_key=True),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("sealed", sa.LargeBinary, nullable=False),
        sa.Column("ends_at", sa.DateTime(timezone=True), nullable=False),
    )
    op.create_index("desk_kept_forms_end", "desk_kept_forms", ["ends_at"])


def downgrade() -> None:
    op.drop_table("desk_kept_forms")
