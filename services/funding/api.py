"""Funding over HTTP: funders, plans and their contributions, agreements."""

from typing import Annotated

from fastapi import APIRouter, Query, Response

from libs.chassis import streams
from libs.chassis.etag import IfMatch, etag
from libs.chassis.idempotency import Once
from libs.chassis.pagination import Page, page_of
from libs.chassis.problems import problems
from libs.chassis.runtime import Db
from libs.chassis.security import Caller
from libs.chassis.strict import QueryInt
from libs.contracts.types import DepartementCode, Id
from libs.contracts.vocabularies import FunderKind
from services.funding import commands, queries
from services.funding.examples import EXAMPLES
from services.funding.schemas import (
    AgreementIn,
    AgreementList,
    AgreementOut,
    AmountIn,
    BudgetChange,
    ContributionIn,
    FunderIn,
    FunderList,
    FunderOut,
    MoveIn,
    PlanIn,
    PlanList,
    PlanOut,
)

POSITION = "Stream-Position"
OfDepartement = Annotated[DepartementCode | None, Query(description="Of that département")]
OfPost = Annotated[Id | None, Query(description="Of that post")]

router = APIRouter()


@router.post(
    "/v1/funders",
    status_code=201,
    operation_id="register_funder",
    tags=["Financeurs"],
    openapi_extra=EXAMPLES["register_funder"],
    response_model=FunderOut,
    responses=problems(404, 409, 422),
)
async def register_funder(body: FunderIn, caller: Caller, once: Once) -> Response:
    """Register a funder of a département, or (administrators) one that works everywhere."""
    return await once(lambda session: commands.register_funder(session, caller, body), status=201, location="/v1/funders/{id}")


@router.get(
    "/v1/funders", operation_id="list_funders", tags=["Financeurs"], openapi_extra=EXAMPLES["list_funders"], response_model=FunderList
)
async def list_funders(
    caller: Caller, database: Db, page: Page, response: Response, departement: OfDepartement = None, kind: FunderKind | None = None
) -> FunderList:
    """Funders of the caller's départements, and those that work everywhere."""
    async with database.transaction(repeatable_read=True) as session:
        response.headers[POSITION] = await streams.position(session)
        rows = await queries.funders(session, caller, departement=departement, kind=kind, after=page.after, limit=page.limit)
    items, next = page_of(rows, page, lambda row: (row.id,))
    page.link(response, next)
    return FunderList(items=items, next=next)


@router.get(
    "/v1/funders/{funder_id}",
    operation_id="read_funder",
    tags=["Financeurs"],
    openapi_extra=EXAMPLES["read_funder"],
    response_model=FunderOut,
    responses=problems(404),
)
async def read_funder(funder_id: Id, caller: Caller, database: Db, response: Response) -> FunderOut:
    """One funder."""
    async with database.transaction() as session:
        found = await queries.funder(session, caller, funder_id)
    etag(response, found.version)
    return found


@router.post(
    "/v1/plans",
    status_code=201,
    operation_id="open_plan",
    tags=["Plans de financement"],
    openapi_extra=EXAMPLES["open_plan"],
    response_model=PlanOut,
    responses=problems(404, 409, 422),
)
async def open_plan(body: PlanIn, caller: Caller, once: Once) -> Response:
    """Open the plan of a post for a year. A post that was opened seconds ago may not be known yet: 409 `post-not-yet-known`, to be tried again."""
    return await once(lambda session: commands.open_plan(session, caller, body), status=201, location="/v1/plans/{id}")


@router.get(
    "/v1/plans", operation_id="list_plans", tags=["Plans de financement"], openapi_extra=EXAMPLES["list_plans"], response_model=PlanList
)
async def list_plans(
    caller: Caller,
    database: Db,
    page: Page,
    response: Response,
    departement: OfDepartement = None,
    post_id: OfPost = None,
    year: Annotated[QueryInt | None, Query(ge=1990, le=2100, description="Of that year")] = None,
) -> PlanList:
    """Plans of the caller's départements; for an employer, those of its posts."""
    async with database.transaction(repeatable_read=True) as session:
        response.headers[POSITION] = await streams.position(session)
        rows = await queries.plans(session, caller, departement=departement, post_id=post_id, year=year, after=page.after, limit=page.limit)
    items, next = page_of(rows, page, lambda row: (row.id,))
    page.link(response, next)
    return PlanList(items=items, next=next)


@router.get(
    "/v1/plans/{plan_id}",
    operation_id="read_plan",
    tags=["Plans de financement"],
    openapi_extra=EXAMPLES["read_plan"],
    response_model=PlanOut,
    responses=problems(404),
)
async def read_plan(plan_id: Id, caller: Caller, database: Db, response: Response) -> PlanOut:
    """One plan: budget, contributions by firmness, gap, cost per situation."""
    async with database.transaction(repeatable_read=True) as session:
        found = await queries.plan(session, caller, plan_id)
    etag(response, found.version)
    return found


