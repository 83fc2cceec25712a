"""What is done with a referral at the desk: by the API's commands, once, against the version that was read, refused in its own words."""

import asyncio
import json
import re
from uuid import UUID

from libs.contracts import demonstration as d
from services.referrals.desk.moves import CHANGES
from services.referrals.domain import MOVES, Move
from tests.services.referrals.desk.browser import Browser
from tests.services.referrals.desk.conftest import Desk
from tests.services.referrals.test_erasure import erase

CONTACT = {"mode": "phone", "result": "reached", "attempted_at": "2026-11-23T10:05"}
"""A Monday morning, within the rules of the example's victim."""


async def at(desk: Desk, who: str, referral_id: UUID, move: str = "") -> Browser:
    browser = await desk.sign_in(who)
    await browser.open(f"/desk/referrals/{referral_id}" + (f"/{move}" if move else ""))
    assert browser.page.status_code == 200, browser.html.text
    return browser


async def status(desk: Desk, referral_id: UUID) -> str:
    [row] = await desk.rows(f"SELECT status FROM referrals WHERE id = '{referral_id}'")
    return str(row.status)


def form_for(browser: Browser, move: str) -> int:
    [number] = [number for number, form in enumerate(browser.html.forms) if form.action.endswith(f"/{move}")]
    return number


def test_every_move_that_a_person_makes_has_a_form() -> None:
    assert CHANGES.keys() == {move for move, row in MOVES.items() if row.by} - {Move.ORIENT}


async def test_a_referral_is_accepted_contacted_interviewed_assessed_and_closed_by_forms_alone(desk: Desk) -> None:
    referral_id = await desk.receive()
    browser = await at(desk, "iscg-95", referral_id)
    await desk.said()

    await browser.submit(form_for(browser, "accept"))
    assert "La saisine est acceptée." in browser.html.text
    for move, typed in (
        ("Noter une tentative de contact", CONTACT),
        ("Noter un entretien", {"person_ids": [str((await desk.persons(referral_id))[0])], "place": "station", "duration_minutes": "50"}),
        ("Évaluer les besoins", {"needs": ["protection", "shelter"], "known_to_services": "unknown"}),
        ("Clore", {"reason": "completed"}),
    ):
        await browser.follow(move)
        form = browser.html.forms[-1]
        if "person_id" in form.choices:
            typed = typed | {"person_id": form.choices["person_id"][0]}
        answer = await browser.submit(**typed)
        assert answer.status_code == 200, browser.html.text

    assert await status(desk, referral_id) == "closed"
    assert await desk.said_types() == ["referral.accepted", "contact.attempted", "interview.held", "assessment.recorded", "referral.closed"]
    for told in (
        "La saisine est close.",
        "Acceptée",
        "Saisine reçue (Poste",
        "Téléphone, personne jointe",
        "Commissariat ou brigade",
        "accompagnement terminé",
    ):
        assert told.lower() in browser.html.text.lower()


async def test_a_duplicate_is_asked_for_its_original_among_those_that_know_the_person_or_by_its_number(desk: Desk) -> None:
    original, twice = await desk.accepted(external_reference="PV-7"), await desk.accepted()
    browser = await at(desk, "iscg-95", twice, "close")
    assert browser.html.forms[-1].choices["duplicate_of"] == ["", str(original)]
    first = await at(desk, "iscg-95", original, "close")
    assert "duplicate_of" not in first.html.forms[-1].choices

    assert (await browser.submit(reason="duplicate", duplicate_reference="PV-8")).status_code == 422
    assert "Aucune autre saisine de votre périmètre" in browser.html.text
    assert (await browser.submit(reason="duplicate", duplicate_reference="PV-7")).status_code == 200

    assert await status(desk, twice) == "closed"
    assert browser.html.text.count(f"doublon de la saisine …{str(original)[-8:]}") == 2  # what it is, and in its timeline
    await browser.open(f"/desk/referrals/{original}")
    assert f"Doublons saisine …{str(twice)[-8:]}" in browser.html.text


