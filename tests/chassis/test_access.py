"""The access table: nothing is served without a row, and the row is checked before the request is read."""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from typing import Any

import httpx
import pytest
from fastapi import APIRouter, FastAPI, Request
from fastapi.routing import APIRoute
from starlette.responses import Response

from libs.chassis.access import PUBLIC, AccessTable, RouteWithoutRule, Rule, check_complete
from libs.chassis.refusals import Forbidden
from libs.chassis.security import Caller, Principal, Purpose
from libs.contracts.vocabularies import Role
from tests.chassis.answering import Issuer, app_of, calling, service
from tests.chassis.test_problems import problem

ISSUER = Issuer()


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with calling(app_of(ISSUER)) as client:
        yield client


def _principal(role: Role, *perimeter: str) -> Principal:
    return Principal("c", "s", role, None, frozenset(perimeter), frozenset())


@pytest.mark.parametrize(
    ("rule", "caller", "allowed"),
    [
        (Rule({Role.ISCG}), _principal(Role.ISCG), True),
        (Rule({Role.ISCG}), _principal(Role.POLICE, "national"), False),
        (Rule({Role.ISCG}, within={"departement"}), _principal(Role.ISCG, "departement:95"), True),
        (Rule({Role.ISCG}, within={"departement"}), _principal(Role.ISCG, "post:00000000-0000-4000-8000-000000000000"), False),
        (Rule({Role.ISCG}, within={"departement", "post"}), _principal(Role.ISCG, "post:00000000-0000-4000-8000-000000000000"), True),
        (Rule({Role.ISCG}, within={"departement"}), _principal(Role.ISCG, "national"), True),
        (Rule({Role.ISCG}, within={"departement"}), _principal(Role.ISCG), False),
    ],
)
def test_a_rule_is_a_role_and_a_perimeter(rule: Rule, caller: Principal, allowed: bool) -> None:
    assert rule.allows(caller) is allowed


def test_what_has_no_row_is_refused() -> None:
    with pytest.raises(Forbidden):
        AccessTable({}).check("anything", _principal(Role.ADMINISTRATOR, "national"))


def test_a_rule_names_roles_or_is_public_never_both_or_neither() -> None:
    for wrong in ({"roles": (), "public": False}, {"roles": {Role.ISCG}, "public": True}):
        with pytest.raises(ValueError, match="roles"):
            Rule(wrong["roles"], public=wrong["public"])  # type: ignore[arg-type]  # both kinds in one table


def test_two_tables_do_not_overwrite_each_other() -> None:
    with pytest.raises(ValueError, match="two access rules"):
        AccessTable({"a": PUBLIC}) | AccessTable({"a": PUBLIC})


def _one_route(**options: Any) -> APIRouter:
    one = APIRouter()

    @one.get("/v1/one", **options)
    async def read_one(caller: Caller) -> dict[str, str]:
        return {}

    return one


def _start(routers: list[APIRouter], access: AccessTable) -> FastAPI:
    return app_of(ISSUER, of=service(routers, access))


def test_an_application_with_a_route_without_a_row_does_not_start() -> None:
    with pytest.raises(RouteWithoutRule, match="read_one"):
        _start([_one_route(operation_id="read_one")], AccessTable({}))


def test_nor_one_with_a_row_for_no_route() -> None:
    with pytest.raises(RouteWithoutRule, match="forgotten"):
        _start([_one_route(operation_id="read_one")], AccessTable({"read_one": Rule({Role.ISCG}), "forgotten": Rule({Role.ISCG})}))


def test_nor_one_with_a_route_without_a_name_or_twice() -> None:
    with pytest.raises(RouteWithoutRule, match="operation_id"):
        _start([_one_route()], AccessTable({}))
    with pytest.raises(RouteWithoutRule, match="share"):
        check_complete(["a", "a"], AccessTable({"a": PUBLIC}))


