"""The register of erasures: what still waits for somebody who was given the data, so that the coordinator asks them."""

from typing import cast
from urllib.parse import urlencode
from uuid import UUID

from fastapi import APIRouter, Request
from starlette.responses import Response

from libs.chassis.pagination import Page, page_of
from libs.chassis.runtime import Run
from libs.chassis.security import Caller
from libs.chassis.strict import QueryBool
from libs.contracts.audiences import AUDIENCES
from services.referrals.desk.pages import page
from services.referrals.directory.called import reference_of
from services.referrals.rights import acknowledgements
from services.referrals.settings import Settings

router = APIRouter(include_in_schema=False)


def called(stream: str) -> str:
    """Who was told in this stream."""
    kind, _, name = stream.partition(":")
    label = next(one.label for one in AUDIENCES.values() if one.kind == kind)
    return reference_of(UUID(name), label) if kind == "organization" else f"{label} {name}".rstrip()


@router.get("/desk/erasures", operation_id="show_erasures", response_class=Response)
async def show_erasures(request: Request, caller: Caller, runtime: Run, asked: Page, waiting: QueryBool = True) -> Response:
    """Of the caller's départements, oldest first; ids and codes only."""
    expected = cast(Settings, runtime.settings).expected_readers()
    async with runtime.database.transaction() as session:
        rows = await acknowledgements.erasures(session, caller, expected, waiting=waiting, after=asked.after, limit=asked.limit)
    items, following = page_of(rows, asked, lambda row: (row.id,))
    beginning = urlencode({"waiting": str(waiting).lower()})
    return page(
        request,
        "desk_erasures.html",
        items=[(one, [called(notice.stream) for notice in one.notices if notice.waiting_for]) for one in items],
        waiting=waiting,
        following=f"{beginning}&{urlencode({'cursor': following})}" if following else None,
        first=asked.after is None,
        beginning=beginning,
    )
