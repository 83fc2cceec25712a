"""Exports over HTTP. Readings: nothing of them is stored, and each is audited."""

import asyncio
from datetime import UTC, datetime
from typing import cast

from fastapi import APIRouter, Response

from libs.chassis.docs import Example, examples
from libs.chassis.problems import problems
from libs.chassis.runtime import Run, Runtime
from libs.chassis.security import Caller, Principal, Purpose
from libs.contracts.demonstration import REFERRAL, VICTIM
from libs.contracts.types import Id
from libs.contracts.vocabularies import Purpose as Purposes
from services.referrals.exports import collect, document
from services.referrals.exports.schemas import ExportOut
from services.referrals.settings import Settings

router = APIRouter(tags=["Droits des personnes"])
_PDF = "application/pdf"
_EXAMPLE = examples(
    Example("coordinator-95", 200, path={"referral_id": REFERRAL, "person_id": VICTIM}, headers={"X-Purpose": Purposes.PERSONS_RIGHTS})
)


async def _export(runtime: Runtime, caller: Principal, purpose: Purpose, referral_id: Id, person_id: Id) -> ExportOut:
    collect.check_purpose(purpose)
    days = cast(Settings, runtime.settings).persons_retention_days
    async with runtime.database.transaction(repeatable_read=True) as session:
        return await collect.export(session, caller, runtime.vault, referral_id, person_id, retention_days=days, now=datetime.now(UTC))


async def export_document(runtime: Runtime, caller: Principal, purpose: Purpose, referral_id: Id, person_id: Id) -> Response:
    export = await _export(runtime, caller, purpose, referral_id, person_id)
    made = await asyncio.to_thread(document.pdf, export)
    return Response(made, media_type=_PDF, headers={"Content-Disposition": f'attachment; filename="export-{person_id}.pdf"'})


async def export_data(runtime: Runtime, caller: Principal, purpose: Purpose, referral_id: Id, person_id: Id) -> Response:
    """As a file to hand over."""
    export = await _export(runtime, caller, purpose, referral_id, person_id)
    headers = {"Content-Disposition": f'attachment; filename="export-{person_id}.json"'}
    return Response(export.model_dump_json(indent=2), media_type="application/json", headers=headers)


@router.get(
    "/v1/referrals/{referral_id}/persons/{person_id}/export",
    operation_id="export_person",
    response_model=ExportOut,
    responses=problems(404, 422),
    openapi_extra=_EXAMPLE,
)
async def export_person(referral_id: Id, person_id: Id, caller: Caller, purpose: Purpose, runtime: Run) -> ExportOut:
    """Everything held on one person of a referral, for the person (GDPR art. 15); nothing of the others. `X-Purpose` is `persons_rights`.

    Somebody may be in several referrals: find them by POST /v1/person-searches, and export each.
    """
    return await _export(runtime, caller, purpose, referral_id, person_id)


@router.get(
    "/v1/referrals/{referral_id}/persons/{person_id}/export.pdf",
    operation_id="export_person_document",
    response_class=Response,
    responses={
        **problems(404, 422),
        200: {"description": "PDF/UA-1", "content": {_PDF: {"schema": {"type": "string", "format": "binary"}}}},
    },
    openapi_extra=_EXAMPLE,
)
async def export_person_document(referral_id: Id, person_id: Id, caller: Caller, purpose: Purpose, runtime: Run) -> Response:
    """The same as a document to hand over: in French, tagged for screen readers (PDF/UA-1)."""
    return await export_document(runtime, caller, purpose, referral_id, person_id)
