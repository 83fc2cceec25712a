"""A listener that keeps a history is away for longer than the retention: what it missed waits for it; where it waited for nothing it is told so, and how much."""

from collections.abc import AsyncIterator, Callable

import pytest
from sqlalchemy import text

from libs.chassis import purging
from libs.chassis.consumer import Consumer
from libs.chassis.worker import purge_streams
from libs.contracts import demonstration as d
from services.reporting import going_on
from tests.journeys.house import House, house
from tests.journeys.territory import register_territory
from tests.planted import seen_red
from tests.waiting import until

DatabaseUrl = Callable[[str | None], str]
pytestmark = pytest.mark.kafka


@pytest.fixture
async def counted(database_url: DatabaseUrl, bootstrap_servers: str, on_kafka: bool) -> AsyncIterator[House]:
    async with house(database_url, bootstrap_servers, on_kafka, "partners", "reporting") as made:
        yield made


async def heard_all(up: House) -> bool:
    """Whether nothing waits for its number, and reporting's word that it has it all has come."""
    rows = await up["partners"].rows(
        "SELECT 1 FROM streams s JOIN stream_readers r USING (stream) WHERE stream = 'internal' AND r.client_id = 'reporting'"
        " AND r.sequence = s.sequence AND s.sent_sequence = s.sequence AND s.sequence > 0 AND NOT EXISTS (SELECT FROM outbox)"
    )
    return bool(rows)


async def numbers(up: House) -> list[int]:
    """Of the facts that reporting has of partners, in the order heard."""
    return [row.sequence for row in await up["reporting"].rows("SELECT sequence FROM facts WHERE source = 'partners' ORDER BY position")]


async def head(up: House) -> int:
    return int((await up["partners"].rows("SELECT sequence FROM streams WHERE stream = 'internal'"))[0].sequence)


async def looked(up: House, times: int = 3) -> None:
    """Reporting has looked so many times more where partners stands: what it does about it is done."""
    looks: set[object] = set()

    async def often() -> bool:
        looks.update(row.head_seen_at for row in await up["reporting"].rows("SELECT head_seen_at FROM cursors WHERE source = 'partners'"))
        return len(looks) > times

    await until(often, seconds=60)


async def days_pass(up: House, days: int) -> None:
    """All that partners said becomes so old, and the job that forgets runs; the broker has kept no longer either."""
    await until(lambda: _sent(up))
    async with up["partners"].runtime.database.transaction() as session:
        await session.execute(text("UPDATE stream_events SET recorded_at = recorded_at - make_interval(days => :days)"), {"days": days})
    await purge_streams(up["partners"].runtime)
    up.settings["kafka_topic_prefix"] += "-elsewhere"


async def _sent(up: House) -> bool:
    rows = await up["partners"].rows(
        "SELECT 1 FROM streams WHERE stream = 'internal' AND sent_sequence = sequence AND NOT EXISTS (SELECT FROM outbox)"
    )
    return bool(rows)


async def works_while_reporting_is_away(up: House) -> None:
    await register_territory(up["partners"])
    await until(lambda: heard_all(up))
    await up.stop("reporting")
    await up["partners"].post("coordinator-95", f"/v1/posts/{d.POST_CERGY}/vacate", version=1)
    await up["partners"].post("coordinator-95", f"/v1/posts/{d.POST_MAGNY}/close", version=1)


async def test_what_a_listener_has_not_confirmed_waits_for_it_longer_than_the_retention(counted: House) -> None:
    await works_while_reporting_is_away(counted)
    await days_pass(counted, 31)
    told = await counted["partners"].runtime.troubles()

    await counted.start("reporting")
    await looked(counted)

    assert await numbers(counted) == [*range(1, await head(counted) + 1)], "what the listener had not heard was forgotten"
    assert "away:reporting" in told
    await until(lambda: heard_all(counted))
    await purge_streams(counted["partners"].runtime)
    assert await counted["partners"].rows("SELECT 1 FROM stream_events WHERE stream = 'internal'") == []
    assert "away:reporting" not in await counted["partners"].runtime.troubles()


