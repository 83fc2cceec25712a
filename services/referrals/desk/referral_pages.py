"""One referral as its social worker and coordinator see it: persons and how to contact them safely, narrative, what was done, what may be done."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

from fastapi import APIRouter, Request
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.responses import Response

from libs.chassis.audit import audit
from libs.chassis.refusals import NotFound
from libs.chassis.runtime import Run, Runtime
from libs.chassis.security import Caller, Principal, Purpose
from libs.chassis.settings import secret_bytes
from libs.contracts.types import Id
from libs.contracts.vocabularies import Purpose as Stated
from services.referrals import queries
from services.referrals.desk.changes import fresh_key
from services.referrals.desk.moves import CHANGES, told_of
from services.referrals.desk.pages import page
from services.referrals.desk.requisition_changes import NEW
from services.referrals.desk.told import Line, told_lines
from services.referrals.directory.called import Called, called
from services.referrals.domain import Move, moved
from services.referrals.justice import alerts, requisitions
from services.referrals.orientations.domain import unfounded
from services.referrals.receiving import repeats
from services.referrals.receiving.schemas import RoutingOut
from services.referrals.working.followup_schemas import Step
from services.referrals.working.schemas import ReferralOut
from services.referrals.working.timeline import timeline

router = APIRouter(include_in_schema=False)

MOST_REQUISITIONS = 100
REGISTERED, WITHDRAWN = "requisition", "withdrawn"
CONTACT_WITHDRAWN, INTERVIEW_WITHDRAWN, ASSESSMENT_WITHDRAWN = "contact-withdrawn", "interview-withdrawn", "assessment-withdrawn"
ERASED: Final = "erased"
"""What was done, when it was no move: a requisition was entered, an alert, a contact, an interview or an assessment withdrawn, somebody erased."""
TOLD: Final = {
    REGISTERED: NEW.told,
    WITHDRAWN: "L'envoi noté est retiré.",
    CONTACT_WITHDRAWN: "La tentative de contact est retirée.",
    INTERVIEW_WITHDRAWN: "L'entretien est retiré.",
    ASSESSMENT_WITHDRAWN: "L'évaluation est retirée.",
    ERASED: "L'effacement est fait. Qui avait été informé de cette saisine est prévenu, et doit effacer à son tour.",
}


async def opened(session: AsyncSession, runtime: Runtime, caller: Principal, purpose: Stated, referral_id: UUID) -> dict[str, Any]:
    """What a page about a referral shows. The readings are audited as those of the API. Raises NotFound."""
    subject = f"referrals/{referral_id}"
    found = await queries.referral(session, caller, runtime.vault, secret_bytes(runtime.settings.search_key), referral_id)
    await audit(session, caller, operation="read_referral", subject=subject, purpose=purpose)
    happened = await timeline(session, caller, referral_id)
    await audit(session, caller, operation="read_timeline", subject=subject, purpose=purpose)
    lines = told_lines(happened.items, caller)
    routing = await queries.routing(session, caller, referral_id)
    return {
        "referral": found,
        "people": {one.id: one for one in found.people},
        "routing": routing,
        "called": await _names(session, found, routing, lines),
        "timeline": lines,
        "corrected": any(one.step in (Step.CORRECTION, Step.PERSON_JOINED) for one in happened.items),
        "now": datetime.now(UTC),
    }


def check_open(referral: ReferralOut, move: Move) -> None:
    """Raises MoveRefused, which says why the state does not allow it, or NotFound: it is another's to do."""
    if move not in referral.moves:
        moved(referral.status, move)
        raise NotFound("Cette étape n'est pas la vôtre : revenez à la saisine.")


async def _names(session: AsyncSession, found: ReferralOut, routing: RoutingOut, lines: Sequence[Line]) -> Called:
    posts = [found.post_id, *(one.post_id for one in found.orientations), *(one.post_id for one in routing.considered)]
    return await called(
        session,
        services=[one.service_id for one in found.orientations],
        posts=[*posts, *(one.post_id for one in lines)],
        units=[found.unit_id],
        communes=[found.commune],
    )


@router.get("/desk/referrals/{referral_id}", operation_id="show_referral", response_class=Response)
async def show_referral(referral_id: Id, request: Request, caller: Caller, purpose: Purpose, runtime: Run, done: str = "") -> Response:
    """`done`: what led here. Alerts with their words, and the register of requisitions, are read as in the API."""
    subject = f"referrals/{referral_id}"
    async with runtime.database.transaction() as session:
        shown = await opened(session, runtime, caller, purpose, referral_id)
        shown["alerts"] = await alerts.of_referral(session, runtime.vault, referral_id)
        if shown["alerts"]:
            await audit(session, caller, operation="list_alerts", subject=subject, purpose=purpose)
        shown["requisitions"] = await requisitions.register(session, caller, referral_id=referral_id, after=None, limit=MOST_REQUISITIONS)
        courts = await called(session, communes=[one.court for one in shown["alerts"] if one.court is not None])
    keys = {move: fresh_key() for move in shown["referral"].moves}
    return page(
        request,
        "desk_referral.html",
        **shown,
        courts=courts,
        changes=CHANGES,
        unfounded=unfounded,
        keys=keys,
        most_known=repeats.MOST,
        done=TOLD.get(done) or told_of(done),
    )
