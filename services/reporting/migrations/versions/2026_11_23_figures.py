"""The log of facts, the projections and the counters."""

from alembic import op

revision = "reporting_0001"
down_revision = None
branch_labels = ("reporting",)
depends_on = "chassis_vault_0001"

# The projections change in place many times: room in each page keeps their updates off the indexes (heap-only tuples). Indexes bear PostgreSQL's default
# names, which `rebuild.py` gives again to the tables it puts in place.
STATEMENTS = (
    """
    CREATE TABLE facts (
        source text NOT NULL,
        position bigint GENERATED ALWAYS AS IDENTITY,
        epoch integer NOT NULL,
        sequence bigint NOT NULL,
        type text NOT NULL,
        subject uuid NOT NULL,
        occurred_at timestamptz NOT NULL,
        data text NOT NULL,
        PRIMARY KEY (source, position),
        UNIQUE (source, sequence)
    )
    """,
    "CREATE INDEX facts_subject_idx ON facts (subject)",
    """
    CREATE TABLE situations (
        referral_id uuid PRIMARY KEY,
        departement text NOT NULL,
        status text NOT NULL,
        received_on date,
        commune text,
        unit_id uuid,
        force text,
        channel text,
        urgency text,
        theme text,
        themes text,
        penal boolean,
        danger boolean,
        post_id uuid,
        close_reason text,
        first_contact_minutes integer
    ) WITH (fillfactor = 75)
    """,
    "CREATE INDEX situations_departement_received_on_idx ON situations (departement, received_on)",
    """
    CREATE TABLE persons (
        referral_id uuid NOT NULL,
        person_id uuid NOT NULL,
        departement text NOT NULL,
        received_on date NOT NULL,
        role text NOT NULL,
        sex text NOT NULL,
        age_band text NOT NULL,
        agreement text NOT NULL,
        known_to_services text NOT NULL,
        PRIMARY KEY (referral_id, person_id)
    ) WITH (fillfactor = 90)
    """,
    "CREATE INDEX persons_departement_received_on_idx ON persons (departement, received_on)",
    """
    CREATE TABLE orientations (
        orientation_id uuid PRIMARY KEY,
        referral_id uuid NOT NULL,
        departement text NOT NULL,
        post_id uuid NOT NULL,
        status text NOT NULL,
        requested_on date,
        partner_kind text,
        need text,
        rejection text,
        outcome text
    ) WITH (fillfactor = 75)
    """,
    "CREATE INDEX orientations_departement_requested_on_idx ON orientations (departement, requested_on)",
    """
    CREATE TABLE posts (
        post_id uuid PRIMARY KEY,
        departement text NOT NULL,
        state text NOT NULL,
        employer_id uuid,
        force text,
        full_time_percent integer
    )
    """,
    """
    CREATE TABLE plans (
        plan_id uuid PRIMARY KEY,
        post_id uuid NOT NULL,
        departement text NOT NULL,
        year integer NOT NULL,
        state text NOT NULL,
        budget_cents bigint NOT NULL,
        funded_cents bigint NOT NULL,
        gap_cents bigint NOT NULL
    )
    """,
    """
    CREATE TABLE shares (
        plan_id uuid NOT NULL,
        number integer NOT NULL,
        post_id uuid NOT NULL,
        departement text NOT NULL,
        year integer NOT NULL,
        funder_id uuid NOT NULL,
        funder_kind text NOT NULL,
        firmness text NOT NULL,
        amount_cents bigint NOT NULL,
        PRIMARY KEY (plan_id, number)
    )
    """,
    """
    CREATE TABLE tallies (
        measure text NOT NULL,
        dimension text NOT NULL,
        departement text NOT NULL,
        month date NOT NULL,
        code text NOT NULL,
        number bigint NOT NULL,
        PRIMARY KEY (measure, dimension, departement, month, code)
    ) WITH (fillfactor = 50)
    """,
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    op.execute("DROP TABLE tallies, shares, plans, posts, orientations, persons, situations, facts")
