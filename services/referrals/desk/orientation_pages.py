"""Orientations: a partner's service is searched and asked; the orientation, its answer, and the list of them."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any
from urllib.parse import urlencode
from uuid import UUID

from fastapi import APIRouter, Query, Request
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.responses import Response

from libs.chassis.audit import audit
from libs.chassis.database import driver_of
from libs.chassis.pagination import Page, page_of
from libs.chassis.refusals import NotFound, Refusal
from libs.chassis.runtime import Run, Runtime
from libs.chassis.security import Caller, Principal, Purpose
from libs.contracts.types import Id
from libs.contracts.vocabularies import Need, OrientationStatus, PartnerKind, Role, Theme
from libs.contracts.vocabularies import Purpose as Stated
from services.referrals import queries
from services.referrals.desk import directory
from services.referrals.desk.changes import fresh_key, is_for_the_form, make, wrongs_of
from services.referrals.desk.forms import Form, code_of
from services.referrals.desk.kept import kept_form
from services.referrals.desk.orientation_changes import CHANGES, LINK, REQUEST
from services.referrals.desk.pages import form_page, go_to, page
from services.referrals.desk.referral_pages import check_open, opened
from services.referrals.desk.sign_in_pages import form_of
from services.referrals.directory.called import called
from services.referrals.domain import Move
from services.referrals.orientations import telling
from services.referrals.orientations.domain import ORIENTATION_LIVES, Mismatch, OrientationMove, OrientationOver, place_of, unfounded
from services.referrals.orientations.links import Links
from services.referrals.orientations.models import Orientation
from services.referrals.orientations.schemas import OrientationListed
from services.referrals.worklists import orientations as worklist

router = APIRouter(include_in_schema=False)

Text = Annotated[str, Query(max_length=40)]
_AT_ANY_TIME = datetime.max.replace(tzinfo=UTC)
"""Of what is to be answered the first to expire comes first, whenever that is."""
_ENDS_FOR_THE_PARTNER = frozenset({OrientationMove.REJECT, OrientationMove.COMPLETE, OrientationMove.FAIL})


# Asking a partner


@router.get("/desk/referrals/{referral_id}/orient", operation_id="search_services", response_class=Response)
async def search_services(
    referral_id: Id,
    request: Request,
    caller: Caller,
    purpose: Purpose,
    runtime: Run,
    need: Text = "",
    kind: Text = "",
    departement: Text = "",
) -> Response:
    """The services of the local directory copy that may fit, and the form that asks one of them. Words are sought by POST: none is in an address."""
    asked = kept_form(request) or Form((("sought_need", need), ("sought_kind", kind), ("sought_departement", departement)))
    return await _search(referral_id, request, caller, purpose, runtime, asked)


@router.post("/desk/referrals/{referral_id}/orient", operation_id="orient", response_class=Response)
async def orient(referral_id: Id, request: Request, caller: Caller, purpose: Purpose, runtime: Run) -> Response:
    """Ask it. What may not fit is told on the orientation's page: the social worker knows more than the directory."""
    form = form_of(request)
    if form.one("search"):
        return await _search(referral_id, request, caller, purpose, runtime, form)
    try:
        answer = json.loads(await make(REQUEST, "desk_orient", request, form, caller, referral_id, datetime.now(UTC)))
    except Refusal as refusal:
        if not is_for_the_form(refusal):
            raise
        return await _search(referral_id, request, caller, purpose, runtime, form, refusal)
    doubts = [("doubt", doubt) for doubt in answer["warnings"]]
    return go_to(f"/desk/orientations/{answer['id']}?{urlencode([('done', OrientationMove.REQUEST.value), *doubts])}")


