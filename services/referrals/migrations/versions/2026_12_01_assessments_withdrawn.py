"""An assessment that was noted by mistake is withdrawn: when, by whom, why. It stays, and says what was known of the person before it."""

import sqlalchemy as sa
from alembic import op

revision = "referrals_assessments_withdrawn"
down_revision = "referrals_notices_left_out"
branch_labels = None
depends_on = None

_COLUMNS = (
    ("known_before", sa.Text),
    ("withdrawn_at", sa.DateTime(timezone=True)),
    ("withdrawn_by", sa.Text),
    ("withdrawn_because", sa.Text),
)


def upgrade() -> None:
    for name, kind in _COLUMNS:
        op.add_column("assessments", sa.Column(name, kind, nullable=True))


def downgrade() -> None:
    for name, _ in _COLUMNS:
        op.drop_column("assessments", name)
