"""Services are searched by département at the desk."""

import sqlalchemy as sa
from alembic import op

revision = "referrals_services_heard"
down_revision = "referrals_delays"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("services_heard_departement", "services_heard", ["departement"], postgresql_where=sa.text("NOT closed"))


def downgrade() -> None:
    op.drop_index("services_heard_departement", "services_heard")
