"""What heals by itself, and what waits for an operator: lost tails, wiped topics, a newer speaker. Runs on Apache Kafka too."""

import asyncio
import re
import shlex
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy.ext.asyncio import AsyncSession
from typer.testing import CliRunner, Result

from libs.chassis import projector, streams
from libs.chassis.consumer import Consumer
from libs.chassis.projector import Projector
from libs.client.cli import app
from libs.contracts import demonstration as d
from libs.contracts.partners import PostVacant
from tests.alerting import firing
from tests.chassis import speaking
from tests.journeys.house import House, house
from tests.journeys.posts import (
    POSTS,
    backup,
    copied_posts,
    diverged,
    equals,
    heard_all,
    looked,
    parked,
    restore,
    restored_states,
    state_is,
)
from tests.journeys.territory import register_territory
from tests.planted import seen_red
from tests.waiting import until

pytestmark = pytest.mark.kafka
DatabaseUrl = Callable[[str | None], str]
LISTENERS = ("referrals", "reporting")


@pytest.fixture
async def two(database_url: DatabaseUrl, bootstrap_servers: str, on_kafka: bool) -> AsyncIterator[House]:
    async with house(database_url, bootstrap_servers, on_kafka, "partners", "referrals") as made:
        yield made


async def test_a_lost_tail_is_noticed_and_healed_without_a_later_event(two: House) -> None:
    """The last event reaches no topic that the listener reads; nothing is said after it."""
    await register_territory(two["partners"])
    await until(lambda: heard_all(two))
    await two.stop("partners")
    two.settings["kafka_topic_prefix"] += "-elsewhere"
    await two.start("partners")

    await two["partners"].post("coordinator-95", f"/v1/posts/{d.POST_CERGY}/vacate", version=1)

    await looked(two)
    assert await state_is(two, d.POST_CERGY, "vacant"), "the lost tail stayed lost"
    assert await heard_all(two)


@pytest.mark.parametrize("topics", ["kept", "wiped"])
async def test_a_restored_speaker_stops_says_why_and_goes_on_by_the_documented_command_with_its_listeners_right(
    two: House, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, topics: str
) -> None:
    """The backup is of before a post was closed. The topics know better; where they are wiped as well the listener does, and says so."""
    await register_territory(two["partners"])
    await until(lambda: heard_all(two))
    await backup(two, "partners", tmp_path / "night")
    [before] = await two["partners"].rows("SELECT sequence FROM streams WHERE stream = 'internal'")
    await two["partners"].post("coordinator-95", f"/v1/posts/{d.POST_CERGY}/close", version=1)
    await until(lambda: state_is(two, d.POST_CERGY, "closed"))
    await two.stop("partners")
    await restore(two, "partners", tmp_path / "night")
    if topics == "wiped":
        two.settings["kafka_topic_prefix"] += "-wiped"
    await two.start("partners")

    await looked(two)
    assert await diverged(two), "a restored speaker went on"
    await two["partners"].post("coordinator-95", f"/v1/posts/{d.POST_SARCELLES}/vacate", version=1)
    [stopped] = await two["partners"].rows("SELECT sequence, diverged_reason FROM streams WHERE stream = 'internal'")
    assert stopped.sequence == before.sequence
    assert "stream-diverged:internal" in (await two["partners"].client.get("/readyz")).json()["troubles"]
    alerts = firing("StreamDiverged", (await two["partners"].get("administrator", "/metrics")).text, "partners")
    assert [alert for alert in alerts if stopped.diverged_reason in alert], alerts

    monkeypatch.setenv("MAILLON_ENVIRONMENT", "development")
    monkeypatch.setenv("PARTNERS_DATABASE_URL", two.urls["partners"])
    opened = await asyncio.to_thread(_answered, "y")
    assert opened.exit_code == 0, opened.output
    assert re.search(r"Divergents : .*\binternal\b", opened.output)
    assert not await diverged(two), "the command opened no epoch"
    again = await asyncio.to_thread(_answered, "n")
    assert (again.exit_code, "Aucun flux n'est divergent" in again.output) == (1, True)

    await until(lambda: caught_up(two, "referrals"), seconds=60)
    assert await restored_states(two), "a listener kept what the backup does not hold"


