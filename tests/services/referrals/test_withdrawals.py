"""A contact attempt, an interview or an assessment that was noted by mistake is withdrawn: it stays in sight, and nothing counts it or rests on it any more."""

from typing import Any
from uuid import UUID

import httpx
import pytest
from sqlalchemy import text

from libs.contracts import demonstration as d
from services.referrals.app import notice_overdue
from tests.services.referrals.conftest import CONTENT, Referrals
from tests.services.referrals.test_delays import HOUR, hours_pass, row, signed
from tests.services.referrals.test_followup import call, interview
from tests.services.referrals.test_police import told

pytestmark = pytest.mark.usefixtures("calm")

EARLY, LATE = "2026-11-23T08:00:00Z", "2026-11-23T11:00:00Z"


async def noted(referrals: Referrals, referral_id: UUID, **changes: Any) -> str:
    answer = await call(referrals, referral_id, **changes)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


async def withdraw(
    referrals: Referrals, referral_id: UUID, contact_id: str, reason: str = "other_referral", who: str = "iscg-95"
) -> httpx.Response:
    return await referrals.post(who, f"/v1/referrals/{referral_id}/contacts/{contact_id}/withdraw", {"reason": reason})


def kind_of(answer: httpx.Response) -> str:
    return str(answer.json()["type"].rpartition("/")[2])


async def said(referrals: Referrals) -> list[dict[str, Any]]:
    return [data for type, data in await referrals.said() if type == "contact.withdrawn"]


async def test_a_contact_noted_by_mistake_is_withdrawn_stays_in_sight_and_counts_no_longer(referrals: Referrals) -> None:
    referral_id = await referrals.accepted()
    contact_id = await noted(referrals, referral_id, attempted_at=EARLY)
    await referrals.said()

    answer = await withdraw(referrals, referral_id, contact_id)

    assert answer.status_code == 200, answer.text
    found = await referrals.read_as("iscg-95", referral_id)
    assert answer.json() == {"id": contact_id, "referral_id": str(referral_id), "first_contact_at": None, "version": found["version"]}
    assert found["first_contact_at"] is None
    [kept] = found["contacts"]
    assert (kept["id"], kept["withdrawn_because"], kept["withdrawn_at"] is not None) == (contact_id, "other_referral", True)
    [event] = await said(referrals)
    assert (event["contact_id"], event["post_id"]) == (contact_id, str(d.POST_CERGY))
    assert (event["first_attempted_at"], event["delay_minutes"]) == (None, None)


async def test_the_first_contact_is_the_earliest_of_those_that_remain(referrals: Referrals) -> None:
    referral_id = await referrals.accepted()
    early, late = [await noted(referrals, referral_id, attempted_at=at) for at in (EARLY, LATE)]
    await referrals.said()

    first = (await withdraw(referrals, referral_id, early, "wrong_entry")).json()["first_contact_at"]
    await noted(referrals, referral_id, attempted_at=EARLY)
    last = (await withdraw(referrals, referral_id, late, "noted_twice")).json()["first_contact_at"]

    assert (first, last) == ("2026-11-23T11:00:00.000000Z", "2026-11-23T08:00:00.000000Z")
    assert (await referrals.read_as("iscg-95", referral_id))["first_contact_at"] == last
    events = await said(referrals)
    assert [one["first_attempted_at"] for one in events] == [first, last]
    assert all(one["delay_minutes"] is not None for one in events)


async def test_a_contact_is_withdrawn_once_by_the_post_that_has_the_referral_and_from_its_own_referral(referrals: Referrals) -> None:
    referral_id, other = await referrals.accepted(), await referrals.accepted()
    contact_id = await noted(referrals, referral_id)

    assert (await withdraw(referrals, other, contact_id)).status_code == 404
    assert (await withdraw(referrals, referral_id, contact_id, who="iscg-78")).status_code == 404
    assert (await withdraw(referrals, referral_id, contact_id, who="coordinator-95")).status_code == 403
    assert (await withdraw(referrals, referral_id, contact_id, "regret")).status_code == 422
    assert (await withdraw(referrals, referral_id, contact_id)).status_code == 200
    again = await withdraw(referrals, referral_id, contact_id)
    assert (again.status_code, kind_of(again)) == (409, "contact-withdrawn-already")
    assert len(await said(referrals)) == 1


