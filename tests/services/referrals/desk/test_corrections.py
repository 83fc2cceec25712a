"""Corrections at the desk: the facts on one form, each person on their own; what is shown is what is sent, and what others did meanwhile is told."""

import re
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from libs.chassis.security import Principal
from libs.contracts import demonstration as d
from libs.contracts.vocabularies import Role
from services.referrals.desk.correction_changes import phone_of
from services.referrals.desk.told import told_lines
from services.referrals.working.followup_schemas import Step, TimelineEntry
from tests.services.referrals.desk.browser import Browser
from tests.services.referrals.desk.conftest import Desk, call_by_name
from tests.services.referrals.desk.test_moves import CONTACT, at
from tests.services.referrals.test_corrections import correct


async def read(desk: Desk, referral_id: UUID) -> dict[str, Any]:
    return await desk.read_as("iscg-95", referral_id)


async def of_victim(desk: Desk, referral_id: UUID) -> Browser:
    [victim, *_] = await desk.persons(referral_id)
    browser = await at(desk, "iscg-95", referral_id)
    await browser.open(f"/desk/referrals/{referral_id}/correct/{victim}")
    assert browser.page.status_code == 200, browser.html.text
    return browser


async def corrections(desk: Desk) -> int:
    return len(await desk.rows("SELECT id FROM corrections"))


async def test_a_form_that_is_sent_as_it_stands_corrects_nothing(desk: Desk) -> None:
    referral_id = await desk.accepted(natinf=[32109], penal=True, narrative="Deux lignes,\nla seconde.")
    before = await read(desk, referral_id)

    facts = await at(desk, "iscg-95", referral_id, "correct")
    assert (await facts.submit(reason="mistake")).status_code == 200, facts.html.text
    person = await of_victim(desk, referral_id)
    assert (await person.submit(reason="mistake")).status_code == 200, person.html.text

    assert await read(desk, referral_id) == before
    assert await corrections(desk) == 0


@pytest.mark.parametrize("occurred_at", ["2026-11-20T20:40:37.123Z", "2026-10-25T01:30:00Z"])
async def test_what_the_form_does_not_correct_stays_as_it_was_to_the_microsecond(desk: Desk, occurred_at: str) -> None:
    """A browser shows minutes, and of the hour that comes twice (25 October) not which one it is."""
    referral_id = await desk.accepted(occurred_at=occurred_at)
    before = await read(desk, referral_id)

    browser = await at(desk, "iscg-95", referral_id, "correct")
    assert (await browser.submit(reason="learned", urgency="immediate")).status_code == 200, browser.html.text

    assert (await read(desk, referral_id))["occurred_at"] == before["occurred_at"]
    [row] = await desk.rows("SELECT changes FROM corrections")
    assert list(row.changes) == ["/urgency"]


async def test_the_facts_are_corrected_each_with_its_field(desk: Desk) -> None:
    await call_by_name(desk)
    referral_id = await desk.accepted(natinf=[32109], penal=True)
    browser = await at(desk, "iscg-95", referral_id, "correct")
    assert browser.html.forms[-1].choices["commune"][-2:] == ["95127", "95585"]

    answer = await browser.submit(
        reason="learned", urgency="immediate", danger="no", themes=["housing", "couple_violence"], principal_theme="housing", commune="95585",
        occurred_at="2026-11-20T08:15", channel="officer", penal="", natinf="", children_present="2", narrative="Autre récit."
    )  # fmt: skip

    assert answer.status_code == 200, browser.html.text
    assert "La correction est enregistrée." in browser.html.text
    found = await read(desk, referral_id)
    names = ("urgency", "danger", "principal_theme", "commune", "channel", "penal", "natinf", "children_present", "narrative")
    assert [found[name] for name in names] == ["immediate", False, "housing", "95585", "officer", None, [], 2, "Autre récit."]
    assert sorted(found["themes"]) == ["couple_violence", "housing"]
    assert found["occurred_at"].startswith("2026-11-20T07:15:00")


