"""Who noted a contact, an interview or an assessment, or asked a partner, is kept, as of moves and corrections; and the role of each: of what was done before,
or by a process of the release before, nothing tells it."""

from alembic import op

revision = "referrals_authors"
down_revision = "referrals_sought_by_name"
branch_labels = None
depends_on = None

NOTED = ("contact_attempts", "interviews", "assessments", "orientations")
COLUMNS = (
    *((table, "actor") for table in NOTED),
    *((table, "actor_role") for table in (*NOTED, "moves", "corrections")),
    *((table, "withdrawn_by_role") for table in ("contact_attempts", "interviews", "assessments", "alerts")),
    ("alerts", "recorded_by_role"),
)


def upgrade() -> None:
    for table, column in COLUMNS:
        op.execute(f"ALTER TABLE {table} ADD COLUMN {column} text")


def downgrade() -> None:
    for table, column in COLUMNS:
        op.drop_column(table, column)
