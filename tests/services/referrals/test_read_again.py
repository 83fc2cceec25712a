"""What a partner reads with an orientation became another: a new version, a fact for the partner alone, and word of it at once. Never what it is."""

from typing import Any
from uuid import UUID

import pytest

from libs.contracts import demonstration as d
from services.referrals.orientations.links import Links
from tests.services.referrals.conftest import Referrals
from tests.services.referrals.test_agreement import call, orient, persons_with
from tests.services.referrals.test_links import answers_by_link, fill
from tests.services.referrals.test_orientations import CALM, PARTNER, POST, ask, told_at_once, wishes
from tests.services.referrals.test_reach import read

LETTERS = {"modes": ["letter"], "windows": [], "voicemail_allowed": False, "text_allowed": False, "read_by_others": True}
ANOTHER = {"family_name": "Exemple", "given_name": "Claude", "birth_on": "1991-04-12"}


async def correct(referrals: Referrals, referral_id: UUID, *, place: int = 0, **changed: Any) -> None:
    of_person = {"role", "identity", "contact", "safe_contact", "agreement", "known_to_services"} & changed.keys()
    person = {name: changed.pop(name) for name in of_person}
    if person:
        changed["persons"] = [person | {"person_id": (await referrals.persons(referral_id))[place]}]
    answer = await referrals.move("iscg-95", referral_id, "corrections", {"reason": "learned"} | changed)
    assert answer.status_code == 201, answer.text


async def living(referrals: Referrals, referral_id: UUID, *steps: str) -> str:
    """Asked, and answered so far."""
    asked = str((await referrals.orient(referral_id)).json()["id"])
    for version, step in enumerate(steps, 1):
        assert (await referrals.answer("partner-95", asked, step, version=version)).status_code == 200
    await referrals.said()
    return asked


@pytest.mark.parametrize("steps", [(), ("accept",), ("accept", "start")])
async def test_safe_contact_rules_reach_who_was_told_the_old_ones(referrals: Referrals, steps: tuple[str, ...]) -> None:
    await wishes(referrals, PARTNER, mode="digest")
    referral_id = await referrals.accepted(**CALM)
    asked = await living(referrals, referral_id, *steps)
    before = await read(referrals, asked)

    await correct(referrals, referral_id, safe_contact=LETTERS)

    [corrected, (type, data)] = await referrals.said()
    assert (corrected[0], type, data["changed"]) == ("referral.corrected", "orientation.updated", ["contact"])
    heard = await referrals.rows("SELECT stream FROM outbox WHERE type = 'fr.maillon.orientation.updated.v1' ORDER BY stream")
    assert [row.stream for row in heard] == ["internal", PARTNER]
    assert await told_at_once(referrals) == [(PARTNER, "orientation_updated")]
    after = await read(referrals, asked)
    assert after.headers["ETag"] != before.headers["ETag"]
    assert (after.json()["person"]["safe_contact"]["modes"], after.json()["updated_at"]) == (["letter"], data["updated_at"])
    assert (await referrals.answer("partner-95", asked, "accept", version=len(steps) + 1)).status_code == 412


@pytest.mark.parametrize(
    ("changed", "parts"),
    [
        ({"contact": {"phones": ["+33639980002"]}}, ["contact"]),
        ({"safe_contact": None}, ["contact"]),
        ({"identity": ANOTHER}, ["person"]),
        ({"role": "witness"}, ["person"]),
        ({"known_to_services": "known"}, ["person"]),
        ({"occurred_at": "2012-11-22T21:40:00+01:00"}, ["person"]),
        ({"urgency": "immediate"}, ["situation"]),
        ({"danger": False}, ["situation"]),
        ({"commune": "95500"}, ["situation"]),
        ({"identity": ANOTHER, "contact": None, "danger": False}, ["contact", "person", "situation"]),
    ],
)
async def test_whatever_else_a_partner_reads_is_said_by_its_part(referrals: Referrals, changed: dict[str, Any], parts: list[str]) -> None:
    referral_id = await referrals.accepted()
    asked = await living(referrals, referral_id)

    await correct(referrals, referral_id, **changed)

    [_, (type, data)] = await referrals.said()
    assert (type, data["changed"]) == ("orientation.updated", parts)
    assert (await read(referrals, asked)).json()["version"] == 2