async def test_what_is_wrong_with_the_facts_is_said_beside_its_field(desk: Desk) -> None:
    referral_id = await desk.accepted()
    browser = await at(desk, "iscg-95", referral_id, "correct")

    answer = await browser.submit(reason="", urgency="", themes=[], children_present="beaucoup", natinf="12, abc")
    assert answer.status_code == 422
    links = {link for _, link in browser.html.all_links}
    assert {"#reason", "#urgency", "#themes"} <= links
    await browser.submit(
        reason="mistake", urgency="standard", themes=["housing"], principal_theme="couple_violence", children_present="0", natinf="12, abc"
    )
    assert "#natinf" in {link for _, link in browser.html.all_links}
    await browser.submit(natinf="12")
    assert "Le thème principal doit être l'un des thèmes." in browser.html.text
    assert "#principal_theme" in {link for _, link in browser.html.all_links}
    assert await corrections(desk) == 0


async def test_who_corrects_a_place_that_is_another_posts_comes_back_to_the_list(desk: Desk) -> None:
    await call_by_name(desk)
    referral_id = await desk.receive(unit_id=None, commune="95127")
    browser = await at(desk, "iscg-95", referral_id, "correct")

    answer = await browser.submit(reason="mistake", commune="95585")

    assert (answer.status_code, answer.url.path) == (200, "/desk/referrals"), browser.html.text
    assert "La correction est enregistrée." in browser.html.text


async def test_a_place_corrected_after_the_fact_says_that_the_assignment_is_explained_as_of_before(desk: Desk) -> None:
    await call_by_name(desk)
    referral_id = await desk.accepted(unit_id=None, commune="95127")
    browser = await at(desk, "iscg-95", referral_id, "correct")

    await browser.submit(reason="mistake", commune="95585")

    assert "un autre poste convient peut-être mieux" in browser.html.text


async def test_identity_contact_and_safe_contact_of_a_person_are_corrected(desk: Desk) -> None:
    referral_id = await desk.accepted()
    browser = await of_victim(desk, referral_id)

    answer = await browser.submit(
        **{
            "reason": "learned", "agreement": "accepted", "family_name": "Corrigée", "given_name": "Alix", "birth_on": "1991-02-03",
            "phones": "06 55 44 33 22\r\n\r\n+262 692 00 00 01", "email": "alix@exemple.invalid", "address": "2 rue Neuve",
            "rules": "given", "modes": ["phone", "text"], "days:0": ["1", "5"], "begins:0": "10:00", "ends:0": "11:30",
            "voicemail_allowed": "no", "text_allowed": "yes", "read_by_others": "yes", "code_word": "tournesol", "note": "Dire : la mairie.",
        }
    )  # fmt: skip

    assert answer.status_code == 200, browser.html.text
    person = (await read(desk, referral_id))["people"][0]
    assert person["identity"] == {"family_name": "Corrigée", "given_name": "Alix", "birth_on": "1991-02-03"}
    assert person["contact"] == {"phones": ["+33655443322", "+262692000001"], "email": "alix@exemple.invalid", "address": "2 rue Neuve"}
    assert person["safe_contact"] == {
        "modes": ["phone", "text"], "windows": [{"days": [1, 5], "begins": "10:00", "ends": "11:30"}], "voicemail_allowed": False,
        "text_allowed": True, "read_by_others": True, "code_word": "tournesol", "note": "Dire : la mairie.",
    }  # fmt: skip
    assert await corrections(desk) == 1


async def test_what_is_emptied_is_taken_away_and_a_refusal_is_noted(desk: Desk) -> None:
    referral_id = await desk.accepted()
    [_, second] = await desk.persons(referral_id)
    browser = await of_victim(desk, referral_id)
    await browser.submit(reason="mistake", phones="", email="", address="", rules="none")
    await browser.open(f"/desk/referrals/{referral_id}/correct/{second}")
    await browser.submit(reason="learned", agreement="refused")

    people = (await read(desk, referral_id))["people"]
    assert (people[0]["contact"], people[0]["safe_contact"]) == (None, None)
    assert people[0]["identity"] is not None
    assert people[1]["agreement"] == "refused"


