"""An agreement that is gone, a contact that never was, an urgency that grew: what was asked of partners follows."""

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from libs.contracts import demonstration as d
from libs.contracts.partners import ServiceClosed
from tests.services.referrals.conftest import CONTENT, MORNING, Referrals
from tests.services.referrals.test_agreement import MINOR, orient, persons_with
from tests.services.referrals.test_links import status
from tests.services.referrals.test_orientations import CALM, PARTNER, POST, execute, told_at_once, wishes
from tests.services.referrals.test_reach import read
from tests.services.referrals.test_read_again import correct, living
from tests.services.referrals.test_withdrawals import EARLY, LATE, noted, withdraw


async def agreement(referrals: Referrals, referral_id: UUID) -> str:
    return str((await referrals.read_as("iscg-95", referral_id))["people"][0]["agreement"])


@pytest.mark.parametrize("steps", [(), ("accept",), ("accept", "start")])
async def test_an_agreement_that_was_never_given_carries_no_orientation_and_its_partner_is_told_at_once(
    referrals: Referrals, steps: tuple[str, ...]
) -> None:
    await wishes(referrals, PARTNER, mode="digest")
    referral_id = await referrals.accepted(**CALM)
    asked = await living(referrals, referral_id, *steps)

    await correct(referrals, referral_id, agreement="not_asked")

    assert [(type, data.get("reason")) for type, data in await referrals.said()] == [
        ("referral.corrected", None),
        ("orientation.cancelled", "mistake"),
    ]
    assert await told_at_once(referrals) == [(PARTNER, "orientation_withdrawn")]
    assert (await read(referrals, asked)).json()["type"].endswith("orientation-over")
    assert (await referrals.answer("partner-95", asked, "accept", version=len(steps) + 2)).status_code == 409


async def test_what_rests_on_a_legal_ground_needs_no_agreement_to_last(referrals: Referrals) -> None:
    referral_id = await referrals.accepted(persons=persons_with(referrals, agreement="refused"))
    asked = (await orient(referrals, referral_id, legal_ground="vital_danger")).json()["id"]

    await correct(referrals, referral_id, agreement="not_asked")

    assert await status(referrals, asked) == "requested"


ADULT = MINOR | {"birth_on": "1990-01-01"}
ALMOST = MINOR | {"birth_on": "2008-11-25"}
GROWN: dict[str, Any] = {"identity": ADULT}


@pytest.mark.parametrize(
    ("ground", "identity", "corrections", "left"),
    [
        ("minor_in_danger", MINOR, [GROWN], "no_longer_suitable"),
        ("minor_in_danger", MINOR, [GROWN | {"agreement": "refused"}], "no_longer_suitable"),
        ("minor_in_danger", MINOR, [{"identity": ALMOST}], None),
        ("minor_in_danger", MINOR, [GROWN | {"agreement": "accepted"}], None),
        ("minor_in_danger", MINOR, [GROWN | {"agreement": "accepted"}, {"agreement": "refused"}], "no_longer_suitable"),
        ("minor_in_danger", ALMOST, [{"occurred_at": "2026-11-26T08:00:00Z"}], "no_longer_suitable"),
        ("vulnerable_adult", ADULT, [{"identity": MINOR}], "no_longer_suitable"),
        ("vital_danger", MINOR, [GROWN | {"agreement": "refused"}], None),
    ],
)
async def test_a_legal_ground_that_is_not_for_somebody_of_this_age_carries_no_orientation(
    referrals: Referrals, ground: str, identity: dict[str, Any], corrections: list[dict[str, Any]], left: str | None
) -> None:
    persons = persons_with(referrals, agreement="not_asked", identity=identity)
    referral_id = await referrals.accepted(persons=persons, occurred_at="2026-11-22T08:00:00Z")
    asked = (await orient(referrals, referral_id, legal_ground=ground)).json()["id"]

    for corrected in corrections:
        await correct(referrals, referral_id, **corrected)

    [row] = await referrals.rows("SELECT reason, version FROM orientations")
    assert row.reason == left
    assert (await read(referrals, asked)).status_code == (200 if left is None else 409)
    answer = await referrals.answer("partner-95", asked, "accept", version=row.version)
    assert answer.status_code == (200 if left is None else 409), answer.text


@pytest.mark.parametrize("steps", [("accept",), ("accept", "start")])
async def test_an_age_that_the_ground_is_not_for_cuts_no_support_that_a_partner_agreed_to_and_is_warned_of(
    referrals: Referrals, steps: tuple[str, ...]
) -> None:
    referral_id = await referrals.accepted(persons=persons_with(referrals, agreement="not_asked", identity=MINOR))
    asked = (await orient(referrals, referral_id, legal_ground="minor_in_danger")).json()["id"]
    for version, step in enumerate(steps, 1):
        assert (await referrals.answer("partner-95", asked, step, version=version)).status_code == 200
    before = await status(referrals, asked)
    [person, *_] = await referrals.persons(referral_id)

    async def warned(**corrected: Any) -> list[str]:
        body = {"reason": "mistake", "persons": [{"person_id": person, **corrected}]}
        answer = await referrals.move("iscg-95", referral_id, "corrections", body)
        assert answer.status_code == 201, answer.text
        warnings: list[str] = answer.json()["warnings"]
        return warnings

    mistyped = await warned(**GROWN)
    agreed = await warned(agreement="accepted")
    taken_back = await warned(agreement="not_asked")
    right = await warned(identity=MINOR)

    assert (mistyped, agreed, taken_back, right) == (["legal_ground"], [], ["legal_ground"], [])
    assert await status(referrals, asked) == before


