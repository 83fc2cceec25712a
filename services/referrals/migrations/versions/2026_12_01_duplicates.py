"""A referral that is closed as a duplicate names the one that it repeats; so does the move that closed it."""

from alembic import op

revision = "referrals_duplicates"
down_revision = "referrals_publics"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE referrals ADD COLUMN duplicate_of uuid")
    op.execute("CREATE INDEX referrals_duplicates ON referrals (duplicate_of) WHERE duplicate_of IS NOT NULL")
    op.execute("ALTER TABLE moves ADD COLUMN duplicate_of uuid")


def downgrade() -> None:
    op.drop_column("moves", "duplicate_of")
    op.drop_column("referrals", "duplicate_of")
