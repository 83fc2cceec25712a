"""Interviews, assessments, withdrawals, transfer and the timeline over HTTP."""

from datetime import UTC, datetime

from fastapi import APIRouter, Response

from libs.chassis.audit import audit
from libs.chassis.docs import Example, examples
from libs.chassis.etag import IfMatch
from libs.chassis.idempotency import Once
from libs.chassis.problems import problems
from libs.chassis.runtime import Run
from libs.chassis.security import Caller, Purpose
from libs.contracts.demonstration import ASSESSMENT, CONTACT, INTERVIEW, POST_SARCELLES, REFERRAL, VICTIM
from libs.contracts.types import Id
from services.referrals.delays.due import Delays
from services.referrals.orientations.links import Links
from services.referrals.working import followup, withdrawals, work
from services.referrals.working.followup_schemas import (
    AssessmentIn,
    AssessmentWithdrawnOut,
    ContactWithdrawnOut,
    InterviewIn,
    InterviewWithdrawnOut,
    TimelineOut,
    WithdrawIn,
)
from services.referrals.working.schemas import AssessmentOut, InterviewOut, MovedOut, TransferIn
from services.referrals.working.timeline import timeline

router = APIRouter(tags=["Saisines"])
_OF_REFERRAL = {"referral_id": REFERRAL}


def _now() -> datetime:
    return datetime.now(UTC)


@router.post(
    "/v1/referrals/{referral_id}/transfer",
    operation_id="transfer_referral",
    response_model=MovedOut,
    responses=problems(404, 409, 412, 422, 428),
    openapi_extra=examples(Example("iscg-95", 200, {"post_id": POST_SARCELLES}, path=_OF_REFERRAL, headers={"If-Match": '"1"'})),
)
async def transfer_referral(referral_id: Id, body: TransferIn, caller: Caller, version: IfMatch, runtime: Run, once: Once) -> Response:
    """Hand a referral over to another post of the département."""
    return await once(lambda session: work.transfer(session, caller, Delays.of(runtime), referral_id, version, body, _now()), status=200)


@router.post(
    "/v1/referrals/{referral_id}/contacts/{contact_id}/withdraw",
    operation_id="withdraw_contact",
    response_model=ContactWithdrawnOut,
    responses=problems(404, 409, 422),
    openapi_extra=examples(
        Example(
            "iscg-95",
            200,
            {"reason": "other_referral"},
            "Un contact noté sur la mauvaise saisine",
            path=_OF_REFERRAL | {"contact_id": CONTACT},
        )
    ),
)
async def withdraw_contact(referral_id: Id, contact_id: Id, body: WithdrawIn, caller: Caller, runtime: Run, once: Once) -> Response:
    """Withdraw an attempt that was noted by mistake. It stays in the referral with the reason, and counts no longer.

    What a contact with the result `declined` cancelled stays cancelled, its partners were told: ask for it again.
    """
    return await once(
        lambda session: withdrawals.withdraw_contact(
            session, caller, Links.of(runtime), Delays.of(runtime), referral_id, contact_id, body, _now()
        ),
        status=200,
    )


@router.post(
    "/v1/referrals/{referral_id}/interviews",
    status_code=201,
    operation_id="hold_interview",
    response_model=InterviewOut,
    responses=problems(404, 409, 422),
    openapi_extra=examples(
        Example(
            "iscg-95",
            201,
            {"person_ids": [VICTIM], "place": "station", "duration_minutes": 50, "held_at": "2026-11-23T11:00:00+01:00"},
            path=_OF_REFERRAL,
        )
    ),
)
async def hold_interview(referral_id: Id, body: InterviewIn, caller: Caller, runtime: Run, once: Once) -> Response:
    """Note an interview, once each adult who was there was reached by a contact that is noted; a minor may come with one of them."""
    return await once(lambda session: followup.interview(session, caller, runtime.vault, referral_id, body, _now()), status=201)


@router.post(
    "/v1/referrals/{referral_id}/interviews/{interview_id}/withdraw",
    operation_id="withdraw_interview",
    response_model=InterviewWithdrawnOut,
    responses=problems(404, 409, 422),
    openapi_extra=examples(
        Example("iscg-95", 200, {"reason": "noted_twice"}, "Un entretien noté deux fois", path=_OF_REFERRAL | {"interview_id": INTERVIEW})
    ),
)
async def withdraw_interview(referral_id: Id, interview_id: Id, body: WithdrawIn, caller: Caller, once: Once) -> Response:
    """Withdraw an interview that was noted by mistake. It stays in the referral with the reason, and counts no longer."""
    return await once(lambda session: withdrawals.withdraw_interview(session, caller, referral_id, interview_id, body, _now()), status=200)


@router.post(
    "/v1/referrals/{referral_id}/assessments",
    status_code=201,
    operation_id="record_assessment",
    response_model=AssessmentOut,
    responses=problems(404, 409, 422),
    openapi_extra=examples(
        Example(
            "iscg-95",
            201,
            {"person_id": VICTIM, "needs": ["protection", "legal_advice"], "known_to_services": "unknown"},
            path=_OF_REFERRAL,
        )
    ),
)
async def record_assessment(referral_id: Id, body: AssessmentIn, caller: Caller, runtime: Run, once: Once) -> Response:
    """Record the needs of a person, as the social worker assesses them."""
    return await once(lambda session: followup.assess(session, caller, Links.of(runtime), referral_id, body, _now()), status=201)


@router.post(
    "/v1/referrals/{referral_id}/assessments/{assessment_id}/withdraw",
    operation_id="withdraw_assessment",
    response_model=AssessmentWithdrawnOut,
    responses=problems(404, 409, 422),
    openapi_extra=examples(
        Example(
            "iscg-95",
            200,
            {"reason": "other_person"},
            "Une évaluation notée pour une autre personne",
            path=_OF_REFERRAL | {"assessment_id": ASSESSMENT},
        )
    ),
)
async def withdraw_assessment(referral_id: Id, assessment_id: Id, body: WithdrawIn, caller: Caller, runtime: Run, once: Once) -> Response:
    """Withdraw an assessment that was noted by mistake. It stays in the referral with the reason, and counts no longer, nor does what it told of the person."""
    return await once(
        lambda session: withdrawals.withdraw_assessment(session, caller, Links.of(runtime), referral_id, assessment_id, body, _now()),
        status=200,
    )


@router.get("/v1/referrals/{referral_id}/timeline", operation_id="read_timeline", response_model=TimelineOut, responses=problems(404))
async def read_timeline(referral_id: Id, caller: Caller, purpose: Purpose, runtime: Run) -> TimelineOut:
    """What happened, oldest first: codes and ids, no personal content. The reading is audited all the same: to whom somebody was oriented is a secret."""
    async with runtime.database.transaction() as session:
        found = await timeline(session, caller, referral_id)
        await audit(session, caller, operation="read_timeline", subject=f"referrals/{referral_id}", purpose=purpose)
    return found
