"""What the desk shows of the directory is called by its name, and found by it; alerts and requisitions say to whom and what."""

import json
from uuid import UUID

import pytest

from libs.contracts import demonstration as d
from tests.services.referrals.desk.conftest import Desk, call_by_name
from tests.services.referrals.desk.test_worklist import listed

SERVICE = next(one for one in d.SERVICES if one.id == d.VICTIM_SUPPORT_SERVICE)
POST = next(one.name for one in d.POSTS if one.id == d.POST_CERGY)
UNIT = next(one.name for one in d.UNITS if one.id == d.UNIT_CERGY)


async def test_services_posts_units_and_communes_are_called_by_their_names(desk: Desk) -> None:
    await call_by_name(desk)
    referral_id = await desk.accepted()
    orientation = (await desk.orient(referral_id)).json()["id"]

    for who, pages in {
        "iscg-95": {
            f"/desk/referrals/{referral_id}": {SERVICE.name, POST, UNIT, "Cergy (95127)"},
            f"/desk/referrals/{referral_id}/transfer": {"Poste fictif de Sarcelles"},
            f"/desk/referrals/{referral_id}/orient?need=victim_support": {SERVICE.name, "Cergy (95127)"},
            f"/desk/orientations/{orientation}": {SERVICE.name, "Cergy (95127)"},
            "/desk/orientations": {SERVICE.name},
        },
        "coordinator-95": {"/desk/referrals": {POST, "Cergy (95127)"}, f"/desk/referrals/{referral_id}": {SERVICE.name}},
        "partner-95": {"/desk/orientations": {SERVICE.name}, f"/desk/orientations/{orientation}": {SERVICE.name, "Cergy (95127)"}},
    }.items():
        browser = await desk.sign_in(who, to="/desk/orientations")
        for address, said in pages.items():
            await browser.open(address)
            assert [one for one in said if one not in browser.html.text] == [], address
            assert str(d.VICTIM_SUPPORT_SERVICE)[-8:] not in browser.html.text
            assert str(d.POST_CERGY)[-8:] not in browser.html.text


async def test_while_a_name_is_not_known_the_end_of_the_id_stands_for_it(desk: Desk) -> None:
    referral_id = await desk.accepted()
    await desk.orient(referral_id)
    browser = await desk.sign_in("iscg-95", to=f"/desk/referrals/{referral_id}")
    await browser.open(f"/desk/referrals/{referral_id}")

    for said in (f"Service …{str(d.VICTIM_SUPPORT_SERVICE)[-8:]}", f"Poste …{str(d.POST_CERGY)[-8:]}", "95127"):
        assert said in browser.html.text


@pytest.mark.parametrize(
    ("sought", "found"),
    [
        ({"sought_name": SERVICE.name.upper()}, True),
        ({"sought_name": SERVICE.name.split()[-1].lower()}, True),
        ({"sought_name": "Hébergement introuvable"}, False),
        ({"sought_name": "%"}, True),  # no word: nothing is asked
        ({"sought_theme": "couple_violence"}, True),
        ({"sought_theme": "housing"}, False),
        ({"sought_need": "victim_support"}, True),
        ({"sought_kind": SERVICE.kind.value}, True),
        ({"sought_nearby": "yes"}, True),
        ({"sought_departement": "78"}, False),
        ({}, True),
    ],
)
async def test_a_service_is_searched_by_name_theme_need_kind_and_commune(desk: Desk, sought: dict[str, str], found: bool) -> None:
    await call_by_name(desk)
    browser = await desk.sign_in("iscg-95")
    await browser.open(f"/desk/referrals/{await desk.accepted()}/orient")

    answer = await browser.submit(0, **sought)

    assert answer.status_code == 200
    choices = browser.html.forms[-1].choices.get("service_id", [])
    assert (str(SERVICE.id) in choices) is found
    assert dict(browser.html.forms[0].fields).items() >= sought.items(), "the form keeps what was sought"
    assert "?" not in str(browser.page.url)


