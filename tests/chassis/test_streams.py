"""Streams: numbers without holes, chained, in order, whatever happens around them."""

import asyncio
import json
import random
import re
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from cloudevents.core.bindings.kafka import KafkaMessage, from_binary_event
from cloudevents.core.formats.json import JSONFormat
from sqlalchemy import text

from libs.chassis import purging, relay, streams
from libs.chassis.bus import headers_of, record_of
from libs.chassis.database import Database, RawConnection
from libs.chassis.outbox import append
from libs.chassis.relay import RelayDiverged, divergence, stamp
from libs.contracts.partners import UnitClosed
from tests.chassis.speaking import MORNING, broken_links, database, drain, everything, fact, say, stamp_all
from tests.planted import seen_red

DatabaseUrl = Callable[[str | None], str]
VECTORS = json.loads((Path(__file__).parent / "vectors" / "digests.json").read_text())


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["name"])
def test_the_digest_is_the_published_one(vector: dict[str, str]) -> None:
    found = streams.digest(
        bytes.fromhex(vector["previous"]),
        int(vector["epoch"]),
        int(vector["sequence"]),
        vector["attributes"].encode(),
        vector["data"].encode(),
    )

    assert found.hex() == vector["digest"]


async def test_an_event_is_the_same_by_every_door(database_url: DatabaseUrl) -> None:
    speaker = database(database_url(None))
    await say(speaker, fact())
    await stamp_all(speaker)
    [stored] = await everything(speaker)

    by_feed = streams.Record.of_cloudevent("internal", json.loads(stored.cloudevent()))
    by_kafka = record_of("internal", headers_of(stored), stored.data)

    assert by_feed == stored
    assert by_kafka == stored
    assert by_feed.digest == stored.digest
    await speaker.close()


async def test_the_message_is_a_cloudevent_as_its_own_library_reads_it(database_url: DatabaseUrl) -> None:
    speaker = database(database_url(None))
    said = fact()
    await say(speaker, said)
    await stamp_all(speaker)
    [stored] = await everything(speaker)

    read = from_binary_event(KafkaMessage(headers=dict(headers_of(stored)), key=None, value=stored.data), JSONFormat())

    assert read.get_type() == "fr.maillon.unit.closed.v1"
    assert read.get_source() == "urn:maillon:partners"
    assert read.get_subject() == f"units/{said.unit_id}"
    assert read.get_extension("sequence") == "1"
    assert read.get_data() == json.loads(stored.data)
    await speaker.close()


async def test_a_transaction_that_fails_says_nothing(database_url: DatabaseUrl) -> None:
    speaker = database(database_url(None))

    with pytest.raises(RuntimeError):
        async with speaker.transaction() as session:
            await append(session, fact())
            raise RuntimeError

    assert await stamp_all(speaker) == 0
    await speaker.close()


async def test_facts_of_many_transactions_at_once_are_numbered_without_a_hole_and_in_order_of_each_aggregate(
    database_url: DatabaseUrl,
) -> None:
    speaker = database(database_url(None))
    units = [uuid4() for _ in range(5)]
    async with speaker.transaction() as session:
        await session.execute(text("CREATE TABLE units (id uuid PRIMARY KEY, version int NOT NULL)"))
        await session.execute(text("INSERT INTO units SELECT unnest(CAST(:ids AS uuid[])), 0"), {"ids": units})
    said: dict[str, list[int]] = {str(unit): [] for unit in units}

    async def command(seed: int) -> None:
        rng = random.Random(seed)
        for _ in range(10):
            unit = rng.choice(units)
            try:
                async with speaker.transaction() as session:
                    version = await session.scalar(
                        text("UPDATE units SET version = version + 1 WHERE id = :id RETURNING version"), {"id": unit}
                    )
                    await append(session, fact(unit, MORNING + timedelta(seconds=version)))
                    await asyncio.sleep(rng.random() / 100)
                    if rng.random() < 0.2:
                        raise RuntimeError
                said[str(unit)].append(version)
            except RuntimeError:
                continue

    connection = await speaker.connect()
    working = asyncio.gather(*(command(seed) for seed in range(8)))
    while not working.done():
        await stamp(connection, 7)
        await asyncio.sleep(0.002)
    await working
    await drain(connection)
    records = await everything(speaker)

    told: dict[str, list[int]] = {str(unit): [] for unit in units}
    for event in (UnitClosed.model_validate_json(record.data) for record in records):
        told[str(event.unit_id)].append(int((event.closed_at - MORNING).total_seconds()))
    assert told == {unit: list(range(1, len(versions) + 1)) for unit, versions in said.items()}
    assert broken_links(records) == []
    await connection.close()
    await speaker.close()


