"""PostgreSQL's statistics of a column hold a hundred of its values: of wrapped keys none, which outlived the destruction of their row's."""

from alembic import op

revision = "chassis_vault_0002"
down_revision = "chassis_audit_0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE vault_keys ALTER COLUMN wrapped SET STATISTICS 0")
    op.execute("SELECT pg_clear_attribute_stats(current_schema()::text, 'vault_keys', 'wrapped', false)")


def downgrade() -> None:
    op.execute("ALTER TABLE vault_keys ALTER COLUMN wrapped SET STATISTICS DEFAULT")
