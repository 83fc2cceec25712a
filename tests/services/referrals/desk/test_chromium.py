"""The desk in a real browser: signed in at the embedded issuer, from the worklist to a closed referral by keyboard alone and without any script."""

import os
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from playwright.async_api import Browser

from libs.contracts import demonstration as d
from libs.embedded.issuer import create_app as create_issuer
from services.referrals.app import SERVICE, end_retention
from tests.services.referrals.conftest import territory
from tests.services.referrals.desk.conftest import Desk, call_by_name, settings
from tests.services.referrals.desk.screen import MISSING, Screen, chromium, window
from tests.services.referrals.desk.test_sign_in import execute
from tests.services.referrals.test_justice import REQUISITION
from tests.services.referrals.test_links import link
from tests.services.referrals.test_rights import old
from tests.serving import app_of, listening, served

# CI's own lane wants it (MAILLON_BROWSER): there it fails instead
pytestmark = pytest.mark.skipif(MISSING is not None and not os.environ.get("MAILLON_BROWSER"), reason=MISSING or "")


@pytest.fixture
async def served_desk(database_url: Callable[[str | None], str]) -> AsyncIterator[Desk]:
    """On sockets: the desk, and the issuer where one signs in."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
    desk_url, issuer_url = (f"http://127.0.0.1:{one.getsockname()[1]}" for one in sockets)
    given = settings(public_url=desk_url, token_issuer=issuer_url)
    async with served(SERVICE, database_url("referrals"), **given) as up:
        desk = Desk(up.client, up.runtime, up.issuer, up.openapi)
        await desk.hear("partners", *territory())
        async with listening(app_of(up.client), sockets[0]), listening(create_issuer(up.issuer), sockets[1]):
            yield desk


@pytest.fixture(scope="session")
async def browser() -> AsyncIterator[Browser]:
    async with chromium() as made:
        yield made


def body(desk: Desk) -> dict[str, Any]:
    """A referral whose victim may be called at any hour: the test has its own."""
    persons = desk.body()["persons"]
    persons[0]["safe_contact"]["windows"] = []
    persons[0]["safe_contact"]["note"] = "Ne jamais rappeler un numéro masqué."
    persons.append({"role": "witness", "sex": "male", "approximate_age": 9, "agreement": "refused"})
    return {"persons": persons}


async def sign_in(screen: Screen, desk: Desk, who: str, purpose: str = "follow_up") -> None:
    url = desk.runtime.settings.public_url
    await screen.page.goto(f"{url}/desk/")
    await screen.press('a:text-is("Se connecter")')
    person = next(id for id, one in d.PERSONS.items() if one.client_id == who)
    await screen.press(f'button[value="{person}"]')
    await screen.page.goto(f"{url}/desk/purpose")
    await screen.choose("#purpose", purpose)
    await screen.press('button:text-is("Continuer")')


def assert_accessible(screen: Screen) -> None:
    assert {name: found for name, found in screen.looked_at.items() if found} == {}


async def test_from_the_worklist_to_a_closed_referral_by_keyboard_and_without_script(served_desk: Desk, browser: Browser) -> None:
    desk = served_desk
    referral_id = await desk.receive(**body(desk))
    [first, *_] = await desk.persons(referral_id)
    async with window(browser) as screen:
        page = screen.page
        await page.goto(f"{desk.runtime.settings.public_url}/desk/")
        await screen.look("door")
        await sign_in(screen, desk, "iscg-95")
        await screen.look("worklist")

        await page.keyboard.press("Tab")
        assert await page.locator(".skip:focus").is_visible(), "the first key shows the way past the navigation"
        await screen.press(f'a[href="/desk/referrals/{referral_id}"]')
        await screen.look("referral-assigned")
        await screen.press('button:text-is("Accepter")')
        await screen.press('a:text-is("Noter une tentative de contact")')
        await screen.look("contact")

        await screen.press('button:text-is("Enregistrer")')
        assert page.url.endswith("/contact")
        await screen.look("contact-to-correct")
        await screen.press('.errors a[href="#mode"]')
        await screen.choose("#mode", "phone")
        await screen.choose("#result", "reached")
        await screen.tick(f'input[name="person_id"][value="{first}"]')
        await screen.press('button:text-is("Enregistrer")')
        assert "La tentative de contact est notée." in await page.inner_text("main")

        await screen.press('a:text-is("Orienter vers un partenaire")')
        await screen.look("orient")
        await screen.choose("#sought_need", "victim_support")
        await screen.press('button:text-is("Chercher")')
        await screen.look("orient-services")
        await screen.tick(f'input[name="person_id"][value="{first}"]')
        await screen.tick(f'input[name="service_id"][value="{d.VICTIM_SUPPORT_SERVICE}"]')
        await screen.press('button:text-is("Demander l\'orientation")')
        await screen.look("orientation")

        [asked] = await desk.rows("SELECT id FROM orientations")
        assert (await desk.answer("partner-95", str(asked.id), "accept")).status_code == 200
        await screen.press(f'.back a[href="/desk/referrals/{referral_id}"]')
        await screen.look("referral-worked")
        await screen.press('a:text-is("Clore")')
        await screen.look("close")
        await screen.tick('input[name="reason"][value="oriented"]')
        await screen.press('button:text-is("Clore")')
        await screen.look("referral-closed")

    [row] = await desk.rows("SELECT status FROM referrals")
    assert row.status == "closed"
    assert_accessible(screen)


async def test_the_other_pages_are_accessible_too(served_desk: Desk, browser: Browser) -> None:
    desk = served_desk
    await call_by_name(desk)
    unrouted = await desk.receive(unit_id=None, commune="95637")
    await old(desk, 720)
    await end_retention(desk.runtime)
    accepted = await desk.accepted(**body(desk))
    [first, *_] = await desk.persons(accepted)
    orientation = (await desk.orient(accepted)).json()["id"]
    over = (await desk.orient(accepted, d.LEGAL_ADVICE_SERVICE, "legal_advice")).json()["id"]
    assert (await desk.answer("partner-95", over, "reject", {"reason": "no_capacity"})).status_code == 200
    entry = (await desk.post("coordinator-95", f"/v1/referrals/{accepted}/requisitions", REQUISITION)).json()["id"]
    sent = {"kind": "prosecutor_report", "court": "95127", "person_ids": [first], "sent_at": "2026-11-24T15:30:00Z", "reference": "CRIP-1"}
    noted = (await desk.post("iscg-95", f"/v1/referrals/{accepted}/alerts", sent)).json()["id"]
    call = {"person_id": first, "mode": "phone", "result": "reached", "attempted_at": "2026-11-24T15:30:00Z"}
    called = (await desk.post("iscg-95", f"/v1/referrals/{accepted}/contacts", call)).json()["id"]
    met = {"person_ids": [first], "place": "station", "duration_minutes": 50, "held_at": "2026-11-24T15:45:00Z"}
    held = (await desk.post("iscg-95", f"/v1/referrals/{accepted}/interviews", met)).json()["id"]
    needs = {"person_id": first, "needs": ["rights"], "known_to_services": "known"}
    made = (await desk.post("iscg-95", f"/v1/referrals/{accepted}/assessments", needs)).json()["id"]
    url = f"{desk.runtime.settings.public_url}/desk"
    for who, pages in {
        "coordinator-95": {
            "worklist": "/referrals",
            "unrouted": "/referrals?status=unrouted",
            "referral-unrouted": f"/referrals/{unrouted}",
            "assign": f"/referrals/{unrouted}/assign",
            "register": "/requisitions",
            "requisition": f"/requisitions/{entry}",
            "requisition-correct": f"/requisitions/{entry}/correct",
            "announced-ends": "/announced-ends",
            "erasures": "/erasures",
            "persons": "/persons",
            "erase": f"/referrals/{accepted}/erase?person={first}",
            "notices": "/notices",
            "notice-preference": "/notices/departement/95",
            "sign-out": "/sign-out",
            "purpose": "/purpose",
            "not-found": "/referrals/nothing",
            "wrong-day": "/referrals?since=hier",
        },
        "iscg-95": {
            "interview": f"/referrals/{accepted}/interview",
            "assess": f"/referrals/{accepted}/assess",
            "alert": f"/referrals/{accepted}/alert",
            "alert-withdraw": f"/referrals/{accepted}/alerts/{noted}/withdraw",
            "contact-withdraw": f"/referrals/{accepted}/contacts/{called}/withdraw",
            "interview-withdraw": f"/referrals/{accepted}/interviews/{held}/withdraw",
            "assessment-withdraw": f"/referrals/{accepted}/assessments/{made}/withdraw",
            "referral-with-alert": f"/referrals/{accepted}",
            "requisition-new": f"/referrals/{accepted}/requisitions/new",
            "correct": f"/referrals/{accepted}/correct",
            "correct-person": f"/referrals/{accepted}/correct/{first}",
            "add-person": f"/referrals/{accepted}/persons/new",
            "corrections": f"/referrals/{accepted}/journal/corrections",
            "transfer": f"/referrals/{accepted}/transfer",
            "orientation-asked": f"/orientations/{orientation}",
            "not-open": f"/referrals/{accepted}/reopen",
        },
        "partner-95": {
            "orientations": "/orientations",
            "orientation-to-answer": f"/orientations/{orientation}",
            "orientation-over": f"/orientations/{over}",
        },
    }.items():
        async with window(browser) as screen:
            await sign_in(screen, desk, who)
            for name, path in pages.items():
                await screen.page.goto(url + path)
                await look(screen, f"{who}-{name}")
        assert_accessible(screen)
    await look_by_link(desk, browser, orientation)


async def look(screen: Screen, name: str) -> None:
    await screen.look(name)
    title = await screen.page.title()
    assert title.endswith(" – Maillon")
    assert title != " – Maillon"
    assert await screen.page.locator("h1").count() == 1
    assert await screen.page.locator("html").get_attribute("lang") == "fr"


async def look_by_link(desk: Desk, browser: Browser, orientation: str) -> None:
    """What a partner without account sees behind a link: read, answered without a reason, answered, over, and a link that is none."""
    _, path = await link(desk, orientation=orientation)
    url = desk.runtime.settings.public_url
    async with window(browser) as screen:
        await screen.page.goto(url + path)
        await look(screen, "answer-open")
        await screen.choose("#reject_reason", "other")
        await screen.press('button[value="reject"]')
        await look(screen, "answer-to-correct")
        await screen.press('button[value="accept"]')
        await look(screen, "answered")
        await screen.page.goto(url + path)
        await look(screen, "answer-over")
        await screen.page.goto(f"{url}/reponse/nothing")
        await look(screen, "answer-unknown")
    assert_accessible(screen)


FORMS = ("contact", "interview", "assess", "alert", "correct", "correct/{person}", "requisitions/new", "transfer", "close", "orient")


async def test_every_form_that_is_sent_empty_says_so_accessibly_and_nothing_is_wider_than_a_small_screen(
    served_desk: Desk, browser: Browser
) -> None:
    desk = served_desk
    await call_by_name(desk)
    accepted = await desk.accepted(**body(desk))
    [first, *_] = await desk.persons(accepted)
    orientation = (await desk.orient(accepted)).json()["id"]
    url = f"{desk.runtime.settings.public_url}/desk"
    # 320 px: what 1280 px are at 400 %, and more than 200 % asks for (WCAG 1.4.4, 1.4.10)
    async with window(browser, viewport={"width": 320, "height": 640}) as screen:
        await sign_in(screen, desk, "iscg-95")
        for path in ("/referrals", "/orientations", f"/referrals/{accepted}", f"/orientations/{orientation}", "/purpose", "/sign-out"):
            await screen.page.goto(url + path)
            await fits(screen, path)
        for form in FORMS:
            await screen.page.goto(f"{url}/referrals/{accepted}/{form.format(person=first)}")
            await fits(screen, form)
            if form == "orient":  # its search asks for nothing; what it finds is a form
                async with screen.page.expect_navigation():
                    await screen.page.locator("form.filters button").press("Enter")
            async with screen.page.expect_navigation():
                await screen.page.locator("form[novalidate] button").press("Enter")
            assert (await screen.page.title()).startswith("À corriger"), form
            await screen.look(f"empty-{form.partition('/')[0]}{len(screen.looked_at)}")
            await fits(screen, f"{form}, empty")
            first_link = screen.page.locator(".errors a").first
            target = str(await first_link.get_attribute("href"))
            await first_link.press("Enter")
            assert await screen.page.locator(f"{target}:target").count() == 1, f"{form}: the error leads to its field, {target}"
    assert_accessible(screen)


async def test_a_text_whose_session_ended_a_search_and_an_erasure_by_keyboard_and_without_script(
    served_desk: Desk, browser: Browser
) -> None:
    desk = served_desk
    referral_id = await desk.accepted(**body(desk))
    [first, *_] = await desk.persons(referral_id)
    url = f"{desk.runtime.settings.public_url}/desk"
    written = "Texte fictif, long, que personne ne veut écrire deux fois."
    async with window(browser, viewport={"width": 320, "height": 640}) as screen:
        page = screen.page
        await sign_in(screen, desk, "coordinator-95", "persons_rights")
        await page.goto(f"{url}/referrals/{referral_id}/alert")
        await screen.tab_to("#note")
        await page.keyboard.type(written)
        await execute(desk, "DELETE FROM desk_sessions")
        await screen.press('button:text-is("Enregistrer")')
        assert "gardé, chiffré" in await page.inner_text("main")
        await screen.look("session-over-text-kept")
        await fits(screen, "session over")
        await screen.press('main a:text-is("Se connecter")')
        await screen.press(f'button[value="{next(id for id, one in d.PERSONS.items() if one.client_id == "coordinator-95")}"]')
        await screen.choose("#purpose", "persons_rights")
        await screen.press('button:text-is("Continuer")')
        assert await page.locator("#note").input_value() == written
        await screen.look("text-is-back")
        await fits(screen, "text is back")

        await screen.press('nav a:text-is("Personnes")')
        await screen.press('button:text-is("Chercher")')
        assert (await page.title()).startswith("À corriger")
        await screen.look("persons-to-correct")
        await screen.tab_to("#family_name")
        await page.keyboard.type("Exemple")
        await screen.tab_to("#given_name")
        await page.keyboard.type("Camille")
        await page.locator("#birth_on").fill("1991-04-12")
        await screen.press('main button:text-is("Chercher")')
        await screen.look("persons-found")
        await fits(screen, "persons found")
        await screen.press(f'a[href="/desk/referrals/{referral_id}/erase?person={first}"]')
        await fits(screen, "erase")
        await screen.press('button:text-is("Voir ce qui sera perdu")')
        await screen.look("erase-confirm")
        await fits(screen, "erase, to confirm")
        await page.emulate_media(media="print")
        assert await page.locator("main ul").first.is_visible(), "what will be lost is printed"
        assert not await page.locator("main form").is_visible()
        await page.emulate_media(media="screen")
        await screen.press('button:text-is("Effacer définitivement")')
        assert "L'effacement est fait." in await page.inner_text("main")

        for path in ("/notices", "/notices/departement/95", "/announced-ends", "/held-ends", "/erasures", "/erasures?waiting=false"):
            await page.goto(url + path)
            await screen.look(path.strip("/").replace("/", "-").replace("?", "-"))
            await fits(screen, path)
        [erased] = await desk.rows("SELECT id FROM erasures")
        await page.goto(f"{url}/erasures/{erased.id}")
        await screen.look("erasure")
        await fits(screen, "erasure")
        await page.goto(f"{url}/notices/departement/95")
        await screen.press('main button:text-is("Enregistrer")')
        await screen.look("notice-to-correct")
        await screen.tab_to("#address")
        await page.keyboard.type("coordination@maillon.example")
        await screen.tick('input[name="mode"][value="digest"]')
        await screen.press('main button:text-is("Enregistrer")')
        assert "Vos notifications sont réglées." in await page.inner_text("main")
        await screen.look("notice-set")
    assert_accessible(screen)


async def fits(screen: Screen, path: str) -> None:
    wide = await screen.page.locator("html").evaluate("element => element.scrollWidth")
    assert wide <= 320, f"{path} is {wide} pixels wide"


async def test_a_referral_prints_without_navigation_and_forms_and_fits_a_telephone(served_desk: Desk, browser: Browser) -> None:
    desk = served_desk
    referral_id = await desk.accepted(**body(desk))
    url = f"{desk.runtime.settings.public_url}/desk"
    async with window(browser, viewport={"width": 360, "height": 740}) as screen:
        await sign_in(screen, desk, "iscg-95")
        for path in ("/referrals", f"/referrals/{referral_id}", f"/referrals/{referral_id}/contact"):
            await screen.page.goto(url + path)
            await screen.look(f"narrow{path.count('/')}")
            wide = await screen.page.locator("html").evaluate("element => element.scrollWidth")
            assert wide <= 360, f"{path} is {wide} pixels wide"
        await screen.page.goto(f"{url}/referrals/{referral_id}")
        await screen.page.emulate_media(media="print")
        await screen.look("print")
        for hidden in ("nav", ".screen", ".who"):
            assert not await screen.page.locator(hidden).first.is_visible()
        assert await screen.page.locator(".safe").first.is_visible()
    assert_accessible(screen)


async def test_no_page_asks_anything_of_another_site_and_none_breaks_its_own_policy(served_desk: Desk, browser: Browser) -> None:
    desk = served_desk
    referral_id = await desk.accepted(**body(desk))
    asked: list[str] = []
    said: list[str] = []
    async with window(browser) as screen:
        screen.page.on("request", lambda request: asked.append(request.url))
        screen.page.on("console", lambda message: said.append(message.text))
        await sign_in(screen, desk, "iscg-95")
        for path in ("", f"/{referral_id}", f"/{referral_id}/contact", f"/{referral_id}/orient?need=shelter"):
            await screen.page.goto(f"{desk.runtime.settings.public_url}/desk/referrals{path}")
        await screen.page.goto(f"{desk.runtime.settings.public_url}/desk/sign-out")
        await screen.press('main button:text-is("Se déconnecter")')
        assert await screen.page.inner_text("h1") == "Poste de travail"
        assert await screen.page.locator('a:text-is("Se connecter")').count() == 1

    assert {url.split("/")[2] for url in asked} == {
        one.split("/")[2] for one in (desk.runtime.settings.public_url, desk.runtime.settings.token_issuer)
    }
    assert [text for text in said if "policy" in text.lower()] == []
    assert await desk.rows("SELECT created_at FROM desk_sessions") == []
