"""Of who was erased nothing is kept in words any more, and nothing is done any more: every route that names a person, walked."""

from typing import Any
from uuid import UUID

import pytest

from libs.contracts import demonstration as d
from tests.services.referrals.conftest import Referrals
from tests.services.referrals.test_erasure import erase
from tests.services.referrals.test_justice import REQUISITION, found, in_clear, opened, requisition

AT = "2026-11-24T09:30:00Z"
WORDS = "Mots-sur-une-personne-effacée"
SAYS_NO_WORD_OF_THEM = {"erase_persons": "names whom to erase: see test_rights", "record_requisition": "the register grows: see below"}

NAMING: dict[str, tuple[str, str, dict[str, Any]]] = {
    "a contact": ("attempt_contact", "contacts", {"person_id": "?", "mode": "phone", "result": "no_answer", "attempted_at": AT}),
    "an interview": ("hold_interview", "interviews", {"person_ids": "*", "place": "station", "duration_minutes": 30, "held_at": AT}),
    "an assessment": ("record_assessment", "assessments", {"person_id": "?", "needs": ["rights"], "known_to_services": "known"}),
    "an orientation": (
        "request_orientation",
        "orientations",
        {"person_id": "?", "service_id": str(d.VICTIM_SUPPORT_SERVICE), "need": "victim_support"},
    ),
    "an orientation on a legal ground": (
        "request_orientation",
        "orientations",
        {"person_id": "?", "service_id": str(d.VICTIM_SUPPORT_SERVICE), "need": "victim_support", "legal_ground": "vital_danger"},
    ),
    "an alert with a note": (
        "record_alert",
        "alerts",
        {"kind": "prosecutor_report", "court": "95127", "person_ids": "*", "sent_at": AT, "note": WORDS},
    ),
    "an alert without words": (
        "record_alert",
        "alerts",
        {"kind": "prosecutor_report", "court": "95127", "person_ids": "*", "sent_at": AT},
    ),
    "a corrected role": ("correct_referral", "corrections", {"reason": "learned", "persons": {"role": "witness"}}),
    "a corrected agreement": ("correct_referral", "corrections", {"reason": "learned", "persons": {"agreement": "refused"}}),
    "what services know": ("correct_referral", "corrections", {"reason": "learned", "persons": {"known_to_services": "known"}}),
    "a corrected identity": (
        "correct_referral",
        "corrections",
        {"reason": "learned", "persons": {"identity": {"family_name": WORDS, "given_name": "Camille", "birth_on": None}}},
    ),
}


def about(body: dict[str, Any], persons: list[UUID]) -> dict[str, Any]:
    """The body, with the first of these in the place of `?`, all of them in that of `*`."""
    if "persons" in body:
        return body | {"persons": [{"person_id": str(one)} | body["persons"] for one in persons]}
    return {name: {"?": str(persons[0]), "*": [str(one) for one in persons]}.get(str(value), value) for name, value in body.items()}


async def contacted(referrals: Referrals) -> tuple[UUID, list[UUID]]:
    referral_id = await referrals.accepted()
    persons = await referrals.persons(referral_id)
    for person in persons:
        call = {"person_id": person, "mode": "phone", "result": "reached", "attempted_at": AT, "agreement": "accepted"}
        assert (await referrals.post("iscg-95", f"/v1/referrals/{referral_id}/contacts", call)).status_code == 201
    return referral_id, persons


async def tell(referrals: Referrals, referral_id: UUID, noun: str, body: dict[str, Any]) -> Any:
    version = await referrals.version(referral_id) if noun == "corrections" else None
    return await referrals.post("iscg-95", f"/v1/referrals/{referral_id}/{noun}", body, version=version)


