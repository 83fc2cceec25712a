"""The beginning of the audit log: what goes when its time is over, what proves that it was, and what only pretends."""

from datetime import UTC, datetime, timedelta

import pytest

from libs.chassis import audit as log
from libs.chassis import purging, streams
from libs.chassis.audit import Checkpoint, checkpoint_audit
from libs.chassis.database import Database, RawConnection
from tests.chassis.signing import process
from tests.chassis.test_audit import SIGNER, TAMPERINGS, connection, database, eight_entries, kinds, read_cases, sign, verified

__all__ = ["connection", "database"]  # fixtures


async def sign_days_ago(connection: RawConnection, sequence: int, days: int) -> None:
    """As the job did then."""
    digest = await connection.fetchval("SELECT digest FROM stream_events WHERE stream = 'audit' AND sequence = $1", sequence)
    at = datetime.now(UTC) - timedelta(days=days)
    jws = SIGNER.sign(Checkpoint("partners", "audit", 1, sequence, digest, at).statement())
    await connection.execute("INSERT INTO stream_checkpoints VALUES ('audit', 1, $1, $2, $3, $4)", sequence, digest, jws, at)


async def purge(database: Database, limit: int = 10_000) -> int:
    async with database.transaction() as session:
        return await purging.purge(session, keep_days=30, keep_audit_days=30, limit=limit)


async def test_a_log_stays_intact_through_purge_and_restore(database: Database, connection: RawConnection) -> None:
    await read_cases(database, connection, 6)
    outside = await sign(database)
    await sign_days_ago(connection, 4, days=31)
    assert await purge(database) == 4
    async with database.transaction() as session:
        await streams.new_epoch(session, "restauration du 24 novembre")
    await read_cases(database, connection, 2)

    seen = await verified(connection, [outside], keep_days=30)

    assert seen.intact, seen.findings
    assert (seen.first_sequence, seen.last_sequence, seen.epoch, seen.vouched_sequence) == (5, 8, 2, 6)


async def test_what_is_purged_was_vouched_for_before_its_time_was_over(database: Database, connection: RawConnection) -> None:
    """By nothing that an edit of the table could age: the log is as intact after each purge as before."""
    await read_cases(database, connection, 6)
    await sign(database)
    await connection.execute("UPDATE stream_events SET recorded_at = now() - interval '4 years' WHERE stream = 'audit' AND sequence < 6")
    assert await purge(database) == 0

    await sign_days_ago(connection, 2, days=80)
    await sign_days_ago(connection, 5, days=31)
    gone = [await purge(database, limit=2) for _ in range(4)]

    assert gone == [2, 2, 1, 0]
    assert (await verified(connection, keep_days=30)).intact
    assert (await verified(connection, keep_days=30)).first_sequence == 6


async def test_a_log_in_which_nothing_happened_for_long_is_still_vouched_for_after_its_purge(
    database: Database, connection: RawConnection
) -> None:
    await read_cases(database, connection, 3)
    await sign_days_ago(connection, 2, days=log.KEEP_DAYS + 90)
    await sign_days_ago(connection, 3, days=log.KEEP_DAYS + 60)
    assert await purge(database) == 3

    await checkpoint_audit(process(database, SIGNER))

    assert [row["sequence"] for row in await connection.fetch("SELECT sequence FROM stream_checkpoints")] == [3]
    assert (await verified(connection, keep_days=log.KEEP_DAYS)).intact


async def test_who_ages_a_checkpoint_so_that_our_own_purge_takes_its_entries_is_betrayed(
    database: Database, connection: RawConnection
) -> None:
    await eight_entries(database, connection)
    await connection.execute("UPDATE stream_checkpoints SET at = at - interval '4 years' WHERE sequence = 6")

    assert await purge(database) == 6

    assert kinds(await verified(connection, keep_days=30)) == {"checkpoint-invalid", "purged-early"}
    await connection.execute("DELETE FROM stream_checkpoints WHERE sequence = 6")
    assert kinds(await verified(connection, keep_days=30)) == {"purged-early"}


async def test_planted_a_verifier_that_wants_no_proof_of_age_misses_a_beheading(
    database: Database, connection: RawConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    await eight_entries(database, connection)
    await TAMPERINGS["the beginning is passed off as purged with the checkpoints that vouch for it"][0](connection)
    assert kinds(await verified(connection, keep_days=30)) == {"purged-early"}

    monkeypatch.setattr(log._Verification, "_purged_early", lambda self: None)

    assert (await verified(connection, keep_days=30)).intact
