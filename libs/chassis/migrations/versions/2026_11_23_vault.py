"""The vault's keys, the signed checkpoints of the audit log, and the subscriptions that deliver streams over HTTPS."""

from alembic import op

revision = "chassis_vault_0001"
down_revision = "chassis_http_0001"
branch_labels = None
depends_on = None

STATEMENTS = (
    """
    CREATE TABLE vault_keys (
        id uuid PRIMARY KEY,
        purpose text NOT NULL,
        kek_id text NOT NULL,
        wrapped bytea,
        created_at timestamptz NOT NULL DEFAULT now(),
        destroyed_at timestamptz,
        CHECK ((wrapped IS NULL) = (destroyed_at IS NOT NULL))
    )
    """,
    """
    CREATE TABLE stream_checkpoints (
        stream text NOT NULL,
        epoch integer NOT NULL,
        sequence bigint NOT NULL,
        digest bytea NOT NULL,
        jws text NOT NULL,
        at timestamptz NOT NULL,
        PRIMARY KEY (stream, epoch, sequence)
    )
    """,
    # the audit log is read by subject, by actor and by time; the actor is in the entry's bytes
    "CREATE INDEX stream_events_audit_subject ON stream_events (subject, sequence) WHERE stream = 'audit'",
    # convert_from is only STABLE, as encodings may be redefined; UTF8 is not
    """
    CREATE FUNCTION audit_actor(data bytea) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN convert_from(data, 'UTF8')::jsonb ->> 'actor'
    """,
    "CREATE INDEX stream_events_audit_actor ON stream_events (audit_actor(data), sequence) WHERE stream = 'audit'",
    "CREATE INDEX stream_events_audit_recorded_at ON stream_events (recorded_at) WHERE stream = 'audit'",
    """
    CREATE TABLE subscriptions (
        id uuid PRIMARY KEY,
        client_id text NOT NULL,
        role text NOT NULL,
        organization uuid,
        perimeter text[] NOT NULL,
        stream text NOT NULL,
        url text NOT NULL,
        key_id uuid NOT NULL REFERENCES vault_keys (id),
        secret bytea NOT NULL,
        former_secret bytea,
        former_secret_until timestamptz,
        epoch integer NOT NULL,
        sequence bigint NOT NULL,
        status text NOT NULL DEFAULT 'active',
        disabled_reason text,
        created_at timestamptz NOT NULL DEFAULT now(),
        delivered_at timestamptz,
        failures integer NOT NULL DEFAULT 0,
        failing_since timestamptz,
        last_failure text,
        next_attempt_at timestamptz NOT NULL DEFAULT now(),
        lease uuid,
        leased_until timestamptz
    )
    """,
    "CREATE INDEX subscriptions_client ON subscriptions (client_id, id)",
    "CREATE INDEX subscriptions_due ON subscriptions (next_attempt_at) WHERE status = 'active'",
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    op.execute("DROP TABLE subscriptions, stream_checkpoints, vault_keys")
    op.execute("DROP INDEX stream_events_audit_subject, stream_events_audit_actor, stream_events_audit_recorded_at")
    op.execute("DROP FUNCTION audit_actor(bytea)")
