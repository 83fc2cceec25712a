"""A rolling upgrade: a process of the release before writes rows that lack the columns it does not know of."""

from sqlalchemy import text

from tests.services.partners.conftest import Partners

LATER = ("sexes", "age_bands")


async def test_a_service_that_an_old_process_registers_takes_anybody(directory: Partners) -> None:
    known = await directory.rows(
        "SELECT column_name FROM information_schema.columns WHERE table_schema = current_schema()"
        f" AND table_name = 'services' AND column_name <> 'id' AND column_name <> ALL('{{{','.join(LATER)}}}')"
    )
    names = ", ".join(row.column_name for row in known)

    async with directory.runtime.database.transaction() as session:
        copied = text(f"INSERT INTO services (id, {names}) SELECT gen_random_uuid(), {names} FROM services LIMIT 1 RETURNING *")
        made = (await session.execute(copied)).one()

    assert (made.sexes, made.age_bands) == ([], [])
