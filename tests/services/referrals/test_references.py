"""An external reference belongs to the unit that gave it, whoever sends it; without a unit, to the client."""

from typing import Any

import pytest

from libs.contracts import demonstration as d
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


@pytest.mark.parametrize("unit", [str(d.UNIT_CERGY), None])
async def test_a_correction_into_a_unit_that_has_this_reference_is_refused_by_name(referrals: Referrals, unit: str | None) -> None:
    await send(referrals, unit_id=unit)
    _, second = await send(referrals, unit_id=str(d.UNIT_SARCELLES))

    answer = await referrals.move("coordinator-95", second["id"], "corrections", {"reason": "mistake", "unit_id": unit, "danger": False})

    assert answer.status_code == 409, answer.text
    assert answer.json()["type"].endswith("external-reference-taken")
    assert [error["pointer"] for error in answer.json()["errors"]] == ["/unit_id"]
    assert await referrals.rows("SELECT 1 FROM corrections") == []
