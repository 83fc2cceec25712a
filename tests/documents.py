"""What an OpenAPI document promises, held against the service: its examples, its tables."""

import json
from typing import Any, Final, NamedTuple

import httpx
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, MetaData

from libs.chassis.database import Database
from tests.serving import Served

JSON: Final = "application/json"


class Shown(NamedTuple):
    """An example of the document, as it stands."""

    operation: str
    method: str
    path: str
    example: dict[str, Any]
    media: str = JSON

    @property
    def content(self) -> str:
        """Its body: lines are text as they stand."""
        value = self.example["value"]
        return json.dumps(value, default=str) if self.media == JSON else str(value)


def shown(document: dict[str, Any]) -> list[Shown]:
    found = []
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            bodies = operation.get("requestBody", {}).get("content", {}) or {JSON: {}}
            for media, body in bodies.items():
                given = body.get("examples") or operation.get("x-examples") or {}
                found += [Shown(operation["operationId"], method.upper(), path, one, media) for one in given.values() if "x-token" in one]
    return found


async def send(up: Served, one: Shown, key: str = "example") -> httpx.Response:
    """The example's request, with a token of the client it names."""
    headers = up.token(one.example["x-token"]) | {"Idempotency-Key": key} | one.example.get("x-headers", {})
    if "value" in one.example:
        headers["Content-Type"] = one.media
    body = one.content if "value" in one.example else None
    address = one.path.format(**one.example.get("x-path", {}))
    return await up.client.request(one.method, address, params=one.example.get("x-query"), headers=headers, content=body)


async def differences(database: Database, metadata: MetaData) -> list[Any]:
    """What the migrated database and the models do not agree on."""
    names = set(metadata.tables)

    def compare(connection: Connection) -> list[Any]:
        def ours(name: str | None, kind: str, parents: object) -> bool:
            return kind != "table" or name in names

        context = MigrationContext.configure(connection, opts={"include_name": ours, "compare_type": True})
        return list(compare_metadata(context, metadata))

    async with database.engine.connect() as connection:
        return await connection.run_sync(compare)
