"""Correcting what was received: who changed what, when and why; what was personal before stays sealed and goes with the person."""

from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from libs.contracts import demonstration as d
from libs.contracts.referrals import number_of
from tests.services.referrals.conftest import CONTENT, Referrals
from tests.services.referrals.test_erasure import erase
from tests.services.referrals.test_orientations import execute


async def correct(referrals: Referrals, referral_id: UUID, who: str = "iscg-95", **body: Any) -> httpx.Response:
    return await referrals.move(who, referral_id, "corrections", {"reason": "learned"} | body)


async def log(referrals: Referrals, referral_id: UUID) -> list[dict[str, Any]]:
    answer = await referrals.get("iscg-95", f"/v1/referrals/{referral_id}/corrections", CONTENT)
    assert answer.status_code == 200, answer.text
    items: list[dict[str, Any]] = answer.json()["items"]
    return items


async def test_a_correction_changes_what_is_given_and_says_the_whole_corrected_state(referrals: Referrals) -> None:
    referral_id = await referrals.accepted()
    [victim, other] = await referrals.persons(referral_id)
    await referrals.said()

    answer = await correct(
        referrals, referral_id, urgency="immediate", persons=[{"person_id": other, "role": "witness", "agreement": "accepted"}]
    )

    assert answer.status_code == 201, answer.text
    assert answer.json()["fields"] == ["/urgency", f"/persons/{other}/role", f"/persons/{other}/agreement"]
    [(type, data)] = await referrals.said()
    assert (type, data["urgency"], data["channel"]) == ("referral.corrected", "immediate", "intervention")
    assert [(one["person_id"], one["role"], one["agreement"]) for one in data["persons"]] == [
        (str(victim), "victim", "accepted"),
        (str(other), "witness", "accepted"),
    ]
    read = await referrals.read_as("iscg-95", referral_id)
    assert (read["urgency"], read["people"][1]["role"], read["narrative"]) == ("immediate", "witness", referrals.body()["narrative"])
    [entry] = await log(referrals, referral_id)
    assert entry["actor"]
    assert entry["reason"] == "learned"
    assert {"field": "/urgency", "before": "priority", "after": "immediate"} in entry["changes"]


async def test_who_was_erased_is_counted_in_a_later_correction_and_never_named_again(referrals: Referrals) -> None:
    referral_id = await referrals.accepted()
    [victim, other] = await referrals.persons(referral_id)
    await erase(referrals, referral_id, [victim])
    await referrals.said()

    await correct(referrals, referral_id, urgency="immediate")

    [(type, data)] = await referrals.said()
    assert type == "referral.corrected"
    assert str(victim) not in str(data)
    assert [(one["person_id"], one["role"]) for one in data["persons"]] == [
        (str(number_of(1)), "victim"),
        (str(other), "alleged_perpetrator"),
    ]


async def test_what_was_personal_before_is_sealed_and_read_with_a_purpose_only(referrals: Referrals) -> None:
    referral_id = await referrals.accepted()
    [victim, _] = await referrals.persons(referral_id)
    before = (await referrals.read_as("iscg-95", referral_id))["people"][0]
    identity = {"family_name": "Rectifiée", "given_name": "Camille", "birth_on": "2010-04-12"}

    answer = await correct(
        referrals, referral_id, reason="rectification", narrative="Récit rectifié.", persons=[{"person_id": victim, "identity": identity}]
    )

    assert answer.json()["fields"] == ["/narrative", f"/persons/{victim}/identity"]
    read = await referrals.read_as("iscg-95", referral_id)
    assert (read["narrative"], read["people"][0]["identity"]) == ("Récit rectifié.", identity)
    assert read["people"][0]["age_band"] == "15-17"
    assert read["people"][0]["contact"] == before["contact"]
    [entry] = await log(referrals, referral_id)
    assert entry["narrative_before"] == referrals.body()["narrative"]
    [kept] = entry["persons_before"]
    assert kept["content"]["identity"] == before["identity"]
    stored = str(await referrals.rows("SELECT changes::text, convert_from(data, 'UTF8') FROM corrections, outbox"))
    stored += str(await referrals.rows("SELECT encode(before, 'escape') FROM corrected_contents"))
    for word in ("Exemple", "Rectifi", "Camille", "voisins"):
        assert word not in stored
    without = await referrals.get("iscg-95", f"/v1/referrals/{referral_id}/corrections")
    assert without.status_code == 400


