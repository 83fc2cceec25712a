"""Open referrals in the order in which they are worked: urgent first, by due time. Danger is due like immediate urgency."""

from alembic import op

revision = "referrals_turns"
down_revision = "referrals_assessments_withdrawn"
branch_labels = None
depends_on = None

OPEN = "status IN ('unrouted', 'assigned', 'accepted')"
TURN = "((urgency <> 'immediate'::text AND NOT danger)::integer * 2 + (first_contact_at IS NOT NULL)::integer)"

STATEMENTS = (
    f"CREATE INDEX referrals_turn_post ON referrals (post_id, {TURN}, due_at, id) WHERE {OPEN}",
    f"CREATE INDEX referrals_turn_departement ON referrals (departement, {TURN}, due_at, id) WHERE {OPEN}",
    f"CREATE INDEX referrals_turn ON referrals ({TURN}, due_at, id) WHERE {OPEN}",
    "DROP INDEX referrals_due",
    # who waits in danger: by the agreement of its post in force today, else the network's target unless configured (DOMAIN §3); never later than it was
    f"""
    UPDATE referrals SET due_at = least(due_at, due_from + make_interval(mins => coalesce(
        (SELECT CAST(a.targets ->> 'immediate' AS integer) FROM agreements_heard a
         WHERE referrals.post_id = ANY(a.post_ids) AND current_date BETWEEN a.starts_on AND a.ends_on ORDER BY a.starts_on DESC, a.id LIMIT 1), 240)))
    WHERE danger AND urgency <> 'immediate' AND first_contact_at IS NULL AND {OPEN}
    """,  # noqa: S608 - our own words
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    for name in ("referrals_turn", "referrals_turn_departement", "referrals_turn_post"):
        op.drop_index(name)
    op.execute(f"CREATE INDEX referrals_due ON referrals (departement, due_at, id) WHERE first_contact_at IS NULL AND {OPEN}")
