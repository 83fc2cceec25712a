"""The register of judicial requisitions at the desk: its list, an entry with its words, the form of a new one and of one that corrects another."""

import json
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from fastapi import APIRouter, Request
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.responses import Response

from libs.chassis.audit import audit
from libs.chassis.pagination import Page
from libs.chassis.refusals import Refusal
from libs.chassis.runtime import Run, Runtime
from libs.chassis.security import Caller, Principal, Purpose
from libs.contracts.types import Id
from libs.contracts.vocabularies import Purpose as Stated
from services.referrals.desk.changes import is_for_the_form, make
from services.referrals.desk.forms import Form
from services.referrals.desk.pages import form_page, go_to, list_page, page
from services.referrals.desk.referral_pages import REGISTERED, opened
from services.referrals.desk.requisition_changes import requisition_change
from services.referrals.desk.sign_in_pages import form_of
from services.referrals.justice import requisitions
from services.referrals.justice.schemas import RequisitionOut

router = APIRouter(include_in_schema=False)


@router.get("/desk/requisitions", operation_id="show_register", response_class=Response)
async def show_register(request: Request, caller: Caller, runtime: Run, asked: Page) -> Response:
    """The register of the caller's perimeter, in codes only, oldest entry first."""
    async with runtime.database.transaction() as session:
        rows = await requisitions.register(session, caller, referral_id=None, after=asked.after, limit=asked.limit)
    return list_page(request, "desk_register.html", rows, asked, lambda row: (row.id,))


@router.get("/desk/requisitions/{requisition_id}", operation_id="show_requisition", response_class=Response)
async def show_requisition(
    requisition_id: Id, request: Request, caller: Caller, purpose: Purpose, runtime: Run, done: str = ""
) -> Response:
    """One entry with its words. The reading is audited as that of the API."""
    async with runtime.database.transaction() as session:
        entry = await _read(session, caller, purpose, runtime, requisition_id)
        shown = await opened(session, runtime, caller, purpose, entry.referral_id)
    told = requisition_change(entry).told if done == REGISTERED else ""
    return page(request, "desk_requisition.html", **shown, entry=entry, done=told)


@router.get("/desk/referrals/{referral_id}/requisitions/new", operation_id="show_requisition_entry", response_class=Response)
async def show_requisition_entry(referral_id: Id, request: Request, caller: Caller, purpose: Purpose, runtime: Run) -> Response:
    """An empty form."""
    return await _form(referral_id, None, request, caller, purpose, runtime)


@router.post("/desk/referrals/{referral_id}/requisitions/new", operation_id="enter_requisition", response_class=Response)
async def enter_requisition(referral_id: Id, request: Request, caller: Caller, purpose: Purpose, runtime: Run) -> Response:
    """Enter it by the API's own command."""
    entered = await _entered(referral_id, None, request, caller, purpose, runtime)
    return entered if isinstance(entered, Response) else go_to(f"/desk/referrals/{referral_id}?done={REGISTERED}")


@router.get("/desk/requisitions/{requisition_id}/correct", operation_id="show_requisition_correction", response_class=Response)
async def show_requisition_correction(requisition_id: Id, request: Request, caller: Caller, purpose: Purpose, runtime: Run) -> Response:
    """What an entry says, as the form of the one that is to hold in its place."""
    async with runtime.database.transaction() as session:
        before = await _read(session, caller, purpose, runtime, requisition_id)
    return await _form(before.referral_id, before, request, caller, purpose, runtime)


@router.post("/desk/requisitions/{requisition_id}/correct", operation_id="correct_requisition", response_class=Response)
async def correct_requisition(requisition_id: Id, request: Request, caller: Caller, purpose: Purpose, runtime: Run) -> Response:
    """Enter the one that corrects it."""
    async with runtime.database.transaction() as session:
        before = await _read(session, caller, purpose, runtime, requisition_id)
    entered = await _entered(before.referral_id, before, request, caller, purpose, runtime)
    return entered if isinstance(entered, Response) else go_to(f"/desk/requisitions/{entered}?done={REGISTERED}")


async def _read(session: AsyncSession, caller: Principal, purpose: Stated, runtime: Runtime, requisition_id: UUID) -> RequisitionOut:
    """Raises NotFound."""
    found = await requisitions.entry(session, caller, runtime.vault, requisition_id)
    await audit(session, caller, operation="read_requisition", subject=f"requisitions/{requisition_id}", purpose=purpose)
    return found


async def _entered(
    referral_id: UUID, before: RequisitionOut | None, request: Request, caller: Principal, purpose: Stated, runtime: Runtime
) -> Response | str:
    """The id of the new entry; the form again when it was refused."""
    form = form_of(request)
    try:
        made = json.loads(await make(requisition_change(before), "desk_requisition", request, form, caller, referral_id, datetime.now(UTC)))
    except Refusal as refusal:
        if not is_for_the_form(refusal):
            raise
        return await _form(referral_id, before, request, caller, purpose, runtime, form, refusal)
    return str(made["id"])


async def _form(
    referral_id: UUID,
    before: RequisitionOut | None,
    request: Request,
    caller: Principal,
    purpose: Stated,
    runtime: Runtime,
    typed: Form | None = None,
    refusal: Refusal | None = None,
) -> Response:
    async with runtime.database.transaction() as session:
        shown: dict[str, Any] = await opened(session, runtime, caller, purpose, referral_id)
    change = requisition_change(before)
    return form_page(
        request,
        "desk_change.html",
        change,
        typed,
        refusal,
        **shown,
        shown=shown | {"before": before},
        back=f"/desk/referrals/{referral_id}" if before is None else f"/desk/requisitions/{before.id}",
        back_to="Revenir à la saisine" if before is None else "Revenir à la réquisition",
        action=f"/desk/referrals/{referral_id}/requisitions/new" if before is None else f"/desk/requisitions/{before.id}/correct",
    )