async def test_a_person_is_found_by_the_corrected_identity(referrals: Referrals) -> None:
    first, second = await referrals.accepted(), await referrals.accepted()
    identity = {"family_name": "Autre", "given_name": "Dominique", "birth_on": "1980-01-31"}
    for referral_id in (first, second):
        [victim, _] = await referrals.persons(referral_id)
        await correct(referrals, referral_id, persons=[{"person_id": victim, "identity": identity}])

    hashes = await referrals.rows("SELECT count(*) AS n FROM persons WHERE identity_hash IS NOT NULL GROUP BY identity_hash")

    assert [row.n for row in hashes] == [2]


async def test_a_correction_that_changes_nothing_leaves_no_trace(referrals: Referrals) -> None:
    referral_id = await referrals.accepted()
    await referrals.said()
    version = await referrals.version(referral_id)

    answer = await correct(referrals, referral_id, urgency="priority", narrative=referrals.body()["narrative"])

    assert (answer.status_code, answer.json()["fields"]) == (201, [])
    assert await referrals.said() == []
    assert await referrals.version(referral_id) == version
    assert await log(referrals, referral_id) == []


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"commune": "78646", "unit_id": None}, "/commune"),
        ({"unit_id": str(d.UNIT_78)}, "/unit_id"),
        ({"occurred_at": "2099-01-01T00:00:00Z"}, "/occurred_at"),
        ({"principal_theme": "housing"}, "/principal_theme"),
        ({"persons": [{"person_id": str(d.VICTIM_78), "sex": "male"}]}, "/persons/0/person_id"),
        ({"urgency": None}, ""),
        ({}, ""),
    ],
)
async def test_a_correction_that_cannot_be_is_refused_with_its_place(referrals: Referrals, body: dict[str, Any], pointer: str) -> None:
    referral_id = await referrals.accepted()
    before = await referrals.snapshot("referrals", "persons", "corrections", "outbox")

    answer = await correct(referrals, referral_id, **body)

    assert answer.status_code == 422
    assert [one["pointer"] for one in answer.json()["errors"]] == [pointer]
    assert await referrals.snapshot("referrals", "persons", "corrections", "outbox") == before


@pytest.mark.parametrize(
    ("received", "body", "pointers"),
    [
        ({}, {"commune": "78646"}, []),
        ({}, {"unit_id": str(uuid4())}, []),
        ({}, {"unit_id": None}, []),
        ({}, {"unit_id": str(d.UNIT_SARCELLES), "commune": "78646"}, []),
        ({"commune": "78646"}, {"commune": "95127"}, []),
        ({"commune": "78646"}, {"unit_id": str(d.UNIT_78)}, ["/unit_id"]),
        ({"commune": "78646"}, {"unit_id": None}, ["/unit_id"]),
    ],
)
async def test_a_correction_may_name_facts_of_elsewhere_but_the_referral_stays_in_its_departement(
    referrals: Referrals, received: dict[str, Any], body: dict[str, Any], pointers: list[str]
) -> None:
    referral_id = await referrals.accepted(**received)

    answer = await correct(referrals, referral_id, **body)

    assert (answer.status_code, [one["pointer"] for one in answer.json().get("errors", [])]) == (422 if pointers else 201, pointers)
    assert (await referrals.read_as("coordinator-95", referral_id))["departement"] == "95"


async def test_a_correction_is_the_post_s_and_the_coordinator_s_and_from_the_version_they_read(referrals: Referrals) -> None:
    referral_id = await referrals.accepted()

    assert (await correct(referrals, referral_id, "coordinator-95", danger=False)).status_code == 201
    assert (await correct(referrals, referral_id, "coordinator-78", danger=True)).status_code == 404
    assert (await correct(referrals, referral_id, "police-95", danger=True)).status_code == 403
    stale = await referrals.post("iscg-95", f"/v1/referrals/{referral_id}/corrections", {"reason": "mistake", "danger": True}, version=1)
    assert stale.status_code == 412


