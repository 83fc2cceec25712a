"""A case that was sent twice counts once: its duplicate names the original, to who works it and to nobody else."""

from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from libs.contracts import demonstration as d
from libs.contracts.partners import PostFilled, PostSuspended
from tests.services.referrals.conftest import MORNING, Referrals
from tests.services.referrals.test_police import told


async def close(referrals: Referrals, referral_id: UUID, who: str = "iscg-95", **body: Any) -> httpx.Response:
    return await referrals.move(who, referral_id, "close", {"reason": "duplicate"} | body)


async def timeline(referrals: Referrals, referral_id: UUID) -> list[tuple[str, str | None]]:
    items = (await referrals.get("iscg-95", f"/v1/referrals/{referral_id}/timeline", "follow_up")).json()["items"]
    return [(one["code"], one["duplicate_of"]) for one in items if one["step"] == "moved"]


@pytest.mark.parametrize("by", ["id", "reference"])
async def test_a_duplicate_names_its_original_which_names_it_too_until_it_is_reopened(referrals: Referrals, by: str) -> None:
    original, twice = await referrals.accepted(external_reference="PV-7"), await referrals.accepted()
    named: dict[str, Any] = {"duplicate_of": str(original)} if by == "id" else {"duplicate_reference": "PV-7"}

    assert (await close(referrals, twice, **named)).status_code == 200

    read = [await referrals.read_as("iscg-95", one) for one in (original, twice)]
    assert [(one["duplicate_of"], one["duplicates"]) for one in read] == [(None, [str(twice)]), (str(original), [])]
    assert (await referrals.move("iscg-95", twice, "reopen")).status_code == 200
    read = [await referrals.read_as("iscg-95", one) for one in (original, twice)]
    assert [(one["duplicate_of"], one["duplicates"]) for one in read] == [(None, []), (None, [])]
    assert await timeline(referrals, twice) == [("accept", None), ("close", str(original)), ("reopen", None)]


async def test_a_duplicate_may_be_closed_without_a_name_for_its_original_may_be_out_of_sight(referrals: Referrals) -> None:
    referral_id = await referrals.accepted()

    assert (await close(referrals, referral_id)).status_code == 200

    assert (await referrals.read_as("iscg-95", referral_id))["duplicate_of"] is None


async def test_no_event_tells_of_which_referral_another_is_a_duplicate(referrals: Referrals) -> None:
    original, twice = await referrals.accepted(), await referrals.accepted()
    await referrals.said()
    seen = len(await told(referrals))

    await close(referrals, twice, duplicate_of=str(original))

    [(_, said)] = await referrals.said()
    assert str(original) not in str(said)
    [(type, data)] = (await told(referrals))[seen:]
    assert (type, data["referral_id"]) == ("referral.closed", str(twice))
    assert str(original) not in str(data)
    assert str(original) not in (await referrals.get("police-95", f"/v1/referral-statuses/{twice}")).text


@pytest.mark.parametrize(
    ("body", "pointers"),
    [
        ({"duplicate_of": str(uuid4())}, ["/duplicate_of"]),
        ({"duplicate_of": "own"}, ["/duplicate_of"]),
        ({"duplicate_of": "elsewhere"}, ["/duplicate_of"]),
        ({"duplicate_reference": "PV-elsewhere"}, ["/duplicate_reference"]),
        ({"duplicate_reference": "PV-of-two-units"}, ["/duplicate_reference"]),
        ({"duplicate_of": "other", "duplicate_reference": "PV-other"}, ["/duplicate_of", "/duplicate_reference"]),
        ({"reason": "out_of_scope", "duplicate_of": "other"}, ["/duplicate_of"]),
    ],
)
async def test_an_original_is_another_referral_of_the_perimeter_and_of_a_duplicate_alone(
    referrals: Referrals, body: dict[str, Any], pointers: list[str]
) -> None:
    referral_id = await referrals.accepted()
    ids = {
        "own": referral_id,
        "other": await referrals.receive(external_reference="PV-other"),
        "elsewhere": await referrals.receive(unit_id=d.UNIT_SARCELLES, commune="95585", external_reference="PV-elsewhere"),
    }
    for unit in (d.UNIT_CERGY, None):
        await referrals.receive(unit_id=unit, external_reference="PV-of-two-units")

    answer = await close(referrals, referral_id, **{name: str(ids.get(value, value)) for name, value in body.items()})

    assert (answer.status_code, answer.json()["type"].rpartition("/")[2]) == (422, "unknown-original")
    assert [one["pointer"] for one in answer.json()["errors"]] == pointers
    assert (await referrals.read_as("iscg-95", referral_id))["status"] == "accepted"


