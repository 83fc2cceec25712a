"""Orientations: asked again after they came to nothing, recalled before they expire, told to who must act."""

import json
import urllib.parse
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text

from libs.contracts import demonstration as d
from services.referrals.app import expire_orientations, remind_partners
from tests.services.referrals.conftest import Referrals

POST = f"post:{d.POST_CERGY}"
PARTNER = f"organization:{d.ASSOCIATION}"
CALM: dict[str, Any] = {"urgency": "priority", "danger": False}


async def execute(referrals: Referrals, statement: str) -> None:
    async with referrals.runtime.database.transaction() as session:
        await session.execute(text(statement))


async def ask(referrals: Referrals, referral_id: UUID, service_id: UUID, *, place: int = 0, **more: Any) -> Any:
    person = (await referrals.persons(referral_id))[place]
    body = {"person_id": person, "service_id": service_id, "need": "victim_support"} | more
    return await referrals.post("iscg-95", f"/v1/referrals/{referral_id}/orientations", body)


async def wishes(referrals: Referrals, *recipients: str, mode: str = "immediate") -> None:
    """These recipients want mail, at once unless it is said otherwise."""
    for recipient in recipients:
        who = "iscg-95" if recipient.startswith("post") else "partner-95"
        headers = referrals.token(who) | {"If-Match": '"0"'}
        body = {"address": "a@maillon.example", "mode": mode}
        answer = await referrals.client.put(f"/v1/notice-preferences/{recipient}", json=body, headers=headers)
        assert answer.status_code == 200, answer.text


async def told(referrals: Referrals) -> list[tuple[str, str]]:
    rows = await referrals.rows("SELECT recipient, kind FROM notices WHERE kind LIKE 'orientation%' ORDER BY id")
    return [(row.recipient, row.kind) for row in rows]


async def told_at_once(referrals: Referrals) -> list[tuple[str, str]]:
    """What waits for no digest."""
    rows = await referrals.rows("SELECT recipient, kind FROM notices WHERE due_at = created_at ORDER BY id")
    return [(row.recipient, row.kind) for row in rows]


async def test_several_services_are_asked_at_the_same_time_each_with_a_life_of_its_own(referrals: Referrals) -> None:
    referral_id = await referrals.accepted()
    asked = [(await ask(referrals, referral_id, service)).json() for service in (d.VICTIM_SUPPORT_SERVICE, d.SHELTER_SERVICE)]

    await referrals.answer("partner-95", asked[0]["id"], "reject", {"reason": "no_capacity"})

    found = (await referrals.get("iscg-95", "/v1/orientations")).json()["items"]
    assert [one["status"] for one in found] == ["rejected", "requested"]


@pytest.mark.parametrize("end", ["rejected", "expired", "failed"])
async def test_a_person_is_oriented_again_after_what_came_to_nothing(referrals: Referrals, end: str) -> None:
    referral_id = await referrals.accepted()
    first = (await ask(referrals, referral_id, d.VICTIM_SUPPORT_SERVICE)).json()
    await execute(referrals, f"UPDATE orientations SET status = '{end}'")

    again = await ask(referrals, referral_id, d.SHELTER_SERVICE, replaces_id=first["id"])

    assert (again.status_code, again.json()["replaces_id"]) == (201, first["id"])
    type, data = (await referrals.said())[-1]
    assert (type, data["replaces_id"]) == ("orientation.requested", first["id"])
    shown = (await referrals.read_as("iscg-95", referral_id))["orientations"]
    assert [one["replaces_id"] for one in shown] == [None, first["id"]]


@pytest.mark.parametrize("state", ["requested", "accepted", "completed", "cancelled"])
async def test_what_lives_or_ended_well_is_not_replaced(referrals: Referrals, state: str) -> None:
    referral_id = await referrals.accepted()
    first = (await ask(referrals, referral_id, d.VICTIM_SUPPORT_SERVICE)).json()
    await execute(referrals, f"UPDATE orientations SET status = '{state}'")

    again = await ask(referrals, referral_id, d.SHELTER_SERVICE, replaces_id=first["id"])

    assert again.json()["type"].endswith("orientation-not-to-replace")


async def test_an_orientation_of_somebody_else_is_not_replaced(referrals: Referrals) -> None:
    referral_id = await referrals.accepted()
    first = (await ask(referrals, referral_id, d.VICTIM_SUPPORT_SERVICE)).json()
    await execute(referrals, "UPDATE orientations SET status = 'rejected'")

    await execute(referrals, "UPDATE persons SET agreement = 'accepted'")
    of_another = await ask(referrals, referral_id, d.SHELTER_SERVICE, place=1, replaces_id=first["id"])
    of_nobody = await ask(referrals, referral_id, d.SHELTER_SERVICE, replaces_id=uuid4())
    of_another_case = await ask(referrals, await referrals.accepted(), d.SHELTER_SERVICE, replaces_id=first["id"])

    for answer in (of_another, of_nobody, of_another_case):
        assert answer.status_code == 422
        assert answer.json()["type"].endswith("unknown-orientation")


