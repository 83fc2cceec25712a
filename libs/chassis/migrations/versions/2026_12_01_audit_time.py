"""The time that the table shows beside an entry of the audit log is the one in its bytes, which the digest covers; it was that of its stamp."""

from alembic import op

revision = "chassis_audit_0001"
down_revision = "chassis_owners_0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        "UPDATE stream_events SET recorded_at = CAST(CAST(convert_from(attributes, 'UTF8') AS jsonb) ->> 'recordedtime' AS timestamptz)"
        " WHERE stream = 'audit'"
    )


def downgrade() -> None:
    """The times of the stamps are not known any more; these are milliseconds before."""
