"""When a reader last looked at a stream, whether there was something new or not."""

from alembic import op

revision = "chassis_looked_0001"
down_revision = "chassis_vault_0002"
branch_labels = None
depends_on = None

STATEMENTS = (
    "ALTER TABLE stream_readers ADD COLUMN looked_at timestamptz",
    "UPDATE stream_readers SET looked_at = greatest(acknowledged_at, given_at)",
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    op.execute("ALTER TABLE stream_readers DROP COLUMN looked_at")