@pytest.mark.parametrize(
    ("typed", "place"),
    [
        ({"phones": "06 12"}, "phones"),
        ({"phones": "0692 00 00 01"}, "phones"),  # of La Réunion, and somebody else's in metropolitan France
        ({"email": "pas une adresse"}, "email"),
        ({"given_name": ""}, "given_name"),
        ({"birth_on": "hier"}, "birth_on"),
        ({"birth_on": "2099-01-01"}, "birth_on"),
        ({"role": ""}, "role"),
        ({"rules": "given", "days:0": ["1"], "begins:0": "25:00", "ends:0": "26:00"}, "windows"),
        ({"rules": "given", "days:0": [], "begins:0": "10:00", "ends:0": "11:00"}, "windows"),
        ({"rules": "given", "note": "x" * 501}, "note"),
        ({"approximate_age": "300"}, "approximate_age"),
    ],
)
async def test_what_is_wrong_with_a_person_is_said_beside_its_field_and_what_was_typed_stays(
    desk: Desk, typed: dict[str, Any], place: str
) -> None:
    browser = await of_victim(desk, await desk.accepted())

    answer = await browser.submit(**{"reason": "mistake"} | typed)

    assert answer.status_code == 422, browser.html.text
    assert [link for _, link in browser.html.all_links if link.startswith("#") and link != "#main"] == [f"#{place}"]
    said = browser.html.forms[-1].fields
    for name, value in typed.items():
        if isinstance(value, str) and value:
            assert (name, value) in said
    assert await corrections(desk) == 0


async def test_what_somebody_else_did_meanwhile_is_told_beside_what_was_typed(desk: Desk) -> None:
    referral_id = await desk.accepted()
    mine, theirs = await of_victim(desk, referral_id), await of_victim(desk, referral_id)
    await theirs.submit(reason="learned", phones="+33655443322")

    answer = await mine.submit(reason="mistake", address="9 rue Mienne")

    assert answer.status_code == 412
    assert "Quelqu'un a modifié ce dossier" in mine.html.text
    assert "Au dossier maintenant : +33655443322" in mine.html.text
    assert ("address", "9 rue Mienne") in mine.html.forms[-1].fields
    assert "Au dossier maintenant : Accepté" not in mine.html.text, "what both say needs no word"
    assert (await mine.submit(phones="+33655443322")).status_code == 200
    contact = (await read(desk, referral_id))["people"][0]["contact"]
    assert (contact["phones"], contact["address"]) == (["+33655443322"], "9 rue Mienne")


async def test_the_form_of_a_person_is_open_to_who_may_correct_and_of_who_is_there_only(desk: Desk) -> None:
    referral_id, other = await desk.accepted(), await desk.accepted()
    [stranger, _] = await desk.persons(other)
    [victim, _] = await desk.persons(referral_id)
    browser = await desk.sign_in("iscg-95")
    assert (await browser.open(f"/desk/referrals/{referral_id}/correct/{stranger}")).status_code == 404
    assert (await browser.open(f"/desk/referrals/{referral_id}/correct/nobody")).status_code == 404
    elsewhere = await desk.sign_in("iscg-78")
    assert (await elsewhere.open(f"/desk/referrals/{referral_id}/correct/{victim}")).status_code == 404
    partner = await desk.sign_in("partner-95")
    assert (await partner.open(f"/desk/referrals/{referral_id}/correct/{victim}")).status_code == 403
    coordinator = await at(desk, "coordinator-95", referral_id)
    assert f"/desk/referrals/{referral_id}/correct/{victim}" in {link for _, link in coordinator.html.all_links}

    await desk.move("iscg-95", referral_id, "close", {"reason": "out_of_scope"})
    closed = await browser.open(f"/desk/referrals/{referral_id}/correct/{victim}")
    open_still = "correct" in (await read(desk, referral_id))["moves"]
    assert closed.status_code == (200 if open_still else 409)


@pytest.mark.parametrize(
    ("typed", "read_as"),
    [
        ("06 12 34 56 78", "+33612345678"),
        ("01.30.30.30.30", "+33130303030"),
        ("+33 6 12 34 56 78", "+33612345678"),
        ("+262 692 00 00 01", "+262692000001"),
        ("0692000001", "0692000001"),
        ("17", "17"),
    ],
)
def test_a_telephone_is_read_as_french_only_where_that_is_certain(typed: str, read_as: str) -> None:
    assert phone_of(typed) == read_as


