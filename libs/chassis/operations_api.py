"""What every service answers besides its own resources: is it alive, is it ready, what does it count, how is it spoken to."""

import asyncio
import json
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, Literal, TypeVar

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from sqlalchemy import text
from starlette.concurrency import run_in_threadpool

from libs.chassis import docs, telemetry
from libs.chassis.access import PUBLIC, AccessTable, Rule
from libs.chassis.database import is_migrated
from libs.chassis.problems import problems
from libs.chassis.refusals import NotFound, Unavailable
from libs.chassis.runtime import Run, Runtime
from libs.chassis.settings import Settings
from libs.chassis.strict import Answer
from libs.contracts.registry import SPEAKERS, vocabularies_answer, vocabulary_answer
from libs.contracts.schemas import asyncapi
from libs.contracts.types import Instant
from libs.contracts.vocabularies import Role

router = APIRouter(tags=["Service"])

T = TypeVar("T")

_DATABASE_SECONDS = 3


def access(settings: Settings) -> AccessTable:
    """The chassis' own rows."""
    public = ["is_alive", "is_ready", "read_docs", "read_docs_asset", "read_docs_openapi", "read_openapi", "read_asyncapi"]
    public += ["read_keys", "list_vocabularies", "read_vocabulary"]
    metrics = PUBLIC if settings.metrics_public else Rule(roles={Role.ADMINISTRATOR, Role.SERVICE})
    return AccessTable({**dict.fromkeys(public, PUBLIC), "read_metrics": metrics})


class AliveOut(Answer):
    status: Literal["alive"]


class SourceOut(Answer):
    """ "Seen `sequence` of `head_sequence`, at `head_seen_at`", without `missed` events that were no longer kept when it went on."""

    source: str
    epoch: int
    sequence: int
    head_sequence: int | None
    head_seen_at: Instant | None
    missed: int
    health: str


class ReadyOut(Answer):
    """`degraded`: requests are answered, but something wants looking at (`troubles`): the broker is away, a stream diverged, events are parked."""

    status: Literal["ready", "degraded"]
    troubles: list[str]
    sources: list[SourceOut]


@router.get("/livez", operation_id="is_alive", response_model=AliveOut, responses=problems(503))
async def is_alive(runtime: Run) -> AliveOut:
    """Do the loops of this process make progress? If not (503), restart it."""
    stuck = sorted(name for name, heartbeat in runtime.heartbeats.items() if not heartbeat.alive)
    if stuck:
        raise Unavailable("Une boucle de ce processus n'avance plus : redémarrez-le.", more={"stuck": ", ".join(stuck)})
    return AliveOut(status="alive")


@router.get("/readyz", operation_id="is_ready", response_model=ReadyOut, responses=problems(503))
async def is_ready(runtime: Run, request: Request) -> ReadyOut:
    """Can this process answer requests? It needs the database, migrated. Without the broker it still can: the outbox keeps what is said."""
    return await _together(request, partial(_ready, runtime, request))


