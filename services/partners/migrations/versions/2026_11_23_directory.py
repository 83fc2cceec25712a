"""The directory: organisations, services, locations, communes, units, posts; what was heard of plans and of answers to orientations."""

import sqlalchemy as sa
from alembic import op

revision = "partners_0001"
down_revision = None
branch_labels = ("partners",)
depends_on = "chassis_vault_0001"


def _texts(name: str) -> sa.Column[list[str]]:
    return sa.Column(name, sa.ARRAY(sa.Text), nullable=False)


def _instant(name: str, *, nullable: bool = False) -> sa.Column[object]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable)


def _life(first: str) -> tuple[sa.Column[object], ...]:
    return (
        sa.Column("version", sa.Integer, nullable=False),
        _instant(first),
        _instant("changed_at"),
        _instant("closed_at", nullable=True),
    )


def upgrade() -> None:
    op.create_table(
        "organizations",
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column("departement", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("siret", sa.Text, nullable=False),
        sa.Column("rna", sa.Text, nullable=True),
        sa.Column("offence_data_allowed", sa.Boolean, nullable=False),
        *_life("registered_at"),
    )
    op.create_index("organizations_siret", "organizations", ["siret"], unique=True, postgresql_where=sa.text("closed_at IS NULL"))
    op.create_index("organizations_departement", "organizations", ["departement", "id"])
    op.create_table(
        "services",
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column("organization_id", sa.Uuid, sa.ForeignKey("organizations.id"), nullable=False),
        sa.Column("departement", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("description", sa.Text, nullable=True),
        _texts("themes"),
        _texts("needs"),
        _texts("communes"),
        sa.Column("capacity", sa.Integer, nullable=True),
        sa.Column("phone", sa.Text, nullable=True),
        sa.Column("email", sa.Text, nullable=True),
        sa.Column("url", sa.Text, nullable=True),
        sa.Column("opening_hours", sa.Text, nullable=True),
        *_life("registered_at"),
    )
    op.create_index("services_departement", "services", ["departement", "id"])
    op.create_index("services_organization", "services", ["organization_id"])
    op.create_index("services_communes", "services", ["communes"], postgresql_using="gin")
    op.create_table(
        "locations",
        sa.Column("service_id", sa.Uuid, sa.ForeignKey("services.id"), primary_key=True),
        sa.Column("position", sa.SmallInteger, primary_key=True, autoincrement=False),
        sa.Column("id", sa.Uuid, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("address", sa.Text, nullable=False),
        sa.Column("postcode", sa.Text, nullable=False),
        sa.Column("commune", sa.Text, nullable=False),
    )
    op.create_table(
        "communes",
        sa.Column("code", sa.Text, primary_key=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("departement", sa.Text, nullable=False),
        sa.Column("region", sa.Text, nullable=False),
        sa.Column("population", sa.Integer, nullable=True),
        _texts("postcodes"),
    )
    op.create_index("communes_departement", "communes", ["departement", "code"])
    op.create_index("communes_postcodes", "communes", ["postcodes"], postgresql_using="gin")
    op.create_table(
        "units",
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column("departement", sa.Text, nullable=False),
        sa.Column("force", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("code", sa.Text, nullable=True),
        sa.Column("label", sa.Text, nullable=False),
        sa.Column("imported", sa.Boolean, nullable=False),
        *_life("registered_at"),
    )
    op.create_index("units_departement", "units", ["departement", "id"])
    op.create_table(
        "unit_communes",
        sa.Column("unit_id", sa.Uuid, sa.ForeignKey("units.id"), primary_key=True),
        sa.Column("commune", sa.Text, primary_key=True),
    )
    op.create_index("unit_communes_commune", "unit_communes", ["commune"])
    op.create_table(
        "posts",
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column("departement", sa.Text, nullable=False),
        sa.Column("employer_id", sa.Uuid, sa.ForeignKey("organizations.id"), nullable=False),
        sa.Column("force", sa.Text, nullable=False),
        sa.Column("label", sa.Text, nullable=False),
        sa.Column("full_time_percent", sa.SmallInteger, nullable=False),
        _texts("channels"),
        sa.Column("units", sa.ARRAY(sa.Uuid), nullable=False),
        _texts("communes"),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("opened_on", sa.Date, nullable=False),
        *_life("opened_at"),
    )
    op.create_index("posts_departement", "posts", ["departement", "id"])
    op.create_index("posts_employer", "posts", ["employer_id"])
    op.create_index("posts_units", "posts", ["units"], postgresql_using="gin")
    op.create_index("posts_communes", "posts", ["communes"], postgresql_using="gin")
    op.create_table(
        "plans_heard",
        sa.Column("source", sa.Text, primary_key=True),
        sa.Column("plan_id", sa.Uuid, primary_key=True),
        sa.Column("sequence", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("post_id", sa.Uuid, nullable=False),
        sa.Column("year", sa.SmallInteger, nullable=False),
        sa.Column("balanced", sa.Boolean, nullable=False),
        sa.Column("budget_cents", sa.BigInteger, nullable=False),
        sa.Column("funded_cents", sa.BigInteger, nullable=False),
        _instant("changed_at"),
    )
    op.create_index("plans_heard_post", "plans_heard", ["post_id", "year"])
    op.create_table(
        "orientation_answers",
        sa.Column("source", sa.Text, primary_key=True),
        sa.Column("sequence", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("service_id", sa.Uuid, nullable=False),
        sa.Column("answer", sa.Text, nullable=False),
        sa.Column("delay_minutes", sa.Integer, nullable=True),
        _instant("answered_at"),
    )
    op.create_index("orientation_answers_service", "orientation_answers", ["service_id", "answered_at"])


def downgrade() -> None:
    for table in (
        "orientation_answers",
        "plans_heard",
        "posts",
        "unit_communes",
        "units",
        "communes",
        "locations",
        "services",
        "organizations",
    ):
        op.drop_table(table)
