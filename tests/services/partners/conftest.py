"""The partners service over HTTP on a real database, with tokens of the demonstration clients; nothing relays, so that the outbox shows what was said."""

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest
from sqlalchemy import text

from libs.chassis.database import migrate
from libs.chassis.runtime import Runtime
from libs.chassis.security import IssuerKeys
from libs.client.importing import import_communes, import_jurisdictions
from libs.contracts import demonstration as d
from libs.embedded.issuer import Issuer
from libs.embedded.issuer import create_app as create_issuer
from libs.embedded.postgres import Postgres
from services.partners.app import SERVICE
from services.partners.settings import Settings
from tests.applications import application
from tests.settings import NOWHERE, settings_for

DATA = Path("libs/embedded/data")
_keys = count(1)


@dataclass
class Partners:
    """The service and who calls it."""

    client: httpx.AsyncClient
    runtime: Runtime
    issuer: Issuer
    openapi: Callable[[], dict[str, Any]]
    read: int = 0
    """How far the outbox was looked at."""

    def token(self, who: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.issuer.issue(who)}"}

    async def get(self, who: str, address: str, **query: str | int) -> httpx.Response:
        return await self.client.get(address, params=query or None, headers=self.token(who))

    async def post(self, who: str, address: str, body: Any = None, *, key: str | None = None) -> httpx.Response:
        headers = self.token(who) | {"Idempotency-Key": key or f"test-{next(_keys)}"}
        if body is None:
            return await self.client.post(address, headers=headers)
        return await self.client.post(address, content=json.dumps(body), headers=headers | {"Content-Type": "application/json"})

    async def change(self, who: str, address: str, body: Any, version: int | None = 1, method: str = "PUT") -> httpx.Response:
        headers = self.token(who) | ({"If-Match": f'"{version}"'} if version is not None else {})
        return await self.client.request(method, address, json=body, headers=headers)

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

    async def said_types(self) -> list[str]:
        return [type for type, _ in await self.said()]

    async def rows(self, statement: str) -> list[Any]:
        async with self.runtime.database.transaction() as session:
            return list(await session.execute(text(statement)))

    async def snapshot(self) -> dict[str, list[Any]]:
        """Everything the service knows and has said: what a refused request must leave as it was."""
        tables = ("organizations", "services", "locations", "communes", "units", "unit_communes", "posts", "outbox", "idempotency_keys")
        return {table: [tuple(row) for row in await self.rows(f"SELECT * FROM {table} ORDER BY 1, 2")] for table in tables}


@asynccontextmanager
async def served(url: str) -> AsyncIterator[Partners]:
    issuer = Issuer(NOWHERE)
    with application(SERVICE, settings_for("partners", Settings, database_url=url)) as app:
        runtime: Runtime = app.state.runtime
        async with (
            httpx.AsyncClient(transport=httpx.ASGITransport(create_issuer(issuer))) as jwks,
            httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://partners") as client,
        ):
            runtime.tokens.keys = IssuerKeys(f"{NOWHERE}/jwks", jwks)
            yield Partners(client, runtime, issuer, app.openapi)
        await runtime.close()


@pytest.fixture
async def partners(database_url: Callable[[str | None], str]) -> AsyncIterator[Partners]:
    """An empty directory."""
    async with served(database_url("partners")) as made:
        yield made


@pytest.fixture(scope="session")
async def loaded(postgres: Postgres) -> str:
    """A database that holds the demonstration territory: its reference data, organisations, services and posts. Others are copied from it."""
    name = "loaded_directory"
    postgres.create_database(name)
    await migrate(postgres.url(name), "partners")
    async with served(postgres.url(name)) as made:
        await _load(made)
    return name


@asynccontextmanager
async def _copied(postgres: Postgres, loaded: str) -> AsyncIterator[Partners]:
    copy = f"directory_{next(_keys)}"
    postgres.create_database(copy, template=loaded)
    async with served(postgres.url(copy)) as made:
        await made.said()
        yield made
    postgres.drop_database(copy)


@pytest.fixture
async def directory(postgres: Postgres, loaded: str) -> AsyncIterator[Partners]:
    """The demonstration territory, the test's own to change."""
    async with _copied(postgres, loaded) as made:
        yield made


@pytest.fixture(scope="session")
async def untouched(postgres: Postgres, loaded: str) -> AsyncIterator[Partners]:
    """The demonstration territory for all tests that change nothing: a copy costs 0.4 s."""
    async with _copied(postgres, loaded) as made:
        yield made


async def _load(partners: Partners) -> None:
    await load_reference(partners)
    for organization in d.ORGANIZATIONS:
        await _made(partners, "/v1/organizations", organization._asdict())
    for service in d.SERVICES:
        await _made(partners, "/v1/services", service._asdict())
    for post in d.POSTS:
        body = post._asdict() | {"filled": True, "opened_on": "2026-01-01"}
        body["label"] = body.pop("name")
        await _made(partners, "/v1/posts", body)


async def load_reference(partners: Partners) -> None:
    partners.client.headers.update(partners.token("administrator"))
    for departement in ("95", "78"):
        assert not (await import_communes(partners.client, DATA / f"communes-{departement}.csv")).refused
    assert not (await import_jurisdictions(partners.client, DATA / "competence-territoriale-95.csv")).refused
    del partners.client.headers["Authorization"]
    versailles = {"id": d.UNIT_78, "departement": "78", "force": "police", "kind": "commissariat"}
    await _made(partners, "/v1/units", versailles | {"label": "Commissariat de police de Versailles", "communes": [d.COMMUNE_78]})


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


async def _made(partners: Partners, address: str, body: dict[str, Any]) -> None:
    answer = await partners.post("administrator", address, plain(body))
    assert answer.status_code == 201, answer.text
