"""At the end of its retention a referral belongs to no police system any more: an index of those that still do, and what was erased before."""

from alembic import op

revision = "referrals_unlinked"
down_revision = "referrals_calls"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("UPDATE referrals SET client_id = '' WHERE status = 'erased' AND external_reference = 'erased-' || id")
    op.execute("CREATE INDEX referrals_linked ON referrals (received_at, id) WHERE status = 'erased' AND client_id <> ''")


def downgrade() -> None:
    op.execute("DROP INDEX referrals_linked")
