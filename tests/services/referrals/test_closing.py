"""What closing rests on, as far as partners go: nobody is left with a partner whom nobody watches, and who declined is sent to nobody."""

from uuid import UUID

import httpx
import pytest
from sqlalchemy import text

from libs.contracts import demonstration as d
from libs.contracts.partners import ServiceClosed
from libs.contracts.vocabularies import CloseReason
from tests.services.referrals.conftest import MORNING, Referrals
from tests.services.referrals.test_agreement import call, orient, persons_with
from tests.services.referrals.test_links import status
from tests.services.referrals.test_orientations import CALM, PARTNER, told_at_once, wishes

STEPS = ("accept", "start")
POST, DEPARTEMENT = f"post:{d.POST_CERGY}", "departement:95"


async def mailed(referrals: Referrals, *recipients: str) -> None:
    for recipient in recipients:
        headers = referrals.token("iscg-95" if recipient == POST else "coordinator-95") | {"If-Match": '"0"'}
        body = {"address": "a@maillon.example", "mode": "immediate"}
        assert (await referrals.client.put(f"/v1/notice-preferences/{recipient}", json=body, headers=headers)).status_code == 200


async def asked(referrals: Referrals, referral_id: UUID, *steps: str, ground: str | None = None) -> str:
    """An orientation that its partner took that far."""
    orientation = str((await orient(referrals, referral_id, legal_ground=ground)).json()["id"])
    for version, step in enumerate(steps, 1):
        assert (await referrals.answer("partner-95", orientation, step, version=version)).status_code == 200
    return orientation


async def close(referrals: Referrals, referral_id: UUID, reason: str) -> httpx.Response:
    return await referrals.move("iscg-95", referral_id, "close", {"reason": reason})


@pytest.mark.parametrize("reason", list(CloseReason))
async def test_no_referral_is_closed_while_a_partner_has_not_answered(referrals: Referrals, reason: CloseReason) -> None:
    referral_id = await referrals.accepted()
    assert (await call(referrals, referral_id, "reached")).status_code == 201
    orientation = await asked(referrals, referral_id)

    answer = await close(referrals, referral_id, reason)

    assert (answer.status_code, answer.json()["type"].rpartition("/")[2]) == (409, "answer-awaited")
    assert await status(referrals, orientation) == "requested"
    assert (await referrals.answer("iscg-95", orientation, "cancel", {"reason": "declined_by_person"})).status_code == 200
    assert (await close(referrals, referral_id, "completed")).status_code == 200


@pytest.mark.parametrize(("steps", "closes"), [((), False), (("accept",), True), (STEPS, True)])
async def test_closing_as_oriented_rests_on_a_partner_who_said_yes(referrals: Referrals, steps: tuple[str, ...], closes: bool) -> None:
    referral_id = await referrals.accepted()
    await asked(referrals, referral_id, *steps)

    assert ((await close(referrals, referral_id, "oriented")).status_code == 200) == closes


@pytest.mark.parametrize(("ground", "agreement", "closes"), [(None, "accepted", False), ("vital_danger", "not_asked", True)])
async def test_nobody_has_declined_whom_a_partner_supports_by_their_agreement(
    referrals: Referrals, ground: str | None, agreement: str, closes: bool
) -> None:
    referral_id = await referrals.accepted(persons=persons_with(referrals, agreement=agreement))
    orientation = await asked(referrals, referral_id, *STEPS, ground=ground)
    assert (await call(referrals, referral_id, "declined", "refused" if ground else None)).status_code == 201

    answer = await close(referrals, referral_id, "declined_by_person")

    assert (answer.status_code == 200) == closes, answer.text
    assert await status(referrals, orientation) == "in-progress"


@pytest.mark.parametrize("steps", [(), ("accept",)])
async def test_who_declines_help_is_sent_to_no_partner_any_more_and_the_partner_is_told_at_once(
    referrals: Referrals, steps: tuple[str, ...]
) -> None:
    await wishes(referrals, PARTNER, mode="digest")
    referral_id = await referrals.accepted(**CALM)
    orientation = await asked(referrals, referral_id, *steps)
    await referrals.said()

    assert (await call(referrals, referral_id, "declined")).status_code == 201

    said = await referrals.said()
    assert [type for type, _ in said] == ["contact.attempted", "orientation.cancelled"]
    assert said[-1][1]["reason"] == "declined_by_person"
    assert await told_at_once(referrals) == [(PARTNER, "orientation_withdrawn")]
    assert (await referrals.get("partner-95", f"/v1/orientations/{orientation}", "orientation")).status_code == 409
    assert (await close(referrals, referral_id, "declined_by_person")).status_code == 200


