"""The register of erasures: what still waits for somebody who was given the data, so that the coordinator asks them, and writes down what they answered."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final, cast
from urllib.parse import urlencode
from uuid import UUID

from fastapi import APIRouter, Request
from pydantic import BaseModel
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.responses import Response

from libs.chassis.pagination import Page, page_of
from libs.chassis.refusals import Refusal
from libs.chassis.runtime import Run, Runtime
from libs.chassis.security import Caller, Principal
from libs.chassis.streams import INTERNAL
from libs.chassis.strict import QueryBool
from libs.contracts.audiences import AUDIENCES
from libs.contracts.types import Id, civil_day
from services.referrals.desk.changes import Change, Choices, Doing, Field, is_for_the_form, make, of_codes
from services.referrals.desk.forms import Form
from services.referrals.desk.pages import form_page, go_to, page
from services.referrals.desk.sign_in_pages import form_of
from services.referrals.directory.called import reference_of
from services.referrals.rights import acknowledgements
from services.referrals.rights.schemas import ConfirmationIn, ConfirmedHow, ErasureOut
from services.referrals.settings import Settings

router = APIRouter(include_in_schema=False)

CONFIRMED: Final = "confirmed"


def called(stream: str) -> str:
    """Who was told in this stream."""
    kind, _, name = stream.partition(":")
    label = next(one.label for one in AUDIENCES.values() if one.kind == kind)
    return reference_of(UUID(name), label) if kind == "organization" else f"{label} {name}".rstrip()


def _expected(runtime: Runtime) -> acknowledgements.Expected:
    return cast(Settings, runtime.settings).expected_readers()


async def _confirm(session: AsyncSession, it: Doing, body: Any) -> BaseModel:
    return await acknowledgements.confirm(session, it.caller, _expected(it.runtime), it.id, body, it.now)


def _awaited(shown: Mapping[str, Any]) -> Choices:
    """Our own services confirm by erasing."""
    erasure: ErasureOut = shown["erasure"]
    return [(one.stream, called(one.stream)) for one in erasure.notices if one.waiting_for and one.stream != INTERNAL]


def _only(shown: Mapping[str, Any]) -> str:
    awaited = _awaited(shown)
    return awaited[0][0] if len(awaited) == 1 else ""


CONFIRM: Final = Change(
    "Inscrire une confirmation",
    "Inscrire",
    "La confirmation est inscrite au registre.",
    _confirm,
    ConfirmationIn,
    (
        Field("stream", "Qui a confirmé avoir effacé ses copies", "radios", _awaited, otherwise=_only),
        Field("confirmed_on", "Jour de la confirmation", "day", otherwise=lambda shown: civil_day(shown["now"]).isoformat()),
        Field("how", "Par", "radios", of_codes(ConfirmedHow)),
    ),
    explanation="Pour qui l'a dit de vive voix ou par écrit : celui qui lit son flux le confirme en le lisant.",
)


@router.get("/desk/erasures", operation_id="show_erasures", response_class=Response)
async def show_erasures(request: Request, caller: Caller, runtime: Run, asked: Page, waiting: QueryBool = True, done: str = "") -> Response:
    """Of the caller's départements, oldest first; ids and codes only."""
    async with runtime.database.transaction() as session:
        rows = await acknowledgements.erasures(session, caller, _expected(runtime), waiting=waiting, after=asked.after, limit=asked.limit)
    items, following = page_of(rows, asked, lambda row: (row.id,))
    beginning = urlencode({"waiting": str(waiting).lower()})
    return page(
        request,
        "desk_erasures.html",
        items=[
            (one, [called(notice.stream) for notice in one.notices if notice.waiting_for], bool(_awaited({"erasure": one})))
            for one in items
        ],
        waiting=waiting,
        following=f"{beginning}&{urlencode({'cursor': following})}" if following else None,
        first=asked.after is None,
        beginning=beginning,
        done=CONFIRM.told if done == CONFIRMED else "",
    )


@router.get("/desk/erasures/{erasure_id}", operation_id="show_erasure", response_class=Response)
async def show_erasure(erasure_id: Id, request: Request, caller: Caller, runtime: Run) -> Response:
    """Who was told, who has acted on it, and the form to write down that somebody else has."""
    return await _shown(erasure_id, request, caller, runtime)


@router.post("/desk/erasures/{erasure_id}", operation_id="confirm_erasure_by_form", response_class=Response)
async def confirm_erasure_by_form(erasure_id: Id, request: Request, caller: Caller, runtime: Run) -> Response:
    """By the API's own command, which audits it."""
    form = form_of(request)
    try:
        await make(CONFIRM, "desk_confirm_erasure", request, form, caller, erasure_id, datetime.now(UTC))
    except Refusal as refusal:
        if not is_for_the_form(refusal):
            raise
        return await _shown(erasure_id, request, caller, runtime, form, refusal)
    return go_to(f"/desk/erasures?done={CONFIRMED}")


async def _shown(
    erasure_id: UUID, request: Request, caller: Principal, runtime: Runtime, typed: Form | None = None, refusal: Refusal | None = None
) -> Response:
    async with runtime.database.transaction() as session:
        erasure = await acknowledgements.erasure(session, caller, _expected(runtime), erasure_id)
    shown = {"erasure": erasure, "now": datetime.now(UTC)}
    told = [(called(one.stream), one) for one in erasure.notices]
    return form_page(
        request, "desk_erasure.html", CONFIRM, typed, refusal, erasure=erasure, told=told, open=bool(_awaited(shown)), shown=shown
    )
