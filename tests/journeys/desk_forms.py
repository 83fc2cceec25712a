"""Personal markers typed into every form of the web desk and of the answer page: what is refused is shown again to who typed it, and stands in no address."""

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final
from urllib.parse import urlsplit

import httpx
from fastapi.routing import APIRoute

from libs.contracts import demonstration as d
from services.referrals.desk import moves, orientation_changes
from services.referrals.desk.changes import Change
from tests.journeys.markers import PHONE, WORD
from tests.services.referrals.desk.browser import Browser
from tests.services.referrals.desk.conftest import Desk, furnish
from tests.serving import Served, app_of

_OF_CODES: Final = "a reason of a list"
EXEMPT: Final = {
    "/desk/sign-out": "a button, and what the provider wants",
    "/desk/orientations/{orientation_id}/link": "a button",
    "/desk/referrals/{referral_id}/erase": "boxes",
    "/desk/erasures/{erasure_id}": "codes and a day",
    "/desk/referrals/{referral_id}/alerts/{alert_id}/withdraw": _OF_CODES,
    "/desk/referrals/{referral_id}/contacts/{contact_id}/withdraw": _OF_CODES,
    "/desk/referrals/{referral_id}/interviews/{interview_id}/withdraw": _OF_CODES,
    "/desk/referrals/{referral_id}/assessments/{assessment_id}/withdraw": _OF_CODES,
}
"""Forms in which nobody can type anything, with what they hold instead."""

_CHANGES: Final[Mapping[str, Mapping[str, Change]]] = {
    "{move}": {one.value: change for one, change in moves.CHANGES.items()},
    "{step}": {one.value: change for one, change in orientation_changes.CHANGES.items()},
}
_OTHERS: Final = {
    "/desk/notices/{kind}/{name}": ("address", "mode", "wanted"),
    "/desk/purpose": ("purpose",),
    "/desk/references": ("external_reference",),
}
_READ: Final = (200, 303, 409, 422)
"""Taken, or shown again to who typed it."""

_OURS = frozenset({"csrf", "whose", "version", "key", "with_narrative"})
_TYPED = {"phones": f"+33{PHONE}", "email": f"{WORD}@exemple.invalid", "code_word": WORD, "authority_name": WORD, "scope": WORD}
_NOT_YET = {"handed_over": ""}
_MORE: Final[dict[str, dict[str, str]]] = {
    "alert": {"kind": "prosecutor_report", "court": d.COMMUNE_CERGY},
    "requisitions/new": {"received_at": "2026-11-24T10:00"} | _NOT_YET,
}
_WORDS = frozenset({"family_name", "given_name", "address", "note", "narrative", "reference", "reject_text", "reason_text", "cancel_text"})


def forms_of(up: Served) -> dict[str, tuple[str, ...]]:
    """The address of every form of the pages, and the fields of those that the tables of changes describe, by name of the move."""
    found: dict[str, tuple[str, ...]] = {}
    for route in app_of(up.client).routes:
        if not isinstance(route, APIRoute) or route.include_in_schema or "POST" not in (route.methods or ()):
            continue
        name = next((one for one in _CHANGES if one in route.path), None)
        if name is None:
            found.setdefault(route.path, ())
        else:  # what has no field is a button
            changes = _CHANGES[name].items()
            found |= {route.path.replace(name, each): tuple(f.name for f in change.fields) for each, change in changes if change.fields}
    return found


def _typed_into(forms: Iterable[str], answers: Iterable[httpx.Response]) -> set[str]:
    """The forms that came with a marker and were read."""
    sent = [one.request for one in answers if one.request.method == "POST" and one.status_code in _READ]
    came = {one.url.path for one in sent if WORD.encode() in one.content}
    return {form for form in forms if any(re.fullmatch(re.sub(r"{\w+}", "[^/]+", form), path) for path in came)}


