"""The worklist: what waits, how much of it by state, narrowed by a form; no personal content."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, time
from typing import Annotated, Final
from urllib.parse import urlencode
from uuid import UUID

from fastapi import APIRouter, Query, Request
from pydantic import TypeAdapter, ValidationError
from starlette.responses import Response

from libs.chassis.database import driver_of
from libs.chassis.pagination import Page, page_of
from libs.chassis.runtime import Run
from libs.chassis.security import Caller
from libs.contracts.types import PARIS, CommuneCode
from libs.contracts.vocabularies import ReferralStatus, Role, Theme, Urgency
from services.referrals.desk.forms import code_of
from services.referrals.desk.moves import told_of
from services.referrals.desk.pages import page
from services.referrals.directory.called import called, communes_of, posts_of
from services.referrals.worklists import referrals as worklist
from services.referrals.worklists.schemas import ReferralSummary

router = APIRouter(include_in_schema=False)

Text = Annotated[str, Query(max_length=40)]
_COMMUNE: TypeAdapter[str] = TypeAdapter(CommuneCode)

ALL: Final = "all"
"""Closed ones too."""
UNROUTED_SHOWN: Final = 50


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
    post: Text = "",
    since: Text = "",
    overdue: Text = "",
    absent: Text = "",
    given_up: Text = "",
    done: Text = "",
) -> Response:
    """The referrals of the caller's posts or département, narrowed by a GET form; what is typed wrongly is said, and narrows nothing."""
    wrong: dict[str, str] = {}
    # nobody has those without a post yet: the coordinator sees them first, in a list of their own
    coordinates = caller.role is Role.COORDINATOR
    post_absent = coordinates and absent == "yes"
    apart = coordinates and not status and not post and not post_absent and given_up != "yes"
    wanted = worklist.Wanted(
        statuses=_statuses(ALL if given_up == "yes" else status, apart),
        urgency=code_of(Urgency, urgency),
        theme=code_of(Theme, theme),
        commune=_commune(commune.strip(), wrong),
        unit_id=_id(unit),
        post_id=_id(post),
        received_since=_day(since, wrong),
        overdue=overdue == "yes",
        post_absent=post_absent,
        given_up=given_up == "yes",
    )
    async with runtime.database.reading() as session:
        connection = await driver_of(session)
        _, found = await worklist.page(connection, caller, wanted, after=asked.after, limit=asked.limit)
        rows, following = page_of(found, asked, wanted.place)
        items, unrouted = [ReferralSummary.model_validate(row) for row in rows], []
        if apart and asked.after is None:
            without = replace(wanted, statuses=[ReferralStatus.UNROUTED])
            _, found = await worklist.page(connection, caller, without, after=None, limit=UNROUTED_SHOWN)
            unrouted = [ReferralSummary.model_validate(row) for row in found]
        counts = await worklist.counts(connection, caller)
        communes, posts = await communes_of(session, caller), await posts_of(session, caller)
        shown = [*items, *unrouted]
        names = await called(
            session,
            posts=[one.post_id for one in shown],
            units=[wanted.unit_id],
            communes=[one.commune for one in shown],
        )
    typed = {
        "status": status,
        "urgency": urgency,
        "theme": theme,
        "commune": commune,
        "unit": unit,
        "post": post,
        "since": since,
        "overdue": overdue,
        "absent": absent,
        "given_up": given_up,
    }
    given = [(name, value) for name, value in typed.items() if value]
    return page(
        request,
        "desk_worklist.html",
        200 if not wrong else 422,
        items=items,
        apart=apart,
        unrouted=unrouted[:UNROUTED_SHOWN],
        more_unrouted=len(unrouted) > UNROUTED_SHOWN,
        communes=communes,
        posts=posts,
        called=names,
        now=datetime.now(UTC),
        with_posts=caller.role is not Role.ISCG or len(caller.ids("post")) > 1,
        done=told_of(done),
        typed=typed,
        wrong=wrong,
        wanted=wanted,
        counts=counts,
        coordinates=coordinates,
        statuses=[one for one in worklist.STATES if one is not ReferralStatus.ERASED],
        urgencies=list(Urgency),
        themes=list(Theme),
        following=urlencode([*given, ("cursor", following)]) if following else None,
        first=asked.after is None,
        beginning=urlencode(given),
    )


def _statuses(asked: str, apart: bool) -> Sequence[ReferralStatus]:
    """Those that are open, unless asked otherwise."""
    if asked == ALL:
        return ()
    one = code_of(ReferralStatus, asked)
    if one is not None:
        return [one]
    return sorted(worklist.OPEN_STATES - ({ReferralStatus.UNROUTED} if apart else set()))


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


def _id(given: str) -> UUID | None:
    """Of a link or a choice, never typed: what is none narrows to nothing that there is."""
    if not given:
        return None
    try:
        return UUID(given)
    except ValueError:
        return UUID(int=0)
