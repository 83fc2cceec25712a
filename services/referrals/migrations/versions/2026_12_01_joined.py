"""What a correction changes and must not be forgotten: when a person joined, for they are to be called from then on; which unit gave the reference."""

from alembic import op

revision = "referrals_joined"
down_revision = "referrals_units_closed"
branch_labels = None
depends_on = None

CALLED = "CREATE OR REPLACE FUNCTION referral_called() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {} NEW.awaits_contact := false; {} RETURN NEW; END $$"

STATEMENTS = (
    "ALTER TABLE persons ADD COLUMN joined_at timestamptz",
    """
    UPDATE persons SET joined_at = c.corrected_at FROM corrections c
    WHERE c.referral_id = persons.referral_id AND jsonb_exists(c.changes, '/persons/' || persons.id)
    """,
    # a process of the release before knows nothing of who joined: its first contact may be another's
    CALLED.format("IF NOT EXISTS (SELECT FROM persons p WHERE p.referral_id = NEW.id AND p.joined_at IS NOT NULL) THEN", "END IF;"),
    "ALTER TABLE referrals ADD COLUMN first_unit_id uuid",
    """
    UPDATE referrals SET first_unit_id = CASE WHEN c.unit IS NULL THEN r.unit_id ELSE CAST(c.unit ->> 'before' AS uuid) END
    FROM referrals r LEFT JOIN LATERAL (SELECT changes -> '/unit_id' AS unit FROM corrections
        WHERE referral_id = r.id AND jsonb_exists(changes, '/unit_id') ORDER BY corrected_at, id LIMIT 1) c ON true
    WHERE r.id = referrals.id
    """,
    # as a process of the release before receives them
    "CREATE FUNCTION referral_from() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.first_unit_id := NEW.unit_id; RETURN NEW; END $$",
    """
    CREATE TRIGGER referral_from BEFORE INSERT ON referrals FOR EACH ROW
    WHEN (NEW.first_unit_id IS NULL AND NEW.unit_id IS NOT NULL) EXECUTE FUNCTION referral_from()
    """,
)


def _unique(unit: str) -> None:
    for name, owner, given in (("referrals_reference_unit", unit, "NOT NULL"), ("referrals_reference_client", "client_id", "NULL")):
        op.drop_index(name)
        op.execute(f"CREATE UNIQUE INDEX {name} ON referrals (external_reference, {owner}) WHERE {unit} IS {given}")


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)
    _unique("first_unit_id")
    op.execute("CREATE INDEX notices_waiting_of ON notices (recipient) WHERE mail_id IS NULL")


def downgrade() -> None:
    op.drop_index("notices_waiting_of")
    _unique("unit_id")
    op.execute("DROP TRIGGER referral_from ON referrals")
    op.execute("DROP FUNCTION referral_from")
    op.drop_column("referrals", "first_unit_id")
    op.execute(CALLED.format("", ""))
    op.drop_column("persons", "joined_at")