async def test_a_partner_is_asked_and_reminded_once_and_the_post_learns_that_it_expired(referrals: Referrals) -> None:
    await wishes(referrals, POST, PARTNER)
    await ask(referrals, await referrals.accepted(**CALM), d.VICTIM_SUPPORT_SERVICE)
    await remind_partners(referrals.runtime)
    assert await told(referrals) == [(PARTNER, "orientation_to_answer")]

    await execute(referrals, "UPDATE orientations SET requested_at = now() - interval '12 days', expires_at = now() + interval '2 days'")
    await remind_partners(referrals.runtime)
    asked = await told(referrals)
    await execute(referrals, "UPDATE orientations SET expires_at = now() - interval '1 minute'")
    await remind_partners(referrals.runtime)
    await expire_orientations(referrals.runtime)
    await expire_orientations(referrals.runtime)

    assert asked == [(PARTNER, "orientation_to_answer"), (PARTNER, "orientation_reminder")]
    assert await told(referrals) == [(POST, "orientation_expired")]  # what no mail had taken is not asked any more


async def test_one_that_lives_for_a_day_only_is_recalled_at_its_half_not_at_once(referrals: Referrals) -> None:
    await wishes(referrals, PARTNER)
    await ask(referrals, await referrals.accepted(), d.VICTIM_SUPPORT_SERVICE)
    await execute(referrals, "UPDATE orientations SET expires_at = requested_at + interval '1 day'")
    await remind_partners(referrals.runtime)
    assert len(await told(referrals)) == 1

    await execute(referrals, "UPDATE orientations SET requested_at = now() - interval '13 hours', expires_at = now() + interval '11 hours'")
    await remind_partners(referrals.runtime)

    assert len(await told(referrals)) == 2


@pytest.mark.parametrize(
    ("referral", "hours"),
    [
        ({"urgency": "standard", "danger": False}, 14 * 24),
        ({"urgency": "priority", "danger": False}, 7 * 24),
        ({"urgency": "immediate", "danger": False}, 24),
        ({"urgency": "standard", "danger": True}, 24),
    ],
)
async def test_the_more_urgent_the_sooner_nobody_waits_for_an_answer_any_more(
    referrals: Referrals, referral: dict[str, Any], hours: int
) -> None:
    asked = (await ask(referrals, await referrals.accepted(**referral), d.VICTIM_SUPPORT_SERVICE)).json()

    given = datetime.fromisoformat(asked["expires_at"]) - datetime.fromisoformat(asked["requested_at"])
    assert given == timedelta(hours=hours)


async def test_a_partner_learns_from_the_request_how_urgent_it_is_and_nobody_else_does(referrals: Referrals) -> None:
    await ask(referrals, await referrals.accepted(urgency="immediate", danger=True), d.VICTIM_SUPPORT_SERVICE)

    rows = await referrals.rows("SELECT stream, data FROM outbox WHERE type = 'fr.maillon.orientation.requested.v1'")
    said = {row.stream: json.loads(bytes(row.data)) for row in rows}
    assert [stream for stream, data in said.items() if "urgency" in data or "danger" in data] == ["internal", PARTNER]
    assert (said[PARTNER]["urgency"], said[PARTNER]["danger"]) == ("immediate", True)


REJECT, FAIL, COMPLETE = ("reject", {"reason": "no_capacity"}), ("fail", {"reason": "no_show"}), ("complete", {"outcome": "informed"})
ACCEPT, START = ("accept", None), ("start", None)


@pytest.mark.parametrize("urgent", [False, True])
@pytest.mark.parametrize(
    ("steps", "kinds"),
    [
        ([REJECT], ["rejected"]),
        ([ACCEPT, FAIL], ["accepted", "failed"]),
        ([ACCEPT, START, COMPLETE], ["accepted", "started", "completed"]),
    ],
)
async def test_the_post_learns_each_answer_by_a_link_to_the_referral_and_at_once_when_it_is_urgent(
    referrals: Referrals, steps: list[tuple[str, Any]], kinds: list[str], urgent: bool
) -> None:
    await wishes(referrals, POST, mode="digest")
    referral_id = await referrals.accepted(**{} if urgent else CALM)
    asked = (await ask(referrals, referral_id, d.VICTIM_SUPPORT_SERVICE)).json()

    for version, (step, body) in enumerate(steps, 1):
        assert (await referrals.answer("partner-95", asked["id"], step, body, version)).status_code == 200

    rows = await referrals.rows(
        "SELECT recipient, kind, referral_id, link_id, due_at = created_at AS at_once FROM notices WHERE kind LIKE 'orientation%' ORDER BY id"
    )
    assert [tuple(row) for row in rows] == [(POST, f"orientation_{kind}", referral_id, None, urgent) for kind in kinds]


