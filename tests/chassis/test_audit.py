"""The audit log: every entry leaves a trace that cannot be changed, moved or removed unnoticed. Each tampering is tried."""

import hashlib
import json
import struct
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from joserfc.jwk import ECKey

from libs.chassis import audit as log
from libs.chassis import streams
from libs.chassis.audit import Checkpoint, NotACode, Verified, audit, checkpoint, keep, verify_stream
from libs.chassis.database import Database, RawConnection
from libs.chassis.relay import stamp
from libs.chassis.security import Principal
from libs.chassis.signing import SignatureInvalid, Signer
from libs.contracts.vocabularies import Purpose, Role
from tests.chassis.speaking import database as speaking_database
from tests.chassis.speaking import drain, fact, say

SIGNER = Signer(ECKey.generate_key("P-256").as_dict(private=True))
WORKER = Principal("iscg-95", "iscg-95", Role.ISCG, None, frozenset({"departement:95"}), frozenset())
Tampering = Callable[[RawConnection], Awaitable[object]]


@pytest.fixture
async def database(database_url: Callable[[str | None], str]) -> AsyncIterator[Database]:
    database = speaking_database(database_url(None))
    yield database
    await database.close()


@pytest.fixture
async def connection(database: Database) -> AsyncIterator[RawConnection]:
    connection = await database.connect()
    yield connection
    await connection.close()


async def read_cases(database: Database, connection: RawConnection, count: int) -> None:
    async with database.transaction() as session:
        for _ in range(count):
            await audit(session, WORKER, operation="read_referral", subject=f"referrals/{uuid4()}", purpose=Purpose.FOLLOW_UP)
    await drain(connection)


async def sign(database: Database) -> str:
    async with database.transaction() as session:
        signed = await checkpoint(session, SIGNER, "partners")
        assert signed is not None
        assert await keep(session, SIGNER, signed)
    return signed.jws


async def verified(connection: RawConnection, checkpoints: Sequence[str] = (), keep_days: int | None = None) -> Verified:
    return await verify_stream(
        connection, streams.AUDIT, source="partners", jwks=SIGNER.public_jwks(), checkpoints=checkpoints, keep_days=keep_days
    )


def kinds(seen: Verified) -> set[str]:
    return {finding.kind for finding in seen.findings}


# What an entry holds


async def test_an_entry_says_who_did_what_on_which_object_and_why(database: Database, connection: RawConnection) -> None:
    organization = uuid4()
    partner = Principal("partner-95", "partner-95", Role.PARTNER, organization, frozenset(), frozenset())

    async with database.transaction() as session:
        await audit(
            session, partner, operation="read_orientation", subject="orientations/1", purpose=Purpose.ORIENTATION, detail={"persons": "2"}
        )
    await drain(connection)

    row = await connection.fetchrow("SELECT * FROM stream_events WHERE stream = 'audit'")
    assert row is not None
    entry = json.loads(row["data"])
    assert UUID(hex=entry.pop("trace"))
    assert datetime.now(UTC) - datetime.fromisoformat(entry.pop("at")) < timedelta(minutes=1)
    assert entry == {
        "client": "partner-95",
        "actor": "partner-95",
        "role": "partner",
        "organization": str(organization),
        "operation": "read_orientation",
        "subject": "orientations/1",
        "purpose": "orientation",
        "detail": {"persons": "2"},
    }
    assert row["subject"] == "orientations/1"


async def test_no_entry_is_left_by_what_was_rolled_back(database: Database, connection: RawConnection) -> None:
    with pytest.raises(RuntimeError):
        async with database.transaction() as session:
            await audit(session, WORKER, operation="read_referral", subject="referrals/1")
            raise RuntimeError

    assert await drain(connection) == 0


