"""Orientations at the desk: a service is found and asked, the partner answers, each by the API's own commands."""

import urllib.parse
from uuid import UUID

import pytest
from sqlalchemy import text

from libs.contracts import demonstration as d
from services.referrals.desk.orientation_changes import CHANGES
from services.referrals.orientations.domain import ORIENTATION_MOVES, OrientationMove
from tests.services.referrals.desk.browser import Browser
from tests.services.referrals.desk.conftest import Desk


async def searching(desk: Desk, referral_id: UUID, need: str = "victim_support") -> Browser:
    browser = await desk.sign_in("iscg-95")
    await browser.open(f"/desk/referrals/{referral_id}")
    await browser.follow("Orienter vers un partenaire")
    await browser.submit(0, sought_need=need)
    assert browser.page.status_code == 200, browser.html.text
    return browser


async def asked(desk: Desk, service: UUID = d.VICTIM_SUPPORT_SERVICE) -> str:
    answer = await desk.orient(await desk.accepted(), service)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


async def state(desk: Desk, orientation: str) -> str:
    [row] = await desk.rows(f"SELECT status FROM orientations WHERE id = '{orientation}'")
    return str(row.status)


def test_every_step_that_a_person_makes_has_a_form() -> None:
    assert CHANGES.keys() == {move for move, row in ORIENTATION_MOVES.items() if row.by} - {OrientationMove.REQUEST}


async def test_a_service_is_found_by_need_and_asked_with_what_was_chosen(desk: Desk) -> None:
    referral_id = await desk.accepted()
    browser = await searching(desk, referral_id)
    await desk.said()
    form = browser.html.forms[-1]
    assert form.choices["service_id"] == [str(d.VICTIM_SUPPORT_SERVICE)]

    answer = await browser.submit(person_id=form.choices["person_id"][0], service_id=str(d.VICTIM_SUPPORT_SERVICE))

    assert answer.status_code == 200
    assert "L'orientation est demandée." in browser.html.text
    assert await desk.said_types() == ["orientation.requested"]
    [row] = await desk.rows("SELECT id, need, service_id, person_id FROM orientations")
    assert (row.need, row.service_id, row.person_id) == ("victim_support", d.VICTIM_SUPPORT_SERVICE, (await desk.persons(referral_id))[0])
    await browser.open(f"/desk/referrals/{referral_id}")
    assert f"/desk/orientations/{row.id}" in browser.html.links.values()


async def test_whom_a_service_takes_is_told_before_it_is_asked(desk: Desk) -> None:
    async with desk.runtime.database.transaction() as session:
        takes = {"sexes": ["female"], "age_bands": ["18-24", "15-17"]}
        await session.execute(text("UPDATE services_heard SET sexes = :sexes, age_bands = :age_bands"), takes)

    browser = await searching(desk, await desk.accepted())

    assert "accueille : femme, 15 à 17 ans, 18 à 24 ans" in browser.html.text


async def test_what_may_not_fit_is_told_before_and_after(desk: Desk) -> None:
    async with desk.runtime.database.transaction() as session:
        await session.execute(text("UPDATE services_heard SET capacity = 0"))
    browser = await searching(desk, await desk.accepted(), "shelter")
    assert "Attention : Ce service annonce ne plus avoir de place." in browser.html.text
    form = browser.html.forms[-1]

    await browser.submit(person_id=form.choices["person_id"][0], service_id=form.choices["service_id"][0])

    assert "La demande est partie, mais :" in browser.html.text
    assert "Ce service annonce ne plus avoir de place." in browser.html.text


async def test_services_of_another_departement_are_shown_when_asked_for_and_closed_ones_never(desk: Desk) -> None:
    browser = await searching(desk, await desk.accepted(), "victim_support")
    await browser.submit(0, sought_need="victim_support", sought_departement="78")
    assert browser.html.forms[-1].choices.get("service_id", []) in ([], [str(d.SERVICE_78)])

    async with desk.runtime.database.transaction() as session:
        await session.execute(text("UPDATE services_heard SET closed = true"))
    await browser.submit(0, sought_need="victim_support", sought_departement="95")
    assert "Aucun service de l'annuaire" in browser.html.text