@pytest.mark.parametrize(
    ("place", "changed"),
    [
        (0, {"narrative": "Un autre récit fictif."}),
        (0, {"themes": ["couple_violence"], "penal": True, "children_present": 2}),
        (1, {"contact": {"phones": ["+33639980002"]}, "agreement": "accepted"}),
    ],
)
async def test_what_a_partner_does_not_read_is_not_said(referrals: Referrals, place: int, changed: dict[str, Any]) -> None:
    await wishes(referrals, PARTNER)
    referral_id = await referrals.accepted(**CALM)
    asked = await living(referrals, referral_id)
    before = await read(referrals, asked)

    await correct(referrals, referral_id, place=place, **changed)

    assert await referrals.said_types() == ["referral.corrected"]
    assert (await read(referrals, asked)).json() == before.json()
    assert await told_at_once(referrals) == [(PARTNER, "orientation_to_answer")]


async def test_who_reads_no_longer_is_told_nothing(referrals: Referrals) -> None:
    referral_id = await referrals.accepted()
    asked = await living(referrals, referral_id)
    assert (await referrals.answer("partner-95", asked, "reject", {"reason": "no_capacity"})).status_code == 200
    await referrals.said()

    await correct(referrals, referral_id, safe_contact=LETTERS)

    assert await referrals.said_types() == ["referral.corrected"]


async def test_who_answers_by_link_is_sent_one_that_shows_the_new_rules(referrals: Referrals) -> None:
    await answers_by_link(referrals)
    referral_id = await referrals.accepted()
    await ask(referrals, referral_id, d.VICTIM_SUPPORT_SERVICE)
    [first] = await referrals.rows("SELECT link_id FROM notices")
    links = Links.of(referrals.runtime)
    assert (await fill(referrals, f"/reponse/{links.token(first.link_id)}", answer="accept")).status_code == 200

    await correct(referrals, referral_id, safe_contact=LETTERS)

    [told] = await referrals.rows("SELECT link_id FROM notices WHERE kind = 'orientation_updated'")
    shown = await referrals.client.get(f"/reponse/{links.token(told.link_id)}")
    assert shown.status_code == 200
    assert "Seuls moyens permis : Courrier" in shown.text


async def test_each_change_is_told_and_the_post_is_not(referrals: Referrals) -> None:
    await wishes(referrals, PARTNER, POST)
    referral_id = await referrals.accepted()
    await living(referrals, referral_id)

    for rules in (LETTERS, LETTERS | {"text_allowed": True}):
        await correct(referrals, referral_id, safe_contact=rules)

    told = [one for one in await told_at_once(referrals) if one[1] == "orientation_updated"]
    assert told == [(PARTNER, "orientation_updated")] * 2


async def test_an_assessment_that_learns_whether_the_person_is_known_is_read_again(referrals: Referrals) -> None:
    referral_id = await referrals.accepted()
    await call(referrals, referral_id, "reached")
    asked = await living(referrals, referral_id)
    [person, *_] = await referrals.persons(referral_id)
    assessed = {"person_id": person, "needs": ["rights"], "known_to_services": "known"}

    for _ in range(2):
        assert (await referrals.post("iscg-95", f"/v1/referrals/{referral_id}/assessments", assessed)).status_code == 201

    assert await referrals.said_types() == ["assessment.recorded", "orientation.updated", "assessment.recorded"]
    assert (await read(referrals, asked)).json()["version"] == 2


@pytest.mark.parametrize("agreement", ["accepted", "refused"])
async def test_what_a_person_says_when_called_reaches_who_was_asked_on_a_legal_ground(referrals: Referrals, agreement: str) -> None:
    referral_id = await referrals.accepted(persons=persons_with(referrals, agreement="not_asked"))
    asked = (await orient(referrals, referral_id, legal_ground="vital_danger")).json()["id"]
    await referrals.said()

    assert (await call(referrals, referral_id, "reached", agreement)).status_code == 201

    assert await referrals.said_types() == ["contact.attempted", "referral.corrected", "orientation.updated"]
    shown = (await read(referrals, asked)).json()
    assert (shown["person"]["agreement"], shown["version"]) == (agreement, 2)