async def test_two_relays_at_once_do_no_harm(database_url: DatabaseUrl) -> None:
    speaker = database(database_url(None))
    for _ in range(30):
        await say(speaker, *(fact() for _ in range(5)))
    first, second = await speaker.connect(), await speaker.connect()

    async def relay(connection: RawConnection) -> None:
        while await connection.fetchval("SELECT count(*) FROM outbox"):
            await stamp(connection, 10)

    await asyncio.gather(relay(first), relay(second))
    records = await everything(speaker)

    assert len(records) == 150
    assert broken_links(records) == []
    await first.close()
    await second.close()
    await speaker.close()


async def test_each_audience_has_numbers_of_its_own(database_url: DatabaseUrl) -> None:
    speaker = database(database_url(None))
    await say(speaker, fact(), fact())
    await stamp_all(speaker)

    assert [record.sequence for record in await everything(speaker, "internal")] == [1, 2]
    assert [record.sequence for record in await everything(speaker, "departement:95")] == [1, 2]
    assert broken_links(await everything(speaker, "departement:95")) == []
    await speaker.close()


async def test_what_is_no_longer_kept_is_said_to_be_gone_and_the_chain_goes_on(database_url: DatabaseUrl) -> None:
    speaker = database(database_url(None))
    await say(speaker, *(fact() for _ in range(10)))
    await stamp_all(speaker)
    before = await everything(speaker)
    async with speaker.transaction() as session:
        await session.execute(text("UPDATE stream_events SET recorded_at = now() - interval '31 days' WHERE sequence <= 6"))
        await session.execute(text("UPDATE streams SET sent_sequence = sequence"))

    async with speaker.transaction() as session:
        await purging.purge(session, keep_days=30, keep_audit_days=365)

    assert await everything(speaker) == before[6:]
    async with speaker.transaction() as session:
        with pytest.raises(streams.FeedTooOld) as refused:
            await streams.read(session, "internal", 5, 10)
    assert refused.value.more == {"oldest_sequence": 7}
    await speaker.close()


async def test_what_was_not_sent_is_kept_however_old(database_url: DatabaseUrl) -> None:
    speaker = database(database_url(None))
    await say(speaker, fact())
    await stamp_all(speaker)
    async with speaker.transaction() as session:
        await session.execute(text("UPDATE stream_events SET recorded_at = now() - interval '31 days'"))

    async with speaker.transaction() as session:
        gone = await purging.purge(session, keep_days=30, keep_audit_days=365)

    assert gone == 0
    await speaker.close()


async def test_a_diverged_service_stamps_nothing_until_a_new_epoch_is_opened(database_url: DatabaseUrl) -> None:
    speaker = database(database_url(None))
    await say(speaker, fact(), fact())
    await stamp_all(speaker)
    async with speaker.transaction() as session:
        await streams.mark_diverged(session, "internal", "test", epoch=1)
    await say(speaker, fact())

    connection = await speaker.connect()
    with pytest.raises(RelayDiverged):
        await stamp(connection)
    async with speaker.transaction() as session:
        await streams.new_epoch(session, "restored from the backup of the night")
    await drain(connection)

    records = await everything(speaker)
    assert [(record.epoch, record.sequence) for record in records] == [(1, 1), (1, 2), (2, 3)]
    assert broken_links(records) == []
    await connection.close()
    await speaker.close()


async def test_planted_a_stamp_that_does_not_look_at_the_mark_is_seen(database_url: DatabaseUrl, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay, "_LOCKED", re.sub(r"coalesce\(.*\) AS", "NULL AS", relay._LOCKED))

    await seen_red(test_a_diverged_service_stamps_nothing_until_a_new_epoch_is_opened(database_url), "DID NOT RAISE")


