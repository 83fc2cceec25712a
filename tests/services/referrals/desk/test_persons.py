"""The rights of a person at the desk: found by name, handed over as data, erased after it was said what will be lost."""

import json
from typing import Any
from uuid import UUID

from libs.contracts import demonstration as d
from services.referrals.rights.erasure import ErasureCause
from tests.services.referrals.desk.browser import Browser
from tests.services.referrals.desk.conftest import Desk
from tests.services.referrals.desk.test_moves import at
from tests.services.referrals.test_erasure import erase
from tests.services.referrals.test_justice import REQUISITION

VICTIM = {"family_name": "Exemple", "given_name": "camille", "birth_on": "1991-04-12"}


async def looking(desk: Desk, who: str) -> Browser:
    browser = await desk.sign_in(who, purpose="persons_rights")
    await browser.follow("Personnes")
    return browser


async def audited(desk: Desk, operation: str) -> list[dict[str, Any]]:
    entries = [
        json.loads(row.data) for row in await desk.rows("SELECT convert_from(data, 'UTF8') AS data FROM outbox WHERE stream = 'audit'")
    ]
    return [one for one in entries if one["operation"] == operation]


async def erasing(desk: Desk, referral_id: UUID, *persons: UUID, **more: str) -> Browser:
    """As far as what will be lost."""
    browser = await at(desk, "coordinator-95", referral_id, "erase")
    await browser.submit(person_ids=[str(one) for one in persons], **more)
    return browser


async def test_one_search_with_a_birth_date_finds_who_is_known_by_it_and_who_has_the_name_without_one(desk: Desk) -> None:
    await desk.receive(persons=[desk.body()["persons"][0] | {"identity": VICTIM | {"birth_on": "1960-01-31"}}])
    dated = await desk.receive()
    nameless = {"role": "victim", "sex": "female", "agreement": "accepted", "approximate_age": 35}
    undated = await desk.receive(persons=[nameless | {"identity": {"family_name": "Exemple", "given_name": "Camille"}}])
    browser = await looking(desk, "coordinator-95")

    await browser.submit(**VICTIM)

    assert "2 saisine(s) trouvée(s)" in browser.html.text
    links = {link for _, link in browser.html.all_links}
    for referral_id in (dated, undated):
        assert any(str(referral_id) in link for link in links)


async def test_who_gives_a_name_alone_finds_everybody_of_it_told_apart_by_age(desk: Desk) -> None:
    old = [desk.body()["persons"][0] | {"identity": VICTIM | {"birth_on": "1950-01-31"}}]
    ids = [await desk.receive(), await desk.receive(persons=old)]
    browser = await looking(desk, "iscg-95")

    await browser.submit(family_name="Exemple", given_name="Camille")

    assert "2 saisine(s) trouvée(s)" in browser.html.text
    assert "Plusieurs personnes peuvent porter ce nom" in browser.html.text
    assert all(age in browser.html.text for age in ("25 à 39 ans", "75 ans et plus"))
    links = {link for _, link in browser.html.all_links}
    assert {f"/desk/referrals/{one}" for one in ids} <= links


async def test_everything_held_on_a_person_is_found_by_name_and_its_data_handed_over(desk: Desk) -> None:
    ids = [await desk.accepted(), await desk.receive()]
    browser = await looking(desk, "coordinator-95")

    await browser.submit(**VICTIM)

    assert browser.page.status_code == 200
    assert "2 saisine(s) trouvée(s)" in browser.html.text
    for referral_id in ids:
        [victim, _] = await desk.persons(referral_id)
        about = f"/desk/referrals/{referral_id}/persons/{victim}"
        assert {f"{about}/export.pdf", f"{about}/export.json", f"/desk/referrals/{referral_id}/erase?person={victim}"} <= {
            link for _, link in browser.html.all_links
        }
    assert all("xemple" not in address and "1991" not in address for address in browser.visited)
    searches = [(one["purpose"], one["detail"]) for one in await audited(desk, "search_persons")]
    assert searches == [("persons_rights", {"found": "2", "by": "identity"})]
    answer = await browser.open(f"/desk/referrals/{ids[0]}/persons/{(await desk.persons(ids[0]))[0]}/export.json")
    assert answer.headers["content-disposition"].startswith("attachment")
    assert answer.headers["cache-control"] == "no-store"
    assert answer.json()["person"]["identity"]["family_name"] == "Exemple"
    assert [one["purpose"] for one in await audited(desk, "export_person")] == ["persons_rights"]


