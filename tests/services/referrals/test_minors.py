"""A minor without rules of their own is reached by those of the adults through whom they are called: everywhere, and told to nobody as that adult's."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import httpx
import pytest

from libs.contracts import demonstration as d
from libs.contracts.vocabularies import ContactMode
from services.referrals.orientations.links import Links
from services.referrals.schemas import ContactWindow, SafeContact
from services.referrals.working import applied
from services.referrals.working.safe_contact import strictest, within
from tests.planted import seen_red
from tests.services.referrals.conftest import Referrals
from tests.services.referrals.test_erasure import erase
from tests.services.referrals.test_links import answers_by_link, link
from tests.services.referrals.test_orientations import CALM, PARTNER, told_at_once, wishes
from tests.services.referrals.test_reach import read

RULES: dict[str, Any] = {
    "modes": ["phone"],
    "windows": [],
    "voicemail_allowed": False,
    "text_allowed": False,
    "read_by_others": True,
    "code_word": "tournesol",
    "note": "Demander Madame Exemple.",
}
APPLIED = RULES | {"code_word": None, "note": None}
NAME = {"family_name": "Exemple", "given_name": "Camille"}
MOTHER = {
    "role": "other",
    "sex": "female",
    "agreement": "accepted",
    "identity": NAME,
    "contact": {"phones": ["+33639980001"]},
    "safe_contact": RULES,
}
CHILD = {"role": "victim", "sex": "female", "agreement": "accepted", "approximate_age": 8}
ACCUSED = {"role": "alleged_perpetrator", "sex": "male", "agreement": "not_asked", "safe_contact": RULES | {"modes": ["letter"]}}


async def family(referrals: Referrals, *persons: dict[str, Any], **said: Any) -> tuple[UUID, list[UUID]]:
    referral_id = await referrals.accepted(persons=list(persons), **said)
    return referral_id, await referrals.persons(referral_id)


async def send_text(referrals: Referrals, referral_id: UUID, person: UUID, **changes: Any) -> httpx.Response:
    body = {"person_id": person, "mode": "text", "result": "message_left", "attempted_at": "2026-11-24T10:00:00Z"} | changes
    return await referrals.post("iscg-95", f"/v1/referrals/{referral_id}/contacts", body)


async def correct(referrals: Referrals, referral_id: UUID, person: UUID, **changed: Any) -> httpx.Response:
    said = {"reason": "learned", "persons": [{"person_id": person} | changed]}
    return await referrals.move("iscg-95", referral_id, "corrections", said)


async def rules_of(referrals: Referrals, referral_id: UUID, person: UUID) -> tuple[Any, Any]:
    people = (await referrals.read_as("iscg-95", referral_id))["people"]
    return next((one["safe_contact"], one["safe_contact_of"]) for one in people if one["id"] == str(person))


async def test_a_text_to_a_child_is_refused_as_one_to_the_mother_and_made_with_a_reason_that_is_audited(referrals: Referrals) -> None:
    referral_id, [mother, child] = await family(referrals, MOTHER, CHILD)
    await referrals.said()

    to_mother = await send_text(referrals, referral_id, mother)
    to_child = await send_text(referrals, referral_id, child)
    [before] = await referrals.rows("SELECT first_contact_at FROM referrals")
    overridden = await send_text(referrals, referral_id, child, override_reason="immediate_danger")

    assert to_mother.status_code == 409
    assert to_child.status_code == 409, "a text reached the child"
    assert to_child.json()["type"].endswith("unsafe-contact")
    assert to_child.json()["rules"] == "mode,text"
    assert before.first_contact_at is None
    assert (overridden.status_code, overridden.json()["override_reason"]) == (201, "immediate_danger")
    [entry] = await referrals.rows("SELECT data FROM outbox WHERE stream = 'audit'")
    assert b'"operation":"override_safe_contact"' in entry.data


async def test_planted_a_child_reached_past_the_mother_is_seen(referrals: Referrals, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(applied, "_is_called_through_adults", lambda _: False)

    proof = test_a_text_to_a_child_is_refused_as_one_to_the_mother_and_made_with_a_reason_that_is_audited(referrals)
    await seen_red(proof, "a text reached the child")


REACHED: dict[str, tuple[list[dict[str, Any]], int]] = {
    "by the rules of another victim": ([CHILD, MOTHER | {"role": "victim"}], 409),
    "by those of an adult who refuses for herself": ([CHILD, MOTHER | {"agreement": "refused"}], 409),
    "by their own where they have some": ([CHILD | {"safe_contact": RULES | {"modes": ["text"], "text_allowed": True}}, MOTHER], 201),
    "not by those of a witness, who may be the neighbour": ([CHILD, MOTHER | {"role": "witness"}], 201),
    "not by those of an alleged perpetrator": ([CHILD, ACCUSED], 201),
    "not by those of another minor": ([CHILD, CHILD | {"safe_contact": RULES}], 201),
    "not where they are accused themselves": ([CHILD | {"role": "alleged_perpetrator"}, MOTHER], 201),
    "an adult by nobody else's": ([CHILD | {"approximate_age": 40}, MOTHER], 201),
}


@pytest.mark.parametrize(("people", "status"), REACHED.values(), ids=REACHED)
async def test_whose_rules_a_minor_is_reached_by(referrals: Referrals, people: list[dict[str, Any]], status: int) -> None:
    referral_id, [person, _] = await family(referrals, *people)

    answer = await send_text(referrals, referral_id, person)

    assert answer.status_code == status, answer.text


async def test_an_interview_of_a_child_at_home_keeps_the_hours_of_the_mother(referrals: Referrals) -> None:
    hours = RULES | {"modes": ["phone", "visit"], "windows": [{"days": [1, 2, 3, 4, 5], "begins": "09:00", "ends": "16:00"}]}
    referral_id, [mother, child] = await family(referrals, MOTHER | {"safe_contact": hours}, CHILD)
    reached = await send_text(referrals, referral_id, mother, mode="phone", result="reached")
    assert reached.status_code == 201, reached.text
    held = {"person_ids": [child], "place": "home", "duration_minutes": 50}

    at_night, by_day = [
        await referrals.post("iscg-95", f"/v1/referrals/{referral_id}/interviews", held | {"held_at": at})
        for at in ("2026-11-24T20:00:00Z", "2026-11-24T11:00:00Z")
    ]

    assert (at_night.status_code, at_night.json()["rules"], by_day.status_code) == (409, "hours", 201)


async def test_the_rules_by_which_a_child_is_reached_are_read_without_what_names_the_adult(referrals: Referrals) -> None:
    referral_id, [mother, child, accused] = await family(referrals, MOTHER, CHILD, ACCUSED)

    assert await rules_of(referrals, referral_id, mother) == (RULES, "person")
    assert await rules_of(referrals, referral_id, child) == (APPLIED, "adults")
    assert await rules_of(referrals, referral_id, accused) == (ACCUSED["safe_contact"], "person")


async def orient(referrals: Referrals, referral_id: UUID, person: UUID) -> str:
    body = {"person_id": person, "service_id": d.VICTIM_SUPPORT_SERVICE, "need": "victim_support"}
    answer = await referrals.post("iscg-95", f"/v1/referrals/{referral_id}/orientations", body)
    assert answer.status_code == 201, answer.text
    await referrals.said()
    return str(answer.json()["id"])


async def test_the_partner_of_a_child_reads_them_and_nothing_else_of_the_adult(referrals: Referrals) -> None:
    referral_id, [_, child] = await family(referrals, MOTHER, CHILD)
    asked = await orient(referrals, referral_id, child)

    found = await read(referrals, asked)
    _, path = await link(referrals, orientation=asked)
    shown = (await referrals.client.get(path)).text

    person = found.json()["person"]
    assert (person["safe_contact"], person["safe_contact_of"]) == (APPLIED, "adults")
    assert "Seuls moyens permis : Téléphone" in shown
    assert "des adultes par qui ce mineur est appelé" in shown
    for secret in ("tournesol", "Exemple", "Camille", "+33639980001"):
        assert secret not in found.text
        assert secret not in shown


async def test_a_partner_asked_on_a_legal_ground_reads_them_of_a_child_who_refuses(referrals: Referrals) -> None:
    referral_id, [_, child] = await family(referrals, MOTHER, CHILD | {"agreement": "not_asked"})
    body = {"person_id": child, "service_id": d.VICTIM_SUPPORT_SERVICE, "need": "victim_support", "legal_ground": "minor_in_danger"}
    asked = (await referrals.post("iscg-95", f"/v1/referrals/{referral_id}/orientations", body)).json()["id"]
    assert (await correct(referrals, referral_id, child, agreement="refused")).status_code == 201

    found = await referrals.get("partner-95", f"/v1/orientations/{asked}", "orientation")

    person = found.json()["person"]
    assert (person["safe_contact"], person["safe_contact_of"]) == (APPLIED, "adults")


CORRECTED: dict[str, dict[str, Any]] = {
    "her rules": {"safe_contact": RULES | {"modes": ["letter"]}},
    "that she has none": {"safe_contact": None},
    "that she is a witness": {"role": "witness"},
}


@pytest.mark.parametrize("changed", CORRECTED.values(), ids=CORRECTED)
async def test_what_is_corrected_of_the_mother_is_read_again_by_the_partner_of_the_child(
    referrals: Referrals, changed: dict[str, Any]
) -> None:
    await wishes(referrals, PARTNER, mode="digest")
    referral_id, [mother, child] = await family(referrals, MOTHER, CHILD, **CALM)
    asked = await orient(referrals, referral_id, child)

    assert (await correct(referrals, referral_id, mother, **changed)).status_code == 201

    [_, (type, data)] = await referrals.said()
    assert (type, data["changed"]) == ("orientation.updated", ["contact"])
    assert await told_at_once(referrals) == [(PARTNER, "orientation_updated")]
    assert (await read(referrals, asked)).json()["version"] == 2


async def test_what_is_corrected_of_the_mother_otherwise_is_not_told_to_the_partner_of_the_child(referrals: Referrals) -> None:
    referral_id, [mother, child] = await family(referrals, MOTHER, CHILD)
    await orient(referrals, referral_id, child)

    for changed in ({"contact": None}, {"safe_contact": RULES | {"code_word": "jonquille", "note": None}}):
        assert (await correct(referrals, referral_id, mother, **changed)).status_code == 201

    assert await referrals.said_types() == ["referral.corrected"] * 2


async def test_a_mother_who_joins_with_rules_is_told_to_the_partner_of_the_child_who_answers_by_link(referrals: Referrals) -> None:
    await answers_by_link(referrals)
    referral_id, [child] = await family(referrals, CHILD)
    await orient(referrals, referral_id, child)

    answer = await referrals.move("iscg-95", referral_id, "corrections", {"reason": "learned", "added": [MOTHER]})

    assert answer.status_code == 201, answer.text
    [told] = await referrals.rows("SELECT link_id FROM notices WHERE kind = 'orientation_updated'")
    shown = await referrals.client.get(f"/reponse/{Links.of(referrals.runtime).token(told.link_id)}")
    assert "Seuls moyens permis : Téléphone" in shown.text


async def test_once_the_mother_is_erased_her_child_is_still_reached_as_she_said(referrals: Referrals) -> None:
    referral_id, [mother, child] = await family(referrals, MOTHER, CHILD)
    asked = await orient(referrals, referral_id, child)
    before = await read(referrals, asked)

    await erase(referrals, referral_id, [mother])

    assert (await send_text(referrals, referral_id, child)).status_code == 409
    assert await rules_of(referrals, referral_id, child) == (APPLIED, "person")
    assert (await read(referrals, asked)).json()["person"]["safe_contact"] == before.json()["person"]["safe_contact"]


async def test_rules_of_two_adults_hold_together(referrals: Referrals) -> None:
    evenings = RULES | {"modes": ["phone", "letter"], "windows": [{"days": [1], "begins": "18:00", "ends": "20:00"}]}
    referral_id, [child, _, _] = await family(referrals, CHILD, MOTHER, MOTHER | {"safe_contact": evenings})

    found, whose = await rules_of(referrals, referral_id, child)

    assert (found["modes"], found["windows"], whose) == (["phone"], evenings["windows"], "adults")


def rules(
    *windows: tuple[list[int], str, str], modes: Sequence[ContactMode] = tuple(ContactMode), allowed: bool = True, read: bool = False
) -> SafeContact:
    return SafeContact(
        modes=list(modes),
        windows=[ContactWindow(days=days, begins=begins, ends=ends) for days, begins, ends in windows],
        voicemail_allowed=allowed,
        text_allowed=allowed,
        read_by_others=read,
    )


Hours = list[tuple[list[int], str, str]]
TOGETHER: dict[str, tuple[Hours, Hours, Hours]] = {
    "no hours and some": ([], [([1], "09:00", "12:00")], [([1], "09:00", "12:00")]),
    "hours that overlap": ([([1, 2], "09:00", "12:00")], [([2, 3], "11:00", "18:00")], [([2], "11:00", "12:00")]),
    "a night and a morning": ([([7], "22:00", "08:00")], [([1], "06:00", "10:00")], [([1], "06:00", "08:00")]),
    "two nights": (
        [([1], "22:00", "06:00")],
        [([1], "20:00", "05:00")],
        [([1], "22:00", "00:00"), ([2], "00:00", "05:00")],
    ),
    "a whole day": ([([1], "00:00", "00:00")], [([1, 2], "00:00", "00:00")], [([1], "00:00", "00:00")]),
}


@pytest.mark.parametrize(("one", "other", "both"), TOGETHER.values(), ids=TOGETHER)
def test_the_hours_of_two_adults_are_those_that_both_allow(one: Hours, other: Hours, both: Hours) -> None:
    for pair in ((rules(*one), rules(*other)), (rules(*other), rules(*one))):
        found = strictest(pair)
        assert found is not None
        assert [(window.days, window.begins, window.ends) for window in found.windows] == both
        for minute in range(0, 7 * 24 * 60, 15):
            at = datetime(2026, 11, 23 + minute // 1440, minute // 60 % 24, minute % 60, tzinfo=UTC)
            assert within(found.windows, at) == all(not each.windows or within(each.windows, at) for each in pair)


def test_where_two_adults_have_no_hour_in_common_only_what_waits_for_no_hour_is_left() -> None:
    found = strictest([rules(([1], "09:00", "12:00")), rules(([2], "09:00", "12:00"))])

    assert found is not None
    assert (found.modes, found.windows) == ([ContactMode.LETTER, ContactMode.IN_PERSON], [])


def test_what_one_adult_forbids_is_forbidden() -> None:
    found = strictest([rules(modes=(ContactMode.PHONE, ContactMode.TEXT)), rules(allowed=False, read=True)])

    assert found == rules(modes=(ContactMode.PHONE,), allowed=False, read=True)
    assert strictest([]) is None


def test_hours_of_two_adults_too_many_to_tell_are_told_in_part() -> None:
    cut = [([day], f"{hour:02}:00", f"{hour:02}:{30 + day}") for day in (1, 2) for hour in range(0, 14, 2)]
    half = [([1, 2], f"{hour:02}:{10 + hour}", f"{hour + 1:02}:00") for hour in range(0, 14, 1)]

    found = strictest([rules(*cut), rules(*half)])

    assert found is not None
    assert 0 < len(found.windows) <= 14
