"""The HTTP face of a service: its routes and the chassis' own, each behind its row of the access table.

An application whose routes and access rows do not match does not start. Middleware is pure ASGI, outermost first: `Watched` (request id, log,
metrics, what nobody expected), `Limits`. Then each route's guard, in this order: token, rate, access, purpose, parameters, content type; only
then is the body read.
"""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Iterable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, ClassVar

import structlog
from fastapi import FastAPI, Request
from fastapi.dependencies.models import Dependant
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute, RouteContext, iter_route_contexts
from pydantic import BaseModel
from starlette.middleware import Middleware
from starlette.responses import Response

from libs.chassis import audit, audit_api, dead_letters_api, operations_api, problems, streams_api, subscriptions_api, telemetry
from libs.chassis.access import AccessTable, RouteWithoutRule, Rule, check_complete
from libs.chassis.direct import again, direct_of
from libs.chassis.docs import API_VERSION, depends_on, write_openapi
from libs.chassis.limits import BODY_LIMIT, PROBES, App, Limits, Message, Receive, Scope, Send
from libs.chassis.pagination import cursor_secret
from libs.chassis.rates import RATE_HEADERS, Rates
from libs.chassis.refusals import Forbidden, Malformed, Refusal, Unauthenticated
from libs.chassis.runtime import Runtime
from libs.chassis.security import CALLER, PURPOSE, TokenVerifier, bearer, caller_of, purpose_of
from libs.chassis.service import PageGuard, Service
from libs.chassis.settings import Settings
from libs.chassis.strict import StrictRequest, one_header
from libs.chassis.worker import Worker
from libs.contracts.vocabularies import Purpose

_log = structlog.get_logger("http")

Handler = Callable[[Request], Coroutine[Any, Any, Response]]


def create_app(service: Service, settings: Settings, *, roles: Collection[str] = ("api", "worker")) -> FastAPI:
    """The application of a service; `app.state.runtime` is its Runtime, closed with the lifespan. Raises RouteWithoutRule.

    Without the role `api` it answers health and metrics only; with the role `worker` the lifespan runs relay, consumer, deliveries and jobs.
    """
    if not structlog.is_configured():
        telemetry.start_logging(service.name, settings.log_level)
    routers = [operations_api.router]
    access = operations_api.access(settings)
    if "api" in roles:
        # routes are tried in this order, 4 µs each: the busy ones first
        routers = [*service.routers, *routers, streams_api.router, dead_letters_api.router, audit_api.router, subscriptions_api.router]
        access = access | streams_api.ACCESS | dead_letters_api.ACCESS | audit_api.ACCESS | subscriptions_api.ACCESS | service.access
        streams_api.count_from_zero(service.name)
    audit.count_from_zero(service.name)

    app = FastAPI(
        title=service.title,
        version=API_VERSION,
        description="Réseau national d'orientation des intervenants sociaux en commissariat et gendarmerie (ISCG). Erreurs : RFC 9457.",
        servers=[{"url": settings.public_url}],
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        lifespan=_lifespan,
        telemetry=telemetry.fastapi_telemetry(),
        middleware=[
            Middleware(Watched, service=service.name),
            Middleware(
                Limits,
                body_bytes=settings.body_limit_bytes,
                body_seconds=settings.body_timeout_seconds,
                concurrency=settings.concurrency_limit,
            ),
        ],
    )
    furnish(app, Runtime(service, settings, roles))
    problems.install(app)

    found = [context for router in routers for context in iter_route_contexts(router.routes)]
    check_complete((_operation(context) for context in found), access)
    app.router.routes.extend(GuardedRoute(context, access, service.page_guard) for context in found)

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = write_openapi(app, access)
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's documented way to write one's own
    return app


def furnish(app: FastAPI, runtime: Runtime) -> None:
    """Everything that an application's routes find in its state; they themselves hold nothing that is opened."""
    app.state.runtime = runtime
    app.state.settings = runtime.settings
    app.state.cursor_secret = cursor_secret(runtime.settings)
    app.state.rates = Rates(runtime.settings)
    app.state.documents = {}
    app.state.looks = {}