async def test_who_is_unknown_or_in_another_perimeter_is_not_found_and_what_is_missing_is_said(desk: Desk) -> None:
    await desk.accepted()
    browser = await looking(desk, "coordinator-95")
    await browser.submit(family_name="Exemple")
    assert browser.page.status_code == 422
    assert "#given_name" in {link for _, link in browser.html.all_links}
    assert ("family_name", "Exemple") in browser.html.forms[-1].fields

    await browser.submit(family_name="Exemple", given_name="Dominique")
    assert "Personne de ce nom dans votre périmètre. Cherchez aussi avec sa date de naissance." in browser.html.text
    other = await looking(desk, "coordinator-78")
    await other.submit(**VICTIM)
    assert "Personne de ce nom dans votre périmètre. Cherchez aussi sans date de naissance." in other.html.text
    partner = await desk.sign_in("partner-95")
    assert (await partner.open("/desk/persons")).status_code == 403


async def test_a_social_worker_finds_and_hands_over_but_is_offered_no_erasure(desk: Desk) -> None:
    referral_id = await desk.accepted()
    browser = await looking(desk, "iscg-95")

    await browser.submit(**VICTIM)

    links = [link for _, link in browser.html.all_links]
    assert any(link.endswith("/export.json") for link in links)
    assert not any("/erase" in link for link in links)
    await browser.open(f"/desk/referrals/{referral_id}")
    assert not any("/erase" in link for _, link in browser.html.all_links)
    assert (await browser.open(f"/desk/referrals/{referral_id}/erase")).status_code == 403


async def test_before_a_person_is_erased_it_is_said_what_will_be_lost_and_only_a_confirmation_erases(desk: Desk) -> None:
    referral_id = await desk.accepted()
    [victim, other] = await desk.persons(referral_id)
    assert (await desk.orient(referral_id)).status_code == 201
    browser = await at(desk, "coordinator-95", referral_id)
    await browser.open(f"/desk/referrals/{referral_id}/erase?person={victim}")
    assert [value for name, value in browser.html.forms[-1].fields if name == "person_ids"] == [str(victim)]

    await browser.submit()

    assert "Ce qui sera perdu, pour toujours" in browser.html.text
    assert "Camille Exemple : identité, coordonnées" in browser.html.text
    assert "1 orientation(s) en cours prennent fin" in browser.html.text
    for spared in ("Le récit transmis", "elle est effacée en entier"):
        assert spared not in browser.html.text
    assert await desk.rows("SELECT id FROM erasures") == []
    await browser.submit()
    assert "L'effacement est fait." in browser.html.text
    assert "Les données de cette personne ont été effacées." in browser.html.text
    [row] = await desk.rows("SELECT person_ids, whole, cause FROM erasures")
    assert ([str(one) for one in row.person_ids], row.whole, row.cause) == ([str(victim)], False, "request")
    [entry] = await audited(desk, "erase_persons")
    assert (entry["subject"], entry["purpose"]) == (f"referrals/{referral_id}", "persons_rights")
    assert str(other) not in str(row.person_ids)


