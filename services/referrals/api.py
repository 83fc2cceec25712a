"""Referrals over HTTP: the police posts and reads a status; the social worker and the coordinator work. Orientations are in orientations/api.py."""

from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from libs.chassis.audit import audit
from libs.chassis.docs import Example, examples
from libs.chassis.etag import IfMatch, etag
from libs.chassis.gathering import Gathering
from libs.chassis.idempotency import Once, response_of
from libs.chassis.pagination import Page, page_of
from libs.chassis.problems import problems
from libs.chassis.runtime import Db, Run, Runtime
from libs.chassis.security import Caller, Principal, Purpose
from libs.chassis.settings import secret_bytes
from libs.chassis.strict import QueryBool
from libs.chassis.telemetry import Trace, current_trace
from libs.contracts.demonstration import POST_SARCELLES, REFERRAL, UNIT_CERGY, VICTIM
from libs.contracts.types import CommuneCode, Id, Instant
from libs.contracts.vocabularies import ReferralStatus, Theme, Urgency
from services.referrals import queries
from services.referrals.delays.due import Delays
from services.referrals.domain import PoliceStatus
from services.referrals.orientations.links import Links
from services.referrals.receiving.intake import Intakes
from services.referrals.receiving.schemas import ReferralIn, ReferralReceivedOut, RoutingOut
from services.referrals.receiving.sealing import Intake, request_digest, sealed
from services.referrals.working import followup, work
from services.referrals.working.schemas import AssignIn, CloseIn, ContactIn, ContactMadeOut, DeclineIn, MovedOut, ReferralOut
from services.referrals.worklists import referrals as worklist
from services.referrals.worklists.schemas import (
    ReferenceSearchIn,
    ReferralCounts,
    ReferralList,
    ReferralsFound,
    StatusesFound,
    StatusList,
    StatusOut,
)

router = APIRouter()
_OF_REFERRAL = {"referral_id": REFERRAL}
_FIRST_VERSION = {"If-Match": '"1"'}

REFERRAL_EXAMPLE = {
    "external_reference": "95-2026-0117",
    "unit_id": UNIT_CERGY,
    "commune": "95127",
    "occurred_at": "2026-11-22T21:40:00+01:00",
    "channel": "intervention",
    "urgency": "priority",
    "themes": ["couple_violence", "child_in_danger"],
    "principal_theme": "couple_violence",
    "penal": False,
    "narrative": "Récit fictif : dispute entendue par les voisins, une enfant présente.",
    "danger": True,
    "children_present": 1,
    "persons": [
        {
            "role": "victim",
            "sex": "female",
            "identity": {"family_name": "Exemple", "given_name": "Camille", "birth_on": "1991-04-12"},
            "contact": {"phones": ["+33639980001"]},
            "safe_contact": {
                "modes": ["phone"],
                "windows": [{"days": [1, 2, 3, 4, 5], "begins": "09:00", "ends": "16:00"}],
                "voicemail_allowed": False,
                "text_allowed": False,
                "read_by_others": True,
                "code_word": "bibliothèque",
            },
            "agreement": "accepted",
        },
        {"role": "alleged_perpetrator", "sex": "male", "approximate_age": 35, "agreement": "not_asked"},
    ],
}


def _now() -> datetime:
    return datetime.now(UTC)


# The police


def desk(runtime: Runtime) -> Gathering[Intake]:
    """Where referrals are received: those that wait at the same moment, by one transaction."""

    def make() -> Gathering[Intake]:
        intakes = Intakes(runtime.vault, runtime.signer, Delays.of(runtime))
        return Gathering(runtime.database, intakes.receive_now, location="/v1/referral-statuses/{id}")

    return runtime.gathering("receive_referral", make)


def intake_of(runtime: Runtime, caller: Principal, request: ReferralIn, content: bytes, trace: Trace) -> Intake:
    """A request as it is received at the desk. `content`: its bytes, as they were sent."""
    search_key = secret_bytes(runtime.settings.search_key)
    return sealed(
        runtime.vault, search_key, caller.client_id, request, request_digest(content), departements=caller.departements(), trace=trace
    )


@router.post(
    "/v1/referrals",
    status_code=201,
    operation_id="receive_referral",
    response_model=ReferralReceivedOut,
    responses=problems(409, 422),
    tags=["Police"],
    openapi_extra=examples(Example("police-95", 201, REFERRAL_EXAMPLE, "Une intervention pour violences dans le couple")),
)
async def receive_referral(body: ReferralIn, request: Request, caller: Caller, runtime: Run, once: Once) -> Response:
    """Receive a referral, route it to a post, and give a signed receipt. A referral that finds no post is kept and shown to the coordinator."""
    done = await desk(runtime)(once.claim, intake_of(runtime, caller, body, await request.body(), current_trace()))
    return response_of(done.stored, replayed=done.replayed)