async def test_an_agreement_that_is_given_later_opens_the_way(referrals: Referrals) -> None:
    persons = referrals.body()["persons"]
    persons[0]["agreement"] = "refused"
    referral_id = await referrals.accepted(persons=persons)
    [victim, _] = await referrals.persons(referral_id)
    call = {"person_id": victim, "mode": "phone", "result": "reached", "attempted_at": "2026-11-23T08:00:00Z"}

    refused = await referrals.post("iscg-95", f"/v1/referrals/{referral_id}/contacts", call)
    await correct(referrals, referral_id, persons=[{"person_id": victim, "agreement": "accepted"}])
    called = await referrals.post("iscg-95", f"/v1/referrals/{referral_id}/contacts", call)

    assert (refused.status_code, called.status_code) == (409, 201)


CHILD: dict[str, Any] = {
    "role": "other",
    "sex": "female",
    "identity": {"family_name": "Exemple", "given_name": "Lou", "birth_on": "2015-02-03"},
    "safe_contact": {"modes": ["phone"], "voicemail_allowed": False, "text_allowed": False, "read_by_others": True},
    "agreement": "not_asked",
}


async def test_a_person_who_was_forgotten_joins_the_referral_sealed_counted_and_noted(referrals: Referrals) -> None:
    referral_id = await referrals.accepted()
    [victim, other] = await referrals.persons(referral_id)
    await referrals.said()

    answer = await correct(referrals, referral_id, added=[CHILD])

    assert answer.status_code == 201, answer.text
    [*_, child] = await referrals.persons(referral_id)
    assert answer.json()["fields"] == [f"/persons/{child}"]
    [(type, data)] = await referrals.said()
    assert type == "referral.corrected"
    assert [one["person_id"] for one in data["persons"]] == [str(victim), str(other), str(child)]
    assert {name: data["persons"][2][name] for name in ("age_band", "agreement", "returning")} == {
        "age_band": "11-14",
        "agreement": "not_asked",
        "returning": False,
    }
    read = (await referrals.read_as("iscg-95", referral_id))["people"][2]
    assert (read["identity"]["given_name"], read["safe_contact"]["read_by_others"]) == ("Lou", True)
    [entry] = await log(referrals, referral_id)
    assert entry["changes"] == [{"field": f"/persons/{child}", "before": None, "after": "other"}]
    [row] = await referrals.rows(f"SELECT content, key_id FROM persons WHERE id = '{child}'")
    assert b"Lou" not in row.content


async def test_the_timeline_tells_who_joined_and_that_danger_was_flagged_or_lifted(referrals: Referrals) -> None:
    referral_id = await referrals.accepted(danger=False)
    await correct(referrals, referral_id, added=[CHILD])
    await correct(referrals, referral_id, danger=True, added=[CHILD])
    await correct(referrals, referral_id, danger=False)
    await correct(referrals, referral_id, narrative="Autre récit fictif.", added=[CHILD])
    [_, _, first, second, third] = map(str, await referrals.persons(referral_id))

    items = (await referrals.get("iscg-95", f"/v1/referrals/{referral_id}/timeline", CONTENT)).json()["items"]

    told = [(one["step"], one["code"], one["person_ids"]) for one in items if one["step"] in {"person_joined", "correction"}]
    assert told == [
        ("person_joined", None, [first]),
        ("person_joined", None, [second]),
        ("correction", "danger", []),
        ("correction", "no_danger", []),
        ("person_joined", None, [third]),
        ("correction", None, []),
    ]


async def test_who_joins_and_was_seen_before_counts_as_returning(referrals: Referrals) -> None:
    await referrals.receive(persons=[CHILD])
    referral_id = await referrals.accepted()
    await referrals.said()

    await correct(referrals, referral_id, added=[CHILD])

    [(_, data)] = await referrals.said()
    assert data["persons"][-1]["returning"] is True
    known = (await referrals.read_as("iscg-95", referral_id))["already_known"]
    assert [one["person_id"] for one in known] == [data["persons"][-1]["person_id"]]