async def test_a_report_to_the_prosecutor_is_noted_by_its_form_and_shows_in_the_timeline(desk: Desk) -> None:
    referral_id = await desk.accepted()
    [victim, _] = await desk.persons(referral_id)
    browser = await at(desk, "iscg-95", referral_id, "alert")
    sent = {"sent_at": "2026-11-23T10:05", "person_ids": [str(victim)]}

    assert (await browser.submit(**sent, kind="concerning_information")).status_code == 422
    assert "concerne des mineurs" in browser.html.text or "Cette personne est majeure" in browser.html.text
    assert (await browser.submit(**sent, kind="prosecutor_report")).status_code == 422
    assert "Indiquez la commune où siège le tribunal judiciaire." in browser.html.text
    assert (await browser.submit(**sent, kind="prosecutor_report", court="95127")).status_code == 200

    assert "L'envoi est noté." in browser.html.text
    assert "Signalement au procureur envoyé" in browser.html.text
    assert "Information préoccupante envoyée" not in browser.html.text
    assert "signalement au procureur" in browser.html.text.lower()
    [row] = await desk.rows("SELECT kind, recipient, person_ids FROM alerts")
    assert (row.kind, row.recipient, row.person_ids) == ("prosecutor_report", "95127", [victim])


async def test_a_child_s_alert_goes_to_the_crip_of_another_departement_with_a_note(desk: Desk) -> None:
    referral_id = await desk.accepted()
    browser = await at(desk, "iscg-95", referral_id, "alert")
    sent = {"sent_at": "2026-11-23T10:05", "kind": "concerning_information", "note": "Les enfants sont chez leur tante à Évreux."}

    assert (await browser.submit(**sent, departement="Eure")).status_code == 422
    assert (await browser.submit(**sent, departement="27")).status_code == 200

    assert "à la CRIP du département 27" in browser.html.text
    assert "Les enfants sont chez leur tante à Évreux." in browser.html.text


async def test_a_moment_is_typed_by_the_clock_of_paris(desk: Desk) -> None:
    referral_id = await desk.accepted()
    browser = await at(desk, "iscg-95", referral_id, "contact")

    await browser.submit(**CONTACT, person_id=browser.html.forms[-1].choices["person_id"][0])

    [row] = await desk.rows("SELECT attempted_at FROM contact_attempts")
    assert row.attempted_at.isoformat() == "2026-11-23T09:05:00+00:00"
    assert "23/11/2026 à 10:05" in browser.html.text


async def test_a_call_against_the_safe_contact_rules_is_refused_beside_what_was_typed_and_made_with_a_reason(desk: Desk) -> None:
    referral_id = await desk.accepted()
    browser = await at(desk, "iscg-95", referral_id, "contact")
    person = browser.html.forms[-1].choices["person_id"][0]
    assert "Seuls moyens permis : Téléphone" in browser.html.text
    assert "Quelqu'un d'autre lit peut-être son téléphone" in browser.html.text

    answer = await browser.submit(person_id=person, mode="phone", result="message_left", attempted_at="2026-11-23T20:30")

    assert answer.status_code == 409
    assert "interdisent : cette heure, un message sur le répondeur" in browser.html.text
    assert any(link == "#override_reason" for link in browser.html.links.values())
    typed = dict(browser.html.forms[-1].fields)
    assert (typed["mode"], typed["result"], typed["attempted_at"], typed["person_id"]) == (
        "phone",
        "message_left",
        "2026-11-23T20:30",
        person,
    )
    assert await desk.rows("SELECT id FROM contact_attempts") == []

    assert (await browser.submit(override_reason="immediate_danger")).status_code == 200
    assert "consigne non suivie : danger immédiat" in browser.html.text


