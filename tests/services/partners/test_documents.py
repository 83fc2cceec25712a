"""The tables are those of the migration; the examples of the OpenAPI document work as they stand."""

from typing import Any

from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection

from services.partners.access import ACCESS
from services.partners.models import Table
from tests.services.partners.conftest import Partners


async def test_the_tables_are_those_of_the_migration(partners: Partners) -> None:
    names = set(Table.metadata.tables)

    def differences(connection: Connection) -> list[Any]:
        def ours(name: str | None, kind: str, parents: object) -> bool:
            return kind != "table" or name in names

        context = MigrationContext.configure(connection, opts={"include_name": ours, "compare_type": True})
        return list(compare_metadata(context, Table.metadata))

    async with partners.runtime.database.engine.connect() as connection:
        assert await connection.run_sync(differences) == []


def _examples(document: dict[str, Any]) -> list[tuple[str, str, str, dict[str, Any]]]:
    found = []
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            body = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
            given = body.get("examples") or operation.get("x-examples") or {}
            found += [(operation["operationId"], method.upper(), path, example) for example in given.values()]
    return found


async def test_every_example_works_as_it_stands(directory: Partners) -> None:
    examples = _examples(directory.openapi())
    own = [one for one in examples if "x-token" in one[3]]

    for number, (operation, method, path, example) in enumerate(own):
        headers = directory.token(example["x-token"]) | {"Idempotency-Key": f"example-{number}"} | example.get("x-headers", {})
        address = path.format(**example.get("x-path", {}))
        body = {"json": example["value"]} if "value" in example else {}
        answer = await directory.client.request(method, address, params=example.get("x-query"), headers=headers, **body)
        assert answer.status_code == example["x-status"], f"{operation}: {answer.text}"


async def test_every_own_route_has_an_example(partners: Partners) -> None:
    told = {operation for operation, _, _, _ in _examples(partners.openapi())}

    assert set(ACCESS) <= told
