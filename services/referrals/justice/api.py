"""Child protection and justice over HTTP."""

from datetime import UTC, datetime

from fastapi import APIRouter, Response

from libs.chassis.audit import audit
from libs.chassis.docs import Example, examples
from libs.chassis.idempotency import Once
from libs.chassis.pagination import Page, page_of
from libs.chassis.problems import problems
from libs.chassis.runtime import Run
from libs.chassis.security import Caller, Purpose
from libs.contracts.demonstration import ALERT, ALLEGED_PERPETRATOR, COMMUNE_CERGY, REFERRAL, VICTIM
from libs.contracts.types import Id
from services.referrals import queries
from services.referrals.justice import alerts, requisitions
from services.referrals.justice.schemas import (
    AlertIn,
    AlertList,
    AlertMadeOut,
    RequisitionIn,
    RequisitionList,
    RequisitionOut,
    RequisitionSummary,
    WithdrawAlertIn,
)

router = APIRouter(tags=["Protection de l'enfance et justice"])
_OF_REFERRAL = {"referral_id": REFERRAL}
_SENT = "2026-11-24T16:30:00+01:00"


def _now() -> datetime:
    return datetime.now(UTC)


@router.post(
    "/v1/referrals/{referral_id}/alerts",
    status_code=201,
    operation_id="record_alert",
    response_model=AlertMadeOut,
    responses=problems(404, 409, 422),
    openapi_extra=examples(
        Example(
            "iscg-95",
            201,
            {"kind": "concerning_information", "person_ids": [], "sent_at": _SENT, "reference": "CRIP-95-2026-0042"},
            "Information préoccupante au département, pour l'enfant présent",
            path=_OF_REFERRAL,
        ),
        Example(
            "iscg-95",
            201,
            {"kind": "prosecutor_report", "court": COMMUNE_CERGY, "person_ids": [VICTIM], "sent_at": _SENT},
            "Signalement au procureur",
            path=_OF_REFERRAL,
        ),
    ),
)
async def record_alert(referral_id: Id, body: AlertIn, caller: Caller, runtime: Run, once: Once) -> Response:
    """Note an information préoccupante or a report to the prosecutor as sent. It shows on the referral from then on, to its post and the coordinator."""
    return await once(lambda session: alerts.record(session, caller, runtime.vault, referral_id, body, _now()), status=201)


@router.post(
    "/v1/referrals/{referral_id}/alerts/{alert_id}/withdraw",
    operation_id="withdraw_alert",
    response_model=AlertMadeOut,
    responses=problems(404, 409, 422),
    openapi_extra=examples(
        Example("iscg-95", 200, {"reason": "noted_twice"}, "Un envoi noté deux fois", path=_OF_REFERRAL | {"alert_id": ALERT})
    ),
)
async def withdraw_alert(referral_id: Id, alert_id: Id, body: WithdrawAlertIn, caller: Caller, runtime: Run, once: Once) -> Response:
    """Withdraw what was noted by mistake. It stays in the list with the reason, and counts no longer."""
    return await once(lambda session: alerts.withdraw(session, caller, referral_id, alert_id, body, _now()), status=200)


@router.get("/v1/referrals/{referral_id}/alerts", operation_id="list_alerts", response_model=AlertList, responses=problems(404))
async def list_alerts(referral_id: Id, caller: Caller, purpose: Purpose, runtime: Run) -> AlertList:
    """What was sent for a referral, oldest first, with its words. The reading is audited."""
    async with runtime.database.transaction() as session:
        referral = await queries.visible(session, caller, referral_id)
        found = await alerts.of_referral(session, runtime.vault, referral.id)
        await audit(session, caller, operation="list_alerts", subject=f"referrals/{referral_id}", purpose=purpose)
    return AlertList(items=found)


@router.post(
    "/v1/referrals/{referral_id}/requisitions",
    status_code=201,
    operation_id="record_requisition",
    response_model=RequisitionSummary,
    responses=problems(404, 409, 422),
    openapi_extra=examples(
        Example(
            "coordinator-95",
            201,
            {
                "ground": "cpp_77_1_1",
                "authority": "judicial_police",
                "authority_name": "Autorité fictive, commissariat de Cergy",
                "reference": "PV-2026-0117",
                "scope": "Texte fictif : coordonnées de la personne mise en cause.",
                "asked": ["contact"],
                "person_ids": [ALLEGED_PERPETRATOR],
                "received_at": "2026-11-24T10:00:00+01:00",
                "handed_over": ["contact"],
                "handed_over_at": _SENT,
            },
            path=_OF_REFERRAL,
        )
    ),
)
async def record_requisition(referral_id: Id, body: RequisitionIn, caller: Caller, runtime: Run, once: Once) -> Response:
    """Enter a judicial requisition in the register; `corrects_id` corrects or completes an earlier entry, which stays."""
    return await once(
        lambda session: requisitions.record(session, caller, runtime.vault, referral_id, body, _now()),
        status=201,
        location="/v1/requisitions/{id}",
    )


@router.get("/v1/requisitions", operation_id="list_requisitions", response_model=RequisitionList)
async def list_requisitions(caller: Caller, runtime: Run, page: Page, response: Response, referral_id: Id | None = None) -> RequisitionList:
    """The register, oldest entry first, in codes only."""
    async with runtime.database.transaction() as session:
        rows = await requisitions.register(session, caller, referral_id=referral_id, after=page.after, limit=page.limit)
    items, following = page_of(rows, page, lambda row: (row.id,))
    page.link(response, following)
    return RequisitionList(items=items, next=following)


@router.get("/v1/requisitions/{requisition_id}", operation_id="read_requisition", response_model=RequisitionOut, responses=problems(404))
async def read_requisition(requisition_id: Id, caller: Caller, purpose: Purpose, runtime: Run) -> RequisitionOut:
    """One entry with the authority, its reference and the scope in words. The reading is audited."""
    async with runtime.database.transaction() as session:
        found = await requisitions.entry(session, caller, runtime.vault, requisition_id)
        await audit(session, caller, operation="read_requisition", subject=f"requisitions/{requisition_id}", purpose=purpose)
    return found
