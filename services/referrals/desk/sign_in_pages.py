"""Coming and going: the desk's door, sign-in, sign-out, and why persons' content is read."""

from datetime import UTC, datetime
from typing import cast

from fastapi import APIRouter, Request
from starlette.responses import FileResponse, RedirectResponse, Response

from libs.chassis.refusals import Forbidden, NotFound, Unavailable
from libs.chassis.runtime import Run
from libs.chassis.security import Caller
from libs.contracts.vocabularies import Purpose, Role
from services.referrals.desk.forms import FORM, Form, own_path
from services.referrals.desk.pages import SIGNED_IN, STYLE, go_to, home_of, message, page
from services.referrals.desk.provider import Provider, SignInRefused
from services.referrals.desk.sessions import Sessions, SignedIn

router = APIRouter(include_in_schema=False)

DESK_ROLES = frozenset({Role.ISCG, Role.COORDINATOR, Role.PARTNER})


def signed_in(request: Request) -> SignedIn:
    """Who is there, on a page behind a sign-in."""
    return cast(SignedIn, request.scope[SIGNED_IN])


def form_of(request: Request) -> Form:
    return cast(Form, request.scope[FORM])


@router.get("/desk.css", operation_id="read_desk_style", response_class=Response)
async def read_desk_style() -> Response:
    return FileResponse(STYLE, media_type="text/css", headers={"Cache-Control": "public, max-age=3600"})


@router.get("/desk", operation_id="find_desk", response_class=Response)
async def find_desk() -> Response:
    return go_to("/desk/")


@router.get("/desk/", operation_id="show_desk", response_class=Response)
async def show_desk(request: Request) -> Response:
    """The door: where one signs in, and comes back to after signing out."""
    return page(request, "desk_door.html")


@router.get("/desk/sign-in", operation_id="begin_sign_in", response_class=Response)
async def begin_sign_in(request: Request, runtime: Run, to: str = "") -> Response:
    """To the provider, with what this browser must bring back."""
    address, pending = await Provider.of(request).begin(own_path(to, ""))
    answer = RedirectResponse(address, 303, {"Cache-Control": "no-store"})
    Sessions.of(runtime).give_pending(answer, pending)
    return answer


@router.get("/desk/callback", operation_id="finish_sign_in", response_class=Response)
async def finish_sign_in(request: Request, runtime: Run) -> Response:
    """Back from the provider: a session of its own, whatever the browser brought, and what it brought is over."""
    sessions = Sessions.of(runtime)
    try:
        pending = sessions.pending(request)
        caller, tokens = await Provider.of(request).finish(pending, _said(request))
        _check_role(caller.role)
    except (SignInRefused, Forbidden) as refusal:
        answer = message(request, refusal)
        sessions.take_back_pending(answer)
        return answer
    async with runtime.database.transaction() as session:
        await sessions.end(session, request)
        secret = await sessions.make(session, tokens, datetime.now(UTC))
    answer = go_to(pending.to or home_of(caller))
    sessions.take_back_pending(answer)
    sessions.give(answer, secret)
    return answer


def _check_role(role: Role) -> None:
    """Raises Forbidden."""
    if role not in DESK_ROLES:
        raise Forbidden(
            "Votre rôle n'ouvre pas ce poste de travail : il est fait pour les intervenants sociaux, leur coordination et leurs partenaires."
        )


def _said(request: Request) -> dict[str, str]:
    """What the provider says, each once (RFC 6749 §3.1). Raises SignInRefused."""
    pairs = request.query_params.multi_items()
    said = dict(pairs)
    if len(said) != len(pairs):
        raise SignInRefused("La réponse du fournisseur d'identité ne peut pas être lue : recommencez.")
    return said


@router.get("/desk/sign-out", operation_id="ask_sign_out", response_class=Response)
async def ask_sign_out(request: Request, caller: Caller) -> Response:
    """The form that ends the session here and, with the same click, at the provider: an id_token names a person, and belongs in no address."""
    return page(request, "desk_sign_out.html", fields=(await _ending(request))[1])


@router.post("/desk/sign-out", operation_id="sign_out", response_class=Response)
async def sign_out(request: Request, caller: Caller, runtime: Run) -> Response:
    """Ends the session, whatever the provider does; the browser then sends the same form on to it (307), and it ends its own."""
    sessions = Sessions.of(runtime)
    async with runtime.database.transaction() as session:
        await sessions.end(session, request)
    address, _ = await _ending(request)
    answer = (
        RedirectResponse(address, 307, {"Cache-Control": "no-store"})
        if address and form_of(request).one("id_token_hint")
        else go_to("/desk/")
    )
    sessions.take_back(answer)
    return answer


async def _ending(request: Request) -> tuple[str, dict[str, str]]:
    """Where the session ends at the provider, and the fields it wants; nothing when it does not answer, or offers nothing of the kind."""
    try:
        return await Provider.of(request).end_of_session(signed_in(request).tokens) or ("", {})
    except Unavailable:
        return "", {}


@router.get("/desk/purpose", operation_id="ask_purpose", response_class=Response)
async def ask_purpose(request: Request, caller: Caller, to: str = "") -> Response:
    """Why persons' content is read, asked once a session and changed here."""
    return page(request, "desk_purpose.html", to=own_path(to, home_of(caller)), error=None)


@router.post("/desk/purpose", operation_id="state_purpose", response_class=Response)
async def state_purpose(request: Request, caller: Caller, runtime: Run) -> Response:
    form = form_of(request)
    stated = next((one for one in Purpose if one.value == form.one("purpose")), None)
    to = own_path(form.one("to"), home_of(caller))
    if stated is None:
        return page(request, "desk_purpose.html", 422, to=to, error="Choisissez un motif dans la liste.")
    async with runtime.database.transaction() as session:
        await Sessions.of(runtime).remember(session, signed_in(request), stated)
    return go_to(to)


@router.get("/desk/{rest:path}", operation_id="miss_page", response_class=Response)
async def miss_page(rest: str) -> Response:
    """An address of the desk that leads nowhere says so on a page. Declared last: every other page is tried before."""
    raise NotFound("Cette adresse n'existe pas, ou n'existe plus.")
