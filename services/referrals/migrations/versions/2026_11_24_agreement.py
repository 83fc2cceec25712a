"""On which legal ground an orientation was asked without the person's agreement."""

import sqlalchemy as sa
from alembic import op

revision = "referrals_agreement"
down_revision = "referrals_rights"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("orientations", sa.Column("legal_ground", sa.Text, nullable=True))


def downgrade() -> None:
    op.drop_column("orientations", "legal_ground")
