"""The same person seen before: told to who works the referral, within the perimeter; never to the police, never by name."""

import re
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import LargeBinary, select, text
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from libs.contracts import demonstration as d
from services.referrals.models import Person
from services.referrals.persons import hashes_of
from services.referrals.receiving import repeats
from services.referrals.schemas import Identity
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

    for told in (answer.text, status.text, *(bytes(row.data).decode() for row in rows)):
        assert "known" not in told
        assert "returning" not in told
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


NAME = {name: CAMILLE[name] for name in ("family_name", "given_name")}


def undated(referrals: Referrals, **identity: str) -> list[dict[str, Any]]:
    persons: list[dict[str, Any]] = referrals.body()["persons"]
    persons[0] = persons[0] | {"identity": NAME | identity, "approximate_age": 40}
    return persons


async def found(referrals: Referrals, who: str, body: dict[str, Any]) -> list[UUID]:
    return [UUID(one["referral_id"]) for one in (await search(referrals, who, body, "persons_rights")).json()["items"]]


async def test_by_name_alone_everybody_of_that_name_is_found_within_the_perimeter_newest_first(referrals: Referrals) -> None:
    dated = await referrals.receive()
    old, other, new = [
        await referrals.receive(persons=undated(referrals, **identity))
        for identity in ({}, {"family_name": "Autre"}, {"given_name": "CAMILLE"})
    ]
    elsewhere = await referrals.receive("police-78", commune="78646", unit_id=d.UNIT_78)
    erased = await referrals.receive(persons=undated(referrals))
    await erase(referrals, erased, (await referrals.persons(erased))[:1])

    sought = {"family_name": "exemplé", "given_name": "camille"}

    assert set(await found(referrals, "coordinator-95", sought)) == {dated, old, new}
    assert await found(referrals, "coordinator-78", sought) == [elsewhere]
    assert await found(referrals, "iscg-95", sought | {"given_name": "Dominique"}) == []
    assert await found(referrals, "iscg-95", {"family_name": "Autre", "given_name": "Camille"}) == [other]
    entries = await referrals.rows("SELECT data FROM outbox WHERE stream = 'audit' ORDER BY position")
    assert b'"by":"name"' in bytes(entries[0].data)
    assert b"amille" not in b"".join(bytes(row.data) for row in entries)


async def test_with_a_birth_date_who_was_born_another_day_or_on_no_known_one_is_not_taken_for_them(referrals: Referrals) -> None:
    born = await referrals.receive()
    await referrals.receive(persons=with_identity(referrals, birth_on="1960-01-31"))
    await referrals.receive(persons=undated(referrals))

    assert await found(referrals, "iscg-95", CAMILLE) == [born]
    assert len(await found(referrals, "iscg-95", NAME)) == 3


async def test_two_of_one_name_are_told_apart_by_sex_and_age_band(referrals: Referrals) -> None:
    persons = with_identity(referrals, birth_on="1950-01-31")
    persons[0]["sex"] = "male"
    await referrals.receive()
    await referrals.receive(persons=persons)

    items = (await search(referrals, "iscg-95", NAME)).json()["items"]

    assert [(one["sex"], one["age_band"]) for one in items] == [("male", "75+"), ("female", "25-39")]


async def test_a_corrected_name_is_found_and_the_one_before_no_more(referrals: Referrals) -> None:
    referral_id = await referrals.accepted()
    [person, _] = await referrals.persons(referral_id)
    named = {"family_name": "Autre", "given_name": "Dominique"}
    joins: dict[str, Any] = {
        "role": "witness",
        "sex": "unknown",
        "agreement": "not_asked",
        "identity": {"family_name": "Tiers", "given_name": "Alix"},
    }

    await correct(referrals, referral_id, persons=[{"person_id": person, "identity": named}], added=[joins])

    assert await found(referrals, "iscg-95", named) == [referral_id]
    assert await found(referrals, "iscg-95", joins["identity"]) == [referral_id]
    assert await found(referrals, "iscg-95", NAME) == []


async def test_whoever_was_received_before_there_was_a_hash_of_the_name_is_found_with_the_birth_date(referrals: Referrals) -> None:
    referral_id = await referrals.receive()
    async with referrals.runtime.database.transaction() as session:
        await session.execute(text("UPDATE persons SET name_hash = NULL"))

    assert await found(referrals, "iscg-95", CAMILLE) == [referral_id]
    assert await found(referrals, "iscg-95", NAME) == []


@pytest.mark.parametrize(("sought", "indexes"), [(NAME, {"persons_name"}), (CAMILLE, {"persons_identity"})])
async def test_a_search_is_a_look_up_in_an_index_and_opens_nothing(
    referrals: Referrals, monkeypatch: pytest.MonkeyPatch, sought: dict[str, str], indexes: set[str]
) -> None:
    await referrals.receive()
    explained: list[str] = []

    async def explain(session: AsyncSession, who: Any, perimeter: Any) -> list[Any]:
        written = (
            select(col(Person.id)).where(who).compile((await session.connection()).sync_connection, compile_kwargs={"literal_binds": True})
        )
        await session.execute(text("SET LOCAL enable_seqscan = off"))
        explained.append("\n".join(await session.scalars(text(f"EXPLAIN {written}".replace(":", "\\:")))))
        return await asked(session, who, perimeter)

    async def opened(*_: Any) -> Any:
        raise AssertionError("a search opened what is sealed")

    asked = repeats.search
    monkeypatch.setattr(LargeBinary, "literal_processor", lambda *_: lambda value: f"'\\x{value.hex()}'")
    monkeypatch.setattr(repeats, "search", explain)
    monkeypatch.setattr(type(referrals.runtime.vault), "open_keys", opened)

    assert len(await found(referrals, "iscg-95", sought)) == 1

    assert set(re.findall(r"persons_\w+", explained[0])) == indexes, explained


async def test_the_same_name_is_another_hash_under_another_key() -> None:
    one, other = (hashes_of(bytes([n]) * 32, Identity.model_validate(CAMILLE, strict=False)) for n in (1, 2))

    assert None not in (one.name, one.identity)
    assert len({one.name, one.identity, other.name, other.identity}) == 4
    assert all(name not in (hash or b"") for hash in (one.name, one.identity) for name in (b"amille", b"xemple"))