async def test_an_answer_by_link_is_told_to_the_post_as_the_page_promises(referrals: Referrals) -> None:
    await wishes(referrals, POST)
    asked = (await ask(referrals, await referrals.accepted(), d.VICTIM_SUPPORT_SERVICE)).json()
    made = await referrals.post("iscg-95", f"/v1/orientations/{asked['id']}/links")

    answer = await referrals.client.post(urllib.parse.urlsplit(made.json()["url"]).path, data={"version": "1", "answer": "accept"})

    assert "Réponse enregistrée" in answer.text
    assert await told(referrals) == [(POST, "orientation_accepted")]


@pytest.mark.parametrize(
    ("referral", "kind", "at_once"),
    [
        ({"urgency": "immediate", "danger": False}, "orientation_urgent", True),
        ({"urgency": "standard", "danger": True}, "orientation_urgent", True),
        (CALM, "orientation_to_answer", False),
    ],
)
async def test_in_a_digest_too_a_partner_is_asked_at_once_what_is_urgent(
    referrals: Referrals, referral: dict[str, Any], kind: str, at_once: bool
) -> None:
    await wishes(referrals, PARTNER, mode="digest")

    await ask(referrals, await referrals.accepted(**referral), d.VICTIM_SUPPORT_SERVICE)
    await execute(referrals, "UPDATE orientations SET requested_at = now() - interval '12 days', expires_at = now() + interval '2 days'")
    await remind_partners(referrals.runtime)

    rows = await referrals.rows("SELECT kind, due_at = created_at AS at_once FROM notices ORDER BY id")
    assert [(row.kind, row.at_once) for row in rows] == [(kind, at_once), ("orientation_reminder", at_once)]


@pytest.mark.parametrize("who", ["iscg-95", "coordinator-95"])
@pytest.mark.parametrize("steps", [(), ("accept",), ("accept", "start")])
async def test_what_lives_is_cancelled_with_a_reason_that_its_partner_is_told_at_once(
    referrals: Referrals, who: str, steps: tuple[str, ...]
) -> None:
    await wishes(referrals, PARTNER, mode="digest")
    asked = (await ask(referrals, await referrals.accepted(**CALM), d.VICTIM_SUPPORT_SERVICE)).json()["id"]
    for version, step in enumerate(steps, 1):
        assert (await referrals.answer("partner-95", asked, step, version=version)).status_code == 200
    await referrals.said()

    answer = await referrals.answer(who, asked, "cancel", {"reason": "no_longer_suitable"}, len(steps) + 1)

    assert (answer.status_code, answer.json()["status"], answer.json()["reason"]) == (200, "cancelled", "no_longer_suitable")
    [(type, data)] = await referrals.said()
    assert (type, data["reason"]) == ("orientation.cancelled", "no_longer_suitable")
    [partners] = await referrals.rows("SELECT data FROM outbox WHERE stream LIKE 'organization:%' ORDER BY position DESC LIMIT 1")
    assert b'"reason":"no_longer_suitable"' in bytes(partners.data)
    assert await told_at_once(referrals) == [(PARTNER, "orientation_withdrawn")]


@pytest.mark.parametrize("reason", [None, "person_refused", "person_erased", "no_capacity"])
async def test_it_is_not_cancelled_without_a_reason_that_a_person_may_give(referrals: Referrals, reason: str | None) -> None:
    asked = (await ask(referrals, await referrals.accepted(), d.VICTIM_SUPPORT_SERVICE)).json()["id"]

    answer = await referrals.answer("iscg-95", asked, "cancel", {"reason": reason} if reason else {})

    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "/reason")


@pytest.mark.parametrize("state", ["rejected", "completed", "failed", "expired", "cancelled"])
async def test_what_has_ended_is_not_cancelled(referrals: Referrals, state: str) -> None:
    asked = (await ask(referrals, await referrals.accepted(), d.VICTIM_SUPPORT_SERVICE)).json()["id"]
    await execute(referrals, f"UPDATE orientations SET status = '{state}'")

    assert (await referrals.answer("coordinator-95", asked, "cancel", {"reason": "mistake"})).status_code == 409
