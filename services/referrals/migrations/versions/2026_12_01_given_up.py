"""When a partner last gave up after a referral was closed: for the worklist, until it is reopened."""

from alembic import op

revision = "referrals_given_up"
down_revision = "referrals_renewals"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE referrals ADD COLUMN given_up_at timestamptz")
    op.execute("CREATE INDEX referrals_given_up ON referrals (given_up_at) WHERE given_up_at IS NOT NULL")


def downgrade() -> None:
    op.drop_column("referrals", "given_up_at")