async def test_a_refusal_is_shown_on_the_form_and_what_was_chosen_stays(desk: Desk) -> None:
    persons = desk.body()["persons"]
    persons[0]["agreement"] = "not_asked"
    browser = await searching(desk, await desk.accepted(persons=persons))
    form = browser.html.forms[-1]
    person, service = form.choices["person_id"][0], form.choices["service_id"][0]

    answer = await browser.submit(person_id=person, service_id=service)

    assert answer.status_code == 409
    assert "L'accord de cette personne n'a pas été demandé" in browser.html.text
    assert dict(browser.html.forms[-1].fields)["service_id"] == service
    assert (await browser.submit(legal_ground="vital_danger")).status_code == 200
    [row] = await desk.rows("SELECT legal_ground FROM orientations")
    assert row.legal_ground == "vital_danger"

    await browser.open(f"/desk/referrals/{(await desk.rows('SELECT id FROM referrals'))[0].id}/orient?need=victim_support")
    assert (await browser.submit(person_id=person, service_id=service, legal_ground="vital_danger")).status_code == 409
    assert "déjà orientée vers ce service" in browser.html.text
    assert (await browser.submit(person_id="", service_id="")).status_code == 422
    assert "Choisissez une réponse." in browser.html.text


async def test_an_orientation_that_came_to_nothing_is_replaced(desk: Desk) -> None:
    referral_id = await desk.accepted()
    first = (await desk.orient(referral_id)).json()["id"]
    await desk.answer("partner-95", first, "reject", {"reason": "no_capacity"})
    browser = await searching(desk, referral_id)
    form = browser.html.forms[-1]

    await browser.submit(person_id=form.choices["person_id"][0], service_id=form.choices["service_id"][0], replaces_id=first)

    assert [str(row.replaces_id) for row in await desk.rows("SELECT replaces_id FROM orientations ORDER BY id")] == ["None", first]


async def test_the_link_of_a_mail_leads_the_partner_to_the_orientation_that_it_answers(desk: Desk) -> None:
    orientation = await asked(desk)
    browser = desk.browser()

    await browser.sign_in("partner-95", f"/desk/orientations/{orientation}", "orientation")
    assert "Consignes de contact, à respecter à la lettre" in browser.html.text
    assert "+33639980001" in browser.html.text
    for step, typed in ((0, {}), (0, {}), (0, {"outcome": "supported"})):
        answer = await browser.submit(step, **typed)
        assert answer.status_code == 200, browser.html.text

    assert await state(desk, orientation) == "completed"
    assert "L'orientation est terminée." in browser.html.text
    assert (await browser.open(f"/desk/orientations/{orientation}")).status_code == 200
    assert "le contenu sur la personne n'est plus communiqué" in browser.html.text
    assert "Personne accompagnée" in browser.html.text
    for personal in ("Camille", "+33639980001", "bibliothèque"):
        assert personal not in browser.page.text
    assert browser.html.forms == []


@pytest.mark.parametrize(
    ("agreement", "told"), [("refused", "a refusé d'être contactée"), ("not_asked", "n'a pas été recueilli"), ("accepted", "")]
)
async def test_the_page_of_an_orientation_on_a_legal_ground_names_it_and_shows_how_to_contact_the_person_safely(
    desk: Desk, agreement: str, told: str
) -> None:
    first, *others = desk.body()["persons"]
    referral_id = await desk.accepted(persons=[first | {"agreement": "not_asked"}, *others])
    [person, *_] = await desk.persons(referral_id)
    body = {"person_id": person, "service_id": d.VICTIM_SUPPORT_SERVICE, "need": "victim_support", "legal_ground": "vital_danger"}
    orientation = (await desk.post("iscg-95", f"/v1/referrals/{referral_id}/orientations", body)).json()["id"]
    if agreement != "not_asked":
        said = {"reason": "learned", "persons": [{"person_id": person, "agreement": agreement}]}
        assert (await desk.move("iscg-95", referral_id, "corrections", said)).status_code == 201

    for who in ("partner-95", "iscg-95"):
        browser = await desk.sign_in(who, f"/desk/orientations/{orientation}", "orientation")

        assert "Consignes de contact, à respecter à la lettre" in browser.html.text
        assert "Message vocal : interdit" in browser.html.text
        assert "Ne pas contacter" not in browser.html.text
        assert ("Danger vital immédiat" in browser.html.text) == bool(told)
        assert told in browser.html.text