@pytest.mark.parametrize(("result", "said", "before"), [("reached", "accepted", "not_asked"), ("declined", "refused", "accepted")])
async def test_a_contact_that_is_withdrawn_takes_what_the_person_said_with_it(
    referrals: Referrals, result: str, said: str, before: str
) -> None:
    referral_id = await referrals.accepted(persons=persons_with(referrals, agreement=before))
    contact = await noted(referrals, referral_id, result=result, agreement=said)
    asked = (await orient(referrals, referral_id)).json().get("id") if said == "accepted" else None
    await referrals.said()

    assert (await withdraw(referrals, referral_id, contact, "other_person")).status_code == 200

    assert await agreement(referrals, referral_id) == before
    log = (await referrals.get("iscg-95", f"/v1/referrals/{referral_id}/corrections", CONTENT)).json()["items"]
    assert [(one["reason"], one["changes"][0]["after"]) for one in log] == [("learned", said), ("mistake", before)]
    ended = ["orientation.cancelled"] if asked else []
    assert await referrals.said_types() == ["referral.corrected", *ended, "contact.withdrawn"]
    assert (await orient(referrals, referral_id)).status_code == (409 if asked else 201)


async def test_what_the_person_said_stays_while_another_contact_with_them_stands_or_once_it_was_corrected(referrals: Referrals) -> None:
    reached_twice, corrected = [await referrals.accepted(persons=persons_with(referrals, agreement="not_asked")) for _ in range(2)]
    for referral_id in (reached_twice, corrected):
        contact = await noted(referrals, referral_id, attempted_at=EARLY, agreement="accepted")
        if referral_id == reached_twice:
            await noted(referrals, referral_id, attempted_at=LATE)
        else:
            await correct(referrals, referral_id, agreement="refused")
        assert (await withdraw(referrals, referral_id, contact, "noted_twice")).status_code == 200

    assert [await agreement(referrals, one) for one in (reached_twice, corrected)] == ["accepted", "refused"]


@pytest.mark.parametrize(("agreed_since", "left"), [(False, "cancelled"), (True, "requested")])
async def test_who_declined_and_agreed_in_a_later_call_is_still_awaited_whichever_is_noted_first(
    referrals: Referrals, agreed_since: bool, left: str
) -> None:
    referral_id = await referrals.accepted(persons=persons_with(referrals, agreement="accepted"))
    await noted(referrals, referral_id, attempted_at=LATE if agreed_since else EARLY)
    asked = (await orient(referrals, referral_id)).json()["id"]

    await noted(referrals, referral_id, attempted_at=EARLY if agreed_since else LATE, result="declined")

    assert await status(referrals, asked) == left


async def test_what_a_contact_ended_stays_ended_when_it_is_withdrawn_and_may_be_asked_again(referrals: Referrals) -> None:
    referral_id = await referrals.accepted(persons=persons_with(referrals, agreement="accepted"))
    asked = (await orient(referrals, referral_id)).json()["id"]
    contact = await noted(referrals, referral_id, result="declined")

    assert (await withdraw(referrals, referral_id, contact, "other_person")).status_code == 200

    assert await status(referrals, asked) == "cancelled"
    told = referrals.openapi()["paths"]["/v1/referrals/{referral_id}/contacts/{contact_id}/withdraw"]["post"]["description"]
    assert "`declined` cancelled stays cancelled" in told
    assert (await orient(referrals, referral_id)).status_code == 201


@pytest.mark.parametrize("more_urgent", [{"urgency": "immediate"}, {"danger": True}])
async def test_a_partner_who_has_not_answered_what_turns_out_urgent_has_no_longer_than_if_asked_now(
    referrals: Referrals, more_urgent: dict[str, Any]
) -> None:
    await wishes(referrals, PARTNER)
    referral_id = await referrals.accepted(**CALM | {"urgency": "standard"})
    asked = await living(referrals, referral_id)

    async def left() -> timedelta:
        found = (await read(referrals, asked)).json()
        return datetime.fromisoformat(found["expires_at"]) - datetime.fromisoformat(found["requested_at"])

    assert await left() == timedelta(days=14)
    await correct(referrals, referral_id, **more_urgent)
    assert timedelta(days=1) <= await left() < timedelta(days=1, minutes=10)
    assert (PARTNER, "orientation_updated") in await told_at_once(referrals)

    await correct(referrals, referral_id, **{name: CALM[name] for name in more_urgent})
    assert await left() < timedelta(days=1, minutes=10), "a promised answer is not put off"