async def test_a_service_found_by_its_name_alone_is_asked_for_the_need_that_is_chosen_then(desk: Desk) -> None:
    await call_by_name(desk)
    referral_id = await desk.accepted()
    [person, *_] = await desk.persons(referral_id)
    browser = await desk.sign_in("iscg-95")
    await browser.open(f"/desk/referrals/{referral_id}/orient")
    await browser.submit(0, sought_name=SERVICE.name)

    missing = await browser.submit(person_id=str(person), service_id=str(SERVICE.id))
    assert missing.status_code == 422
    assert "Besoin : choisissez dans la liste." in browser.html.text
    assert ("service_id", str(SERVICE.id)) in browser.html.forms[-1].fields
    answer = await browser.submit(need="victim_support")

    assert answer.status_code == 200
    [row] = await desk.rows("SELECT need, service_id FROM orientations")
    assert (row.need, row.service_id) == ("victim_support", SERVICE.id)


async def test_the_coordinator_sees_what_has_no_post_before_anything_else(desk: Desk) -> None:
    routed, unrouted = str(await desk.receive()), str(await desk.receive(unit_id=None, commune="95637"))
    closed = await desk.accepted()
    assert (await desk.move("iscg-95", closed, "close", {"reason": "out_of_scope"})).status_code == 200
    browser = await desk.sign_in("coordinator-95")

    assert listed(browser) == [unrouted, routed]
    assert browser.html.text.index("Sans poste, à affecter") < browser.html.text.index("Avec un poste")
    await browser.open("/desk/referrals?urgency=immediate")
    assert listed(browser) == []
    await browser.open("/desk/referrals?status=unrouted")
    assert listed(browser) == [unrouted]


async def test_an_alert_shows_its_addressee_and_reference_and_who_works_it_sees_the_requisitions(desk: Desk) -> None:
    await call_by_name(desk)
    referral_id = await desk.accepted()
    [victim, _] = await desk.persons(referral_id)
    alert = {
        "kind": "prosecutor_report", "court": "95127", "person_ids": [victim], "sent_at": "2026-11-23T10:05:00+01:00", "reference": "PARQUET-77"
    }  # fmt: skip
    assert (await desk.post("iscg-95", f"/v1/referrals/{referral_id}/alerts", alert)).status_code == 201
    asked = {
        "ground": "cpp_77_1_1", "authority": "judicial_police", "authority_name": "OPJ EXEMPLE", "reference": "PV-1", "scope": "Le récit.",
        "asked": ["narrative"], "person_ids": [victim], "received_at": "2026-11-23T10:05:00+01:00"
    }  # fmt: skip
    assert (await desk.post("iscg-95", f"/v1/referrals/{referral_id}/requisitions", asked)).status_code == 201

    seen: dict[str, str] = {}
    for who in ("iscg-95", "coordinator-95"):
        browser = await desk.sign_in(who)
        await browser.open(f"/desk/referrals/{referral_id}")
        seen[who] = browser.html.text

    for text in seen.values():
        assert "au procureur de la République, tribunal judiciaire de Cergy (95127)" in text
        assert "Référence : PARQUET-77" in text
        assert "OPJ EXEMPLE" not in text
        assert "Enquête préliminaire" in text
        assert "pas encore répondu" in text
    entries = [json.loads(row.data) for row in await desk.rows("SELECT data FROM outbox WHERE stream = 'audit'")]
    assert len([one for one in entries if one["operation"] == "list_alerts"]) == 2


async def test_the_contacts_begin_with_how_each_person_may_be_reached(desk: Desk) -> None:
    persons = desk.body()["persons"]
    persons[1]["agreement"] = "refused"
    referral_id: UUID = await desk.accepted(persons=persons)
    browser = await desk.sign_in("iscg-95")
    await browser.open(f"/desk/referrals/{referral_id}")

    before, _, after = browser.html.text.partition("Avant d'appeler ou d'écrire")
    assert before.rstrip().endswith("Contacts")
    assert "ne pas contacter, cette personne a refusé" in after
    assert "quelqu'un d'autre lit peut-être son téléphone" in after
