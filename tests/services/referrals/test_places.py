"""A place that is corrected: the referral goes where it would go now, or whoever keeps it is told what speaks against it, and why it is there stays true."""

from typing import Any
from uuid import UUID

from libs.contracts import demonstration as d
from libs.contracts.partners import UnitClosed
from libs.contracts.vocabularies import Urgency
from tests.services.referrals.conftest import MORNING, Referrals
from tests.services.referrals.test_delays import HOUR, delay, signed
from tests.services.referrals.test_notices_true import told

RIGHT = {"reason": "mistake", "unit_id": d.UNIT_SARCELLES, "commune": "95585"}


async def correct(referrals: Referrals, referral_id: UUID, who: str = "coordinator-95", **body: Any) -> dict[str, Any]:
    answer = await referrals.move(who, referral_id, "corrections", RIGHT | body)
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


async def routing(referrals: Referrals, referral_id: UUID) -> dict[str, Any]:
    found: dict[str, Any] = (await referrals.get("coordinator-95", f"/v1/referrals/{referral_id}/routing")).json()
    return found


async def test_a_referral_that_nobody_has_accepted_goes_to_the_post_of_the_unit_that_is_right(referrals: Referrals) -> None:
    referral_id = await referrals.receive()
    await referrals.said()

    corrected = await correct(referrals, referral_id, "iscg-95")

    assert (corrected["warnings"], corrected["post_id"]) == ([], str(d.POST_SARCELLES))
    assert corrected["version"] == await referrals.version(referral_id)
    assert await referrals.said_types() == ["referral.corrected", "referral.assigned"]
    why = await routing(referrals, referral_id)
    assert (why["post_id"], why["reason"], why["corrected_at"]) == (str(d.POST_SARCELLES), "unit", None)
    assert [(one["post_id"], one["verdict"]) for one in why["considered"]] == [(str(d.POST_SARCELLES), "chosen")]
    assert (await referrals.get("iscg-95", f"/v1/referrals/{referral_id}", "follow_up")).status_code == 404


async def test_a_referral_whose_post_is_still_right_stays_there_and_says_so(referrals: Referrals) -> None:
    referral_id = await referrals.receive()

    corrected = await correct(referrals, referral_id, unit_id=d.UNIT_CERGY, commune="95585", channel="officer")

    why = await routing(referrals, referral_id)
    assert (corrected["warnings"], why["post_id"], why["reason"], why["corrected_at"]) == ([], str(d.POST_CERGY), "unit", None)


async def test_a_post_that_accepted_it_keeps_it_and_the_area_is_warned_of(referrals: Referrals) -> None:
    referral_id = await referrals.accepted()
    before = await routing(referrals, referral_id)

    corrected = await correct(referrals, referral_id)

    why = await routing(referrals, referral_id)
    assert (corrected["warnings"], corrected["post_id"]) == (["area"], str(d.POST_CERGY))
    assert why == before | {"corrected_at": corrected["corrected_at"]}  # it tells of then, and says so


async def test_what_was_given_by_hand_or_nobody_else_can_take_stays(referrals: Referrals) -> None:
    by_hand, nowhere = await referrals.receive(), await referrals.receive()
    assert (await referrals.move("coordinator-95", by_hand, "assign", {"post_id": d.POST_CERGY})).status_code == 200

    warned = [
        (await correct(referrals, by_hand))["warnings"],
        (await correct(referrals, nowhere, unit_id=None, commune="95008"))["warnings"],
    ]

    assert warned == [["area"], ["area"]]
    rows = await referrals.rows("SELECT post_id, status FROM referrals")
    assert {(row.post_id, row.status) for row in rows} == {(d.POST_CERGY, "assigned")}


async def test_the_delay_of_a_referral_that_goes_elsewhere_is_that_of_its_urgency_there(referrals: Referrals) -> None:
    await referrals.hear("funding", signed(1, d.POST_SARCELLES, urgency=Urgency.IMMEDIATE))
    referral_id = await referrals.receive(urgency="standard", danger=False)

    await correct(referrals, referral_id, urgency="immediate")

    assert await delay(referrals, referral_id) == HOUR


async def test_where_the_facts_were_in_another_departement_is_corrected_once_the_unit_has_closed_too(referrals: Referrals) -> None:
    referral_id = await referrals.receive(commune="78646")
    await referrals.hear("partners", UnitClosed(departement="95", unit_id=d.UNIT_CERGY, closed_at=MORNING))

    async def moved(**place: Any) -> int:
        return (await referrals.move("iscg-95", referral_id, "corrections", {"reason": "mistake"} | place)).status_code

    assert [await moved(**one) for one in ({"commune": "75056"}, {"unit_id": None}, {"commune": "78517"}, {"commune": "95127"})] == [
        422,
        422,
        201,
        201,
    ]


async def test_the_police_is_told_of_the_other_post_only_that_somebody_has_it(referrals: Referrals) -> None:
    referral_id = await referrals.receive()

    await correct(referrals, referral_id)

    [row] = await referrals.rows(f"SELECT version, due_at > received_at AS due FROM referrals WHERE id = '{referral_id}'")
    status = (await referrals.get("police-95", f"/v1/referral-statuses/{referral_id}")).json()["status"]
    assert (status, row.due, await told(referrals)) == ("assigned", True, [])
