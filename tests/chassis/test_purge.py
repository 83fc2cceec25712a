"""What is old goes, all of it and soon; what a listener has not confirmed stays for it, within a bound."""

from collections.abc import AsyncIterator, Callable

import pytest
from sqlalchemy import text

from libs.chassis import purging, streams, worker
from libs.chassis.worker import purge_streams
from tests.chassis.serving import Served, served
from tests.chassis.speaking import everything, fact, say, stamp_all
from tests.planted import seen_red

DatabaseUrl = Callable[[str | None], str]


@pytest.fixture
async def partners(database_url: DatabaseUrl) -> AsyncIterator[Served]:
    async with served(database_url("partners"), awaited_listeners=["reporting", "partners"]) as made:
        yield made


async def old(partners: Served, facts: int, days: int) -> None:
    """So many facts, said and sent so many days ago."""
    await say(partners.speaker, *(fact() for _ in range(facts)))
    await stamp_all(partners.speaker)
    async with partners.runtime.database.transaction() as session:
        await session.execute(text("UPDATE stream_events SET recorded_at = now() - make_interval(days => :days)"), {"days": days})
        await session.execute(text("UPDATE streams SET sent_sequence = sequence"))


async def confirms(partners: Served, client: str, sequence: int) -> None:
    async with partners.runtime.database.transaction() as session:
        await streams.acknowledge(session, "internal", client, 1, sequence)


async def kept(partners: Served, stream: str = "internal") -> list[int]:
    return [record.sequence for record in await everything(partners.speaker, stream)]


async def away(partners: Served) -> list[str]:
    return [trouble for trouble in await partners.runtime.troubles() if trouble.startswith("away:")]


async def test_all_that_is_old_goes_in_one_turn_of_the_job(partners: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(purging, "PURGE", 3)
    await old(partners, 10, 31)
    await confirms(partners, "reporting", 10)

    await purge_streams(partners.runtime)

    assert (await kept(partners), await kept(partners, "departement:95")) == ([], []), "more comes in than goes"


async def test_a_turn_ends_though_there_is_more(partners: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(purging, "PURGE", 3)
    monkeypatch.setattr(worker, "PURGE_SECONDS", 0.0)
    await old(partners, 10, 31)
    await confirms(partners, "reporting", 10)

    await purge_streams(partners.runtime)

    assert await kept(partners) == [*range(1, 11)]


async def test_what_a_listener_has_not_confirmed_is_kept_for_it_and_for_nobody_else(partners: Served) -> None:
    await old(partners, 10, 364)
    await confirms(partners, "reporting", 6)
    await confirms(partners, "referrals", 8)

    await purge_streams(partners.runtime)

    assert (await kept(partners), await kept(partners, "departement:95")) == ([7, 8, 9, 10], [])
    assert await away(partners) == ["away:referrals", "away:reporting"]
    await confirms(partners, "reporting", 10)
    await confirms(partners, "referrals", 10)
    await purge_streams(partners.runtime)
    assert (await kept(partners), await away(partners)) == ([], [])


async def test_who_is_awaited_finds_everything_when_it_first_comes_and_no_service_awaits_itself(partners: Served) -> None:
    await old(partners, 4, 31)

    await purge_streams(partners.runtime)

    assert (await kept(partners), await away(partners)) == ([1, 2, 3, 4], ["away:reporting"])


async def test_nothing_is_kept_for_a_listener_for_ever(partners: Served) -> None:
    await old(partners, 4, 366)
    await confirms(partners, "referrals", 1)

    await purge_streams(partners.runtime)

    assert (await kept(partners), await away(partners)) == ([], [])


async def test_what_is_younger_than_the_retention_is_nobodys_absence(partners: Served) -> None:
    await old(partners, 4, 29)
    await confirms(partners, "reporting", 1)

    await purge_streams(partners.runtime)

    assert (await kept(partners), await away(partners)) == ([1, 2, 3, 4], [])


async def test_planted_a_turn_that_takes_one_batch_is_seen(partners: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it was: 10,000 events of a stream every ten minutes, 17 a second."""
    purge = purging.purge

    async def once(*arguments: object, **options: object) -> int:
        await purge(*arguments, **options)  # type: ignore[arg-type]  # as it was called
        return 0

    monkeypatch.setattr(purging, "purge", once)

    await seen_red(test_all_that_is_old_goes_in_one_turn_of_the_job(partners, monkeypatch), "more comes in than goes")