async def test_a_person_who_was_forgotten_is_added_by_a_form_and_the_log_tells_what_was_before(desk: Desk) -> None:
    referral_id = await desk.accepted()
    browser = await at(desk, "iscg-95", referral_id)
    assert f"/desk/referrals/{referral_id}/persons/new" in {link for _, link in browser.html.all_links}
    await browser.open(f"/desk/referrals/{referral_id}/persons/new")
    child = {
        "reason": "learned",
        "role": "other",
        "agreement": "not_asked",
        "sex": "female",
        "known_to_services": "unknown",
        "rules": "none",
    }

    refused = await browser.submit(**child, given_name="Lou", phones="12")
    assert refused.status_code == 422
    assert ("given_name", "Lou") in browser.html.forms[-1].fields
    added = await browser.submit(**child, given_name="Lou", family_name="Exemple", phones="+33639980001")
    assert added.status_code == 200, browser.html.text
    person = await of_victim(desk, referral_id)
    assert (await person.submit(reason="mistake", phones="+33639980002")).status_code == 200

    [*_, joined] = (await read(desk, referral_id))["people"]
    assert (joined["identity"]["given_name"], joined["contact"]["phones"]) == ("Lou", ["+33639980001"])
    await browser.open(f"/desk/referrals/{referral_id}/journal/corrections")
    said = browser.html.text
    assert "Autre – Lou Exemple, ajout" in said
    assert "Camille Exemple" in said
    assert "+33639980001" in said
    assert said.index("erreur à la réception") < said.index("information apprise depuis")  # the latest first
    audited = await desk.rows("SELECT data FROM outbox WHERE stream = 'audit'")
    assert any(b'"operation":"list_corrections"' in row.data for row in audited)


async def test_who_is_of_another_post_finds_neither_the_form_nor_the_log(desk: Desk) -> None:
    referral_id = await desk.accepted()
    elsewhere = await desk.sign_in("iscg-78")

    for page in ("persons/new", "journal/corrections"):
        assert (await elsewhere.open(f"/desk/referrals/{referral_id}/{page}")).status_code == 404


async def test_who_did_each_step_is_told_to_each_reader_in_their_own_terms(desk: Desk) -> None:
    referral_id = await desk.accepted()
    [victim, _] = await desk.persons(referral_id)
    worker = await at(desk, "iscg-95", referral_id, "contact")
    await worker.submit(**CONTACT, person_id=str(victim))
    asked = (await desk.orient(referral_id)).json()["id"]
    await desk.answer("partner-95", asked, "accept")
    await desk.answer("partner-95", asked, "fail", {"reason": "unreachable"}, version=2)
    assert (await correct(desk, referral_id, "coordinator-95", urgency="immediate")).status_code == 201

    mine = await at(desk, "iscg-95", referral_id)
    theirs = await at(desk, "coordinator-95", referral_id)

    def by(browser: Browser, what: str) -> list[str]:
        lines = re.findall(r"<li><time>.*?</time> (.*?)</li>", browser.page.text)
        return [found[1] if (found := re.search(r"par ([^<]+)</span>$", line)) else "" for line in lines if line.startswith(what)]

    assert by(mine, "Tentative de contact") == ["vous"]
    assert by(mine, "Acceptée") == by(mine, "Orientation demandée") == ["un collègue du poste"]
    assert by(mine, "Orientation acceptée par le partenaire") == by(mine, "Saisine reçue") == [""]
    assert by(mine, "Orientation restée sans suite") == ["le partenaire"]
    assert by(mine, "Correction") == ["la coordination"]
    assert by(theirs, "Tentative de contact") == by(theirs, "Acceptée") == ["un intervenant social"]
    for browser in (mine, theirs):
        await browser.open(f"/desk/referrals/{referral_id}/journal/corrections")
        assert "par la coordination" in browser.html.text


def test_whoever_worked_at_another_post_is_no_colleague_of_the_post() -> None:
    here, there = d.POST_CERGY, d.POST_SARCELLES
    reader = Principal("desk", "me", Role.ISCG, None, frozenset({f"post:{here}"}), frozenset())

    def entry(step: Step, post_id: UUID | None, code: str | None = None, actor: str = "another") -> TimelineEntry:
        nothing: dict[str, Any] = dict.fromkeys(TimelineEntry.model_fields)
        said = {"step": step, "at": datetime(2026, 12, 1, tzinfo=UTC), "id": d.REFERRAL, "person_ids": [], "post_id": post_id, "code": code}
        return TimelineEntry.model_validate(nothing | said | {"actor": actor, "actor_role": Role.ISCG})

    entries = [
        entry(Step.RECEIVED, there),
        entry(Step.CONTACT, there),
        entry(Step.CORRECTION, None),
        entry(Step.MOVED, here, "transfer"),
        entry(Step.MOVED, here, "accept"),
        entry(Step.CORRECTION, None),
        entry(Step.CORRECTION, None, actor="me"),
    ]

    told = [line.by for line in told_lines(entries, reader)]

    assert told[1:] == ["un intervenant social"] * 3 + ["un collègue du poste"] * 2 + ["vous"]
