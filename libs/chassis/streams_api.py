"""The feed: `/v1/streams`, the same bytes and numbers as on Kafka, for whoever missed something or has no Kafka."""

from typing import Annotated, Any

import structlog
from fastapi import APIRouter, Path, Query, Response
from pydantic import Field

from libs.chassis import streams, telemetry
from libs.chassis.access import AccessTable, Rule
from libs.chassis.problems import problems
from libs.chassis.refusals import NotFound
from libs.chassis.runtime import Run, Runtime
from libs.chassis.security import Caller, Principal
from libs.chassis.strict import Answer, Body, QueryInt
from libs.chassis.subscriptions import Renewed
from libs.contracts.audiences import KINDS
from libs.contracts.types import Instant
from libs.contracts.vocabularies import Role

_log = structlog.get_logger(__name__)

router = APIRouter(tags=["Streams"], dependencies=[Renewed])

_READERS = Rule(roles=set(Role))
ACCESS = AccessTable(
    {
        "list_streams": _READERS,
        "read_stream": _READERS,
        "read_stream_events": _READERS,
        "read_stream_digest": _READERS,
        "acknowledge_stream": _READERS,
    }
)

StreamName = Annotated[str, Path(pattern=r"^[a-z]+(:[0-9A-Za-z-]+)?$", max_length=60, examples=["internal"])]
Sequence = Annotated[QueryInt, Field(ge=0, le=2**62)]
LIMIT = 1000


class HeadOut(Answer):
    """A stream's head. `signature`: a detached JWS (ES256, keys at /v1/keys) over `statement`, so that a chain is a proof."""

    source: str
    stream: str
    epoch: int
    sequence: int
    digest: str
    oldest_sequence: int
    stamped_at: Instant | None
    statement: str
    signature: str


class StreamsOut(Answer):
    items: list[HeadOut]


class DigestOut(Answer):
    sequence: int
    digest: str


class PositionIn(Body):
    epoch: Annotated[int, Field(ge=1, le=2**31 - 1)]
    sequence: Annotated[int, Field(ge=0, le=2**62)]


class FeedOut(Answer):
    """`events` are CloudEvents in their JSON format, in order."""

    stream: str
    events: list[dict[str, Any]]
    head: HeadOut


def _readable(caller: Principal, stream: str) -> str:
    if stream not in caller.streams():
        raise NotFound
    return stream


def _head_out(runtime: Runtime, head: streams.Head) -> HeadOut:
    statement = head.statement(runtime.service.name)
    return HeadOut(
        source=runtime.service.name,
        stream=head.stream,
        epoch=head.epoch,
        sequence=head.sequence,
        digest=head.digest.hex(),
        oldest_sequence=head.purged_sequence + 1,
        stamped_at=head.stamped_at,
        statement=statement.decode(),
        signature=runtime.signer.sign_detached(statement),
    )


@router.get("/v1/streams", operation_id="list_streams", response_model=StreamsOut)
async def list_streams(caller: Caller, runtime: Run) -> StreamsOut:
    """The streams the caller may read, with their signed heads."""
    names = caller.streams()
    async with runtime.database.transaction() as session:
        heads = [await streams.head(session, name) for name in names]
    return StreamsOut(items=[_head_out(runtime, head) for head in heads])


@router.get("/v1/streams/{stream}", operation_id="read_stream", response_model=HeadOut, responses=problems(404))
async def read_stream(stream: StreamName, caller: Caller, runtime: Run) -> HeadOut:
    """One stream's signed head."""
    async with runtime.database.transaction() as session:
        head = await streams.head(session, _readable(caller, stream))
    return _head_out(runtime, head)


@router.put("/v1/streams/{stream}/position", status_code=204, operation_id="acknowledge_stream", responses=problems(404, 409, 422))
async def acknowledge_stream(stream: StreamName, body: PositionIn, caller: Caller, runtime: Run) -> Response:
    """Say that the caller has acted on everything up to that number: what it was told to erase, it has erased. The last word counts."""
    async with runtime.database.transaction() as session:
        await streams.acknowledge(session, _readable(caller, stream), caller.client_id, body.epoch, body.sequence)
    return Response(status_code=204)


