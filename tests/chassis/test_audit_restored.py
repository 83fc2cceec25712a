"""What is read and done between a restore and the new epoch: its entries wait, and why they are not numbered meanwhile (decision 3)."""

from collections.abc import AsyncIterator, Callable

import pytest

from libs.chassis import streams
from libs.chassis.database import Database, RawConnection
from libs.chassis.relay import RelayDiverged, stamp
from tests.chassis.speaking import database as speaking_database
from tests.chassis.speaking import drain
from tests.chassis.test_audit import kinds, read_cases, sign, verified

BACK_TO_TWO = (
    "DELETE FROM stream_events WHERE stream = 'audit' AND sequence > 2",
    "UPDATE streams SET sequence = 2, digest = (SELECT digest FROM stream_events WHERE stream = 'audit' AND sequence = 2) WHERE stream = 'audit'",
    "DELETE FROM stream_checkpoints WHERE sequence > 2",
)


@pytest.fixture
async def restored(database_url: Callable[[str | None], str]) -> AsyncIterator[tuple[Database, RawConnection, str]]:
    """A log of two entries that had five: the checkpoint of the fifth was kept outside. The service knows that it was restored."""
    database = speaking_database(database_url(None))
    connection = await database.connect()
    await read_cases(database, connection, 5)
    outside = await sign(database)
    for statement in BACK_TO_TWO:
        await connection.execute(statement)
    async with database.transaction() as session:
        await streams.mark_diverged(session, streams.AUDIT, "restored", epoch=1)
    yield database, connection, outside
    await connection.close()
    await database.close()


async def test_entries_written_before_the_new_epoch_wait_unchanged_and_are_chained_in_it(
    restored: tuple[Database, RawConnection, str],
) -> None:
    database, connection, outside = restored

    with pytest.raises(RelayDiverged):
        await read_cases(database, connection, 3)
    waiting = [(row["event_id"], row["data"]) for row in await connection.fetch("SELECT event_id, data FROM outbox ORDER BY position")]
    async with database.transaction() as session:
        await streams.new_epoch(session, "restauration")
    await drain(connection)

    chained = await connection.fetch("SELECT event_id, data, epoch FROM stream_events WHERE sequence > 2 ORDER BY sequence")
    assert [(row["event_id"], row["data"]) for row in chained] == waiting
    assert {row["epoch"] for row in chained} == {2}
    assert kinds(await verified(connection, [outside])) == {"history-replaced"}  # what the restore lost, and nothing else


async def test_planted_entries_numbered_before_the_new_epoch_pass_for_a_history_rewritten(
    restored: tuple[Database, RawConnection, str],
) -> None:
    """Their numbers were given before, in the same epoch, and signed: the checkpoint outside says so, of an honest log."""
    database, connection, outside = restored

    await connection.execute("UPDATE streams SET diverged_at = NULL, diverged_reason = NULL")
    await read_cases(database, connection, 3)
    async with database.transaction() as session:
        await streams.new_epoch(session, "restauration")
    assert await stamp(connection) == 0

    assert kinds(await verified(connection, [outside])) == {"checkpoint-contradicted"}
