"""What is told is true when it is told: a post hears of what a coordinator does to a referral that it works, and nobody hears any more of what is over."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from libs.contracts import demonstration as d
from services.referrals.app import route_unrouted
from services.referrals.orientations import waiting as waiting_for
from tests.services.referrals.conftest import Referrals
from tests.services.referrals.test_notices import POST, Mailbox, box, hurry, prefer, referrals, send

__all__ = ["box", "referrals"]

CHILD = {"role": "victim", "sex": "female", "agreement": "not_asked", "approximate_age": 8}
LETTERS = {"modes": ["letter"], "windows": [], "voicemail_allowed": False, "text_allowed": False, "read_by_others": True}
PARTNER = f"organization:{d.ASSOCIATION}"


async def told(referrals: Referrals, recipient: str = POST) -> list[tuple[str, bool]]:
    """What waits to be told to a recipient, and whether it goes at once."""
    rows = await referrals.rows(
        f"SELECT kind, due_at <= now() AS at_once FROM notices WHERE recipient = '{recipient}' AND mail_id IS NULL ORDER BY id"
    )
    return [(row.kind, row.at_once) for row in rows]


async def worked(referrals: Referrals, mode: str = "digest", **changes: Any) -> UUID:
    """Accepted by a post that has read all mails so far."""
    await prefer(referrals, "iscg-95", POST, mode)
    referral_id = await referrals.accepted(**({"danger": False, "urgency": "standard"} | changes))
    await hurry(referrals, "DELETE FROM notices")
    return referral_id


@pytest.mark.parametrize(
    ("learnt", "expected"),
    [
        ({"children_present": 3}, ("referral_changed", False)),
        ({"added": [CHILD]}, ("person_joined", True)),
        ({"persons": [{"role": "other"}]}, ("referral_changed", False)),
        ({"persons": [{"safe_contact": LETTERS}]}, ("referral_changed", True)),
        ({"persons": [{"agreement": "refused"}]}, ("referral_changed", True)),
    ],
)
async def test_the_post_is_told_of_what_a_coordinator_corrects_and_at_once_of_what_matters_before_a_call(
    referrals: Referrals, learnt: dict[str, Any], expected: tuple[str, bool]
) -> None:
    referral_id = await worked(referrals)
    [victim, *_] = await referrals.persons(referral_id)
    body = {"reason": "learned"} | learnt
    if "persons" in body:
        body["persons"] = [one | {"person_id": victim} for one in body["persons"]]

    assert (await referrals.move("coordinator-95", referral_id, "corrections", body)).status_code == 201

    assert await told(referrals) == [expected]


async def test_the_post_is_told_at_once_who_turns_out_to_be_a_victim(referrals: Referrals) -> None:
    one, *_ = referrals.body()["persons"]
    referral_id = await worked(referrals, persons=[one, one | {"role": "witness"}])
    [_, witness] = await referrals.persons(referral_id)

    body = {"reason": "learned", "persons": [{"person_id": witness, "role": "victim"}]}
    assert (await referrals.move("coordinator-95", referral_id, "corrections", body)).status_code == 201

    assert await told(referrals) == [("person_joined", True)]


async def test_the_post_is_told_of_an_alert_that_a_coordinator_sent(referrals: Referrals) -> None:
    referral_id = await worked(referrals)
    [victim, *_] = await referrals.persons(referral_id)
    sent = {"kind": "prosecutor_report", "court": "95127", "person_ids": [victim], "sent_at": "2026-11-24T16:30:00Z"}

    by_the_post = await referrals.post("iscg-95", f"/v1/referrals/{referral_id}/alerts", sent)
    before = await told(referrals)
    by_the_coordinator = await referrals.post("coordinator-95", f"/v1/referrals/{referral_id}/alerts", sent)

    assert (by_the_post.status_code, by_the_coordinator.status_code) == (201, 201)
    assert (before, await told(referrals)) == ([], [("referral_changed", False)])


async def test_nobody_is_told_of_what_they_corrected_themselves(referrals: Referrals) -> None:
    referral_id = await worked(referrals)

    corrected = {"reason": "learned", "children_present": 3, "added": [CHILD]}
    assert (await referrals.move("iscg-95", referral_id, "corrections", corrected)).status_code == 201

    assert await told(referrals) == []


async def test_the_post_of_a_closed_referral_is_told_at_once_of_a_victim_who_is_added_to_it(referrals: Referrals, box: Mailbox) -> None:
    referral_id = await worked(referrals)
    assert (await referrals.move("iscg-95", referral_id, "close", {"reason": "out_of_scope"})).status_code == 200

    joins = {"reason": "learned", "danger": True, "added": [CHILD]}
    assert (await referrals.move("coordinator-95", referral_id, "corrections", joins)).status_code == 201
    await send(referrals)

    [mail] = box.taken
    assert "rouvrez-la" in mail["Subject"]
    assert f"/referrals/{referral_id}" in mail.get_content()
    reopened = await referrals.move("iscg-95", referral_id, "reopen")
    assert (reopened.status_code, (await referrals.read_as("iscg-95", referral_id))["awaits_contact"]) == (200, True)


async def test_a_post_whose_referral_is_given_to_another_is_told_at_once_not_to_call(referrals: Referrals, box: Mailbox) -> None:
    referral_id = await worked(referrals)

    assert (await referrals.move("coordinator-95", referral_id, "assign", {"post_id": d.POST_SARCELLES})).status_code == 200
    await send(referrals)

    [mail] = box.taken
    assert "n'appelez plus" in mail["Subject"]
    assert f"/v1/referrals#{referral_id}" in mail.get_content()  # the referral itself answers 404 to them


async def test_a_post_is_told_of_an_erasure_and_of_an_orientation_that_a_coordinator_cancels(referrals: Referrals) -> None:
    referral_id = await worked(referrals)
    orientation = (await referrals.orient(referral_id)).json()
    [victim, *_] = await referrals.persons(referral_id)

    cancelled = await referrals.answer("coordinator-95", orientation["id"], "cancel", {"reason": "mistake"})
    erased = await referrals.move("coordinator-95", referral_id, "erasures", {"person_ids": [victim]})

    assert (cancelled.status_code, erased.status_code) == (200, 201), (cancelled.text, erased.text)
    assert await told(referrals) == [("orientation_cancelled", False), ("referral_erased", True)]


# What is over


async def test_a_digest_tells_no_post_of_a_referral_that_went_to_another(referrals: Referrals) -> None:
    await prefer(referrals, "iscg-95", POST, "digest")
    referral_id = await referrals.receive(urgency="standard", danger=False)
    before = await told(referrals)

    assert (await referrals.move("iscg-95", referral_id, "transfer", {"post_id": d.POST_SARCELLES})).status_code == 200

    assert (before, await told(referrals)) == ([("new_referral", False)], [])


async def test_a_post_that_is_given_its_referral_back_is_not_told_that_it_went(referrals: Referrals) -> None:
    referral_id = await worked(referrals)

    for post in (d.POST_SARCELLES, d.POST_CERGY):
        assert (await referrals.move("coordinator-95", referral_id, "assign", {"post_id": post})).status_code == 200

    assert await told(referrals) == [("new_referral", False)]


@pytest.mark.parametrize("by_hand", [True, False])
async def test_a_coordinator_is_not_told_of_a_referral_without_post_that_has_found_one(referrals: Referrals, by_hand: bool) -> None:
    await prefer(referrals, "coordinator-95", "departement:95", "digest")
    referral_id = await referrals.receive(urgency="standard", danger=False, unit_id=None, commune="95008")
    before = await told(referrals, "departement:95")

    if by_hand:
        assert (await referrals.move("coordinator-95", referral_id, "assign", {"post_id": d.POST_CERGY})).status_code == 200
    else:
        body = {"reason": "mistake", "unit_id": d.UNIT_CERGY}
        assert (await referrals.move("coordinator-95", referral_id, "corrections", body)).status_code == 201
        await route_unrouted(referrals.runtime)

    assert (before, await told(referrals, "departement:95")) == ([("unrouted_referral", False)], [])


async def test_a_partner_is_not_asked_any_more_what_was_cancelled_only_told_that_it_was(referrals: Referrals) -> None:
    await prefer(referrals, "partner-95", PARTNER, "digest")
    referral_id = await worked(referrals)
    orientation = (await referrals.orient(referral_id)).json()
    before = await told(referrals, PARTNER)

    assert (await referrals.answer("iscg-95", orientation["id"], "cancel", {"reason": "mistake"})).status_code == 200

    assert before == [("orientation_to_answer", False)]
    assert await told(referrals, PARTNER) == [("orientation_withdrawn", True)]


@pytest.mark.parametrize("ending", ["accept", "expire"])
async def test_a_partner_is_not_reminded_of_what_was_answered_or_expired(referrals: Referrals, ending: str) -> None:
    await prefer(referrals, "partner-95", PARTNER, "digest")
    referral_id = await worked(referrals)
    orientation = (await referrals.orient(referral_id)).json()

    if ending == "accept":
        assert (await referrals.answer("partner-95", orientation["id"], "accept")).status_code == 200
    else:
        await hurry(referrals, "UPDATE orientations SET expires_at = now()")
        async with referrals.runtime.database.transaction() as session:
            await waiting_for.expire(session, datetime.now(UTC))

    assert await told(referrals, PARTNER) == []


async def test_a_post_that_closed_a_referral_is_not_told_any_more_that_it_is_new(referrals: Referrals) -> None:
    await prefer(referrals, "iscg-95", POST, "digest")
    referral_id = await referrals.receive(urgency="standard", danger=False)

    assert (await referrals.move("iscg-95", referral_id, "close", {"reason": "out_of_scope"})).status_code == 200

    assert await told(referrals) == []
