"""What is handed over to a person who asks for it (exports/), downloaded at the desk. Who clicks states the purpose by it: the person's right."""

from fastapi import APIRouter
from starlette.responses import Response

from libs.chassis.runtime import Run
from libs.chassis.security import Caller
from libs.contracts.types import Id
from libs.contracts.vocabularies import Purpose
from services.referrals.exports.api import export_data, export_document

router = APIRouter(include_in_schema=False)


@router.get("/desk/referrals/{referral_id}/persons/{person_id}/export.pdf", operation_id="download_export", response_class=Response)
async def download_export(referral_id: Id, person_id: Id, caller: Caller, runtime: Run) -> Response:
    """To read."""
    return await export_document(runtime, caller, Purpose.PERSONS_RIGHTS, referral_id, person_id)


@router.get("/desk/referrals/{referral_id}/persons/{person_id}/export.json", operation_id="download_export_data", response_class=Response)
async def download_export_data(referral_id: Id, person_id: Id, caller: Caller, runtime: Run) -> Response:
    """For another system."""
    return await export_data(runtime, caller, Purpose.PERSONS_RIGHTS, referral_id, person_id)
