"""A move of a referral: its form, and what comes of it."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from fastapi import APIRouter, Request
from starlette.responses import Response

from libs.chassis.refusals import NotFound, Refusal, StaleVersion
from libs.chassis.runtime import Run, Runtime
from libs.chassis.security import Caller, Principal, Purpose
from libs.contracts.types import Id
from libs.contracts.vocabularies import Purpose as Stated
from libs.contracts.vocabularies import Role
from services.referrals.desk import directory
from services.referrals.desk.changes import Change, is_for_the_form, make, meanwhile
from services.referrals.desk.forms import Form
from services.referrals.desk.moves import CHANGES, POST
from services.referrals.desk.pages import form_page, go_to
from services.referrals.desk.referral_pages import check_open, opened
from services.referrals.desk.sign_in_pages import form_of
from services.referrals.directory.called import communes_of
from services.referrals.domain import Move
from services.referrals.orientations.domain import ORIENTATION_LIVES
from services.referrals.working.corrections_schemas import CorrectedOut

router = APIRouter(include_in_schema=False)


@router.get("/desk/referrals/{referral_id}/{move}", operation_id="show_move", response_class=Response)
async def show_move(referral_id: Id, move: Move, request: Request, caller: Caller, purpose: Purpose, runtime: Run) -> Response:
    """The form of a move that is open to the caller."""
    return await _shown(_change(move), move, referral_id, request, caller, purpose, runtime)


@router.post("/desk/referrals/{referral_id}/{move}", operation_id="make_move", response_class=Response)
async def make_move(referral_id: Id, move: Move, request: Request, caller: Caller, purpose: Purpose, runtime: Run) -> Response:
    """Make it by the API's own command; what is refused is shown on the form, which keeps what was typed."""
    change, form = _change(move), form_of(request)
    try:
        answer = await make(change, f"desk_{move}", request, form, caller, referral_id, datetime.now(UTC))
    except Refusal as refusal:
        if not is_for_the_form(refusal):
            raise
        return await _shown(change, move, referral_id, request, caller, purpose, runtime, form, refusal)
    return go_to(f"/desk/referrals?done={move}" if _is_gone(caller, move, answer) else f"/desk/referrals/{referral_id}?done={move}")


def _is_gone(caller: Principal, move: Move, answer: bytes) -> bool:
    """What was transferred is another post's now, and so may be what had come to the wrong place."""
    if move is Move.CORRECT and caller.role is Role.ISCG:
        post_id = CorrectedOut.model_validate_json(answer).post_id
        return post_id is not None and post_id not in caller.ids("post")
    return move in (Move.TRANSFER, Move.DECLINE)


def _change(move: Move) -> Change:
    """Raises NotFound."""
    found = CHANGES.get(move)
    if found is None:
        raise NotFound("Cette adresse n'existe pas : revenez à la liste des saisines.")
    return found


async def _shown(
    change: Change,
    move: Move,
    referral_id: UUID,
    request: Request,
    caller: Principal,
    purpose: Stated,
    runtime: Runtime,
    typed: Form | None = None,
    refusal: Refusal | None = None,
) -> Response:
    async with runtime.database.transaction() as session:
        shown: dict[str, Any] = await opened(session, runtime, caller, purpose, referral_id)
        referral = shown["referral"]
        shown["posts"] = await directory.posts(session, referral.id) if POST in change.fields else []
        shown["communes"] = await communes_of(session, caller) if move is Move.CORRECT else []
    if refusal is None:
        check_open(referral, move)
    return form_page(
        request,
        "desk_move.html",
        change,
        typed,
        refusal,
        **shown,
        move=move,
        open=move in referral.moves,
        # what was erased of a narrative cannot be corrected; where there was none, there may be one
        with_narrative=referral.narrative is not None or not any(one.erased for one in referral.people),
        partners=[one for one in referral.orientations if one.status in ORIENTATION_LIVES],
        meanwhile=meanwhile(change, typed, shown) if typed is not None and isinstance(refusal, StaleVersion) else {},
    )