async def test_what_was_found_just_before_a_new_epoch_was_opened_stops_nothing_any_more(database_url: DatabaseUrl) -> None:
    """A listener's claim was looked at in epoch 1, and is marked when the operator has opened epoch 2 already."""
    speaker = database(database_url(None))
    await say(speaker, fact())
    await stamp_all(speaker)
    async with speaker.transaction() as session:
        found_in = await streams.head(session, "internal")
        await streams.new_epoch(session, "restored from the backup of the night")

    async with speaker.transaction() as session:
        await streams.mark_diverged(session, "internal", "late", epoch=found_in.epoch)

    async with speaker.transaction() as session:
        assert (await streams.head(session, "internal")).diverged_reason is None
    await speaker.close()


@pytest.mark.parametrize(
    ("epoch", "after", "agrees"),
    [
        (1, 0, True),
        (1, 3, True),
        (1, 4, False),  # ahead: this database was restored from the past
        (2, 1, False),  # an epoch that this database does not know
    ],
)
async def test_where_a_listener_stands_is_compared_with_the_own_history(
    database_url: DatabaseUrl, epoch: int, after: int, agrees: bool
) -> None:
    speaker = database(database_url(None))
    await say(speaker, fact(), fact(), fact())
    await stamp_all(speaker)

    async with speaker.transaction() as session:
        reason = await streams.check_claim(session, "internal", "listener", epoch=epoch, after=after, claimed=None)

    assert (reason is None) == agrees
    await speaker.close()


async def test_another_digest_at_the_same_number_is_a_divergence(database_url: DatabaseUrl) -> None:
    speaker = database(database_url(None))
    await say(speaker, fact(), fact())
    await stamp_all(speaker)
    records = await everything(speaker)

    async with speaker.transaction() as session:
        same = await streams.check_claim(session, "internal", "listener", epoch=1, after=2, claimed=records[1].digest)
        other = await streams.check_claim(session, "internal", "listener", epoch=1, after=2, claimed=bytes(32))

    assert same is None
    assert other is not None
    await speaker.close()


@pytest.fixture
async def restored(database_url: DatabaseUrl) -> AsyncIterator[Database]:
    """Five facts of epoch 1, two of epoch 2, one of epoch 3; `partner` had acknowledged three, and `follower` was handed four by the feed."""
    speaker = database(database_url(None))
    for number, facts in enumerate((5, 2, 1)):
        if number:
            async with speaker.transaction() as session:
                await streams.new_epoch(session, "restored")
        await say(speaker, *(fact() for _ in range(facts)))
        await stamp_all(speaker)
    records = await everything(speaker)
    async with speaker.transaction() as session:
        await streams.acknowledge(session, "internal", "partner", 1, 3)
        await streams.give(session, "follower", records[:4])
    yield speaker
    await speaker.close()


OTHER = b"o" * 32


@pytest.mark.parametrize(
    ("client", "epoch", "after", "claimed", "told"),
    [
        ("partner", 1, 5, "own", None),  # what it holds still holds
        ("partner", 1, 2, "own", None),
        ("partner", 1, 5, None, None),
        ("partner", 1, 5, "other", (1, 3)),  # number 5 was given twice
        ("partner", 1, 4, "other", (1, 3)),
        ("partner", 1, 2, "other", (1, 1)),  # it had gone back since, and says so
        ("partner", 1, 9, "other", (1, 3)),
        ("follower", 1, 9, "other", (1, 4)),
        ("newcomer", 1, 9, "other", (1, 0)),  # of whom nothing is known
        ("partner", 2, 7, "own", None),
        ("partner", 2, 7, "other", (1, 3)),
    ],
)
async def test_a_listener_of_a_replaced_history_is_told_the_last_place_that_both_are_certain_to_share(
    restored: Database, client: str, epoch: int, after: int, claimed: str | None, told: tuple[int, int] | None
) -> None:
    own = {record.sequence: record.digest for record in await everything(restored)}
    digest = {"own": own.get(after), "other": OTHER, None: None}[claimed]

    found: Any = None
    async with restored.transaction() as session:
        try:
            assert await streams.check_claim(session, "internal", client, epoch=epoch, after=after, claimed=digest) is None
        except streams.EpochEnded as refused:
            found = refused.more

    assert (found and (found["epoch"], found["last_sequence"])) == told
    assert found is None or found["last_digest"] == own.get(found["last_sequence"], streams.GENESIS).hex()


