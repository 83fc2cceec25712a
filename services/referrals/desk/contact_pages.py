"""Withdrawing a contact attempt that was noted by mistake. Noting one is a move (moves.py)."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from fastapi import APIRouter, Request
from pydantic import BaseModel
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.responses import Response

from libs.chassis.refusals import NotFound, Refusal
from libs.chassis.runtime import Run, Runtime
from libs.chassis.security import Caller, Principal, Purpose
from libs.contracts.types import Id
from libs.contracts.vocabularies import Purpose as Stated
from services.referrals.delays.due import Delays
from services.referrals.desk.changes import Change, Doing, Field, is_for_the_form, make, of_codes
from services.referrals.desk.forms import Form
from services.referrals.desk.pages import go_to, moment
from services.referrals.desk.referral_pages import CONTACT_WITHDRAWN, opened
from services.referrals.desk.sign_in_pages import form_of
from services.referrals.desk.withdrawals import withdrawal_form
from services.referrals.domain import Misnoted, Move
from services.referrals.schemas import ContactOut
from services.referrals.working import withdrawals
from services.referrals.working.followup_schemas import WithdrawContactIn

router = APIRouter(include_in_schema=False)


@router.get("/desk/referrals/{referral_id}/contacts/{contact_id}/withdraw", operation_id="show_contact_withdrawal", response_class=Response)
async def show_contact_withdrawal(
    referral_id: Id, contact_id: Id, request: Request, caller: Caller, purpose: Purpose, runtime: Run
) -> Response:
    """What it is, and why it is to be withdrawn."""
    return await _form(referral_id, contact_id, request, caller, purpose, runtime)


@router.post("/desk/referrals/{referral_id}/contacts/{contact_id}/withdraw", operation_id="withdraw_noted_contact", response_class=Response)
async def withdraw_noted_contact(
    referral_id: Id, contact_id: Id, request: Request, caller: Caller, purpose: Purpose, runtime: Run
) -> Response:
    """Withdraw it by the API's own command."""
    form = form_of(request)
    try:
        await make(_change(contact_id), "desk_withdraw_contact", request, form, caller, referral_id, datetime.now(UTC))
    except Refusal as refusal:
        if not is_for_the_form(refusal):
            raise
        return await _form(referral_id, contact_id, request, caller, purpose, runtime, form, refusal)
    return go_to(f"/desk/referrals/{referral_id}?done={CONTACT_WITHDRAWN}")


def _withdraw(contact_id: UUID) -> Callable[[AsyncSession, Doing, Any], Any]:
    async def run(session: AsyncSession, it: Doing, body: Any) -> BaseModel:
        return await withdrawals.withdraw_contact(session, it.caller, Delays.of(it.runtime), it.id, contact_id, body, it.now)

    return run


def _change(contact_id: UUID, about: ContactOut | None = None) -> Change:
    told = f"tentative de contact, {moment(about.attempted_at)}" if about is not None else ""
    return Change(
        f"Retirer : {told}",
        "Retirer",
        "La tentative de contact est retirée.",
        _withdraw(contact_id),
        WithdrawContactIn,
        (Field("reason", "Motif", "radios", of_codes(Misnoted)),),
        explanation="Seulement ce qui a été noté par erreur. La tentative reste visible, et n'est plus comptée : s'il n'en reste aucune, le premier"
        " contact est de nouveau attendu. Si l'accord de la personne a été noté avec elle, corrigez-le aussi.",
    )


async def _form(
    referral_id: UUID,
    contact_id: UUID,
    request: Request,
    caller: Principal,
    purpose: Stated,
    runtime: Runtime,
    typed: Form | None = None,
    refusal: Refusal | None = None,
) -> Response:
    async with runtime.database.transaction() as session:
        shown: dict[str, Any] = await opened(session, runtime, caller, purpose, referral_id)
    about = next((one for one in shown["referral"].contacts if one.id == contact_id), None)
    if about is None:
        raise NotFound("Cette tentative de contact n'est pas dans la saisine.")
    return withdrawal_form(request, shown, Move.CONTACT, _change(contact_id, about), "contacts", contact_id, typed, refusal)
