"""The end of the retention is announced before anything is erased: which referrals, counted from which last contact, since when."""

from alembic import op

revision = "referrals_announced_ends"
down_revision = "referrals_updated"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        """
        CREATE TABLE announced_ends (
            referral_id uuid PRIMARY KEY REFERENCES referrals (id),
            departement text NOT NULL,
            counted_from timestamptz NOT NULL,
            announced_at timestamptz NOT NULL
        )
        """
    )
    op.execute("CREATE INDEX announced_ends_departement ON announced_ends (departement, referral_id)")


def downgrade() -> None:
    op.execute("DROP TABLE announced_ends")
