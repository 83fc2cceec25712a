"""An erasure is acknowledged by the streams it was said in, or by hand for who reads none; the register tells of each which it is."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest

from libs.contracts import demonstration as d
from services.referrals.domain import local_day
from tests.services.referrals.conftest import Referrals
from tests.services.referrals.test_exports import exported
from tests.services.referrals.test_rights import OURS, acknowledge, ask, register, stamp

ASSOCIATION = f"organization:{d.ASSOCIATION}"


def today() -> str:
    return local_day(datetime.now(UTC)).isoformat()


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
