"""What stands before each page of the desk: the session in place of a token, then the same table of access; refusals become pages."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from urllib.parse import urlencode

import structlog
from fastapi import Request
from fastapi.exceptions import RequestValidationError
from starlette.responses import RedirectResponse, Response

from libs.chassis import problems
from libs.chassis.access import Rule
from libs.chassis.rates import Rates
from libs.chassis.refusals import Forbidden, NotFound, Refusal, Unauthenticated, Unavailable
from libs.chassis.runtime import Runtime
from libs.chassis.security import CALLER, PURPOSE
from services.referrals.desk.forms import FORM, check_csrf, check_origin, read_form
from services.referrals.desk.pages import SIGNED_IN, message
from services.referrals.desk.provider import Provider
from services.referrals.desk.sessions import Sessions, SignedIn

_log = structlog.get_logger(__name__)

Page = Callable[[], Awaitable[Response]]


async def guard(request: Request, rule: Rule, page: Page) -> Response:
    try:
        return await _entered(request, rule) or await page()
    except Refusal as refusal:
        return message(request, refusal)
    except RequestValidationError:  # an id or a cursor in the address that cannot be one
        return message(request, NotFound("Cette adresse n'existe pas : revenez à la liste des saisines."))
    except Exception as error:
        if not problems.is_passing(error):
            raise
        _log.warning("desk.unavailable", exc_info=error)
        return message(request, Unavailable())


async def _entered(request: Request, rule: Rule) -> Response | None:
    """The page may be shown: None; or what is answered instead. Raises Refusal."""
    provider, runtime = Provider.of(request), request.app.state.runtime
    signed_in = await _who(request, runtime, provider)
    if signed_in is not None:
        request.scope[SIGNED_IN] = signed_in
    rates: Rates = request.app.state.rates
    if rule.public:
        rates.admit(request.scope)
        return None
    if signed_in is None:
        if request.cookies.get(Sessions.of(runtime).cookie):
            refusal = rates.refuse(request.scope, Unauthenticated("Votre session a pris fin."))
            if not isinstance(refusal, Unauthenticated):
                raise refusal
        if request.method != "GET":
            raise Unauthenticated("Votre session a pris fin : rien n'a été enregistré. Connectez-vous, puis recommencez.")
        return _elsewhere("/desk/sign-in", request)
    rates.spend(request.scope, f"{signed_in.caller.client_id} {signed_in.caller.subject}")
    if not rule.allows(signed_in.caller):
        raise Forbidden("Votre rôle ou votre périmètre n'ouvre pas cette page.")
    request.scope[CALLER] = signed_in.caller
    if request.method == "POST":
        check_origin(request, provider.origin)
        form = await read_form(request)
        check_csrf(form, signed_in.csrf)
        request.scope[FORM] = form
    if rule.purpose:
        if signed_in.purpose is None:
            return _elsewhere("/desk/purpose", request)
        request.scope[PURPOSE] = signed_in.purpose
    return None


async def _who(request: Request, runtime: Runtime, provider: Provider) -> SignedIn | None:
    sessions = Sessions.of(runtime)
    if sessions.secret_of(request) is None:
        return None
    async with runtime.database.transaction() as session:
        return await sessions.find(session, request, provider, datetime.now(UTC))


def _elsewhere(path: str, request: Request) -> Response:
    return RedirectResponse(f"{path}?{urlencode({'to': request.scope['path']})}", 303, {"Cache-Control": "no-store"})
