"""Victim and alleged perpetrator of one situation: separate content, keys and access. Every path across is tried."""

import io
import json
import re
import sys
from itertools import product
from typing import Any
from uuid import UUID

import httpx
import pytest
from pypdf import PdfReader
from sqlalchemy import text

from libs.chassis.access import Rule
from libs.chassis.security import Principal
from libs.contracts import demonstration as d
from libs.contracts.audiences import streams_of
from libs.contracts.vocabularies import Role
from services.referrals.access import ACCESS
from services.referrals.models import Referral
from services.referrals.working import work
from tests.documents import shown
from tests.planted import seen_red
from tests.services.referrals.conftest import Referrals
from tests.services.referrals.test_orientations import ask

HERS = {"marker": "Margaux-Victime", "phone": "+33639980011", "address": "11 rue de la Victime"}
HIS = {"marker": "Marcel-Auteur", "phone": "+33639980022", "address": "22 rue de l'Auteur"}
NARRATIVE = "Récit-que-nul-partenaire-ne-lit"
OFFENCE = re.compile(r"(?<![0-9a-f-])7875(?![0-9a-f-])")
"""The NATINF number of `situation`; within an id or an instant the same digits come by chance."""


def person(role: str, sex: str, who: dict[str, str]) -> dict[str, Any]:
    return {
        "role": role,
        "sex": sex,
        "identity": {"family_name": who["marker"], "given_name": "Essai", "birth_on": "1990-01-01"},
        "contact": {"phones": [who["phone"]], "address": who["address"]},
        "safe_contact": {
            "modes": ["phone"],
            "voicemail_allowed": False,
            "text_allowed": False,
            "read_by_others": True,
            "code_word": f"mot-{who['marker']}",
            "note": f"note-{who['marker']}",
        },
        "agreement": "accepted",
    }


async def situation(referrals: Referrals) -> tuple[UUID, dict[str, Any], dict[str, Any]]:
    """She is oriented to the association of the Val-d'Oise, he to that of the Yvelines."""
    referral_id = await referrals.accepted(
        persons=[person("victim", "female", HERS), person("alleged_perpetrator", "male", HIS)],
        narrative=NARRATIVE,
        natinf=[7875],
        penal=True,
    )
    hers = await ask(referrals, referral_id, d.VICTIM_SUPPORT_SERVICE)
    his = await ask(referrals, referral_id, d.SERVICE_78, place=1)
    assert (hers.status_code, his.status_code) == (201, 201)
    return referral_id, hers.json(), his.json()


async def sought(referrals: Referrals, who: dict[str, str]) -> list[dict[str, str]]:
    """The ways of looking for somebody: with the day of birth, by the name alone, by the police's reference."""
    named = {"family_name": who["marker"], "given_name": "Essai"}
    [row] = await referrals.rows("SELECT external_reference FROM referrals")
    return [named | {"birth_on": "1990-01-01"}, named, {"external_reference": row.external_reference}]


def words_of(answer: httpx.Response) -> str:
    """What somebody reads in it, be it a document."""
    if answer.headers.get("content-type") != "application/pdf":
        return answer.text
    return "".join(page.extract_text() for page in PdfReader(io.BytesIO(answer.content)).pages)


async def everything_read_by(referrals: Referrals, who: str, ids: dict[str, list[str]], other: dict[str, str]) -> str:
    """What all GET routes of the document answer, with every id that could fit in their paths, and the searches by POST for the other's true name and reference."""
    heard = []
    reached = searches = 0
    document = referrals.openapi()
    purposes = {
        one.operation: one.example["x-headers"]["X-Purpose"] for one in shown(document) if "X-Purpose" in one.example.get("x-headers", {})
    }
    for path, operations in document["paths"].items():
        if "get" in operations:
            operation = operations["get"]
            names = [one["name"] for one in operation.get("parameters", []) if one["in"] == "path"]
            purpose = purposes.get(operation["operationId"], "orientation") if _wants_purpose(operation) else None
            for values in product(*(ids.get(name, ids["any"]) for name in names)):
                answer = await referrals.get(who, path.format(**dict(zip(names, values, strict=True))), purpose)
                reached += answer.status_code == 200
                heard.append(words_of(answer))
        if path.endswith("-searches"):
            searches += 1
            headers = referrals.token(who) | {"X-Purpose": purposes.get(operations["post"]["operationId"], "orientation")}
            answers = [await referrals.client.post(path, json=body, headers=headers) for body in await sought(referrals, other)]
            heard += [answer.text for answer in answers]
    assert reached > 3
    assert searches > 1
    return "\n".join(heard)


