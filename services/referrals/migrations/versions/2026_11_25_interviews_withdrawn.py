"""An interview that was noted by mistake is withdrawn: when, by whom, why. It stays."""

import sqlalchemy as sa
from alembic import op

revision = "referrals_interviews_withdrawn"
down_revision = "referrals_contacts_withdrawn"
branch_labels = None
depends_on = None

_COLUMNS = (("withdrawn_at", sa.DateTime(timezone=True)), ("withdrawn_by", sa.Text), ("withdrawn_because", sa.Text))


def upgrade() -> None:
    for name, kind in _COLUMNS:
        op.add_column("interviews", sa.Column(name, kind, nullable=True))


def downgrade() -> None:
    for name, _ in _COLUMNS:
        op.drop_column("interviews", name)