async def test_beside_a_child_stand_the_rules_of_the_adults_through_whom_it_is_called_and_its_own_form_claims_none(desk: Desk) -> None:
    mother, accused = desk.body()["persons"]
    child = {"role": "victim", "sex": "female", "agreement": "accepted", "approximate_age": 8}
    referral_id = await desk.accepted(persons=[mother | {"role": "other"}, accused, child])
    person = (await desk.persons(referral_id))[2]

    for move in ("contact", ""):
        browser = await at(desk, "iscg-95", referral_id, move)
        assert browser.html.text.count("des adultes par qui ce mineur est appelé") == (2 if not move else 1)
        assert browser.html.text.count("Mot convenu : bibliothèque") == 1
    form = (await at(desk, "iscg-95", referral_id, f"correct/{person}")).html.forms[-1]

    typed = dict(form.fields)
    assert (typed["rules"], "modes" in typed) == ("none", False)


async def test_who_refused_cannot_be_chosen_and_a_forged_choice_is_refused(desk: Desk) -> None:
    persons = desk.body()["persons"]
    persons[1]["agreement"] = "refused"
    referral_id = await desk.accepted(persons=persons)
    refused = str((await desk.persons(referral_id))[1])
    browser = await at(desk, "iscg-95", referral_id, "contact")

    assert refused not in browser.html.forms[-1].choices["person_id"]
    assert "Ne pas contacter : cette personne a refusé." in browser.html.text
    assert (await browser.submit(**CONTACT, person_id=refused)).status_code == 409
    assert "a refusé d'être contactée" in browser.html.text
    assert await desk.rows("SELECT id FROM contact_attempts") == []


async def test_what_is_missing_or_impossible_is_said_field_by_field(desk: Desk) -> None:
    referral_id = await desk.accepted()
    browser = await at(desk, "iscg-95", referral_id, "contact")

    answer = await browser.submit(mode="", result="pigeon", attempted_at="hier", person_id="x")

    assert answer.status_code == 422
    for sentence in ("Choisissez dans la liste.", "Indiquez le jour et l'heure."):
        assert sentence in browser.html.text
    assert {"#mode", "#result", "#attempted_at", "#person_id"} <= {link for _, link in browser.html.all_links}
    assert "pigeon" not in browser.page.text, "what is no choice is not shown again"
    invalid = [given for _, given in browser.html.tags if given.get("aria-invalid") == "true"]
    assert {one["id"] for one in invalid} == {"mode", "result", "attempted_at"}
    assert all(one["aria-describedby"] for one in invalid)
    await browser.open(f"/desk/referrals/{referral_id}/contact")
    answer = await browser.submit(
        **CONTACT | {"attempted_at": "2030-01-01T10:00"}, person_id=browser.html.forms[-1].choices["person_id"][0]
    )
    assert "Cette date est dans le futur." in browser.html.text


async def test_closing_names_the_partners_who_still_have_the_person_and_says_why_it_is_refused(desk: Desk) -> None:
    referral_id = await desk.accepted()
    browser = await at(desk, "iscg-95", referral_id, "close")
    assert "Partenaires sollicités" not in browser.html.text
    orientation = (await desk.orient(referral_id)).json()["id"]

    browser = await at(desk, "iscg-95", referral_id, "close")
    assert "Partenaires sollicités" in browser.html.text
    assert f"/desk/orientations/{orientation}" in browser.html.links.values()
    answer = await browser.submit(reason="out_of_scope")

    assert answer.status_code == 409
    assert "Un partenaire sollicité n'a pas encore répondu" in browser.html.text
    assert await status(desk, referral_id) == "accepted"


