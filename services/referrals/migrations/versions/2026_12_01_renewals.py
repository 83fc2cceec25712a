"""Who renews the tokens of a session at the web desk, and until when: no transaction is open while the provider is asked."""

import sqlalchemy as sa
from alembic import op

revision = "referrals_renewals"
down_revision = "referrals_duplicates"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("desk_sessions", sa.Column("renewing_until", sa.DateTime(timezone=True), nullable=True))


def downgrade() -> None:
    op.drop_column("desk_sessions", "renewing_until")
