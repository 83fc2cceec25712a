"""The correction of one person: identity, contact, safe-contact rules, agreement. The facts have the form of their move (move_pages.py)."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from fastapi import APIRouter, Request
from starlette.responses import Response

from libs.chassis.audit import audit
from libs.chassis.refusals import NotFound, Refusal, StaleVersion
from libs.chassis.runtime import Run, Runtime
from libs.chassis.security import Caller, Principal, Purpose
from libs.contracts.types import Id
from libs.contracts.vocabularies import Purpose as Stated
from services.referrals.desk.changes import is_for_the_form, make, meanwhile
from services.referrals.desk.correction_changes import ADDED, person_change, windows_of
from services.referrals.desk.forms import Form
from services.referrals.desk.kept import kept_form
from services.referrals.desk.pages import form_page, go_to, page
from services.referrals.desk.referral_pages import check_open, opened
from services.referrals.desk.sign_in_pages import form_of
from services.referrals.desk.told_corrections import told_correction
from services.referrals.domain import Move
from services.referrals.schemas import MAX_WINDOWS, PersonOut
from services.referrals.working import corrections_log

router = APIRouter(include_in_schema=False)

_BLANK_ROWS = 2


@router.get("/desk/referrals/{referral_id}/correct/{person_id}", operation_id="show_person_correction", response_class=Response)
async def show_person_correction(
    referral_id: Id, person_id: Id, request: Request, caller: Caller, purpose: Purpose, runtime: Run
) -> Response:
    """What is known of a person, as a form."""
    return await _shown(referral_id, person_id, request, caller, purpose, runtime)


@router.post("/desk/referrals/{referral_id}/correct/{person_id}", operation_id="correct_person", response_class=Response)
async def correct_person(referral_id: Id, person_id: Id, request: Request, caller: Caller, purpose: Purpose, runtime: Run) -> Response:
    """Correct it by the API's own command; what is refused is shown on the form, which keeps what was typed."""
    form = form_of(request)
    try:
        await make(person_change(person_id), "desk_correct_person", request, form, caller, referral_id, datetime.now(UTC))
    except Refusal as refusal:
        if not is_for_the_form(refusal):
            raise
        return await _shown(referral_id, person_id, request, caller, purpose, runtime, form, refusal)
    return go_to(f"/desk/referrals/{referral_id}?done={Move.CORRECT}")


@router.get("/desk/referrals/{referral_id}/persons/new", operation_id="show_person_addition", response_class=Response)
async def show_person_addition(referral_id: Id, request: Request, caller: Caller, purpose: Purpose, runtime: Run) -> Response:
    """A person who was forgotten, as an empty form."""
    return await _shown(referral_id, None, request, caller, purpose, runtime)


@router.post("/desk/referrals/{referral_id}/persons/new", operation_id="add_person", response_class=Response)
async def add_person(referral_id: Id, request: Request, caller: Caller, purpose: Purpose, runtime: Run) -> Response:
    """Add them by the API's own command."""
    form = form_of(request)
    try:
        await make(ADDED, "desk_add_person", request, form, caller, referral_id, datetime.now(UTC))
    except Refusal as refusal:
        if not is_for_the_form(refusal):
            raise
        return await _shown(referral_id, None, request, caller, purpose, runtime, form, refusal)
    return go_to(f"/desk/referrals/{referral_id}?done={Move.CORRECT}")


@router.get("/desk/referrals/{referral_id}/journal/corrections", operation_id="show_corrections", response_class=Response)
async def show_corrections(referral_id: Id, request: Request, caller: Caller, purpose: Purpose, runtime: Run) -> Response:
    """Who corrected what, when and why, with what was there before: read as in the API."""
    async with runtime.database.transaction() as session:
        shown: dict[str, Any] = await opened(session, runtime, caller, purpose, referral_id)
        log = await corrections_log.log(session, caller, runtime.vault, referral_id)
        await audit(session, caller, operation="list_corrections", subject=f"referrals/{referral_id}", purpose=purpose)
    by = {line.id: line.by for line in shown["timeline"]}
    lines = [told_correction(one, shown["people"], by.get(one.id, "")) for one in reversed(log.items)]
    return page(request, "desk_corrections.html", **shown, lines=lines)


async def _shown(
    referral_id: UUID,
    person_id: UUID | None,
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
    person = shown["people"].get(person_id) if person_id is not None else None
    if person_id is not None and (person is None or person.erased):
        raise NotFound("Cette personne n'est pas dans la saisine, ou ses données ont été effacées.")
    if refusal is None:
        check_open(referral, Move.CORRECT)
    change = person_change(person_id)
    return form_page(
        request,
        "desk_correct.html",
        change,
        typed,
        refusal,
        **shown,
        person=person,
        open=Move.CORRECT in referral.moves,
        meanwhile=meanwhile(change, typed, shown | {"person": person}) if typed is not None and isinstance(refusal, StaleVersion) else {},
        windows=_windows(person, typed or kept_form(request)),
    )


def _windows(person: PersonOut | None, typed: Form | None) -> list[dict[str, Any]]:
    """The rows of the table of hours, and some blank ones."""
    rows = [one.model_dump() for one in person.own_safe_contact.windows] if person is not None and person.own_safe_contact else []
    if typed is not None:
        rows = windows_of(typed)
    blank = {"days": [], "begins": "", "ends": ""}
    return [*rows, *[blank] * _BLANK_ROWS][:MAX_WINDOWS]