async def test_a_page_read_before_a_change_changes_nothing_and_keeps_what_was_typed(desk: Desk) -> None:
    referral_id = await desk.accepted()
    mine = await at(desk, "iscg-95", referral_id, "close")
    theirs = await at(desk, "iscg-95", referral_id, "correct")
    await theirs.submit(reason="mistake", urgency="immediate")
    assert "La correction est enregistrée." in theirs.html.text

    answer = await mine.submit(reason="out_of_scope")

    assert answer.status_code == 412
    assert "Quelqu'un a modifié ce dossier" in mine.html.text
    assert await status(desk, referral_id) == "accepted"
    assert dict(mine.html.forms[-1].fields)["reason"] == "out_of_scope"
    assert (await mine.submit()).status_code == 200
    assert await status(desk, referral_id) == "closed"


async def test_a_double_click_does_it_once_and_another_answer_under_its_key_is_told(desk: Desk) -> None:
    referral_id = await desk.accepted()
    browser = await at(desk, "iscg-95", referral_id, "contact")
    form = browser.html.forms[-1]
    person = form.choices["person_id"][0]
    headers = {"Origin": "http://127.0.0.1:8000"}
    data = dict(form.with_(**CONTACT, person_id=person))

    both = await asyncio.gather(*(browser.desk.post(form.action, data=data, headers=headers) for _ in range(2)))

    assert [answer.status_code for answer in both] == [303, 303]
    assert len(await desk.rows("SELECT id FROM contact_attempts")) == 1
    answer = await browser.submit(**CONTACT | {"result": "no_answer"}, person_id=person)
    assert answer.status_code == 409
    assert "déjà été enregistré" in browser.html.text
    assert (await browser.submit()).status_code == 200, "with its fresh key it is another one"
    assert len(await desk.rows("SELECT id FROM contact_attempts")) == 2


async def test_the_coordinator_assigns_what_found_no_post_by_hand(desk: Desk) -> None:
    referral_id = await desk.receive(unit_id=None, commune="95637")
    assert await status(desk, referral_id) == "unrouted"
    browser = await desk.sign_in("coordinator-95")
    await browser.follow("Saisines sans poste")
    await browser.open(next(link for link in browser.html.links.values() if str(referral_id) in link))
    assert "Aucun poste ne couvre" in browser.html.text or "aucun poste ne couvre" in browser.html.text

    await browser.follow("Affecter à un poste")
    await browser.submit(post_id=str(d.POST_SARCELLES))

    assert await status(desk, referral_id) == "assigned"
    assert "La saisine est affectée." in browser.html.text


async def test_what_is_declined_or_transferred_leads_back_to_the_list_for_it_is_no_longer_theirs(desk: Desk) -> None:
    for move, typed in (("decline", {"reason": "overloaded"}), ("transfer", {"post_id": str(d.POST_SARCELLES)})):
        referral_id = await desk.receive()
        browser = await at(desk, "iscg-95", referral_id, move)

        answer = await browser.submit(**typed)

        assert answer.status_code == 200
        assert re.search(r"/desk/referrals\?done=", str(browser.page.url))
        assert CHANGES[Move(move)].told in browser.html.text


async def test_a_step_that_is_not_open_or_not_for_this_role_says_why_and_one_that_does_not_exist_is_not_found(desk: Desk) -> None:
    referral_id = await desk.receive()
    browser = await desk.sign_in("iscg-95")

    for move, code in (("contact", 409), ("assign", 404), ("erase", 403), ("route", 404), ("made-up", 404)):
        answer = await browser.open(f"/desk/referrals/{referral_id}/{move}")
        assert answer.status_code == code, move
        assert browser.html.forms == []
    assert "ne permet pas" in (await browser.open(f"/desk/referrals/{referral_id}/contact")).text


async def test_reading_a_referral_is_audited_as_by_the_api_with_the_purpose_that_was_given(desk: Desk) -> None:
    referral_id = await desk.receive()
    await desk.sign_in("coordinator-95", f"/desk/referrals/{referral_id}", "supervision")

    rows = await desk.rows("SELECT data FROM outbox WHERE stream = 'audit' ORDER BY position")
    entries = [json.loads(row.data) for row in rows]

    read = [entry for entry in entries if entry["operation"] == "read_referral"]
    assert {(one["client"], one["purpose"], one["subject"], one["role"]) for one in read} == {
        ("desk", "supervision", f"referrals/{referral_id}", "coordinator")
    }
    assert {one["actor"] for one in read} == {str(next(id for id, one in d.PERSONS.items() if one.client_id == "coordinator-95"))}
    assert "read_timeline" in {entry["operation"] for entry in entries}


