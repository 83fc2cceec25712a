"""What of the audit log is known outside the database: its head, signed, in the service's own log, whatever lies in the database meanwhile."""

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession
from structlog.testing import capture_logs

from libs.chassis import audit as log
from libs.chassis import telemetry
from libs.chassis.audit import Checkpoint, Signed, checkpoint_audit, keep
from libs.chassis.database import Database, RawConnection
from libs.chassis.signing import Signer
from tests.chassis.signing import logged, process
from tests.chassis.test_audit import SIGNER, Tampering, by, connection, database, kinds, read_cases, verified
from tests.planted import seen_red

__all__ = ["connection", "database"]  # fixtures


def heads(lines: Sequence[Mapping[str, Any]]) -> list[int]:
    return [Checkpoint.signed(line["jws"], SIGNER.public_jwks()).sequence for line in lines if line["event"] == "audit.checkpoint"]


def contradicted() -> float:
    return float(telemetry.CHECKPOINTS_CONTRADICTED.labels("partners")._value.get())


async def test_each_process_logs_a_head_once_and_the_database_keeps_one_of_it(database: Database, connection: RawConnection) -> None:
    one, another = process(database, SIGNER), process(database, SIGNER)
    assert heads(await logged(one)) == []
    await read_cases(database, connection, 2)

    said = [heads(await logged(each)) for each in (one, one, another)]
    await read_cases(database, connection, 1)
    said += [heads(await logged(each)) for each in (another, one, one)]

    assert said == [[2], [], [2], [3], [3], []]
    assert [row["sequence"] for row in await connection.fetch("SELECT sequence FROM stream_checkpoints ORDER BY sequence")] == [2, 3]


async def test_a_head_is_logged_though_the_database_refuses_to_keep_it(database: Database, connection: RawConnection) -> None:
    await read_cases(database, connection, 2)
    await connection.execute("DROP TABLE stream_checkpoints")

    with capture_logs() as lines, pytest.raises(DBAPIError):
        await checkpoint_audit(process(database, SIGNER))

    assert heads(lines) == [2]


TAKEN: Mapping[str, tuple[Tampering, str]] = {
    "junk": (
        by("INSERT INTO stream_checkpoints SELECT 'audit', 1, number, '\\x00', 'x', now() FROM generate_series(1, 50) number"),
        "checkpoint-invalid",
    ),
    "a signature of another digest": (
        by("UPDATE stream_checkpoints SET digest = sha256('x')"),
        "checkpoint-invalid",
    ),
    "another time": (by("UPDATE stream_checkpoints SET at = at - interval '4 years'"), "checkpoint-invalid"),
    "another history": (
        by("UPDATE stream_events SET digest = sha256('x')", "UPDATE streams SET digest = sha256('x')"),
        "checkpoint-contradicted",
    ),
}


@pytest.mark.parametrize("name", TAKEN)
async def test_a_place_that_something_else_has_taken_is_an_alert_and_found(
    name: str, database: Database, connection: RawConnection
) -> None:
    tamper, found = TAKEN[name]
    await read_cases(database, connection, 3)
    if name != "junk":
        await logged(process(database, SIGNER))
    await tamper(connection)
    before = contradicted()

    lines = await logged(process(database, SIGNER))

    assert heads(lines) == [3]
    errors = [line for line in lines if line["log_level"] == "error"]
    assert [(line["event"], line["source"], line["sequence"]) for line in errors] == [("audit.checkpoint_contradicted", "partners", 3)], (
        "nobody is told that something else is in its place"
    )
    assert contradicted() == before + 1
    assert found in kinds(await verified(connection))


async def test_the_same_head_signed_before_is_no_contradiction(database: Database, connection: RawConnection) -> None:
    await read_cases(database, connection, 3)
    await logged(process(database, SIGNER))

    lines = await logged(process(database, SIGNER))

    assert [line["event"] for line in lines] == ["audit.checkpoint"]


@pytest.mark.parametrize("name", TAKEN)
async def test_planted_a_place_that_is_taken_for_kept_is_seen(
    name: str, database: Database, connection: RawConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def kept(session: AsyncSession, signer: Signer, signed: Signed) -> bool:
        await keep(session, signer, signed)
        return True

    monkeypatch.setattr(log, "keep", kept)

    await seen_red(
        test_a_place_that_something_else_has_taken_is_an_alert_and_found(name, database, connection),
        "nobody is told that something else is in its place",
    )
