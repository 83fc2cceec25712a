"""Victim and alleged perpetrator at the desk: whoever supports one finds no page that leads to the other (tests/services/referrals/test_sides.py)."""

import urllib.parse
from typing import Any
from uuid import UUID

import pytest
from fastapi.routing import APIRoute

from libs.contracts import demonstration as d
from services.referrals.access import ACCESS
from tests.services.referrals.desk.browser import Browser
from tests.services.referrals.desk.conftest import Desk
from tests.services.referrals.test_sides import HERS, HIS, NARRATIVE, OFFENCE, situation
from tests.serving import app_of

STEPS = ("accept", "reject", "start", "complete", "fail", "cancel", "contact", "close", "link")
STAYS_OUT = {"ask_sign_out", "sign_out", "begin_sign_in", "finish_sign_in"}


def pages_of(desk: Desk, method: str) -> list[APIRoute]:
    """Every page of the desk, those that others add later included."""
    routes = [one for one in app_of(desk.client).routes if isinstance(one, APIRoute) and method in (one.methods or ())]
    rules = {one.operation_id: ACCESS.get(one.operation_id or "") for one in routes}
    return [one for one in routes if (rule := rules[one.operation_id]) and rule.page and one.operation_id not in STAYS_OUT]


async def everything_shown_to(desk: Desk, browser: Browser, ids: list[str], method: str) -> tuple[int, str]:
    """All pages with every id and step that could fit in their addresses. How many answered, and what they said."""
    reached, heard = 0, []
    form = {"csrf": dict(browser.html.forms[-1].fields)["csrf"], "version": "1", "key": "k", "reason": "other", "outcome": "informed"}
    for route in pages_of(desk, method):
        steps = STEPS if "{move}" in route.path or "{step}" in route.path else ("",)
        for one in ids if "{" in route.path else [""]:
            for step in steps:
                address = route.path.replace("{move}", step).replace("{step}", step)
                address = address.replace("{referral_id}", one).replace("{orientation_id}", one)
                if method == "POST":
                    answer = await browser.desk.post(
                        address, data=form | {"key": f"{one}{step}"}, headers={"Sec-Fetch-Site": "same-origin"}
                    )
                else:
                    answer = await browser.desk.get(address)
                reached += answer.status_code in (200, 303)
                # a refusal names the address that was asked for, and nothing else of it
                heard.append(answer.text.replace(one, "") if one and answer.status_code >= 400 else answer.text)
    return reached, "\n".join(heard)


@pytest.mark.parametrize(("who", "own", "other"), [("partner-95", HERS, HIS), ("partner-78", HIS, HERS)])
async def test_no_page_leads_the_partner_of_one_to_the_other(desk: Desk, who: str, own: dict[str, str], other: dict[str, str]) -> None:
    referral_id, hers, his = await situation(desk)
    mine, foreign = (hers, his) if own is HERS else (his, hers)
    people = [str(one) for one in await desk.persons(referral_id)]
    ids = [str(referral_id), foreign["id"], mine["id"], *people]
    browser = await desk.sign_in(who, f"/desk/orientations/{mine['id']}", "orientation")
    assert own["marker"] in browser.html.text, "the walk must reach the partner's own"

    reached, read = await everything_shown_to(desk, browser, ids, "GET")
    _, answered = await everything_shown_to(desk, browser, [str(referral_id), foreign["id"], *people], "POST")

    assert reached >= 4
    assert own["marker"] in read
    everything = urllib.parse.unquote(read + answered)
    for value in (*other.values(), f"mot-{other['marker']}", f"note-{other['marker']}", NARRATIVE):
        assert value not in everything
    assert not OFFENCE.search(everything)
    for hidden in (str(referral_id), *people, foreign["id"]):
        assert hidden not in everything
    assert await _statuses(desk) == {UUID(hers["id"]): "requested", UUID(his["id"]): "requested"}


async def test_the_social_worker_of_another_post_finds_no_page_of_it(desk: Desk) -> None:
    referral_id, hers, his = await situation(desk)
    browser = await desk.sign_in("iscg-78")
    await browser.open("/desk/purpose")
    ids = [str(referral_id), hers["id"], his["id"]]

    _, read = await everything_shown_to(desk, browser, ids, "GET")
    _, answered = await everything_shown_to(desk, browser, ids, "POST")

    for value in (*HERS.values(), *HIS.values(), NARRATIVE, str(d.POST_CERGY)):
        assert value not in read + answered


async def _statuses(desk: Desk) -> dict[Any, str]:
    return {row.id: row.status for row in await desk.rows("SELECT id, status FROM orientations")}