async def type_everywhere(up: Served, body: dict[str, Any]) -> tuple[list[str], set[str]]:
    """A referral is received with this body; every form of the pages is filled with markers, those of its own first as it is refused, then as it is
    taken. Gives all addresses that were asked for or sent to, and the forms that took markers."""
    up.runtime.settings = up.runtime.settings.model_copy(update={"desk_client_id": "desk"})
    desk = Desk(up.client, up.runtime, up.issuer, up.openapi)
    furnish(desk)
    referral_id = (await desk.post("police-95", "/v1/referrals", body)).json()["id"]
    assert (await desk.post("iscg-95", f"/v1/referrals/{referral_id}/accept", version=1)).status_code == 200
    person_id = str((await desk.persons(referral_id))[0])
    browser, taken, forms = await desk.sign_in("iscg-95"), set[str](), forms_of(up)
    more = dict(_MORE)
    home = f"/desk/referrals/{referral_id}"
    paths = [
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
        "/desk/persons",
    ]
    for path in paths:
        address = path if path.startswith("/") else f"{home}/{path}"
        await browser.open(address)
        if (number := _form_of(browser)) is None:
            continue
        typed = {name: f"{WORD} {PHONE}" for name, _ in browser.html.forms[number].fields if name not in _OURS}
        await browser.submit(number, **typed)
        searched = path == "orient"  # for a service: whatever is looked for is answered
        assert browser.page.status_code in ((200,) if searched else (400, 404, 422)), f"{path}: {browser.page.status_code}"
        await browser.open(address)
        marks = {name: _TYPED.get(name, WORD) for name, _ in browser.html.forms[number].fields if name in _TYPED or name in _WORDS}
        if marks:
            before = len(browser.seen)
            await browser.submit(number, **marks | _choices(browser, number) | more.get(path, {}))
            if browser.page.status_code == 200:
                taken |= _typed_into(forms, browser.seen[before:])
                if path == "requisitions/new":
                    [entry] = await up.rows("SELECT id FROM requisitions")
                    paths.append(corrected := f"/desk/requisitions/{entry.id}/correct")
                    more[corrected] = _NOT_YET
    orientation_id, answers = await _answer_page(desk, referral_id, person_id)
    answers += browser.seen
    ids = {"referral_id": referral_id, "orientation_id": orientation_id, "kind": "post", "name": str(d.POST_CERGY)}
    so_far = _typed_into(forms, answers)
    answers += await _type_into_the_rest(desk, {form: fields for form, fields in forms.items() if form not in so_far}, ids)
    assert forms.keys() - _typed_into(forms, answers) == EXEMPT.keys(), "a form that nobody typed into"
    return [address for answer in answers for address in (str(answer.request.url), answer.headers.get("location", ""))], taken


async def _type_into_the_rest(desk: Desk, forms: Mapping[str, tuple[str, ...]], ids: Mapping[str, str]) -> list[httpx.Response]:
    """What is not open to a referral in this state is refused, and was read all the same."""
    browsers = [await desk.sign_in(who) for who in ("iscg-95", "coordinator-95")]
    for number, (form, fields) in enumerate(forms.items()):
        marks = dict.fromkeys(fields or _OTHERS.get(form, ()), f"{WORD} {PHONE}")
        for browser in browsers if marks else ():
            await browser.send(form.format(**ids), version="1", key=f"rest-{number}", **marks)
    return [answer for browser in browsers for answer in browser.seen]


def _form_of(browser: Browser) -> int | None:
    """The last one that is sent."""
    found = [number for number, form in enumerate(browser.html.forms) if form.method == "post" and form.action.startswith("/desk/")]
    return found[-1] if found else None


def _choices(browser: Browser, number: int) -> dict[str, str]:
    """The first choice of what has no answer yet; days of a week belong to hours, which nobody types."""
    form = browser.html.forms[number]
    given = {name for name, value in form.fields if value}
    return {
        name: next((one for one in values if one), "")
        for name, values in form.choices.items()
        if name not in given and not name.startswith("days:")
    }


async def _answer_page(desk: Desk, referral_id: str, person_id: str) -> tuple[str, list[httpx.Response]]:
    """The page behind a link, typed into: the orientation that it answers, and what came of it."""
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
    return orientation.json()["id"], [refused, done]
