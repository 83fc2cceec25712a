"""Notices at the desk: how one is told by e-mail, and the ends of retention that a coordinator is told of."""

import pytest
from sqlalchemy import text

from libs.contracts import demonstration as d
from services.referrals.app import end_retention
from tests.services.referrals.desk.browser import Browser
from tests.services.referrals.desk.conftest import ORGANIZATIONS, Desk, call_by_name
from tests.services.referrals.test_rights import age, ask, contacted, old

POST, DEPARTEMENT, ASSOCIATION = f"post:{d.POST_CERGY}", "departement:95", f"organization:{d.ASSOCIATION}"
CHOSEN = {"address": "poste@maillon.example", "mode": "digest"}


async def settings_of(desk: Desk, who: str) -> Browser:
    browser = await desk.sign_in(who)
    await browser.follow("Notifications")
    return browser


async def preference(desk: Desk, who: str, recipient: str) -> dict[str, object]:
    found: dict[str, object] = (await desk.get(who, f"/v1/notice-preferences/{recipient}")).json()
    return found


@pytest.mark.parametrize(("who", "recipient"), [("iscg-95", POST), ("coordinator-95", DEPARTEMENT), ("partner-95", ASSOCIATION)])
async def test_who_is_told_sets_where_when_and_of_what_and_finds_it_again(desk: Desk, who: str, recipient: str) -> None:
    browser = await settings_of(desk, who)
    assert "rien n'est réglé, aucun courriel n'est envoyé" in browser.html.text
    [link] = [href for _, href in browser.html.all_links if href.startswith("/desk/notices/")]
    await browser.open(link)
    form = browser.html.forms[-1]
    offered = form.choices["wanted"]
    assert [value for name, value in form.fields if name == "wanted"] == offered, "all is wanted at first"

    await browser.submit(**CHOSEN, wanted=offered[1:])

    assert "Vos notifications sont réglées." in browser.html.text
    now = await preference(desk, who, recipient)
    assert (now["address"], now["mode"], now["left_out"], now["own"]) == ("poste@maillon.example", "digest", offered[:1], True)
    fields = browser.html.forms[-1].fields
    assert {("address", "poste@maillon.example"), ("mode", "digest")} <= set(fields)
    assert [value for name, value in fields if name == "wanted"] == offered[1:]


async def test_what_is_wrong_is_said_beside_its_field_and_a_form_read_before_another_change_undoes_nothing(desk: Desk) -> None:
    one, other = await settings_of(desk, "iscg-95"), await settings_of(desk, "iscg-95")
    for browser in (one, other):
        await browser.open(f"/desk/notices/post/{d.POST_CERGY}")

    await one.submit(address="pas une adresse")
    assert one.page.status_code == 422
    assert {"#address", "#mode"} <= {link for _, link in one.html.all_links}
    assert ("address", "pas une adresse") in one.html.forms[-1].fields
    await one.submit(**CHOSEN)
    await other.submit(address="autre@maillon.example", mode="immediate")

    assert (one.page.status_code, other.page.status_code) == (200, 412)
    assert (await preference(desk, "iscg-95", POST))["address"] == "poste@maillon.example"


async def test_nobody_opens_or_changes_the_notifications_of_others(desk: Desk) -> None:
    for who, paths in {
        "iscg-95": (f"post/{d.REFERRAL}", "departement/95", f"organization/{d.SHELTER}"),
        "coordinator-95": ("departement/78", f"post/{d.POST_CERGY}", f"organization/{d.ASSOCIATION}", "commune/95127"),
        "partner-95": (f"organization/{d.SHELTER}", "departement/95"),
    }.items():
        browser = await desk.sign_in(who)
        for path in paths:
            assert (await browser.open(f"/desk/notices/{path}")).status_code == 404, (who, path)
    await browser.open("/desk/notices")
    await browser.open(f"/desk/notices/organization/{d.ASSOCIATION}")
    form = browser.html.forms[-1]
    form.action = f"/desk/notices/organization/{d.SHELTER}"
    answer = await browser.desk.post(form.action, data=dict(form.fields) | CHOSEN, headers={"Sec-Fetch-Site": "same-origin"})
    assert answer.status_code == 404
    assert await desk.rows("SELECT recipient FROM notice_preferences") == []


async def test_a_coordinator_reads_which_closed_referrals_end_and_from_which_day(desk: Desk) -> None:
    await call_by_name(desk)
    ending = await old(desk, 720)
    await end_retention(desk.runtime)
    [told] = (await desk.get("coordinator-95", "/v1/announced-ends")).json()["items"]
    browser = await desk.sign_in("coordinator-95")

    await browser.follow("Fins de conservation")

    year, month, day = str(told["erased_from"]).split("-")
    assert f"{day}/{month}/{year}" in browser.html.text
    assert "Pour en garder une, rouvrez-la avant ce jour." in browser.html.text
    assert f"/desk/referrals/{ending}" in browser.html.links.values()
    other = await desk.sign_in("coordinator-78")
    await other.open("/desk/announced-ends")
    assert "Aucune fin de conservation n'est annoncée." in other.html.text
    for who in ("iscg-95", "partner-95"):
        browser = await desk.sign_in(who)
        assert "Fins de conservation" not in browser.html.links
        assert (await browser.open("/desk/announced-ends")).status_code == 403


