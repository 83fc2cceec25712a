"""Busy routes past FastAPI's solving of dependencies, which takes longer than validating and routing a referral (docs/decisions/0011).

For an endpoint that asks only for its body, the request and what the chassis brings, and answers with a Response: its arguments are put together here,
once for all requests. Whatever is wrong with a body goes FastAPI's way, from the beginning, so that its refusals stay the only ones.
"""

import inspect
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple, get_type_hints

from fastapi import HTTPException, Request
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from pydantic import BaseModel, ValidationError
from starlette.responses import Response

from libs.chassis.limits import Message, Receive
from libs.chassis.refusals import Refusal

Brought = Callable[[Request], Awaitable[Any]]


class Direct(NamedTuple):
    """How an endpoint is called without FastAPI."""

    endpoint: Callable[..., Awaitable[Response]]
    body: tuple[str, type[BaseModel]]
    request: str | None
    brought: tuple[tuple[str, Brought], ...]

    async def answer(self, request: Request) -> Response | None:
        """The endpoint's answer; None when the body is not what it asks for. Raises what the endpoint and its dependencies raise."""
        try:
            await request.body()
        except Exception as error:  # as FastAPI says it: problems.install looks at the cause
            raise HTTPException(400) from error
        name, model = self.body
        try:
            values: dict[str, Any] = {name: model.__pydantic_validator__.validate_python(await request.json())}
        except (Refusal, ValidationError):
            return None
        if self.request is not None:
            values[self.request] = request
        for name, bring in self.brought:
            values[name] = await bring(request)
        return await self.endpoint(**values)


def direct_of(route: APIRoute) -> Direct | None:
    """None for a route that needs more of FastAPI: other parameters, dependencies of dependencies, an answer to be validated."""
    asked, endpoint = route.dependant, route.endpoint
    if (
        len(asked.body_params) != 1
        or route._embed_body_fields
        or _parameters(asked)
        or get_type_hints(endpoint).get("return") is not Response
    ):
        return None
    model = asked.body_params[0].field_info.annotation
    if not (isinstance(model, type) and issubclass(model, BaseModel)):
        return None
    brought = []
    for one in asked.dependencies:
        if one.name is None or one.call is None or not _is_plain(one):
            return None
        brought.append((one.name, one.call))
    return Direct(endpoint, (asked.body_params[0].name, model), asked.request_param_name, tuple(brought))


def _parameters(asked: Dependant) -> bool:
    """Whether it asks for anything but a body, the request and dependencies."""
    lists = (asked.path_params, asked.query_params, asked.header_params, asked.cookie_params)
    names = (
        asked.websocket_param_name,
        asked.http_connection_param_name,
        asked.response_param_name,
        asked.background_tasks_param_name,
        asked.security_scopes_param_name,
    )
    return any(lists) or any(names)


def _is_plain(asked: Dependant) -> bool:
    """`async def bring(request: Request)`"""
    alone = not (_parameters(asked) or asked.body_params or asked.dependencies)
    return alone and asked.request_param_name == "request" and inspect.iscoroutinefunction(asked.call)


def again(body: bytes, receive: Receive) -> Receive:
    """`receive` for whoever reads a body that was read already."""
    given = False

    async def receive_again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return receive_again