@router.get("/v1/referral-statuses", operation_id="list_referral_statuses", response_model=StatusList, tags=["Police"])
async def list_referral_statuses(
    caller: Caller,
    database: Db,
    page: Page,
    status: Annotated[list[PoliceStatus], Query(max_length=5, description="That far")] = [],  # noqa: B006 - FastAPI copies it
    unit: Annotated[Id | None, Query(description="Referred by that unit, as it was received")] = None,
    received_since: Instant | None = None,
) -> Response:
    """The caller's own referrals, oldest first: how far each is, never what was said, nor to whom the person was oriented."""
    async with database.asking() as connection:
        rows = await worklist.statuses(
            connection, caller, wanted=status, unit_id=unit, received_since=received_since, after=page.after, limit=page.limit
        )
    items, following = page_of(rows, page, lambda row: (row["received_at"], row["id"]))
    return page.answer(items, following)


@router.post(
    "/v1/referral-status-searches",
    operation_id="search_referral_statuses",
    response_model=StatusesFound,
    responses=problems(422),
    tags=["Police"],
    openapi_extra=examples(Example("police-95", 200, {"external_reference": "95-2026-0117"}, "Par sa propre référence")),
)
async def search_referral_statuses(body: ReferenceSearchIn, caller: Caller, database: Db) -> StatusesFound:
    """The caller's own referrals that carry its reference: one for each unit at most. A reference may be personal, so it travels in the body."""
    async with database.transaction() as session:
        return StatusesFound(items=await queries.statuses_of(session, caller, body.external_reference, body.unit_id))


@router.get(
    "/v1/referral-statuses/{referral_id}",
    operation_id="read_referral_status",
    response_model=StatusOut,
    responses=problems(404),
    tags=["Police"],
)
async def read_referral_status(referral_id: Id, caller: Caller, database: Db) -> StatusOut:
    """How far one of the caller's own referrals is."""
    async with database.transaction() as session:
        return await queries.status(session, caller, referral_id)


# The social worker and the coordinator


@router.get("/v1/referrals", operation_id="list_referrals", response_model=ReferralList, tags=["Saisines"])
async def list_referrals(
    caller: Caller,
    database: Db,
    page: Page,
    status: Annotated[list[ReferralStatus], Query(max_length=6, description="In one of these states")] = [],  # noqa: B006 - FastAPI copies it
    urgency: Urgency | None = None,
    unit: Annotated[Id | None, Query(description="Referred by that unit")] = None,
    post: Annotated[Id | None, Query(description="At that post")] = None,
    commune: Annotated[CommuneCode | None, Query(description="In that commune")] = None,
    theme: Annotated[Theme | None, Query(description="With that principal theme")] = None,
    overdue: Annotated[QueryBool, Query(description="Past their due time without a contact")] = False,
    unrouted: Annotated[QueryBool, Query(description="Without a post: the same as status=unrouted")] = False,
    post_absent: Annotated[QueryBool, Query(description="Open, at a post that is suspended, vacant or closed")] = False,
    given_up: Annotated[
        QueryBool, Query(description="Closed, and a partner gave up or its service closed since, in the last 30 days")
    ] = False,
    received_since: Instant | None = None,
    changed_since: Instant | None = None,
) -> Response:
    """The worklist of the caller's posts or département; no personal content.

    What is open (each `status` asked for is, or `overdue`, or `post_absent`) in the order in which it is worked: immediate urgency or danger first, who is
    still to be called before the others, earliest due first. With closed ones among it, or without `status`: oldest reception first; with `changed_since`:
    oldest change first.
    """
    wanted = worklist.Wanted(
        statuses=[*status, *([ReferralStatus.UNROUTED] if unrouted else [])],
        urgency=urgency,
        unit_id=unit,
        post_id=post,
        commune=commune,
        theme=theme,
        overdue=overdue,
        post_absent=post_absent,
        given_up=given_up,
        received_since=received_since,
        changed_since=changed_since,
    )
    async with database.asking() as connection:
        position, rows = await worklist.page(connection, caller, wanted, after=page.after, limit=page.limit)
    items, following = page_of(rows, page, wanted.place)
    return page.answer(items, following, {"Stream-Position": position})


@router.post(
    "/v1/referral-searches",
    operation_id="search_referrals",
    response_model=ReferralsFound,
    responses=problems(422),
    tags=["Saisines"],
    openapi_extra=examples(Example("iscg-95", 200, {"external_reference": "95-2026-0117"}, "Par la référence de la police")),
)
async def search_referrals(body: ReferenceSearchIn, caller: Caller, database: Db) -> ReferralsFound:
    """The referrals of the caller's posts or département that carry the police's reference. It may be personal, so it travels in the body."""
    async with database.reading() as session:
        return ReferralsFound(items=await queries.referenced(session, caller, body.external_reference, body.unit_id))


@router.get("/v1/referral-counts", operation_id="count_referrals", response_model=ReferralCounts, tags=["Saisines"])
async def count_referrals(caller: Caller, database: Db) -> ReferralCounts:
    """How many referrals of the caller's posts or département are in each state, and how many are overdue; up to 1 000 each."""
    async with database.asking() as connection:
        return await worklist.counts(connection, caller)


