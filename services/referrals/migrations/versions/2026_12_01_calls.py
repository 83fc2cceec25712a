"""Whether somebody whom a referral is there to help is still to be called: a call to somebody else no longer ends that, a reopening begins it anew."""

from alembic import op

revision = "referrals_calls"
down_revision = "referrals_followed"
branch_labels = None
depends_on = None

OPEN = "status IN ('unrouted', 'assigned', 'accepted')"
INDEXES = ("referrals_turn_post", "referrals_turn_departement", "referrals_turn", "referrals_due_everywhere", "referrals_due_unsaid")
FILTERS = "INCLUDE (status, urgency, danger, awaits_contact, post_id, unit_id, commune, principal_theme)"

STATEMENTS = (
    "ALTER TABLE referrals ADD COLUMN awaits_contact boolean NOT NULL DEFAULT true",
    "ALTER TABLE referrals ADD COLUMN contacted boolean NOT NULL DEFAULT false",
    # a closed one is looked at when it is reopened; whoever was called so far counts as who was to be called
    f"""
    UPDATE referrals SET awaits_contact = false WHERE {OPEN} AND (first_contact_at IS NOT NULL
        OR (EXISTS (SELECT FROM persons p WHERE p.referral_id = referrals.id)
            AND NOT EXISTS (SELECT FROM persons p WHERE p.referral_id = referrals.id AND p.agreement <> 'refused' AND p.content <> ''::bytea
                AND (p.role <> 'alleged_perpetrator' OR NOT EXISTS (
                    SELECT FROM persons o WHERE o.referral_id = referrals.id AND o.role <> 'alleged_perpetrator')))))
    """,  # noqa: S608 - our own words
    # who was told of it so far
    f"""
    UPDATE referrals SET contacted = true WHERE {OPEN} AND EXISTS (SELECT FROM contact_attempts c
        WHERE c.referral_id = referrals.id AND c.withdrawn_at IS NULL AND c.result IN ('reached', 'declined'))
    """,  # noqa: S608 - our own words
    # a process of the release before notes a first contact and knows of nothing else
    """
    CREATE FUNCTION referral_called() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.awaits_contact := false; RETURN NEW; END $$
    """,
    """
    CREATE TRIGGER referral_called BEFORE UPDATE ON referrals FOR EACH ROW
    WHEN (OLD.first_contact_at IS NULL AND NEW.first_contact_at >= NEW.due_from) EXECUTE FUNCTION referral_called()
    """,
)


def _index(called: str, waiting: str, filters: str = "") -> None:
    """By what tells that nobody is to be called any more, and that somebody is."""
    turn = f"((urgency <> 'immediate'::text AND NOT danger)::integer * 2 + ({called})::integer)"
    for name in INDEXES:
        op.drop_index(name)
    for name, key in zip(INDEXES, (f"post_id, {turn}, ", f"departement, {turn}, ", f"{turn}, "), strict=False):
        op.execute(f"CREATE INDEX {name} ON referrals ({key}due_at, id) {filters} WHERE {OPEN}")
    op.execute(f"CREATE INDEX referrals_due_everywhere ON referrals (due_at, id) WHERE {waiting} AND {OPEN}")
    op.execute(f"CREATE INDEX referrals_due_unsaid ON referrals (due_at, id) WHERE {waiting} AND {OPEN} AND NOT overdue_said")


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)
    _index("NOT awaits_contact", "awaits_contact", FILTERS)
    op.execute("DROP INDEX referrals_client_status")
    op.execute("CREATE INDEX referrals_client_status ON referrals (client_id, status, received_at, id) INCLUDE (contacted)")


def downgrade() -> None:
    op.execute("DROP INDEX referrals_client_status")
    op.execute("CREATE INDEX referrals_client_status ON referrals (client_id, status, received_at, id)")
    _index("first_contact_at IS NOT NULL", "first_contact_at IS NULL")
    op.execute("DROP TRIGGER referral_called ON referrals")
    op.execute("DROP FUNCTION referral_called")
    op.drop_column("referrals", "contacted")
    op.drop_column("referrals", "awaits_contact")
