"""Idempotency: the answers kept for repeated requests."""

from alembic import op

revision = "chassis_http_0001"
down_revision = "chassis_0001"
branch_labels = None
depends_on = None

STATEMENTS = (
    # one row per creating request, found by its key, swept by age; room in the page for the answer written right after the claim (HOT)
    """
    CREATE TABLE idempotency_keys (
        client text NOT NULL,
        key text NOT NULL,
        operation text NOT NULL,
        digest bytea NOT NULL,
        status smallint,
        headers text,
        body bytea,
        created_at timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (client, key)
    ) WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 5000, fillfactor = 80)
    """,
    "CREATE INDEX idempotency_keys_by_age ON idempotency_keys USING brin (created_at)",
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    op.execute("DROP TABLE idempotency_keys")
