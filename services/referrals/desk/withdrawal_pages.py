"""Withdrawing what was noted by mistake: an alert, a contact attempt, an interview, an assessment. Noting one is a move (moves.py)."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple
from uuid import UUID

from fastapi import APIRouter, Path, Request
from pydantic import BaseModel
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.responses import Response

from libs.chassis.audit import audit
from libs.chassis.refusals import NotFound, Refusal
from libs.chassis.runtime import Run, Runtime
from libs.chassis.security import Caller, Principal, Purpose
from libs.chassis.strict import Body
from libs.contracts.types import Code, Id
from libs.contracts.vocabularies import Purpose as Stated
from services.referrals.delays.due import Delays
from services.referrals.desk.changes import Change, Doing, Field, is_for_the_form, make, of_codes
from services.referrals.desk.forms import Form
from services.referrals.desk.pages import form_page, go_to, moment
from services.referrals.desk.referral_pages import (
    ASSESSMENT_WITHDRAWN,
    CONTACT_WITHDRAWN,
    INTERVIEW_WITHDRAWN,
    WITHDRAWN,
    check_open,
    opened,
)
from services.referrals.desk.sign_in_pages import form_of
from services.referrals.domain import Move
from services.referrals.justice import alerts
from services.referrals.justice.schemas import Mistake, WithdrawAlertIn
from services.referrals.orientations.links import Links
from services.referrals.working import withdrawals
from services.referrals.working.domain import Misnoted
from services.referrals.working.followup_schemas import WithdrawIn
from services.referrals.working.schemas import ReferralOut

router = APIRouter(include_in_schema=False)


class Reading(NamedTuple):
    """Who reads which referral, why."""

    caller: Principal
    purpose: Stated
    runtime: Runtime
    referral: ReferralOut


@dataclass(frozen=True, slots=True)
class Noted:
    """What can be withdrawn, with the texts of its page."""

    move: Move
    """By which it was noted."""
    what: str
    """What it is called in an address."""
    each: Callable[[AsyncSession, Reading], Awaitable[dict[UUID, str]]]
    """Those of a referral by id, in words."""
    run: Callable[[AsyncSession, Doing, UUID, Any], Awaitable[BaseModel]]
    body: type[Body]
    reasons: type[Code]
    done: str
    told: str
    missing: str
    explanation: str


async def _alerts(session: AsyncSession, it: Reading) -> dict[UUID, str]:
    found = await alerts.of_referral(session, it.runtime.vault, it.referral.id)
    await audit(session, it.caller, operation="list_alerts", subject=f"referrals/{it.referral.id}", purpose=it.purpose)
    return {one.id: f"{one.kind.label}, {moment(one.sent_at)}" for one in found}


async def _contacts(session: AsyncSession, it: Reading) -> dict[UUID, str]:
    return {one.id: f"tentative de contact, {moment(one.attempted_at)}" for one in it.referral.contacts}


async def _interviews(session: AsyncSession, it: Reading) -> dict[UUID, str]:
    return {one.id: f"entretien, {moment(one.held_at)}" for one in it.referral.interviews}


async def _assessments(session: AsyncSession, it: Reading) -> dict[UUID, str]:
    return {one.id: f"évaluation, {moment(one.recorded_at)}" for one in it.referral.assessments}


async def _withdraw_alert(session: AsyncSession, it: Doing, noted_id: UUID, body: Any) -> BaseModel:
    return await alerts.withdraw(session, it.caller, it.id, noted_id, body, it.now)


async def _withdraw_contact(session: AsyncSession, it: Doing, noted_id: UUID, body: Any) -> BaseModel:
    links, delays = Links.of(it.runtime), Delays.of(it.runtime)
    return await withdrawals.withdraw_contact(session, it.caller, links, delays, it.id, noted_id, body, it.now)


async def _withdraw_interview(session: AsyncSession, it: Doing, noted_id: UUID, body: Any) -> BaseModel:
    return await withdrawals.withdraw_interview(session, it.caller, it.id, noted_id, body, it.now)


async def _withdraw_assessment(session: AsyncSession, it: Doing, noted_id: UUID, body: Any) -> BaseModel:
    return await withdrawals.withdraw_assessment(session, it.caller, Links.of(it.runtime), it.id, noted_id, body, it.now)


NOTED: Final = (
    Noted(
        Move.ALERT,
        "alerts",
        _alerts,
        _withdraw_alert,
        WithdrawAlertIn,
        Mistake,
        done=WITHDRAWN,
        told="L'envoi noté est retiré.",
        missing="Cette information préoccupante ou ce signalement n'est pas dans la saisine.",
        explanation="Seulement ce qui a été noté par erreur : rien de ce qui est parti n'est rappelé. L'envoi noté reste visible, et n'est plus compté.",
    ),
    Noted(
        Move.CONTACT,
        "contacts",
        _contacts,
        _withdraw_contact,
        WithdrawIn,
        Misnoted,
        done=CONTACT_WITHDRAWN,
        told="La tentative de contact est retirée.",
        missing="Cette tentative de contact n'est pas dans la saisine.",
        explanation="Seulement ce qui a été noté par erreur. La tentative reste visible, et n'est plus comptée : s'il n'en reste aucune, le premier"
        " contact est de nouveau attendu. L'accord noté avec elle est retiré aussi, et les orientations qui reposaient sur lui, sauf si la personne a été"
        " jointe une autre fois. Les orientations annulées parce que la personne avait décliné restent annulées : demandez-les de nouveau.",
    ),
    Noted(
        Move.INTERVIEW,
        "interviews",
        _interviews,
        _withdraw_interview,
        WithdrawIn,
        Misnoted,
        done=INTERVIEW_WITHDRAWN,
        told="L'entretien est retiré.",
        missing="Cet entretien n'est pas dans la saisine.",
        explanation="Seulement ce qui a été noté par erreur. L'entretien reste visible, et n'est plus compté.",
    ),
    Noted(
        Move.ASSESS,
        "assessments",
        _assessments,
        _withdraw_assessment,
        WithdrawIn,
        Misnoted,
        done=ASSESSMENT_WITHDRAWN,
        told="L'évaluation est retirée.",
        missing="Cette évaluation n'est pas dans la saisine.",
        explanation="Seulement ce qui a été noté par erreur. L'évaluation reste visible, et n'est plus comptée : que les services sociaux"
        " connaissent ou non la personne redevient ce qui était su sans elle.",
    ),
)


def _pages(noted: Noted) -> None:
    name = f"{noted.what.removesuffix('s')}_id"
    path, which = f"/desk/referrals/{{referral_id}}/{noted.what}/{{{name}}}/withdraw", Path(alias=name)

    @router.get(path, operation_id=f"show_{noted.move}_withdrawal", response_class=Response)
    async def show(referral_id: Id, request: Request, caller: Caller, purpose: Purpose, runtime: Run, noted_id: Id = which) -> Response:
        """What it is, and why it is to be withdrawn."""
        return await _form(noted, referral_id, noted_id, request, caller, purpose, runtime)

    @router.post(path, operation_id=f"withdraw_noted_{noted.move}", response_class=Response)
    async def withdraw(referral_id: Id, request: Request, caller: Caller, purpose: Purpose, runtime: Run, noted_id: Id = which) -> Response:
        """Withdraw it by the API's own command."""
        form = form_of(request)
        try:
            await make(_change(noted, noted_id), f"desk_withdraw_{noted.move}", request, form, caller, referral_id, datetime.now(UTC))
        except Refusal as refusal:
            if not is_for_the_form(refusal):
                raise
            return await _form(noted, referral_id, noted_id, request, caller, purpose, runtime, form, refusal)
        return go_to(f"/desk/referrals/{referral_id}?done={noted.done}")


for _each in NOTED:
    _pages(_each)


def _change(noted: Noted, noted_id: UUID, in_words: str = "") -> Change:
    async def run(session: AsyncSession, it: Doing, body: Any) -> BaseModel:
        return await noted.run(session, it, noted_id, body)

    reason = Field("reason", "Motif", "radios", of_codes(noted.reasons))
    return Change(f"Retirer : {in_words}", "Retirer", noted.told, run, noted.body, (reason,), explanation=noted.explanation)


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
    """Raises NotFound, MoveRefused."""
    async with runtime.database.transaction() as session:
        shown: dict[str, Any] = await opened(session, runtime, caller, purpose, referral_id)
        referral: ReferralOut = shown["referral"]
        each = await noted.each(session, Reading(caller, purpose, runtime, referral))
    if noted_id not in each:
        raise NotFound(noted.missing)
    check_open(referral, noted.move)
    change, back = _change(noted, noted_id, each[noted_id]), f"/desk/referrals/{referral.id}"
    return form_page(
        request,
        "desk_change.html",
        change,
        typed,
        refusal,
        **shown,
        shown=shown,
        back=back,
        back_to="Revenir à la saisine",
        action=f"{back}/{noted.what}/{noted_id}/withdraw",
    )