async def test_of_a_referral_that_is_closed_no_contact_is_withdrawn_until_it_is_reopened(referrals: Referrals) -> None:
    referral_id = await referrals.accepted()
    contact_id = await noted(referrals, referral_id)
    await referrals.move("iscg-95", referral_id, "close", {"reason": "completed"})

    closed = await withdraw(referrals, referral_id, contact_id)
    await referrals.move("iscg-95", referral_id, "reopen")
    reopened = await withdraw(referrals, referral_id, contact_id)

    assert (closed.status_code, kind_of(closed), reopened.status_code) == (409, "move-not-allowed", 200)


async def test_the_police_is_told_that_nobody_has_been_called_after_all_and_of_the_next_first_contact(referrals: Referrals) -> None:
    referral_id = await referrals.accepted()

    async def status() -> str:
        return str((await referrals.get("police-95", f"/v1/referral-statuses/{referral_id}")).json()["status"])

    one, two = [await noted(referrals, referral_id, attempted_at=at) for at in (EARLY, LATE)]
    await withdraw(referrals, referral_id, await noted(referrals, referral_id, attempted_at=EARLY, result="no_answer"))
    await withdraw(referrals, referral_id, one)
    assert await status() == "contacted"
    assert "contact.withdrawn" not in [type for type, _ in await told(referrals)]

    await noted(referrals, referral_id, attempted_at=EARLY, result="no_answer")
    await withdraw(referrals, referral_id, two)
    assert await status() == "accepted"
    await noted(referrals, referral_id, attempted_at=LATE)
    assert await status() == "contacted"

    steps = [(type, sorted(data)) for type, data in await told(referrals) if type.startswith("contact.")]
    assert [type for type, _ in steps] == ["contact.attempted", "contact.withdrawn", "contact.attempted"]
    assert steps[1][1] == ["departement", "referral_id", "withdrawn_at"]


async def test_the_police_is_told_that_the_victim_was_not_called_after_all_where_her_refusal_had_put_another_in_her_place(
    referrals: Referrals,
) -> None:
    persons = [{"role": role, "sex": "unknown", "agreement": "accepted"} for role in ("victim", "alleged_perpetrator")]
    referral_id = await referrals.accepted(persons=persons)
    victim, accused = await referrals.persons(referral_id)
    await noted(referrals, referral_id, person_id=accused, attempted_at=EARLY)
    contact_id = await noted(referrals, referral_id, person_id=victim, attempted_at=LATE, result="declined", agreement="refused")
    await referrals.said()

    answer = await withdraw(referrals, referral_id, contact_id, "other_person")

    assert answer.json()["first_contact_at"] is None
    assert (await referrals.get("police-95", f"/v1/referral-statuses/{referral_id}")).json()["status"] == "accepted"
    assert (await told(referrals))[-1][0] == "contact.withdrawn"
    read = await referrals.read_as("iscg-95", referral_id)
    assert (read["awaits_contact"], read["first_contact_at"]) == (True, None)
    assert {type: data["first_attempted_at"] for type, data in await referrals.said()} == {
        "referral.corrected": None,
        "contact.withdrawn": None,
    }


async def test_a_closing_no_longer_rests_on_a_contact_that_was_withdrawn(referrals: Referrals) -> None:
    referral_id = await referrals.accepted()
    reached = await noted(referrals, referral_id)
    unanswered = await noted(referrals, referral_id, attempted_at=LATE, result="no_answer")
    await withdraw(referrals, referral_id, reached)

    completed = await referrals.move("iscg-95", referral_id, "close", {"reason": "completed"})
    await withdraw(referrals, referral_id, unanswered)
    unreachable = await referrals.move("iscg-95", referral_id, "close", {"reason": "unreachable"})

    assert [(one.status_code, kind_of(one)) for one in (completed, unreachable)] == [(409, "close-reason-unfounded")] * 2