def _answered(confirmation: str) -> Result:
    """What the command says that deploy/README.md gives to whoever restored a database."""
    [documented] = re.findall(r"`maillon (streams new-epoch [^`]*)`", Path("deploy/README.md").read_text(encoding="utf-8"))
    command = shlex.split(documented.replace("NAME", "partners").replace("…", "restauration"))
    return CliRunner().invoke(app, command, input=f"{confirmation}\n")


@pytest.mark.parametrize(("lost", "numbered"), [(1, 1), (1, 3), (2, 1)])
async def test_numbers_that_a_restored_speaker_gave_twice_before_anybody_looked_are_heard_as_it_gave_them_last(
    database_url: DatabaseUrl, bootstrap_servers: str, on_kafka: bool, tmp_path: Path, lost: int, numbered: int
) -> None:
    """The topics are gone too, and what the backup's outbox held, or clients said at once, bears the numbers of what is lost, or goes beyond them."""
    async with house(database_url, bootstrap_servers, on_kafka, "partners", "referrals", "reporting") as up:
        await register_territory(up["partners"])
        await until(partial(acknowledged_all, up))
        await backup(up, "partners", tmp_path / "night")
        for post_id in (d.POST_CERGY, d.POST_MAGNY)[:lost]:
            await up["partners"].post("coordinator-95", f"/v1/posts/{post_id}/close", version=1)
        await until(partial(caught_up, up))
        assert await facts_equal(up)
        await up.stop("partners")
        await restore(up, "partners", tmp_path / "night")
        up.settings["kafka_topic_prefix"] += "-wiped"
        restored = speaking.database(up.urls["partners"])
        await speaking.say(restored, *(speaking.fact() for _ in range(numbered)))
        await speaking.stamp_all(restored)
        await restored.close()
        await up.start("partners")

        await until(partial(diverged, up))
        await until(partial(troubled, up, "diverged:partners"))
        async with up["partners"].runtime.database.transaction() as session:
            await streams.new_epoch(session, "restored from a backup")

        await until(partial(caught_up, up), seconds=60)
        assert await facts_equal(up), "another history is kept"
        await up["partners"].post("coordinator-95", f"/v1/posts/{d.POST_SARCELLES}/vacate", version=1)
        await until(partial(caught_up, up))
        assert await facts_equal(up)
        assert await restored_states(up)
        assert not await diverged(up)
        await until(partial(well, up))


async def acknowledged_all(up: House) -> bool:
    rows = await up["partners"].rows(
        "SELECT r.client_id FROM stream_readers r JOIN streams s USING (stream) WHERE stream = 'internal' AND r.sequence = s.sequence"
        " AND s.sequence > 0 AND NOT EXISTS (SELECT FROM outbox)"
    )
    return len(rows) == 2


async def caught_up(up: House, *listeners: str) -> bool:
    """Whether nothing waits for its number, and the listeners (both, when none is named) stand where partners does."""
    heads = await up["partners"].rows("SELECT epoch, sequence FROM streams WHERE stream = 'internal' AND NOT EXISTS (SELECT FROM outbox)")
    cursors = [await up[name].rows("SELECT epoch, sequence FROM cursors WHERE source = 'partners'") for name in listeners or LISTENERS]
    return bool(heads) and all(heard == heads for heard in cursors)


async def facts_equal(up: House) -> bool:
    """Whether reporting's log of what partners said is what partners says that it said."""
    said = await up["partners"].rows(
        "SELECT sequence, type, convert_from(data, 'UTF8') AS data FROM stream_events WHERE stream = 'internal' ORDER BY sequence"
    )
    heard = await up["reporting"].rows("SELECT sequence, type, data FROM facts WHERE source = 'partners' ORDER BY position")
    return [tuple(row) for row in heard] == [tuple(row) for row in said]


async def troubled(up: House, code: str) -> bool:
    """Both listeners say so."""
    return all([code in await up[name].runtime.troubles() for name in LISTENERS])


