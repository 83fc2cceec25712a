"""A rolling upgrade: a process of the release before writes rows that lack the columns it does not know of."""

from typing import Any

import pytest
from sqlalchemy import text

from libs.contracts import demonstration as d
from tests.services.referrals.conftest import Referrals
from tests.services.referrals.test_exports import full_life

ADDED = {
    "orientations": ("departement", "current_post_id", "actor", "actor_role"),
    "requisitions": ("authority", "asked", "corrects_id"),
    "contact_attempts": ("override_reason", "overridden", "actor", "actor_role", "withdrawn_by_role"),
    "moves": ("actor_role",),
    "corrections": ("actor_role",),
    "services_heard": ("sexes", "age_bands"),
    "units_heard": ("closed",),
    "persons": ("name_hash",),
}
"""Columns that came after their table."""


async def written_by_an_old_process(referrals: Referrals, table: str) -> Any:
    await full_life(referrals)
    known = await referrals.rows(
        "SELECT column_name FROM information_schema.columns WHERE table_schema = current_schema()"
        f" AND table_name = '{table}' AND column_name <> 'id' AND column_name <> ALL('{{{','.join(ADDED[table])}}}')"
    )
    names = ", ".join(row.column_name for row in known)
    async with referrals.runtime.database.transaction() as session:
        copied = text(f"INSERT INTO {table} (id, {names}) SELECT gen_random_uuid(), {names} FROM {table} LIMIT 1 RETURNING *")
        return (await session.execute(copied)).one()


@pytest.mark.parametrize("table", ADDED)
async def test_a_row_without_the_columns_that_came_later_is_still_taken(referrals: Referrals, table: str) -> None:
    assert await written_by_an_old_process(referrals, table)


async def test_an_orientation_of_an_old_process_is_on_the_lists_of_its_post_and_departement(referrals: Referrals) -> None:
    made = await written_by_an_old_process(referrals, "orientations")

    assert (made.departement, made.current_post_id) == ("95", d.POST_CERGY)
