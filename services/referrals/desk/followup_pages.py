"""Withdrawing a contact attempt or an interview that was noted by mistake. Noting one is a move (moves.py)."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
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
from services.referrals.desk.referral_pages import CONTACT_WITHDRAWN, INTERVIEW_WITHDRAWN, opened
from services.referrals.desk.sign_in_pages import form_of
from services.referrals.desk.withdrawals import withdrawal_form
from services.referrals.domain import Move
from services.referrals.working import withdrawals
from services.referrals.working.domain import Misnoted
from services.referrals.working.followup_schemas import WithdrawIn
from services.referrals.working.schemas import ReferralOut

router = APIRouter(include_in_schema=False)


@dataclass(frozen=True, slots=True)
class Noted:
    """`what`: what it is called in an address; `find`: when each of a referral was, by id."""

    move: Move
    what: str
    name: str
    done: str
    told: str
    missing: str
    explanation: str
    find: Callable[[ReferralOut], dict[UUID, datetime]]
    run: Callable[[AsyncSession, Doing, UUID, Any], Any]


async def _withdraw_contact(session: AsyncSession, it: Doing, noted_id: UUID, body: Any) -> BaseModel:
    return await withdrawals.withdraw_contact(session, it.caller, Delays.of(it.runtime), it.id, noted_id, body, it.now)


async def _withdraw_interview(session: AsyncSession, it: Doing, noted_id: UUID, body: Any) -> BaseModel:
    return await withdrawals.withdraw_interview(session, it.caller, it.id, noted_id, body, it.now)


_CONTACT: Final = Noted(
    Move.CONTACT,
    "contacts",
    "tentative de contact",
    CONTACT_WITHDRAWN,
    "La tentative de contact est retirée.",
    "Cette tentative de contact n'est pas dans la saisine.",
    "Seulement ce qui a été noté par erreur. La tentative reste visible, et n'est plus comptée : s'il n'en reste aucune, le premier"
    " contact est de nouveau attendu. Si l'accord de la personne a été noté avec elle, corrigez-le aussi.",
    lambda referral: {one.id: one.attempted_at for one in referral.contacts},
    _withdraw_contact,
)
_INTERVIEW: Final = Noted(
    Move.INTERVIEW,
    "interviews",
    "entretien",
    INTERVIEW_WITHDRAWN,
    "L'entretien est retiré.",
    "Cet entretien n'est pas dans la saisine.",
    "Seulement ce qui a été noté par erreur. L'entretien reste visible, et n'est plus compté.",
    lambda referral: {one.id: one.held_at for one in referral.interviews},
    _withdraw_interview,
)


@router.get("/desk/referrals/{referral_id}/contacts/{contact_id}/withdraw", operation_id="show_contact_withdrawal", response_class=Response)
async def show_contact_withdrawal(
    referral_id: Id, contact_id: Id, request: Request, caller: Caller, purpose: Purpose, runtime: Run
) -> Response:
    """What it is, and why it is to be withdrawn."""
    return await _form(_CONTACT, referral_id, contact_id, request, caller, purpose, runtime)


@router.post("/desk/referrals/{referral_id}/contacts/{contact_id}/withdraw", operation_id="withdraw_noted_contact", response_class=Response)
async def withdraw_noted_contact(
    referral_id: Id, contact_id: Id, request: Request, caller: Caller, purpose: Purpose, runtime: Run
) -> Response:
    """Withdraw it by the API's own command."""
    return await _withdraw(_CONTACT, referral_id, contact_id, request, caller, purpose, runtime)


@router.get(
    "/desk/referrals/{referral_id}/interviews/{interview_id}/withdraw", operation_id="show_interview_withdrawal", response_class=Response
)
async def show_interview_withdrawal(
    referral_id: Id, interview_id: Id, request: Request, caller: Caller, purpose: Purpose, runtime: Run
) -> Response:
    """What it is, and why it is to be withdrawn."""
    return await _form(_INTERVIEW, referral_id, interview_id, request, caller, purpose, runtime)


@router.post(
    "/desk/referrals/{referral_id}/interviews/{interview_id}/withdraw", operation_id="withdraw_noted_interview", response_class=Response
)
async def withdraw_noted_interview(
    referral_id: Id, interview_id: Id, request: Request, caller: Caller, purpose: Purpose, runtime: Run
) -> Response:
    """Withdraw it by the API's own command."""
    return await _withdraw(_INTERVIEW, referral_id, interview_id, request, caller, purpose, runtime)


async def _withdraw(
    noted: Noted, referral_id: UUID, noted_id: UUID, request: Request, caller: Principal, purpose: Stated, runtime: Runtime
) -> Response:
    form = form_of(request)
    try:
        await make(_change(noted, noted_id), f"desk_withdraw_{noted.move}", request, form, caller, referral_id, datetime.now(UTC))
    except Refusal as refusal:
        if not is_for_the_form(refusal):
            raise
        return await _form(noted, referral_id, noted_id, request, caller, purpose, runtime, form, refusal)
    return go_to(f"/desk/referrals/{referral_id}?done={noted.done}")


def _change(noted: Noted, noted_id: UUID, at: datetime | None = None) -> Change:
    async def run(session: AsyncSession, it: Doing, body: Any) -> BaseModel:
        made: BaseModel = await noted.run(session, it, noted_id, body)
        return made

    return Change(
        f"Retirer : {noted.name}, {moment(at)}",
        "Retirer",
        noted.told,
        run,
        WithdrawIn,
        (Field("reason", "Motif", "radios", of_codes(Misnoted)),),
        explanation=noted.explanation,
    )


async def _form(
    noted: Noted,
    referral_id: UUID,
    noted_id: UUID,
    request: Request,
    caller: Principal,
    purpose: Stated,
    runtime: Runtime,
    typed: Form | None = None,
    refusal: Refusal | None = None,
) -> Response:
    async with runtime.database.transaction() as session:
        shown: dict[str, Any] = await opened(session, runtime, caller, purpose, referral_id)
    at = noted.find(shown["referral"]).get(noted_id)
    if at is None:
        raise NotFound(noted.missing)
    return withdrawal_form(request, shown, noted.move, _change(noted, noted_id, at), noted.what, noted_id, typed, refusal)
