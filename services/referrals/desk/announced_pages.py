"""Closed referrals whose retention ends: from which day on they are erased, so that the coordinator can look at them before; and those that are held past it."""

from datetime import UTC, datetime
from typing import cast

from fastapi import APIRouter, Request
from starlette.responses import Response

from libs.chassis.pagination import Page
from libs.chassis.runtime import Run
from libs.chassis.security import Caller
from services.referrals.desk.pages import list_page
from services.referrals.rights import retention
from services.referrals.settings import Settings

router = APIRouter(include_in_schema=False)


@router.get("/desk/announced-ends", operation_id="show_announced_ends", response_class=Response)
async def show_announced_ends(request: Request, caller: Caller, runtime: Run, asked: Page) -> Response:
    """Of the caller's départements, in the order of the API; no personal content."""
    term = cast(Settings, runtime.settings).term
    async with runtime.database.transaction() as session:
        after = asked.after[0] if asked.after is not None else None
        rows = await retention.announced(session, caller, term, after=after, limit=asked.limit)
    return list_page(request, "desk_announced_ends.html", rows, asked, lambda row: (row.referral_id,))


@router.get("/desk/held-ends", operation_id="show_held_ends", response_class=Response)
async def show_held_ends(request: Request, caller: Caller, runtime: Run, asked: Page) -> Response:
    """What is past its end and held, and by what; in the order of the API."""
    term = cast(Settings, runtime.settings).term
    async with runtime.database.transaction() as session:
        after = asked.after[0] if asked.after is not None else None
        rows = await retention.held_ends(session, caller, datetime.now(UTC), term, after=after, limit=asked.limit)
    return list_page(request, "desk_held_ends.html", rows, asked, lambda row: (row.referral_id,))
