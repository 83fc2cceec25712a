"""What was sent for a child's protection or to the prosecutor, of each situation; nothing of it was told before."""

from alembic import op

revision = "reporting_alerts"
down_revision = "reporting_seen_before"
branch_labels = None
depends_on = None

STATEMENTS = (
    "ALTER TABLE situations ADD COLUMN alerts text NOT NULL DEFAULT ''",
    "ALTER TABLE situations ALTER COLUMN alerts DROP DEFAULT",
    """
    INSERT INTO tallies (measure, dimension, departement, month, code, number)
    SELECT 'situations', 'alerts', departement, date_trunc('month', received_on)::date, '', count(*)
    FROM situations WHERE received_on IS NOT NULL GROUP BY 3, 4
    """,
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    op.execute("DELETE FROM tallies WHERE dimension = 'alerts'")
    op.execute("ALTER TABLE situations DROP COLUMN alerts")