def _operation(context: RouteContext) -> str:
    if not isinstance(context.original_route, APIRoute):
        raise RouteWithoutRule(f"{context.path} is not an API route: no rule can guard it")
    operation = context.original_route.operation_id
    if operation is None:
        raise RouteWithoutRule(f"{context.path} has no operation_id")
    return operation


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Each part of the end has its own time limit: with the broker and the database dead it still ends (7 s at most)."""
    runtime: Runtime = app.state.runtime
    worker = Worker(runtime) if "worker" in runtime.roles else None
    if worker is not None:
        worker.start()
    try:
        yield
    finally:
        if worker is not None:
            await worker.stop(3)
        try:
            async with asyncio.timeout(4):
                await runtime.close()
        except TimeoutError:
            _log.warning("stop.incomplete")


# The guard of a route

_JSON = re.compile(r'application/json(?:[ \t]*;[ \t]*charset="?utf-8"?)?', re.ASCII | re.IGNORECASE)


class PurposeMissing(Malformed):
    type: ClassVar[str] = "purpose-missing"
    title: ClassVar[str] = "Motif de consultation attendu"


class NotJson(Refusal):
    status: ClassVar[int] = 415
    type: ClassVar[str] = "not-json"
    title: ClassVar[str] = "Format non accepté"


class GuardedRoute(APIRoute):
    """A route as a service declared it, behind its rule. (Kept flat in the application's router: nested routers match every request twice.)"""

    def __init__(self, declared: RouteContext, access: AccessTable, page_guard: PageGuard | None) -> None:
        assert declared.endpoint is not None  # noqa: S101  # every APIRoute has one
        self._rule = access[_operation(declared)]
        self._page_guard = page_guard
        self._body_limit: int | None = declared.max_body_size
        super().__init__(
            declared.path or "",
            declared.endpoint,
            **{name: getattr(declared, name) for name in _KEPT},
        )
        _check_rule(self, self._rule)
        self._parameters = _query_parameters(self.dependant)
        self._direct = None if self._body_limit is not None else direct_of(self)
        if not self._rule.page:
            self._through_fastapi, self.app = self.app, self._guarded

    async def _guarded(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._guard(scope)
        if self._direct is not None:
            request = StrictRequest(scope, receive, send)
            answer = await self._direct.answer(request)
            if answer is not None:
                await answer(scope, receive, send)
                return
            receive = again(await request.body(), receive)
        await self._through_fastapi(scope, receive, send)

    async def _guard(self, scope: Scope) -> None:
        rule = self._rule
        rates: Rates = scope["app"].state.rates
        if rule.public:
            if scope["path"] not in PROBES:
                rates.admit(scope)
        else:
            tokens: TokenVerifier = scope["app"].state.runtime.tokens
            try:
                token = bearer(one_header(scope, "authorization"))
                caller = tokens.remembered(token) or await tokens.verify(token, partial(rates.admit_unproven, scope))
            except Unauthenticated as refusal:
                raise rates.refuse(scope, refusal) from None
            rates.spend(scope, caller.owner)
            if not rule.allows(caller):
                raise Forbidden("Votre rôle ou votre périmètre ne permet pas cette opération.")
            scope[CALLER] = caller
            if rule.purpose:
                scope[PURPOSE] = _purpose(one_header(scope, "x-purpose"))
        if scope["query_string"]:
            _check_query(Request(scope), self._parameters)
        if self._body_limit is not None:
            scope[BODY_LIMIT] = self._body_limit
        if self.body_field is not None:
            _check_content_type(scope)

    def get_route_handler(self) -> Handler:
        handle = super().get_route_handler()
        if self._rule.page:
            return _page(self, self._rule, self._page_guard, handle)

        async def strictly(request: Request) -> Response:
            return await handle(StrictRequest(request.scope, request.receive, request._send))

        return strictly


def _page(route: APIRoute, rule: Rule, guard: PageGuard | None, handle: Handler) -> Handler:
    """A page reads what it knows of a query and lets the rest be: mail programs and identity providers add to addresses."""
    if guard is None:
        raise RouteWithoutRule(f"{route.operation_id} is a page, and its service has no page guard")
    if route.include_in_schema:
        raise RouteWithoutRule(f"{route.operation_id} is a page: it is no part of the API's document")

    async def guarded(request: Request) -> Response:
        return await guard(request, rule, lambda: handle(request))

    return guarded


_KEPT = (
    "response_model",
    "status_code",
    "tags",
    "dependencies",
    "summary",
    "description",
    "response_description",
    "responses",
    "deprecated",
    "name",
    "methods",
    "operation_id",
    "response_model_include",
    "response_model_exclude",
    "response_model_by_alias",
    "response_model_exclude_unset",
    "response_model_exclude_defaults",
    "response_model_exclude_none",
    "include_in_schema",
    "response_class",
    "openapi_extra",
)


def _check_rule(route: APIRoute, rule: Rule) -> None:
    """A route that asks for a caller or a purpose has a rule that brings them; one that reads content cannot be given without a purpose."""
    if rule.public and depends_on(route.dependant, caller_of):
        raise RouteWithoutRule(f"{route.operation_id} wants a caller, and its rule is public")
    if depends_on(route.dependant, purpose_of) != rule.purpose:
        raise RouteWithoutRule(f"{route.operation_id} and its rule do not agree on X-Purpose")


def _query_parameters(dependant: Dependant) -> dict[str, bool]:
    """Documented query parameters → whether they may be repeated."""
    found: dict[str, bool] = {}
    for one in dependant.query_params:
        kind = one.field_info.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            found |= {field.alias or name: _is_list(field.annotation) for name, field in kind.model_fields.items()}
        else:
            found[one.alias] = _is_list(kind)
    for inner in dependant.dependencies:
        found |= _query_parameters(inner)
    return found


def _is_list(annotation: Any) -> bool:
    kinds = (annotation, getattr(annotation, "__origin__", None), *getattr(annotation, "__args__", ()))
    return any(getattr(kind, "__origin__", kind) in (list, set, frozenset, tuple) for kind in kinds)


def _check_query(request: Request, parameters: dict[str, bool]) -> None:
    """What is not documented is refused, without repeating its name; so is what is given twice."""
    names = [name for name, _ in request.query_params.multi_items()]
    errors: list[dict[str, Any]] = []
    if any(name not in parameters for name in names):
        errors.append({"type": "unknown_parameter", "loc": ("query",)})
    repeated = {name for name in parameters if not parameters[name] and names.count(name) > 1}
    errors += [{"type": "repeated_parameter", "loc": ("query", name)} for name in sorted(repeated)]
    if errors:
        raise RequestValidationError(errors)


def _check_content_type(scope: Scope) -> None:
    kind = one_header(scope, "content-type")
    if kind is None and not any(name in (b"content-length", b"transfer-encoding") and value != b"0" for name, value in scope["headers"]):
        return  # no body at all: "required" is the clearer refusal
    if kind is None or not _JSON.fullmatch(kind):
        raise NotJson("Le corps de la demande doit être du JSON en UTF-8 (Content-Type: application/json).")
    encoding = one_header(scope, "content-encoding")
    if encoding is not None and encoding.lower() != "identity":
        raise NotJson("Le corps de la demande ne peut pas être compressé.")


_PURPOSES = {purpose.value: purpose for purpose in Purpose}


def _purpose(header: str | None) -> Purpose:
    if not header:
        raise PurposeMissing("Lire ce contenu demande un motif, dans l'en-tête X-Purpose : il est inscrit au journal.")
    purpose = _PURPOSES.get(header)
    if purpose is None:
        raise RequestValidationError([{"type": "enum", "loc": ("header", "X-Purpose"), "ctx": {}}])
    return purpose


# What surrounds every request


class Watched:
    """Gives the request its id, answers what nobody expected, and writes one log line and two metrics about it: never its path, query or body."""

    def __init__(self, app: App, *, service: str) -> None:
        self._app = app
        self._service = service
        self._counted: dict[tuple[str, int], Any] = {}
        self._timed: dict[str, Any] = {}
        self._in_work = telemetry.IN_WORK.labels(service)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        with telemetry.request_context(_traceparent(scope["headers"])):
            await self._watch(scope, receive, send)

    async def _watch(self, scope: Scope, receive: Receive, send: Send) -> None:
        started, status = time.perf_counter(), 0
        request_id = telemetry.request_id()

        async def told(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = [*message.get("headers", ()), (b"x-request-id", request_id.encode()), (b"x-content-type-options", b"nosniff")]
                headers += scope.get(RATE_HEADERS, ())
                if not any(name == b"cache-control" for name, _ in headers):
                    headers.append((b"cache-control", b"no-store"))
                message["headers"] = headers
            await send(message)

        self._in_work.inc()
        try:
            await self._app(scope, receive, told)
        except Exception as error:
            answer = problems.failed(error)
            if answer.status_code == 503:  # the database is away or busy: /readyz and the metrics tell of it too
                _log.warning("request.unavailable", operation=_operation_of(scope), exc_info=error)
            else:
                _log.error("request.failed", operation=_operation_of(scope), exc_info=error)
            if status:
                raise  # the answer has begun: the connection is cut, so that nobody takes it for whole
            await answer(scope, receive, told)
        finally:
            self._in_work.dec()
            self._note(_operation_of(scope), scope["method"], status, time.perf_counter() - started)

    def _note(self, operation: str, method: str, status: int, seconds: float) -> None:
        counted = self._counted.get((operation, status))
        if counted is None:
            counted = self._counted[operation, status] = telemetry.REQUESTS.labels(self._service, operation, str(status))
        timed = self._timed.get(operation)
        if timed is None:
            timed = self._timed[operation] = telemetry.LATENCY.labels(self._service, operation)
        counted.inc()
        timed.observe(seconds)
        if operation not in _QUIET:
            telemetry.log_request(self._service, operation, method if method in _METHODS else "other", status, seconds * 1000)


_QUIET = frozenset({"is_alive", "is_ready", "read_metrics"})
_METHODS = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"})


def _operation_of(scope: Scope) -> str:
    return getattr(scope.get("route"), "operation_id", None) or "unmatched"


def _traceparent(headers: Iterable[tuple[bytes, bytes]]) -> str | None:
    for name, value in headers:
        if name == b"traceparent":
            return value.decode("latin-1")
    return None
