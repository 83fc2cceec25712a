"""The same person seen before: told to who works the referral, within the perimeter; never to the police, never by name."""

from typing import Any
from uuid import UUID

import pytest

from libs.contracts import demonstration as d
from services.referrals import queries
from tests.services.referrals.conftest import Referrals
from tests.services.referrals.test_corrections import correct
from tests.services.referrals.test_erasure import erase

CAMILLE = {"family_name": "Exemple", "given_name": "Camille", "birth_on": "1991-04-12"}


def with_identity(referrals: Referrals, **identity: str) -> list[dict[str, Any]]:
    persons: list[dict[str, Any]] = referrals.body()["persons"]
    persons[0]["identity"] |= identity
    return persons


async def returning(referrals: Referrals) -> list[list[bool | None]]:
    return [[person["returning"] for person in said["persons"]] for type, said in await referrals.said() if type == "referral.received"]


async def test_a_person_seen_before_is_told_to_the_social_worker_with_the_earlier_referral(referrals: Referrals) -> None:
    first = await referrals.receive()
    second = await referrals.receive(persons=with_identity(referrals, family_name="EXEMPLÉ", given_name="camille, Jeanne"))
    [known, _] = await referrals.persons(second)

    assert (await referrals.read_as("iscg-95", first))["already_known"] == []
    [told] = (await referrals.read_as("iscg-95", second))["already_known"]

    assert (told["person_id"], told["elsewhere"]) == (str(known), False)
    assert [one["referral_id"] for one in told["referrals"]] == [str(first)]


@pytest.mark.parametrize(
    ("earlier", "later"), [("Jean-Pierre", "Jean Pierre"), ("Jean Pierre", "Jean-Pierre"), ("Jeanpierre", "Jean, Pierre")]
)
async def test_a_double_first_name_written_otherwise_is_known_at_reception_when_read_and_after_a_correction(
    referrals: Referrals, earlier: str, later: str
) -> None:
    first = await referrals.receive(persons=with_identity(referrals, given_name=earlier))
    second = await referrals.receive(persons=with_identity(referrals, given_name=later))
    third = await referrals.receive(persons=with_identity(referrals, given_name="Andrée"))
    [renamed, _] = await referrals.persons(third)

    await referrals.move("iscg-95", third, "accept")
    await correct(referrals, third, persons=[{"person_id": renamed, "identity": CAMILLE | {"given_name": later}}])

    for later_one, before in ((second, {first}), (third, {first, second})):
        [told] = (await referrals.read_as("iscg-95", later_one))["already_known"]
        assert {UUID(one["referral_id"]) for one in told["referrals"]} == before
    assert [persons[0] for persons in await returning(referrals)] == [False, True, False]


async def test_outside_the_perimeter_only_that_there_is_one_is_told(referrals: Referrals) -> None:
    first = await referrals.receive()
    second = await referrals.receive("police-78", commune="78646", unit_id=d.UNIT_78)

    [told] = (await referrals.read_as("iscg-78", second))["already_known"]

    assert (told["referrals"], told["elsewhere"]) == ([], True)
    assert str(first) not in str(told)


async def test_figures_are_told_whether_a_person_returns_and_no_more(referrals: Referrals) -> None:
    await referrals.receive()
    await referrals.receive()
    await referrals.receive(persons=with_identity(referrals, birth_on="1991-04-13"))

    assert await returning(referrals) == [[False, None], [True, None], [False, None]]


async def test_an_erased_person_is_not_recognised(referrals: Referrals) -> None:
    first = await referrals.receive()
    await erase(referrals, first, await referrals.persons(first))

    second = await referrals.receive()

    assert (await referrals.read_as("iscg-95", second))["already_known"] == []


async def test_the_police_never_learns_that_a_person_is_known(referrals: Referrals) -> None:
    await referrals.receive()
    body = referrals.body()
    answer = await referrals.post("police-95", "/v1/referrals", body)

    status = await referrals.get("police-95", f"/v1/referral-statuses/{answer.json()['id']}")
    rows = await referrals.rows("SELECT data FROM outbox WHERE stream LIKE 'police:%'")

    for text in (answer.text, status.text, *(bytes(row.data).decode() for row in rows)):
        assert "known" not in text
        assert "returning" not in text
    assert (await referrals.post("police-95", "/v1/person-searches", CAMILLE)).status_code == 403