def _wants_purpose(operation: dict[str, Any]) -> bool:
    return any(one["name"] == "X-Purpose" for one in operation.get("parameters", []))


def open_to_partners(monkeypatch: pytest.MonkeyPatch, operation: str) -> None:
    """A fault in the table of access, and one in the perimeter: neither wall is left for this operation."""
    allows, opened = Rule.allows, ACCESS[operation]
    monkeypatch.setattr(Rule, "allows", lambda rule, caller: rule is opened or allows(rule, caller))
    kept = work.may_see

    def partners_too(caller: Principal, referral: Referral) -> bool:
        return caller.role is Role.PARTNER or kept(caller, referral)

    for module in list(sys.modules.values()):
        if getattr(module, "may_see", None) is kept:
            monkeypatch.setattr(module, "may_see", partners_too)


@pytest.mark.parametrize(
    ("who", "organization", "own", "other"), [("partner-95", d.ASSOCIATION, HERS, HIS), ("partner-78", d.ASSOCIATION_78, HIS, HERS)]
)
async def test_no_path_leads_the_partner_of_one_to_the_other(
    referrals: Referrals, who: str, organization: UUID, own: dict[str, str], other: dict[str, str]
) -> None:
    referral_id, hers, his = await situation(referrals)
    mine, foreign = (hers, his) if own is HERS else (his, hers)
    people = [str(one) for one in await referrals.persons(referral_id)]
    ids = [str(referral_id), hers["id"], his["id"], *people]
    streams = [
        f"organization:{organization}",
        f"organization:{d.ASSOCIATION}",
        f"organization:{d.ASSOCIATION_78}",
        "internal",
        "departement:95",
    ]

    read = await everything_read_by(referrals, who, {"stream": streams, "any": ids}, other)
    accepted = await referrals.answer(who, mine["id"], "accept")
    crossed = [
        await referrals.answer(who, foreign["id"], move, body, version=version)
        for version in (1, 2)
        for move, body in (
            ("accept", None),
            ("reject", {"reason": "other", "reason_text": "déjà suivie"}),
            ("start", None),
            ("complete", {"outcome": "informed"}),
            ("fail", {"reason": "other"}),
        )
    ]
    listed = (await referrals.get(who, "/v1/orientations")).json()["items"]
    rows = await referrals.rows(f"SELECT data FROM outbox WHERE stream = 'organization:{organization}'")
    events = "\n".join(bytes(row.data).decode() for row in rows)

    assert own["marker"] in read, "the walk must reach the partner's own"
    assert accepted.status_code == 200
    assert [one["id"] for one in listed] == [mine["id"]]
    assert {answer.status_code for answer in crossed} == {404}
    assert rows
    everything = "\n".join([read, accepted.text, json.dumps(listed), events, *(answer.text for answer in crossed)])
    for value in (*other.values(), f"mot-{other['marker']}", f"note-{other['marker']}", NARRATIVE):
        assert value not in everything, "the partner of one reads of the other"
    assert not OFFENCE.search(everything)
    for hidden in (str(referral_id), *people, foreign["id"]):
        assert hidden not in everything.replace(f"/{hidden}", ""), (
            "by the true ids two partners would find that they work for one situation"
        )
    assert streams_of("partner", frozenset(), str(organization), who) == [f"organization:{organization}"]


@pytest.mark.parametrize(
    ("operation", "because"),
    [
        ("export_person", "the partner of one reads of the other"),
        ("export_person_document", "the partner of one reads of the other"),
        ("search_persons", "by the true ids two partners would find"),
        ("search_referrals", "by the true ids two partners would find"),
    ],
)
async def test_planted_an_operation_that_lets_the_partner_of_one_across_is_seen(
    referrals: Referrals, monkeypatch: pytest.MonkeyPatch, operation: str, because: str
) -> None:
    open_to_partners(monkeypatch, operation)

    await seen_red(test_no_path_leads_the_partner_of_one_to_the_other(referrals, "partner-95", d.ASSOCIATION, HERS, HIS), because)


async def test_two_partners_of_one_situation_are_told_ids_they_cannot_compare(referrals: Referrals) -> None:
    await situation(referrals)

    [hers] = (await referrals.get("partner-95", "/v1/orientations")).json()["items"]
    [his] = (await referrals.get("partner-78", "/v1/orientations")).json()["items"]
    told = {
        who: [json.loads(row.data) for row in await referrals.rows(f"SELECT data FROM outbox WHERE stream = 'organization:{id}'")]
        for who, id in (("hers", d.ASSOCIATION), ("his", d.ASSOCIATION_78))
    }

    assert hers["referral_id"] != his["referral_id"]
    assert {one["referral_id"] for one in told["hers"]} == {hers["referral_id"]}, "the same as in its events"
    assert {one["referral_id"] for one in told["his"]} == {his["referral_id"]}
    opened = (await referrals.get("partner-95", f"/v1/orientations/{hers['id']}", "orientation")).json()
    assert opened["person"]["id"] == opened["person_id"] == hers["person_id"]


