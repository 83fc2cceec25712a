"""Personal markers typed into every form of the web desk and of the answer page: what is refused is shown again to who typed it, and stands in no address."""

from typing import Any
from urllib.parse import urlsplit

from libs.contracts import demonstration as d
from tests.journeys.markers import PHONE, WORD
from tests.services.referrals.desk.browser import Browser
from tests.services.referrals.desk.conftest import Desk, furnish
from tests.serving import Served

_OURS = frozenset({"csrf", "whose", "version", "key", "with_narrative"})
_TYPED = {"phones": f"+33{PHONE}", "email": f"{WORD}@exemple.invalid", "code_word": WORD, "authority_name": WORD, "scope": WORD}
_MORE = {
    "alert": {"kind": "prosecutor_report", "court": d.COMMUNE_CERGY},
    "requisitions/new": {"received_at": "2026-11-24T10:00", "handed_over": ""},
}
_WORDS = frozenset({"family_name", "given_name", "address", "note", "narrative", "reference", "reject_text", "reason_text", "cancel_text"})


async def type_everywhere(up: Served, body: dict[str, Any]) -> tuple[list[str], set[str]]:
    """A referral is received with this body; every form of its pages is filled with markers, first as it is refused, then as it is taken.
    Gives all addresses that were asked for or sent to, and the forms that took markers."""
    up.runtime.settings = up.runtime.settings.model_copy(update={"desk_client_id": "desk"})
    desk = Desk(up.client, up.runtime, up.issuer, up.openapi)
    furnish(desk)
    referral_id = (await desk.post("police-95", "/v1/referrals", body)).json()["id"]
    assert (await desk.post("iscg-95", f"/v1/referrals/{referral_id}/accept", version=1)).status_code == 200
    person_id = str((await desk.persons(referral_id))[0])
    browser, taken = await desk.sign_in("iscg-95"), set[str]()
    home = f"/desk/referrals/{referral_id}"
    paths = (
        "contact",
        "interview",
        "assess",
        "alert",
        "correct",
        f"correct/{person_id}",
        "persons/new",
        "requisitions/new",
        "transfer",
        "orient",
        "close",
    )
    for path in paths:
        await browser.open(f"{home}/{path}")
        if (number := _form_of(browser)) is None:
            continue
        typed = {name: f"{WORD} {PHONE}" for name, _ in browser.html.forms[number].fields if name not in _OURS}
        await browser.submit(number, **typed)
        searched = path == "orient"  # for a service: whatever is looked for is answered
        assert browser.page.status_code in ((200,) if searched else (400, 404, 422)), f"{path}: {browser.page.status_code}"
        await browser.open(f"{home}/{path}")
        marks = {name: _TYPED.get(name, WORD) for name, _ in browser.html.forms[number].fields if name in _TYPED or name in _WORDS}
        if marks:
            await browser.submit(number, **marks | _choices(browser, number) | _MORE.get(path, {}))
            if browser.page.status_code == 200:
                taken.add(path.partition("/")[0])
    addresses = [address for answer in browser.seen for address in (str(answer.request.url), answer.headers.get("location", ""))]
    return addresses + await _answer_page(desk, referral_id, person_id), taken


def _form_of(browser: Browser) -> int | None:
    """The last one that changes something in a referral."""
    found = [
        number for number, form in enumerate(browser.html.forms) if form.method == "post" and form.action.startswith("/desk/referrals/")
    ]
    return found[-1] if found else None


def _choices(browser: Browser, number: int) -> dict[str, str]:
    """The first choice of what has no answer yet."""
    form = browser.html.forms[number]
    given = {name for name, value in form.fields if value}
    return {name: next((one for one in values if one), "") for name, values in form.choices.items() if name not in given}


async def _answer_page(desk: Desk, referral_id: str, person_id: str) -> list[str]:
    """The page behind a link, but for the link itself: the token is in its address on purpose."""
    asked = {"person_id": person_id, "service_id": d.SHELTER_SERVICE, "need": "shelter"}
    orientation = await desk.post("iscg-95", f"/v1/referrals/{referral_id}/orientations", asked)
    assert orientation.status_code == 201, orientation.text
    link = await desk.post("iscg-95", f"/v1/orientations/{orientation.json()['id']}/links")
    path = urlsplit(link.json()["url"]).path
    words = {"version": "1", "answer": "reject", "reject_text": f"refus {WORD} {PHONE}"}
    refused = await desk.client.post(path, data=words | {"reject_reason": WORD})
    done = await desk.client.post(path, data=words | {"reject_reason": "other"})
    assert (refused.status_code, done.status_code) == (422, 200), done.text
    assert WORD not in done.text
    return [answer.headers.get("location", "") for answer in (refused, done)]
