"""An external reference belongs to the unit that gave it, whoever sends it; without a unit, to the client."""

import re
from typing import Any

from sqlalchemy import select, text
from sqlmodel import col

from libs.contracts import demonstration as d
from services.referrals.models import Referral
from services.referrals.receiving.references import of_reference
from tests.services.referrals.conftest import Referrals

NIL = "00000000-0000-0000-0000-000000000000"
REFERENCE = "95-2026-0001"


async def send(referrals: Referrals, who: str = "police-95", **changes: Any) -> tuple[int, dict[str, Any]]:
    answer = await referrals.post(who, "/v1/referrals", referrals.body(external_reference=REFERENCE) | changes)
    return answer.status_code, answer.json()


async def test_no_unit_and_a_unit_of_zeros_are_two_references(referrals: Referrals) -> None:
    without = referrals.body()
    without.pop("unit_id", None)

    answers = [
        await referrals.post("police-95", "/v1/referrals", without | {"external_reference": REFERENCE} | unit)
        for unit in ({}, {"unit_id": NIL}, {}, {"unit_id": NIL})
    ]

    assert [answer.status_code for answer in answers] == [201, 201, 409, 409]
    assert [answers[2].json()["referral_id"], answers[3].json()["referral_id"]] == [answers[0].json()["id"], answers[1].json()["id"]]


async def test_a_reference_is_unique_for_the_unit_and_only_the_same_client_learns_of_the_first_one(referrals: Referrals) -> None:
    _, first = await send(referrals, unit_id=str(d.UNIT_CERGY))

    same, told = await send(referrals, unit_id=str(d.UNIT_CERGY))
    [row] = await referrals.rows("UPDATE referrals SET client_id = 'another-system' RETURNING id")
    other, untold = await send(referrals, unit_id=str(d.UNIT_CERGY))

    assert (same, other) == (409, 409)
    assert told["type"] == untold["type"]
    assert told["referral_id"] == first["id"] == str(row.id)
    assert "referral_id" not in untold


async def test_without_a_unit_two_clients_may_use_one_reference(referrals: Referrals) -> None:
    await send(referrals, unit_id=None)
    await referrals.rows("UPDATE referrals SET client_id = 'another-system' RETURNING id")

    status, _ = await send(referrals, unit_id=None)

    assert status == 201


async def test_a_reference_stays_that_of_the_unit_that_gave_it_when_the_unit_is_corrected(referrals: Referrals) -> None:
    _, first = await send(referrals, unit_id=str(d.UNIT_CERGY))
    corrected = {"reason": "mistake", "unit_id": str(d.UNIT_SARCELLES)}
    assert (await referrals.move("coordinator-95", first["id"], "corrections", corrected)).status_code == 201

    again, answer = await send(referrals, unit_id=str(d.UNIT_CERGY))
    other, _ = await send(referrals, unit_id=str(d.UNIT_SARCELLES))
    found = await referrals.post(
        "police-95", "/v1/referral-status-searches", {"external_reference": REFERENCE, "unit_id": str(d.UNIT_CERGY)}
    )

    assert (again, answer["type"].rpartition("/")[2], answer["referral_id"]) == (409, "external-reference-taken", first["id"])
    assert other == 201  # the reference of another unit
    assert [one["id"] for one in found.json()["items"]] == [first["id"]]


async def test_a_unit_that_is_corrected_away_leaves_the_reference_to_the_unit_too(referrals: Referrals) -> None:
    _, first = await send(referrals, unit_id=str(d.UNIT_CERGY))
    assert (await referrals.move("coordinator-95", first["id"], "corrections", {"reason": "mistake", "unit_id": None})).status_code == 201

    assert [(await send(referrals, unit_id=unit))[0] for unit in (str(d.UNIT_CERGY), None)] == [409, 201]


async def test_one_reference_of_two_units_is_told_apart_by_the_unit_that_gave_it(referrals: Referrals) -> None:
    units = [str(d.UNIT_CERGY), str(d.UNIT_SARCELLES), None]
    sent = {unit: (await send(referrals, unit_id=unit))[1]["id"] for unit in units}
    corrected = {"reason": "mistake", "unit_id": str(d.UNIT_SARCELLES)}
    assert (await referrals.move("coordinator-95", sent[units[0]], "corrections", corrected)).status_code == 201

    searched = (await referrals.post("police-95", "/v1/referral-status-searches", {"external_reference": REFERENCE})).json()["items"]
    listed = (await referrals.get("police-95", "/v1/referral-statuses")).json()["items"]
    read = [(await referrals.get("police-95", f"/v1/referral-statuses/{id}")).json() for id in sent.values()]
    of_units = [(await referrals.get("police-95", "/v1/referral-statuses", unit=unit)).json()["items"] for unit in units if unit]
    strange = await referrals.get("police-78", "/v1/referral-statuses", unit=str(d.UNIT_CERGY))

    for items in (searched, listed, read):
        assert {one["unit_id"]: one["id"] for one in items} == sent
    assert [[one["id"] for one in items] for items in of_units] == [[sent[unit]] for unit in units[:2]]
    assert strange.json()["items"] == []


async def test_a_referral_is_found_by_the_polices_reference_within_the_perimeter(referrals: Referrals) -> None:
    sent = {unit: (await send(referrals, unit_id=unit))[1]["id"] for unit in (str(d.UNIT_CERGY), str(d.UNIT_SARCELLES))}
    await referrals.receive(external_reference="another")

    async def found(who: str, **more: str) -> set[str]:
        answer = await referrals.post(who, "/v1/referral-searches", {"external_reference": REFERENCE} | more)
        assert answer.status_code == 200, answer.text
        return {one["id"] for one in answer.json()["items"]}

    assert await found("coordinator-95") == set(sent.values())
    assert await found("coordinator-95", unit_id=str(d.UNIT_CERGY)) == {sent[str(d.UNIT_CERGY)]}
    assert await found("iscg-95") == {sent[str(d.UNIT_CERGY)]}, "of the post at Cergy"
    assert (await found("iscg-78"), await found("coordinator-78")) == (set(), set())
    for who in ("police-95", "partner-95"):
        assert (await referrals.post(who, "/v1/referral-searches", {"external_reference": REFERENCE})).status_code == 403


async def test_a_reference_is_looked_for_in_the_indexes_of_references(referrals: Referrals) -> None:
    """Of the unit as it was received: by that of today every referral of the département was read."""
    asked = select(col(Referral.id)).where(of_reference("95-2026-0117"))

    async with referrals.runtime.database.transaction() as session:
        written = asked.compile((await session.connection()).sync_connection, compile_kwargs={"literal_binds": True})
        await session.execute(text("SET LOCAL enable_seqscan = off"))
        plan = "\n".join(await session.scalars(text(f"EXPLAIN {written}".replace(":", "\\:"))))

    assert set(re.findall(r"referrals_reference\w+", plan)) == {"referrals_reference_unit", "referrals_reference_client"}, plan
