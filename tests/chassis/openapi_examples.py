"""Tries every request example of an OpenAPI document as it stands: with the client it names, for the status and the schema it documents.

failures = await try_examples(client, client.get("/openapi.json").json(), lambda name: {"Authorization": f"Bearer {issuer.issue(name)}"})
assert not failures
"""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import httpx
from jsonschema import Draft202012Validator

from libs.contracts.demonstration import CLIENTS

Document = Mapping[str, Any]
_METHODS = ("get", "post", "put", "patch", "delete")


@dataclass(frozen=True)
class RequestExample:
    operation: str
    name: str
    method: str
    path: str
    said: Mapping[str, Any]
    answers: Mapping[str, Any]


def _operations(document: Document) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    for path, item in document["paths"].items():
        for method in _METHODS:
            if method in item:
                yield path, method, item[method]


def request_examples(document: Document) -> list[RequestExample]:
    """In the order of the document: an example may stand on what an earlier one made."""
    found = []
    for path, method, operation in _operations(document):
        given = {**operation.get("x-examples", {})}
        for content in operation.get("requestBody", {}).get("content", {}).values():
            given |= content.get("examples", {})
        found += [
            RequestExample(operation["operationId"], name, method, path, said, operation["responses"]) for name, said in given.items()
        ]
    return found


def without_example(document: Document) -> list[str]:
    """Operations with a request body that show no example of it."""
    shown = {example.operation for example in request_examples(document)}
    return [
        operation["operationId"]
        for _, _, operation in _operations(document)
        if "requestBody" in operation and operation["operationId"] not in shown
    ]


def unlabelled(document: Document) -> list[str]:
    """Examples that do not name a demonstration client and a documented status."""
    return [
        f"{example.operation} {example.name}"
        for example in request_examples(document)
        if not (example.said.get("x-token") in {"", *CLIENTS} and str(example.said.get("x-status")) in example.answers)
    ]


async def try_examples(
    client: httpx.AsyncClient,
    document: Document,
    headers_of: Callable[[str], Mapping[str, str]],
    *,
    but: Callable[[RequestExample], bool] = lambda _: False,
) -> list[str]:
    """What did not answer as documented, a line each. `but`: examples to leave out."""
    failures = [f"{name}: names no client or no documented status" for name in unlabelled(document)]
    for example in request_examples(document):
        if not but(example):
            failure = await _try(client, document, example, headers_of)
            if failure:
                failures.append(f"{example.method.upper()} {example.path} ({example.operation}, {example.name}): {failure}")
    return failures


async def _try(
    client: httpx.AsyncClient, document: Document, example: RequestExample, headers_of: Callable[[str], Mapping[str, str]]
) -> str | None:
    said = example.said
    path = example.path.format_map({name: quote(str(value), safe="") for name, value in said.get("x-path", {}).items()})
    headers = {"Idempotency-Key": str(uuid4()), "X-Purpose": "follow_up", **(headers_of(said["x-token"]) if said["x-token"] else {})}
    content = None
    if "value" in said:
        content, headers["Content-Type"] = json.dumps(said["value"]), "application/json"
    headers |= said.get("x-headers", {})
    answer = await client.request(example.method, path, params=said.get("x-query") or None, content=content, headers=headers)
    if answer.status_code != said["x-status"]:
        return f"answered {answer.status_code}, not {said['x-status']}: {answer.text[:500]}"
    return _against_schema(document, example.answers[str(answer.status_code)], answer)


def _against_schema(document: Document, documented: Mapping[str, Any], answer: httpx.Response) -> str | None:
    kind = answer.headers.get("content-type", "").split(";")[0]
    contents = documented.get("content", {})
    if not answer.content:
        return None
    if kind not in contents:
        return f"answered with {kind}, not {sorted(contents)}"
    schema = {**contents[kind].get("schema", {}), "components": document["components"]}
    errors = [f"{error.json_path}: {error.message[:200]}" for error in Draft202012Validator(schema).iter_errors(answer.json())]
    return "; ".join(errors) or None
