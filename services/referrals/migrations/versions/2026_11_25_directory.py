"""How services, posts, units and communes are called, and which lists of partners are to be read for it."""

from alembic import op

revision = "referrals_directory"
down_revision = "referrals_references"
branch_labels = None
depends_on = None

STATEMENTS = (
    """
    CREATE TABLE directory_names (
        kind text NOT NULL,
        key text NOT NULL,
        departement text NOT NULL,
        name text NOT NULL,
        organization text,
        themes text[] NOT NULL,
        folded text NOT NULL,
        PRIMARY KEY (kind, key)
    )
    """,
    """
    CREATE TABLE directory_reads (
        kind text NOT NULL,
        departement text NOT NULL,
        due_at timestamptz NOT NULL,
        marks integer NOT NULL,
        failures smallint NOT NULL,
        PRIMARY KEY (kind, departement)
    )
    """,
    # what was heard before; a unit's copy does not tell its département: one of its communes does
    """
    INSERT INTO directory_reads (kind, departement, due_at, marks, failures)
    SELECT kind, departement, now(), 0, 0 FROM (
        SELECT departement FROM services_heard UNION SELECT departement FROM posts_heard UNION
        SELECT CASE WHEN left(commune, 2) IN ('97', '98') THEN left(commune, 3) ELSE left(commune, 2) END
        FROM units_heard, unnest(communes) AS of (commune)
    ) heard, (VALUES ('services'), ('posts'), ('units'), ('communes')) AS lists (kind)
    """,
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    op.execute("DROP TABLE directory_reads")
    op.execute("DROP TABLE directory_names")
