"""The documents: what is in them is true, and they need no CDN."""

import json
import re
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from jsonschema import Draft202012Validator

from libs.chassis import operations_api
from libs.chassis.database import Database
from libs.chassis.docs import for_swagger
from libs.contracts.vocabularies import Purpose
from tests.chassis.answering import Issuer, app_of, calling
from tests.chassis.openapi_examples import request_examples, try_examples, unlabelled, without_example

ISSUER = Issuer()


@pytest.fixture
def document() -> dict[str, Any]:
    return app_of(ISSUER).openapi()


def _headers(name: str) -> dict[str, str]:
    role = name.split("-")[0]
    return ISSUER.headers(client_id=name, role=role)


def test_every_operation_says_who_may_call_and_how_it_refuses(document: dict[str, Any]) -> None:
    made, read = document["paths"]["/v1/things"]["post"], document["paths"]["/v1/things/{thing_id}"]["get"]

    assert made["security"] == [{"token": []}]
    assert made["x-roles"] == ["police"]
    assert set(made["responses"]) == {"201", "400", "401", "403", "408", "409", "413", "414", "415", "422", "429", "431", "503"}
    assert set(read["responses"]) == {"200", "400", "401", "403", "404", "408", "414", "422", "429", "431", "503"}
    assert document["paths"]["/livez"]["get"]["security"] == []
    problem_content = made["responses"]["409"]["content"]
    assert problem_content == {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}


def test_bounds_of_numbers_in_a_query_are_named_as_json_schema_does(document: dict[str, Any]) -> None:
    parameters = document["paths"]["/v1/streams/{stream}/events"]["get"]["parameters"]
    limit = next(one["schema"] for one in parameters if one["name"] == "limit")

    assert (limit["minimum"], limit["maximum"]) == (1, 1000)
    assert not {"ge", "le"} & set(limit)


def test_headers_that_count_are_documented(document: dict[str, Any]) -> None:
    def headers(path: str, method: str) -> dict[str, Any]:
        return {one["name"]: one for one in document["paths"][path][method].get("parameters", []) if one["in"] == "header"}

    assert set(headers("/v1/things", "post")) == {"Idempotency-Key"}
    assert set(headers("/v1/things/{thing_id}", "patch")) == {"If-Match"}
    assert set(headers("/v1/things/{thing_id}", "get")) == {"X-Purpose"}
    assert headers("/v1/things/{thing_id}", "get")["X-Purpose"]["schema"]["enum"] == [one.value for one in Purpose]


