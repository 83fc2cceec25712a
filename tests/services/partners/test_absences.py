"""A post is absent until a day, another one stands in; the day after it is by itself what it was before."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from sqlalchemy import text

from libs.contracts import demonstration as d
from libs.contracts.types import civil_day
from services.partners.absences import end_due
from services.partners.app import end_absences
from tests.services.partners.conftest import Partners

TODAY = civil_day(datetime.now(UTC))


def address(move: str, post: Any = d.POST_CERGY) -> str:
    return f"/v1/posts/{post}/{move}"


async def suspend(directory: Partners, post: Any = d.POST_CERGY, **body: Any) -> httpx.Response:
    return await directory.post("coordinator-95", address("suspend", post), json.loads(json.dumps(body, default=str)))


async def days_pass(directory: Partners, days: int) -> None:
    """As if the absences had ended that much earlier."""
    async with directory.runtime.database.transaction() as session:
        await session.execute(text("UPDATE posts SET until_on = until_on - CAST(:days AS integer)"), {"days": days})


async def test_an_absence_says_until_when_and_who_stands_in(directory: Partners) -> None:
    until = TODAY + timedelta(days=10)

    answer = await suspend(directory, until_on=until, replacement_post_id=d.POST_SARCELLES)

    assert answer.status_code == 200, answer.text
    assert (answer.json()["state"], answer.json()["until_on"]) == ("suspended", until.isoformat())
    [(type, data)] = await directory.said()
    assert type == "post.suspended"
    assert (data["until_on"], data["replacement_post_id"]) == (until.isoformat(), str(d.POST_SARCELLES))
    listed = (await directory.get("police-95", "/v1/posts", departement="95", state="suspended")).json()["items"]
    assert [one["replacement_post_id"] for one in listed] == [str(d.POST_SARCELLES)]


async def test_without_an_end_a_post_comes_back_only_when_it_is_said_to(directory: Partners) -> None:
    answer = await directory.post("coordinator-95", address("suspend"))
    await directory.said()

    await end_absences(directory.runtime)

    assert answer.json()["until_on"] is None
    assert await directory.said() == []


@pytest.mark.parametrize(("before", "said"), [(None, "post.filled"), ("vacate", "post.vacant")])
async def test_the_day_after_its_absence_a_post_is_what_it_was_before(directory: Partners, before: str | None, said: str) -> None:
    if before:
        await directory.post("coordinator-95", address(before))
    await suspend(directory, until_on=TODAY + timedelta(days=10), replacement_post_id=d.POST_SARCELLES)
    await directory.said()

    await days_pass(directory, 10)
    await end_absences(directory.runtime)
    on_the_last_day = await directory.said_types()
    await days_pass(directory, 1)
    await end_absences(directory.runtime)
    await end_absences(directory.runtime)

    assert on_the_last_day == []
    assert await directory.said_types() == [said]
    post = (await directory.get("police-95", f"/v1/posts/{d.POST_CERGY}")).json()
    assert (post["state"], post["until_on"], post["replacement_post_id"]) == (said.partition(".")[2], None, None)


async def test_two_replicas_bring_a_post_back_once(directory: Partners) -> None:
    await suspend(directory, until_on=TODAY)
    await directory.said()
    await days_pass(directory, 1)

    async with directory.runtime.database.transaction() as one, directory.runtime.database.transaction() as other:
        brought_back = [await end_due(session, datetime.now(UTC), 50) for session in (one, other)]

    assert brought_back == [1, 0]
    assert await directory.said_types() == ["post.filled"]


async def test_an_absence_said_anew_replaces_what_was_said_and_the_post_still_goes_back_to_what_it_was(directory: Partners) -> None:
    await suspend(directory, until_on=TODAY, replacement_post_id=d.POST_SARCELLES)
    longer = await suspend(directory, until_on=TODAY + timedelta(days=30))
    await directory.said()

    await days_pass(directory, 1)
    await end_absences(directory.runtime)
    too_early = await directory.said_types()
    await days_pass(directory, 30)
    await end_absences(directory.runtime)

    assert longer.json()["replacement_post_id"] is None
    assert too_early == []
    assert await directory.said_types() == ["post.filled"]


async def test_a_post_that_is_filled_before_the_end_of_its_absence_is_not_brought_back_again(directory: Partners) -> None:
    await suspend(directory, until_on=TODAY)
    filled = await directory.post("coordinator-95", address("fill"))
    await directory.said()

    await days_pass(directory, 5)
    await end_absences(directory.runtime)

    assert (filled.json()["state"], filled.json()["until_on"]) == ("filled", None)
    assert await directory.said() == []


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"until_on": TODAY - timedelta(days=1)}, "/until_on"),
        ({"replacement_post_id": d.POST_CERGY}, "/replacement_post_id"),
        ({"replacement_post_id": d.POST_MAGNY}, "/replacement_post_id"),  # gendarmerie
        ({"replacement_post_id": d.POST_78}, "/replacement_post_id"),
        ({"replacement_post_id": d.REFERRAL}, "/replacement_post_id"),
    ],
    ids=["it is over", "by itself", "of the other force", "of another departement", "by nobody"],
)
async def test_an_impossible_absence_is_refused_and_changes_nothing(untouched: Partners, body: dict[str, Any], pointer: str) -> None:
    before = await untouched.snapshot()

    answer = await suspend(untouched, **body)

    assert answer.status_code == 422, answer.text
    assert [one["pointer"] for one in answer.json()["errors"]] == [pointer]
    assert await untouched.snapshot() == before


async def test_a_post_where_nobody_works_stands_in_for_nobody(directory: Partners) -> None:
    await directory.post("coordinator-95", address("vacate", d.POST_SARCELLES))

    answer = await suspend(directory, replacement_post_id=d.POST_SARCELLES)

    assert answer.status_code == 422
