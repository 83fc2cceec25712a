"""How many events a listener went on without, when they were no longer kept."""

from alembic import op

revision = "chassis_missed_0001"
down_revision = "chassis_readers_0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE cursors ADD COLUMN missed bigint NOT NULL DEFAULT 0")


def downgrade() -> None:
    op.execute("ALTER TABLE cursors DROP COLUMN missed")