@router.put(
    "/v1/plans/{plan_id}/budget",
    operation_id="change_budget",
    tags=["Plans de financement"],
    openapi_extra=EXAMPLES["change_budget"],
    response_model=PlanOut,
    responses=problems(404, 409, 412, 422, 428),
)
async def change_budget(plan_id: Id, body: BudgetChange, caller: Caller, version: IfMatch, database: Db, response: Response) -> PlanOut:
    """Replace the budget of a plan."""
    async with database.transaction() as session:
        changed = await commands.change_budget(session, caller, plan_id, version, body)
    etag(response, changed.version)
    return changed


@router.post(
    "/v1/plans/{plan_id}/contributions",
    status_code=201,
    operation_id="add_contribution",
    tags=["Plans de financement"],
    openapi_extra=EXAMPLES["add_contribution"],
    response_model=PlanOut,
    responses=problems(404, 409, 422),
)
async def add_contribution(plan_id: Id, body: ContributionIn, caller: Caller, once: Once) -> Response:
    """Write a funder's contribution into the plan. Answers the plan after it."""
    return await once(lambda session: commands.add_contribution(session, caller, plan_id, body), status=201, location="/v1/plans/{id}")


@router.patch(
    "/v1/plans/{plan_id}/contributions/{contribution_id}",
    operation_id="change_contribution",
    tags=["Plans de financement"],
    openapi_extra=EXAMPLES["change_contribution"],
    response_model=PlanOut,
    responses=problems(404, 409, 412, 422, 428),
)
async def change_contribution(
    plan_id: Id, contribution_id: Id, body: AmountIn, caller: Caller, version: IfMatch, database: Db, response: Response
) -> PlanOut:
    """Change the amount while nothing is decided. `If-Match`: the plan's version."""
    async with database.transaction() as session:
        changed = await commands.change_contribution(session, caller, plan_id, contribution_id, version, body)
    etag(response, changed.version)
    return changed


@router.post(
    "/v1/plans/{plan_id}/contributions/{contribution_id}/moves",
    operation_id="move_contribution",
    tags=["Plans de financement"],
    openapi_extra=EXAMPLES["move_contribution"],
    response_model=PlanOut,
    responses=problems(404, 409, 412, 422, 428),
)
async def move_contribution(
    plan_id: Id, contribution_id: Id, body: MoveIn, caller: Caller, version: IfMatch, database: Db, response: Response
) -> PlanOut:
    """Request, grant, refuse, agree or pay. `If-Match`: the plan's version, so that a repeated move is not made twice."""
    async with database.transaction() as session:
        changed = await commands.move_contribution(session, caller, plan_id, contribution_id, version, body)
    etag(response, changed.version)
    return changed


@router.post(
    "/v1/agreements",
    status_code=201,
    operation_id="sign_agreement",
    tags=["Conventions"],
    openapi_extra=EXAMPLES["sign_agreement"],
    response_model=AgreementOut,
    responses=problems(404, 409, 422),
)
async def sign_agreement(body: AgreementIn, caller: Caller, once: Once) -> Response:
    """Record a signed agreement: its posts, its years, the channels its posts accept, its target delays."""
    return await once(lambda session: commands.sign_agreement(session, caller, body), status=201, location="/v1/agreements/{id}")


@router.get(
    "/v1/agreements",
    operation_id="list_agreements",
    tags=["Conventions"],
    openapi_extra=EXAMPLES["list_agreements"],
    response_model=AgreementList,
)
async def list_agreements(
    caller: Caller, database: Db, page: Page, response: Response, departement: OfDepartement = None, post_id: OfPost = None
) -> AgreementList:
    """Agreements of the caller's départements; for an employer, those of its posts."""
    async with database.transaction(repeatable_read=True) as session:
        response.headers[POSITION] = await streams.position(session)
        rows = await queries.agreements(session, caller, departement=departement, post_id=post_id, after=page.after, limit=page.limit)
    items, next = page_of(rows, page, lambda row: (row.id,))
    page.link(response, next)
    return AgreementList(items=items, next=next)


@router.get(
    "/v1/agreements/{agreement_id}",
    operation_id="read_agreement",
    tags=["Conventions"],
    openapi_extra=EXAMPLES["read_agreement"],
    response_model=AgreementOut,
    responses=problems(404),
)
async def read_agreement(agreement_id: Id, caller: Caller, database: Db, response: Response) -> AgreementOut:
    """One agreement."""
    async with database.transaction() as session:
        found = await queries.agreement(session, caller, agreement_id)
    etag(response, found.version)
    return found
