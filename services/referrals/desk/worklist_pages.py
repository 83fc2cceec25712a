"""The worklist: what waits, by state; no personal content."""

from datetime import UTC, datetime
from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from libs.chassis.pagination import Page, page_of
from libs.chassis.runtime import Run
from libs.chassis.security import Caller
from libs.contracts.vocabularies import ReferralStatus, Urgency
from services.referrals.desk.forms import code_of
from services.referrals.desk.moves import told_of
from services.referrals.desk.pages import page
from services.referrals.worklists import referrals as worklist

router = APIRouter(include_in_schema=False)

Text = Annotated[str, Query(max_length=40)]


@router.get("/desk/referrals", operation_id="show_worklist", response_class=Response)
async def show_worklist(
    request: Request, caller: Caller, runtime: Run, asked: Page, status: Text = "", urgency: Text = "", done: Text = ""
) -> Response:
    """The referrals of the caller's posts or département, filtered by a GET form."""
    of_status, of_urgency = code_of(ReferralStatus, status), code_of(Urgency, urgency)
    filters = {"status": of_status, "urgency": of_urgency}
    wanted = worklist.Wanted(statuses=[of_status] if of_status is not None else [], urgency=of_urgency)
    async with runtime.database.transaction(repeatable_read=True) as session:
        rows = await worklist.page(session, caller, wanted, after=asked.after, limit=asked.limit)
    items, following = page_of(rows, asked, wanted.place)
    given = [(name, value.value) for name, value in filters.items() if value is not None]
    return page(
        request,
        "desk_worklist.html",
        items=items,
        done=told_of(done),
        now=datetime.now(UTC),
        filters=filters,
        statuses=[one for one in ReferralStatus if one not in (ReferralStatus.RECEIVED, ReferralStatus.ERASED)],
        urgencies=list(Urgency),
        following=urlencode([*given, ("cursor", following)]) if following else None,
        first=asked.after is None,
        beginning=urlencode(given),
    )