async def test_a_partner_says_no_with_a_reason_and_the_social_worker_reads_it(desk: Desk) -> None:
    orientation = await asked(desk)
    partner = await desk.sign_in("partner-95", f"/desk/orientations/{orientation}")
    number = next(n for n, form in enumerate(partner.html.forms) if form.action.endswith("/reject"))

    assert (await partner.submit(number)).status_code == 422
    assert "Choisissez dans la liste." in partner.html.text
    assert (await partner.submit(number, reason="other")).status_code == 422
    assert "Précisez en quelques mots le motif du refus." in partner.html.text
    assert (await partner.submit(number, reason="other", reason_text="Déjà suivie ici.")).status_code == 200

    worker = await desk.sign_in("iscg-95", f"/desk/orientations/{orientation}")
    assert "Autre motif" in worker.html.text
    assert "Déjà suivie ici." in worker.html.text
    assert worker.html.forms == []


async def test_an_answer_to_what_changed_since_changes_nothing(desk: Desk) -> None:
    orientation = await asked(desk)
    partner = await desk.sign_in("partner-95", f"/desk/orientations/{orientation}")
    assert (await desk.answer("partner-95", orientation, "accept")).status_code == 200

    assert (await partner.submit(0)).status_code == 412
    assert "Quelqu'un a modifié ce dossier" in partner.html.text


@pytest.mark.parametrize("who", ["iscg-95", "coordinator-95"])
async def test_what_a_partner_accepted_is_taken_back_with_a_reason_that_the_page_shows(desk: Desk, who: str) -> None:
    orientation = await asked(desk)
    assert (await desk.answer("partner-95", orientation, "accept")).status_code == 200
    browser = await desk.sign_in(who, f"/desk/orientations/{orientation}")
    [number] = [n for n, form in enumerate(browser.html.forms) if form.action.endswith("/cancel")]
    assert "person_refused" not in browser.html.forms[number].choices["reason"], "noted by a correction, not here"
    assert (await browser.submit(number)).status_code == 422

    await browser.submit(number, reason="no_longer_suitable")

    assert await state(desk, orientation) == "cancelled"
    assert "L'orientation est annulée ; la structure en est prévenue." in browser.html.text
    assert "L'orientation ne convient plus à la situation" in browser.html.text


async def test_who_turns_out_too_old_for_the_ground_of_a_support_that_goes_on_is_shown_to_the_post_until_it_is_settled(desk: Desk) -> None:
    child = desk.body()["persons"][0] | {"agreement": "not_asked", "identity": None, "approximate_age": 9}
    referral_id = await desk.accepted(persons=[child])
    [person] = await desk.persons(referral_id)
    service = {"person_id": person, "service_id": d.VICTIM_SUPPORT_SERVICE, "need": "victim_support", "legal_ground": "minor_in_danger"}
    made = await desk.post("iscg-95", f"/v1/referrals/{referral_id}/orientations", service)
    orientation = made.json()["id"]
    assert (await desk.answer("partner-95", orientation, "accept")).status_code == 200
    browser = await desk.sign_in("iscg-95")
    pages = (f"/desk/referrals/{referral_id}", f"/desk/orientations/{orientation}")

    async def warned() -> list[bool]:
        return ["Son motif légal ne vaut pas pour une personne de cet âge" in (await browser.open(one)).text for one in pages]

    before = await warned()
    grown = {"reason": "mistake", "persons": [{"person_id": person, "approximate_age": 90}]}
    assert (await desk.move("iscg-95", referral_id, "corrections", grown)).status_code == 201
    after = await warned()
    partner = await desk.sign_in("partner-95", f"/desk/orientations/{orientation}")

    assert (before, after) == ([False, False], [True, True])
    assert "Son motif légal" not in partner.html.text