@pytest.mark.parametrize(("first", "second"), [(0, 1), (1, 0)])
@pytest.mark.parametrize("state", ["requested", "rejected", "completed", "expired"])
async def test_no_organization_is_asked_for_both_whatever_came_of_the_first(
    referrals: Referrals, first: int, second: int, state: str
) -> None:
    referral_id = await referrals.accepted(persons=[person("victim", "female", HERS), person("alleged_perpetrator", "male", HIS)])
    assert (await ask(referrals, referral_id, d.VICTIM_SUPPORT_SERVICE, place=first)).status_code == 201
    async with referrals.runtime.database.transaction() as session:
        await session.execute(text(f"UPDATE orientations SET status = '{state}'"))

    same = await ask(referrals, referral_id, d.LEGAL_ADVICE_SERVICE, place=second)
    elsewhere = await ask(referrals, referral_id, d.SHELTER_SERVICE, place=second)

    assert same.status_code == 409
    assert same.json()["type"].endswith("both-sides")
    assert elsewhere.status_code == 201


@pytest.mark.parametrize(("first", "second"), [(0, 1), (1, 0)])
async def test_no_organization_is_asked_for_both_over_two_referrals_of_one_situation(referrals: Referrals, first: int, second: int) -> None:
    couple = [person("victim", "female", HERS), person("alleged_perpetrator", "male", HIS)]
    one, again = await referrals.accepted(persons=couple), await referrals.accepted(persons=couple)
    assert (await ask(referrals, one, d.VICTIM_SUPPORT_SERVICE, place=first)).status_code == 201

    other = await ask(referrals, again, d.LEGAL_ADVICE_SERVICE, place=second)
    elsewhere = await ask(referrals, again, d.SHELTER_SERVICE, place=second)
    the_same = await ask(referrals, again, d.LEGAL_ADVICE_SERVICE, place=first)

    assert (other.status_code, elsewhere.status_code, the_same.status_code) == (409, 201, 201)
    assert other.json()["type"].endswith("both-sides")


@pytest.mark.parametrize(
    ("then", "now"), [("Jean Pierre", "Jean-Pierre"), ("Jean-Pierre", "Jean Pierre"), ("Jean-Pierre", "jean pierre, marie")]
)
async def test_nor_over_two_that_write_a_double_name_otherwise(referrals: Referrals, then: str, now: str) -> None:
    def couple(given_name: str) -> list[dict[str, Any]]:
        his = person("alleged_perpetrator", "male", HIS)
        return [person("victim", "female", HERS), his | {"identity": his["identity"] | {"given_name": given_name}}]

    one, again = await referrals.accepted(persons=couple(then)), await referrals.accepted(persons=couple(now))
    assert (await ask(referrals, one, d.VICTIM_SUPPORT_SERVICE, place=1)).status_code == 201

    hers = await ask(referrals, again, d.LEGAL_ADVICE_SERVICE)

    assert (hers.status_code, hers.json()["type"].rpartition("/")[2]) == (409, "both-sides")


async def test_who_was_accused_before_may_be_helped_as_a_victim_by_who_took_them_then(referrals: Referrals) -> None:
    then = await referrals.accepted(persons=[person("alleged_perpetrator", "male", HIS)])
    assert (await ask(referrals, then, d.LEGAL_ADVICE_SERVICE)).status_code == 201
    now = await referrals.accepted(persons=[person("victim", "male", HIS), person("alleged_perpetrator", "female", HERS)])

    assert (await ask(referrals, now, d.VICTIM_SUPPORT_SERVICE)).status_code == 201


async def test_a_child_and_its_mother_may_go_to_one_organization(referrals: Referrals) -> None:
    persons = referrals.body()["persons"]
    persons.append({"role": "witness", "sex": "male", "approximate_age": 9, "agreement": "accepted"})
    referral_id = await referrals.accepted(persons=persons)

    assert (await ask(referrals, referral_id, d.VICTIM_SUPPORT_SERVICE)).status_code == 201
    assert (await ask(referrals, referral_id, d.LEGAL_ADVICE_SERVICE, place=2)).status_code == 201


