"""Victim and alleged perpetrator at the desk: whoever supports one finds no page that leads to the other (tests/services/referrals/test_sides.py)."""

import urllib.parse
from itertools import product
from typing import Any
from uuid import UUID

import httpx
import pytest
from fastapi.routing import APIRoute

from libs.contracts import demonstration as d
from services.referrals.access import ACCESS
from tests.planted import seen_red
from tests.services.referrals.desk.browser import Browser
from tests.services.referrals.desk.conftest import Desk
from tests.services.referrals.test_sides import HERS, HIS, NARRATIVE, OFFENCE, open_to_partners, situation, sought, words_of
from tests.serving import app_of

STEPS = ("accept", "reject", "start", "complete", "fail", "cancel", "contact", "close", "link")
SEARCHES = {"find_person", "find_reference"}
STAYS_OUT = {"ask_sign_out", "sign_out", "begin_sign_in", "finish_sign_in"}


def pages_of(desk: Desk, method: str) -> list[APIRoute]:
    """Every page of the desk, those that others add later included."""
    routes = [one for one in app_of(desk.client).routes if isinstance(one, APIRoute) and method in (one.methods or ())]
    rules = {one.operation_id: ACCESS.get(one.operation_id or "") for one in routes}
    return [one for one in routes if (rule := rules[one.operation_id]) and rule.page and one.operation_id not in STAYS_OUT]


async def everything_shown_to(desk: Desk, browser: Browser, ids: list[str], method: str, other: dict[str, str]) -> tuple[int, str]:
    """All pages with every id and step that could fit in their addresses; the search is for the other's true name. How many answered, and what they said."""
    reached, heard, looked_for = 0, [], await sought(desk, other)
    form = {"csrf": dict(browser.html.forms[-1].fields)["csrf"], "version": "1", "key": "k", "reason": "other", "outcome": "informed"}
    for route in pages_of(desk, method):
        names = list(route.param_convertors)
        for values in product(*(STEPS if name in {"move", "step"} else ids for name in names)):
            address = route.path_format.format(**dict(zip(names, values, strict=True)))
            # a refusal names the address that was asked for, and a search what was looked for; neither tells anything else of it
            told = [one for one in values if one in ids]
            if method == "GET":
                answers = [await browser.desk.get(address)]
            elif route.operation_id in SEARCHES:
                answers = [await post(browser, address, form | typed) for typed in looked_for]
                told = [value for typed in looked_for for value in typed.values()]
            else:
                answers = [await post(browser, address, form | {"key": "".join(values)})]
            for answer in answers:
                reached += answer.status_code in (200, 303)
                heard.append(
                    without(told, words_of(answer)) if answer.status_code >= 400 or route.operation_id in SEARCHES else words_of(answer)
                )
    return reached, "\n".join(heard)


async def post(browser: Browser, address: str, form: dict[str, str]) -> httpx.Response:
    return await browser.desk.post(address, data=form, headers={"Sec-Fetch-Site": "same-origin"})


def without(told: list[str], words: str) -> str:
    for one in told:
        words = words.replace(one, "")
    return words


@pytest.mark.parametrize(("who", "own", "other"), [("partner-95", HERS, HIS), ("partner-78", HIS, HERS)])
async def test_no_page_leads_the_partner_of_one_to_the_other(desk: Desk, who: str, own: dict[str, str], other: dict[str, str]) -> None:
    referral_id, hers, his = await situation(desk)
    mine, foreign = (hers, his) if own is HERS else (his, hers)
    people = [str(one) for one in await desk.persons(referral_id)]
    ids = [str(referral_id), foreign["id"], mine["id"], *people]
    browser = await desk.sign_in(who, f"/desk/orientations/{mine['id']}", "orientation")
    assert own["marker"] in browser.html.text, "the walk must reach the partner's own"

    reached, read = await everything_shown_to(desk, browser, ids, "GET", other)
    _, answered = await everything_shown_to(desk, browser, [str(referral_id), foreign["id"], *people], "POST", other)

    assert reached >= 4
    assert own["marker"] in read
    everything = urllib.parse.unquote(read + answered)
    for value in (*other.values(), f"mot-{other['marker']}", f"note-{other['marker']}", NARRATIVE):
        assert value not in everything, "the partner of one reads of the other"
    assert not OFFENCE.search(everything)
    for hidden in (str(referral_id), *people, foreign["id"]):
        assert hidden not in everything, "by the true ids two partners would find that they work for one situation"
    assert await _statuses(desk) == {UUID(hers["id"]): "requested", UUID(his["id"]): "requested"}


@pytest.mark.parametrize(
    ("operation", "because"),
    [
        ("download_export", "the partner of one reads of the other"),
        ("download_export_data", "the partner of one reads of the other"),
        ("find_person", "by the true ids two partners would find"),
        ("find_reference", "by the true ids two partners would find"),
    ],
)
async def test_planted_a_page_that_lets_the_partner_of_one_across_is_seen(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, operation: str, because: str
) -> None:
    open_to_partners(monkeypatch, operation)

    await seen_red(test_no_page_leads_the_partner_of_one_to_the_other(desk, "partner-95", HERS, HIS), because)


async def test_the_social_worker_of_another_post_finds_no_page_of_it(desk: Desk) -> None:
    referral_id, hers, his = await situation(desk)
    browser = await desk.sign_in("iscg-78")
    await browser.open("/desk/purpose")
    ids = [str(referral_id), hers["id"], his["id"]]

    _, read = await everything_shown_to(desk, browser, ids, "GET", HIS)
    _, answered = await everything_shown_to(desk, browser, ids, "POST", HIS)

    for value in (*HERS.values(), *HIS.values(), NARRATIVE, str(d.POST_CERGY)):
        assert value not in read + answered


async def _statuses(desk: Desk) -> dict[Any, str]:
    return {row.id: row.status for row in await desk.rows("SELECT id, status FROM orientations")}