async def test_who_goes_back_to_the_end_of_an_epoch_goes_on_in_the_epoch_that_follows_not_in_a_later_one(restored: Database) -> None:
    """Else the events between are taken for those of a history that ended."""
    async with restored.transaction() as session:
        await streams.acknowledge(session, "internal", "partner", 1, 5)
        with pytest.raises(streams.EpochEnded) as refused:
            await streams.check_claim(session, "internal", "partner", epoch=1, after=9, claimed=OTHER)

    assert (refused.value.more["epoch"], refused.value.more["last_sequence"]) == (2, 5)


async def test_where_nothing_shared_is_kept_the_listener_lists_then_follows(restored: Database) -> None:
    async with restored.transaction() as session:
        await session.execute(text("UPDATE stream_events SET recorded_at = now() - interval '31 days' WHERE sequence <= 4"))
        await session.execute(text("UPDATE streams SET sent_sequence = sequence"))
        await purging.purge(session, keep_days=30, keep_audit_days=365)

    async with restored.transaction() as session:
        with pytest.raises(streams.EpochEnded) as oldest:
            await streams.check_claim(session, "internal", "partner", epoch=1, after=9, claimed=OTHER)
        with pytest.raises(streams.FeedTooOld):
            await streams.check_claim(session, "internal", "partner", epoch=1, after=4, claimed=OTHER)

    assert (oldest.value.more["epoch"], oldest.value.more["last_sequence"]) == (1, 4)


@pytest.mark.parametrize(
    ("client", "epoch", "after", "last"),
    [
        ("partner", 1, 9, 3),  # it went on beyond where its epoch ended: what it had acknowledged is certain
        ("follower", 1, 9, 4),
        ("newcomer", 1, 9, 5),  # of whom nothing is known: not beyond where the epoch ended
        ("partner", 1, 4, 3),  # that number may have been given twice, and nothing is left to tell
        ("newcomer", 1, 4, 4),
        ("partner", 3, 6, None),  # of the history that goes on
        ("partner", None, 4, None),
    ],
)
async def test_where_the_feed_begins_after_the_end_of_a_readers_history_it_is_told_up_to_where_that_held(
    restored: Database, client: str, epoch: int | None, after: int, last: int | None
) -> None:
    async with restored.transaction() as session:
        await session.execute(text("UPDATE stream_events SET recorded_at = now() - interval '31 days' WHERE sequence <= 7"))
        await session.execute(text("UPDATE streams SET sent_sequence = sequence"))
        await purging.purge(session, keep_days=30, keep_audit_days=365)

    async with restored.transaction() as session:
        with pytest.raises(streams.FeedTooOld) as refused:
            if epoch is not None:
                await streams.check_claim(session, "internal", client, epoch=epoch, after=after, claimed=OTHER)
            await streams.read(session, "internal", after, 10)

    assert refused.value.more == {"oldest_sequence": 8} | ({} if last is None else {"last_sequence": last})


HEAD = streams.Head("internal", 2, 10, b"h" * 32, None, 10, 0, streams.GENESIS, None)


@pytest.mark.parametrize(
    ("epoch", "sequence", "own", "diverged"),
    [
        (2, 10, "same", False),
        (2, 9, "same", False),
        (2, 9, "other", True),
        (2, 11, "none", True),  # the topic holds more than this database
        (3, 5, "none", True),  # the topic knows a later epoch
        (1, 99, "none", False),  # what an ended epoch left on the topic
        (2, 3, "none", False),  # no longer kept here
    ],
)
def test_the_newest_event_on_a_topic_tells_whether_the_database_was_restored(epoch: int, sequence: int, own: str, diverged: bool) -> None:
    last = streams.Record("internal", epoch, sequence, streams.GENESIS, b"{}", b"{}")
    digest = {"same": last.digest, "other": b"o" * 32, "none": None}[own]

    assert (divergence(HEAD, digest, last) is not None) == diverged