async def well(up: House) -> bool:
    return not [code for name in ("partners", *LISTENERS) for code in await up[name].runtime.troubles()]


async def test_a_newer_speaker_is_parked_and_heard_after_the_upgrade(two: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """The listener of yesterday does not know that posts may be vacant."""
    consumer = two["referrals"].runtime.consumer
    assert consumer is not None
    types = consumer.projector._types["partners"]
    monkeypatch.delitem(types, PostVacant.type)
    await register_territory(two["partners"])
    await until(lambda: equals(copied_posts(two), POSTS))
    await two["partners"].post("coordinator-95", f"/v1/posts/{d.POST_CERGY}/vacate", version=1)
    await until(lambda: heard_all(two))
    held = await parked(two, 1)
    assert [(one["type"], one["cause"]) for one in held] == [("fr.maillon.post.vacant.v1", "unknown-type")], "passed over"

    monkeypatch.undo()  # the upgrade
    replayed = await two["referrals"].post("administrator", f"/v1/dead-letters/{held[0]['id']}/replay")

    assert replayed.status_code == 200, replayed.text
    assert await state_is(two, d.POST_CERGY, "vacant")


async def _not_at_all(*_: object, **__: object) -> bool:
    return False


async def test_planted_a_listener_that_asks_nobody_for_what_is_missing_never_sees_the_lost_tail(
    two: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Consumer, "catch_up", _not_at_all)

    await seen_red(test_a_lost_tail_is_noticed_and_healed_without_a_later_event(two), "the lost tail stayed lost")


async def _no_epoch(session: AsyncSession, _: str) -> list[streams.Head]:
    return await streams.heads(session)


async def _goes_back_only(self: Projector, source: str, heard: streams.Place, last: streams.Place, *_: object) -> None:
    async with self._database.transaction() as session:
        if await self.cursor(session, source, lock=True) == heard:
            await self._move(session, source, last)


@pytest.mark.parametrize(
    ("topics", "owner", "name", "instead", "because"),
    [
        ("kept", streams, "mark_diverged", _not_at_all, "a restored speaker went on"),
        ("wiped", streams, "mark_diverged", _not_at_all, "a restored speaker went on"),
        ("kept", streams, "new_epoch", _no_epoch, "the command opened no epoch"),
        ("kept", Projector, "enter_epoch", _goes_back_only, "a listener kept what the backup does not hold"),
    ],
    ids=["topics kept, nobody stops it", "topics wiped, nobody stops it", "a command for nothing", "a listener that takes nothing back"],
)
async def test_planted_what_goes_wrong_after_a_restore_is_seen(
    two: House, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, topics: str, owner: object, name: str, instead: object, because: str
) -> None:
    monkeypatch.setattr(owner, name, instead)

    await seen_red(
        test_a_restored_speaker_stops_says_why_and_goes_on_by_the_documented_command_with_its_listeners_right(
            two, monkeypatch, tmp_path, topics
        ),
        because,
    )


async def test_planted_a_listener_that_goes_back_to_the_end_of_the_epoch_keeps_what_was_never_said(
    database_url: DatabaseUrl, bootstrap_servers: str, on_kafka: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As it did: the end of the epoch, whatever was numbered in it since the restore."""
    at = streams._last_shared

    async def end_of_the_epoch(session: AsyncSession, now: streams.Head, client_id: str, at_most: int) -> streams.Place:
        last = replace(await at(session, now, client_id, at_most), sequence=at_most)
        return replace(last, digest=await streams.digest_at(session, now.stream, at_most) or last.digest)

    monkeypatch.setattr(streams, "_last_shared", end_of_the_epoch)

    await seen_red(
        test_numbers_that_a_restored_speaker_gave_twice_before_anybody_looked_are_heard_as_it_gave_them_last(
            database_url, bootstrap_servers, on_kafka, tmp_path, 2, 1
        ),
        "another history is kept",
    )


async def test_planted_a_newer_speakers_fact_that_is_passed_over_is_seen(two: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(projector, "park", _not_at_all)

    await seen_red(test_a_newer_speaker_is_parked_and_heard_after_the_upgrade(two, monkeypatch), "passed over")
