"""What a person agreed to: refused is counted, never called, and goes; not asked allows a first contact; without agreement nobody is oriented but by law."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest

from libs.contracts import demonstration as d
from libs.contracts.partners import PostSuspended
from services.referrals.rights.refused import erase_refused
from tests.services.referrals.conftest import CONTENT, MORNING, Referrals


async def orient(referrals: Referrals, referral_id: UUID, **more: Any) -> httpx.Response:
    [person, *_] = await referrals.persons(referral_id)
    body = {"person_id": person, "service_id": d.VICTIM_SUPPORT_SERVICE, "need": "victim_support"} | more
    return await referrals.post("iscg-95", f"/v1/referrals/{referral_id}/orientations", body)


def persons_with(referrals: Referrals, **changes: Any) -> list[dict[str, Any]]:
    first, *others = referrals.body()["persons"]
    return [first | changes, *others]


CALM: dict[str, Any] = {"danger": False, "children_present": 0, "themes": ["family_dispute"], "principal_theme": "family_dispute"}
"""Nothing tells of a child or of a danger."""

MINOR = {"family_name": "Exemple", "given_name": "Camille", "birth_on": "2014-04-12"}


@pytest.mark.parametrize(
    ("agreement", "ground", "identity", "problem"),
    [
        ("accepted", None, None, None),
        ("not_asked", None, None, "agreement-missing"),
        ("refused", None, None, "person-refused-contact"),
        ("not_asked", "vital_danger", None, None),
        ("refused", "vital_danger", None, None),
        ("refused", "vulnerable_adult", None, None),
        ("not_asked", "minor_in_danger", MINOR, None),
        ("not_asked", "minor_in_danger", None, "legal-ground-unfounded"),
        ("refused", "vulnerable_adult", MINOR, "legal-ground-unfounded"),
    ],
)
async def test_without_agreement_a_person_is_oriented_on_a_legal_ground_only(
    referrals: Referrals, agreement: str, ground: str | None, identity: dict[str, Any] | None, problem: str | None
) -> None:
    changes: dict[str, Any] = {"agreement": agreement} | ({"identity": identity} if identity else {})
    referral_id = await referrals.accepted(persons=persons_with(referrals, **changes))
    await referrals.said()

    answer = await orient(referrals, referral_id, legal_ground=ground)

    audited = [bytes(row.data) for row in await referrals.rows("SELECT data FROM outbox WHERE stream = 'audit'")]
    if problem is not None:
        assert answer.status_code == 409
        assert answer.json()["type"].endswith(problem)
        assert await referrals.said() == []
        assert audited == []
        return
    assert answer.status_code == 201, answer.text
    assert answer.json()["legal_ground"] == ground
    assert [row.legal_ground for row in await referrals.rows("SELECT legal_ground FROM orientations")] == [ground]
    assert [b'"operation":"orient_without_agreement"' in one for one in audited] == ([True] if ground else [])
    if ground:
        assert f'"ground":"{ground}"'.encode() in audited[0]


async def test_a_ground_that_was_not_needed_is_not_kept(referrals: Referrals) -> None:
    referral_id = await referrals.accepted()

    answer = await orient(referrals, referral_id, legal_ground="vital_danger")

    assert answer.json()["legal_ground"] is None
    assert await referrals.rows("SELECT 1 FROM outbox WHERE stream = 'audit'") == []


async def run(referrals: Referrals, now: datetime, hours: int = 72) -> int:
    async with referrals.runtime.database.transaction() as session:
        return await erase_refused(session, referrals.runtime.vault, now, timedelta(hours=hours))


async def test_who_refused_is_erased_after_the_delay_and_still_counted(referrals: Referrals) -> None:
    referral_id = await referrals.accepted(persons=persons_with(referrals, agreement="refused"), **CALM)
    [refused, other] = await referrals.persons(referral_id)
    await referrals.said()
    now = datetime.now(UTC)

    early = await run(referrals, now + timedelta(hours=71))
    kept = await referrals.said()
    late = await run(referrals, now + timedelta(hours=73))
    again = await run(referrals, now + timedelta(hours=74))

    assert (early, kept, late, again) == (0, [], 1, 0)
    [(type, data)] = await referrals.said()
    assert (type, data["person_ids"]) == ("referral.erased", [str(refused)])
    read = await referrals.read_as("iscg-95", referral_id)
    assert read["status"] == "accepted"
    assert [(one["id"], one["erased"], one["agreement"]) for one in read["people"]] == [
        (str(refused), True, "refused"),
        (str(other), False, "not_asked"),
    ]
    call = {"person_id": refused, "mode": "phone", "result": "reached", "attempted_at": "2026-11-23T08:00:00Z"}
    assert (await referrals.post("iscg-95", f"/v1/referrals/{referral_id}/contacts", call)).status_code == 409


async def test_with_the_last_person_who_refused_the_whole_referral_goes(referrals: Referrals) -> None:
    persons = persons_with(referrals, agreement="refused")[:1]
    referral_id = await referrals.receive(persons=persons, **CALM)
    await referrals.said()

    await run(referrals, datetime.now(UTC) + timedelta(hours=73))

    assert await referrals.said_types() == ["referral.closed", "referral.erased"]
    [row] = await referrals.rows(f"SELECT status, close_reason, narrative FROM referrals WHERE id = '{referral_id}'")
    assert (row.status, row.close_reason, row.narrative) == ("erased", "contact_refused", None)


async def test_a_refusal_noted_later_counts_from_then_and_one_taken_back_keeps_the_person(referrals: Referrals) -> None:
    referrals.usual |= CALM
    first, second = await referrals.accepted(), await referrals.accepted(persons=persons_with(referrals, agreement="refused"))
    now = datetime.now(UTC)
    for referral_id, agreement in ((first, "refused"), (second, "accepted")):
        [person, _] = await referrals.persons(referral_id)
        body = {"reason": "learned", "persons": [{"person_id": person, "agreement": agreement}]}
        assert (await referrals.move("iscg-95", referral_id, "corrections", body)).status_code == 201
    await referrals.said()

    none = await run(referrals, now + timedelta(hours=1), hours=2)
    one = await run(referrals, now + timedelta(hours=3), hours=2)

    assert (none, one) == (0, 1)
    assert [data["referral_id"] for type, data in await referrals.said() if type == "referral.erased"] == [str(first)]


async def call(referrals: Referrals, referral_id: UUID, result: str, agreement: str | None = None) -> httpx.Response:
    [person, *_] = await referrals.persons(referral_id)
    body = {"person_id": person, "mode": "phone", "result": result, "attempted_at": "2026-11-23T09:00:00Z", "agreement": agreement}
    return await referrals.post("iscg-95", f"/v1/referrals/{referral_id}/contacts", body)


@pytest.mark.parametrize(
    ("before", "result", "said", "refused"),
    [
        ("not_asked", "reached", None, True),
        ("not_asked", "reached", "accepted", False),
        ("not_asked", "reached", "not_asked", False),
        ("not_asked", "declined", None, True),
        ("not_asked", "declined", "refused", False),
        ("not_asked", "no_answer", None, False),
        ("not_asked", "no_answer", "accepted", True),
        ("not_asked", "message_left", "refused", True),
        ("accepted", "reached", None, False),
        ("accepted", "reached", "refused", False),
    ],
)
async def test_a_first_contact_asks_and_its_answer_is_noted_with_it(
    referrals: Referrals, before: str, result: str, said: str | None, refused: bool
) -> None:
    referral_id = await referrals.accepted(persons=persons_with(referrals, agreement=before))
    await referrals.said()

    answer = await call(referrals, referral_id, result, said)

    after = (await referrals.read_as("iscg-95", referral_id))["people"][0]["agreement"]
    told = await referrals.said_types()
    if refused:
        assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "/agreement")
        assert answer.json()["type"].endswith("agreement-unsaid")
        assert (after, told) == (before, [])
        return
    changed = said is not None and said != before
    assert answer.status_code == 201, answer.text
    assert after == (said or before)
    assert told == ["contact.attempted", *(["referral.corrected"] if changed else [])]
    log = (await referrals.get("iscg-95", f"/v1/referrals/{referral_id}/corrections", CONTENT)).json()["items"]
    assert [(one["reason"], one["changes"][0]["after"]) for one in log] == ([("learned", said)] if changed else [])


async def test_who_refuses_when_called_is_called_no_more_and_what_was_asked_of_partners_ends(referrals: Referrals) -> None:
    referral_id = await referrals.accepted()
    assert (await orient(referrals, referral_id)).status_code == 201
    await referrals.said()

    await call(referrals, referral_id, "reached", "refused")

    assert await referrals.said_types() == ["contact.attempted", "referral.corrected", "orientation.cancelled"]
    assert (await call(referrals, referral_id, "reached")).json()["type"].endswith("person-refused-contact")


async def test_who_agreed_and_could_not_be_asked_again_keeps_what_was_agreed(referrals: Referrals) -> None:
    referral_id = await referrals.accepted(persons=persons_with(referrals, agreement="accepted"))
    assert (await orient(referrals, referral_id)).status_code == 201
    await referrals.said()

    answer = await call(referrals, referral_id, "reached", "not_asked")

    assert (answer.status_code, await referrals.said_types()) == (201, ["contact.attempted"])
    assert (await referrals.read_as("iscg-95", referral_id))["people"][0]["agreement"] == "accepted"


async def test_where_the_social_worker_is_absent_the_coordinator_alerts_for_a_minor_in_danger_and_hands_over_to_who_may_orient(
    referrals: Referrals,
) -> None:
    """Orienting without agreement is the social worker's alone (DOMAIN §2); what the law asks of everybody, at once, is the alert (CASF L.226-2-1)."""
    referral_id = await referrals.accepted(persons=persons_with(referrals, agreement="not_asked", identity=MINOR))
    away: dict[str, Any] = {"departement": "95", "post_id": d.POST_CERGY, "employer_id": d.EMPLOYER}
    await referrals.hear("partners", PostSuspended(**away, suspended_at=MORNING))
    [child, _] = await referrals.persons(referral_id)
    address = f"/v1/referrals/{referral_id}"
    asked = {"person_id": child, "service_id": d.VICTIM_SUPPORT_SERVICE, "need": "victim_support", "legal_ground": "minor_in_danger"}
    sent = {"kind": "concerning_information", "person_ids": [child], "sent_at": "2026-11-23T09:00:00Z"}

    by_the_coordinator = await referrals.post("coordinator-95", f"{address}/orientations", asked)
    alerted = await referrals.post("coordinator-95", f"{address}/alerts", sent)
    assigned = await referrals.move("coordinator-95", referral_id, "assign", {"post_id": d.POST_SARCELLES})

    assert (by_the_coordinator.status_code, alerted.status_code, assigned.status_code) == (403, 201, 200)
    there = {"Authorization": f"Bearer {referrals.issuer.issue('iscg-95', perimeter=[f'post:{d.POST_SARCELLES}'])}"}
    accepted = await referrals.client.post(
        f"{address}/accept", headers=there | {"If-Match": f'"{assigned.json()["version"]}"', "Idempotency-Key": "a"}
    )
    oriented = await referrals.client.post(
        f"{address}/orientations",
        json=asked | {"service_id": str(d.VICTIM_SUPPORT_SERVICE), "person_id": str(child)},
        headers=there | {"Idempotency-Key": "o"},
    )
    assert (accepted.status_code, oriented.status_code) == (200, 201), oriented.text
