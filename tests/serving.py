"""A service over HTTP on a real database, called with tokens of the demonstration clients. Nothing relays, so that the outbox shows what was said."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from typing import Any, cast
from uuid import uuid4

import httpx
import uvicorn
from fastapi import FastAPI
from sqlalchemy import text

from libs.chassis.listener import Heard
from libs.chassis.runtime import Runtime
from libs.chassis.security import IssuerKeys
from libs.chassis.service import Service
from libs.contracts.envelope import Event
from libs.embedded.issuer import Issuer
from libs.embedded.issuer import create_app as create_issuer
from tests.applications import application
from tests.settings import NOWHERE, settings_for

_keys = count(1)


@dataclass
class Served:
    """The service and who calls it."""

    client: httpx.AsyncClient
    runtime: Runtime
    issuer: Issuer
    openapi: Callable[[], dict[str, Any]]
    read: int = 0
    """How far the outbox was looked at."""
    heard: int = 0

    def token(self, who: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.issuer.issue(who)}"}

    async def get(self, who: str, address: str, purpose: str | None = None, **query: str | int) -> httpx.Response:
        headers = self.token(who) | ({"X-Purpose": purpose} if purpose is not None else {})
        return await self.client.get(address, params=query or None, headers=headers)

    async def post(self, who: str, address: str, body: Any = None, *, version: int | None = None, key: str | None = None) -> httpx.Response:
        headers = self.token(who) | {"Idempotency-Key": key or f"test-{next(_keys)}"}
        if version is not None:
            headers["If-Match"] = f'"{version}"'
        if body is None:
            return await self.client.post(address, headers=headers)
        return await self.client.post(
            address, content=json.dumps(body, default=str), headers=headers | {"Content-Type": "application/json"}
        )

    async def said(self) -> list[tuple[str, dict[str, Any]]]:
        """What was said to the other services since the last look: the short type, and the data."""
        rows = await self.rows(
            f"SELECT position, type, data FROM outbox WHERE stream = 'internal' AND position > {self.read} ORDER BY position"
        )
        self.read = rows[-1].position if rows else self.read
        return [(row.type.removeprefix("fr.maillon.").removesuffix(".v1"), json.loads(row.data)) for row in rows]

    async def said_types(self) -> list[str]:
        return [type for type, _ in await self.said()]

    async def rows(self, statement: str) -> list[Any]:
        async with self.runtime.database.transaction() as session:
            return list(await session.execute(text(statement)))

    async def snapshot(self, *tables: str) -> dict[str, list[Any]]:
        """All rows of some tables: what a refused request must leave as they were."""
        return {table: sorted(map(repr, await self.rows(f"SELECT * FROM {table}"))) for table in tables}

    async def hear(self, source: str, *events: Event) -> None:
        """As if the listener had heard these events of another service."""
        assert self.runtime.consumer is not None
        now = datetime.now(UTC)
        run: list[Heard[Event]] = []
        for event in events:
            self.heard += 1
            subject = f"{event.aggregate[0]}/{event.aggregate_id}"
            run.append(Heard(event, source, 1, self.heard, str(uuid4()), now, now, subject, event.model_dump_json().encode(), None, None))
        async with self.runtime.database.transaction() as session:
            await self.runtime.consumer.projector.handle(session, source, run)


def app_of(client: httpx.AsyncClient) -> FastAPI:
    """The application behind a client that reaches it without sockets."""
    return cast(FastAPI, cast(httpx.ASGITransport, client._transport).app)


@asynccontextmanager
async def served(service: Service, database_url: str, **settings: Any) -> AsyncIterator[Served]:
    issuer = Issuer(settings.get("token_issuer", NOWHERE))
    with application(service, settings_for(service.name, service.settings, database_url=database_url, **settings)) as app:
        runtime: Runtime = app.state.runtime
        async with (
            httpx.AsyncClient(transport=httpx.ASGITransport(create_issuer(issuer))) as jwks,
            httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=f"http://{service.name}") as client,
        ):
            runtime.tokens.keys = IssuerKeys(f"{NOWHERE}/jwks", jwks)
            yield Served(client, runtime, issuer, app.openapi)
        await runtime.close()


@asynccontextmanager
async def listening(app: Any, on: socket.socket) -> AsyncIterator[None]:
    """The application on a socket, for who cannot do without."""
    server = uvicorn.Server(uvicorn.Config(app, ws="none", log_config=None, access_log=False, lifespan="off"))
    serving = asyncio.create_task(server.serve(sockets=[on]))
    while not server.started:  # noqa: ASYNC110  # uvicorn has no event for it
        await asyncio.sleep(0.01)
    yield
    server.should_exit = True
    await serving
