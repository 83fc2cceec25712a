"""Orientations over HTTP: the social worker asks, the partner answers."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Annotated, cast

from fastapi import APIRouter, Query, Response
from sqlalchemy.ext.asyncio import AsyncSession

from libs.chassis.audit import audit
from libs.chassis.docs import Example, examples
from libs.chassis.etag import IfMatch, etag
from libs.chassis.idempotency import Once
from libs.chassis.pagination import Page, page_of
from libs.chassis.problems import problems
from libs.chassis.runtime import Run, Runtime
from libs.chassis.security import Caller, Principal, Purpose
from libs.chassis.settings import secret_bytes
from libs.contracts.demonstration import ORIENTATION, REFERRAL, VICTIM, VICTIM_SUPPORT_SERVICE
from libs.contracts.types import Id, Instant
from libs.contracts.vocabularies import OrientationStatus, Urgency
from services.referrals import queries
from services.referrals.orientations import asking, telling
from services.referrals.orientations import commands as orientations
from services.referrals.orientations.links import Links
from services.referrals.orientations.schemas import (
    CancelIn,
    CompleteIn,
    FailIn,
    LinkMade,
    LinkOut,
    OrientationIn,
    OrientationOut,
    OrientationRequestedOut,
    OrientationSummary,
    RejectIn,
)
from services.referrals.settings import Settings
from services.referrals.worklists import orientations as worklist
from services.referrals.worklists.schemas import OrientationCounts, OrientationList

router = APIRouter(tags=["Orientations"])
_OF_ORIENTATION = {"orientation_id": ORIENTATION}
_FIRST_VERSION = {"If-Match": '"1"'}


def _now() -> datetime:
    return datetime.now(UTC)


def _told(
    caller: Principal, runtime: Runtime, command: Callable[[AsyncSession], Awaitable[OrientationSummary]]
) -> Callable[[AsyncSession], Awaitable[OrientationSummary]]:
    """The command, its answer as the caller may know it."""

    async def run(session: AsyncSession) -> OrientationSummary:
        return telling.told(caller, runtime.pseudonyms, await command(session))

    return run


@router.post(
    "/v1/referrals/{referral_id}/orientations",
    status_code=201,
    operation_id="request_orientation",
    response_model=OrientationRequestedOut,
    responses=problems(404, 409, 422),
    openapi_extra=examples(
        Example(
            "iscg-95",
            201,
            {"person_id": VICTIM, "service_id": VICTIM_SUPPORT_SERVICE, "need": "victim_support"},
            path={"referral_id": REFERRAL},
        )
    ),
)
async def request_orientation(referral_id: Id, body: OrientationIn, caller: Caller, runtime: Run, once: Once) -> Response:
    """Ask a partner's service to take a person over. `warnings` say what may not fit: the social worker decides."""
    answer_times = cast(Settings, runtime.settings).answer_times()
    search_key = secret_bytes(runtime.settings.search_key)
    return await once(
        lambda session: asking.request(
            session, caller, runtime.vault, search_key, Links.of(runtime), referral_id, body, _now(), answer_times
        ),
        status=201,
        location="/v1/orientations/{id}",
    )


@router.get("/v1/orientations", operation_id="list_orientations", response_model=OrientationList)
async def list_orientations(
    caller: Caller,
    runtime: Run,
    page: Page,
    status: Annotated[list[OrientationStatus], Query(max_length=8, description="In one of these states")] = [],  # noqa: B006 - FastAPI copies it
    urgency: Annotated[list[Urgency], Query(max_length=3, description="Living ones, of a situation this urgent")] = [],  # noqa: B006 - FastAPI copies it
    requested_since: Instant | None = None,
    answer_before: Annotated[Instant | None, Query(description="Still to be answered, and expiring by then")] = None,
) -> Response:
    """A partner's own orientations; those of a social worker's posts, of a coordinator's département.

    In the order of asking; the first to expire first with `answer_before`, which puts urgent ones first: they are to be answered sooner.
    """
    wanted = worklist.WantedOrientations(statuses=status, urgencies=urgency, requested_since=requested_since, answer_before=answer_before)
    async with runtime.database.asking() as connection:
        rows = await worklist.page(connection, caller, wanted, after=page.after, limit=page.limit)
    items, following = page_of(rows, page, wanted.place)
    return page.answer(telling.listed(caller, runtime.pseudonyms, items), following)


@router.get("/v1/orientation-counts", operation_id="count_orientations", response_model=OrientationCounts)
async def count_orientations(caller: Caller, runtime: Run) -> OrientationCounts:
    """How many of the caller's orientations are in each state; up to 1 000 each."""
    async with runtime.database.asking() as connection:
        return await worklist.counts(connection, caller)


@router.get(
    "/v1/orientations/{orientation_id}", operation_id="read_orientation", response_model=OrientationOut, responses=problems(404, 409)
)
async def read_orientation(orientation_id: Id, caller: Caller, purpose: Purpose, runtime: Run, response: Response) -> OrientationOut:
    """An orientation with the person it concerns and how to contact that person safely. The reading is audited."""
    async with runtime.database.transaction() as session:
        found = await queries.orientation(session, caller, runtime.vault, orientation_id)
        await audit(session, caller, operation="read_orientation", subject=f"orientations/{orientation_id}", purpose=purpose)
    etag(response, found.version)
    return telling.told(caller, runtime.pseudonyms, found)


