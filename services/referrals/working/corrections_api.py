"""Corrections over HTTP."""

from datetime import UTC, datetime

from fastapi import APIRouter, Response

from libs.chassis.audit import audit
from libs.chassis.docs import Example, examples
from libs.chassis.etag import IfMatch
from libs.chassis.idempotency import Once
from libs.chassis.problems import problems
from libs.chassis.runtime import Run
from libs.chassis.security import Caller, Purpose
from libs.chassis.settings import secret_bytes
from libs.contracts.demonstration import REFERRAL, VICTIM
from libs.contracts.types import Id
from services.referrals.delays.due import Delays
from services.referrals.orientations.links import Links
from services.referrals.working import corrections, corrections_log
from services.referrals.working.corrections_schemas import CorrectedOut, CorrectionIn, CorrectionList

router = APIRouter(tags=["Saisines"])


@router.post(
    "/v1/referrals/{referral_id}/corrections",
    status_code=201,
    operation_id="correct_referral",
    response_model=CorrectedOut,
    responses=problems(404, 409, 412, 422, 428),
    openapi_extra=examples(
        Example(
            "iscg-95",
            201,
            {
                "reason": "learned",
                "urgency": "immediate",
                "persons": [{"person_id": VICTIM, "contact": {"phones": ["+33639980002"]}, "agreement": "accepted"}],
            },
            path={"referral_id": REFERRAL},
            headers={"If-Match": '"1"'},
        )
    ),
)
async def correct_referral(referral_id: Id, body: CorrectionIn, caller: Caller, version: IfMatch, runtime: Run, once: Once) -> Response:
    """Correct what was received. Only what is given changes; what was there before is kept in the log, sealed where it is personal."""
    search_key = secret_bytes(runtime.settings.search_key)
    return await once(
        lambda session: corrections.correct(
            session, caller, runtime.vault, Links.of(runtime), search_key, Delays.of(runtime), referral_id, version, body, datetime.now(UTC)
        ),
        status=201,
    )


@router.get(
    "/v1/referrals/{referral_id}/corrections",
    operation_id="list_corrections",
    response_model=CorrectionList,
    responses=problems(404),
)
async def list_corrections(referral_id: Id, caller: Caller, purpose: Purpose, runtime: Run) -> CorrectionList:
    """Who corrected what, when and why, with what was there before. The reading is audited."""
    async with runtime.database.transaction() as session:
        found = await corrections_log.log(session, caller, runtime.vault, referral_id)
        await audit(session, caller, operation="list_corrections", subject=f"referrals/{referral_id}", purpose=purpose)
    return found
