"""Who was given a stream's events: from which number on, how far the feed handed them out, and the subscriptions that were ended."""

from alembic import op

revision = "chassis_readers_0002"
down_revision = "chassis_readers_0001"
branch_labels = None
depends_on = None

STATEMENTS = (
    # since: what came before that number was not given by this door; 0: unknown, hence everything
    "ALTER TABLE stream_readers ADD COLUMN since_epoch integer NOT NULL DEFAULT 0, ADD COLUMN since_sequence bigint NOT NULL DEFAULT 0",
    "ALTER TABLE subscriptions ADD COLUMN since_epoch integer NOT NULL DEFAULT 0, ADD COLUMN since_sequence bigint NOT NULL DEFAULT 0",
    # who only reads has acted on nothing yet
    "ALTER TABLE stream_readers ALTER COLUMN acknowledged_at DROP NOT NULL, ADD COLUMN given_epoch integer, ADD COLUMN given_sequence bigint,"
    " ADD COLUMN given_at timestamptz",
    """
    CREATE TABLE former_subscriptions (
        id uuid PRIMARY KEY,
        stream text NOT NULL,
        client_id text NOT NULL,
        since_epoch integer NOT NULL,
        since_sequence bigint NOT NULL,
        epoch integer NOT NULL,
        sequence bigint NOT NULL,
        left_at timestamptz NOT NULL DEFAULT now()
    )
    """,
    "CREATE INDEX former_subscriptions_stream ON former_subscriptions (stream)",
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    op.execute("DROP TABLE former_subscriptions")
    op.execute("ALTER TABLE subscriptions DROP COLUMN since_epoch, DROP COLUMN since_sequence")
    op.execute("DELETE FROM stream_readers WHERE acknowledged_at IS NULL")
    op.execute(
        "ALTER TABLE stream_readers ALTER COLUMN acknowledged_at SET NOT NULL, DROP COLUMN since_epoch, DROP COLUMN since_sequence,"
        " DROP COLUMN given_epoch, DROP COLUMN given_sequence, DROP COLUMN given_at"
    )