async def test_neither_an_interview_nor_an_assessment_rests_on_a_contact_that_was_withdrawn(referrals: Referrals) -> None:
    referral_id = await referrals.accepted()
    [victim, _] = await referrals.persons(referral_id)
    await withdraw(referrals, referral_id, await noted(referrals, referral_id))

    held = await interview(referrals, referral_id, [victim])
    needs = {"person_id": victim, "needs": [], "known_to_services": "unknown"}
    assessed = await referrals.post("iscg-95", f"/v1/referrals/{referral_id}/assessments", needs)

    assert [(one.status_code, kind_of(one)) for one in (held, assessed)] == [(409, "no-contact-yet")] * 2


async def test_a_contact_on_which_an_interview_rests_is_withdrawn_only_once_another_is_there(referrals: Referrals) -> None:
    referral_id = await referrals.accepted()
    [victim, _] = await referrals.persons(referral_id)
    wrong = await noted(referrals, referral_id, attempted_at="2026-11-23T09:00:00Z")
    assert (await interview(referrals, referral_id, [victim], held_at="2026-11-23T10:00:00Z")).status_code == 201

    alone = await withdraw(referrals, referral_id, wrong, "wrong_entry")
    await noted(referrals, referral_id, attempted_at=LATE)  # after the interview
    later = await withdraw(referrals, referral_id, wrong, "wrong_entry")
    await noted(referrals, referral_id, attempted_at=EARLY)
    replaced = await withdraw(referrals, referral_id, wrong, "wrong_entry")

    assert [(one.status_code, kind_of(one)) for one in (alone, later)] == [(409, "interview-rests-on-it")] * 2
    assert replaced.status_code == 200, replaced.text


async def test_without_any_contact_left_a_referral_is_due_and_overdue_as_if_none_had_been_noted(referrals: Referrals) -> None:
    called, never = await referrals.accepted(), await referrals.accepted()
    contact_id = await noted(referrals, called)
    await referrals.hear("funding", signed(2))  # moves what nobody was called for
    await hours_pass(referrals, 3)
    assert not (await referrals.read_as("iscg-95", called))["overdue"]

    await withdraw(referrals, called, contact_id)

    one, other = await row(referrals, called), await row(referrals, never)
    assert one.due_at - one.received_at == other.due_at - other.received_at == 2 * HOUR
    assert (await referrals.read_as("iscg-95", called))["overdue"]
    await notice_overdue(referrals.runtime)
    overdue = {data["referral_id"] for type, data in await referrals.said() if type == "referral.overdue"}
    assert overdue == {str(called), str(never)}


async def test_what_was_reopened_since_counts_from_its_reopening_once_its_only_contact_is_withdrawn(referrals: Referrals) -> None:
    referral_id = await referrals.accepted()
    contact_id = await noted(referrals, referral_id)
    await referrals.move("iscg-95", referral_id, "close", {"reason": "completed"})
    await referrals.move("iscg-95", referral_id, "reopen")

    await withdraw(referrals, referral_id, contact_id)

    [reopened] = await referrals.rows(f"SELECT at FROM moves WHERE move = 'reopen' AND referral_id = '{referral_id}'")
    found = await row(referrals, referral_id)
    assert (found.due_from, found.due_at) == (reopened.at, reopened.at + 24 * HOUR)


async def test_the_timeline_and_the_export_tell_that_a_contact_was_withdrawn(referrals: Referrals) -> None:
    referral_id = await referrals.accepted()
    [victim, _] = await referrals.persons(referral_id)
    contact_id = await noted(referrals, referral_id)
    await withdraw(referrals, referral_id, contact_id, "other_person")

    timeline = (await referrals.get("iscg-95", f"/v1/referrals/{referral_id}/timeline", CONTENT)).json()["items"]
    address = f"/v1/referrals/{referral_id}/persons/{victim}/export"
    export = (await referrals.get("iscg-95", address, "persons_rights")).json()

    assert [one["id"] for one in timeline if one["step"] == "contact"] == [contact_id]
    [line] = [one for one in timeline if one["step"] == "contact_withdrawn"]
    assert (line["code"], line["reason"], line["person_ids"], line["actor"] is not None) == ("phone", "other_person", [str(victim)], True)
    [contact] = export["contacts"]
    assert (contact["withdrawn_because"], contact["withdrawn_at"]) == ("other_person", line["at"])
    facts = {one["stream"]: one["facts"] for one in export["recipients"]}
    assert "fr.maillon.contact.withdrawn.v1" in facts["interior"]


