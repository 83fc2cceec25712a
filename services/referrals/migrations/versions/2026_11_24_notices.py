"""Notices by e-mail: preferences, what there is to tell, mails."""

import sqlalchemy as sa
from alembic import op

revision = "referrals_notices"
down_revision = "referrals_erasures"
branch_labels = None
depends_on = None


def _text(name: str, *, nullable: bool = False, primary_key: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.Text, nullable=nullable, primary_key=primary_key)


def _id(name: str, *, nullable: bool = False, primary_key: bool = False) -> sa.Column[object]:
    return sa.Column(name, sa.Uuid, nullable=nullable, primary_key=primary_key)


def _instant(name: str, *, nullable: bool = False) -> sa.Column[object]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable)


def upgrade() -> None:
    op.create_table(
        "notice_preferences",
        _text("recipient", primary_key=True),
        _id("key_id"),
        sa.Column("address", sa.LargeBinary, nullable=False),
        _text("mode"),
        sa.Column("by_link", sa.Boolean, nullable=False),
        sa.Column("own", sa.Boolean, nullable=False),
        _instant("updated_at"),
        sa.Column("version", sa.Integer, nullable=False),
    )
    op.create_table(
        "notices",
        _id("id", primary_key=True),
        _text("cause"),
        _text("recipient"),
        _text("kind"),
        _id("referral_id", nullable=True),
        _id("orientation_id", nullable=True),
        _id("link_id", nullable=True),
        _instant("created_at"),
        _instant("due_at"),
        _id("mail_id", nullable=True),
    )
    op.create_index("notices_cause", "notices", ["cause", "recipient"], unique=True)
    op.create_index("notices_waiting", "notices", ["due_at"], postgresql_where=sa.text("mail_id IS NULL"))
    op.create_index("notices_mail", "notices", ["mail_id"], postgresql_where=sa.text("mail_id IS NOT NULL"))
    op.create_table(
        "notice_mails",
        _id("id", primary_key=True),
        _text("recipient"),
        _instant("created_at"),
        _text("state"),
        sa.Column("attempts", sa.Integer, nullable=False),
        _instant("next_attempt_at"),
        _instant("sent_at", nullable=True),
        _text("last_failure", nullable=True),
    )
    op.create_index("notice_mails_waiting", "notice_mails", ["next_attempt_at"], postgresql_where=sa.text("state = 'waiting'"))
    op.create_index("notice_mails_recipient", "notice_mails", ["recipient", "created_at"])


def downgrade() -> None:
    for table in ("notice_mails", "notices", "notice_preferences"):
        op.drop_table(table)
