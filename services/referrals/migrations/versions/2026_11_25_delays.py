"""Due times of referrals, and which of them were said to have passed."""

from alembic import op

revision = "referrals_delays"
down_revision = "referrals_justice"
branch_labels = None
depends_on = None

WAITING = "first_contact_at IS NULL AND status IN ('unrouted', 'assigned', 'accepted')"

# what is there already: its post's agreement in force today, else the network's targets as they are unless configured (DOMAIN §3)
STATEMENTS = (
    "ALTER TABLE referrals ADD COLUMN due_from timestamptz NOT NULL DEFAULT now()",
    "ALTER TABLE referrals ADD COLUMN due_at timestamptz NOT NULL DEFAULT now() + interval '72 hours'",
    "ALTER TABLE referrals ADD COLUMN overdue_said boolean NOT NULL DEFAULT false",
    """
    UPDATE referrals SET due_from = received_at, due_at = received_at + make_interval(mins => coalesce(
        (SELECT CAST(a.targets ->> referrals.urgency AS integer) FROM agreements_heard a
         WHERE referrals.post_id = ANY(a.post_ids) AND current_date BETWEEN a.starts_on AND a.ends_on ORDER BY a.starts_on DESC, a.id LIMIT 1),
        CASE urgency WHEN 'immediate' THEN 240 WHEN 'priority' THEN 1440 ELSE 4320 END))
    """,
    f"CREATE INDEX referrals_due ON referrals (departement, due_at, id) WHERE {WAITING}",
    f"CREATE INDEX referrals_due_everywhere ON referrals (due_at, id) WHERE {WAITING}",
    f"CREATE INDEX referrals_due_unsaid ON referrals (due_at, id) WHERE {WAITING} AND NOT overdue_said",
    """
    CREATE TABLE overdues (
        id uuid PRIMARY KEY,
        referral_id uuid NOT NULL REFERENCES referrals (id),
        due_at timestamptz NOT NULL,
        urgency text NOT NULL,
        post_id uuid,
        noticed_at timestamptz NOT NULL,
        UNIQUE (referral_id, due_at)
    )
    """,
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    op.execute("DROP TABLE overdues")
    op.execute("ALTER TABLE referrals DROP COLUMN due_from, DROP COLUMN due_at, DROP COLUMN overdue_said")