async def test_the_retention_does_not_count_from_a_contact_that_was_withdrawn(referrals: Referrals) -> None:
    referral_id = await referrals.accepted()
    [victim, _] = await referrals.persons(referral_id)
    contact_id = await noted(referrals, referral_id)
    await withdraw(referrals, referral_id, contact_id)
    await referrals.move("iscg-95", referral_id, "close", {"reason": "out_of_scope"})
    [accepted] = await referrals.rows(f"SELECT accepted_at FROM referrals WHERE id = '{referral_id}'")
    async with referrals.runtime.database.transaction() as session:
        await session.execute(text("UPDATE contact_attempts SET attempted_at = attempted_at + interval '1000 days'"))

    export = await referrals.get("iscg-95", f"/v1/referrals/{referral_id}/persons/{victim}/export", "persons_rights")

    assert export.json()["kept_until"] is not None
    assert export.json()["kept_until"][:4] == str(accepted.accepted_at.year + 2)


async def withdraw_interview(
    referrals: Referrals, referral_id: UUID, interview_id: str, who: str = "iscg-95", **why: str
) -> httpx.Response:
    address = f"/v1/referrals/{referral_id}/interviews/{interview_id}/withdraw"
    return await referrals.post(who, address, {"reason": "other_person"} | why)


async def test_an_interview_noted_by_mistake_is_withdrawn_once_stays_in_sight_and_is_told(referrals: Referrals) -> None:
    referral_id, other = await referrals.accepted(), await referrals.accepted()
    [victim, _] = await referrals.persons(referral_id)
    await noted(referrals, referral_id)
    held = (await interview(referrals, referral_id, [victim])).json()["id"]
    await referrals.said()

    assert (await withdraw_interview(referrals, other, held)).status_code == 404
    assert (await withdraw_interview(referrals, referral_id, held, "iscg-78")).status_code == 404
    assert (await withdraw_interview(referrals, referral_id, held, "coordinator-95")).status_code == 403
    assert (await withdraw_interview(referrals, referral_id, held, reason="regret")).status_code == 422
    answer = await withdraw_interview(referrals, referral_id, held)
    again = await withdraw_interview(referrals, referral_id, held)

    found = await referrals.read_as("iscg-95", referral_id)
    assert (answer.status_code, answer.json()) == (200, {"id": held, "referral_id": str(referral_id), "version": found["version"]})
    assert (again.status_code, kind_of(again)) == (409, "interview-withdrawn-already")
    [kept] = found["interviews"]
    assert (kept["id"], kept["withdrawn_because"]) == (held, "other_person")
    assert [(type, data["interview_id"]) for type, data in await referrals.said()] == [("interview.withdrawn", held)]
    timeline = (await referrals.get("iscg-95", f"/v1/referrals/{referral_id}/timeline", CONTENT)).json()["items"]
    assert [(one["id"], one["reason"]) for one in timeline if one["step"] == "interview_withdrawn"] == [(held, "other_person")]
    export = (await referrals.get("iscg-95", f"/v1/referrals/{referral_id}/persons/{victim}/export", "persons_rights")).json()
    assert [one["withdrawn_because"] for one in export["interviews"]] == ["other_person"]


async def test_once_its_interview_is_withdrawn_a_contact_is_too(referrals: Referrals) -> None:
    referral_id = await referrals.accepted()
    [victim, _] = await referrals.persons(referral_id)
    contact_id = await noted(referrals, referral_id)
    held = (await interview(referrals, referral_id, [victim])).json()["id"]

    before = await withdraw(referrals, referral_id, contact_id)
    await withdraw_interview(referrals, referral_id, held)
    after = await withdraw(referrals, referral_id, contact_id)

    assert (before.status_code, after.status_code) == (409, 200)


async def test_the_retention_does_not_count_from_an_interview_that_was_withdrawn(referrals: Referrals) -> None:
    referral_id = await referrals.accepted()
    [victim, _] = await referrals.persons(referral_id)
    await noted(referrals, referral_id)
    await withdraw_interview(referrals, referral_id, (await interview(referrals, referral_id, [victim])).json()["id"])
    await referrals.move("iscg-95", referral_id, "close", {"reason": "out_of_scope"})
    [accepted] = await referrals.rows(f"SELECT accepted_at FROM referrals WHERE id = '{referral_id}'")
    async with referrals.runtime.database.transaction() as session:
        await session.execute(text("UPDATE interviews SET held_at = held_at + interval '1000 days'"))

    export = await referrals.get("iscg-95", f"/v1/referrals/{referral_id}/persons/{victim}/export", "persons_rights")

    assert export.json()["kept_until"][:4] == str(accepted.accepted_at.year + 2)