@router.post(
    "/v1/orientations/{orientation_id}/accept",
    operation_id="accept_orientation",
    response_model=OrientationSummary,
    responses=problems(404, 409, 412, 428),
    openapi_extra=examples(Example("partner-95", 200, path=_OF_ORIENTATION, headers=_FIRST_VERSION)),
)
async def accept_orientation(orientation_id: Id, caller: Caller, version: IfMatch, runtime: Run, once: Once) -> Response:
    """Take the person over."""
    return await once(
        _told(caller, runtime, lambda session: orientations.accept(session, caller, orientation_id, version, _now())), status=200
    )


@router.post(
    "/v1/orientations/{orientation_id}/reject",
    operation_id="reject_orientation",
    response_model=OrientationSummary,
    responses=problems(404, 409, 412, 422, 428),
    openapi_extra=examples(
        Example("partner-95", 200, {"reason": "no_capacity"}, path=_OF_ORIENTATION, headers=_FIRST_VERSION),
        Example(
            "partner-95",
            200,
            {"reason": "other", "reason_text": "Cette personne est déjà suivie par une autre structure."},
            "Un motif qui n'est pas dans la liste",
            path=_OF_ORIENTATION,
            headers=_FIRST_VERSION,
        ),
    ),
)
async def reject_orientation(orientation_id: Id, body: RejectIn, caller: Caller, version: IfMatch, runtime: Run, once: Once) -> Response:
    """Say no, with a coded reason; in words as well for `other`. The words are kept sealed: no list and no event has them."""
    return await once(
        _told(caller, runtime, lambda session: orientations.reject(session, caller, runtime.vault, orientation_id, version, body, _now())),
        status=200,
    )


@router.post(
    "/v1/orientations/{orientation_id}/start",
    operation_id="start_orientation",
    response_model=OrientationSummary,
    responses=problems(404, 409, 412, 428),
    openapi_extra=examples(Example("partner-95", 200, path=_OF_ORIENTATION, headers=_FIRST_VERSION)),
)
async def start_orientation(orientation_id: Id, caller: Caller, version: IfMatch, runtime: Run, once: Once) -> Response:
    """The support has begun."""
    return await once(
        _told(caller, runtime, lambda session: orientations.start(session, caller, orientation_id, version, _now())), status=200
    )


@router.post(
    "/v1/orientations/{orientation_id}/complete",
    operation_id="complete_orientation",
    response_model=OrientationSummary,
    responses=problems(404, 409, 412, 422, 428),
    openapi_extra=examples(Example("partner-95", 200, {"outcome": "supported"}, path=_OF_ORIENTATION, headers=_FIRST_VERSION)),
)
async def complete_orientation(
    orientation_id: Id, body: CompleteIn, caller: Caller, version: IfMatch, runtime: Run, once: Once
) -> Response:
    """The support has ended, with its outcome."""
    return await once(
        _told(caller, runtime, lambda session: orientations.complete(session, caller, orientation_id, version, body, _now())), status=200
    )


@router.post(
    "/v1/orientations/{orientation_id}/fail",
    operation_id="fail_orientation",
    response_model=OrientationSummary,
    responses=problems(404, 409, 412, 422, 428),
    openapi_extra=examples(Example("partner-95", 200, {"reason": "no_show"}, path=_OF_ORIENTATION, headers=_FIRST_VERSION)),
)
async def fail_orientation(orientation_id: Id, body: FailIn, caller: Caller, version: IfMatch, runtime: Run, once: Once) -> Response:
    """It came to nothing, with a coded reason."""
    return await once(
        _told(caller, runtime, lambda session: orientations.fail(session, caller, orientation_id, version, body, _now())), status=200
    )


@router.post(
    "/v1/orientations/{orientation_id}/cancel",
    operation_id="cancel_orientation",
    response_model=OrientationSummary,
    responses=problems(404, 409, 412, 422, 428),
    openapi_extra=examples(Example("iscg-95", 200, {"reason": "other_solution"}, path=_OF_ORIENTATION, headers=_FIRST_VERSION)),
)
async def cancel_orientation(orientation_id: Id, body: CancelIn, caller: Caller, version: IfMatch, runtime: Run, once: Once) -> Response:
    """Take it back, answered or not, with a coded reason. The partner is told, and reads the person no longer."""
    return await once(
        _told(caller, runtime, lambda session: orientations.cancel(session, caller, orientation_id, version, body, _now())), status=200
    )


@router.post(
    "/v1/orientations/{orientation_id}/links",
    status_code=201,
    operation_id="make_orientation_link",
    response_model=LinkOut,
    responses=problems(404, 409),
    openapi_extra=examples(Example("iscg-95", 201, path=_OF_ORIENTATION)),
)
async def make_orientation_link(orientation_id: Id, caller: Caller, runtime: Run, once: Once) -> Response:
    """A signed link by which a partner without account answers, once; the one made before no longer holds."""
    links = Links.of(runtime)
    stored = await once(lambda session: asking.make_link(session, caller, links, orientation_id, _now()), status=201)
    # what is kept for a repeated request holds no token: it is made anew
    made = LinkMade.model_validate_json(bytes(stored.body))
    answer = LinkOut(**made.model_dump(), url=links.url(made.id))
    headers = {name: value for name, value in stored.headers.items() if name.lower() != "content-length"}
    return Response(answer.model_dump_json(), stored.status_code, headers)
