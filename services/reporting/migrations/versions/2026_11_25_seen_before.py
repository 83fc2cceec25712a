"""Persons and situations seen before, as reception told it: out of the log of facts, for what was heard already."""

from alembic import op

revision = "reporting_seen_before"
down_revision = "reporting_0001"
branch_labels = None
depends_on = None

STATEMENTS = (
    "ALTER TABLE situations ADD COLUMN seen_before boolean",
    "ALTER TABLE persons ADD COLUMN seen_before boolean",
    """
    UPDATE persons SET seen_before = told.returning FROM (
        SELECT f.subject, (p ->> 'person_id')::uuid AS person_id, (p ->> 'returning')::boolean AS returning
        FROM facts f, jsonb_array_elements(f.data::jsonb -> 'persons') AS p
        WHERE f.source = 'referrals' AND f.type = 'fr.maillon.referral.received.v1' AND p ->> 'returning' IS NOT NULL
    ) AS told WHERE persons.referral_id = told.subject AND persons.person_id = told.person_id
    """,
    """
    UPDATE situations SET seen_before = told.any_known FROM (
        SELECT referral_id, bool_or(seen_before) AS any_known FROM persons WHERE seen_before IS NOT NULL GROUP BY referral_id
    ) AS told WHERE situations.referral_id = told.referral_id
    """,
    """
    INSERT INTO tallies (measure, dimension, departement, month, code, number)
    SELECT 'situations', 'seen_before', departement, date_trunc('month', received_on)::date, coalesce(seen_before::text, ''), count(*)
    FROM situations WHERE received_on IS NOT NULL GROUP BY 3, 4, 5
    """,
    """
    INSERT INTO tallies (measure, dimension, departement, month, code, number)
    SELECT 'persons', 'seen_before', departement, date_trunc('month', received_on)::date, coalesce(seen_before::text, ''), count(*)
    FROM persons GROUP BY 3, 4, 5
    """,
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    op.execute("DELETE FROM tallies WHERE dimension = 'seen_before'")
    op.execute("ALTER TABLE persons DROP COLUMN seen_before")
    op.execute("ALTER TABLE situations DROP COLUMN seen_before")
