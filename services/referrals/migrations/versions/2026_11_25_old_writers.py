"""A process of the release before goes on writing while the new one starts: what it does not know of is filled by the database."""

from alembic import op

revision = "referrals_old_writers"
down_revision = "referrals_directory"
branch_labels = None
depends_on = None

STATEMENTS = (
    """
    CREATE FUNCTION orientation_placed() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        SELECT departement, post_id INTO NEW.departement, NEW.current_post_id FROM referrals WHERE id = NEW.referral_id; RETURN NEW;
    END $$
    """,
    "CREATE TRIGGER orientation_placed BEFORE INSERT ON orientations FOR EACH ROW WHEN (NEW.departement IS NULL) EXECUTE FUNCTION orientation_placed()",
    "ALTER TABLE requisitions ALTER COLUMN authority SET DEFAULT 'other'",
    "ALTER TABLE requisitions ALTER COLUMN asked SET DEFAULT '{}'",
    "ALTER TABLE contact_attempts ALTER COLUMN overridden SET DEFAULT '{}'",
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    for statement in (
        "DROP TRIGGER orientation_placed ON orientations",
        "DROP FUNCTION orientation_placed",
        "ALTER TABLE requisitions ALTER COLUMN authority DROP DEFAULT",
        "ALTER TABLE requisitions ALTER COLUMN asked DROP DEFAULT",
        "ALTER TABLE contact_attempts ALTER COLUMN overridden DROP DEFAULT",
    ):
        op.execute(statement)
