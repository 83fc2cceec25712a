"""Funders, plans, contributions, agreements; what was heard of posts and of their activity."""

import sqlalchemy as sa
from alembic import op

revision = "funding_0001"
down_revision = None
branch_labels = ("funding",)
depends_on = "chassis_vault_0001"


def _text(name: str, *, nullable: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.Text, nullable=nullable)


def _instant(name: str) -> sa.Column[object]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=False)


def _cents(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger, nullable=False)


def upgrade() -> None:
    op.create_table(
        "funders",
        sa.Column("id", sa.Uuid, primary_key=True),
        _text("kind"),
        _text("name"),
        _text("departement", nullable=True),
        _text("siren", nullable=True),
        _text("siret", nullable=True),
        sa.Column("version", sa.Integer, nullable=False),
        _instant("registered_at"),
    )
    op.create_table(
        "plans",
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column("post_id", sa.Uuid, nullable=False),
        _text("departement"),
        sa.Column("employer_id", sa.Uuid, nullable=False),
        sa.Column("year", sa.SmallInteger, nullable=False),
        _cents("salary_cents"),
        _cents("charges_cents"),
        _cents("travel_cents"),
        _cents("equipment_cents"),
        _cents("overheads_cents"),
        sa.Column("version", sa.Integer, nullable=False),
        _instant("opened_at"),
        _instant("changed_at"),
        sa.UniqueConstraint("post_id", "year"),
    )
    op.create_index("plans_departement", "plans", ["departement", "id"])
    op.create_table(
        "contributions",
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column("plan_id", sa.Uuid, sa.ForeignKey("plans.id"), nullable=False),
        sa.Column("funder_id", sa.Uuid, sa.ForeignKey("funders.id"), nullable=False),
        _cents("amount_cents"),
        _text("status"),
        _instant("changed_at"),
    )
    op.create_index("contributions_plan", "contributions", ["plan_id", "id"])
    op.create_index(
        "contributions_one_each", "contributions", ["plan_id", "funder_id"], unique=True, postgresql_where=sa.text("status <> 'refused'")
    )
    op.create_table(
        "agreements",
        sa.Column("id", sa.Uuid, primary_key=True),
        _text("departement"),
        sa.Column("post_ids", sa.ARRAY(sa.Uuid), nullable=False),
        sa.Column("starts_on", sa.Date, nullable=False),
        sa.Column("ends_on", sa.Date, nullable=False),
        sa.Column("channels", sa.ARRAY(sa.Text), nullable=False),
        sa.Column("targets", sa.ARRAY(sa.Text), nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        _instant("signed_at"),
    )
    op.create_index("agreements_departement", "agreements", ["departement", "id"])
    op.create_table(
        "posts_heard",
        sa.Column("source", sa.Text, primary_key=True),
        sa.Column("post_id", sa.Uuid, primary_key=True),
        sa.Column("sequence", sa.BigInteger, primary_key=True, autoincrement=False),
        _text("departement"),
        sa.Column("employer_id", sa.Uuid, nullable=False),
        sa.Column("closed", sa.Boolean, nullable=False),
    )
    op.create_table(
        "activity_heard",
        sa.Column("source", sa.Text, primary_key=True),
        sa.Column("sequence", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("referral_id", sa.Uuid, nullable=False),
        sa.Column("post_id", sa.Uuid, nullable=False),
        _text("what"),
        sa.Column("year", sa.SmallInteger, nullable=False),
    )
    op.create_index("activity_heard_post", "activity_heard", ["post_id", "year"])
    op.create_index("activity_heard_referral", "activity_heard", ["referral_id"])


def downgrade() -> None:
    for table in ("activity_heard", "posts_heard", "agreements", "contributions", "plans", "funders"):
        op.drop_table(table)
