"""How far each reader of a stream says it has acted on what it read."""

from alembic import op

revision = "chassis_readers_0001"
down_revision = "chassis_vault_0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        """
        CREATE TABLE stream_readers (
            stream text NOT NULL,
            client_id text NOT NULL,
            epoch integer NOT NULL,
            sequence bigint NOT NULL,
            acknowledged_at timestamptz NOT NULL DEFAULT now(),
            PRIMARY KEY (stream, client_id)
        )
        """
    )


def downgrade() -> None:
    op.execute("DROP TABLE stream_readers")