@pytest.mark.parametrize(
    ("named", "others"),
    [(named, others) for named, (_, _, body) in NAMING.items() for others in (False, True) if not (others and "person_id" in body)],
)
async def test_nothing_is_noted_about_who_was_erased(referrals: Referrals, named: str, others: bool) -> None:
    _, noun, body = NAMING[named]
    referral_id, [gone, living] = await contacted(referrals)
    await erase(referrals, referral_id, [gone])
    tables = ("referrals", "persons", "alerts", "contact_attempts", "interviews", "assessments", "orientations", "corrections", "outbox")
    before = await referrals.snapshot(*tables)

    answer = await tell(referrals, referral_id, noun, about(body, [living, gone] if others else [gone]))

    assert answer.status_code == 409, answer.text
    assert answer.json()["type"].endswith("person-erased")
    assert await referrals.snapshot(*tables) == before
    assert not found(WORDS, await in_clear(referrals))


@pytest.mark.parametrize("named", NAMING)
async def test_the_same_is_noted_about_who_is_still_there(referrals: Referrals, named: str) -> None:
    _, noun, body = NAMING[named]
    referral_id, [gone, living] = await contacted(referrals)
    await erase(referrals, referral_id, [gone])

    answer = await tell(referrals, referral_id, noun, about(body, [living]))

    assert answer.status_code == 201, answer.text


def test_every_route_that_names_a_person_of_a_referral_is_walked(referrals: Referrals) -> None:
    document = referrals.openapi()
    walked = {operation for operation, _, _ in NAMING.values()} | SAYS_NO_WORD_OF_THEM.keys()

    assert {
        operation["operationId"] for path in document["paths"].values() for operation in path.values() if names(document, operation)
    } == walked


def names(document: dict[str, Any], operation: dict[str, Any]) -> bool:
    """Whether a request body has a field for the id of a person, at any depth."""
    content = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
    return any(field in {"person_id", "person_ids"} for field in fields(document, content))


def fields(document: dict[str, Any], schema: Any) -> set[str]:
    if isinstance(schema, list):
        return set().union(*(fields(document, one) for one in schema))
    if not isinstance(schema, dict):
        return set()
    if "$ref" in schema:
        return fields(document, document["components"]["schemas"][schema["$ref"].rsplit("/", 1)[1]])
    properties: dict[str, Any] = schema.get("properties", {})
    return {*properties}.union(
        *(fields(document, one) for one in [*properties.values(), *(schema.get(name) for name in ("items", "anyOf", "allOf", "oneOf"))])
    )


async def test_a_requisition_about_who_was_erased_is_registered_without_its_words(referrals: Referrals) -> None:
    """The register must show that it was asked, and that nothing was held any more (decision 0009)."""
    referral_id, [gone, living] = await contacted(referrals)
    await erase(referrals, referral_id, [gone])

    answer = await requisition(referrals, referral_id, person_ids=[gone], scope=WORDS, handed_over_at="2026-11-24T18:00:00Z")

    assert answer.status_code == 201, answer.text
    kept = await opened(referrals, answer.json()["id"])
    assert (kept["erased"], kept["scope"], kept["reference"], kept["authority_name"]) == (True, None, None, None)
    assert (kept["asked"], kept["person_ids"]) == (REQUISITION["asked"], [str(gone)])
    assert await referrals.rows("SELECT 1 FROM requisitions WHERE content <> ''") == []
    of_the_living = await requisition(referrals, referral_id, person_ids=[living], scope=WORDS)
    assert (await opened(referrals, of_the_living.json()["id"]))["scope"] == WORDS


async def test_words_of_a_requisition_are_not_taken_for_who_is_there_together_with_who_was_erased(referrals: Referrals) -> None:
    referral_id, [gone, living] = await contacted(referrals)
    await erase(referrals, referral_id, [gone])

    answer = await requisition(referrals, referral_id, person_ids=[living, gone])

    assert answer.status_code == 409, answer.text
    assert answer.json()["type"].endswith("person-erased")
    assert [one["pointer"] for one in answer.json()["errors"]] == ["/person_ids/1"]
    assert await referrals.rows("SELECT 1 FROM requisitions") == []
