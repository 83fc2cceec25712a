"""The worklist: what waits, how much of it by state, narrowed by a form; no personal content."""

from datetime import UTC, date, datetime, time
from typing import Annotated
from urllib.parse import urlencode
from uuid import UUID

from fastapi import APIRouter, Query, Request
from pydantic import TypeAdapter, ValidationError
from starlette.responses import Response

from libs.chassis.pagination import Page, page_of
from libs.chassis.runtime import Run
from libs.chassis.security import Caller
from libs.contracts.types import CommuneCode
from libs.contracts.vocabularies import ReferralStatus, Theme, Urgency
from services.referrals.desk.forms import code_of
from services.referrals.desk.moves import told_of
from services.referrals.desk.pages import page
from services.referrals.domain import PARIS
from services.referrals.worklists import referrals as worklist

router = APIRouter(include_in_schema=False)

Text = Annotated[str, Query(max_length=40)]
_COMMUNE: TypeAdapter[str] = TypeAdapter(CommuneCode)


@router.get("/desk/referrals", operation_id="show_worklist", response_class=Response)
async def show_worklist(
    request: Request,
    caller: Caller,
    runtime: Run,
    asked: Page,
    status: Text = "",
    urgency: Text = "",
    theme: Text = "",
    commune: Text = "",
    unit: Text = "",
    since: Text = "",
    overdue: Text = "",
    done: Text = "",
) -> Response:
    """The referrals of the caller's posts or département, narrowed by a GET form; what is typed wrongly is said, and narrows nothing."""
    wrong: dict[str, str] = {}
    wanted = worklist.Wanted(
        statuses=[one] if (one := code_of(ReferralStatus, status)) is not None else [],
        urgency=code_of(Urgency, urgency),
        theme=code_of(Theme, theme),
        commune=_commune(commune.strip(), wrong),
        unit_id=_unit(unit),
        received_since=_day(since, wrong),
        overdue=overdue == "yes",
    )
    async with runtime.database.transaction(repeatable_read=True) as session:
        rows = await worklist.page(session, caller, wanted, after=asked.after, limit=asked.limit)
        counts = await worklist.counts(session, caller)
    items, following = page_of(rows, asked, wanted.place)
    typed = {"status": status, "urgency": urgency, "theme": theme, "commune": commune, "unit": unit, "since": since, "overdue": overdue}
    given = [(name, value) for name, value in typed.items() if value]
    return page(
        request,
        "desk_worklist.html",
        200 if not wrong else 422,
        items=items,
        done=told_of(done),
        typed=typed,
        wrong=wrong,
        wanted=wanted,
        counts=counts,
        statuses=[one for one in worklist.STATES if one is not ReferralStatus.ERASED],
        urgencies=list(Urgency),
        themes=list(Theme),
        following=urlencode([*given, ("cursor", following)]) if following else None,
        first=asked.after is None,
        beginning=urlencode(given),
    )


def _commune(typed: str, wrong: dict[str, str]) -> str | None:
    if not typed:
        return None
    try:
        return _COMMUNE.validate_python(typed)
    except ValidationError:
        wrong["commune"] = "Un code INSEE de commune a cinq signes, comme 95127."
        return None


def _day(typed: str, wrong: dict[str, str]) -> datetime | None:
    """The beginning of a day in Paris."""
    if not typed:
        return None
    try:
        return datetime.combine(date.fromisoformat(typed), time(), PARIS).astimezone(UTC)
    except (ValueError, OverflowError):
        wrong["since"] = "Indiquez un jour."
        return None


def _unit(given: str) -> UUID | None:
    """Of a link, never typed: what is none narrows to nothing that there is."""
    if not given:
        return None
    try:
        return UUID(given)
    except ValueError:
        return UUID(int=0)
