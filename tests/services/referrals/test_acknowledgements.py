"""An erasure is acknowledged by the streams it was said in, or by hand for who reads none; the register tells of each which it is."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest

from libs.contracts import demonstration as d
from libs.contracts.types import civil_day
from services.referrals.rights import acknowledgements
from services.referrals.rights.models import Erasure
from services.referrals.settings import Settings
from tests.services.referrals.conftest import Referrals
from tests.services.referrals.test_exports import exported
from tests.services.referrals.test_rights import OURS, acknowledge, ask, register, stamp

ASSOCIATION = f"organization:{d.ASSOCIATION}"


def today() -> str:
    return civil_day(datetime.now(UTC)).isoformat()


async def confirm(
    referrals: Referrals, erasure_id: str, who: str = "coordinator-95", key: str | None = None, **more: Any
) -> httpx.Response:
    body = {"stream": ASSOCIATION, "confirmed_on": today(), "how": "letter"} | more
    return await referrals.post(who, f"/v1/erasures/{erasure_id}/confirmations", body, key=key)


async def erased(referrals: Referrals) -> tuple[UUID, str]:
    """The victim, whom an organization without account was asked to take."""
    referral_id = await referrals.accepted()
    await referrals.orient(referral_id)
    answer = await ask(referrals, referral_id, (await referrals.persons(referral_id))[:1])
    await stamp(referrals)
    return referral_id, answer.json()["id"]


async def states(referrals: Referrals, erasure_id: str) -> dict[str, str]:
    return {one["stream"]: one["state"] for one in (await register(referrals, erasure_id))["notices"]}


async def test_the_register_tells_who_is_waited_for_who_has_read_it_and_where_nobody_reads(referrals: Referrals) -> None:
    _, erasure_id = await erased(referrals)
    assert (await acknowledge(referrals, "justice", "justice", 0)).status_code == 204
    assert (await acknowledge(referrals, "coordinator-95", "departement:95", 1)).status_code == 204
    [departement] = [one for one in (await register(referrals, erasure_id))["notices"] if one["stream"] == "departement:95"]

    await acknowledge(referrals, "coordinator-95", "departement:95", departement["sequence"])

    assert await states(referrals, erasure_id) == {
        "internal": "waiting",
        "justice": "waiting",
        "departement:95": "stream",
        "interior": "no_reader",
        ASSOCIATION: "no_reader",
    }


async def test_the_word_of_an_organization_that_reads_no_stream_is_recorded_by_hand_and_completes_the_erasure(referrals: Referrals) -> None:
    referral_id, erasure_id = await erased(referrals)
    [internal] = [one for one in (await register(referrals, erasure_id))["notices"] if one["stream"] == "internal"]
    for service in OURS:
        await acknowledge(referrals, service, "internal", internal["sequence"])
    before = await register(referrals, erasure_id)

    answer = await confirm(referrals, erasure_id, key="by-letter")

    assert before["completed_at"] is None
    assert answer.status_code == 201, answer.text
    assert answer.json()["completed_at"] is not None
    [told] = [one for one in answer.json()["notices"] if one["stream"] == ASSOCIATION]
    assert (told["state"], told["waiting_for"]) == ("hand", [])
    assert told["confirmation"] == {"confirmed_on": today(), "how": "letter", "recorded_by": "coordinator-95"}
    assert (await confirm(referrals, erasure_id, key="by-letter")).json() == answer.json()
    rows = await referrals.rows(
        "SELECT data FROM stream_events WHERE stream = 'audit' UNION ALL SELECT data FROM outbox WHERE stream = 'audit'"
    )
    entries = [entry for entry in (json.loads(row.data) for row in rows) if entry["operation"] == "confirm_erasure"]
    assert [(one["subject"], one["detail"]["stream"], one["detail"]["how"]) for one in entries] == [
        (f"erasures/{erasure_id}", ASSOCIATION, "letter")
    ]
    [victim, _] = await referrals.persons(referral_id)
    [own] = (await exported(referrals, referral_id, victim))["erasures"]
    assert {one["stream"]: one["state"] for one in own["notices"]}[ASSOCIATION] == "hand"


async def test_a_stream_that_somebody_reads_may_be_confirmed_by_hand_too_once(referrals: Referrals) -> None:
    _, erasure_id = await erased(referrals)
    await acknowledge(referrals, "partner-95", ASSOCIATION, 0)
    assert (await states(referrals, erasure_id))[ASSOCIATION] == "waiting"

    assert (await confirm(referrals, erasure_id, "administrator", how="phone")).status_code == 201
    again = await confirm(referrals, erasure_id)

    assert again.status_code == 409
    assert again.json()["type"].endswith("erasure-acknowledged-already")
    assert (await states(referrals, erasure_id))[ASSOCIATION] == "hand"


@pytest.mark.parametrize(
    ("more", "pointer"),
    [
        ({"stream": "internal"}, "/stream"),
        ({"stream": f"organization:{d.ASSOCIATION_78}"}, "/stream"),
        ({"confirmed_on": "2026-01-01"}, "/confirmed_on"),
        ({"confirmed_on": (datetime.now(UTC) + timedelta(days=2)).date().isoformat()}, "/confirmed_on"),
        ({"how": "rumour"}, "/how"),
    ],
)
async def test_a_confirmation_is_of_who_was_told_and_of_a_day_since(referrals: Referrals, more: dict[str, str], pointer: str) -> None:
    _, erasure_id = await erased(referrals)

    answer = await confirm(referrals, erasure_id, **more)

    assert answer.status_code == 422, answer.text
    assert [one["pointer"] for one in answer.json()["errors"]] == [pointer]
    assert (await states(referrals, erasure_id))[ASSOCIATION] == "no_reader"


@pytest.mark.parametrize(
    ("who", "status"), [("coordinator-78", 404), ("iscg-95", 403), ("partner-95", 403), ("auditor", 403), ("police-95", 403)]
)
async def test_nobody_else_confirms(referrals: Referrals, who: str, status: int) -> None:
    _, erasure_id = await erased(referrals)

    assert (await confirm(referrals, erasure_id, who)).status_code == status


# Who was given events of a referral


URL = "https://93.184.215.14/maillon"


async def subscribe(referrals: Referrals, who: str = "coordinator-95", stream: str = "departement:95", **more: int) -> str:
    answer = await referrals.post(who, "/v1/subscriptions", {"stream": stream, "url": URL} | more)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


async def unsubscribe(referrals: Referrals, subscription: str, who: str = "coordinator-95") -> None:
    assert (await referrals.client.delete(f"/v1/subscriptions/{subscription}", headers=referrals.token(who))).status_code == 204


async def follow(referrals: Referrals, who: str, stream: str, after: int = 0) -> int:
    """Read a page of the feed, say nothing; the last number in it."""
    answer = await referrals.get(who, f"/v1/streams/{stream}/events", after=after, limit=1000)
    assert answer.status_code == 200, answer.text
    return int(answer.json()["events"][-1]["sequence"])


async def notice(referrals: Referrals, erasure_id: str, stream: str = "departement:95") -> dict[str, Any]:
    [found] = [one for one in (await register(referrals, erasure_id))["notices"] if one["stream"] == stream]
    return dict(found)


async def received(referrals: Referrals) -> tuple[UUID, list[UUID]]:
    """A referral that was told to everybody who listened by then."""
    referral_id = await referrals.receive()
    await stamp(referrals)
    return referral_id, await referrals.persons(referral_id)


async def erase_all(referrals: Referrals, referral_id: UUID, persons: list[UUID]) -> str:
    answer = await ask(referrals, referral_id, persons)
    assert answer.status_code == 201, answer.text
    await stamp(referrals)
    return str(answer.json()["id"])


@pytest.mark.parametrize("ended_by", ["coordinator-95", "administrator"])
@pytest.mark.parametrize("when", ["before the erasure", "after the erasure"])
async def test_who_ended_a_subscription_is_still_waited_for_and_shows_as_having_left(
    referrals: Referrals, when: str, ended_by: str
) -> None:
    subscription = await subscribe(referrals, after=0)
    referral_id, persons = await received(referrals)
    if when == "before the erasure":
        await unsubscribe(referrals, subscription, ended_by)
    erasure_id = await erase_all(referrals, referral_id, persons)
    if when == "after the erasure":
        assert (await notice(referrals, erasure_id))["state"] == "waiting"
        await unsubscribe(referrals, subscription, ended_by)

    told = await notice(referrals, erasure_id)

    assert (told["state"], told["waiting_for"], told["left"]) == ("left", ["coordinator-95"], ["coordinator-95"])
    assert (await register(referrals, erasure_id))["completed_at"] is None
    assert (await confirm(referrals, erasure_id, stream="departement:95")).status_code == 201
    assert (await notice(referrals, erasure_id))["state"] == "hand"


async def test_another_subscription_that_begins_after_the_erasure_acknowledges_nothing(referrals: Referrals) -> None:
    subscription = await subscribe(referrals, after=0)
    referral_id, persons = await received(referrals)
    erasure_id = await erase_all(referrals, referral_id, persons)
    await unsubscribe(referrals, subscription)

    await subscribe(referrals)

    assert (await notice(referrals, erasure_id))["state"] == "left"
    number = (await notice(referrals, erasure_id))["sequence"]
    assert (await acknowledge(referrals, "coordinator-95", "departement:95", number)).status_code == 204
    assert (await notice(referrals, erasure_id))["state"] == "stream"


async def test_who_was_handed_events_by_the_feed_is_waited_for_until_it_says_that_it_has_acted(referrals: Referrals) -> None:
    referral_id, persons = await received(referrals)
    await follow(referrals, "coordinator-95", "departement:95")
    erasure_id = await erase_all(referrals, referral_id, persons)

    first = await notice(referrals, erasure_id)
    last = await follow(referrals, "coordinator-95", "departement:95")
    read = await notice(referrals, erasure_id)
    await acknowledge(referrals, "coordinator-95", "departement:95", last)

    assert (first["state"], first["waiting_for"], first["left"]) == ("waiting", ["coordinator-95"], [])
    assert read["state"] == "waiting"
    assert (await notice(referrals, erasure_id))["state"] == "stream"


async def test_who_was_given_nothing_of_a_referral_before_its_erasure_is_not_asked(referrals: Referrals) -> None:
    """One left before it was received, one read the feed before that and never since, one begins after the erasure."""
    await received(referrals)
    await unsubscribe(referrals, await subscribe(referrals, after=0))
    await follow(referrals, "justice", "justice")
    referral_id, persons = await received(referrals)
    erasure_id = await erase_all(referrals, referral_id, persons)
    interior = await notice(referrals, erasure_id, "interior")
    await stamp(referrals)
    referral_id, persons = await received(referrals)
    await follow(referrals, "interior", "interior", after=interior["sequence"])

    found = {one["stream"]: (one["state"], one["waiting_for"]) for one in (await register(referrals, erasure_id))["notices"]}

    nobody: tuple[str, list[str]] = ("no_reader", [])
    assert (found["departement:95"], found["justice"], found["interior"]) == (nobody, nobody, nobody)


async def test_a_client_that_the_broker_lets_read_a_topic_is_asked_though_it_never_showed_itself(referrals: Referrals) -> None:
    settings = Settings.model_construct(erasure_topic_readers={"justice": ("justice",)})
    referral_id, persons = await received(referrals)
    erasure_id = UUID(await erase_all(referrals, referral_id, persons))

    async with referrals.runtime.database.transaction() as session:
        await acknowledgements.look(session, settings.expected_readers())
        [told] = await acknowledgements.register(session, [await session.get_one(Erasure, erasure_id)], settings.expected_readers())

    assert {one.stream: one.waiting_for for one in told.notices if one.waiting_for} == {"justice": ["justice"], "internal": sorted(OURS)}


async def test_another_service_that_read_our_feed_once_may_be_confirmed_by_hand_when_ours_have_acted(referrals: Referrals) -> None:
    referral_id, persons = await received(referrals)
    await follow(referrals, "referrals", "internal")
    erasure_id = await erase_all(referrals, referral_id, persons)
    assert (await notice(referrals, erasure_id, "internal"))["waiting_for"] == sorted([*OURS, "referrals"])
    assert (await confirm(referrals, erasure_id, "administrator", stream="internal")).status_code == 422
    for service in OURS:
        await acknowledge(referrals, service, "internal", (await notice(referrals, erasure_id, "internal"))["sequence"])

    assert (await confirm(referrals, erasure_id, "administrator", stream="internal")).status_code == 201

    assert (await notice(referrals, erasure_id, "internal"))["state"] == "hand"