async def test_the_coordinator_names_an_original_of_the_whole_departement(referrals: Referrals) -> None:
    original = await referrals.receive(unit_id=d.UNIT_SARCELLES, commune="95585")
    twice = await referrals.receive(unit_id=None, commune="95008")

    assert (await close(referrals, twice, "coordinator-95", duplicate_of=str(original))).status_code == 200

    assert (await referrals.read_as("coordinator-95", original))["duplicates"] == [str(twice)]


async def test_two_referrals_are_not_closed_as_duplicates_of_each_other(referrals: Referrals) -> None:
    first, second = await referrals.accepted(), await referrals.accepted()
    await close(referrals, second, duplicate_of=str(first))

    answer = await close(referrals, first, duplicate_of=str(second))

    assert (answer.status_code, answer.json()["type"].rpartition("/")[2]) == (409, "original-is-duplicate")
    assert answer.json()["duplicate_of"] == str(first)


async def test_an_original_that_others_name_is_closed_as_a_duplicate_of_another_that_it_names_only(referrals: Referrals) -> None:
    first, second, third = [await referrals.accepted() for _ in range(3)]
    await close(referrals, second, duplicate_of=str(first))

    answer = await close(referrals, first)

    assert (answer.status_code, answer.json()["type"].rpartition("/")[2]) == (409, "original-of-duplicates")
    assert [one["pointer"] for one in answer.json()["errors"]] == ["/duplicate_of"]
    assert (await close(referrals, first, duplicate_of=str(third))).status_code == 200
    assert (await referrals.read_as("iscg-95", third))["duplicates"] == [str(first)]


async def test_an_original_that_nobody_names_any_more_is_a_duplicate_like_another(referrals: Referrals) -> None:
    original, twice = await referrals.accepted(), await referrals.accepted()
    await close(referrals, twice, duplicate_of=str(original))
    assert (await referrals.move("iscg-95", twice, "reopen")).status_code == 200

    assert (await close(referrals, original)).status_code == 200


async def test_the_original_that_a_coordinator_named_is_told_to_who_sees_it(referrals: Referrals) -> None:
    original = await referrals.receive(unit_id=d.UNIT_SARCELLES, commune="95585")
    twice, third = await referrals.accepted(), await referrals.accepted()
    away = PostSuspended(departement="95", post_id=d.POST_CERGY, employer_id=d.EMPLOYER, suspended_at=MORNING)
    await referrals.hear("partners", away)
    assert (await close(referrals, twice, "coordinator-95", duplicate_of=str(original))).status_code == 200

    told = {}
    for who in ("iscg-95", "coordinator-95"):
        steps = (await referrals.get(who, f"/v1/referrals/{twice}/timeline", "follow_up")).json()["items"]
        told[who] = ((await referrals.read_as(who, twice))["duplicate_of"], steps[-1]["duplicate_of"])
    refused = [(await close(referrals, third, "coordinator-95", duplicate_of=str(twice))).json().get("duplicate_of")]
    await referrals.hear(
        "partners", PostFilled(**away.model_dump(exclude={"suspended_at", "until_on", "replacement_post_id"}), filled_at=MORNING)
    )
    refused += [(await close(referrals, third, duplicate_of=str(twice))).json().get("duplicate_of")]

    assert told == {"iscg-95": (None, None), "coordinator-95": (str(original), str(original))}
    assert refused == [str(original), None]
