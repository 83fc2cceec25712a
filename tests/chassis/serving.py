"""A service of the chassis alone, over HTTP on a real database, with tokens of the demonstration clients. Nothing relays by itself."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import httpx

from libs.chassis.access import AccessTable
from libs.chassis.database import Database
from libs.chassis.runtime import Runtime
from libs.chassis.security import IssuerKeys
from libs.chassis.service import Service
from libs.chassis.settings import Settings
from libs.contracts.demonstration import PERSONS
from libs.embedded.issuer import Issuer
from libs.embedded.issuer import create_app as create_issuer
from tests.applications import application
from tests.chassis.speaking import database as speaking_database
from tests.settings import NOWHERE, settings_for

_keys = count(1)
_PERSONS = {person.client_id: str(person.id) for person in PERSONS.values()}
_SERVICE = Service(name="partners", title="Un service", settings=Settings, routers=(), access=AccessTable({}), says=())


@dataclass
class Served:
    """`speaker`: says facts of imaginary units in the service's name (tests.chassis.speaking)."""

    client: httpx.AsyncClient
    runtime: Runtime
    issuer: Issuer
    speaker: Database
    keys: "count[int]" = field(default_factory=lambda: _keys)

    def token(self, who: str, **claims: Any) -> dict[str, str]:
        """`who`: a client, or a person signed in at one: "coordinator-95@desk"."""
        name, _, at = who.partition("@")
        if at:
            claims = {"client_id": at, "sub": _PERSONS[name]} | claims
        return {"Authorization": f"Bearer {self.issuer.issue(name, **claims)}"}

    async def get(self, who: str, address: str, **query: str | int) -> httpx.Response:
        return await self.client.get(address, params=query or None, headers=self.token(who))

    async def post(self, who: str, address: str, body: Any = None, *, key: str | None = None) -> httpx.Response:
        headers = self.token(who) | {"Idempotency-Key": key or f"test-{next(self.keys)}"}
        if body is None:
            return await self.client.post(address, headers=headers)
        return await self.client.post(address, json=body, headers=headers)

    async def delete(self, who: str, address: str) -> httpx.Response:
        return await self.client.delete(address, headers=self.token(who))


@asynccontextmanager
async def served(database_url: str, **settings: Any) -> AsyncIterator[Served]:
    issuer, speaker = Issuer(NOWHERE), speaking_database(database_url)
    with application(_SERVICE, settings_for("partners", database_url=database_url, **settings)) as app:
        runtime: Runtime = app.state.runtime
        async with (
            httpx.AsyncClient(transport=httpx.ASGITransport(create_issuer(issuer))) as jwks,
            httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://partners") as client,
        ):
            runtime.tokens.keys = IssuerKeys(f"{NOWHERE}/jwks", jwks)
            yield Served(client, runtime, issuer, speaker)
        await speaker.close()
        await runtime.close()
