"""How one is told by e-mail: of a post, a département or an organization, at once or once a day, and of what. By the API's own command."""

from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

from fastapi import APIRouter, Request
from pydantic import BaseModel, TypeAdapter, ValidationError
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.responses import Response

from libs.chassis.refusals import NotFound, Refusal
from libs.chassis.runtime import Run, Runtime
from libs.chassis.security import Caller, Principal
from libs.contracts.vocabularies import Role
from services.referrals.desk.changes import Change, Choices, Doing, Field, is_for_the_form, make, of_codes
from services.referrals.desk.forms import Form
from services.referrals.desk.pages import form_page, go_to, page
from services.referrals.desk.sign_in_pages import form_of
from services.referrals.directory.called import called
from services.referrals.notices import NoticeMode, may_leave_out
from services.referrals.notices import preferences as notice_preferences
from services.referrals.notices.preferences import NoticePreferenceIn, NoticePreferenceOut, Recipient

router = APIRouter(include_in_schema=False)

SAVED: Final = "saved"
_RECIPIENT: Final[TypeAdapter[str]] = TypeAdapter(Recipient)
_NOBODY: Final = UUID(int=0)


@router.get("/desk/notices", operation_id="show_notices", response_class=Response)
async def show_notices(request: Request, caller: Caller, runtime: Run) -> Response:
    """Of each recipient that the caller is, how it is told."""
    async with runtime.database.transaction() as session:
        rows = []
        for recipient in notice_preferences.own_of(caller):
            found = await notice_preferences.read(session, caller, runtime.vault, recipient)
            rows.append((await _named(session, caller, recipient), _path(recipient), found))
    return page(request, "desk_notices.html", rows=rows)


@router.get("/desk/notices/{kind}/{name}", operation_id="show_notice_preference", response_class=Response)
async def show_notice_preference(kind: str, name: str, request: Request, caller: Caller, runtime: Run, done: str = "") -> Response:
    """What holds now, as a form."""
    return await _shown(_recipient(caller, kind, name), request, caller, runtime, done=done == SAVED)


@router.post("/desk/notices/{kind}/{name}", operation_id="change_notice_preference", response_class=Response)
async def change_notice_preference(kind: str, name: str, request: Request, caller: Caller, runtime: Run) -> Response:
    recipient, form = _recipient(caller, kind, name), form_of(request)
    async with runtime.database.transaction() as session:
        now = await notice_preferences.read(session, caller, runtime.vault, recipient)
    try:
        await make(_change(now), "desk_notice_preference", request, form, caller, _NOBODY, datetime.now(UTC))
    except Refusal as refusal:
        if not is_for_the_form(refusal):
            raise
        return await _shown(recipient, request, caller, runtime, typed=form, refusal=refusal)
    return go_to(f"{_path(recipient)}?done={SAVED}")


def _recipient(caller: Principal, kind: str, name: str) -> str:
    """One's own alone: an address is where its recipient reads. Raises NotFound."""
    try:
        found = _RECIPIENT.validate_python(f"{kind}:{name.upper() if kind == 'departement' else name}")
    except ValidationError:
        found = ""
    if found not in notice_preferences.own_of(caller):
        raise NotFound("Cette adresse n'existe pas, ou ces notifications ne sont pas les vôtres.")
    return found


def _path(recipient: str) -> str:
    """Corsica's départements have a letter; addresses of the desk are in small ones."""
    return f"/desk/notices/{recipient.replace(':', '/').lower()}"


async def _named(session: AsyncSession, caller: Principal, recipient: str) -> str:
    kind, _, name = recipient.partition(":")
    if kind == "post":
        return (await called(session, posts=[UUID(name)])).post(UUID(name))
    return f"Département {name}" if kind == "departement" else "Votre structure"


def _put(recipient: str) -> Callable[[AsyncSession, Doing, Any], Awaitable[BaseModel]]:
    async def run(session: AsyncSession, it: Doing, body: Any) -> BaseModel:
        return await notice_preferences.put(session, it.caller, it.runtime.vault, recipient, it.version, body, it.now)

    return run


def _change(now: NoticePreferenceOut) -> Change:
    """The form shows what one wants; the API is told what to leave out."""
    optional = may_leave_out(now.recipient)

    def kinds(_: Mapping[str, Any]) -> Choices:
        return [(one.value, one.label) for one in optional]

    def shape(given: dict[str, Any], form: Form) -> dict[str, Any]:
        left_out = [one.value for one in optional if one.value not in form.all("wanted")]
        return {name: value for name, value in given.items() if name != "wanted"} | {"left_out": left_out, "by_link": now.by_link}

    return Change(
        "Notifications par courriel",
        "Enregistrer",
        "Vos notifications sont réglées.",
        _put(now.recipient),
        NoticePreferenceIn,
        (
            Field(
                "address",
                "Adresse professionnelle",
                "text",
                hint="Aucune donnée personnelle n'y est envoyée : une phrase et un lien.",
                otherwise=lambda _: now.address or "",
            ),
            Field("mode", "Quand", "radios", of_codes(NoticeMode), otherwise=lambda _: now.mode.value if now.version else ""),
            Field(
                "wanted",
                "Ce dont vous voulez être averti",
                "boxes",
                kinds,
                required=False,
                hint="Ce qui est urgent est dit dans tous les cas, aussitôt, à qui reçoit des courriels.",
                otherwise=lambda _: [one.value for one in optional if one not in now.left_out],
            ),
        ),
        shape=shape,
    )


async def _shown(
    recipient: str,
    request: Request,
    caller: Principal,
    runtime: Runtime,
    *,
    done: bool = False,
    typed: Form | None = None,
    refusal: Refusal | None = None,
) -> Response:
    async with runtime.database.transaction() as session:
        now = await notice_preferences.read(session, caller, runtime.vault, recipient)
        name = await _named(session, caller, recipient)
    change = _change(now)
    return form_page(
        request,
        "desk_notice.html",
        change,
        typed,
        refusal,
        name=name,
        now=now,
        path=_path(recipient),
        several=caller.role is not Role.PARTNER and len(notice_preferences.own_of(caller)) > 1,
        done=change.told if done else "",
    )
