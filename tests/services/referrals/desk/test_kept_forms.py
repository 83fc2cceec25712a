"""What was written in a form whose session had ended meanwhile: who finds it again, where, for how long, and what nobody finds."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import httpx
import pytest
from structlog.testing import capture_logs

from libs.chassis.security import Principal
from libs.contracts.demonstration import PERSONS
from libs.contracts.vocabularies import Role
from services.referrals.desk import kept
from services.referrals.desk.kept import KeptForms
from services.referrals.desk.sessions import sweep
from services.referrals.models import Referral
from services.referrals.rights.erasure import ErasureCause, erase
from tests.services.referrals.desk.browser import BASE, Browser
from tests.services.referrals.desk.conftest import Desk
from tests.services.referrals.desk.test_moves import CONTACT, at
from tests.services.referrals.desk.test_sign_in import execute
from tests.services.referrals.test_justice import requisition

WRITTEN = "Texte fictif, long, écrit pendant une heure : « elle l'a dit »."
SENT = {"kind": "prosecutor_report", "court": "95127", "sent_at": "2026-11-24T10:05", "note": WRITTEN}


async def writing(desk: Desk, referral_id: UUID, move: str = "alert") -> Browser:
    """Somebody sits in front of the form of a move."""
    return await at(desk, "iscg-95", referral_id, move)


async def end_sessions(desk: Desk) -> None:
    await execute(desk, "DELETE FROM desk_sessions")


async def send(browser: Browser) -> httpx.Response:
    return await browser.submit(**SENT, person_ids=browser.html.forms[-1].choices["person_ids"][:1])


async def come_back(browser: Browser, who: str = "iscg-95") -> None:
    """By the link of the page that said so."""
    await browser.follow("Se connecter")
    await browser.submit(person=next(id for id, one in PERSONS.items() if one.client_id == who))
    await browser.submit(purpose="follow_up")


async def rows(desk: Desk) -> int:
    return len(await desk.rows("SELECT path FROM desk_kept_forms"))


def note(browser: Browser) -> str:
    return next((value for form in browser.html.forms for name, value in form.fields if name == "note"), "")


async def alerts(desk: Desk) -> int:
    return len(await desk.rows("SELECT id FROM alerts"))


@pytest.mark.parametrize(
    "ended",
    [
        "DELETE FROM desk_sessions",
        "UPDATE desk_sessions SET seen_at = now() - interval '31 minutes'",
        "UPDATE desk_sessions SET expires_at = now()",
    ],
)
async def test_what_was_written_when_the_session_ended_is_in_the_form_again_after_signing_in_and_leaves_by_the_persons_own_act(
    desk: Desk, ended: str
) -> None:
    referral_id = await desk.accepted(children_present=1)
    browser = await writing(desk, referral_id)
    await execute(desk, ended)

    answer = await send(browser)
    assert answer.status_code == 401
    assert "rien n'a été enregistré" in browser.html.text
    assert "gardé, chiffré, pendant une heure" in browser.html.text
    await come_back(browser)

    assert str(browser.page.url) == f"{BASE}/desk/referrals/{referral_id}/alert"
    assert "Ce que vous aviez écrit avant la fin de votre session est revenu" in browser.html.text
    assert note(browser) == WRITTEN
    assert dict(browser.html.forms[-1].fields) | SENT == dict(browser.html.forms[-1].fields), "every answer is back, not the text alone"
    assert await alerts(desk) == 0, "nothing was sent for the person"
    await browser.submit()
    assert "L'envoi est noté." in browser.html.text
    assert await alerts(desk) == 1
    assert await rows(desk) == 0, "sent is forgotten"
    await browser.open(f"/desk/referrals/{referral_id}/alert")
    assert note(browser) == ""


async def test_who_signed_out_in_another_tab_finds_what_was_written_though_the_browser_has_no_cookie_any_more(desk: Desk) -> None:
    browser = await writing(desk, await desk.accepted(children_present=1))
    tab = Browser(browser.desk, browser.issuer)
    await tab.open("/desk/sign-out")
    await tab.submit()
    assert not browser.desk.cookies

    assert (await send(browser)).status_code == 401
    await come_back(browser)

    assert note(browser) == WRITTEN


async def test_who_signed_in_again_in_another_tab_has_the_form_back_at_once_and_must_send_it_again(desk: Desk) -> None:
    browser = await writing(desk, await desk.accepted(children_present=1))
    tab = Browser(browser.desk, browser.issuer)
    await end_sessions(desk)
    await tab.sign_in("iscg-95")

    await send(browser)

    assert (browser.page.status_code, note(browser)) == (200, WRITTEN)
    assert await alerts(desk) == 0
    await browser.submit()
    assert await alerts(desk) == 1


async def test_another_person_who_signs_in_on_that_browser_never_sees_it_and_its_writer_still_does(desk: Desk) -> None:
    referral_id = await desk.accepted(children_present=1)
    browser = await writing(desk, referral_id)
    await end_sessions(desk)
    await send(browser)
    refused = browser.page

    await come_back(browser, "coordinator-95")  # the coordinator, who may fill in the same form of the same referral
    assert str(browser.page.url) == f"{BASE}/desk/referrals/{referral_id}/alert"
    assert browser.page.status_code == 200
    assert "est revenu" not in browser.html.text
    assert all(WRITTEN not in answer.text for answer in browser.seen)

    await end_sessions(desk)
    browser.seen.append(refused)
    await come_back(browser)
    assert note(browser) == WRITTEN


async def test_a_form_that_somebody_else_wrote_is_not_taken_in_ones_own_session_and_stays_its_writers(desk: Desk) -> None:
    referral_id = await desk.accepted(children_present=1)
    browser = await writing(desk, referral_id)
    tab = Browser(browser.desk, browser.issuer)
    await end_sessions(desk)
    await tab.sign_in("coordinator-95")

    assert (await send(browser)).status_code == 403

    await tab.open(f"/desk/referrals/{referral_id}/alert")
    assert note(tab) == ""
    assert await alerts(desk) == 0
    own = await desk.sign_in("iscg-95", to=f"/desk/referrals/{referral_id}/alert")
    assert note(own) == WRITTEN


async def test_what_is_kept_stands_in_no_address_cookie_or_log_and_in_the_database_only_sealed(desk: Desk) -> None:
    browser = await writing(desk, await desk.accepted(children_present=1))
    await end_sessions(desk)

    with capture_logs() as logs:
        await send(browser)
        await come_back(browser)

    assert note(browser) == WRITTEN
    word = WRITTEN[:12]
    assert word not in str(logs)
    assert all(word not in address for address in browser.visited)
    assert all(word not in str(answer.headers) for answer in browser.seen)
    [kept_row] = await desk.rows("SELECT encode(owner, 'escape') AS owner, path, encode(sealed, 'escape') AS sealed FROM desk_kept_forms")
    assert word not in str(kept_row)
    assert "prosecutor_report" not in str(kept_row)
    assert "iscg" not in kept_row.owner


async def test_what_was_kept_is_gone_after_an_hour_and_opens_in_no_other_row(desk: Desk) -> None:
    referral_id = await desk.accepted(children_present=1)
    browser = await writing(desk, referral_id)
    await end_sessions(desk)
    await send(browser)
    await come_back(browser)
    [row] = await desk.rows("SELECT ends_at - now() AS left FROM desk_kept_forms")
    assert timedelta(minutes=59) < row.left <= kept.LONGEST

    await execute(desk, "UPDATE desk_kept_forms SET path = replace(path, 'alert', 'interview')")
    await browser.open(f"/desk/referrals/{referral_id}/interview")
    assert "est revenu" not in browser.html.text
    assert await rows(desk) == 0, "what does not open is gone"

    await browser.open(f"/desk/referrals/{referral_id}/alert")
    await end_sessions(desk)
    await send(browser)
    await execute(desk, "UPDATE desk_kept_forms SET ends_at = now()")
    await come_back(browser)
    assert note(browser) == ""
    await sweep(desk.runtime)
    assert await rows(desk) == 0


async def test_a_form_that_was_taken_before_the_session_ended_is_not_taken_twice(desk: Desk) -> None:
    browser = await writing(desk, await desk.accepted(children_present=1))
    form = browser.page
    await send(browser)  # taken, and the answer lost on its way
    await end_sessions(desk)
    browser.seen.append(form)

    await send(browser)
    await come_back(browser)
    await browser.submit()

    assert browser.page.status_code == 200, browser.html.text
    assert await alerts(desk) == 1


async def test_what_changed_meanwhile_is_told_before_the_form_that_came_back_is_taken(desk: Desk) -> None:
    referral_id = await desk.accepted(children_present=1)
    browser = await writing(desk, referral_id, "correct")
    await end_sessions(desk)
    await browser.submit(narrative=WRITTEN, reason="learned")
    other = await at(desk, "coordinator-95", referral_id, "correct")
    await other.submit(urgency="immediate", reason="learned")
    assert other.page.status_code == 200, other.html.text

    await come_back(browser)
    await browser.submit(reason="learned")

    assert browser.page.status_code == 412
    assert "Quelqu'un a modifié ce dossier" in browser.html.text
    assert "Au dossier maintenant : Immédiate" in browser.html.text
    assert WRITTEN in browser.html.text


async def test_forms_of_several_rows_of_a_search_and_of_an_answer_come_back_whole(desk: Desk) -> None:
    referral_id = await desk.accepted(children_present=1)
    [victim, _] = await desk.persons(referral_id)
    orientation = (await desk.orient(referral_id)).json()["id"]
    for who, path, number, typed in (
        (
            "iscg-95",
            f"referrals/{referral_id}/correct/{victim}",
            -1,
            {"days:1": ["6"], "begins:1": "10:00", "ends:1": "11:30", "note": WRITTEN},
        ),
        ("iscg-95", f"referrals/{referral_id}/contact", -1, CONTACT | {"person_id": str(victim)}),
        ("partner-95", f"orientations/{orientation}/reject", None, {"reason": "other", "reason_text": WRITTEN}),
    ):
        browser = await desk.sign_in(who)
        await browser.open(f"/desk/{path.removesuffix('/reject')}")
        forms = browser.html.forms
        place = number if number is not None else next(n for n, form in enumerate(forms) if form.action == f"/desk/{path}")
        await end_sessions(desk)
        assert (await browser.submit(place, **typed)).status_code == 401, path

        await come_back(browser, who)

        assert str(browser.page.url) == f"{BASE}/desk/{path}"
        [form] = [one for one in browser.html.forms if one.action == f"/desk/{path}"]
        for name, value in typed.items():
            given = [said for field, said in form.fields if field == name]
            if name.startswith(("days", "begins", "ends")):  # the blank row in front of it is gone
                name = name.replace(":1", ":0") if not given or given == [""] else name
                given = [said for field, said in form.fields if field == name]
            assert given == ([value] if isinstance(value, str) else value), (path, name)
        assert browser.html.text.count("est revenu") == 1


async def test_the_request_of_an_orientation_comes_back_with_the_search_it_came_from(desk: Desk) -> None:
    referral_id = await desk.accepted(children_present=1)
    [victim, _] = await desk.persons(referral_id)
    browser = await writing(desk, referral_id, "orient")
    await browser.submit(0, sought_need="victim_support")
    service = browser.html.forms[-1].choices["service_id"][0]
    await end_sessions(desk)
    await browser.submit(person_id=str(victim), service_id=service)

    await come_back(browser)
    assert {("person_id", str(victim)), ("service_id", service)} <= set(browser.html.forms[-1].fields)
    await browser.submit()

    assert len(await desk.rows("SELECT id FROM orientations")) == 1


async def test_what_no_page_of_ours_was_made_for_is_not_kept(desk: Desk) -> None:
    referral_id = await desk.accepted(children_present=1)
    browser = await writing(desk, referral_id)
    form = browser.html.forms[-1]
    [whose] = [value for name, value in form.fields if name == "whose"]
    forms, now = KeptForms.of(desk.runtime), datetime.now(UTC)
    caller = Principal(client_id="desk", subject="somebody", role=Role.ISCG, organization=None, perimeter=frozenset(), scope=frozenset())
    await end_sessions(desk)
    here = {"Origin": BASE, "Sec-Fetch-Site": "same-origin"}
    for headers, said in (
        ({"Origin": "https://ailleurs.example", "Sec-Fetch-Site": "cross-site"}, whose),
        ({}, whose),
        (here, ""),
        (here, "é"),
        (here, whose[:-8] + "AAAAAAA="),
        (here, "A" * len(whose)),
        (here, forms.whose(caller, now - timedelta(days=4))),
    ):
        answer = await browser.desk.post(form.action, data=dict(form.fields) | SENT | {"whose": said}, headers=headers)
        assert answer.status_code == 401, (headers, said)
        assert "gardé" not in answer.text
    large = await browser.desk.post(form.action, data=dict(form.fields) | SENT | {"note": "x" * 70_000}, headers=here)
    nothing = await browser.desk.post(form.action, data={"whose": whose, "version": "1", "key": "k" * 20}, headers=here)

    assert (large.status_code, nothing.status_code) == (413, 401)
    assert await rows(desk) == 0


async def test_no_more_than_ten_are_kept_of_one_person(desk: Desk) -> None:
    browser = await writing(desk, await desk.accepted(children_present=1))
    form = browser.html.forms[-1]
    fields = dict(form.fields) | SENT
    await end_sessions(desk)
    for number in range(12):
        await browser.desk.post(f"/desk/referrals/{UUID(int=number)}/alert", data=fields, headers={"Origin": BASE})

    kept_paths = [row.path for row in await desk.rows("SELECT path FROM desk_kept_forms ORDER BY path")]

    assert kept_paths == [f"/desk/referrals/{UUID(int=number)}/alert" for number in range(2, 12)]


async def test_an_erasure_takes_what_was_written_about_its_referral_and_nothing_else(desk: Desk) -> None:
    """Of each of its pages: its own, its orientation's, its requisition's."""
    going, staying = await desk.accepted(children_present=1), await desk.accepted(children_present=1)
    orientation = (await desk.orient(going)).json()["id"]
    asked = await requisition(desk, going)
    assert asked.status_code == 201, asked.text
    browser = await writing(desk, staying)
    fields = dict(browser.html.forms[-1].fields) | SENT
    await end_sessions(desk)
    of_it = [f"referrals/{going}/alert", f"orientations/{orientation}/reject", f"requisitions/{asked.json()['id']}/correct"]
    for path in (*of_it, f"referrals/{staying}/alert"):
        assert (await browser.desk.post(f"/desk/{path}", data=fields, headers={"Origin": BASE})).status_code == 401, path
    assert await rows(desk) == 4

    async with desk.runtime.database.transaction() as session:
        referral = await session.get_one(Referral, going)
        persons = await desk.persons(going)
        await erase(session, desk.runtime.vault, referral, persons, ErasureCause.RETENTION, datetime.now(UTC), by="test")

    assert [row.path for row in await desk.rows("SELECT path FROM desk_kept_forms")] == [f"/desk/referrals/{staying}/alert"]


@pytest.mark.parametrize("everybody", [True, False])
@pytest.mark.parametrize("signed_in", [True, False])
async def test_what_is_sent_after_an_erasure_from_a_page_made_before_it_is_not_kept(desk: Desk, everybody: bool, signed_in: bool) -> None:
    referral_id, other = [await desk.accepted() for _ in range(2)]
    browser, elsewhere = await writing(desk, referral_id), await writing(desk, other)
    persons = (await desk.persons(referral_id))[: None if everybody else 1]
    async with desk.runtime.database.transaction() as session:
        referral = await session.get_one(Referral, referral_id)
        await erase(session, desk.runtime.vault, referral, persons, ErasureCause.REQUEST, datetime.now(UTC), by="test")

    await end_sessions(desk)
    if signed_in:
        await Browser(browser.desk, browser.issuer).sign_in("iscg-95")
    answer, kept = await send(browser), await send(elsewhere)

    assert answer.status_code == (403 if signed_in else 401), answer.text
    assert "Ce que vous avez écrit est gardé" not in answer.text
    assert "Ce que vous avez écrit est gardé" in kept.text
    assert [row.path for row in await desk.rows("SELECT path FROM desk_kept_forms")] == [f"/desk/referrals/{other}/alert"]
