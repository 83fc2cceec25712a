"""Worklists in a million referrals: an index for each way they are asked for, and when a referral last changed."""

from alembic import op

revision = "referrals_worklists"
down_revision = "referrals_services_heard"
branch_labels = None
depends_on = None

STATEMENTS = (
    "ALTER TABLE referrals ADD COLUMN changed_at timestamptz NOT NULL DEFAULT now()",
    "UPDATE referrals SET changed_at = greatest(received_at, first_contact_at, accepted_at, closed_at)",
    # changed is what has another version: written once, here, whoever writes the row
    "CREATE FUNCTION referral_changed() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.changed_at := clock_timestamp(); RETURN NEW; END $$",
    "CREATE TRIGGER referral_changed BEFORE UPDATE ON referrals FOR EACH ROW WHEN (NEW.version <> OLD.version) EXECUTE FUNCTION referral_changed()",
    "CREATE INDEX referrals_post_status ON referrals (post_id, status, received_at, id)",
    "CREATE INDEX referrals_departement_status ON referrals (departement, status, received_at, id)",
    "CREATE INDEX referrals_status ON referrals (status, received_at, id)",
    "CREATE INDEX referrals_client_status ON referrals (client_id, status, received_at, id)",
    "CREATE INDEX referrals_commune ON referrals (commune, received_at, id)",
    "CREATE INDEX referrals_unit ON referrals (unit_id, departement, received_at, id)",
    "CREATE INDEX referrals_theme ON referrals (principal_theme, departement, received_at, id)",
    "CREATE INDEX referrals_departement_changed ON referrals (departement, changed_at, id) INCLUDE (status)",
    "CREATE INDEX referrals_changed ON referrals (changed_at, id) INCLUDE (status)",
    "DROP INDEX referrals_load",
    "DROP INDEX referrals_unrouted",
    "DROP INDEX referrals_client",
    "ALTER TABLE orientations ADD COLUMN departement text",
    "ALTER TABLE orientations ADD COLUMN current_post_id uuid",
    "UPDATE orientations SET departement = referrals.departement, current_post_id = referrals.post_id FROM referrals WHERE referrals.id = orientations.referral_id",
    "ALTER TABLE orientations ALTER COLUMN departement SET NOT NULL",
    "CREATE INDEX orientations_organization_requested ON orientations (organization_id, requested_at, id)",
    "CREATE INDEX orientations_organization_status ON orientations (organization_id, status, requested_at, id)",
    """
    CREATE FUNCTION referral_moved() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        UPDATE orientations SET departement = NEW.departement, current_post_id = NEW.post_id WHERE referral_id = NEW.id; RETURN NULL;
    END $$
    """,
    """
    CREATE TRIGGER referral_moved AFTER UPDATE ON referrals FOR EACH ROW
    WHEN (NEW.post_id IS DISTINCT FROM OLD.post_id OR NEW.departement <> OLD.departement) EXECUTE FUNCTION referral_moved()
    """,
    "CREATE INDEX orientations_current_post_requested ON orientations (current_post_id, requested_at, id)",
    "CREATE INDEX orientations_current_post_status ON orientations (current_post_id, status, requested_at, id)",
    "CREATE INDEX orientations_departement_requested ON orientations (departement, requested_at, id)",
    "CREATE INDEX orientations_departement_status ON orientations (departement, status, requested_at, id)",
    "DROP INDEX orientations_organization",
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    for statement in (
        "CREATE INDEX orientations_organization ON orientations (organization_id, id)",
        "ALTER TABLE orientations DROP COLUMN departement, DROP COLUMN current_post_id",
        "DROP INDEX orientations_organization_requested, orientations_organization_status",
        "CREATE INDEX referrals_load ON referrals (post_id) WHERE status IN ('assigned', 'accepted')",
        "CREATE INDEX referrals_unrouted ON referrals (departement) WHERE status = 'unrouted'",
        "CREATE INDEX referrals_client ON referrals (client_id, received_at, id)",
        "DROP INDEX referrals_post_status, referrals_departement_status, referrals_status, referrals_client_status,"
        " referrals_commune, referrals_unit, referrals_theme",
        "DROP TRIGGER referral_changed ON referrals",
        "DROP TRIGGER referral_moved ON referrals",
        "DROP FUNCTION referral_changed, referral_moved",
        "ALTER TABLE referrals DROP COLUMN changed_at",
    ):
        op.execute(statement)
