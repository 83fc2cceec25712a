"""Persons by how their referral was closed, duplicates apart from new and known ones, due times that passed: out of what was heard already."""

from alembic import op

revision = "reporting_duplicates"
down_revision = "reporting_alerts"
branch_labels = None
depends_on = None

_SEEN = "coalesce(CASE WHEN close_reason = 'duplicate' THEN 'duplicate' ELSE seen_before::text END, '')"


def _count(measure: str, dimension: str, code: str) -> str:
    return (
        "INSERT INTO tallies (measure, dimension, departement, month, code, number)"  # noqa: S608 - names of our own
        f" SELECT '{measure}', '{dimension}', departement, date_trunc('month', received_on)::date, {code}, count(*)"
        f" FROM {measure} WHERE received_on IS NOT NULL GROUP BY 3, 4, 5"
    )


def _told(column: str, of: str, value: str, first: str) -> str:
    """A column of the situations, as the first fact of these types in this order tells it."""
    return (
        f"UPDATE situations SET {column} = told.at FROM (SELECT DISTINCT ON (subject) subject, ({value})::timestamptz AS at"  # noqa: S608
        f" FROM facts WHERE source = 'referrals' AND {of} ORDER BY subject, {first}) AS told WHERE situations.referral_id = told.subject"
    )


STATEMENTS = (
    "ALTER TABLE persons ADD COLUMN close_reason text",
    "ALTER TABLE situations ADD COLUMN first_contact_at timestamptz",
    "ALTER TABLE situations ADD COLUMN due_passed_at timestamptz",
    "UPDATE persons SET close_reason = s.close_reason FROM situations s WHERE s.referral_id = persons.referral_id AND s.close_reason IS NOT NULL",
    _told("due_passed_at", "type = 'fr.maillon.referral.overdue.v1'", "data::jsonb ->> 'due_at'", first="at"),
    _told(
        "first_contact_at",
        "(type = 'fr.maillon.contact.withdrawn.v1' OR (type = 'fr.maillon.contact.attempted.v1' AND (data::jsonb ->> 'first')::boolean))",
        "coalesce(data::jsonb ->> 'attempted_at', data::jsonb ->> 'first_attempted_at')",
        first="position DESC",
    ),
    "DELETE FROM tallies WHERE dimension = 'seen_before'",
    _count("situations", "seen_before", _SEEN),
    _count("persons", "seen_before", _SEEN),
    _count("persons", "close_reason", "coalesce(close_reason, '')"),
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    op.execute("DELETE FROM tallies WHERE dimension = 'seen_before' OR (measure = 'persons' AND dimension = 'close_reason')")
    for measure in ("situations", "persons"):
        op.execute(_count(measure, "seen_before", "coalesce(seen_before::text, '')"))
    op.execute("ALTER TABLE persons DROP COLUMN close_reason")
    op.execute("ALTER TABLE situations DROP COLUMN first_contact_at, DROP COLUMN due_passed_at")
