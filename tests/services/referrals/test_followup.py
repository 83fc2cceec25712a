"""Contacts by the safe-contact rules, interviews, assessments, transfer, timeline: every rule a sentence."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import text

from libs.contracts import demonstration as d
from libs.contracts.types import PARIS
from libs.contracts.vocabularies import ContactMode, ContactResult
from services.referrals.schemas import ContactWindow, SafeContact
from services.referrals.working.followup_schemas import Step, TimelineEntry
from services.referrals.working.safe_contact import broken_rules, within
from services.referrals.working.timeline import place_of
from tests.services.referrals.conftest import CONTENT, Referrals
from tests.services.referrals.test_corrections import correct

WEEKDAYS = ContactWindow(days=[1, 2, 3, 4, 5], begins="09:00", ends="16:00")
NIGHTS = ContactWindow(days=[7], begins="22:00", ends="02:00")


@pytest.mark.parametrize(
    ("at", "windows", "safe"),
    [
        ("2026-11-23T08:00+00:00", [WEEKDAYS], True),  # Monday, 9:00 in Paris in winter
        ("2026-11-23T07:59+00:00", [WEEKDAYS], False),
        ("2026-07-13T07:00+00:00", [WEEKDAYS], True),  # Monday, 9:00 in Paris in summer
        ("2026-07-13T14:00+00:00", [WEEKDAYS], False),  # 16:00: the end is not in it
        ("2026-11-22T10:00+00:00", [WEEKDAYS], False),  # Sunday
        ("2026-11-22T22:00+00:00", [NIGHTS], True),  # Sunday, 23:00
        ("2026-11-23T00:30+00:00", [NIGHTS], True),  # Monday, 1:30: Sunday's night
        ("2026-11-23T01:00+00:00", [NIGHTS], False),
        ("2026-11-24T00:30+00:00", [NIGHTS], False),  # Tuesday, 1:30
    ],
)
def test_an_hour_is_safe_by_the_clock_of_paris(at: str, windows: list[ContactWindow], safe: bool) -> None:
    assert within(windows, datetime.fromisoformat(at)) is safe


@given(st.integers(0, 365 * 1440), st.integers(1, 7), st.integers(0, 23), st.integers(0, 23))
def test_a_window_and_the_rest_of_its_week_never_overlap(minute: int, day: int, begins: int, ends: int) -> None:
    at = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=minute)
    window = ContactWindow(days=[day], begins=f"{begins:02}:00", ends=f"{ends:02}:00")
    local = at.astimezone(PARIS)
    minutes = ((local.isoweekday() - day) % 7) * 1440 + local.hour * 60 + local.minute
    length = ((ends - begins) % 24 or 24) * 60

    assert within([window], at) is ((minutes - begins * 60) % (7 * 1440) < length)


RULES = SafeContact(
    modes=[ContactMode.PHONE, ContactMode.LETTER], windows=[WEEKDAYS], voicemail_allowed=False, text_allowed=False, read_by_others=True
)
MONDAY, SUNDAY = datetime(2026, 11, 23, 9, tzinfo=UTC), datetime(2026, 11, 22, 9, tzinfo=UTC)


@pytest.mark.parametrize(
    ("mode", "result", "at", "broken"),
    [
        (ContactMode.PHONE, ContactResult.REACHED, MONDAY, []),
        (ContactMode.PHONE, ContactResult.MESSAGE_LEFT, MONDAY, ["voicemail"]),
        (ContactMode.PHONE, ContactResult.REACHED, SUNDAY, ["hours"]),
        (ContactMode.TEXT, ContactResult.MESSAGE_LEFT, MONDAY, ["mode", "text"]),
        (ContactMode.LETTER, ContactResult.MESSAGE_LEFT, SUNDAY, []),
        (ContactMode.VISIT, ContactResult.NO_ANSWER, SUNDAY, ["mode", "hours"]),
        (ContactMode.IN_PERSON, ContactResult.REACHED, SUNDAY, []),
    ],
)
def test_a_contact_breaks_these_rules_of_the_person(mode: ContactMode, result: ContactResult, at: datetime, broken: list[str]) -> None:
    assert broken_rules(RULES, mode, result, at) == broken
    assert broken_rules(None, mode, result, at) == []


async def call(referrals: Referrals, referral_id: UUID, **changes: Any) -> httpx.Response:
    [victim, _] = await referrals.persons(referral_id)
    body = {"person_id": victim, "mode": "phone", "result": "reached", "attempted_at": "2026-11-23T08:00:00Z"}
    return await referrals.post("iscg-95", f"/v1/referrals/{referral_id}/contacts", body | changes)


@pytest.mark.parametrize(
    ("changes", "rules"),
    [
        ({"attempted_at": "2026-11-23T17:00:00Z"}, "hours"),
        ({"result": "message_left"}, "voicemail"),
        ({"mode": "text", "result": "message_left"}, "mode,text"),
    ],
)
async def test_a_forbidden_contact_is_refused_unless_overridden_and_the_override_is_kept_and_audited(
    referrals: Referrals, changes: dict[str, Any], rules: str
) -> None:
    referral_id = await referrals.accepted()
    await referrals.said()

    refused = await call(referrals, referral_id, **changes)
    nothing = await referrals.said()
    overridden = await call(referrals, referral_id, **changes, override_reason="immediate_danger")

    assert refused.status_code == 409
    assert refused.json()["rules"] == rules
    assert nothing == []
    assert overridden.status_code == 201
    assert overridden.json()["override_reason"] == "immediate_danger"
    [kept] = await referrals.rows("SELECT override_reason, overridden FROM contact_attempts")
    assert (kept.override_reason, ",".join(kept.overridden)) == ("immediate_danger", rules)
    [entry] = await referrals.rows("SELECT data FROM outbox WHERE stream = 'audit'")
    assert b'"operation":"override_safe_contact"' in entry.data
    assert b'"reason":"immediate_danger"' in entry.data


async def test_an_override_that_no_rule_needed_leaves_no_trace(referrals: Referrals) -> None:
    referral_id = await referrals.accepted()

    answer = await call(referrals, referral_id, override_reason="person_asked")

    assert answer.json()["override_reason"] is None
    assert await referrals.rows("SELECT 1 FROM outbox WHERE stream = 'audit'") == []


async def test_no_override_calls_a_person_who_refused(referrals: Referrals) -> None:
    persons = referrals.body()["persons"]
    persons[0]["agreement"] = "refused"
    referral_id = await referrals.accepted(persons=persons)

    answer = await call(referrals, referral_id, override_reason="immediate_danger")

    assert answer.json()["type"].endswith("person-refused-contact")


async def interview(referrals: Referrals, referral_id: UUID, persons: list[UUID], **changes: Any) -> httpx.Response:
    body = {"person_ids": persons, "place": "station", "duration_minutes": 50, "held_at": "2026-11-23T10:00:00Z"} | changes
    return await referrals.post("iscg-95", f"/v1/referrals/{referral_id}/interviews", body)


async def test_an_interview_comes_after_a_contact_and_is_said_with_its_persons(referrals: Referrals) -> None:
    referral_id = await referrals.accepted()
    persons = await referrals.persons(referral_id)

    early = await interview(referrals, referral_id, persons)
    await call(referrals, referral_id)
    half = await interview(referrals, referral_id, persons)
    await call(referrals, referral_id, person_id=persons[1], mode="in_person", agreement="accepted", attempted_at="2026-11-23T10:00:00Z")
    before = await interview(referrals, referral_id, persons, held_at="2026-11-23T09:59:00Z")
    await referrals.said()
    held = await interview(referrals, referral_id, persons)

    assert [one.json()["type"].rpartition("/")[2] for one in (early, half, before)] == ["no-contact-yet"] * 3
    assert held.status_code == 201
    [(type, data)] = await referrals.said()
    assert (type, data["person_ids"], data["place"], data["duration_minutes"]) == (
        "interview.held",
        [str(one) for one in persons],
        "station",
        50,
    )


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"person_ids": [str(d.VICTIM_78)]}, "/person_ids/0"),
        ({"person_ids": []}, "/person_ids"),
        ({"duration_minutes": 0}, "/duration_minutes"),
        ({"held_at": "2099-01-01T00:00:00Z"}, "/held_at"),
    ],
)
async def test_an_interview_that_cannot_be_is_refused_with_its_place(referrals: Referrals, changes: dict[str, Any], pointer: str) -> None:
    referral_id = await referrals.accepted()
    await call(referrals, referral_id)

    answer = await interview(referrals, referral_id, await referrals.persons(referral_id), **changes)

    assert answer.status_code == 422
    assert [one["pointer"] for one in answer.json()["errors"]] == [pointer]


@pytest.mark.parametrize(("place", "hour"), [("phone", "22:30"), ("home", "03:30")])
async def test_an_interview_by_phone_or_at_home_keeps_the_safe_contact_rules_unless_overridden(
    referrals: Referrals, place: str, hour: str
) -> None:
    referral_id = await referrals.accepted()
    [victim, _] = await referrals.persons(referral_id)
    await call(referrals, referral_id)
    at_night = {"place": place, "held_at": f"2026-11-24T{hour}:00Z"}

    refused = await interview(referrals, referral_id, [victim], **at_night)
    overridden = await interview(referrals, referral_id, [victim], **at_night, override_reason="immediate_danger")
    station = await interview(referrals, referral_id, [victim], held_at=at_night["held_at"])

    assert (refused.status_code, refused.json()["type"].rpartition("/")[2]) == (409, "unsafe-contact")
    assert "hours" in refused.json()["rules"]
    assert (overridden.status_code, station.status_code) == (201, 201)
    [entry] = await referrals.rows(
        "SELECT data FROM outbox WHERE stream = 'audit' AND position('override_safe_contact'::bytea in data) > 0"
    )
    assert f'"interview":"{overridden.json()["id"]}"'.encode() in bytes(entry.data)


@pytest.mark.parametrize("result", [None, "no_answer", "message_left", "wrong_contact"])
async def test_who_was_never_reached_was_neither_interviewed_nor_assessed(referrals: Referrals, result: str | None) -> None:
    [victim, man] = referrals.body()["persons"]
    referral_id = await referrals.accepted(persons=[victim, man])
    [_, other] = await referrals.persons(referral_id)
    await call(referrals, referral_id)  # the victim
    if result is not None:
        assert (await call(referrals, referral_id, person_id=other, result=result)).status_code == 201

    needs = {"person_id": other, "needs": ["rights"], "known_to_services": "known"}
    answers = [
        await interview(referrals, referral_id, [other]),
        await referrals.post("iscg-95", f"/v1/referrals/{referral_id}/assessments", needs),
    ]

    assert [one.json()["type"].rpartition("/")[2] for one in answers] == ["no-contact-yet"] * 2


async def test_a_minor_comes_with_whoever_was_reached_and_not_alone(referrals: Referrals) -> None:
    [adult, man] = referrals.body()["persons"]
    referral_id = await referrals.accepted(persons=[adult, man | {"role": "witness", "approximate_age": 9}])
    persons = [_, child] = await referrals.persons(referral_id)

    alone = await interview(referrals, referral_id, [child])
    await call(referrals, referral_id)
    together = await interview(referrals, referral_id, persons)

    assert (alone.status_code, together.status_code) == (409, 201)


async def test_no_contact_precedes_the_facts_and_the_earliest_is_the_first(referrals: Referrals) -> None:
    referral_id = await referrals.accepted()

    faked = await call(referrals, referral_id, attempted_at="1950-01-01T10:00:00Z")
    late = await call(referrals, referral_id, attempted_at="2026-11-23T10:00:00Z")
    early = await call(referrals, referral_id, attempted_at="2026-11-23T09:00:00Z")
    later = await call(referrals, referral_id, attempted_at="2026-11-23T11:00:00Z")

    assert faked.status_code == 422
    assert [one["pointer"] for one in faked.json()["errors"]] == ["/attempted_at"]
    assert [one.json()["first"] for one in (late, early, later)] == [True, True, False]
    assert (await referrals.read_as("iscg-95", referral_id))["first_contact_at"] == "2026-11-23T09:00:00.000000Z"


async def test_an_assessment_says_the_needs_and_corrects_whether_services_know_the_person(referrals: Referrals) -> None:
    referral_id = await referrals.accepted()
    [victim, _] = await referrals.persons(referral_id)
    await call(referrals, referral_id)
    await referrals.said()

    body = {"person_id": victim, "needs": ["protection", "rights"], "known_to_services": "known"}
    made = await referrals.post("iscg-95", f"/v1/referrals/{referral_id}/assessments", body)

    assert made.status_code == 201
    [(type, data)] = await referrals.said()
    assert (type, data["needs"], data["known_to_services"]) == ("assessment.recorded", ["protection", "rights"], "known")
    assert (await referrals.read_as("iscg-95", referral_id))["people"][0]["known_to_services"] == "known"


async def test_what_was_held_and_assessed_is_read_back_with_the_referral(referrals: Referrals) -> None:
    referral_id = await referrals.accepted()
    [victim, _] = await referrals.persons(referral_id)
    await call(referrals, referral_id)
    held = (await interview(referrals, referral_id, [victim])).json()
    body = {"person_id": victim, "needs": ["protection"], "known_to_services": "known"}
    assessed = (await referrals.post("iscg-95", f"/v1/referrals/{referral_id}/assessments", body)).json()
    asked = (await referrals.orient(referral_id)).json()

    found = await referrals.read_as("iscg-95", referral_id)

    assert found["interviews"] == [held]
    assert found["assessments"] == [assessed]
    assert [(one["id"], one["legal_ground"]) for one in found["orientations"]] == [(asked["id"], None)]


async def test_a_transferred_referral_belongs_to_the_other_post(referrals: Referrals) -> None:
    referral_id = await referrals.accepted()
    await referrals.said()

    same = await referrals.move("iscg-95", referral_id, "transfer", {"post_id": d.POST_CERGY})
    far = await referrals.move("iscg-95", referral_id, "transfer", {"post_id": d.POST_78})
    done = await referrals.move("iscg-95", referral_id, "transfer", {"post_id": d.POST_SARCELLES})

    assert (same.status_code, far.status_code, done.status_code) == (409, 422, 200)
    assert done.json()["status"] == "assigned"
    [(type, data)] = await referrals.said()
    assert (type, data["post_id"], data["reason"]) == ("referral.assigned", str(d.POST_SARCELLES), "transfer")
    assert (await referrals.get("iscg-95", f"/v1/referrals/{referral_id}", CONTENT)).status_code == 404


@pytest.mark.parametrize(
    ("step", "typed", "stands_at"),
    [
        (Step.CONTACT, "10:15:00", "10:15:40"),
        (Step.INTERVIEW, "10:15:40", "10:15:40"),
        (Step.ALERT, "10:14:00", "10:14:00"),  # a minute ago is before
        (Step.CONTACT, "10:16:00", "10:16:00"),  # by a clock that is ahead
        (Step.MOVED, "10:15:20", "10:15:20"),  # nobody types it
    ],
)
def test_what_was_noted_within_its_own_minute_stands_where_it_was_noted(step: Step, typed: str, stands_at: str) -> None:
    def at(hour: str) -> datetime:
        return datetime.fromisoformat(f"2026-11-23T{hour}+00:00")

    noted = UUID(int=int(at("10:15:40").timestamp() * 1000) << 80 | 7 << 76 | 2 << 62)
    entry = TimelineEntry(
        step=step,
        at=at(typed),
        id=noted,
        code=None,
        status=None,
        post_id=None,
        person_ids=[],
        reason=None,
        actor=None,
        actor_role=None,
        duplicate_of=None,
    )

    assert place_of(entry) == at(stands_at)


async def test_a_timeline_tells_every_step_in_order_and_nothing_personal(referrals: Referrals) -> None:
    referral_id = await referrals.accepted()
    persons = await referrals.persons(referral_id)
    await call(referrals, referral_id)
    await interview(referrals, referral_id, persons[:1])
    assessment = {"person_id": persons[0], "needs": ["rights"], "known_to_services": "known"}
    await referrals.post("iscg-95", f"/v1/referrals/{referral_id}/assessments", assessment)
    asked = (await referrals.orient(referral_id)).json()
    await referrals.answer("partner-95", asked["id"], "reject", {"reason": "no_capacity"})
    await referrals.move("iscg-95", referral_id, "close", {"reason": "completed"})

    answer = await referrals.get("iscg-95", f"/v1/referrals/{referral_id}/timeline", CONTENT)

    entries = answer.json()["items"]
    assert [entry["at"] for entry in entries] == sorted(entry["at"] for entry in entries)
    told = {(entry["step"], entry["code"], entry["status"], entry["reason"]) for entry in entries}
    assert told == {
        ("received", "intervention", "assigned", None),
        ("moved", "accept", "accepted", None),
        ("contact", "phone", None, "reached"),
        ("interview", "station", None, None),
        ("assessment", None, None, None),
        ("orientation_requested", "victim_support", None, None),
        ("orientation_rejected", "victim_support", None, "no_capacity"),
        ("moved", "close", "closed", "completed"),
    }
    for word in ("Exemple", "Camille", "+33639980001", "bibliothèque", "1991"):
        assert word not in answer.text
    assert (await referrals.get("iscg-78", f"/v1/referrals/{referral_id}/timeline", CONTENT)).status_code == 404
    assert (await referrals.get("iscg-95", f"/v1/referrals/{referral_id}/timeline")).status_code == 400


async def worked(referrals: Referrals) -> tuple[UUID, str]:
    """Everything that somebody notes or asks was noted, and withdrawn; gives the referral and its orientation."""
    referral_id = await referrals.accepted()
    persons = await referrals.persons(referral_id)
    contact = (await call(referrals, referral_id)).json()["id"]
    held = (await interview(referrals, referral_id, persons[:1])).json()["id"]
    assessment = {"person_id": persons[0], "needs": ["rights"], "known_to_services": "known"}
    made = (await referrals.post("iscg-95", f"/v1/referrals/{referral_id}/assessments", assessment)).json()["id"]
    asked = (await referrals.orient(referral_id)).json()["id"]
    await referrals.answer("partner-95", asked, "accept")
    await correct(referrals, referral_id, "coordinator-95", urgency="immediate")
    for kind, noted in (("assessments", made), ("interviews", held), ("contacts", contact)):
        withdrawn = await referrals.post("iscg-95", f"/v1/referrals/{referral_id}/{kind}/{noted}/withdraw", {"reason": "noted_twice"})
        assert withdrawn.status_code == 200, withdrawn.text
    return referral_id, asked


async def test_a_timeline_tells_who_did_each_step_and_in_which_role(referrals: Referrals) -> None:
    referral_id, _ = await worked(referrals)

    answer = await referrals.get("iscg-95", f"/v1/referrals/{referral_id}/timeline", CONTENT)

    told = {entry["step"]: (entry["actor"], entry["actor_role"]) for entry in answer.json()["items"]}
    steps = (
        "moved",
        "contact",
        "interview",
        "assessment",
        "orientation_requested",
        "contact_withdrawn",
        "interview_withdrawn",
        "assessment_withdrawn",
    )
    assert told == {
        "received": (None, None),
        "orientation_accepted": (None, "partner"),
        "correction": ("coordinator-95", "coordinator"),
        **dict.fromkeys(steps, ("iscg-95", "iscg")),
    }


async def test_who_did_it_stands_in_no_event_and_in_nothing_that_a_person_a_partner_or_the_police_reads(referrals: Referrals) -> None:
    referral_id, orientation_id = await worked(referrals)
    [person, _] = await referrals.persons(referral_id)

    told = [
        await referrals.get("iscg-95", f"/v1/referrals/{referral_id}/persons/{person}/export", "persons_rights"),
        await referrals.get("partner-95", f"/v1/orientations/{orientation_id}", "orientation"),
        await referrals.get("partner-95", "/v1/orientations"),
        await referrals.get("police-95", f"/v1/referral-statuses/{referral_id}"),
    ]

    assert [answer.status_code for answer in told] == [200] * 4
    rows = await referrals.rows("SELECT data FROM outbox WHERE stream <> 'audit'")
    assert len(rows) > 10
    for said in (*(answer.text for answer in told), *(bytes(row.data).decode() for row in rows)):
        for who in ("iscg-95", "coordinator-95", "actor"):
            assert who not in said


async def test_of_what_was_noted_before_authors_were_kept_nobody_is_told(referrals: Referrals) -> None:
    referral_id, _ = await worked(referrals)
    async with referrals.runtime.database.transaction() as session:
        for table in ("contact_attempts", "interviews", "assessments", "orientations"):
            await session.execute(text(f"UPDATE {table} SET actor = NULL, actor_role = NULL"))

    answer = await referrals.get("iscg-95", f"/v1/referrals/{referral_id}/timeline", CONTENT)

    told = {entry["step"]: (entry["actor"], entry["actor_role"]) for entry in answer.json()["items"]}
    assert {told[step] for step in ("contact", "interview", "assessment", "orientation_requested")} == {(None, None)}
