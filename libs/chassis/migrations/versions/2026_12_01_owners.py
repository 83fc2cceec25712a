"""Whose a subscription is where many persons share a client, and when its owner last showed that it may still read the stream."""

from alembic import op

revision = "chassis_owners_0001"
down_revision = "chassis_missed_0001"
branch_labels = None
depends_on = None

STATEMENTS = (
    "ALTER TABLE subscriptions ADD COLUMN owner text, ADD COLUMN renewed_at timestamptz NOT NULL DEFAULT now()",
    # of programs the client is the owner; what persons made before is nobody's, and expires
    "UPDATE subscriptions SET owner = client_id",
    "ALTER TABLE subscriptions ALTER COLUMN owner SET NOT NULL",
    "CREATE INDEX subscriptions_owner ON subscriptions (owner, id)",
    "DROP INDEX subscriptions_client",
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    op.execute("CREATE INDEX subscriptions_client ON subscriptions (client_id, id)")
    op.execute("ALTER TABLE subscriptions DROP COLUMN owner, DROP COLUMN renewed_at")
