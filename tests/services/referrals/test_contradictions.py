"""What is said of one person can be true as a whole, or is refused where it is said."""

from typing import Any
from uuid import UUID

import httpx
import pytest

from services.referrals.receiving import intake
from tests.planted import seen_red
from tests.services.referrals.conftest import Referrals

VICTIM: dict[str, Any] = {"role": "victim", "sex": "female", "agreement": "accepted"}
BOTH_WAYS = {"modes": ["phone", "text"], "voicemail_allowed": False, "text_allowed": False, "read_by_others": True}
OLD_FACTS = "2016-11-22T21:40:00+01:00"


def born(day: str) -> dict[str, Any]:
    return {"identity": {"family_name": "Exemple", "given_name": "Camille", "birth_on": day}}


async def post(referrals: Referrals, *persons: dict[str, Any], **changes: Any) -> httpx.Response:
    return await referrals.post("police-95", "/v1/referrals", referrals.body(persons=list(persons), **changes))


def told(answer: httpx.Response) -> tuple[str, list[str]]:
    return answer.json()["type"].rpartition("/")[2], [one["pointer"] for one in answer.json()["errors"]]


async def test_an_age_that_is_not_that_of_the_birth_date_is_refused_where_it_is_said(referrals: Referrals) -> None:
    answer = await post(referrals, VICTIM, VICTIM | born("2020-01-01") | {"approximate_age": 40})

    assert answer.status_code == 422, "two ages were received of one person"
    assert told(answer) == ("contradiction", ["/persons/1/approximate_age"])
    assert await referrals.rows("SELECT 1 FROM referrals") == []


async def test_planted_an_intake_that_believes_both_ages_is_seen(referrals: Referrals, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake, "check_consistent", lambda *_: None)

    proof = test_an_age_that_is_not_that_of_the_birth_date_is_refused_where_it_is_said(referrals)
    await seen_red(proof, "two ages were received of one person")


@pytest.mark.parametrize(
    ("born_on", "age", "occurred_at", "status"),
    [
        ("1991-04-12", 35, "2026-11-22T21:40:00+01:00", 201),
        ("1991-12-31", 35, "2026-11-22T21:40:00+01:00", 201),  # of the year alone: 34 until the end of it
        ("1991-04-12", 33, "2026-11-22T21:40:00+01:00", 422),
        ("1991-04-12", 25, OLD_FACTS, 201),  # on the day of the facts
        ("1991-04-12", 35, OLD_FACTS, 201),  # today
        ("1991-04-12", 23, OLD_FACTS, 422),
    ],
)
async def test_an_age_that_software_computed_of_the_birth_date_is_taken(
    referrals: Referrals, born_on: str, age: int, occurred_at: str, status: int
) -> None:
    answer = await post(referrals, VICTIM | born(born_on) | {"approximate_age": age}, occurred_at=occurred_at)

    assert answer.status_code == status, answer.text


async def test_a_text_that_is_allowed_and_forbidden_is_refused_where_it_is_said(referrals: Referrals) -> None:
    answer = await post(referrals, VICTIM | {"safe_contact": BOTH_WAYS})

    assert answer.status_code == 422
    assert told(answer) == ("contradiction", ["/persons/0/safe_contact/text_allowed"])


CORRECTED: dict[str, tuple[dict[str, Any], str]] = {
    "an age of another": ({"approximate_age": 8}, "approximate_age"),
    "a birth date of another": (born("2019-01-01"), "identity/birth_on"),
    "both": (born("2019-01-01") | {"approximate_age": 40}, "approximate_age"),
    "a text that is forbidden": ({"safe_contact": BOTH_WAYS}, "safe_contact/text_allowed"),
}


@pytest.mark.parametrize(("changed", "place"), CORRECTED.values(), ids=CORRECTED)
async def test_no_correction_brings_a_contradiction(referrals: Referrals, changed: dict[str, Any], place: str) -> None:
    known = born("1991-04-12") if "approximate_age" in changed else {"approximate_age": 35}
    referral_id = await referrals.accepted(persons=[VICTIM | known])
    [person] = await referrals.persons(referral_id)

    corrected = await correct(referrals, referral_id, persons=[changed | {"person_id": person}])
    joined = await correct(referrals, referral_id, added=[VICTIM | known | changed])

    assert told(corrected) == ("contradiction", [f"/persons/0/{place}"])
    assert told(joined) == ("contradiction", [f"/added/0/{place.replace('identity/birth_on', 'approximate_age')}"])
    assert len(await referrals.persons(referral_id)) == 1


async def test_a_birth_date_that_is_learnt_takes_the_place_of_an_age_that_was_wrong(referrals: Referrals) -> None:
    referral_id = await referrals.accepted(persons=[VICTIM | {"approximate_age": 40}])
    [person] = await referrals.persons(referral_id)

    answer = await correct(referrals, referral_id, persons=[born("1991-04-12") | {"person_id": person, "approximate_age": None}])

    assert answer.status_code == 201, answer.text


async def correct(referrals: Referrals, referral_id: UUID, **said: Any) -> httpx.Response:
    return await referrals.move("iscg-95", referral_id, "corrections", {"reason": "learned"} | said)


async def test_a_referral_of_a_commune_that_nobody_knows_is_not_lost_and_its_routing_says_why_it_is_where_it_is(
    referrals: Referrals,
) -> None:
    by_unit = await referrals.receive(commune="95999")
    by_commune = await referrals.receive(commune="95999", unit_id=None)

    reasons = [(await referrals.get("coordinator-95", f"/v1/referrals/{one}/routing")).json()["reason"] for one in (by_unit, by_commune)]

    assert reasons == ["unit", "no_coverage"]


async def test_a_referral_of_a_unit_that_nobody_knows_is_routed_by_its_commune(referrals: Referrals) -> None:
    referral_id = await referrals.receive(unit_id=str(UUID(int=7)), commune="95127")

    routing = (await referrals.get("coordinator-95", f"/v1/referrals/{referral_id}/routing")).json()

    assert routing["reason"] == "commune"