async def test_an_urgent_correction_leaves_who_has_answered_as_they_are(referrals: Referrals) -> None:
    referral_id = await referrals.accepted(**CALM)
    asked = await living(referrals, referral_id, "accept")
    before = (await read(referrals, asked)).json()["expires_at"]

    await correct(referrals, referral_id, urgency="immediate")

    assert (await read(referrals, asked)).json()["expires_at"] == before


async def test_the_timeline_tells_what_the_partner_answered_and_that_its_support_began(referrals: Referrals) -> None:
    referral_id = await referrals.accepted()
    asked = await living(referrals, referral_id, "accept", "start")
    assert (await referrals.answer("partner-95", asked, "complete", {"outcome": "supported"}, version=3)).status_code == 200

    items = (await referrals.get("iscg-95", f"/v1/referrals/{referral_id}/timeline", CONTENT)).json()["items"]

    assert [(one["step"], one["reason"]) for one in items if one["step"].startswith("orientation")] == [
        ("orientation_requested", None),
        ("orientation_accepted", None),
        ("orientation_started", None),
        ("orientation_completed", "supported"),
    ]


@pytest.mark.parametrize(("changed", "mailed"), [({"known_to_services": "known"}, False), ({"role": "witness"}, True)])
async def test_what_changes_nothing_about_calling_is_said_and_mailed_to_nobody(
    referrals: Referrals, changed: dict[str, Any], mailed: bool
) -> None:
    await wishes(referrals, PARTNER, mode="digest")
    referral_id = await referrals.accepted(**CALM)
    await living(referrals, referral_id)

    await correct(referrals, referral_id, **changed)

    assert await referrals.said_types() == ["referral.corrected", "orientation.updated"]
    assert await told_at_once(referrals) == ([(PARTNER, "orientation_updated")] if mailed else [])


async def warned(referrals: Referrals) -> bool:
    return "untold" in (await orient(referrals, await referrals.accepted())).json()["warnings"]


async def test_who_is_asked_and_told_by_nothing_is_named_to_the_social_worker(referrals: Referrals) -> None:
    assert await warned(referrals)
    await wishes(referrals, PARTNER)
    by_mail = await warned(referrals)
    await execute(referrals, "UPDATE notice_preferences SET mode = 'off'")

    assert (by_mail, await warned(referrals)) == (False, True)


async def test_a_partner_is_told_by_its_feed_as_long_as_it_looked_within_the_week_new_events_or_not(referrals: Referrals) -> None:
    """One look long ago tells nobody; who looks each day and finds nothing new is told."""
    await execute(
        referrals,
        f"INSERT INTO stream_readers (stream, client_id, epoch, sequence, acknowledged_at, given_at)"
        f" VALUES ('{PARTNER}', 'gone', 0, 0, now() - interval '1 year', now() - interval '1 year')",
    )
    long_ago = await warned(referrals)

    assert (await referrals.get("partner-95", f"/v1/streams/{PARTNER}/events")).json()["events"] == []
    looked = await warned(referrals)
    await execute(referrals, "UPDATE stream_readers SET looked_at = now() - interval '8 days'")
    stopped = await warned(referrals)
    await referrals.get("partner-95", f"/v1/streams/{PARTNER}/events")

    assert (long_ago, looked, stopped, await warned(referrals)) == (True, False, True, False)


async def test_a_partner_is_told_by_a_webhook_only_while_it_delivers(referrals: Referrals) -> None:
    asked = {"stream": PARTNER, "url": "https://93.184.215.14/maillon"}
    made = await referrals.post("partner-95", "/v1/subscriptions", asked)
    assert made.status_code == 201, made.text
    delivers = await warned(referrals)
    seen = {}
    for change in ("status = 'disabled', disabled_reason = 'gone'", "status = 'active', renewed_at = now() - interval '8 days'"):
        await execute(referrals, f"UPDATE subscriptions SET {change}")
        seen[change[:17]] = await warned(referrals)
    await execute(referrals, "UPDATE subscriptions SET renewed_at = now()")

    assert (delivers, await warned(referrals)) == (False, False)
    assert list(seen.values()) == [True, True]


async def test_a_post_learns_that_a_service_it_asked_has_closed_and_the_orientation_stays_for_it_to_look_after(
    referrals: Referrals,
) -> None:
    await wishes(referrals, POST)
    living, ended = await referrals.accepted(), await referrals.accepted()
    asked = (await orient(referrals, living)).json()["id"]
    over = (await orient(referrals, ended)).json()["id"]
    assert (await referrals.answer("iscg-95", over, "cancel", {"reason": "mistake"})).status_code == 200
    closed = ServiceClosed(departement="95", service_id=d.VICTIM_SUPPORT_SERVICE, organization_id=d.ASSOCIATION, closed_at=MORNING)

    await referrals.hear("partners", closed)
    await referrals.hear("partners", closed)

    told = await referrals.rows("SELECT kind, referral_id FROM notices WHERE kind = 'orientation_service_closed'")
    assert [one.referral_id for one in told] == [living]
    assert await status(referrals, asked) == "requested"