@pytest.mark.parametrize("text", ["Jeanne Martin", "jeanne@example.fr", "+33612345678", "", "é", "a" * 121, "a\nb", "12 rue des Lilas"])
async def test_what_could_be_a_personal_value_is_refused(database: Database, text: str) -> None:
    async with database.transaction() as session:
        with pytest.raises(NotACode):
            await audit(session, WORKER, operation="read_referral", subject=text)
        with pytest.raises(NotACode):
            await audit(session, WORKER, operation="read_referral", subject="referrals/1", detail={"found": text})


# An honest log


async def test_an_untouched_log_is_intact(database: Database, connection: RawConnection) -> None:
    await read_cases(database, connection, 5)
    outside = await sign(database)
    await read_cases(database, connection, 3)

    seen = await verified(connection, [outside], keep_days=1)

    assert seen.intact, seen.findings
    assert (seen.entries, seen.first_sequence, seen.last_sequence, seen.vouched_sequence) == (8, 1, 8, 5)


async def test_an_empty_log_is_intact(connection: RawConnection) -> None:
    seen = await verified(connection)

    assert seen.intact
    assert seen.entries == 0


async def test_an_entry_has_the_time_of_its_writing_however_late_it_is_stamped(database: Database, connection: RawConnection) -> None:
    async with database.transaction() as session:
        await audit(session, WORKER, operation="read_referral", subject="referrals/1")
    written = await connection.fetchval("SELECT clock_timestamp()")
    await drain(connection)

    assert await connection.fetchval("SELECT recorded_at FROM stream_events WHERE stream = 'audit'") < written


async def test_every_other_stream_is_verified_the_same_way(database: Database, connection: RawConnection) -> None:
    await say(database, fact(), fact())
    await drain(connection)
    await connection.execute("UPDATE stream_events SET data = '{}' WHERE stream = 'internal' AND sequence = 1")

    internal = await verify_stream(connection, "internal", source="partners", jwks=SIGNER.public_jwks())
    departement = await verify_stream(connection, "departement:95", source="partners", jwks=SIGNER.public_jwks())

    assert kinds(internal) == {"altered"}
    assert departement.intact


# Tampering, each kind tried

EDIT = """UPDATE stream_events SET data = convert_to(replace(convert_from(data, 'UTF8'), 'iscg-95', 'iscg-78'), 'UTF8')
          WHERE stream = 'audit' AND sequence = 4"""
RELABEL = "UPDATE stream_events SET subject = 'referrals/other' WHERE stream = 'audit' AND sequence = 4"
BACKDATE = "UPDATE stream_events SET recorded_at = recorded_at - interval '1 year' WHERE stream = 'audit' AND sequence = 4"
DELETE = "DELETE FROM stream_events WHERE stream = 'audit' AND sequence = 4"
TRUNCATE = "DELETE FROM stream_events WHERE stream = 'audit' AND sequence > 5"
EMPTY = "DELETE FROM stream_events WHERE stream = 'audit'"


def by(*statements: str) -> Tampering:
    async def tamper(connection: RawConnection) -> None:
        for statement in statements:
            await connection.execute(statement)

    return tamper


async def exchange(connection: RawConnection, *, with_digests: bool) -> None:
    """Two entries change places."""
    moved = (
        "attributes = b.attributes, data = b.data, event_id = b.event_id, type = b.type, subject = b.subject, recorded_at = b.recorded_at"
    )
    digests = ", digest = b.digest" if with_digests else ""
    await connection.execute(
        f"UPDATE stream_events a SET {moved}{digests} FROM stream_events b WHERE a.stream = 'audit' AND b.stream = 'audit'"
        " AND ((a.sequence = 3 AND b.sequence = 5) OR (a.sequence = 5 AND b.sequence = 3))"
    )


async def insert(connection: RawConnection) -> None:
    await connection.execute(
        "INSERT INTO stream_events SELECT stream, 9, epoch, event_id, type, subject, attributes, data, digest, recorded_at"
        " FROM stream_events WHERE stream = 'audit' AND sequence = 8"
    )