async def assess(referrals: Referrals, referral_id: UUID, known: str, *, place: int = 0) -> str:
    person = (await referrals.persons(referral_id))[place]
    body = {"person_id": person, "needs": ["rights"], "known_to_services": known}
    answer = await referrals.post("iscg-95", f"/v1/referrals/{referral_id}/assessments", body)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


async def withdraw_assessment(
    referrals: Referrals, referral_id: UUID, assessment_id: str, who: str = "iscg-95", **why: str
) -> httpx.Response:
    address = f"/v1/referrals/{referral_id}/assessments/{assessment_id}/withdraw"
    return await referrals.post(who, address, {"reason": "other_person"} | why)


async def known(referrals: Referrals, referral_id: UUID) -> str:
    return str((await referrals.read_as("iscg-95", referral_id))["people"][0]["known_to_services"])


async def test_an_assessment_noted_by_mistake_is_withdrawn_once_stays_in_sight_and_is_told(referrals: Referrals) -> None:
    referral_id, other = await referrals.accepted(), await referrals.accepted()
    [victim, _] = await referrals.persons(referral_id)
    before = await known(referrals, referral_id)
    await noted(referrals, referral_id)
    made = await assess(referrals, referral_id, "known")
    await referrals.said()

    assert (await withdraw_assessment(referrals, other, made)).status_code == 404
    assert (await withdraw_assessment(referrals, referral_id, made, "iscg-78")).status_code == 404
    assert (await withdraw_assessment(referrals, referral_id, made, "coordinator-95")).status_code == 403
    assert (await withdraw_assessment(referrals, referral_id, made, reason="regret")).status_code == 422
    answer = await withdraw_assessment(referrals, referral_id, made)
    again = await withdraw_assessment(referrals, referral_id, made)

    found = await referrals.read_as("iscg-95", referral_id)
    assert answer.status_code == 200, answer.text
    assert answer.json() == {
        "id": made,
        "referral_id": str(referral_id),
        "person_id": str(victim),
        "known_to_services": before,
        "version": found["version"],
    }
    assert (again.status_code, kind_of(again)) == (409, "assessment-withdrawn-already")
    [kept] = found["assessments"]
    assert (kept["id"], kept["withdrawn_because"], kept["withdrawn_at"] is not None) == (made, "other_person", True)
    assert found["people"][0]["known_to_services"] == before
    [(type, data)] = await referrals.said()
    assert (type, data["assessment_id"], data["person_id"], data["known_to_services"]) == (
        "assessment.withdrawn",
        made,
        str(victim),
        before,
    )
    timeline = (await referrals.get("iscg-95", f"/v1/referrals/{referral_id}/timeline", CONTENT)).json()["items"]
    assert [(one["id"], one["reason"]) for one in timeline if one["step"] == "assessment_withdrawn"] == [(made, "other_person")]
    export = (await referrals.get("iscg-95", f"/v1/referrals/{referral_id}/persons/{victim}/export", "persons_rights")).json()
    assert [one["withdrawn_because"] for one in export["assessments"]] == ["other_person"]


async def test_whether_services_know_the_person_is_what_it_would_be_had_the_assessment_never_been_noted(referrals: Referrals) -> None:
    referral_id = await referrals.accepted()
    before = await known(referrals, referral_id)
    await noted(referrals, referral_id)
    first, second, third = [await assess(referrals, referral_id, said) for said in ("known", "unknown", "known")]
    learnt = []

    for one in (first, third, second):
        assert (await withdraw_assessment(referrals, referral_id, one)).status_code == 200
        learnt.append(await known(referrals, referral_id))

    assert before == "not_known_whether"
    assert learnt == ["known", "unknown", before]


