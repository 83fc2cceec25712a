"""The register of erasures: what still waits for somebody who was given the data, so that the coordinator asks them, and writes down what they answered."""

from collections.abc import Iterable, Mapping
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
from services.referrals.directory.called import organizations_called
from services.referrals.rights import acknowledgements
from services.referrals.rights.schemas import ConfirmationIn, ConfirmedHow, ErasureOut, NoticeOut
from services.referrals.settings import Settings

router = APIRouter(include_in_schema=False)

CONFIRMED: Final = "confirmed"


Names = Mapping[UUID, str]
"""How organizations are called."""


async def names_of(session: AsyncSession, erasures: Iterable[ErasureOut]) -> Names:
    streams = {notice.stream for one in erasures for notice in one.notices}
    return await organizations_called(session, {id for stream in streams if (id := _organization(stream)) is not None})


def _organization(stream: str) -> UUID | None:
    kind, _, name = stream.partition(":")
    return UUID(name) if kind == "organization" else None


def called(stream: str, names: Names) -> str:
    """Who was told in this stream."""
    organization = _organization(stream)
    if organization is not None:
        return names[organization]
    kind, _, name = stream.partition(":")
    label = next(one.label for one in AUDIENCES.values() if one.kind == kind)
    return f"{label} {name}".rstrip()


def whom_to_ask(notice: NoticeOut, names: Names) -> str:
    """Who was told, and which of its clients have not acted; nobody reads the stream of an organization that is waited for by its own name."""
    clients = [one for one in notice.waiting_for if one != notice.stream]
    one_or_more = "client" if len(clients) == 1 else "clients"
    how = f" ({one_or_more} {', '.join(clients)})" if clients else " (ne lit pas son flux)" if notice.waiting_for else ""
    return f"{called(notice.stream, names)}{how}"


def _expected(runtime: Runtime) -> acknowledgements.Expected:
    return cast(Settings, runtime.settings).expected_readers()


async def _confirm(session: AsyncSession, it: Doing, body: Any) -> BaseModel:
    return await acknowledgements.confirm(session, it.caller, _expected(it.runtime), it.id, body, it.now)


def is_to_confirm(notice: NoticeOut) -> bool:
    """Our own services confirm by erasing."""
    return bool(notice.waiting_for) and notice.stream != INTERNAL


def _awaited(shown: Mapping[str, Any]) -> Choices:
    erasure: ErasureOut = shown["erasure"]
    return [(one.stream, whom_to_ask(one, shown["names"])) for one in erasure.notices if is_to_confirm(one)]


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
    """Of the caller's départements, oldest first: ids, codes, and how the directory calls whom to ask."""
    async with runtime.database.transaction() as session:
        rows = await acknowledgements.erasures(session, caller, _expected(runtime), waiting=waiting, after=asked.after, limit=asked.limit)
        items, following = page_of(rows, asked, lambda row: (row.id,))
        names = await names_of(session, items)
    beginning = urlencode({"waiting": str(waiting).lower()})
    return page(
        request,
        "desk_erasures.html",
        items=[
            (one, [whom_to_ask(notice, names) for notice in one.notices if notice.waiting_for], any(map(is_to_confirm, one.notices)))
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
        names = await names_of(session, [erasure])
    shown = {"erasure": erasure, "names": names, "now": datetime.now(UTC)}
    told = [(whom_to_ask(one, names), one) for one in erasure.notices]
    return form_page(
        request, "desk_erasure.html", CONFIRM, typed, refusal, erasure=erasure, told=told, open=bool(_awaited(shown)), shown=shown
    )
