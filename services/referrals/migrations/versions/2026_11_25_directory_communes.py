"""The communes of a département are listed at the desk."""

from alembic import op

revision = "referrals_directory_communes"
down_revision = "referrals_old_writers"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("directory_names_departement", "directory_names", ["kind", "departement"])


def downgrade() -> None:
    op.drop_index("directory_names_departement", "directory_names")