@router.get("/v1/streams/{stream}/digests/{sequence}", operation_id="read_stream_digest", response_model=DigestOut, responses=problems(404))
async def read_stream_digest(stream: StreamName, sequence: Sequence, caller: Caller, runtime: Run) -> DigestOut:
    """The digest at a number: what a follower that starts there checks its first event against."""
    async with runtime.database.transaction() as session:
        head = await streams.head(session, _readable(caller, stream))
        found = await streams.kept_digest(session, head, sequence)
    if found is None:
        raise NotFound
    return DigestOut(sequence=sequence, digest=found.hex())


def count_from_zero(service: str) -> None:
    """For the alert: Prometheus sees no increase in a series that begins at 1."""
    for kind in KINDS:
        telemetry.CLAIMS_REFUSED.labels(service, kind)


def _tell_operator(runtime: Runtime, caller: Principal, stream: str, reason: str) -> None:
    """By the log and a counter, for which there is an alert: an integrator may be wrong, or the only one who knows of a restore."""
    _log.warning("stream.claim_refused", stream=stream, client=caller.client_id, reason=reason)
    telemetry.CLAIMS_REFUSED.labels(runtime.service.name, stream.partition(":")[0]).inc()


@router.get("/v1/streams/{stream}/events", operation_id="read_stream_events", response_model=FeedOut, responses=problems(404, 409, 410))
async def read_stream_events(
    stream: StreamName,
    caller: Caller,
    runtime: Run,
    after: Annotated[Sequence, Query(description="The last number the caller has; 0 for the beginning")] = 0,
    epoch: Annotated[QueryInt | None, Query(ge=1, le=2**31 - 1, description="The epoch the caller's number belongs to")] = None,
    digest: Annotated[str | None, Query(pattern="^[0-9a-f]{64}$", description="The digest the caller holds at that number")] = None,
    limit: Annotated[QueryInt, Query(ge=1, le=LIMIT)] = 100,
) -> Response:
    """The events after a number. 410 when they are no longer kept (list, then follow); 409 `epoch-ended` when the caller's history was replaced.

    Where both are so, the 410 tells `last_sequence`: the last number of the caller's history that holds.

    Who is handed events is a reader of the stream: an erasure waits for it until it has acted on it, and says so by its position.
    """
    _readable(caller, stream)
    reason = None
    async with runtime.database.transaction(repeatable_read=True) as session:
        head = await streams.head(session, stream)
        if epoch is not None:
            claimed = bytes.fromhex(digest) if digest is not None else None
            reason = await streams.check_claim(session, stream, caller.client_id, epoch=epoch, after=after, claimed=claimed)
        if reason is None:
            records = await streams.read(session, stream, after, limit)
            idle = not records and not await streams.looked_lately(session, stream, caller.client_id)
    if reason is not None:
        if caller.role is Role.SERVICE:
            # only our own services are believed: anybody else could stop the relay by a made-up claim
            async with runtime.database.transaction() as session:
                await streams.mark_diverged(session, stream, reason, epoch=head.epoch)
        else:
            _tell_operator(runtime, caller, stream, reason)
        raise streams.Diverged("Votre historique de ce flux et celui de ce service ne concordent pas ; l'exploitant est prévenu.")
    if records:
        # a transaction of its own: two pages of one reader at once would fail in that of a repeatable read
        async with runtime.database.transaction() as session:
            await streams.give(session, caller.client_id, records)
    elif idle:
        async with runtime.database.transaction() as session:
            await streams.look(session, caller.client_id, head)
    body = b'{"stream":"%b","events":[%b],"head":%b}' % (
        stream.encode(),
        b",".join(record.cloudevent() for record in records),
        _head_out(runtime, head).model_dump_json().encode(),
    )
    return Response(body, media_type="application/json")
