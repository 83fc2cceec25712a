"""What a partner wrote when it rejected an orientation, sealed."""

import sqlalchemy as sa
from alembic import op

revision = "referrals_rejections"
down_revision = "referrals_directory_communes"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("orientations", sa.Column("reason_text", sa.LargeBinary, nullable=True))


def downgrade() -> None:
    op.drop_column("orientations", "reason_text")
