"""A referral is sought by the police's reference, in the caller's perimeter: it is what an officer on the telephone names it by."""

from datetime import UTC, datetime
from uuid import UUID

from fastapi import APIRouter, Request
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.responses import Response

from libs.chassis.refusals import Invalid
from libs.chassis.runtime import Run
from libs.chassis.security import Caller
from services.referrals import queries
from services.referrals.desk.changes import Change, Doing, Field, read
from services.referrals.desk.forms import Form
from services.referrals.desk.pages import form_page
from services.referrals.desk.sign_in_pages import form_of
from services.referrals.directory.called import Called, called
from services.referrals.worklists.schemas import ReferenceSearchIn, ReferralsFound

router = APIRouter(include_in_schema=False)

_NONE = UUID(int=0)


async def _search(session: AsyncSession, it: Doing, body: ReferenceSearchIn) -> ReferralsFound:
    return ReferralsFound(items=await queries.referenced(session, it.caller, body.external_reference, body.unit_id))


_SEEKING = Change(
    "Chercher par la référence de la police",
    "Chercher",
    "",
    _search,
    ReferenceSearchIn,
    (Field("external_reference", "Référence", "text", hint="Telle que le commissariat ou la gendarmerie l'a donnée, signe pour signe."),),
)


@router.get("/desk/references", operation_id="ask_reference", response_class=Response)
async def ask_reference(request: Request, caller: Caller) -> Response:
    """Which one to look for."""
    return _shown(request)


@router.post("/desk/references", operation_id="find_reference", response_class=Response)
async def find_reference(request: Request, caller: Caller, runtime: Run) -> Response:
    """By POST: a reference may be personal, and is in no address."""
    form = form_of(request)
    try:
        body = read(_SEEKING, form)
    except Invalid as refusal:
        return _shown(request, form, refusal=refusal)
    if not isinstance(body, ReferenceSearchIn):
        raise TypeError("the form says what is sought")
    async with runtime.database.reading() as session:
        found = await _search(session, Doing(caller, runtime, _NONE, 0, datetime.now(UTC)), body)
        names = await called(session, posts=[one.post_id for one in found.items], communes=[one.commune for one in found.items])
    return _shown(request, form, found, names)


def _shown(
    request: Request,
    typed: Form | None = None,
    found: ReferralsFound | None = None,
    names: Called | None = None,
    refusal: Invalid | None = None,
) -> Response:
    return form_page(request, "desk_references.html", _SEEKING, typed, refusal, path="/desk/references", found=found, called=names)
