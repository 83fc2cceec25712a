"""No 5xx, no undocumented answer, no accepted bad input, no answer that breaks its schema; and the faults that this must see, planted.

`make test` sends a little to some operations of each service, drawn by the seed; CI has a section for all of them in all phases
(MAILLON_FUZZ_EXAMPLES: how many of each operation), with another seed each day, which it prints and a failure repeats.
The same run of chance again: MAILLON_FUZZ_SEED=20261124.
"""

import os
import random
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

import httpx
import pytest
from fastapi import APIRouter, Response

from libs.chassis.access import AccessTable, Rule
from libs.chassis.app import create_app
from libs.chassis.security import Caller, IssuerKeys
from libs.chassis.service import Service
from libs.chassis.strict import Answer, Body
from libs.contracts.vocabularies import Role
from libs.embedded.issuer import Issuer
from libs.embedded.issuer import create_app as create_issuer
from tests.chassis.answering import ThingSettings
from tests.hostile.schema_fuzz import PHASES, QUICK, Outcome, fuzz, listening
from tests.settings import NOWHERE, settings_for

EXAMPLES = int(os.environ.get("MAILLON_FUZZ_EXAMPLES", "0"))
"""0: the quick lane."""
SEED = int(os.environ.get("MAILLON_FUZZ_SEED", "20261124"))


SAMPLE = 6
"""Operations of each service in the quick lane: all of them took half a minute of everybody's `make test`."""


def some_of(document: dict[str, Any]) -> dict[str, Any]:
    """The document with some of its operations."""
    every = [(path, method) for path, methods in document["paths"].items() for method in methods]
    kept = set(random.Random(SEED).sample(every, min(SAMPLE, len(every))))  # the same ones each time, guards nothing
    paths = {
        path: {method: one for method, one in methods.items() if (path, method) in kept} for path, methods in document["paths"].items()
    }
    return document | {"paths": {path: methods for path, methods in paths.items() if methods}}


def tried(service: Service, database_url: str, phases: Sequence[str]) -> Outcome:
    app = create_app(service, settings_for(service.name, service.settings, database_url=database_url), roles=("api",))
    issuer = Issuer(NOWHERE)
    app.state.runtime.tokens.keys = IssuerKeys(f"{NOWHERE}/jwks", httpx.AsyncClient(transport=httpx.ASGITransport(create_issuer(issuer))))
    with listening(app) as url:
        document = app.openapi() if EXAMPLES else some_of(app.openapi())
        return fuzz(url, document, issuer, examples=max(EXAMPLES, 1), seed=SEED, phases=phases)


def labels_of(service: Service) -> set[str]:
    document = create_app(service, settings_for(service.name, service.settings), roles=("api",)).openapi()
    return {f"{method.upper()} {path}" for path, methods in document["paths"].items() for method in methods}


@pytest.mark.parametrize("name", ["referrals", "partners", "funding", "reporting"])
def test_whatever_is_sent_gets_an_answer_that_the_document_promises(name: str, database_url: Callable[[str | None], str]) -> None:
    service: Service = import_module(f"services.{name}.app").SERVICE

    phases = PHASES if EXAMPLES else QUICK

    outcome = tried(service, database_url(name), phases)

    assert outcome.failures == {}, f"again: MAILLON_FUZZ_SEED={SEED} MAILLON_FUZZ_EXAMPLES={EXAMPLES}"
    assert outcome.phases == set(phases)
    if EXAMPLES:
        assert outcome.operations.keys() == labels_of(import_module(f"services.{name}.app").SERVICE)
    assert outcome.answers[200] > 0
    assert outcome.answers[422] > 0


class FaultIn(Body):
    count: int


class FaultOut(Answer):
    count: int


faults = APIRouter()


@faults.post("/v1/failing", operation_id="fail", response_model=FaultOut)
async def fail(body: FaultIn, caller: Caller) -> FaultOut:
    raise RuntimeError("a planted fault")


@faults.get("/v1/undocumented", operation_id="undocumented", response_model=FaultOut)
async def undocumented(caller: Caller) -> Response:
    return Response('{"count":1}', 206, media_type="application/json")


@faults.get("/v1/wrong", operation_id="wrong", response_model=FaultOut)
async def wrong(caller: Caller) -> Response:
    return Response('{"count":"one"}', media_type="application/json")


@faults.post("/v1/gullible", operation_id="gullible", response_model=FaultOut, openapi_extra={"requestBody": {"required": True, "content": {
    "application/json": {"schema": {"type": "object", "properties": {"count": {"type": "integer", "maximum": 3}}, "required": ["count"]}}
}}})  # fmt: skip
async def gullible(caller: Caller) -> FaultOut:
    return FaultOut(count=1)


PLANTED = ("/v1/failing", "/v1/undocumented", "/v1/wrong", "/v1/gullible")
POLICE = Rule(roles={Role.POLICE})
FAULTS = Service(
    name="partners",
    title="Fautes",
    settings=ThingSettings,
    routers=(faults,),
    access=AccessTable(dict.fromkeys(("fail", "undocumented", "wrong", "gullible"), POLICE)),
    says=(),
)


@pytest.mark.parametrize(
    "fault",
    [
        "/v1/failing not_a_server_error",
        "/v1/undocumented status_code_conformance",
        "/v1/wrong response_schema_conformance",
        "/v1/gullible negative_data_rejection",
    ],
)
def test_a_planted_fault_is_seen(fault: str, planted: set[str]) -> None:
    assert fault in planted


@pytest.fixture(scope="module")
def planted() -> set[str]:
    """The faults above, found on an application without a database: only their own addresses are tried."""
    app = create_app(FAULTS, settings_for("partners", ThingSettings), roles=("api",))
    issuer = Issuer(NOWHERE)
    app.state.runtime.tokens.keys = IssuerKeys(f"{NOWHERE}/jwks", httpx.AsyncClient(transport=httpx.ASGITransport(create_issuer(issuer))))
    document = app.openapi()
    document = document | {"paths": {path: one for path, one in document["paths"].items() if path in PLANTED}}
    with listening(app) as url:
        outcome = fuzz(url, document, issuer, examples=5, seed=SEED)
    return {" ".join(key.split(" ")[1:3]) for key in outcome.failures}
