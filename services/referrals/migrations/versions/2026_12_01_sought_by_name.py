"""Who is sought by name alone is found by a keyed hash of it.

What is sealed cannot be read here: whoever was received before, or by a process of the release before, is found by name and birth date as ever, and by the name
alone once their identity was corrected.
"""

from alembic import op

revision = "referrals_sought_by_name"
down_revision = "referrals_joined"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE persons ADD COLUMN name_hash bytea")
    op.execute("CREATE INDEX persons_name ON persons (name_hash) WHERE name_hash IS NOT NULL")


def downgrade() -> None:
    op.drop_column("persons", "name_hash")
