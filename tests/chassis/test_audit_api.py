"""`/v1/audit`: what internal control sees, and the trace that looking leaves."""

import json
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import text

from libs.chassis.audit import audit
from libs.chassis.security import Principal
from libs.contracts.vocabularies import Purpose, Role
from tests.chassis.serving import Served, served
from tests.chassis.speaking import stamp_all

ADDRESS = "/v1/audit"


@pytest.fixture
async def house(database_url: Callable[[str | None], str]) -> AsyncIterator[Served]:
    async with served(database_url(None)) as house:
        yield house


async def reads(house: Served, who: str, *subjects: str) -> None:
    caller = Principal(who, who, Role.ISCG, None, frozenset(), frozenset())
    async with house.runtime.database.transaction() as session:
        for subject in subjects:
            await audit(session, caller, operation="read_referral", subject=subject, purpose=Purpose.FOLLOW_UP)
    await stamp_all(house.speaker)


async def items(house: Served, **query: str | int) -> list[dict[str, Any]]:
    answer = await house.get("auditor", ADDRESS, **query)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["items"]
    return found


async def test_entries_are_found_by_subject_actor_and_time(house: Served) -> None:
    await reads(house, "iscg-95", "referrals/1")
    between = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    await reads(house, "iscg-95", "referrals/2")
    await reads(house, "iscg-78", "referrals/1")

    assert [(one["actor"], one["subject"]) for one in await items(house)] == [
        ("iscg-78", "referrals/1"),
        ("iscg-95", "referrals/2"),
        ("iscg-95", "referrals/1"),
    ]
    assert [one["sequence"] for one in await items(house, subject="referrals/1")] == [3, 1]
    assert [one["sequence"] for one in await items(house, actor="iscg-95")] == [2, 1]
    assert [one["sequence"] for one in await items(house, **{"from": between})] == [3, 2]
    assert [one["sequence"] for one in await items(house, until=between)] == [1]
    assert [one["sequence"] for one in await items(house, actor="iscg-95", subject="referrals/1")] == [1]
    assert await items(house, subject="referrals/9") == []


async def test_the_log_is_read_by_pages_newest_first(house: Served) -> None:
    await reads(house, "iscg-95", *(f"referrals/{number}" for number in range(5)))

    first = await house.get("auditor", ADDRESS, limit=2)
    second = await house.get("auditor", ADDRESS, limit=2, cursor=first.json()["next"])
    third = await house.get("auditor", ADDRESS, limit=2, cursor=second.json()["next"])

    assert [one["sequence"] for page in (first, second, third) for one in page.json()["items"]] == [5, 4, 3, 2, 1]
    assert third.json()["next"] is None
    assert 'rel="next"' in first.headers["Link"]


async def test_looking_at_the_log_leaves_an_entry_too(house: Served) -> None:
    await reads(house, "iscg-95", "referrals/1")
    await items(house, subject="referrals/1", actor="iscg-95")
    await items(house)
    await stamp_all(house.speaker)

    [unfiltered, filtered, *_] = await items(house)

    assert (filtered["operation"], filtered["actor"], filtered["subject"]) == ("list_audit", "auditor", "referrals/1")
    assert filtered["detail"] == {"filters": "actor.subject"}
    assert (unfiltered["subject"], unfiltered["detail"]) == ("audit", {"filters": "none"})


async def test_a_refused_look_shows_nothing(house: Served) -> None:
    await reads(house, "iscg-95", "referrals/1")

    for who in ("iscg-95", "coordinator-95", "administrator", "interior", "police-95", "referrals"):
        answer = await house.get(who, ADDRESS)
        assert (answer.status_code, "referrals/1" in answer.text) == (403, False)
    assert (await house.client.get(ADDRESS)).status_code == 401


@pytest.mark.parametrize(
    "query",
    [
        {"subject": ""},
        {"subject": "a b"},
        {"subject": "é"},
        {"actor": "x" * 201},
        {"from": "yesterday"},
        {"limit": "0"},
        {"cursor": "AAAA"},
        {"unknown": "x"},
    ],
)
async def test_a_filter_that_cannot_be_is_refused(house: Served, query: dict[str, str]) -> None:
    answer = await house.get("auditor", ADDRESS, **query)

    assert answer.status_code in {400, 422}, answer.text


@pytest.mark.parametrize("subject", ["referrals/O'Brien", "a;b", "referrals/{x}", "a\\b", "%00"])
async def test_a_subject_that_no_entry_can_have_is_refused(house: Served, subject: str) -> None:
    answer = await house.get("auditor", ADDRESS, subject=subject)

    assert answer.status_code == 422, answer.text


async def test_the_log_is_no_stream_that_anybody_follows(house: Served) -> None:
    await reads(house, "iscg-95", "referrals/1")

    for who in ("auditor", "administrator", "referrals"):
        answer = await house.get(who, "/v1/streams/audit/events")
        assert answer.status_code in {403, 404}
        assert "referrals/1" not in answer.text


async def test_what_is_read_by_subject_or_actor_uses_an_index(house: Served) -> None:
    async with house.runtime.database.transaction() as session:
        await session.execute(
            text(
                "INSERT INTO stream_events SELECT 'audit', n, 1, n::text, 't', 'referrals/' || n, '{}',"
                " convert_to('{\"actor\":\"iscg-' || n || '\"}', 'UTF8'), sha256(n::text::bytea), now() FROM generate_series(1, 20000) n"
            )
        )
        await session.execute(text("ANALYZE stream_events"))
        for where in ("subject = 'referrals/77'", "audit_actor(data) = 'iscg-77'"):
            plan = await session.scalar(
                text(
                    f"EXPLAIN (FORMAT JSON) SELECT sequence FROM stream_events WHERE stream = 'audit' AND {where} ORDER BY sequence DESC LIMIT 50"
                )
            )
            assert "stream_events_audit_" in json.dumps(plan)