@router.get(
    "/v1/referrals/{referral_id}", operation_id="read_referral", response_model=ReferralOut, responses=problems(404), tags=["Saisines"]
)
async def read_referral(referral_id: Id, caller: Caller, purpose: Purpose, runtime: Run, response: Response) -> ReferralOut:
    """Everything of a referral. The reading is written to the audit log with its purpose."""
    async with runtime.database.transaction() as session:
        found = await queries.referral(session, caller, runtime.vault, secret_bytes(runtime.settings.search_key), referral_id)
        await audit(session, caller, operation="read_referral", subject=f"referrals/{referral_id}", purpose=purpose)
    etag(response, found.version)
    return found


@router.get(
    "/v1/referrals/{referral_id}/routing",
    operation_id="read_routing",
    response_model=RoutingOut,
    responses=problems(404),
    tags=["Saisines"],
)
async def read_routing(referral_id: Id, caller: Caller, database: Db) -> RoutingOut:
    """Why the referral is where it is: the posts that cover its unit or commune, and what spoke for or against each."""
    async with database.transaction() as session:
        return await queries.routing(session, caller, referral_id)


@router.post(
    "/v1/referrals/{referral_id}/assign",
    operation_id="assign_referral",
    response_model=MovedOut,
    responses=problems(404, 409, 412, 422, 428),
    tags=["Saisines"],
    openapi_extra=examples(Example("coordinator-95", 200, {"post_id": POST_SARCELLES}, path=_OF_REFERRAL, headers=_FIRST_VERSION)),
)
async def assign_referral(referral_id: Id, body: AssignIn, caller: Caller, version: IfMatch, runtime: Run, once: Once) -> Response:
    """Give a referral to a post by hand."""
    return await once(lambda session: work.assign(session, caller, Delays.of(runtime), referral_id, version, body, _now()), status=200)


@router.post(
    "/v1/referrals/{referral_id}/accept",
    operation_id="accept_referral",
    response_model=MovedOut,
    responses=problems(404, 409, 412, 428),
    tags=["Saisines"],
    openapi_extra=examples(Example("iscg-95", 200, path=_OF_REFERRAL, headers=_FIRST_VERSION)),
)
async def accept_referral(referral_id: Id, caller: Caller, version: IfMatch, once: Once) -> Response:
    """Take a referral over."""
    return await once(lambda session: work.accept(session, caller, referral_id, version, _now()), status=200)


@router.post(
    "/v1/referrals/{referral_id}/decline",
    operation_id="decline_referral",
    response_model=MovedOut,
    responses=problems(404, 409, 412, 422, 428),
    tags=["Saisines"],
    openapi_extra=examples(Example("iscg-95", 200, {"reason": "overloaded"}, path=_OF_REFERRAL, headers=_FIRST_VERSION)),
)
async def decline_referral(referral_id: Id, body: DeclineIn, caller: Caller, version: IfMatch, once: Once) -> Response:
    """Give a referral back: another post that can take it is tried first, within seconds; else the coordinator assigns it. The coordinator is told in any case."""
    return await once(lambda session: work.decline(session, caller, referral_id, version, body, _now()), status=200)


@router.post(
    "/v1/referrals/{referral_id}/contacts",
    status_code=201,
    operation_id="attempt_contact",
    response_model=ContactMadeOut,
    responses=problems(404, 409, 422),
    tags=["Saisines"],
    openapi_extra=examples(
        Example(
            "iscg-95",
            201,
            {"person_id": VICTIM, "mode": "phone", "result": "reached", "attempted_at": "2026-11-23T10:05:00+01:00"},
            path=_OF_REFERRAL,
        )
    ),
)
async def attempt_contact(referral_id: Id, body: ContactIn, caller: Caller, runtime: Run, once: Once) -> Response:
    """Note an attempt to reach a person. Refused for who refused to be contacted, and, without a reason, against the safe-contact rules."""
    return await once(
        lambda session: followup.contact(session, caller, runtime.vault, Links.of(runtime), referral_id, body, _now()), status=201
    )


@router.post(
    "/v1/referrals/{referral_id}/close",
    operation_id="close_referral",
    response_model=MovedOut,
    responses=problems(404, 409, 412, 422, 428),
    tags=["Saisines"],
    openapi_extra=examples(Example("iscg-95", 200, {"reason": "oriented"}, path=_OF_REFERRAL, headers=_FIRST_VERSION)),
)
async def close_referral(referral_id: Id, body: CloseIn, caller: Caller, version: IfMatch, once: Once) -> Response:
    """End a referral, with a coded reason."""
    return await once(lambda session: work.close(session, caller, referral_id, version, body, _now()), status=200)


@router.post(
    "/v1/referrals/{referral_id}/reopen",
    operation_id="reopen_referral",
    response_model=MovedOut,
    responses=problems(404, 409, 412, 428),
    tags=["Saisines"],
    openapi_extra=examples(Example("iscg-95", 200, path=_OF_REFERRAL, headers=_FIRST_VERSION)),
)
async def reopen_referral(referral_id: Id, caller: Caller, version: IfMatch, runtime: Run, once: Once) -> Response:
    """Take a closed referral up again."""
    return await once(lambda session: work.reopen(session, caller, Delays.of(runtime), referral_id, version, _now()), status=200)
