"""Whom a referral is there to help: their first contact ends its due time, their answers allow its closing, and the police is told of their being reached."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from libs.contracts import demonstration as d
from libs.contracts.units import police_id_of
from libs.contracts.vocabularies import ContactAgreement, ContactResult, PersonRole
from services.referrals.working.helping import Attempt, Concerned, awaits_contact, first_contact, to_help
from tests.services.referrals.conftest import CONTENT, MORNING, Referrals
from tests.services.referrals.test_delays import alerts, hours_pass
from tests.services.referrals.test_erasure import erase
from tests.services.referrals.test_police import told

pytestmark = pytest.mark.usefixtures("calm")

VICTIM, ACCUSED, WITNESS, CHILD, ADULT = (UUID(int=number) for number in range(1, 6))
ROLES = {
    VICTIM: PersonRole.VICTIM,
    ACCUSED: PersonRole.ALLEGED_PERPETRATOR,
    WITNESS: PersonRole.WITNESS,
    CHILD: PersonRole.VICTIM,
    ADULT: PersonRole.OTHER,
}


def persons(*ids: UUID, refused: tuple[UUID, ...] = (), erased: tuple[UUID, ...] = ()) -> list[Concerned]:
    said = {one: ContactAgreement.REFUSED if one in refused else ContactAgreement.ACCEPTED for one in ids}
    return [Concerned(one, ROLES[one], one == CHILD, said[one], one in erased) for one in ids]


def attempts(*ids: UUID) -> list[Attempt]:
    return [Attempt(one, ContactResult.NO_ANSWER, MORNING + timedelta(hours=place)) for place, one in enumerate(ids)]


TO_HELP: dict[str, tuple[list[Concerned], list[Attempt], list[UUID], bool]] = {
    "a victim before the alleged perpetrator": (persons(VICTIM, ACCUSED), attempts(ACCUSED), [VICTIM], True),
    "a victim who was called": (persons(VICTIM, ACCUSED), attempts(VICTIM), [VICTIM], False),
    "a victim before a witness": (persons(WITNESS, VICTIM), attempts(WITNESS), [VICTIM], True),
    "a witness before the alleged perpetrator": (persons(ACCUSED, WITNESS), attempts(ACCUSED), [WITNESS], True),
    "the alleged perpetrator alone": (persons(ACCUSED), attempts(ACCUSED), [ACCUSED], False),
    "the alleged perpetrator where the victim refused": (persons(VICTIM, ACCUSED, refused=(VICTIM,)), [], [ACCUSED], False),
    "a victim who refused when she was called": (persons(VICTIM, ACCUSED, refused=(VICTIM,)), attempts(VICTIM), [VICTIM], False),
    "a victim who was erased": (persons(VICTIM, ACCUSED, erased=(VICTIM,)), attempts(ACCUSED), [ACCUSED], False),
    "nobody but who refused": (persons(VICTIM, ACCUSED, refused=(VICTIM, ACCUSED)), [], [VICTIM], False),
    "a child, called through an adult of its side": (persons(CHILD, ACCUSED, ADULT), attempts(ADULT), [CHILD], False),
    "a child, called through another victim": (persons(CHILD, VICTIM), attempts(VICTIM), [CHILD, VICTIM], False),
    "a child, not called through a witness": (persons(CHILD, ACCUSED, WITNESS), attempts(WITNESS), [CHILD], True),
    "a child, not called through the alleged perpetrator": (persons(CHILD, ACCUSED), attempts(ACCUSED), [CHILD], True),
    "nobody at all": ([], [], [], True),
}


@pytest.mark.parametrize(("people", "made", "helped", "awaits"), TO_HELP.values(), ids=TO_HELP)
def test_a_referral_is_there_to_help_its_victims_first(people: Any, made: Any, helped: list[UUID], awaits: bool) -> None:
    assert [one.id for one in to_help(people, made)] == helped
    assert awaits_contact(people, made, None) is awaits
    assert (first_contact(people, made) is None) is (awaits or not made)


def joining(person: UUID, hours: float) -> list[Concerned]:
    """Of persons of whom one joined that many hours after the first attempt."""
    return [
        one._replace(joined_at=MORNING + timedelta(hours=hours)) if one.id == person else one
        for one in persons(VICTIM, CHILD, ACCUSED, ADULT)
    ]


JOINED = {
    "called themselves": (joining(VICTIM, 1), attempts(ADULT, VICTIM), False),
    "called themselves, noted for an hour before they joined": (joining(VICTIM, 9), attempts(ADULT, VICTIM), False),
    "not called": (joining(VICTIM, 1), attempts(CHILD, ADULT), True),
    "a child, called through an adult since": (joining(CHILD, 0.5), attempts(VICTIM, ADULT), False),
    "a child, whose mother was called before": (joining(CHILD, 0.5), attempts(VICTIM), True),
    "the alleged perpetrator": (joining(ACCUSED, 1), attempts(VICTIM), False),
    "whoever is no victim, where victims are": (joining(ADULT, 1), attempts(VICTIM), False),
}


@pytest.mark.parametrize(("people", "made", "awaits"), JOINED.values(), ids=JOINED)
def test_a_victim_who_joined_later_is_to_be_called_whoever_was_called_before(people: Any, made: Any, awaits: bool) -> None:
    assert awaits_contact(people, made, None) is awaits


async def call(referrals: Referrals, person_id: UUID, **changes: Any) -> dict[str, Any]:
    [row] = await referrals.rows(f"SELECT referral_id FROM persons WHERE id = '{person_id}'")
    now = datetime.now(UTC).isoformat().replace("+00:00", "Z")
    body = {"person_id": person_id, "mode": "phone", "result": "no_answer", "attempted_at": now}
    answer = await referrals.post("iscg-95", f"/v1/referrals/{row.referral_id}/contacts", body | changes)
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


BOTH: list[dict[str, Any]] = [
    {"role": "victim", "sex": "female", "agreement": "accepted"},
    {"role": "alleged_perpetrator", "sex": "male", "agreement": "accepted"},
]


async def test_a_call_to_the_alleged_perpetrator_alone_ends_no_delay_of_the_victim(referrals: Referrals) -> None:
    referral_id = await referrals.accepted(persons=BOTH)
    victim, accused = await referrals.persons(referral_id)

    other = await call(referrals, accused, result="reached")
    await hours_pass(referrals, 24)
    [late] = await alerts(referrals)
    own = await call(referrals, victim)

    assert (other["first"], late["referral_id"], own["first"]) == (False, str(referral_id), True)
    read = await referrals.read_as("iscg-95", referral_id)
    assert (read["awaits_contact"], read["overdue"], read["first_contact_at"] is not None) == (False, False, True)


async def test_no_reason_of_closing_rests_on_the_alleged_perpetrator_while_a_victim_who_agreed_was_never_called(
    referrals: Referrals,
) -> None:
    referral_id = await referrals.accepted(persons=[BOTH[0], BOTH[1] | {"agreement": "not_asked"}])
    victim, accused = await referrals.persons(referral_id)
    await call(referrals, accused, result="declined", agreement="refused")

    async def closes(reason: str) -> int:
        return (await referrals.move("iscg-95", referral_id, "close", {"reason": reason})).status_code

    before = [await closes(reason) for reason in ("declined_by_person", "unreachable", "completed", "contact_refused", "oriented")]
    await call(referrals, victim, result="reached")

    assert (before, await closes("completed")) == ([409] * 5, 200)


async def test_each_victim_who_agreed_was_called_before_a_closing_rests_on_the_answer_of_one(referrals: Referrals) -> None:
    referral_id = await referrals.accepted(persons=[BOTH[0], BOTH[0], BOTH[0] | {"agreement": "not_asked"}])
    first, second, _ = await referrals.persons(referral_id)
    await call(referrals, first, result="reached")

    before = await referrals.move("iscg-95", referral_id, "close", {"reason": "completed"})
    await call(referrals, second)
    unreachable = await referrals.move("iscg-95", referral_id, "close", {"reason": "unreachable"})
    after = await referrals.move("iscg-95", referral_id, "close", {"reason": "completed"})

    assert (before.status_code, before.json()["type"].rpartition("/")[2]) == (409, "close-reason-unfounded")
    assert (unreachable.status_code, after.status_code) == (409, 200)


async def test_no_adult_declines_for_a_child_but_who_was_reached_may_answer_for_it(referrals: Referrals) -> None:
    child = BOTH[0] | {"approximate_age": 9}
    referral_id = await referrals.accepted(persons=[child, {"role": "other", "sex": "female", "agreement": "accepted"}])
    _, adult = await referrals.persons(referral_id)
    await call(referrals, adult, result="declined")

    called = await referrals.read_as("iscg-95", referral_id)
    declined = await referrals.move("iscg-95", referral_id, "close", {"reason": "declined_by_person"})
    await call(referrals, adult, result="reached")
    reached = await referrals.move("iscg-95", referral_id, "close", {"reason": "completed"})

    assert called["awaits_contact"] is False
    assert (declined.status_code, reached.status_code) == (409, 200)


FAMILY: list[dict[str, Any]] = [BOTH[0], BOTH[0] | {"approximate_age": 9, "agreement": "not_asked"}]


async def closing(referrals: Referrals, referral_id: UUID, reason: str = "declined_by_person") -> str:
    answer = await referrals.move("iscg-95", referral_id, "close", {"reason": reason})
    return "closed" if answer.status_code == 200 else str(answer.json()["type"]).rpartition("/")[2]


@pytest.mark.parametrize("earlier", [[], ["no_answer"], ["reached"]])
async def test_what_a_mother_declines_for_herself_does_not_end_the_help_for_her_child(referrals: Referrals, earlier: list[str]) -> None:
    referral_id = await referrals.accepted(persons=FAMILY)
    mother, child = await referrals.persons(referral_id)
    for result in [*earlier, "declined"]:
        await call(referrals, mother, result=result)

    before = await closing(referrals, referral_id)
    await call(referrals, child, result="declined", agreement="accepted")

    assert (before, await closing(referrals, referral_id)) == ("close-reason-unfounded", "closed")


async def test_a_child_who_agreed_waits_for_a_call_after_its_mother_declined_whatever_the_reason_of_closing(referrals: Referrals) -> None:
    referral_id = await referrals.accepted(persons=[FAMILY[0], FAMILY[1] | {"agreement": "accepted"}])
    mother, _ = await referrals.persons(referral_id)
    await call(referrals, mother, result="declined")

    before = [await closing(referrals, referral_id, one) for one in ("declined_by_person", "completed", "oriented", "unreachable")]
    await call(referrals, mother, result="reached")

    assert (before, await closing(referrals, referral_id)) == (["close-reason-unfounded"] * 4, "closed")


@pytest.mark.parametrize("earlier", [[], ["no_answer"], ["reached"]])
async def test_a_mother_who_declined_for_herself_speaks_for_her_child_once_she_answers_again(
    referrals: Referrals, earlier: list[str]
) -> None:
    referral_id = await referrals.accepted(persons=FAMILY)
    mother, _ = await referrals.persons(referral_id)
    for result in [*earlier, "declined", "no_answer"]:
        await call(referrals, mother, result=result)

    before = [await closing(referrals, referral_id, one) for one in ("declined_by_person", "completed", "oriented", "unreachable")]
    for result in ("reached", "no_answer"):
        await call(referrals, mother, result=result)

    assert (before, await closing(referrals, referral_id, "completed")) == (["close-reason-unfounded"] * 4, "closed")


async def test_nothing_is_completed_for_a_child_whom_its_mother_left_when_she_declined(referrals: Referrals) -> None:
    referral_id = await referrals.accepted(persons=FAMILY)
    mother, child = await referrals.persons(referral_id)
    await call(referrals, mother, result="declined")

    before = await closing(referrals, referral_id, "completed")
    await call(referrals, child)

    assert (before, await closing(referrals, referral_id, "completed")) == ("close-reason-unfounded", "closed")


async def test_who_is_reported_in_danger_keeps_open_no_referral_that_the_others_declined(referrals: Referrals) -> None:
    referral_id = await referrals.accepted(persons=FAMILY)
    mother, child = await referrals.persons(referral_id)
    await call(referrals, mother, result="declined")
    sent = {"kind": "concerning_information", "person_ids": [child], "sent_at": datetime.now(UTC).isoformat()}
    noted = await referrals.post("iscg-95", f"/v1/referrals/{referral_id}/alerts", sent)
    alert = f"/v1/referrals/{referral_id}/alerts/{noted.json()['id']}"

    assert (await referrals.post("iscg-95", f"{alert}/withdraw", {"reason": "not_sent"})).status_code == 200
    before = await closing(referrals, referral_id)
    assert (await referrals.post("iscg-95", f"/v1/referrals/{referral_id}/alerts", sent)).status_code == 201

    assert (before, await closing(referrals, referral_id)) == ("close-reason-unfounded", "closed")


async def test_each_adult_declines_for_themselves_or_was_at_least_called(referrals: Referrals) -> None:
    referral_id = await referrals.accepted(persons=[BOTH[0], BOTH[0] | {"agreement": "not_asked"}])
    first, second = await referrals.persons(referral_id)
    await call(referrals, first, result="declined")

    before = await closing(referrals, referral_id)
    await call(referrals, second)

    assert (before, await closing(referrals, referral_id)) == ("close-reason-unfounded", "closed")


async def test_a_referral_of_which_everybody_refused_is_never_overdue_and_says_that_nobody_is_called(referrals: Referrals) -> None:
    refused = await referrals.accepted(persons=[BOTH[0] | {"agreement": "refused"}])
    later = await referrals.accepted(persons=[BOTH[0]])
    [person] = await referrals.persons(later)
    said = {"reason": "learned", "persons": [{"person_id": person, "agreement": "refused"}]}
    assert (await referrals.move("iscg-95", later, "corrections", said)).status_code == 201
    await hours_pass(referrals, 24)

    assert await alerts(referrals) == []
    assert [(await referrals.read_as("iscg-95", one))["awaits_contact"] for one in (refused, later)] == [False, False]
    assert (await referrals.get("iscg-95", "/v1/referrals", overdue="true")).json()["items"] == []
    assert (await referrals.get("iscg-95", "/v1/referral-counts")).json()["overdue"]["count"] == 0


async def test_a_refusal_of_the_victim_presses_nobody_to_call_the_alleged_perpetrator(referrals: Referrals) -> None:
    accused = BOTH[1] | {"agreement": "not_asked"}
    refused = await referrals.accepted(persons=[BOTH[0] | {"agreement": "refused"}, accused])
    later = await referrals.accepted(persons=[BOTH[0], accused])
    alone = await referrals.accepted(persons=[accused])
    victim, _ = await referrals.persons(later)
    said = {"reason": "learned", "persons": [{"person_id": victim, "agreement": "refused"}]}
    assert (await referrals.move("iscg-95", later, "corrections", said)).status_code == 201
    await hours_pass(referrals, 24)

    assert [(await referrals.read_as("iscg-95", one))["awaits_contact"] for one in (refused, later, alone)] == [False, False, True]
    assert [one["referral_id"] for one in await alerts(referrals)] == [str(alone)]


async def test_a_call_between_closing_and_reopening_ends_the_delay_of_the_reopening(referrals: Referrals) -> None:
    referral_id = await referrals.accepted(persons=BOTH)
    victim, _ = await referrals.persons(referral_id)
    await call(referrals, victim, result="reached")
    await referrals.move("iscg-95", referral_id, "close", {"reason": "completed"})
    called_back = datetime.now(UTC).isoformat().replace("+00:00", "Z")
    await referrals.move("iscg-95", referral_id, "reopen")
    waits = await referrals.read_as("iscg-95", referral_id)

    await call(referrals, victim, result="reached", attempted_at=called_back)
    await hours_pass(referrals, 24)

    assert (waits["awaits_contact"], (await referrals.read_as("iscg-95", referral_id))["awaits_contact"]) == (True, False)
    assert await alerts(referrals) == []


async def test_the_delay_of_a_victim_who_joins_when_nobody_was_waiting_begins_then(referrals: Referrals) -> None:
    called, waiting = await referrals.accepted(persons=BOTH[1:]), await referrals.accepted(persons=BOTH[1:])
    [accused] = await referrals.persons(called)
    await call(referrals, accused, result="reached")
    await hours_pass(referrals, 7 * 24)

    for referral_id in (called, waiting):
        assert (await referrals.move("iscg-95", referral_id, "corrections", {"reason": "learned", "added": BOTH[:1]})).status_code == 201
    at_once = await alerts(referrals)
    await hours_pass(referrals, 24)

    assert [one["referral_id"] for one in at_once] == [str(waiting)]  # the delay that passed before stays passed
    assert [one["referral_id"] for one in await alerts(referrals)] == [str(called)]


async def test_a_victim_who_joins_is_waited_for_though_another_was_called(referrals: Referrals) -> None:
    referral_id = await referrals.accepted(persons=BOTH)
    victim, _ = await referrals.persons(referral_id)
    await call(referrals, victim, result="reached")
    await hours_pass(referrals, 7 * 24)

    assert (await referrals.move("iscg-95", referral_id, "corrections", {"reason": "learned", "added": BOTH[:1]})).status_code == 201
    joined = await referrals.read_as("iscg-95", referral_id)
    at_once = await alerts(referrals)
    await hours_pass(referrals, 24)
    late = await alerts(referrals)
    [*_, other] = await referrals.persons(referral_id)
    await call(referrals, victim, result="reached")
    still = await referrals.read_as("iscg-95", referral_id)
    await call(referrals, other)

    assert (joined["awaits_contact"], joined["overdue"], at_once) == (True, False, [])
    assert [one["referral_id"] for one in late] == [str(referral_id)]
    assert (still["awaits_contact"], still["overdue"]) == (True, True)
    assert (await referrals.read_as("iscg-95", referral_id))["awaits_contact"] is False


async def test_a_first_contact_of_another_does_not_end_the_wait_for_who_joined_before_it(referrals: Referrals) -> None:
    referral_id = await referrals.accepted(persons=BOTH)
    assert (await referrals.move("iscg-95", referral_id, "corrections", {"reason": "learned", "added": BOTH[:1]})).status_code == 201
    victim, _, joined = await referrals.persons(referral_id)

    await call(referrals, victim)
    [waits] = await referrals.rows(f"SELECT awaits_contact FROM referrals WHERE id = '{referral_id}'")
    await call(referrals, joined)

    [called] = await referrals.rows(f"SELECT awaits_contact FROM referrals WHERE id = '{referral_id}'")
    assert (waits.awaits_contact, called.awaits_contact) == (True, False)


async def test_who_agrees_after_all_is_to_be_called(referrals: Referrals) -> None:
    referral_id = await referrals.accepted(persons=[BOTH[0] | {"agreement": "refused"}])
    [person] = await referrals.persons(referral_id)
    await hours_pass(referrals, 24)

    said = {"reason": "learned", "persons": [{"person_id": person, "agreement": "accepted"}]}
    assert (await referrals.move("iscg-95", referral_id, "corrections", said)).status_code == 201

    assert [one["referral_id"] for one in await alerts(referrals)] == [str(referral_id)]


async def test_a_returning_person_has_a_target_from_the_reopening_on(referrals: Referrals) -> None:
    referral_id = await referrals.accepted(persons=BOTH)
    victim, _ = await referrals.persons(referral_id)
    await call(referrals, victim, result="reached")
    await referrals.move("iscg-95", referral_id, "close", {"reason": "completed"})
    await hours_pass(referrals, 100)

    assert (await referrals.move("iscg-95", referral_id, "reopen")).status_code == 200
    reopened = await referrals.read_as("iscg-95", referral_id)
    await hours_pass(referrals, 24)
    late = await alerts(referrals)
    again = await call(referrals, victim)

    assert (reopened["awaits_contact"], reopened["overdue"]) == (True, False)
    assert [one["referral_id"] for one in late] == [str(referral_id)]
    assert (again["first"], (await referrals.read_as("iscg-95", referral_id))["overdue"]) == (False, False)


async def test_roles_that_were_mistaken_start_the_delay_of_who_is_the_victim(referrals: Referrals) -> None:
    referral_id = await referrals.accepted(persons=BOTH)
    taken_for_victim, real = await referrals.persons(referral_id)
    await call(referrals, taken_for_victim, result="reached")
    roles = [{"person_id": taken_for_victim, "role": "alleged_perpetrator"}, {"person_id": real, "role": "victim"}]

    assert (await referrals.move("iscg-95", referral_id, "corrections", {"reason": "mistake", "persons": roles})).status_code == 201
    await hours_pass(referrals, 24)

    assert [one["referral_id"] for one in await alerts(referrals)] == [str(referral_id)]


async def test_a_correction_of_roles_tells_which_contact_is_the_first_now(referrals: Referrals) -> None:
    referral_id = await referrals.accepted(persons=BOTH)
    taken_for_victim, real = await referrals.persons(referral_id)
    made = await call(referrals, taken_for_victim, result="reached")
    await referrals.said()

    async def corrected(first: str, second: str) -> Any:
        roles = [{"person_id": taken_for_victim, "role": first}, {"person_id": real, "role": second}]
        assert (await referrals.move("iscg-95", referral_id, "corrections", {"reason": "mistake", "persons": roles})).status_code == 201
        [(_, said)] = await referrals.said()
        at, delay = said["first_attempted_at"], said["delay_minutes"]
        assert said["contact_attempted"] is (at is not None)
        return datetime.fromisoformat(at) if at else None, delay

    away = await corrected("alleged_perpetrator", "victim")
    back = await corrected("victim", "alleged_perpetrator")

    assert (away, back) == ((None, None), (datetime.fromisoformat(made["attempted_at"]), made["delay_minutes"]))


@pytest.mark.parametrize("mistake", ["role", "contact"])
async def test_a_delay_that_turns_out_to_have_passed_before_the_first_contact_is_said_once_with_no_mail(
    referrals: Referrals, mistake: str
) -> None:
    referral_id = await referrals.accepted(persons=[BOTH[0], BOTH[0]])
    mistaken, called_late = await referrals.persons(referral_id)
    first = await call(referrals, mistaken)
    await hours_pass(referrals, 30)  # of 24
    await call(referrals, called_late)
    before = await alerts(referrals)
    mails = len(await referrals.rows("SELECT kind FROM notices WHERE kind = 'overdue_referral'"))

    if mistake == "role":
        roles = {"reason": "mistake", "persons": [{"person_id": mistaken, "role": "alleged_perpetrator"}]}
        assert (await referrals.move("iscg-95", referral_id, "corrections", roles)).status_code == 201
    else:
        withdrawn = await referrals.post(
            "iscg-95", f"/v1/referrals/{referral_id}/contacts/{first['id']}/withdraw", {"reason": "other_referral"}
        )
        assert withdrawn.status_code == 200, withdrawn.text
    told = await referrals.said()
    again = {"reason": "learned", "urgency": "standard"}
    assert (await referrals.move("iscg-95", referral_id, "corrections", again)).status_code == 201

    [row] = await referrals.rows("SELECT due_at, first_contact_at FROM referrals")
    [late] = [data for type, data in told if type == "referral.overdue"]
    assert before == []
    assert (datetime.fromisoformat(late["due_at"]), row.due_at < row.first_contact_at) == (row.due_at, True)
    assert await alerts(referrals) == []
    assert len(await referrals.rows("SELECT kind FROM notices WHERE kind = 'overdue_referral'")) == mails
    timeline = (await referrals.get("iscg-95", f"/v1/referrals/{referral_id}/timeline", CONTENT)).json()["items"]
    assert [one["step"] for one in timeline].count("overdue") == 1


@pytest.mark.parametrize("called_before", [False, True])
async def test_who_turns_out_to_be_a_victim_after_another_was_called_waits_from_then_on_unless_they_were_called(
    referrals: Referrals, called_before: bool
) -> None:
    referral_id = await referrals.accepted(persons=[BOTH[0], BOTH[1] | {"role": "witness"}])
    victim, witness = await referrals.persons(referral_id)
    for person in (victim, witness) if called_before else (victim,):
        await call(referrals, person, result="reached")

    roles = {"reason": "learned", "persons": [{"person_id": witness, "role": "victim"}]}
    assert (await referrals.move("coordinator-95", referral_id, "corrections", roles)).status_code == 201
    waits = await referrals.read_as("iscg-95", referral_id)
    [row] = await referrals.rows("SELECT r.due_from, r.received_at, p.joined_at FROM referrals r JOIN persons p ON p.joined_at IS NOT NULL")
    await hours_pass(referrals, 24)
    late = await alerts(referrals)
    await call(referrals, witness)

    assert (waits["awaits_contact"], len(late)) == ((False, 0) if called_before else (True, 1))
    assert row.due_from == (row.received_at if called_before else row.joined_at)
    assert (await referrals.read_as("iscg-95", referral_id))["awaits_contact"] is False


async def test_the_departement_knows_by_its_id_a_contact_that_is_said_again_or_withdrawn(referrals: Referrals) -> None:
    referral_id = await referrals.accepted(persons=BOTH)
    mistaken, real = await referrals.persons(referral_id)
    made = await call(referrals, real, result="reached")
    roles = [{"person_id": mistaken, "role": "alleged_perpetrator"}, {"person_id": real, "role": "victim"}]
    assert (await referrals.move("iscg-95", referral_id, "corrections", {"reason": "mistake", "persons": roles})).status_code == 201
    withdrawn = f"/v1/referrals/{referral_id}/contacts/{made['id']}/withdraw"
    assert (await referrals.post("iscg-95", withdrawn, {"reason": "not_done"})).status_code == 200

    contacts = [(type, data.get("contact_id")) for type, data in await told(referrals, "departement:95") if type.startswith("contact.")]

    assert contacts == [(type, made["id"]) for type in ("contact.attempted", "contact.attempted", "contact.withdrawn")]


STEPS = {
    "referral.received": "received",
    "referral.unrouted": "received",
    "referral.assigned": "assigned",
    "referral.accepted": "accepted",
    "contact.attempted": "contacted",
    "contact.withdrawn": "accepted",
    "referral.closed": "closed",
    "referral.reopened": "accepted",
}


async def seen(referrals: Referrals, referral_id: UUID) -> tuple[str, str]:
    """By the list, and by the last step of the stream."""
    listed = (await referrals.get("police-95", f"/v1/referral-statuses/{referral_id}")).json()["status"]
    rows = await referrals.rows(f"SELECT type, data FROM outbox WHERE stream = 'police:{police_id_of('police-95')}' ORDER BY position")
    told = [row.type.removeprefix("fr.maillon.").removesuffix(".v1") for row in rows if str(referral_id) in json.loads(row.data).values()]
    return listed, STEPS[told[-1]]


async def test_the_list_and_the_stream_of_the_police_agree_and_never_fall_back_whoever_has_the_referral(referrals: Referrals) -> None:
    referral_id = await referrals.accepted(persons=BOTH)
    victim, accused = await referrals.persons(referral_id)
    steps = []

    async def note(expected: str) -> None:
        steps.append((await seen(referrals, referral_id), (expected, expected)))

    await call(referrals, accused, result="reached")
    await call(referrals, victim)
    await note("accepted")
    contact = await call(referrals, victim, result="reached")
    await note("contacted")
    for post in (d.POST_SARCELLES, d.POST_CERGY):
        await referrals.move("coordinator-95", referral_id, "assign", {"post_id": post})
        await note("contacted")
    await referrals.move("iscg-95", referral_id, "decline", {"reason": "overloaded"})
    await note("contacted")
    await referrals.move("coordinator-95", referral_id, "assign", {"post_id": d.POST_CERGY})
    await referrals.move("iscg-95", referral_id, "accept")
    await note("contacted")
    await referrals.post("iscg-95", f"/v1/referrals/{referral_id}/contacts/{contact['id']}/withdraw", {"reason": "not_done"})
    await note("accepted")
    await call(referrals, victim, result="reached")
    await referrals.move("iscg-95", referral_id, "close", {"reason": "completed"})
    await note("closed")
    await referrals.move("iscg-95", referral_id, "reopen")
    await note("accepted")
    await call(referrals, victim, result="reached")
    await note("contacted")

    assert [found for found, _ in steps] == [expected for _, expected in steps]


async def test_who_comes_by_themselves_is_met_whatever_their_rules_say_of_calls(referrals: Referrals) -> None:
    rules = {"modes": ["phone"], "windows": [], "voicemail_allowed": False, "text_allowed": False, "read_by_others": True}
    referral_id = await referrals.accepted(persons=[BOTH[0] | {"safe_contact": rules}])
    [person] = await referrals.persons(referral_id)

    met = await call(referrals, person, mode="in_person", result="reached")
    visit = await referrals.post(
        "iscg-95",
        f"/v1/referrals/{referral_id}/contacts",
        {"person_id": person, "mode": "visit", "result": "no_answer", "attempted_at": met["attempted_at"]},
    )

    assert met["override_reason"] is None
    assert (visit.status_code, visit.json()["rules"]) == (409, "mode")


async def test_an_erasure_that_makes_a_call_to_another_the_first_contact_is_counted_and_the_police_is_never_told(
    referrals: Referrals,
) -> None:
    referral_id = await referrals.accepted(persons=BOTH, danger=False)
    victim, accused = await referrals.persons(referral_id)
    await call(referrals, accused, result="reached")
    await referrals.said()

    await erase(referrals, referral_id, [victim])
    said = await referrals.said()
    for corrected in ({"urgency": "immediate"}, {"persons": [{"person_id": str(accused), "sex": "unknown"}]}):
        answer = await referrals.move("iscg-95", referral_id, "corrections", {"reason": "learned"} | corrected)
        assert answer.status_code == 201, answer.text

    assert [(type, data.get("contact_attempted")) for type, data in said] == [("referral.erased", None), ("referral.corrected", True)]
    assert said[1][1]["first_attempted_at"] is not None
    assert await referrals.said_types() == ["referral.corrected", "referral.corrected"]
    status = (await referrals.get("police-95", f"/v1/referral-statuses/{referral_id}")).json()
    assert status["status"] == "accepted"


async def test_the_erasure_of_everybody_changes_no_first_contact(referrals: Referrals) -> None:
    referral_id = await referrals.accepted(persons=BOTH)
    await call(referrals, (await referrals.persons(referral_id))[1], result="reached")
    await referrals.said()

    await erase(referrals, referral_id, await referrals.persons(referral_id))

    assert await referrals.said_types() == ["referral.closed", "referral.erased"]
    assert [row.first_contact_at for row in await referrals.rows("SELECT first_contact_at FROM referrals")] == [None]