def test_every_reference_leads_somewhere_and_no_schema_of_fastapis_own_errors_is_left(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    referred = set(re.findall(r"#/components/schemas/([\w-]+)", str(document)))

    assert referred <= set(schemas)
    assert "HTTPValidationError" not in schemas
    for schema in schemas.values():
        Draft202012Validator.check_schema(schema)


def test_what_was_made_is_linked_to_all_that_can_be_done_with_it(document: dict[str, Any]) -> None:
    made = document["paths"]["/v1/things"]["post"]["responses"]["201"]

    with_its_id = {"path.thing_id": "$response.body#/id"}
    assert made["links"] == {name: {"operationId": name, "parameters": with_its_id} for name in ("read_thing", "rename_thing")}


async def test_the_examples_work_as_they_stand(database_url: Callable[[str | None], str], document: dict[str, Any]) -> None:
    database = Database(database_url(None))
    raw = await database.connect()
    await raw.execute("CREATE TABLE things (id uuid PRIMARY KEY, name text NOT NULL UNIQUE, version integer NOT NULL DEFAULT 1)")
    await raw.close()
    mine = {"make_thing", "read_thing"}

    async with calling(app_of(ISSUER, database_url=database.url)) as client:
        failures = await try_examples(client, document, _headers, but=lambda example: example.operation not in mine)

    await database.close()
    assert not failures
    assert [example.operation for example in request_examples(document) if example.operation in mine] == ["make_thing"] * 3 + ["read_thing"]


async def test_an_example_that_does_not_work_is_found(document: dict[str, Any]) -> None:
    content = document["paths"]["/v1/things"]["post"]["requestBody"]["content"]["application/json"]
    content["examples"] = {"wrong": {"value": {"name": ""}, "x-token": "police-95", "x-status": 201}}

    async with calling(app_of(ISSUER)) as client:
        failures = await try_examples(client, document, _headers, but=lambda example: example.operation != "make_thing")

    assert len(failures) == 1
    assert "answered 422, not 201" in failures[0]


def test_examples_without_a_client_or_a_documented_status_are_found(document: dict[str, Any]) -> None:
    content = document["paths"]["/v1/things"]["post"]["requestBody"]["content"]["application/json"]
    content["examples"] = {
        "no client": {"value": {}, "x-status": 201},
        "unknown client": {"value": {}, "x-token": "me", "x-status": 201},
        "undocumented": {"value": {}, "x-token": "police-95", "x-status": 418},
    }

    assert [one for one in unlabelled(document) if one.startswith("make_thing")] == [f"make_thing {name}" for name in content["examples"]]
    assert "echo" in without_example(document)


async def test_the_pages_need_nothing_from_elsewhere() -> None:
    async with calling(app_of(ISSUER)) as client:
        page = await client.get("/docs")
        linked = re.findall(r'(?:src|href)="([^"]+)"', page.text)
        assets = {address: await client.get(address) for address in linked}
        document = await client.get("/docs/openapi.json")

    assert "Essai &lt;du socle&gt;" in page.text
    assert all(address.startswith("/docs/assets/") for address in linked)
    assert {address: answer.status_code for address, answer in assets.items()} == dict.fromkeys(linked, 200)
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self';" in policy
    assert "<script>" not in page.text
    assert document.json()["openapi"] == "3.0.3"


@pytest.mark.parametrize("name", ["swagger-ui.js.map", "..%2f..%2f__init__.py", "%2e%2e", "index.html"])
async def test_no_other_file_is_served(name: str) -> None:
    async with calling(app_of(ISSUER)) as client:
        answer = await client.get(f"/docs/assets/{name}")

    assert answer.status_code == 404


def test_swagger_ui_is_given_openapi_3_0() -> None:
    told = for_swagger(
        {
            "openapi": "3.1.0",
            "a": {"anyOf": [{"type": "string", "maxLength": 5}, {"type": "null"}]},
            "b": {"anyOf": [{"$ref": "#/x"}, {"type": "integer"}, {"type": "null"}]},
            "c": {"const": "alive", "type": "string", "examples": ["alive"]},
        }
    )

    assert told == {
        "openapi": "3.0.3",
        "a": {"nullable": True, "allOf": [{"type": "string", "maxLength": 5}]},
        "b": {"nullable": True, "anyOf": [{"$ref": "#/x"}, {"type": "integer"}]},
        "c": {"enum": ["alive"], "type": "string", "example": "alive"},
    }


async def test_what_everybody_may_read_is_served() -> None:
    async with calling(app_of(ISSUER)) as client:
        answers = {path: await client.get(path) for path in ("/openapi.json", "/asyncapi.json", "/v1/keys", "/v1/vocabularies")}
        channels = await client.get("/v1/vocabularies/channels")
        missing = await client.get("/v1/vocabularies/none")

    assert all(answer.status_code == 200 for answer in answers.values())
    assert answers["/asyncapi.json"].json()["asyncapi"] == "3.0.0"
    [key] = answers["/v1/keys"].json()["keys"]
    assert "d" not in key
    assert key["kty"] == "EC"
    assert channels.json()["terms"]
    assert isinstance(missing, httpx.Response)
    assert missing.status_code == 404


async def test_a_document_is_written_once_however_often_strangers_ask_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    paths = ("/openapi.json", "/docs/openapi.json", "/asyncapi.json")
    written = 0

    def dumps(content: Any, **given: Any) -> str:
        nonlocal written
        written += 1
        return json.dumps(content, **given)

    monkeypatch.setattr(operations_api, "json", SimpleNamespace(dumps=dumps))
    async with calling(app_of(ISSUER)) as client:
        answers = [[(await client.get(path)).json() for path in paths] for _ in range(3)]

    assert answers[0] == answers[1] == answers[2]
    assert written == 3