async def test_that_nobody_can_tell_any_more_whether_a_person_was_seen_before_is_said(referrals: Referrals) -> None:
    await referrals.receive(persons=[CHILD])
    referral_id = await referrals.accepted(persons=[CHILD])
    [person] = await referrals.persons(referral_id)
    await referrals.said()

    told = []
    for given in ({"identity": None}, {"sex": "male"}, {"identity": CHILD["identity"]}):
        await correct(referrals, referral_id, persons=[{"person_id": person, **given}])
        [(_, data)] = await referrals.said()
        told += [(one["identified"], one["returning"]) for one in data["persons"]]

    assert told == [(False, None), (None, None), (True, True)]
    assert len((await referrals.read_as("iscg-95", referral_id))["already_known"]) == 1


async def test_who_is_identified_after_the_reception_counts_as_returning_by_the_earlier_referrals_alone(referrals: Referrals) -> None:
    nameless = {name: value for name, value in CHILD.items() if name != "identity"}
    referral_id = await referrals.accepted(persons=[nameless, nameless])
    first, second = await referrals.persons(referral_id)
    later = await referrals.receive(persons=[CHILD])
    other = CHILD["identity"] | {"family_name": "Autre"}

    async def told(**given: Any) -> list[bool | None]:
        await referrals.said()
        await correct(referrals, referral_id, **given)
        [(_, data)] = await referrals.said()
        return [one["returning"] for one in data["persons"]]

    seen_later = await told(persons=[{"person_id": first, "identity": CHILD["identity"]}])
    joined_twice = await told(added=[CHILD])
    earlier = await referrals.receive(persons=[CHILD])
    await execute(referrals, f"UPDATE referrals SET received_at = received_at - interval '1 day' WHERE id = '{earlier}'")
    identified = await told(persons=[{"person_id": second, "identity": CHILD["identity"]}])
    otherwise = await told(persons=[{"person_id": second, "identity": other}])
    untouched = await told(persons=[{"person_id": second, "sex": "male"}])

    assert later != earlier
    assert seen_later == [False, None], "whom a later referral holds was not seen before this one"
    assert joined_twice == [None, None, False], "nor who is in it already"
    assert identified == [None, True, None]
    assert otherwise == [None, False, None]
    assert untouched == [None, None, None], "figures keep what they were told"


async def test_who_joined_is_contacted_oriented_and_erased_like_the_others(referrals: Referrals) -> None:
    referral_id = await referrals.accepted()
    await correct(referrals, referral_id, added=[CHILD | {"agreement": "accepted"}])
    [*_, child] = await referrals.persons(referral_id)

    asked = {"person_id": child, "service_id": d.VICTIM_SUPPORT_SERVICE, "need": "victim_support"}
    oriented = await referrals.post("iscg-95", f"/v1/referrals/{referral_id}/orientations", asked)
    await erase(referrals, referral_id, [child])

    assert oriented.status_code == 201, oriented.text
    assert [one["erased"] for one in (await referrals.read_as("iscg-95", referral_id))["people"]] == [False, False, True]


@pytest.mark.parametrize(
    ("added", "pointer"),
    [
        ([], "/added"),
        ([CHILD] * 49, "/added"),
        ([CHILD | {"role": "hero"}], "/added/0/role"),
        ([CHILD, CHILD | {"identity": CHILD["identity"] | {"birth_on": "2999-01-01"}}], "/added/1/identity/birth_on"),
    ],
)
async def test_who_cannot_join_is_refused_with_its_place_and_changes_nothing(referrals: Referrals, added: Any, pointer: str) -> None:
    referral_id = await referrals.accepted()
    before = await referrals.snapshot("referrals", "persons", "vault_keys", "corrections", "outbox")

    answer = await correct(referrals, referral_id, added=added)

    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, pointer), answer.text
    assert "Lou" not in answer.text
    assert await referrals.snapshot("referrals", "persons", "vault_keys", "corrections", "outbox") == before
