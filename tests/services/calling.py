"""One service over HTTP on a real database, called by the demonstration clients. Nothing relays: the outbox shows what was said."""

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import count
from typing import Any
from uuid import UUID

import httpx
from sqlalchemy import text

from libs.chassis.app import create_app
from libs.chassis.projector import Projector
from libs.chassis.runtime import Runtime
from libs.chassis.security import IssuerKeys
from libs.chassis.service import Service
from libs.contracts.demonstration import CLIENTS
from libs.embedded.issuer import Issuer
from libs.embedded.issuer import create_app as create_issuer
from tests.settings import NOWHERE, settings_for

_keys = count(1)


@dataclass
class Called:
    """A service and who calls it."""

    client: httpx.AsyncClient
    runtime: Runtime
    issuer: Issuer
    openapi: dict[str, Any]
    read: int = 0
    """How far the outbox was looked at."""

    async def call(
        self, who: str, method: str, address: str, body: Any = None, *, headers: dict[str, str] | None = None, **query: Any
    ) -> httpx.Response:
        sent = {"Authorization": f"Bearer {self.issuer.issue(who)}"} | (headers or {})
        if method == "POST" and "Idempotency-Key" not in sent:
            sent["Idempotency-Key"] = f"test-{next(_keys)}"
        content = None
        if body is not None:
            sent["Content-Type"] = "application/json"
            content = json.dumps(plain(body))
        asked = {name: str(value) for name, value in query.items()} or None
        return await self.client.request(method, address, content=content, params=asked, headers=sent)

    async def get(self, who: str, address: str, **query: Any) -> httpx.Response:
        return await self.call(who, "GET", address, **query)

    async def post(self, who: str, address: str, body: Any = None, *, key: str | None = None, version: int | None = None) -> httpx.Response:
        headers = {"Idempotency-Key": key} if key is not None else {}
        if version is not None:
            headers["If-Match"] = f'"{version}"'
        return await self.call(who, "POST", address, body, headers=headers)

    async def said(self) -> list[tuple[str, dict[str, Any]]]:
        """What was said to the other services since the last look: the short type, and the data."""
        async with self.runtime.database.transaction() as session:
            rows = await session.execute(
                text("SELECT position, type, data FROM outbox WHERE stream = 'internal' AND position > :read ORDER BY position"),
                {"read": self.read},
            )
            found = [(row.position, row.type.removeprefix("fr.maillon.").removesuffix(".v1"), json.loads(row.data)) for row in rows]
        self.read = found[-1][0] if found else self.read
        return [(type, data) for _, type, data in found]


@asynccontextmanager
async def called(service: Service, database_url: Callable[[str | None], str], **overrides: Any) -> AsyncIterator[Called]:
    """The service with empty tables and its cursors set; its worker does not run."""
    settings = settings_for(service.name, service.settings, database_url=database_url(service.name), **overrides)
    app = create_app(service, settings, roles=("api",))
    runtime: Runtime = app.state.runtime
    issuer = Issuer(NOWHERE)
    async with (
        httpx.AsyncClient(transport=httpx.ASGITransport(create_issuer(issuer))) as jwks,
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=f"http://{service.name}") as client,
    ):
        runtime.tokens.keys = IssuerKeys(f"{NOWHERE}/jwks", jwks)
        if service.listener is not None:
            await Projector(runtime.database, service.listener, park_limit=36).ensure_cursors()
        yield Called(client, runtime, issuer, app.openapi())
    await runtime.close()


def plain(value: Any) -> Any:
    """As JSON has it."""
    match value:
        case UUID():
            return str(value)
        case dict():
            return {name: plain(one) for name, one in value.items()}
        case list() | tuple():
            return [plain(one) for one in value]
        case _:
            return value


def examples_of(openapi: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    """Every example of the service's own operations, in the order of the document: operation id, method and path, example."""
    operations = [
        (f"{method.upper()} {path}", operation) for path, methods in openapi["paths"].items() for method, operation in methods.items()
    ]
    return [
        (operation["operationId"], address, example)
        for address, operation in operations
        for example in _documented(operation)
        if example["x-token"] in CLIENTS
    ]


def _documented(operation: dict[str, Any]) -> list[dict[str, Any]]:
    body = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
    return [*body.get("examples", {}).values(), *operation.get("x-examples", {}).values()]


async def send_example(service: Called, method_and_path: str, example: dict[str, Any]) -> httpx.Response:
    method, path = method_and_path.split(" ", 1)
    return await service.call(
        example["x-token"],
        method,
        path.format(**example.get("x-path", {})),
        example.get("value"),
        headers=dict(example.get("x-headers", {})),
        **example.get("x-query", {}),
    )