async def search(referrals: Referrals, who: str, body: dict[str, Any], purpose: str | None = "follow_up") -> Any:
    headers = referrals.token(who) | ({"X-Purpose": purpose} if purpose else {})
    return await referrals.client.post("/v1/person-searches", json=body, headers=headers)


async def test_a_person_is_searched_by_identity_within_the_perimeter_with_a_purpose_that_is_audited(referrals: Referrals) -> None:
    mine = await referrals.receive()

    found = await search(referrals, "iscg-95", CAMILLE | {"family_name": " exemple "})

    assert [UUID(one["referral_id"]) for one in found.json()["items"]] == [mine]
    assert (await search(referrals, "iscg-78", CAMILLE)).json()["items"] == []
    assert (await search(referrals, "iscg-95", CAMILLE, purpose=None)).status_code == 400
    entries = await referrals.rows("SELECT data FROM outbox WHERE stream = 'audit' ORDER BY position")
    assert len(entries) == 2
    assert b'"purpose":"follow_up"' in bytes(entries[0].data)
    assert b"xemple" not in b"".join(bytes(row.data) for row in entries)


@pytest.mark.parametrize("missing", ["family_name", "given_name"])
async def test_a_search_needs_both_names(referrals: Referrals, missing: str) -> None:
    answer = await search(referrals, "iscg-95", {name: value for name, value in CAMILLE.items() if name != missing})

    assert answer.status_code == 422


@pytest.mark.parametrize(
    ("received", "sought", "found"),
    [
        ("Jean-Pierre", "Jean-Pierre", True),
        ("Jean-Pierre", "Jean Pierre", True),
        ("Jean-Pierre", "jean\u2011pierre, Marie", True),
        ("Jean-Pierre", "Jeanpierre", True),
        ("Jean Pierre", "Jean-Pierre", True),
        ("Jean Pierre", "Jean", True),
        ("Jean, Pierre", "jean pierre", True),
        ("Jean-Pierre", "Pierre", False),
        ("Jean-Pierre", "Jean", False),
    ],
)
@pytest.mark.parametrize("birth_on", ["1991-04-12", None])
async def test_a_double_first_name_is_found_written_with_a_hyphen_or_a_space(
    referrals: Referrals, received: str, sought: str, found: bool, birth_on: str | None
) -> None:
    persons = referrals.body()["persons"]
    persons[0]["identity"] = CAMILLE | {"given_name": received, "birth_on": birth_on}
    referral_id = await referrals.receive(persons=persons)
    asked = CAMILLE | {"given_name": sought}

    answer = await search(referrals, "iscg-95", asked if birth_on else {name: asked[name] for name in ("family_name", "given_name")})

    assert [one["referral_id"] for one in answer.json()["items"]] == ([str(referral_id)] if found else [])


async def test_who_is_known_by_an_approximate_age_alone_is_found_by_name_within_the_perimeter(
    referrals: Referrals, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queries, "OPENED_AT_ONCE", 2)
    name = {"family_name": "Sans-Date", "given_name": "Camille"}
    persons = referrals.body()["persons"]
    persons[0] = {one: value for one, value in persons[0].items() if one != "identity"} | {"identity": name, "approximate_age": 40}
    old, *_, new = [await referrals.receive(persons=persons if place in (0, 4) else referrals.body()["persons"]) for place in range(5)]
    erased = await referrals.receive(persons=persons)
    await erase(referrals, erased, (await referrals.persons(erased))[:1])

    found = await search(referrals, "coordinator-95", {"family_name": "sans date", "given_name": "CAMILLE"}, "persons_rights")

    assert [one["referral_id"] for one in found.json()["items"]] == [str(new), str(old)]
    assert [one["role"] for one in found.json()["items"]] == ["victim", "victim"]
    assert (await search(referrals, "coordinator-78", name)).json()["items"] == []
    assert (await search(referrals, "iscg-95", name | {"birth_on": "1985-01-01"})).json()["items"] == []
    assert (await search(referrals, "iscg-95", CAMILLE | {"birth_on": None})).json()["items"] == []  # their birth date is known
    entries = await referrals.rows("SELECT data FROM outbox WHERE stream = 'audit' ORDER BY position")
    assert b'"by":"name"' in bytes(entries[0].data)
    assert b"amille" not in b"".join(bytes(row.data) for row in entries)