async def test_a_link_for_a_partner_without_account_is_shown_once_and_answers(desk: Desk) -> None:
    orientation = await asked(desk)
    worker = await desk.sign_in("iscg-95", f"/desk/orientations/{orientation}")
    [number] = [n for n, form in enumerate(worker.html.forms) if form.action.endswith("/link")]

    await worker.submit(number)
    [link] = [word for word in worker.html.text.split() if "/reponse/" in word]
    answer = await desk.client.post(urllib.parse.urlsplit(link).path, data={"version": "1", "answer": "accept"})

    assert answer.status_code == 200
    assert await state(desk, orientation) == "accepted"
    assert "/reponse/" not in (await worker.open(f"/desk/orientations/{orientation}")).text


async def test_reading_an_orientation_is_audited_with_its_purpose(desk: Desk) -> None:
    orientation = await asked(desk)
    await desk.sign_in("partner-95", f"/desk/orientations/{orientation}", "orientation")

    rows = [bytes(row.data).decode() for row in await desk.rows("SELECT data FROM outbox WHERE stream = 'audit'")]

    read = [row for row in rows if '"operation":"read_orientation"' in row]
    assert read
    assert all(f'"subject":"orientations/{orientation}"' in row and '"purpose":"orientation"' in row for row in read)


async def test_lists_are_paged_and_filtered(desk: Desk) -> None:
    referral_id = await desk.accepted()
    for service, need in ((d.VICTIM_SUPPORT_SERVICE, "victim_support"), (d.SHELTER_SERVICE, "shelter")):
        assert (await desk.orient(referral_id, service, need)).status_code == 201
    worker = await desk.sign_in("iscg-95")

    await worker.open("/desk/orientations?limit=1")
    seen = [link for link in worker.html.links.values() if link.startswith("/desk/orientations/")]
    await worker.follow("Page suivante")
    seen += [link for link in worker.html.links.values() if link.startswith("/desk/orientations/")]

    assert len(set(seen)) == 2
    await worker.open("/desk/orientations?status=completed")
    assert "Aucune orientation ne correspond." in worker.html.text
    partner = await desk.sign_in("partner-95", "/desk/orientations")
    assert len({link for link in partner.html.links.values() if link.startswith("/desk/orientations/")}) == 1


async def test_a_partner_begins_with_what_it_has_to_answer_the_first_to_expire_first(desk: Desk) -> None:
    calm, ended, urgent = [await desk.accepted(urgency=urgency, danger=False) for urgency in ("standard", "standard", "immediate")]
    first, over, second = [(await desk.orient(one)).json()["id"] for one in (calm, ended, urgent)]
    assert (await desk.answer("partner-95", over, "reject", {"reason": "no_capacity"})).status_code == 200
    partner = await desk.sign_in("partner-95", "/desk/orientations")

    def listed() -> list[str]:
        of_rows = (link for link in partner.html.links.values() if link.startswith("/desk/orientations/"))
        return [link.removeprefix("/desk/orientations/") for link in dict.fromkeys(of_rows)]

    assert listed() == [second, first]
    await partner.open("/desk/orientations?limit=1")
    await partner.follow("Page suivante")
    assert listed() == [first]
    await partner.open("/desk/orientations?status=")
    assert listed() == [first, over, second]
    await partner.open(f"/desk/orientations/{over}")
    assert "Pas de place" in partner.html.text
    assert "Camille" not in partner.page.text
    worker = await desk.sign_in("iscg-95", "/desk/orientations")
    assert f"/desk/orientations/{over}" in worker.html.links.values(), "who asks sees all"