async def two_asked_of_one_organization(referrals: Referrals) -> tuple[UUID, UUID, list[str]]:
    """The victim and a witness, both oriented to the same association: the referral, the witness, the orientations."""
    persons = [person("victim", "female", HERS), person("witness", "male", HIS)]
    referral_id = await referrals.accepted(persons=persons)
    asked = [
        (await ask(referrals, referral_id, service, place=place)).json()["id"]
        for place, service in enumerate((d.VICTIM_SUPPORT_SERVICE, d.LEGAL_ADVICE_SERVICE))
    ]
    return referral_id, (await referrals.persons(referral_id))[1], asked


async def accuse(referrals: Referrals, referral_id: UUID, person_id: UUID) -> httpx.Response:
    body = {"reason": "learned", "persons": [{"person_id": person_id, "role": "alleged_perpetrator"}]}
    return await referrals.move("iscg-95", referral_id, "corrections", body)


@pytest.mark.parametrize("living", [0, 1])
async def test_a_corrected_role_does_not_let_an_organization_read_both_sides(referrals: Referrals, living: int) -> None:
    referral_id, witness, asked = await two_asked_of_one_organization(referrals)
    async with referrals.runtime.database.transaction() as session:
        await session.execute(text(f"UPDATE orientations SET status = 'completed' WHERE id = '{asked[1 - living]}'"))
    before = await referrals.snapshot("referrals", "persons", "corrections", "outbox")

    answer = await accuse(referrals, referral_id, witness)

    assert answer.status_code == 409, answer.text
    assert answer.json()["type"].endswith("both-sides")
    assert await referrals.snapshot("referrals", "persons", "corrections", "outbox") == before


async def test_a_role_is_corrected_once_the_organization_reads_neither_and_it_is_asked_for_neither_again(referrals: Referrals) -> None:
    referral_id, witness, asked = await two_asked_of_one_organization(referrals)
    for orientation in asked:
        assert (await referrals.answer("iscg-95", orientation, "cancel", {"reason": "mistake"})).status_code == 200

    corrected = await accuse(referrals, referral_id, witness)
    again = [await ask(referrals, referral_id, d.VICTIM_SUPPORT_SERVICE, place=place) for place in (0, 1)]

    assert corrected.status_code == 201, corrected.text
    assert [answer.json()["type"].rsplit("/", 1)[-1] for answer in again] == ["both-sides", "both-sides"]


async def test_a_role_is_corrected_whatever_another_referral_has_which_may_be_another_posts(referrals: Referrals) -> None:
    """The victim's support, there, goes on."""
    couple = [person("victim", "female", HERS), person("witness", "male", HIS)]
    there, here = await referrals.accepted(persons=couple), await referrals.accepted(persons=couple)
    hers = (await ask(referrals, there, d.VICTIM_SUPPORT_SERVICE)).json()["id"]
    his = (await ask(referrals, here, d.LEGAL_ADVICE_SERVICE, place=1)).json()["id"]
    witness = (await referrals.persons(here))[1]

    assert (await accuse(referrals, here, witness)).status_code == 409
    assert (await referrals.answer("iscg-95", his, "cancel", {"reason": "mistake"})).status_code == 200
    assert (await accuse(referrals, here, witness)).status_code == 201
    [row] = await referrals.rows(f"SELECT status FROM orientations WHERE id = '{hers}'")
    assert row.status == "requested"
    assert (await ask(referrals, here, d.LEGAL_ADVICE_SERVICE, place=1)).status_code == 409


async def test_a_role_is_corrected_while_no_organization_was_asked_for_both(referrals: Referrals) -> None:
    referral_id = await referrals.accepted(persons=[person("victim", "female", HERS), person("witness", "male", HIS)])
    await ask(referrals, referral_id, d.VICTIM_SUPPORT_SERVICE)
    await ask(referrals, referral_id, d.SHELTER_SERVICE, place=1)

    assert (await accuse(referrals, referral_id, (await referrals.persons(referral_id))[1])).status_code == 201


async def test_each_person_and_the_narrative_have_a_key_of_their_own(referrals: Referrals) -> None:
    referral_id = await referrals.accepted()
    keys = [row.key_id for row in await referrals.rows(f"SELECT key_id FROM persons WHERE referral_id = '{referral_id}'")]
    [narrative] = await referrals.rows(f"SELECT narrative_key_id FROM referrals WHERE id = '{referral_id}'")
    assert len({*keys, narrative.narrative_key_id}) == 3

    async with referrals.runtime.database.transaction() as session:
        await referrals.runtime.vault.destroy(session, keys[1])

    people = (await referrals.read_as("iscg-95", referral_id))["people"]
    assert [one["erased"] for one in people] == [False, True]
