"""schemathesis over a really served service: every operation of its document, every phase, with a token of a role that may call it.

Nothing here names a route: what is added to a service is tried without an edit.
"""

import asyncio
import json
import socket
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import schemathesis
import uvicorn
from fastapi import FastAPI
from schemathesis import openapi
from schemathesis.config import SchemathesisConfig
from schemathesis.engine import events, from_schema
from starlette.applications import Starlette

from libs.chassis.limits import BoundedProtocol
from libs.contracts.demonstration import CLIENTS
from libs.embedded.issuer import Issuer

CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "negative_data_rejection",
    "unsupported_method",
)
NDJSON = "application/x-ndjson"
PHASES = ("examples", "coverage", "fuzzing", "stateful")
"""Coverage alone sends some twenty requests to each operation: minutes for the four services."""
QUICK = ("examples", "fuzzing")


@dataclass
class Outcome:
    """What was found, each kind once for an operation; how many requests were answered how."""

    failures: dict[str, str] = field(default_factory=dict)
    answers: Counter[int] = field(default_factory=Counter)
    operations: dict[str, set[int]] = field(default_factory=dict)
    """Method and path → how it was answered."""
    phases: set[str] = field(default_factory=set)
    linked: set[str] = field(default_factory=set)
    """What was called with something from the answer of another: method and path."""


@contextmanager
def listening(app: FastAPI | Starlette) -> Iterator[str]:
    """The application on a free port, in a thread with a loop of its own."""
    # of this protocol by name, or asyncio leaves Nagle's algorithm on: 40 ms for each answer (uvloop, which serves in earnest, never does)
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    sock.bind(("127.0.0.1", 0))
    sock.listen()
    server = uvicorn.Server(uvicorn.Config(app, http=BoundedProtocol, ws="none", log_config=None, access_log=False))
    thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[sock])), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{sock.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(30)
        sock.close()


def caller_of(operation: dict[str, Any], issuer: Issuer, first: Sequence[str]) -> dict[str, str]:
    """A demonstration client whose role the document names: one of `first`, else those of the Val-d'Oise first, as the dictionary has them."""
    roles = operation.get("x-roles", ())
    who = next((one.client_id for one in (*map(CLIENTS.__getitem__, first), *CLIENTS.values()) if one.role.value in roles), None)
    return {} if who is None else {"Authorization": f"Bearer {issuer.issue(who)}"}


def _configured(
    url: str,
    document: dict[str, Any],
    issuer: Issuer,
    examples: int,
    seed: int,
    phases: Sequence[str],
    given: Mapping[str, str],
    first: Sequence[str],
) -> SchemathesisConfig:
    paths = document["paths"].items()
    operations = [
        {"include-operation-id": operation["operationId"], "headers": caller_of(operation, issuer, first)} | _by_line(operation)
        for _, methods in paths
        for operation in methods.values()
        if operation.get("x-roles")
    ]
    return SchemathesisConfig.from_dict(
        {
            "seed": seed,
            "base-url": url,
            "workers": 1,
            "request-timeout": 60,  # 10 s otherwise
            "generation": {"max-examples": examples, "no-shrink": True, "database": "none"},
            "checks": {"enabled": False} | {name: {"enabled": True} for name in CHECKS},
            "phases": {name: {"enabled": name in phases} for name in PHASES},
            "operations": operations,
            "parameters": dict(given),
        }
    )


@schemathesis.serializer(NDJSON)
def _lines(_: Any, value: Any) -> bytes:
    return b"".join(json.dumps(line).encode() + b"\n" for line in (value if isinstance(value, list) else [value]))


def _by_line(operation: dict[str, Any]) -> dict[str, Any]:
    """What is sent line by line is refused line by line, in an answer of 200: `tests/services/referrals/test_bulk.py` looks at those."""
    sent = operation.get("requestBody", {}).get("content", {})
    return {"checks": {"negative_data_rejection": {"enabled": False}}} if NDJSON in sent else {}


def fuzz(
    url: str,
    document: dict[str, Any],
    issuer: Issuer,
    *,
    examples: int,
    seed: int,
    phases: Sequence[str] = PHASES,
    given: Mapping[str, str] = MappingProxyType({}),
    first: Sequence[str] = (),
) -> Outcome:
    """`given`: parameter → the value that it always has, and `first`: the clients that call where they may, for what is to reach an object that exists."""
    schema = openapi.from_dict(document, config=_configured(url, document, issuer, examples, seed, phases, given, first))
    outcome = Outcome()
    for event in from_schema(schema).execute():
        if isinstance(event, events.NonFatalError):
            outcome.failures[f"{event.label} error"] = str(event.value)
        if not isinstance(event, events.ScenarioFinished):
            continue
        outcome.phases.add(event.phase.value)
        for case_id, node in event.recorder.cases.items():
            answered = outcome.operations.setdefault(node.value.operation.label, set())
            if node.transition is not None:
                outcome.linked.add(node.value.operation.label)
            interaction = event.recorder.interactions.get(case_id)
            if interaction is not None and interaction.response is not None:
                outcome.answers[interaction.response.status_code] += 1
                answered.add(interaction.response.status_code)
        for case_id, checks in event.recorder.checks.items():
            label = event.recorder.cases[case_id].value.operation.label
            for check in checks:
                if check.failure_info is not None:
                    said = f"{check.failure_info.failure.title}: {check.failure_info.failure.message}\n{check.failure_info.code_sample}"
                    outcome.failures.setdefault(f"{label} {check.name} {check.failure_info.failure.title}", said)
    return outcome
