"""Reporting's projections are rebuilt from zero beside the live ones while referrals go on arriving on the bus: equal to the last digit."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest
from sqlalchemy import text

from services.reporting.rebuild import Rebuilt, rebuild
from tests.journeys.house import House, house
from tests.journeys.posts import POSTS, copied_posts, equals
from tests.journeys.territory import register_territory
from tests.services.referrals.conftest import REFERRAL_BODY
from tests.waiting import until

pytestmark = pytest.mark.kafka


@pytest.fixture
async def three(database_url: Callable[[str | None], str], bootstrap_servers: str, on_kafka: bool) -> AsyncIterator[House]:
    async with house(database_url, bootstrap_servers, on_kafka, "partners", "referrals", "reporting") as made:
        await register_territory(made["partners"])
        await until(lambda: equals(copied_posts(made), POSTS), seconds=60)
        yield made


async def _post(up: House, number: int) -> None:
    answer = await up["referrals"].post("police-95", "/v1/referrals", REFERRAL_BODY | {"external_reference": f"rebuild-{number}"})
    assert answer.status_code == 201, answer.text
    taken = await up["referrals"].post("iscg-95", f"/v1/referrals/{answer.json()['id']}/accept", version=1)
    assert taken.status_code == 200, taken.text


async def _counted(up: House) -> int:
    [row] = await up["reporting"].rows("SELECT count(*) AS number FROM facts WHERE source = 'referrals'")
    return int(row.number)


async def _heard_all(up: House) -> bool:
    heads = {}
    for name in ("partners", "referrals"):
        if await up[name].rows("SELECT 1 FROM outbox"):
            return False
        heads[name] = (await up[name].rows("SELECT sequence FROM streams WHERE stream = 'internal'"))[0].sequence
    rows = await up["reporting"].rows("SELECT source, sequence FROM cursors")
    return {row.source: row.sequence for row in rows if row.source in heads} == heads


async def test_projections_are_rebuilt_from_zero_while_events_keep_coming_on_the_bus(three: House) -> None:
    database = three["reporting"].runtime.database
    await _post(three, 0)
    await until(lambda: _counted(three))
    rebuilds: list[Rebuilt] = []
    posted = 1

    async def again_and_again() -> None:
        while len(rebuilds) < 2 or rebuilds[0].events == rebuilds[-1].events:  # until some came meanwhile
            rebuilds.append(await rebuild(database))

    rebuilding = asyncio.create_task(again_and_again())
    while not rebuilding.done():
        await _post(three, posted)
        posted += 1
    await rebuilding
    await until(lambda: _heard_all(three), seconds=60)
    last = await rebuild(database)

    assert [one.differences for one in (*rebuilds, last) if not one.equal] == []
    [facts] = await three["reporting"].rows("SELECT count(*) AS number FROM facts")
    assert last.events == facts.number
    figure = (await three["reporting"].get("coordinator-95", "/v1/figures", measure="situations", departement="95")).json()
    assert figure["total"]["value"] == posted


async def test_planted_a_live_row_that_got_lost_is_seen_by_the_rebuild(three: House) -> None:
    await _post(three, 0)
    await until(lambda: _heard_all(three), seconds=60)
    database = three["reporting"].runtime.database
    async with database.transaction() as session:
        await session.execute(text("DELETE FROM situations"))

    rebuilt = await rebuild(database)

    assert rebuilt.differences["situations"] == 1
    assert await three["reporting"].rows("SELECT 1 FROM situations") == []  # what differs is not put in place