async def _together(request: Request, look: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """What a look finds, the same for all who ask for it meanwhile: anybody may ask, and a look takes connections of the database."""
    looks: dict[str, asyncio.Task[T]] = request.app.state.looks
    path = request.scope["path"]
    if path not in looks:
        looks[path] = asyncio.create_task(look())
        looks[path].add_done_callback(lambda _: looks.pop(path))
    return await asyncio.shield(looks[path])


async def _ready(runtime: Runtime, request: Request) -> ReadyOut:
    try:
        async with asyncio.timeout(_DATABASE_SECONDS):
            if not await _migrated(runtime, request):
                raise Unavailable("La base de données n'est pas à jour : lancez la commande migrate.")
            troubles = await runtime.troubles()
            seen = await runtime.completeness()
    except TimeoutError:
        raise Unavailable("La base de données ne répond pas.") from None
    sources = [SourceOut(**{name: getattr(one, name) for name in SourceOut.model_fields}) for one in seen]
    return ReadyOut(status="degraded" if troubles else "ready", troubles=sorted(troubles), sources=sources)


async def _migrated(runtime: Runtime, request: Request) -> bool:
    """Reading the migration scripts takes tens of milliseconds: once they were all there, only the connection is tried."""
    async with runtime.database.transaction() as session:
        if getattr(request.app.state, "migrated", False):
            await session.execute(text("SELECT 1"))
            return True
        request.app.state.migrated = await is_migrated(session, runtime.service.name)
        return bool(request.app.state.migrated)


@router.get("/metrics", operation_id="read_metrics", response_class=Response, include_in_schema=False)
async def read_metrics(runtime: Run, request: Request) -> Response:
    """Prometheus' text format."""
    return Response(await _together(request, partial(_measured, runtime)), media_type=CONTENT_TYPE_LATEST)


async def _measured(runtime: Runtime) -> bytes:
    service = runtime.service.name
    for name, heartbeat in runtime.heartbeats.items():
        telemetry.SILENCE.labels(service, name).set(heartbeat.silence_seconds)
    try:
        async with asyncio.timeout(_DATABASE_SECONDS):
            troubles = await runtime.troubles()
            diverged = await runtime.diverged()
            seen = await runtime.completeness()
            if runtime.service.measure is not None:
                async with runtime.database.transaction() as session:
                    await runtime.service.measure(session)
    except Exception as error:  # a scrape tells of a database that is away; it does not fail with it
        troubles, diverged, seen = [f"database:{type(error).__name__}"], {}, []
    for gauge in (telemetry.TROUBLES, telemetry.DIVERGED):
        for labels in list(gauge._metrics):
            if labels[0] == service:
                gauge.labels(*labels).set(0)
    for trouble in troubles:
        telemetry.TROUBLES.labels(service, trouble).set(1)
    for stream, reason in diverged.items():
        telemetry.DIVERGED.labels(service, stream, reason).set(1)
    for source in seen:
        telemetry.SEEN_SEQUENCE.labels(service, source.source).set(source.sequence)
        if source.head_sequence is not None:
            telemetry.HEAD_SEQUENCE.labels(service, source.source).set(source.head_sequence)
        if source.head_seen_at is not None:
            telemetry.HEAD_SEEN_AT.labels(service, source.source).set(source.head_seen_at.timestamp())
    return await run_in_threadpool(generate_latest, telemetry.REGISTRY)


@router.get("/docs", operation_id="read_docs", response_class=Response, include_in_schema=False)
async def read_docs(request: Request) -> Response:
    return docs.docs_page(request.app.title)


@router.get("/docs/assets/{name}", operation_id="read_docs_asset", response_class=Response, include_in_schema=False)
async def read_docs_asset(name: str) -> Response:
    return docs.docs_asset(name)


@router.get("/docs/openapi.json", operation_id="read_docs_openapi", response_class=Response, include_in_schema=False)
async def read_docs_openapi(request: Request) -> Response:
    return _written(request, lambda: docs.for_swagger(request.app.openapi()))


@router.get("/openapi.json", operation_id="read_openapi", response_class=Response, include_in_schema=False)
async def read_openapi(request: Request) -> Response:
    return _written(request, request.app.openapi)


@router.get("/asyncapi.json", operation_id="read_asyncapi", response_model=dict[str, Any])
async def read_asyncapi(request: Request, runtime: Run) -> Response:
    """What this service says and hears, as AsyncAPI 3."""
    return _written(request, lambda: write_asyncapi(runtime))


def write_asyncapi(runtime: Runtime) -> dict[str, Any]:
    service = runtime.service
    heard = [] if service.listener is None else [event for source in service.listener.sources for event in source.handles]
    if service.name not in SPEAKERS:
        raise NotFound
    return asyncapi(service.name, heard)


@router.get("/v1/keys", operation_id="read_keys", response_model=dict[str, Any])
async def read_keys(runtime: Run) -> Response:
    """The public keys (JWKS) with which signed stream heads and receipts are checked."""
    return _json(runtime.signer.public_jwks(), cached=True)


@router.get("/v1/vocabularies", operation_id="list_vocabularies", response_model=dict[str, Any])
async def list_vocabularies() -> Response:
    """The code lists, with their French labels."""
    return _json(vocabularies_answer(), cached=True)


@router.get("/v1/vocabularies/{name}", operation_id="read_vocabulary", response_model=dict[str, Any], responses=problems(404))
async def read_vocabulary(name: str) -> Response:
    """One code list."""
    found = vocabulary_answer(name)
    if found is None:
        raise NotFound
    return _json(found, cached=True)


def _json(content: dict[str, Any], *, cached: bool = False) -> Response:
    headers = {"Cache-Control": "public, max-age=300"} if cached else None
    return Response(_bytes(content), headers=headers, media_type="application/json")


def _written(request: Request, document: Callable[[], dict[str, Any]]) -> Response:
    """Written once for each application: anybody may ask for it, and it takes a tenth of a second."""
    documents: dict[str, bytes] = request.app.state.documents
    operation = request.scope["route"].operation_id
    if operation not in documents:
        documents[operation] = _bytes(document())
    return Response(documents[operation], media_type="application/json")


def _bytes(content: dict[str, Any]) -> bytes:
    return json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()