async def test_what_a_legal_ground_or_a_requisition_holds_is_said_before_anything_is_confirmed(desk: Desk) -> None:
    persons = [one | {"agreement": "not_asked"} for one in desk.body()["persons"]]
    supported, asked_for = await desk.accepted(persons=persons), await desk.accepted()
    [victim, other] = await desk.persons(supported)
    body = {"person_id": victim, "service_id": d.VICTIM_SUPPORT_SERVICE, "need": "victim_support", "legal_ground": "vital_danger"}
    assert (await desk.post("iscg-95", f"/v1/referrals/{supported}/orientations", body)).status_code == 201
    waits = {name: value for name, value in REQUISITION.items() if name != "handed_over_at"}
    assert (await desk.post("coordinator-95", f"/v1/referrals/{asked_for}/requisitions", waits)).status_code == 201

    held = [await erasing(desk, supported, victim), await erasing(desk, asked_for, *await desk.persons(asked_for))]
    browser = await erasing(desk, supported, other)

    for one, said in zip(held, ("sur un motif légal : attendez la fin", "attend sa réponse : inscrivez-la"), strict=True):
        assert (one.page.status_code, "Ce qui sera perdu" in one.html.text) == (409, False)
        assert said in one.html.text
        assert "prennent fin" not in one.html.text
    assert (browser.page.status_code, "Ce qui sera perdu, pour toujours" in browser.html.text) == (200, True)


async def test_with_the_last_person_all_that_will_be_lost_is_said_and_lost(desk: Desk) -> None:
    referral_id = await desk.accepted()
    people = await desk.persons(referral_id)
    [victim, _] = people
    assert (await desk.post("coordinator-95", f"/v1/referrals/{referral_id}/requisitions", REQUISITION)).status_code == 201
    sent = {"kind": "prosecutor_report", "court": "95127", "person_ids": [str(victim)], "sent_at": "2026-11-24T15:30:00Z", "note": "x"}
    assert (await desk.post("iscg-95", f"/v1/referrals/{referral_id}/alerts", sent)).status_code == 201

    browser = await erasing(desk, referral_id, *people)

    for said in (
        "Le récit transmis par la police.",
        "Les mots et la référence de 1 information(s) préoccupante(s) ou signalement(s)",
        "Les mots de 1 réquisition(s) du registre",
        "La saisine est close. Il ne reste personne dans la saisine",
    ):
        assert said in browser.html.text, said
    await browser.submit()
    assert (await desk.rows("SELECT status FROM referrals"))[0].status == "erased"
    assert await desk.rows("SELECT id FROM alerts WHERE content <> ''") == []
    assert await desk.rows("SELECT id FROM requisitions WHERE content <> ''") == []
    again = await browser.open(f"/desk/referrals/{referral_id}/erase")
    assert again.status_code == 409


async def test_the_narrative_goes_at_once_only_when_it_is_asked_for(desk: Desk) -> None:
    referral_id = await desk.accepted()
    [victim, _] = await desk.persons(referral_id)

    browser = await erasing(desk, referral_id, victim, narrative="yes")
    assert "Le récit transmis par la police." in browser.html.text
    await browser.submit()

    assert (await desk.rows("SELECT narrative FROM referrals"))[0].narrative is None


async def test_nobody_chosen_nobody_erased_and_what_changed_meanwhile_is_looked_at_again(desk: Desk) -> None:
    referral_id = await desk.accepted()
    [victim, other] = await desk.persons(referral_id)
    browser = await at(desk, "coordinator-95", referral_id, "erase")
    await browser.submit(person_ids=[])
    assert browser.page.status_code == 422
    assert "#person_ids" in {link for _, link in browser.html.all_links}
    await browser.submit(person_ids=[str(victim)])

    await erase(desk, referral_id, [other])
    await browser.submit()

    assert browser.page.status_code == 412
    assert "Quelqu'un a modifié ce dossier" in browser.html.text
    assert len(await desk.rows("SELECT id FROM erasures")) == 1
    foreign = await desk.sign_in("coordinator-78")
    assert (await foreign.open(f"/desk/referrals/{referral_id}/erase")).status_code == 404


