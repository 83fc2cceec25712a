"""Posts over HTTP: open, cover, move, close, read."""

from typing import Annotated

from fastapi import APIRouter, Query, Response

from libs.chassis import streams
from libs.chassis.etag import IfMatch, etag
from libs.chassis.idempotency import Once
from libs.chassis.pagination import Page, page_of
from libs.chassis.problems import problems
from libs.chassis.runtime import Db
from libs.chassis.security import Caller
from libs.contracts.types import CommuneCode, Id
from libs.contracts.vocabularies import PostForce
from services.partners import absences, posts, queries
from services.partners.api import POSITION, AlsoClosed, OfDepartement
from services.partners.domain import Move, PostState
from services.partners.examples import EXAMPLES
from services.partners.schemas import CoverageIn, PostDetail, PostIn, PostLabel, PostList, PostOut, SuspendIn

router = APIRouter(tags=["Postes"])


@router.post(
    "/v1/posts",
    status_code=201,
    operation_id="open_post",
    openapi_extra=EXAMPLES["open_post"],
    response_model=PostOut,
    responses=problems(404, 409, 422),
)
async def open_post(body: PostIn, caller: Caller, once: Once) -> Response:
    """Open a post that covers units, and communes besides. Another employer, force, working time or channels make another post."""
    return await once(lambda session: posts.open_post(session, caller, body), status=201, location="/v1/posts/{id}")


@router.get("/v1/posts", operation_id="list_posts", openapi_extra=EXAMPLES["list_posts"], response_model=PostList)
async def list_posts(
    caller: Caller,
    database: Db,
    page: Page,
    response: Response,
    departement: OfDepartement = None,
    commune: Annotated[CommuneCode | None, Query(description="Covering that commune, by a unit or directly")] = None,
    unit: Annotated[Id | None, Query(description="Covering that unit")] = None,
    force: PostForce | None = None,
    state: PostState | None = None,
    employer: Annotated[Id | None, Query(description="Of that employer")] = None,
    closed: AlsoClosed = False,
) -> PostList:
    """Posts, in the order of their ids."""
    async with database.transaction(repeatable_read=True) as session:
        response.headers[POSITION] = await streams.position(session)
        rows = await queries.posts(
            session,
            departement=departement,
            commune=commune,
            unit=unit,
            force=force,
            state=state,
            employer=employer,
            closed=closed,
            after=page.after,
            limit=page.limit,
        )
    items, next = page_of(rows, page, lambda row: (row.id,))
    page.link(response, next)
    return PostList(items=items, next=next)


@router.get(
    "/v1/posts/{post_id}", operation_id="read_post", openapi_extra=EXAMPLES["read_post"], response_model=PostDetail, responses=problems(404)
)
async def read_post(post_id: Id, caller: Caller, database: Db, response: Response) -> PostDetail:
    """One post; its funding, year by year, for those who pay, employ or steer."""
    async with database.transaction() as session:
        found = await queries.post(session, caller, post_id)
    etag(response, found.version)
    return found


@router.patch(
    "/v1/posts/{post_id}",
    operation_id="rename_post",
    openapi_extra=EXAMPLES["rename_post"],
    response_model=PostOut,
    responses=problems(404, 409, 412, 422, 428),
)
async def rename_post(post_id: Id, body: PostLabel, caller: Caller, version: IfMatch, database: Db, response: Response) -> PostOut:
    """Change the name a post goes by."""
    async with database.transaction() as session:
        changed = await posts.rename_post(session, caller, post_id, version, body)
    etag(response, changed.version)
    return changed


@router.put(
    "/v1/posts/{post_id}/coverage",
    operation_id="change_coverage",
    openapi_extra=EXAMPLES["change_coverage"],
    response_model=PostOut,
    responses=problems(404, 409, 412, 422, 428),
)
async def change_coverage(post_id: Id, body: CoverageIn, caller: Caller, version: IfMatch, database: Db, response: Response) -> PostOut:
    """Replace the units and communes a post covers."""
    async with database.transaction() as session:
        changed = await posts.change_coverage(session, caller, post_id, version, body)
    etag(response, changed.version)
    return changed


@router.post(
    "/v1/posts/{post_id}/suspend",
    operation_id="suspend_post",
    openapi_extra=EXAMPLES["suspend_post"],
    response_model=PostOut,
    responses=problems(404, 409, 422),
)
async def suspend_post(post_id: Id, caller: Caller, once: Once, body: SuspendIn | None = None) -> Response:
    """The post receives nothing for a while (long absence, agreement in suspense); another may stand in. Said again, it replaces what was said."""
    return await once(lambda session: absences.suspend(session, caller, post_id, body or SuspendIn()), status=200)


@router.post(
    "/v1/posts/{post_id}/fill",
    operation_id="fill_post",
    openapi_extra=EXAMPLES["fill_post"],
    response_model=PostOut,
    responses=problems(404, 409),
)
async def fill_post(post_id: Id, caller: Caller, once: Once) -> Response:
    """Somebody holds the post; a suspension ends."""
    return await once(lambda session: posts.move_post(session, caller, post_id, Move.FILL), status=200)


@router.post(
    "/v1/posts/{post_id}/vacate",
    operation_id="vacate_post",
    openapi_extra=EXAMPLES["vacate_post"],
    response_model=PostOut,
    responses=problems(404, 409),
)
async def vacate_post(post_id: Id, caller: Caller, once: Once) -> Response:
    """Nobody holds the post any more; a suspension ends."""
    return await once(lambda session: posts.move_post(session, caller, post_id, Move.VACATE), status=200)


@router.post(
    "/v1/posts/{post_id}/close",
    operation_id="close_post",
    openapi_extra=EXAMPLES["close_post"],
    response_model=PostOut,
    responses=problems(404, 409),
)
async def close_post(post_id: Id, caller: Caller, once: Once) -> Response:
    """The post ends, for good."""
    return await once(lambda session: posts.move_post(session, caller, post_id, Move.CLOSE), status=200)
