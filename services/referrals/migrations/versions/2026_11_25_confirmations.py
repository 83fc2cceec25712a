"""How an erasure was acknowledged; by whose word, where no stream said it."""

import sqlalchemy as sa
from alembic import op

revision = "referrals_confirmations"
down_revision = "referrals_rejections"
branch_labels = None
depends_on = None

_COLUMNS = (("acknowledged_by", sa.Text), ("confirmed_on", sa.Date), ("confirmed_how", sa.Text), ("recorded_by", sa.Text))


def upgrade() -> None:
    for name, kind in _COLUMNS:
        op.add_column("erasure_notices", sa.Column(name, kind, nullable=True))
    op.execute("UPDATE erasure_notices SET acknowledged_by = 'stream' WHERE acknowledged_at IS NOT NULL")


def downgrade() -> None:
    for name, _ in _COLUMNS:
        op.drop_column("erasure_notices", name)
