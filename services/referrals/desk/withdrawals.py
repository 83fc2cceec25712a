"""The form by which something is withdrawn that was noted by mistake: what it is, and why."""

from typing import Any
from uuid import UUID

from fastapi import Request
from starlette.responses import Response

from libs.chassis.refusals import NotFound, Refusal
from services.referrals.desk.changes import Change, fresh_key, wrongs_of
from services.referrals.desk.forms import Form
from services.referrals.desk.pages import page
from services.referrals.domain import Move, moved


def withdrawal_form(
    request: Request,
    shown: dict[str, Any],
    move: Move,
    change: Change,
    what: str,
    noted_id: UUID,
    typed: Form | None,
    refusal: Refusal | None,
) -> Response:
    """`move`: by which it was noted; `what`: what it is called in an address. Raises MoveRefused, NotFound."""
    referral = shown["referral"]
    if move not in referral.moves:
        moved(referral.status, move)  # says why the state does not allow it
        raise NotFound("Cette étape n'est pas la vôtre : revenez à la saisine.")
    back = f"/desk/referrals/{referral.id}"
    return page(
        request,
        "desk_change.html",
        200 if refusal is None else refusal.status,
        **shown,
        shown=shown,
        change=change,
        back=back,
        back_to="Revenir à la saisine",
        action=f"{back}/{what}/{noted_id}/withdraw",
        key=fresh_key(),
        typed=typed,
        wrongs=[] if refusal is None else wrongs_of(change, refusal),
    )
