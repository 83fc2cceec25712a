"""What stands before each page of the desk: the session in place of a token, then the same table of access; refusals become pages."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from functools import partial
from typing import Final
from urllib.parse import urlencode

import structlog
from fastapi import Request
from fastapi.exceptions import RequestValidationError
from starlette.responses import RedirectResponse, Response

from libs.chassis import problems
from libs.chassis.access import Rule
from libs.chassis.rates import Rates
from libs.chassis.refusals import Forbidden, Malformed, NotFound, Refusal, Unauthenticated, Unavailable
from libs.chassis.runtime import Runtime
from libs.chassis.security import CALLER, PURPOSE
from services.referrals.desk.forms import FORM, Form, NotFromHere, check_origin, is_from_here, is_of_session, read_form
from services.referrals.desk.kept import KEPT, KeptForms, has_a_page
from services.referrals.desk.pages import SIGNED_IN, go_to, message
from services.referrals.desk.provider import Provider
from services.referrals.desk.sessions import Sessions, SignedIn

_log = structlog.get_logger(__name__)

Page = Callable[[], Awaitable[Response]]

_KEPT: Final = (
    "Votre session a pris fin : rien n'a été enregistré. Ce que vous avez écrit est gardé, chiffré, pendant une heure, et pour vous seul : "
    "connectez-vous, vous le retrouverez dans le formulaire, à envoyer."
)


async def guard(request: Request, rule: Rule, page: Page) -> Response:
    try:
        return await _entered(request, rule) or await _shown(request, page)
    except Refusal as refusal:
        return message(request, refusal)
    except RequestValidationError:  # an id or a cursor in the address that cannot be one
        return message(request, NotFound("Cette adresse n'existe pas : revenez à la liste des saisines."))
    except Exception as error:
        if not problems.is_passing(error):
            raise
        _log.warning("desk.unavailable", exc_info=error)
        return message(request, Unavailable())


async def _shown(request: Request, page: Page) -> Response:
    """The page; a form that it took, and answered whatever it did, is kept no longer."""
    answer = await page()
    if FORM in request.scope:
        runtime: Runtime = request.app.state.runtime
        async with runtime.database.transaction() as session:
            await KeptForms.of(runtime).forget(session, request.scope[CALLER], request.scope["path"], request.scope[FORM])
    return answer


async def _entered(request: Request, rule: Rule) -> Response | None:
    """The page may be shown: None; or what is answered instead. Raises Refusal."""
    provider, runtime = Provider.of(request), request.app.state.runtime
    rates: Rates = request.app.state.rates
    sessions = Sessions.of(runtime)
    if sessions.secret_of(request) is not None:
        rates.admit_unrecognised(request.scope)
    signed_in = await sessions.find(request, provider, datetime.now(UTC), partial(rates.admit_unproven, request.scope))
    if signed_in is None:
        rates.admit(request.scope)  # for as long as a stranger's form takes to come, too
    else:
        request.scope[SIGNED_IN] = signed_in
        rates.spend(request.scope, signed_in.caller.owner)
    if rule.public:
        return None
    if signed_in is None:
        if request.method != "GET" or request.cookies.get(sessions.cookie):
            refusal = rates.refuse(request.scope, Unauthenticated("Votre session a pris fin."))
            if not isinstance(refusal, Unauthenticated):
                raise refusal
        if request.method != "GET":
            return await _after_its_session(request, runtime, provider)
        return _elsewhere("/desk/sign-in", request)
    if not rule.allows(signed_in.caller):
        raise Forbidden("Votre rôle ou votre périmètre n'ouvre pas cette page.")
    request.scope[CALLER] = signed_in.caller
    if request.method == "POST":
        check_origin(request, provider.origin)
        form = await read_form(request)
        if not is_of_session(form, signed_in.csrf):
            return await _of_another_session(request, runtime, signed_in, form)
        request.scope[FORM] = form
    if rule.purpose:
        if signed_in.purpose is None:
            return _elsewhere("/desk/purpose", request)
        request.scope[PURPOSE] = signed_in.purpose
    if request.method == "GET":
        async with runtime.database.transaction() as session:
            found = await KeptForms.of(runtime).find(session, signed_in.caller, request.scope["path"], datetime.now(UTC))
        if found is not None:
            request.scope[KEPT] = found
    return None


async def _keep(request: Request, runtime: Runtime, form: Form) -> bytes | None:
    """Keep what was written for who wrote it; gives who. None: nothing can be kept."""
    path, forms, now = request.scope["path"], KeptForms.of(runtime), datetime.now(UTC)
    owner = forms.owner_said(form, now) if has_a_page(path) else None
    if owner is not None:
        async with runtime.database.transaction() as session:
            return owner if await forms.keep(session, owner, path, form, now) else None
    return None


async def _after_its_session(request: Request, runtime: Runtime, provider: Provider) -> Response:
    """What a form is answered whose session is over. Raises Unauthenticated, TooLarge."""
    over = Unauthenticated("Votre session a pris fin : rien n'a été enregistré. Connectez-vous, puis recommencez.")
    if not is_from_here(request, provider.origin):
        raise over
    try:
        form = await read_form(request)
    except Malformed:  # no browser's form: nothing that a person wrote
        raise over from None
    if await _keep(request, runtime, form) is None:
        raise over
    return message(request, Unauthenticated(_KEPT), to=request.scope["path"])


async def _of_another_session(request: Request, runtime: Runtime, signed_in: SignedIn, form: Form) -> Response:
    """Of one's own earlier session: it comes back, to be sent in this one. Raises NotFromHere."""
    owner = await _keep(request, runtime, form)
    if owner == KeptForms.of(runtime).owner_of(signed_in.caller):
        return go_to(request.scope["path"])
    raise NotFromHere("Ce formulaire vient d'une autre session : rien n'a été changé. Rouvrez la page, puis recommencez.")


def _elsewhere(path: str, request: Request) -> Response:
    return RedirectResponse(f"{path}?{urlencode({'to': request.scope['path']})}", 303, {"Cache-Control": "no-store"})