async def test_what_a_correction_said_since_outlives_the_assessment_that_is_withdrawn(referrals: Referrals) -> None:
    referral_id = await referrals.accepted()
    [victim, _] = await referrals.persons(referral_id)
    await noted(referrals, referral_id)
    made = await assess(referrals, referral_id, "known")
    right = {"reason": "learned", "persons": [{"person_id": victim, "known_to_services": "unknown"}]}
    assert (await referrals.move("iscg-95", referral_id, "corrections", right)).status_code == 201
    other = await assess(referrals, referral_id, "known")

    await withdraw_assessment(referrals, referral_id, other)
    corrected = await known(referrals, referral_id)
    await withdraw_assessment(referrals, referral_id, made)

    assert (corrected, await known(referrals, referral_id)) == ("unknown", "unknown")


async def test_what_was_known_before_an_assessment_of_an_earlier_version_is_not_invented(referrals: Referrals) -> None:
    """It did not keep what was known before it."""
    referral_id = await referrals.accepted()
    await noted(referrals, referral_id)
    made = await assess(referrals, referral_id, "known")
    async with referrals.runtime.database.transaction() as session:
        await session.execute(text("UPDATE assessments SET known_before = NULL"))

    await withdraw_assessment(referrals, referral_id, made)

    assert await known(referrals, referral_id) == "not_known_whether"


async def test_the_partner_reads_again_whether_the_person_is_known(referrals: Referrals) -> None:
    referral_id = await referrals.accepted()
    await noted(referrals, referral_id)
    made = await assess(referrals, referral_id, "known")
    repeated = await assess(referrals, referral_id, "known")
    asked = str((await referrals.orient(referral_id)).json()["id"])
    await referrals.said()

    for one in (repeated, made):
        await withdraw_assessment(referrals, referral_id, one)

    assert await referrals.said_types() == ["assessment.withdrawn", "assessment.withdrawn", "orientation.updated"]
    read = (await referrals.get("partner-95", f"/v1/orientations/{asked}", "orientation")).json()
    assert (read["version"], read["person"]["known_to_services"]) == (2, "not_known_whether")


async def test_a_contact_on_which_an_assessment_rests_is_withdrawn_only_once_the_assessment_is(referrals: Referrals) -> None:
    referral_id = await referrals.accepted()
    contact_id = await noted(referrals, referral_id)
    made = await assess(referrals, referral_id, "known")

    before = await withdraw(referrals, referral_id, contact_id)
    await withdraw_assessment(referrals, referral_id, made)
    after = await withdraw(referrals, referral_id, contact_id)

    assert (before.status_code, kind_of(before), before.json()["assessment_id"]) == (409, "assessment-rests-on-it", made)
    assert after.status_code == 200


async def test_the_assessment_of_who_was_erased_since_is_withdrawn_without_their_name(referrals: Referrals) -> None:
    referral_id = await referrals.accepted()
    [victim, _] = await referrals.persons(referral_id)
    await noted(referrals, referral_id)
    made = await assess(referrals, referral_id, "known")
    await referrals.move("coordinator-95", referral_id, "erasures", {"person_ids": [victim]})
    await referrals.said()

    assert (await withdraw_assessment(referrals, referral_id, made)).status_code == 200

    [(type, data)] = await referrals.said()
    assert (type, data["person_id"]) == ("assessment.withdrawn", str(UUID(int=1)))


async def test_the_retention_does_not_count_from_an_assessment_that_was_withdrawn(referrals: Referrals) -> None:
    referral_id = await referrals.accepted()
    [victim, _] = await referrals.persons(referral_id)
    await noted(referrals, referral_id)
    await withdraw_assessment(referrals, referral_id, await assess(referrals, referral_id, "known"))
    await referrals.move("iscg-95", referral_id, "close", {"reason": "out_of_scope"})
    [accepted] = await referrals.rows(f"SELECT accepted_at FROM referrals WHERE id = '{referral_id}'")
    async with referrals.runtime.database.transaction() as session:
        await session.execute(text("UPDATE assessments SET recorded_at = recorded_at + interval '1000 days'"))

    export = await referrals.get("iscg-95", f"/v1/referrals/{referral_id}/persons/{victim}/export", "persons_rights")

    assert export.json()["kept_until"][:4] == str(accepted.accepted_at.year + 2)