async def test_a_coordinator_reads_what_is_held_past_its_end_and_why(desk: Desk) -> None:
    open_still = await contacted(desk)
    await age(desk, open_still, 800)
    async with desk.runtime.database.transaction() as session:
        await session.execute(text("UPDATE moves SET at = at - interval '800 days'"))
    browser = await desk.sign_in("coordinator-95")
    await browser.follow("Fins de conservation")

    await browser.follow("Saisines gardées au-delà de leur conservation")

    assert "Encore ouverte : close, elle sera effacée" in browser.html.text
    assert f"/desk/referrals/{open_still}" in browser.html.links.values()


async def test_announced_ends_are_read_by_pages(desk: Desk) -> None:
    ids = sorted([str(await old(desk)) for _ in range(3)])
    await end_retention(desk.runtime)
    browser = await desk.sign_in("coordinator-95")

    await browser.open("/desk/announced-ends?limit=2")
    first = [one for one in ids if f"/desk/referrals/{one}" in browser.html.links.values()]
    await browser.follow("Page suivante")

    assert first == ids[:2]
    assert f"/desk/referrals/{ids[2]}" in browser.html.links.values()


async def test_the_coordinator_writes_down_that_a_structure_has_erased_its_copies(desk: Desk) -> None:
    referral_id = await desk.accepted()
    assert (await desk.orient(referral_id)).status_code == 201
    assert (await ask(desk, referral_id, await desk.persons(referral_id))).status_code == 201
    browser = await desk.sign_in("coordinator-95")
    await browser.follow("Effacements")
    [form] = [link for text, link in browser.html.links.items() if text == "Inscrire une confirmation"]
    await browser.open(form)
    assert f"organization:{d.ASSOCIATION}" in browser.html.forms[-1].choices["stream"]
    assert "internal" not in browser.html.forms[-1].choices["stream"]
    today = dict(browser.html.forms[-1].fields)["confirmed_on"]
    answered = {"stream": f"organization:{d.ASSOCIATION}", "how": "letter"}

    assert (await browser.submit(**answered, confirmed_on="2020-01-01")).status_code == 422
    assert "#confirmed_on" in {link for _, link in browser.html.all_links}
    assert (await browser.submit(**answered, confirmed_on=today)).status_code == 200

    assert "La confirmation est inscrite au registre." in browser.html.text
    [row] = await desk.rows(f"SELECT acknowledged_by, confirmed_how FROM erasure_notices WHERE stream = 'organization:{d.ASSOCIATION}'")
    assert (row.acknowledged_by, row.confirmed_how) == ("hand", "letter")
    await browser.open(form)
    assert "confirmé à la main, courrier du" in browser.html.text
    assert "Ministère de la Justice : personne n'y est attendu" in browser.html.text
    for who, code in (("coordinator-78", 404), ("iscg-95", 403)):
        other = await desk.sign_in(who)
        assert (await other.open(form)).status_code == code


async def test_the_coordinator_reads_which_erasures_wait_and_for_whom(desk: Desk) -> None:
    referral_id = await desk.accepted()
    assert (await desk.orient(referral_id)).status_code == 201
    assert (await ask(desk, referral_id, await desk.persons(referral_id))).status_code == 201
    browser = await desk.sign_in("coordinator-95")

    await browser.follow("Effacements")

    assert f"/desk/referrals/{referral_id}" in browser.html.links.values()
    assert f"…{str(d.ASSOCIATION)[-8:]}" in browser.html.text
    async with desk.runtime.database.transaction() as session:
        await session.execute(text("UPDATE erasures SET completed_at = now()"))
    await browser.open("/desk/erasures")
    assert "Tous les effacements sont confirmés." in browser.html.text
    await browser.follow("Effacements confirmés par tous")
    assert f"/desk/referrals/{referral_id}" in browser.html.links.values()
    other = await desk.sign_in("coordinator-78")
    await other.open("/desk/erasures?waiting=false")
    assert f"/desk/referrals/{referral_id}" not in other.html.links.values()
    for who in ("iscg-95", "partner-95"):
        browser = await desk.sign_in(who)
        assert "Effacements" not in browser.html.links
        assert (await browser.open("/desk/erasures")).status_code == 403


async def test_the_register_of_erasures_names_whom_to_ask_and_the_client_that_has_not_acted(desk: Desk) -> None:
    await call_by_name(desk)
    referral_id = await desk.accepted()
    assert (await desk.orient(referral_id)).status_code == 201
    asked = {"person_id": (await desk.persons(referral_id))[0], "service_id": d.SHELTER_SERVICE, "need": "housing"}
    assert (await desk.post("iscg-95", f"/v1/referrals/{referral_id}/orientations", asked)).status_code == 201
    async with desk.runtime.database.transaction() as session:  # one of the two follows its stream, the other has no program
        await session.execute(
            text("INSERT INTO stream_readers (stream, client_id, epoch, sequence) VALUES (:stream, 'partner-95', 1, 0)"),
            {"stream": ASSOCIATION},
        )
    assert (await ask(desk, referral_id, await desk.persons(referral_id))).status_code == 201
    browser = await desk.sign_in("coordinator-95", to="/desk/erasures")

    await browser.open("/desk/erasures")
    listed = browser.html.text
    await browser.open(next(link for text, link in browser.html.links.items() if text.startswith("Inscrire une confirmation")))

    for said in (listed, browser.html.text):
        assert f"{ORGANIZATIONS[d.ASSOCIATION]} (client partner-95)" in said
        assert f"{ORGANIZATIONS[d.SHELTER]} (ne lit pas son flux)" in said
        assert str(d.ASSOCIATION)[-8:] not in said
    assert "Services de Maillon (clients funding, partners, reporting)" in listed
