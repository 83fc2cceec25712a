"""Alerts with their sealed words; requisitions by an authority, corrected by later entries, in a register that only grows."""

import sqlalchemy as sa
from alembic import op

revision = "referrals_justice"
down_revision = "referrals_desk"
branch_labels = None
depends_on = None

_GROWS_ONLY = """
CREATE FUNCTION requisitions_grow_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'UPDATE' AND NEW.content = ''::bytea AND to_jsonb(NEW) - 'content' = to_jsonb(OLD) - 'content' THEN
        RETURN NEW;  -- an erasure: the fact stays, the words go
    END IF;
    RAISE EXCEPTION 'the register of requisitions only grows: an entry is corrected by a later one';
END $$
"""


def upgrade() -> None:
    op.add_column("alerts", sa.Column("key_id", sa.Uuid, nullable=True))
    op.add_column("alerts", sa.Column("content", sa.LargeBinary, nullable=True))
    op.add_column("requisitions", sa.Column("authority", sa.Text, nullable=False, server_default="other"))
    op.add_column("requisitions", sa.Column("asked", sa.ARRAY(sa.Text), nullable=False, server_default="{}"))
    op.alter_column("requisitions", "authority", server_default=None)
    op.alter_column("requisitions", "asked", server_default=None)
    op.add_column("requisitions", sa.Column("corrects_id", sa.Uuid, sa.ForeignKey("requisitions.id"), nullable=True))
    op.create_index("requisitions_corrects", "requisitions", ["corrects_id"], unique=True)
    op.execute(_GROWS_ONLY)
    op.execute(
        "CREATE TRIGGER requisitions_grow_only BEFORE UPDATE OR DELETE ON requisitions"
        " FOR EACH ROW EXECUTE FUNCTION requisitions_grow_only()"
    )


def downgrade() -> None:
    op.execute("DROP TRIGGER requisitions_grow_only ON requisitions")
    op.execute("DROP FUNCTION requisitions_grow_only()")
    op.drop_index("requisitions_corrects", "requisitions")
    for column in ("corrects_id", "asked", "authority"):
        op.drop_column("requisitions", column)
    op.drop_column("alerts", "content")
    op.drop_column("alerts", "key_id")