async def test_who_was_erased_after_a_refusal_has_the_words_of_an_alert_erased_at_the_desk_too(desk: Desk) -> None:
    referral_id = await desk.accepted()
    [victim, other] = await desk.persons(referral_id)
    sent = {
        "kind": "prosecutor_report",
        "court": "95127",
        "sent_at": "2026-11-23T10:00:00Z",
        "person_ids": [victim],
        "note": "Mots sur elle",
    }
    assert (await desk.post("iscg-95", f"/v1/referrals/{referral_id}/alerts", sent)).status_code == 201
    await erase(desk, referral_id, [victim, other], ErasureCause.REFUSAL, alerts=False)
    browser = await at(desk, "coordinator-95", referral_id)
    [link] = [link for _, link in browser.html.all_links if "/erase" in link]

    await browser.open(link)
    assert [value for name, value in browser.html.forms[-1].fields if name == "person_ids"] == [str(victim)]
    await browser.submit()
    said = browser.html.text
    await browser.submit()

    assert "Les mots et la référence de 1 information(s) préoccupante(s)" in said
    assert "elle est effacée en entier" not in said
    assert "L'effacement est fait." in browser.html.text
    assert "Mots sur elle" not in browser.html.text
    assert not [link for _, link in browser.html.all_links if "/erase" in link]
    assert (await browser.open(link)).status_code == 409


async def test_the_erasure_page_leads_to_the_duplicates_that_hold_the_same_person(desk: Desk) -> None:
    original, twice = await desk.accepted(), await desk.accepted()
    assert (await desk.move("iscg-95", twice, "close", {"reason": "duplicate", "duplicate_of": str(original)})).status_code == 200
    [victim, other] = await desk.persons(twice)
    browser = await at(desk, "coordinator-95", original)
    await browser.open(f"/desk/referrals/{original}/erase")

    def others() -> list[str]:
        return [link for _, link in browser.html.all_links if link.startswith("/desk/referrals/") and link.endswith("/erase")]

    before = others()
    await browser.submit(person_ids=[str((await desk.persons(original))[0])])
    confirming = others()
    await erase(desk, twice, [victim, other])
    await browser.open(f"/desk/referrals/{original}/erase")

    assert before == confirming == [f"/desk/referrals/{twice}/erase"]
    assert not others()


async def test_a_referral_is_found_by_the_polices_reference_which_stands_in_no_address(desk: Desk) -> None:
    referral_id = await desk.receive(external_reference="PV 2026/0042")
    browser = await desk.sign_in("iscg-95")
    await browser.follow("Chercher par la référence de la police")

    await browser.submit()
    assert browser.page.status_code == 422
    await browser.submit(external_reference="PV 2026/0043")
    assert "Aucune saisine de votre périmètre ne porte cette référence." in browser.html.text
    await browser.submit(external_reference="PV 2026/0042")

    assert f"/desk/referrals/{referral_id}" in {link for _, link in browser.html.all_links}
    assert not any("0042" in address for address in browser.visited)
    other = await desk.sign_in("iscg-78")
    await other.open("/desk/references")
    await other.submit(external_reference="PV 2026/0042")
    assert "Aucune saisine de votre périmètre" in other.html.text


async def test_who_was_seen_many_times_before_is_said_by_a_number_the_last_three_and_the_rest_to_unfold(desk: Desk) -> None:
    earlier = [await desk.accepted() for _ in range(5)]
    browser = await desk.sign_in("iscg-95")

    async def note(number: int) -> str:
        page = (await browser.open(f"/desk/referrals/{earlier[number]}")).text
        return page[page.index("déjà connue") : page.index('id="facts"')] if "déjà connue" in page else ""

    once, often, all_of_them = await note(1), await note(3), await note(4)

    assert await note(0) == ""
    assert once.startswith("déjà connue par 1 saisine antérieure : ")
    assert often.startswith("déjà connue par 3 saisines antérieures : ")
    assert "<details>" not in once + often
    sentence, _, folded = all_of_them.partition("<details>")
    assert sentence.startswith("déjà connue par 4 saisines antérieures ; les trois dernières : ")
    assert [str(one) in sentence for one in earlier[:4]] == [False, True, True, True]
    assert "La précédente" in folded
    assert str(earlier[0]) in folded