async def _search(
    referral_id: UUID, request: Request, caller: Principal, purpose: Stated, runtime: Runtime, asked: Form, refusal: Refusal | None = None
) -> Response:
    # under names of their own: the need that is asked for may be another than the one that was searched
    given = {name: asked.one(f"sought_{name}") for name in ("need", "kind", "theme", "departement", "name")}
    need, kind, theme = code_of(Need, given["need"]), code_of(PartnerKind, given["kind"]), code_of(Theme, given["theme"])
    async with runtime.database.transaction() as session:
        shown: dict[str, Any] = await opened(session, runtime, caller, purpose, referral_id)
        referral = shown["referral"]
        nearby = asked.one("sought_nearby") == "yes"
        sought = directory.Sought(given["departement"] or referral.departement, need, kind, theme, given["name"][:200], nearby)
        # a refused or kept request came out of a search, though it may have been one for anything
        searched = refusal is not None or asked is kept_form(request) or bool(need or kind or theme or given["name"] or asked.one("search"))
        place = place_of(referral.commune, referral.departement)
        services = await directory.services(session, sought, place) if searched else []
    if refusal is None:
        check_open(referral, Move.ORIENT)
    shown |= {"services": services[: directory.MOST], "asked": sought._asdict()}
    return form_page(
        request,
        "desk_orient.html",
        REQUEST,
        None if refusal is None else asked,
        refusal,
        **shown,
        shown=shown,
        open=Move.ORIENT in referral.moves,
        more=len(services) > directory.MOST,
        searched=searched,
        needs=list(Need),
        themes=list(Theme),
        kinds=list(PartnerKind),
    )


# An orientation


@router.get("/desk/orientations", operation_id="show_orientations", response_class=Response)
async def show_orientations(
    request: Request, caller: Caller, runtime: Run, asked: Page, status: Annotated[str | None, Query(max_length=40)] = None, done: Text = ""
) -> Response:
    """A partner's own, at first those it has to answer; those of a social worker's posts, of a coordinator's département. No personal content."""
    chosen = status if status is not None else OrientationStatus.REQUESTED.value if caller.role is Role.PARTNER else ""
    of_status = code_of(OrientationStatus, chosen)
    to_answer = of_status is OrientationStatus.REQUESTED
    wanted = worklist.WantedOrientations(
        statuses=[of_status] if of_status is not None else [], answer_before=_AT_ANY_TIME if to_answer else None
    )
    async with runtime.database.reading() as session:
        connection = await driver_of(session)
        found = await worklist.page(connection, caller, wanted, after=asked.after, limit=asked.limit)
        rows, following = page_of(found, asked, wanted.place)
        items = [OrientationListed.model_validate(row) for row in telling.listed(caller, runtime.pseudonyms, rows)]
        counts = await worklist.counts(connection, caller)
        names = await called(session, services=[one.service_id for one in items], posts=[one.post_id for one in items])
    given = [("status", of_status.value if of_status is not None else "")]
    return page(
        request,
        "desk_orientations.html",
        items=items,
        called=names,
        state=of_status,
        to_answer=to_answer,
        counts=counts,
        statuses=list(OrientationStatus),
        done=_told(done),
        following=urlencode([*given, ("cursor", following)]) if following else None,
        first=asked.after is None,
        beginning=urlencode(given),
    )


@router.get("/desk/orientations/{orientation_id}", operation_id="show_orientation", response_class=Response)
async def show_orientation(
    orientation_id: Id,
    request: Request,
    caller: Caller,
    purpose: Purpose,
    runtime: Run,
    done: Text = "",
    doubt: Annotated[list[str] | None, Query(max_length=10)] = None,
) -> Response:
    """The person it concerns and how to contact them safely, its state, and what the caller may answer."""
    doubts = [one.label for one in Mismatch if one.value in (doubt or [])]
    return await _shown(orientation_id, request, caller, purpose, runtime, done=_told(done), doubts=doubts)


@router.get("/desk/orientations/{orientation_id}/{step}", operation_id="show_answer", response_class=Response)
async def show_answer(
    orientation_id: Id, step: OrientationMove, request: Request, caller: Caller, purpose: Purpose, runtime: Run
) -> Response:
    """The orientation, at one step's form: where what was written in it comes back."""
    if step not in CHANGES:
        raise NotFound("Cette adresse n'existe pas : revenez à la liste des orientations.")
    return await _shown(orientation_id, request, caller, purpose, runtime, of=step)


