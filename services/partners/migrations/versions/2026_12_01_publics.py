"""Whom a service takes; empty: anybody."""

from alembic import op

revision = "partners_publics"
down_revision = "partners_absences"
branch_labels = None
depends_on = None

COLUMNS = ("sexes", "age_bands")


def upgrade() -> None:
    for column in COLUMNS:
        op.execute(f"ALTER TABLE services ADD COLUMN {column} text[] NOT NULL DEFAULT '{{}}'")


def downgrade() -> None:
    for column in COLUMNS:
        op.drop_column("services", column)
