"""An external reference is unique for the unit, whoever sends it; without a unit, for the client."""

import sqlalchemy as sa
from alembic import op

revision = "referrals_references"
down_revision = "referrals_absences"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # of several systems that gave one reference for one unit, the first keeps it: the others' referrals are told apart by an ending of their own
    op.execute(
        "UPDATE referrals SET external_reference = external_reference || ' #' || id FROM ("
        "SELECT id AS later FROM (SELECT id, row_number() OVER (PARTITION BY unit_id, external_reference ORDER BY received_at, id) AS place"
        " FROM referrals WHERE unit_id IS NOT NULL) numbered WHERE place > 1) twice WHERE id = later"
    )
    op.create_index(
        "referrals_reference_unit",
        "referrals",
        ["external_reference", "unit_id"],
        unique=True,
        postgresql_where=sa.text("unit_id IS NOT NULL"),
    )
    op.create_index(
        "referrals_reference_client",
        "referrals",
        ["external_reference", "client_id"],
        unique=True,
        postgresql_where=sa.text("unit_id IS NULL"),
    )
    op.drop_index("referrals_reference", "referrals")


def downgrade() -> None:
    op.create_index(
        "referrals_reference",
        "referrals",
        ["client_id", sa.text("coalesce(unit_id, '00000000-0000-0000-0000-000000000000'::uuid)"), "external_reference"],
        unique=True,
    )
    op.drop_index("referrals_reference_client", "referrals")
    op.drop_index("referrals_reference_unit", "referrals")
