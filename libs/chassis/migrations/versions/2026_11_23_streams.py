"""Streams: the outbox, the numbered and chained logs made of it, what was heard of others, and what could not be handled."""

from alembic import op

revision = "chassis_0001"
down_revision = None
branch_labels = ("chassis",)
depends_on = None

STATEMENTS = (
    """
    CREATE TABLE outbox (
        position bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        stream text NOT NULL,
        event_id text NOT NULL,
        type text NOT NULL,
        subject text NOT NULL,
        attributes bytea NOT NULL,
        data bytea NOT NULL
    ) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000)
    """,
    """
    CREATE FUNCTION wake_relay() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN PERFORM pg_notify('maillon_outbox', ''); RETURN NULL; END $$
    """,
    "CREATE TRIGGER outbox_wakes_relay AFTER INSERT ON outbox FOR EACH STATEMENT EXECUTE FUNCTION wake_relay()",
    """
    CREATE TABLE streams (
        stream text PRIMARY KEY,
        epoch integer NOT NULL DEFAULT 1,
        sequence bigint NOT NULL DEFAULT 0,
        digest bytea NOT NULL,
        stamped_at timestamptz,
        sent_sequence bigint NOT NULL DEFAULT 0,
        sent_at timestamptz,
        purged_sequence bigint NOT NULL DEFAULT 0,
        purged_digest bytea NOT NULL,
        diverged_at timestamptz,
        diverged_reason text
    )
    """,
    """
    CREATE TABLE stream_epochs (
        stream text NOT NULL,
        epoch integer NOT NULL,
        after_sequence bigint NOT NULL,
        after_digest bytea NOT NULL,
        started_at timestamptz NOT NULL,
        reason text NOT NULL,
        PRIMARY KEY (stream, epoch)
    )
    """,
    """
    CREATE TABLE stream_events (
        stream text NOT NULL,
        sequence bigint NOT NULL,
        epoch integer NOT NULL,
        event_id text NOT NULL,
        type text NOT NULL,
        subject text NOT NULL,
        attributes bytea NOT NULL,
        data bytea NOT NULL,
        digest bytea NOT NULL,
        recorded_at timestamptz NOT NULL,
        PRIMARY KEY (stream, sequence)
    )
    """,
    "CREATE INDEX stream_events_recorded_at ON stream_events USING brin (recorded_at)",
    """
    CREATE TABLE cursors (
        projection text NOT NULL,
        source text NOT NULL,
        stream text NOT NULL,
        epoch integer NOT NULL DEFAULT 1,
        sequence bigint NOT NULL DEFAULT 0,
        digest bytea NOT NULL,
        moved_at timestamptz,
        head_epoch integer,
        head_sequence bigint,
        head_seen_at timestamptz,
        PRIMARY KEY (projection, source, stream)
    )
    """,
    """
    CREATE TABLE dead_letters (
        id uuid PRIMARY KEY,
        projection text NOT NULL,
        source text NOT NULL,
        stream text NOT NULL,
        epoch integer NOT NULL,
        sequence bigint NOT NULL,
        event_id text NOT NULL,
        type text NOT NULL,
        subject text NOT NULL,
        attributes bytea NOT NULL,
        data bytea NOT NULL,
        cause text NOT NULL,
        error text,
        status text NOT NULL DEFAULT 'parked',
        attempts integer NOT NULL DEFAULT 1,
        parked_at timestamptz NOT NULL DEFAULT now(),
        decided_at timestamptz,
        decided_by text,
        decision_reason text,
        UNIQUE (projection, source, stream, epoch, sequence)
    )
    """,
    "CREATE INDEX dead_letters_parked ON dead_letters (projection, source, subject) WHERE status = 'parked'",
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    op.execute("DROP TABLE dead_letters, cursors, stream_events, stream_epochs, streams, outbox")
    op.execute("DROP FUNCTION wake_relay()")