async def test_no_personal_value_stands_in_an_address(desk: Desk) -> None:
    referral_id = await desk.accepted()
    browser = await at(desk, "iscg-95", referral_id, "contact")
    await browser.submit(**CONTACT, person_id=browser.html.forms[-1].choices["person_id"][0])

    addresses = "\n".join([*browser.visited, *browser.html.links.values()])

    for personal in ("Exemple", "3363998", "bibliothèque", "voisins", "1991", "victim", "couple_violence"):
        assert personal not in addresses


async def reached(desk: Desk) -> tuple[UUID, UUID]:
    """An accepted referral and its victim, who came in person."""
    referral_id = await desk.accepted()
    [victim, *_] = await desk.persons(referral_id)
    call = {"person_id": victim, "mode": "in_person", "result": "reached", "attempted_at": "2026-11-23T09:00:00Z"}
    await desk.post("iscg-95", f"/v1/referrals/{referral_id}/contacts", call | {"override_reason": "person_asked"})
    return referral_id, victim


async def refused_again(browser: Browser, link: str, reason: str, why: str) -> None:
    """What was withdrawn is not withdrawn twice."""
    await browser.open(link)
    await browser.submit(reason=reason)
    assert browser.page.status_code == 409
    assert why in browser.html.text


async def test_what_was_noted_by_mistake_is_withdrawn_from_the_referrals_page(desk: Desk) -> None:
    referral_id = await desk.accepted(children_present=1)
    browser = await at(desk, "iscg-95", referral_id, "alert")
    await browser.submit(kind="concerning_information")
    assert "Information préoccupante envoyée" in browser.html.text

    [link] = [link for _, link in browser.html.all_links if link.endswith("/withdraw")]
    await browser.open(link)
    await browser.submit()
    assert browser.page.status_code == 422
    assert "#reason" in {link for _, link in browser.html.all_links}
    await browser.submit(reason="not_sent")

    assert browser.page.status_code == 200, browser.html.text
    assert "L'envoi noté est retiré." in browser.html.text
    assert "l'envoi n'a pas eu lieu" in browser.html.text
    assert "Information préoccupante envoyée" not in browser.html.text
    assert not [link for _, link in browser.html.all_links if link.endswith("/withdraw")]
    await refused_again(browser, link, "not_sent", "a déjà été retiré")


async def test_a_contact_that_was_noted_by_mistake_is_withdrawn_from_the_referrals_page(desk: Desk) -> None:
    referral_id = await desk.accepted()
    browser = await at(desk, "iscg-95", referral_id, "contact")
    await browser.submit(**CONTACT, person_id=browser.html.forms[-1].choices["person_id"][0])

    [link] = [link for _, link in browser.html.all_links if link.endswith("/withdraw")]
    await browser.open(link)
    assert "L'accord noté avec elle est retiré aussi" in browser.html.text
    assert "annulées parce que la personne avait décliné restent annulées" in browser.html.text
    await browser.submit()
    assert browser.page.status_code == 422
    assert "#reason" in {link for _, link in browser.html.all_links}
    await browser.submit(reason="other_person")

    assert browser.page.status_code == 200, browser.html.text
    assert "La tentative de contact est retirée." in browser.html.text
    assert "concerne une autre personne" in browser.html.text
    assert "À tenter avant le" in browser.html.text
    assert not [link for _, link in browser.html.all_links if link.endswith("/withdraw")]
    await refused_again(browser, link, "other_person", "a déjà été retirée")


