"""The walks (test_walks.py) go over every command and every job: what writes is a step of them, or says here why it is none."""

import httpx
import pytest
from fastapi.routing import APIRoute

from libs.contracts import demonstration as d
from services.referrals.access import ACCESS
from services.referrals.app import SERVICE
from tests.services.referrals.conftest import Referrals
from tests.services.referrals.test_walks import ANSWERS, CORRECTIONS, JOBS, OTHERS, STEPS, walked
from tests.serving import app_of

BEGINNINGS = {"receive_referral", "receive_referrals"}
"""Every walk begins with one of them."""
NOT_WALKED = {
    "search_persons": "it reads: a name is in no address",
    "search_referrals": "it reads: a reference is in no address",
    "search_referral_statuses": "it reads: a reference is in no address",
    "put_notice_preference": "where mail goes, of no referral",
}
JOBS_NOT_WALKED = {"end-desk-sessions": "sessions at the desk, of no referral"}
FIRST = ["reach", "interview", "assess", "alert", "a requisition is noted", "orient", "partner accepts by link", "orient elsewhere"]
LAST = ["the person agrees or refuses", "erase the person", "erase all", "an erasure is confirmed", "the retention ends"]


def writing(referrals: Referrals) -> list[APIRoute]:
    """The operations that are no GET and no page: the desk's forms run the same commands."""
    routes = [one for one in app_of(referrals.client).routes if isinstance(one, APIRoute) and (one.methods or set()) - {"GET", "HEAD"}]
    return [one for one in routes if (rule := ACCESS.get(one.operation_id or "")) and not rule.page]


async def called_by(referrals: Referrals, steps: list[str], routes: list[APIRoute]) -> set[str | None]:
    """Which operations a walk asked for, whatever was answered."""
    asked: list[httpx.Request] = []

    async def note(request: httpx.Request) -> None:
        asked.append(request)

    referrals.client.event_hooks = {"request": [note]}
    await walked(referrals, steps)
    return {
        route.operation_id
        for request in asked
        for route in routes
        if request.method in (route.methods or ()) and route.path_regex.match(request.url.path)
    }


async def test_every_operation_that_writes_and_every_job_is_a_step_of_the_walks_or_says_why_not(referrals: Referrals) -> None:
    every = [*STEPS, *CORRECTIONS, *ANSWERS, *OTHERS]
    routes = writing(referrals)
    called = await called_by(referrals, [*FIRST, *(one for one in every if one not in {*FIRST, *LAST}), *LAST], routes)

    assert {one.operation_id for one in routes} - called - BEGINNINGS == NOT_WALKED.keys()
    assert {one.name for one in SERVICE.jobs} - {job for job, _ in JOBS.values()} == JOBS_NOT_WALKED.keys()


@pytest.mark.parametrize(
    ("steps", "done"),
    [
        (["time passes"], "SELECT 1 FROM overdues"),
        (["orient", "expire"], "SELECT 1 FROM orientations WHERE status = 'expired'"),
        (["orient", "remind"], "SELECT 1 FROM orientations WHERE reminded_at IS NOT NULL"),
        (
            ["reach", "close", "the person agrees or refuses", "what was refused is erased"],
            "SELECT 1 FROM erasures WHERE cause = 'refusal'",
        ),
        (["reach", "close", "the retention ends"], "SELECT 1 FROM erasures WHERE cause = 'retention'"),
        (["orient", "erase the person", "an erasure is confirmed"], "SELECT 1 FROM erasure_notices WHERE confirmed_on IS NOT NULL"),
        (["a requisition is noted", "a requisition is completed"], "SELECT 1 FROM requisitions WHERE corrects_id IS NOT NULL"),
        (["correct the unit"], f"SELECT 1 FROM referrals WHERE unit_id = '{d.UNIT_SARCELLES}'"),
        (["correct the commune"], "SELECT 1 FROM referrals WHERE commune = '95585'"),
        (["correct the channel"], "SELECT 1 FROM referrals WHERE channel = 'complaint'"),
        (["correct the role"], "SELECT 1 FROM persons WHERE role = 'other'"),
    ],
)
async def test_a_step_does_what_it_is_called_after(referrals: Referrals, steps: list[str], done: str) -> None:
    await walked(referrals, steps)

    assert await referrals.rows(done)
