"""Notice preferences over HTTP."""

from datetime import UTC, datetime

from fastapi import APIRouter, Response

from libs.chassis.docs import Example, examples
from libs.chassis.etag import IfMatch, etag
from libs.chassis.problems import problems
from libs.chassis.runtime import Run
from libs.chassis.security import Caller
from libs.contracts.demonstration import POST_CERGY
from services.referrals.notices import preferences as notice_preferences
from services.referrals.notices.preferences import NoticePreferenceIn, NoticePreferenceOut, Recipient

router = APIRouter(tags=["Notifications"])


@router.get(
    "/v1/notice-preferences/{recipient}",
    operation_id="read_notice_preference",
    response_model=NoticePreferenceOut,
    responses=problems(404),
    openapi_extra=examples(Example("iscg-95", 200, path={"recipient": f"post:{POST_CERGY}"})),
)
async def read_notice_preference(recipient: Recipient, caller: Caller, runtime: Run, response: Response) -> NoticePreferenceOut:
    """How a post, a département or an organization is told by e-mail; version 0 when nothing was set."""
    async with runtime.database.transaction() as session:
        found = await notice_preferences.read(session, caller, runtime.vault, recipient)
    etag(response, found.version)
    return found


@router.put(
    "/v1/notice-preferences/{recipient}",
    operation_id="put_notice_preference",
    response_model=NoticePreferenceOut,
    responses=problems(404, 409, 412, 422, 428),
    openapi_extra=examples(
        Example(
            "iscg-95",
            200,
            {"address": "poste.cergy@maillon.example", "mode": "digest"},
            path={"recipient": f"post:{POST_CERGY}"},
            headers={"If-Match": '"0"'},
        )
    ),
)
async def put_notice_preference(
    recipient: Recipient, body: NoticePreferenceIn, caller: Caller, version: IfMatch, runtime: Run, response: Response
) -> NoticePreferenceOut:
    """Set it. The first time from version 0."""
    async with runtime.database.transaction() as session:
        changed = await notice_preferences.put(session, caller, runtime.vault, recipient, version, body, datetime.now(UTC))
    etag(response, changed.version)
    return changed