async def test_an_interview_that_was_noted_by_mistake_is_withdrawn_from_the_referrals_page(desk: Desk) -> None:
    referral_id, victim = await reached(desk)
    held = {"person_ids": [victim], "place": "station", "duration_minutes": 50, "held_at": "2026-11-23T10:00:00Z"}
    interview_id = (await desk.post("iscg-95", f"/v1/referrals/{referral_id}/interviews", held)).json()["id"]
    browser = await desk.sign_in("iscg-95", f"/desk/referrals/{referral_id}")

    [link] = [link for _, link in browser.html.all_links if link.endswith(f"/interviews/{interview_id}/withdraw")]
    await browser.open(link)
    await browser.submit(reason="noted_twice")

    assert browser.page.status_code == 200, browser.html.text
    assert "L'entretien est retiré." in browser.html.text
    assert "noté deux fois" in browser.html.text
    await refused_again(browser, link, "noted_twice", "a déjà été retiré")


async def test_an_assessment_that_was_noted_by_mistake_is_withdrawn_from_the_referrals_page(desk: Desk) -> None:
    referral_id, victim = await reached(desk)
    needs = {"person_id": victim, "needs": ["rights"], "known_to_services": "known"}
    assessment_id = (await desk.post("iscg-95", f"/v1/referrals/{referral_id}/assessments", needs)).json()["id"]
    browser = await desk.sign_in("iscg-95", f"/desk/referrals/{referral_id}")

    [link] = [link for _, link in browser.html.all_links if link.endswith(f"/assessments/{assessment_id}/withdraw")]
    await browser.open(link)
    await browser.submit(reason="other_person")

    assert browser.page.status_code == 200, browser.html.text
    assert "L'évaluation est retirée." in browser.html.text
    assert "Évaluation des besoins retirée" in browser.html.text
    await refused_again(browser, link, "other_person", "a déjà été retirée")


async def test_a_form_that_was_open_when_a_person_was_erased_notes_nothing_about_them(desk: Desk) -> None:
    referral_id = await desk.accepted()
    [victim, _] = await desk.persons(referral_id)
    browser = await at(desk, "iscg-95", referral_id, "alert")
    await erase(desk, referral_id, [victim])

    await browser.submit(
        kind="prosecutor_report", court="95127", sent_at="2026-11-23T10:05", person_ids=[str(victim)], note="Mots sur elle"
    )

    assert browser.page.status_code == 409
    assert "Les données de cette personne ont été effacées" in browser.html.text
    assert await desk.rows("SELECT 1 FROM alerts") == []


async def test_two_victims_of_whom_no_name_is_known_are_told_apart_by_number_sex_and_age(desk: Desk) -> None:
    unknown = {"role": "victim", "sex": "unknown", "agreement": "accepted"}
    referral_id = await desk.accepted(persons=[unknown, unknown, unknown | {"sex": "female", "approximate_age": 30}])

    browser = await at(desk, "iscg-95", referral_id)
    page = browser.html.text
    await browser.open(f"/desk/referrals/{referral_id}/contact")

    for choice in ("Victime n° 1 – Non connu", "Victime n° 2 – Non connu", "Victime n° 3 – Femme, environ 30 ans"):
        assert choice in browser.html.text
        assert page.count(choice) >= 3  # the card, what may be done with it, and the rules of a call


async def test_no_contact_is_offered_where_everybody_refused_and_the_number_of_the_police_is_told(desk: Desk) -> None:
    refused = {"role": "victim", "sex": "female", "agreement": "refused"}
    referral_id = await desk.accepted(persons=[refused], external_reference="95-2026-0042")

    browser = await at(desk, "iscg-95", referral_id)

    assert "Noter une tentative de contact" not in browser.html.text
    assert "chacune des personnes a refusé d'être contactée" in browser.html.text
    assert "95-2026-0042" in browser.html.text
    read = await desk.read_as("iscg-95", referral_id)
    assert (read["external_reference"], [one["number"] for one in read["people"]]) == ("95-2026-0042", [1])