def test_nor_one_with_a_page_that_nobody_guards_or_that_stands_in_the_document_of_the_api() -> None:
    page = AccessTable({"read_one": Rule({Role.ISCG}, page=True)})
    with pytest.raises(RouteWithoutRule, match="no page guard"):
        _start([_one_route(operation_id="read_one", include_in_schema=False)], page)

    async def guard(request: Request, rule: Rule, answer: Callable[[], Awaitable[Response]]) -> Response:
        return await answer()

    guarded = replace(service([_one_route(operation_id="read_one")], page), page_guard=guard)
    with pytest.raises(RouteWithoutRule, match="no part of the API's document"):
        app_of(ISSUER, of=guarded)


def test_nor_one_with_a_mounted_application() -> None:
    mounting = APIRouter()
    mounting.mount("/v1/sub", FastAPI())

    with pytest.raises(RouteWithoutRule, match="not an API route"):
        _start([mounting], AccessTable({}))


def test_nor_one_whose_public_route_wants_a_caller() -> None:
    with pytest.raises(RouteWithoutRule, match="public"):
        _start([_one_route(operation_id="read_one")], AccessTable({"read_one": PUBLIC}))


def test_nor_one_whose_route_and_rule_do_not_agree_on_a_purpose() -> None:
    reading = APIRouter()

    @reading.get("/v1/one", operation_id="read_one")
    async def read_one(purpose: Purpose) -> dict[str, str]:
        return {}

    with pytest.raises(RouteWithoutRule, match="X-Purpose"):
        _start([reading], AccessTable({"read_one": Rule({Role.ISCG})}))
    with pytest.raises(RouteWithoutRule, match="X-Purpose"):
        _start([_one_route(operation_id="read_one")], AccessTable({"read_one": Rule({Role.ISCG}, purpose=True)}))


async def test_a_nested_router_is_guarded_like_any_other() -> None:
    outer = APIRouter(prefix="/v1/outer")
    outer.include_router(_one_route(operation_id="read_one"), prefix="/inner")

    async with calling(_start([outer], AccessTable({"read_one": Rule({Role.ISCG})}))) as client:
        problem(await client.get("/v1/outer/inner/v1/one"), 401, "unauthenticated")
        answer = await client.get("/v1/outer/inner/v1/one", headers=ISSUER.headers(role="iscg"))

    assert answer.json() == {}


async def test_every_route_that_is_not_public_wants_a_token(client: httpx.AsyncClient) -> None:
    app = app_of(ISSUER)
    public = {"is_alive", "is_ready", "read_metrics", "read_docs", "read_docs_asset", "read_docs_openapi", "read_openapi", "read_asyncapi"}
    public |= {"read_keys", "list_vocabularies", "read_vocabulary"}
    walked = 0
    for route in app.routes:
        assert isinstance(route, APIRoute)
        if route.operation_id not in public:
            for method in route.methods or ():
                answer = await client.request(method, route.path_format.replace("{", "").replace("}", ""))
                problem(answer, 401, "unauthenticated")
                assert answer.headers["www-authenticate"] == 'Bearer realm="maillon"'
                walked += 1
    assert walked >= 20


async def test_the_body_of_a_caller_who_may_not_is_never_read(client: httpx.AsyncClient) -> None:
    for headers, status, type in (({}, 401, "unauthenticated"), (ISSUER.headers(role="iscg"), 403, "forbidden")):
        answer = await client.post("/v1/echo", content=b"{" * 5000, headers={**headers, "Content-Type": "application/json"})
        problem(answer, status, type)


async def test_reading_content_asks_for_a_purpose(client: httpx.AsyncClient) -> None:
    headers = ISSUER.headers(role="iscg")
    address = "/v1/things/00000000-0000-4000-8000-000000000000"

    problem(await client.get(address, headers=headers), 400, "purpose-missing")
    said = problem(await client.get(address, headers={**headers, "X-Purpose": "curiosity"}), 422, "invalid")

    assert said["errors"] == [{"parameter": "X-Purpose", "detail": "Code inconnu : voir /v1/vocabularies."}]


async def test_metrics_can_be_closed_to_strangers() -> None:
    async with calling(app_of(ISSUER, metrics_public=False)) as client:
        problem(await client.get("/metrics"), 401, "unauthenticated")
        answer = await client.get("/metrics", headers=ISSUER.headers(role="administrator", perimeter=["national"]))

    assert answer.status_code == 200