async def close_the_gap(connection: RawConnection) -> None:
    """Delete one entry and renumber what follows, without the means to recompute digests."""
    await connection.execute(DELETE)
    for sequence in range(5, 9):
        await connection.execute("UPDATE stream_events SET sequence = sequence - 1 WHERE stream = 'audit' AND sequence = $1", sequence)
    await connection.execute("UPDATE streams SET sequence = 7 WHERE stream = 'audit'")


async def rechain(connection: RawConnection) -> None:
    """What an insider with the code can do: recompute every number, every digest and the head."""
    rows = await connection.fetch("SELECT * FROM stream_events WHERE stream = 'audit' ORDER BY sequence")
    await connection.execute("DELETE FROM stream_events WHERE stream = 'audit'")
    previous = streams.GENESIS
    for sequence, row in enumerate(rows, start=1):
        previous = streams.digest(previous, row["epoch"], sequence, row["attributes"], row["data"])
        await connection.execute(
            "INSERT INTO stream_events VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
            *("audit", sequence, row["epoch"], row["event_id"], row["type"], row["subject"]),
            *(row["attributes"], row["data"], previous, row["recorded_at"]),
        )
    await connection.execute("UPDATE streams SET sequence = $1, digest = $2 WHERE stream = 'audit'", len(rows), previous)


async def exchange_content(connection: RawConnection) -> None:
    await exchange(connection, with_digests=False)


async def exchange_with_digests(connection: RawConnection) -> None:
    await exchange(connection, with_digests=True)


def and_rechain(first: Tampering) -> Tampering:
    async def tamper(connection: RawConnection) -> None:
        await first(connection)
        await rechain(connection)

    return tamper


TAMPERINGS: dict[str, tuple[Tampering, set[str]]] = {
    "an entry is edited": (by(EDIT), {"altered"}),
    "what the table shows of an entry is edited": (by(RELABEL), {"relabelled"}),
    "an entry is hidden from who asks for its time": (by(BACKDATE), {"relabelled"}),
    "an entry is deleted": (by(DELETE), {"missing", "altered"}),
    "an entry is deleted and the gap closed": (close_the_gap, {"altered", "checkpoint-contradicted", "checkpoint-ahead"}),
    "two entries change places": (exchange_content, {"altered"}),
    "two entries change places with their digests": (exchange_with_digests, {"altered"}),
    "the end is cut off": (by(TRUNCATE), {"truncated", "checkpoint-ahead"}),
    "everything is deleted": (by(EMPTY), {"truncated", "checkpoint-ahead"}),
    "everything is deleted with its head": (by(EMPTY, "DELETE FROM streams"), {"checkpoint-ahead"}),
    "the end is cut off and the head set back": (
        by(
            TRUNCATE,
            "UPDATE streams SET sequence = 5, digest = (SELECT digest FROM stream_events WHERE stream = 'audit' AND sequence = 5)"
            " WHERE stream = 'audit'",
        ),
        {"checkpoint-ahead"},
    ),
    "the head is deleted": (by("DELETE FROM streams"), {"beyond-head"}),
    "the head's digest is edited": (by("UPDATE streams SET digest = sha256('x') WHERE stream = 'audit'"), {"head-altered"}),
    "an entry is added behind the head": (insert, {"altered", "beyond-head"}),
    "an entry's epoch is edited": (
        by("UPDATE stream_events SET epoch = 2 WHERE stream = 'audit' AND sequence = 8"),
        {"altered", "epoch-unexplained"},
    ),
    "the head's epoch is edited": (by("UPDATE streams SET epoch = 2 WHERE stream = 'audit'"), {"epoch-unexplained"}),
    "the beginning is passed off as purged": (
        by(
            "UPDATE streams SET purged_sequence = 7, purged_digest = (SELECT digest FROM stream_events WHERE stream = 'audit' AND sequence = 7)"
            " WHERE stream = 'audit'",
            "DELETE FROM stream_events WHERE stream = 'audit' AND sequence <= 7",
        ),
        {"purged-early"},
    ),
    "the beginning is passed off as purged with the checkpoints that vouch for it": (
        by(
            "DELETE FROM stream_checkpoints WHERE sequence < 8",
            "UPDATE streams SET purged_sequence = 7, purged_digest = (SELECT digest FROM stream_events WHERE stream = 'audit' AND sequence = 7)"
            " WHERE stream = 'audit'",
            "DELETE FROM stream_events WHERE stream = 'audit' AND sequence <= 7",
        ),
        {"purged-early"},
    ),
    "everything is passed off as purged, with every checkpoint": (
        by(
            "DELETE FROM stream_checkpoints",
            "UPDATE streams SET purged_sequence = sequence, purged_digest = digest WHERE stream = 'audit'",
            "DELETE FROM stream_events WHERE stream = 'audit'",
        ),
        {"purged-early"},
    ),
    "a checkpoint is aged": (
        by("UPDATE stream_checkpoints SET at = at - interval '4 years' WHERE sequence = 6"),
        {"checkpoint-invalid"},
    ),
    "an entry is edited and the chain recomputed": (and_rechain(by(EDIT)), {"checkpoint-contradicted"}),
    "an entry is deleted and the chain recomputed": (and_rechain(by(DELETE)), {"checkpoint-contradicted", "checkpoint-ahead"}),
    "two entries change places and the chain is recomputed": (and_rechain(exchange_content), {"checkpoint-contradicted"}),
    "the end is cut off and a restore pretended": (
        by(
            TRUNCATE,
            "INSERT INTO stream_epochs SELECT 'audit', 2, 5, digest, now(), 'restore' FROM stream_events"
            " WHERE stream = 'audit' AND sequence = 5",
            "UPDATE streams SET epoch = 2, sequence = 5, digest = (SELECT digest FROM stream_events WHERE stream = 'audit' AND sequence = 5)"
            " WHERE stream = 'audit'",
        ),
        {"history-replaced"},
    ),
    "a checkpoint's digest is edited": (
        by("UPDATE stream_checkpoints SET digest = sha256('x') WHERE sequence = 6"),
        {"checkpoint-invalid"},
    ),
    "a checkpoint's signature is another's": (
        by("UPDATE stream_checkpoints SET jws = (SELECT jws FROM stream_checkpoints WHERE sequence = 8) WHERE sequence = 6"),
        {"checkpoint-invalid"},
    ),
}