async def test_what_waited_for_nobody_is_told_until_the_operator_goes_on_and_the_figures_say_how_much_is_missing(counted: House) -> None:
    await works_while_reporting_is_away(counted)
    await days_pass(counted, 366)
    heard = await head(counted) - 2
    await counted.start("reporting")
    reporting = counted["reporting"]

    await looked(counted)
    for _ in range(3):
        await looked(counted, 1)
        assert "lost:partners" in await reporting.runtime.troubles(), "a listener that lost something says that all is well"
    assert 'trouble="lost:partners"} 1.0' in (await reporting.get("administrator", "/metrics")).text

    missed = await going_on.go_on(reporting.runtime.database, reporting.runtime.feed, "partners")

    assert missed == 2
    await counted["partners"].post("coordinator-95", f"/v1/posts/{d.POST_SARCELLES}/vacate", version=1)
    await until(lambda: heard_all(counted))
    assert await numbers(counted) == [*range(1, heard + 1), heard + 3]
    await looked(counted)
    assert await reporting.runtime.troubles() == []
    figures = (await reporting.get("administrator", "/v1/figures", measure="posts")).json()
    assert {one["source"]: one["missed"] for one in figures["complete_up_to"]} == {"partners": 2, "funding": 0, "referrals": 0}
    assert await going_on.go_on(reporting.runtime.database, reporting.runtime.feed, "partners") is None


async def test_who_goes_on_after_its_history_was_replaced_keeps_nothing_of_it_and_counts_from_where_it_held(counted: House) -> None:
    await works_while_reporting_is_away(counted)
    await until(lambda: _sent(counted))
    held = await head(counted) - 3  # of what reporting heard, the last is of a history that was replaced
    for statement in (
        f"INSERT INTO stream_epochs SELECT stream, 2, {held}, digest, now(), 'restored' FROM stream_events WHERE sequence = {held} AND stream = 'internal'",
        f"UPDATE stream_events SET epoch = 2 WHERE sequence > {held} AND stream = 'internal'",
        "UPDATE streams SET epoch = 2 WHERE stream = 'internal'",
    ):
        async with counted["partners"].runtime.database.transaction() as session:
            await session.execute(text(statement))
    await days_pass(counted, 366)
    await counted.start("reporting")
    reporting = counted["reporting"]
    await looked(counted)
    before = await numbers(counted)

    missed = await going_on.go_on(reporting.runtime.database, reporting.runtime.feed, "partners")

    assert before == [*range(1, held + 2)]
    assert (missed, await numbers(counted)) == (3, [*range(1, held + 1)])
    await counted["partners"].post("coordinator-95", f"/v1/posts/{d.POST_SARCELLES}/vacate", version=1)
    await until(lambda: heard_all(counted))
    assert await numbers(counted) == [*range(1, held + 1), held + 4]


async def test_planted_a_retention_that_waits_for_nobody_is_seen(counted: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(purging, "_UNHEARD", text("SELECT CAST(NULL AS bigint) WHERE CAST(:awaited AS text[]) IS NOT NULL"))

    await seen_red(
        test_what_a_listener_has_not_confirmed_waits_for_it_longer_than_the_retention(counted),
        "what the listener had not heard was forgotten",
    )


async def test_planted_a_listener_that_is_well_after_any_look_is_seen(counted: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it was: each look ended with all being well."""
    at = Consumer.catch_up

    async def well_at_last(self: Consumer, source: str) -> bool:
        moved = await at(self, source)
        self._well(source)
        return moved

    monkeypatch.setattr(Consumer, "catch_up", well_at_last)

    await seen_red(
        test_what_waited_for_nobody_is_told_until_the_operator_goes_on_and_the_figures_say_how_much_is_missing(counted),
        "a listener that lost something says that all is well",
    )