async def test_what_declining_does_not_end(referrals: Referrals) -> None:
    """What has begun is between the person and the partner; what rests on a legal ground needs no agreement; another's is another's."""
    begun = await referrals.accepted()
    at_work = await asked(referrals, begun, *STEPS)
    unasked = await referrals.accepted(persons=persons_with(referrals, agreement="not_asked"))
    by_law = await asked(referrals, unasked, ground="vital_danger")
    both = await referrals.accepted(persons=[one | {"agreement": "accepted"} for one in referrals.body()["persons"]])
    body = {"person_id": (await referrals.persons(both))[1], "service_id": d.SHELTER_SERVICE, "need": "shelter"}
    of_another = (await referrals.post("iscg-95", f"/v1/referrals/{both}/orientations", body)).json()["id"]

    for referral_id in (begun, unasked, both):
        assert (await call(referrals, referral_id, "declined", "refused" if referral_id == unasked else None)).status_code == 201

    assert [await status(referrals, one) for one in (at_work, by_law, of_another)] == ["in-progress", "requested", "requested"]


async def given_up(referrals: Referrals, who: str = "iscg-95") -> list[str]:
    listed = (await referrals.get(who, "/v1/referrals", given_up="true")).json()["items"]
    counted = (await referrals.get(who, "/v1/referral-counts")).json()["given_up"]["count"]
    assert counted == len(listed)
    return [one["id"] for one in listed]


async def closed_with_a_partner(referrals: Referrals) -> tuple[UUID, str]:
    referral_id = await referrals.accepted(**CALM)
    orientation = await asked(referrals, referral_id, *STEPS)
    assert (await close(referrals, referral_id, "oriented")).status_code == 200
    return referral_id, orientation


@pytest.mark.parametrize(("post_is_mailed", "told"), [(True, [POST]), (False, [DEPARTEMENT])])
async def test_a_partner_who_gives_up_after_the_closing_is_told_of_and_listed_until_it_is_reopened(
    referrals: Referrals, post_is_mailed: bool, told: list[str]
) -> None:
    referral_id, orientation = await closed_with_a_partner(referrals)
    before = await given_up(referrals)
    await mailed(referrals, DEPARTEMENT, *([POST] if post_is_mailed else []))

    failed = await referrals.answer("partner-95", orientation, "fail", {"reason": "no_show"}, version=3)
    assert failed.status_code == 200, failed.text

    rows = await referrals.rows(
        "SELECT recipient, kind FROM notices WHERE kind LIKE 'orientation_%' AND recipient NOT LIKE 'organization%'"
    )
    assert [(row.recipient, row.kind) for row in rows] == [(one, "orientation_given_up") for one in told]
    assert (before, await given_up(referrals), await given_up(referrals, "coordinator-95")) == ([], [str(referral_id)], [str(referral_id)])
    assert await given_up(referrals, "coordinator-78") == []
    assert (await referrals.move("iscg-95", referral_id, "reopen")).status_code == 200
    assert await given_up(referrals) == []


@pytest.mark.parametrize(("post_is_mailed", "told"), [(True, [POST]), (False, [DEPARTEMENT])])
async def test_a_service_that_closes_after_the_referral_is_told_of_and_listed_as_a_partner_who_gives_up(
    referrals: Referrals, post_is_mailed: bool, told: list[str]
) -> None:
    referral_id, _ = await closed_with_a_partner(referrals)
    await mailed(referrals, DEPARTEMENT, *([POST] if post_is_mailed else []))

    closed = ServiceClosed(departement="95", service_id=d.VICTIM_SUPPORT_SERVICE, organization_id=d.ASSOCIATION, closed_at=MORNING)
    await referrals.hear("partners", closed)

    rows = await referrals.rows("SELECT recipient, kind FROM notices WHERE recipient NOT LIKE 'organization%'")
    assert [(row.recipient, row.kind) for row in rows] == [(one, "orientation_given_up") for one in told]
    assert (await given_up(referrals), await given_up(referrals, "coordinator-95")) == ([str(referral_id)], [str(referral_id)])


async def test_what_a_partner_gave_up_leaves_the_worklist_after_a_month(referrals: Referrals) -> None:
    _, orientation = await closed_with_a_partner(referrals)
    assert (await referrals.answer("partner-95", orientation, "fail", {"reason": "no_show"}, version=3)).status_code == 200
    async with referrals.runtime.database.transaction() as session:
        await session.execute(text("UPDATE referrals SET given_up_at = given_up_at - interval '30 days'"))

    assert await given_up(referrals) == []


async def test_a_partner_who_gives_up_while_the_referral_is_open_is_no_matter_of_a_closed_one(referrals: Referrals) -> None:
    referral_id = await referrals.accepted(**CALM)
    orientation = await asked(referrals, referral_id, *STEPS)
    await mailed(referrals, DEPARTEMENT, POST)

    assert (await referrals.answer("partner-95", orientation, "fail", {"reason": "no_show"}, version=3)).status_code == 200

    assert await given_up(referrals) == []
    assert [row.kind for row in await referrals.rows("SELECT kind FROM notices")] == ["orientation_failed"]
