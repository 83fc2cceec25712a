"""Orientations: which one another replaces, when the partner was reminded; links by which a partner without account answers."""

import sqlalchemy as sa
from alembic import op

revision = "referrals_orientations"
down_revision = "referrals_corrections"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("orientations", sa.Column("replaces_id", sa.Uuid, nullable=True))
    op.add_column("orientations", sa.Column("reminded_at", sa.DateTime(timezone=True), nullable=True))
    op.create_index(
        "orientations_organization_open",
        "orientations",
        ["organization_id", "status", "expires_at"],
        postgresql_where=sa.text("status IN ('requested', 'accepted', 'in-progress')"),
    )
    op.create_table(
        "orientation_links",
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column("orientation_id", sa.Uuid, sa.ForeignKey("orientations.id"), nullable=False),
        sa.Column("token_hash", sa.LargeBinary, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("used_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
    )
    op.create_index(
        "orientation_links_open",
        "orientation_links",
        ["orientation_id"],
        unique=True,
        postgresql_where=sa.text("used_at IS NULL AND revoked_at IS NULL"),
    )


def downgrade() -> None:
    op.drop_table("orientation_links")
    op.drop_index("orientations_organization_open", "orientations")
    op.drop_column("orientations", "reminded_at")
    op.drop_column("orientations", "replaces_id")