@router.post("/desk/orientations/{orientation_id}/link", operation_id="link_orientation", response_class=Response)
async def link_orientation(orientation_id: Id, request: Request, caller: Caller, purpose: Purpose, runtime: Run) -> Response:
    """A link by which a partner without account answers, shown once."""
    made = json.loads(await make(LINK, "desk_link", request, form_of(request), caller, orientation_id, datetime.now(UTC)))
    return await _shown(orientation_id, request, caller, purpose, runtime, link=Links.of(runtime).url(UUID(made["id"])))


@router.post("/desk/orientations/{orientation_id}/{step}", operation_id="answer_orientation", response_class=Response)
async def answer_orientation(
    orientation_id: Id, step: OrientationMove, request: Request, caller: Caller, purpose: Purpose, runtime: Run
) -> Response:
    """One step of its life, by the API's own command."""
    change, form = CHANGES.get(step), form_of(request)
    if change is None:
        raise NotFound("Cette adresse n'existe pas : revenez à la liste des orientations.")
    try:
        await make(change, f"desk_orientation_{step}", request, form, caller, orientation_id, datetime.now(UTC))
    except Refusal as refusal:
        if not is_for_the_form(refusal):
            raise
        wrongs = wrongs_of(change, refusal)
        return await _shown(orientation_id, request, caller, purpose, runtime, status=refusal.status, wrongs=wrongs, typed=form, of=step)
    over = caller.role is Role.PARTNER and step in _ENDS_FOR_THE_PARTNER  # the partner reads its content no longer
    return go_to(f"/desk/orientations{'' if over else f'/{orientation_id}'}?done={step}")


async def _shown(
    orientation_id: UUID, request: Request, caller: Principal, purpose: Stated, runtime: Runtime, status: int = 200, **said: Any
) -> Response:
    async with runtime.database.transaction() as session:
        try:
            found = await queries.orientation(session, caller, runtime.vault, orientation_id)
        except OrientationOver as over:
            return await _over(session, orientation_id, request, caller, runtime, said, over)
        await audit(session, caller, operation="read_orientation", subject=f"orientations/{orientation_id}", purpose=purpose)
        names = await called(session, services=[found.service_id], communes=[found.commune])
    orientation = telling.told(caller, runtime.pseudonyms, found)
    nothing: dict[str, Any] = {"done": "", "doubts": [], "link": None, "wrongs": [], "typed": None, "of": None}
    return page(
        request,
        "desk_orientation.html",
        status,
        **nothing | said,
        called=names,
        orientation=orientation,
        own=caller.role is not Role.PARTNER,
        unfounded=unfounded(found.person.agreement, found.legal_ground, found.person.age_band, found.status),
        may_link=caller.role is Role.ISCG and orientation.status in ORIENTATION_LIVES,
        changes=[(move, CHANGES[move]) for move in orientation.moves],
        keys={move: fresh_key() for move in [*orientation.moves, "link"]},
    )


async def _over(
    session: AsyncSession,
    orientation_id: UUID,
    request: Request,
    caller: Principal,
    runtime: Runtime,
    said: Mapping[str, Any],
    over: Refusal,
) -> Response:
    """What a partner answered and what came of it, without the person, whom it reads no longer. A step that came too late is refused as ever."""
    if said.get("wrongs"):
        raise over
    found = telling.summary(await session.get_one(Orientation, orientation_id))
    names = await called(session, services=[found.service_id])
    return page(request, "desk_orientation_over.html", orientation=found, called=names, done=said.get("done", ""))


def _told(step: str) -> str:
    if step == OrientationMove.REQUEST:
        return REQUEST.told
    return next((change.told for move, change in CHANGES.items() if move.value == step), "")