async def eight_entries(database: Database, connection: RawConnection) -> str:
    """Eight entries and two checkpoints, at 6 and 8, the last of which an archive outside holds too."""
    await read_cases(database, connection, 6)
    await sign(database)
    await read_cases(database, connection, 2)
    return await sign(database)


@pytest.mark.parametrize("name", TAMPERINGS)
async def test_tampering_is_detected_when(name: str, database: Database, connection: RawConnection) -> None:
    tamper, expected = TAMPERINGS[name]
    await eight_entries(database, connection)
    assert (await verified(connection, keep_days=365)).intact

    await tamper(connection)

    assert kinds(await verified(connection, keep_days=365)) == expected


@pytest.mark.parametrize("tamper", [by(EDIT), by(DELETE), exchange_content, by(TRUNCATE)], ids=["edit", "delete", "reorder", "truncate"])
async def test_who_rewrites_everything_in_the_database_is_betrayed_by_a_checkpoint_outside(
    tamper: Tampering, database: Database, connection: RawConnection
) -> None:
    outside = await eight_entries(database, connection)

    await tamper(connection)
    await rechain(connection)
    await connection.execute("DELETE FROM stream_checkpoints")

    assert (await verified(connection)).intact  # nothing inside the database tells
    assert (await verified(connection)).vouched_sequence == 0  # but nothing vouches for it either, and the command says so
    assert kinds(await verified(connection, [outside])) & {"checkpoint-contradicted", "checkpoint-ahead"}


