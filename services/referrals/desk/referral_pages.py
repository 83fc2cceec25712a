"""One referral as its social worker and coordinator see it: persons and how to contact them safely, narrative, what was done, what may be done."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from fastapi import APIRouter, Request
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.responses import Response

from libs.chassis.audit import audit
from libs.chassis.runtime import Run, Runtime
from libs.chassis.security import Caller, Principal, Purpose
from libs.contracts.types import Id
from libs.contracts.vocabularies import Purpose as Stated
from services.referrals import queries
from services.referrals.desk.changes import fresh_key
from services.referrals.desk.moves import CHANGES, told_of
from services.referrals.desk.pages import page
from services.referrals.desk.told import told_line
from services.referrals.working.timeline import timeline

router = APIRouter(include_in_schema=False)


async def opened(session: AsyncSession, runtime: Runtime, caller: Principal, purpose: Stated, referral_id: UUID) -> dict[str, Any]:
    """What a page about a referral shows. The readings are audited as those of the API. Raises NotFound."""
    subject = f"referrals/{referral_id}"
    found = await queries.referral(session, caller, runtime.vault, referral_id)
    await audit(session, caller, operation="read_referral", subject=subject, purpose=purpose)
    happened = await timeline(session, caller, referral_id)
    await audit(session, caller, operation="read_timeline", subject=subject, purpose=purpose)
    return {
        "referral": found,
        "people": {one.id: one for one in found.people},
        "routing": await queries.routing(session, caller, referral_id),
        "timeline": [told_line(one) for one in happened.items],
        "now": datetime.now(UTC),
    }


@router.get("/desk/referrals/{referral_id}", operation_id="show_referral", response_class=Response)
async def show_referral(referral_id: Id, request: Request, caller: Caller, purpose: Purpose, runtime: Run, done: str = "") -> Response:
    """`done`: the move that led here."""
    async with runtime.database.transaction() as session:
        shown = await opened(session, runtime, caller, purpose, referral_id)
    keys = {move: fresh_key() for move in shown["referral"].moves}
    return page(request, "desk_referral.html", **shown, changes=CHANGES, keys=keys, done=told_of(done))
