"""Whom a service takes, as partners says it; empty: anybody."""

from alembic import op

revision = "referrals_publics"
down_revision = "referrals_unlinked"
branch_labels = None
depends_on = None

COLUMNS = ("sexes", "age_bands")


def upgrade() -> None:
    for column in COLUMNS:
        op.execute(f"ALTER TABLE services_heard ADD COLUMN {column} text[] NOT NULL DEFAULT '{{}}'")


def downgrade() -> None:
    for column in COLUMNS:
        op.drop_column("services_heard", column)