async def test_a_checkpoint_of_another_key_service_or_stream_is_refused(database: Database, connection: RawConnection) -> None:
    await read_cases(database, connection, 1)
    stranger = Signer(ECKey.generate_key("P-256").as_dict(private=True))
    said = Checkpoint("partners", "audit", 1, 1, bytes(32), datetime.now(UTC))
    for jws in (
        stranger.sign(said.statement()),
        SIGNER.sign(Checkpoint("funding", "audit", 1, 1, bytes(32), datetime.now(UTC)).statement()),
        SIGNER.sign(Checkpoint("partners", "internal", 1, 1, bytes(32), datetime.now(UTC)).statement()),
        SIGNER.sign(b"{}"),
        "nonsense",
    ):
        with pytest.raises(SignatureInvalid):
            await verified(connection, [jws])


async def test_findings_are_bounded(database: Database, connection: RawConnection) -> None:
    await read_cases(database, connection, 150)
    await connection.execute("UPDATE stream_events SET data = '{}'")

    assert len((await verified(connection)).findings) == log.FINDINGS


async def test_memory_does_not_grow_with_the_log(database: Database, connection: RawConnection) -> None:
    async def peak() -> int:
        tracemalloc.start()
        assert (await verified(connection)).intact
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    await read_cases(database, connection, 2000)
    await peak()
    small = await peak()
    await connection.execute("ALTER TABLE outbox DISABLE TRIGGER ALL")
    await connection.execute(
        "INSERT INTO outbox (stream, event_id, type, subject, attributes, data)"
        " SELECT stream, event_id, type, subject, attributes, data FROM stream_events CROSS JOIN generate_series(1, 5)"
    )
    while await stamp(connection, 5000):
        pass
    large = await peak()

    assert large < small * 1.5


# A weaker verifier, planted, lets tampering pass: the proof can fail


def _without_data(previous: bytes, epoch: int, sequence: int, attributes: bytes, data: bytes) -> bytes:
    return hashlib.sha256(previous + struct.pack(">IQI", epoch, sequence, len(attributes)) + attributes).digest()


def _without_predecessor(previous: bytes, epoch: int, sequence: int, attributes: bytes, data: bytes) -> bytes:
    return hashlib.sha256(attributes + data).digest()


async def test_planted_a_digest_that_does_not_cover_the_data_misses_an_edit(
    database: Database, connection: RawConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "digest", _without_data)
    await eight_entries(database, connection)

    await by(EDIT)(connection)

    assert (await verified(connection)).intact


async def test_planted_a_digest_without_its_predecessor_misses_exchanged_entries(
    database: Database, connection: RawConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "digest", _without_predecessor)
    await eight_entries(database, connection)

    await exchange_with_digests(connection)

    assert (await verified(connection)).intact


async def test_planted_a_verifier_that_looks_at_each_entry_by_itself_misses_a_deletion(
    database: Database, connection: RawConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = log._Verification._link

    def without_counting(self: log._Verification, row: Any) -> None:
        self._sequence = row["sequence"] - 1
        link(self, row)

    monkeypatch.setattr(streams, "digest", _without_predecessor)
    monkeypatch.setattr(log._Verification, "_link", without_counting)
    await eight_entries(database, connection)

    await by(DELETE)(connection)

    assert (await verified(connection)).intact


async def test_planted_a_verifier_that_believes_the_number_of_the_last_entry_misses_a_truncation(
    database: Database, connection: RawConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    await eight_entries(database, connection)
    await by(TRUNCATE)(connection)
    monkeypatch.setattr(
        log,
        "_LIMITS",
        "SELECT epoch, e.sequence, e.digest, purged_sequence, purged_digest, now() AS now FROM streams JOIN LATERAL"
        " (SELECT sequence, digest FROM stream_events WHERE stream = $1 ORDER BY sequence DESC LIMIT 1) e ON true WHERE stream = $1",
    )
    monkeypatch.setattr(log, "_CHECKPOINTS", log._CHECKPOINTS.replace("stream = $1", "stream = $1 AND false"))

    assert (await verified(connection)).intact
