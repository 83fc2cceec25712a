"""Withdrawing an information préoccupante or a report that was noted by mistake. Noting one is a move (moves.py)."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from fastapi import APIRouter, Request
from pydantic import BaseModel
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.responses import Response

from libs.chassis.audit import audit
from libs.chassis.refusals import NotFound, Refusal
from libs.chassis.runtime import Run, Runtime
from libs.chassis.security import Caller, Principal, Purpose
from libs.contracts.types import Id
from libs.contracts.vocabularies import Purpose as Stated
from services.referrals.desk.changes import Change, Doing, Field, is_for_the_form, make, of_codes
from services.referrals.desk.forms import Form
from services.referrals.desk.pages import go_to, moment
from services.referrals.desk.referral_pages import WITHDRAWN, opened
from services.referrals.desk.sign_in_pages import form_of
from services.referrals.desk.withdrawals import withdrawal_form
from services.referrals.domain import Move
from services.referrals.justice import alerts
from services.referrals.justice.schemas import AlertOut, Mistake, WithdrawAlertIn

router = APIRouter(include_in_schema=False)


@router.get("/desk/referrals/{referral_id}/alerts/{alert_id}/withdraw", operation_id="show_alert_withdrawal", response_class=Response)
async def show_alert_withdrawal(
    referral_id: Id, alert_id: Id, request: Request, caller: Caller, purpose: Purpose, runtime: Run
) -> Response:
    """What it is, and why it is to be withdrawn."""
    return await _form(referral_id, alert_id, request, caller, purpose, runtime)


@router.post("/desk/referrals/{referral_id}/alerts/{alert_id}/withdraw", operation_id="withdraw_noted_alert", response_class=Response)
async def withdraw_noted_alert(referral_id: Id, alert_id: Id, request: Request, caller: Caller, purpose: Purpose, runtime: Run) -> Response:
    """Withdraw it by the API's own command."""
    form = form_of(request)
    try:
        await make(_change(alert_id), "desk_withdraw_alert", request, form, caller, referral_id, datetime.now(UTC))
    except Refusal as refusal:
        if not is_for_the_form(refusal):
            raise
        return await _form(referral_id, alert_id, request, caller, purpose, runtime, form, refusal)
    return go_to(f"/desk/referrals/{referral_id}?done={WITHDRAWN}")


def _withdraw(alert_id: UUID) -> Callable[[AsyncSession, Doing, Any], Any]:
    async def run(session: AsyncSession, it: Doing, body: Any) -> BaseModel:
        return await alerts.withdraw(session, it.caller, it.id, alert_id, body, it.now)

    return run


def _change(alert_id: UUID, about: AlertOut | None = None) -> Change:
    told = f"{about.kind.label}, {moment(about.sent_at)}" if about is not None else ""
    return Change(
        f"Retirer : {told}",
        "Retirer",
        "L'envoi noté est retiré.",
        _withdraw(alert_id),
        WithdrawAlertIn,
        (Field("reason", "Motif", "radios", of_codes(Mistake)),),
        explanation="Seulement ce qui a été noté par erreur : rien de ce qui est parti n'est rappelé. L'envoi noté reste visible, et n'est plus compté.",
    )


async def _form(
    referral_id: UUID,
    alert_id: UUID,
    request: Request,
    caller: Principal,
    purpose: Stated,
    runtime: Runtime,
    typed: Form | None = None,
    refusal: Refusal | None = None,
) -> Response:
    async with runtime.database.transaction() as session:
        shown: dict[str, Any] = await opened(session, runtime, caller, purpose, referral_id)
        found = await alerts.of_referral(session, runtime.vault, referral_id)
        await audit(session, caller, operation="list_alerts", subject=f"referrals/{referral_id}", purpose=purpose)
    about = next((one for one in found if one.id == alert_id), None)
    if about is None:
        raise NotFound("Cette information préoccupante ou ce signalement n'est pas dans la saisine.")
    return withdrawal_form(request, shown, Move.ALERT, _change(alert_id, about), "alerts", alert_id, typed, refusal)
