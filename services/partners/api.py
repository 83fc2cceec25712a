"""The directory over HTTP: organisations, services, units, communes, coverage. Posts are in posts_api.py, imports in imports_api.py.

Everyone with a token may read. Lists give what is open, unless `closed=true`; they say which stream position they reflect, so that a
follower lists, then follows.
"""

from typing import Annotated

from fastapi import APIRouter, Query, Response

from libs.chassis import streams
from libs.chassis.etag import IfMatch, etag
from libs.chassis.idempotency import Once
from libs.chassis.pagination import Page, page_of
from libs.chassis.problems import problems
from libs.chassis.runtime import Db
from libs.chassis.security import Caller
from libs.chassis.strict import QueryBool
from libs.contracts.types import CommuneCode, DepartementCode, Id
from libs.contracts.vocabularies import Force, Need, PartnerKind, UnitKind
from services.partners import organizations, queries, services, units
from services.partners.examples import EXAMPLES
from services.partners.schemas import (
    CapacityIn,
    CommuneList,
    CommuneOut,
    CoverageList,
    OrganizationChange,
    OrganizationIn,
    OrganizationList,
    OrganizationOut,
    Postcode,
    ServiceChange,
    ServiceDetail,
    ServiceIn,
    ServiceList,
    ServiceOut,
    Siret,
    UnitChange,
    UnitIn,
    UnitList,
    UnitOut,
)

router = APIRouter()

AlsoClosed = Annotated[QueryBool, Query(description="Also those that are closed")]
OfDepartement = Annotated[DepartementCode | None, Query(description="Of that département")]
POSITION = "Stream-Position"


# Organisations


@router.post(
    "/v1/organizations",
    status_code=201,
    operation_id="register_organization",
    openapi_extra=EXAMPLES["register_organization"],
    response_model=OrganizationOut,
    responses=problems(409, 422),
    tags=["Organisations"],
)
async def register_organization(body: OrganizationIn, caller: Caller, once: Once) -> Response:
    """Register an organisation by its SIRET. The same `id` and content may be sent again: it stays one organisation."""
    return await once(
        lambda session: organizations.register_organization(session, caller, body), status=201, location="/v1/organizations/{id}"
    )


@router.get(
    "/v1/organizations",
    operation_id="list_organizations",
    openapi_extra=EXAMPLES["list_organizations"],
    response_model=OrganizationList,
    tags=["Organisations"],
)
async def list_organizations(
    caller: Caller,
    database: Db,
    page: Page,
    response: Response,
    departement: OfDepartement = None,
    kind: PartnerKind | None = None,
    siret: Siret | None = None,
    closed: AlsoClosed = False,
) -> OrganizationList:
    """Organisations, in the order of their ids."""
    async with database.transaction(repeatable_read=True) as session:
        response.headers[POSITION] = await streams.position(session)
        rows = await queries.organizations(
            session, departement=departement, kind=kind, siret=siret, closed=closed, after=page.after, limit=page.limit
        )
    items, next = page_of(rows, page, lambda row: (row.id,))
    page.link(response, next)
    return OrganizationList(items=items, next=next)


@router.get(
    "/v1/organizations/{organization_id}",
    operation_id="read_organization",
    openapi_extra=EXAMPLES["read_organization"],
    response_model=OrganizationOut,
    responses=problems(404),
    tags=["Organisations"],
)
async def read_organization(organization_id: Id, caller: Caller, database: Db, response: Response) -> OrganizationOut:
    """One organisation."""
    async with database.transaction() as session:
        found = await queries.organization(session, organization_id)
    etag(response, found.version)
    return found


@router.put(
    "/v1/organizations/{organization_id}",
    operation_id="change_organization",
    openapi_extra=EXAMPLES["change_organization"],
    response_model=OrganizationOut,
    responses=problems(404, 409, 412, 422, 428),
    tags=["Organisations"],
)
async def change_organization(
    organization_id: Id, body: OrganizationChange, caller: Caller, version: IfMatch, database: Db, response: Response
) -> OrganizationOut:
    """Replace what is known of an organisation."""
    async with database.transaction() as session:
        changed = await organizations.change_organization(session, caller, organization_id, version, body)
    etag(response, changed.version)
    return changed


@router.post(
    "/v1/organizations/{organization_id}/close",
    operation_id="close_organization",
    openapi_extra=EXAMPLES["close_organization"],
    response_model=OrganizationOut,
    responses=problems(404, 409),
    tags=["Organisations"],
)
async def close_organization(organization_id: Id, caller: Caller, once: Once) -> Response:
    """Close an organisation whose services are closed and that employs no post."""
    return await once(lambda session: organizations.close_organization(session, caller, organization_id), status=200)


# Services


@router.post(
    "/v1/services",
    status_code=201,
    operation_id="register_service",
    openapi_extra=EXAMPLES["register_service"],
    response_model=ServiceOut,
    responses=problems(404, 409, 422),
    tags=["Services"],
)
async def register_service(body: ServiceIn, caller: Caller, once: Once) -> Response:
    """Register what an organisation offers: needs it answers, communes it covers, where and when it receives people."""
    return await once(lambda session: services.register_service(session, caller, body), status=201, location="/v1/services/{id}")


@router.get(
    "/v1/services", operation_id="list_services", openapi_extra=EXAMPLES["list_services"], response_model=ServiceList, tags=["Services"]
)
async def list_services(
    caller: Caller,
    database: Db,
    page: Page,
    response: Response,
    departement: OfDepartement = None,
    commune: Annotated[CommuneCode | None, Query(description="Covering that commune, by name or with its whole département")] = None,
    need: Annotated[Need | None, Query(description="Answering that need")] = None,
    kind: PartnerKind | None = None,
    organization: Annotated[Id | None, Query(description="Of that organisation")] = None,
    closed: AlsoClosed = False,
) -> ServiceList:
    """Services, in the order of their ids."""
    async with database.transaction(repeatable_read=True) as session:
        response.headers[POSITION] = await streams.position(session)
        rows = await queries.services(
            session,
            departement=departement,
            commune=commune,
            need=need,
            kind=kind,
            organization=organization,
            closed=closed,
            after=page.after,
            limit=page.limit,
        )
    items, next = page_of(rows, page, lambda row: (row.id,))
    page.link(response, next)
    return ServiceList(items=items, next=next)


@router.get(
    "/v1/services/{service_id}",
    operation_id="read_service",
    openapi_extra=EXAMPLES["read_service"],
    response_model=ServiceDetail,
    responses=problems(404),
    tags=["Services"],
)
async def read_service(service_id: Id, caller: Caller, database: Db, response: Response) -> ServiceDetail:
    """One service, and how it answered orientations over the last twelve months."""
    async with database.transaction() as session:
        found = await queries.service(session, service_id)
    etag(response, found.version)
    return found


@router.put(
    "/v1/services/{service_id}",
    operation_id="change_service",
    openapi_extra=EXAMPLES["change_service"],
    response_model=ServiceOut,
    responses=problems(404, 409, 412, 422, 428),
    tags=["Services"],
)
async def change_service(
    service_id: Id, body: ServiceChange, caller: Caller, version: IfMatch, database: Db, response: Response
) -> ServiceOut:
    """Replace what is known of a service."""
    async with database.transaction() as session:
        changed = await services.change_service(session, caller, service_id, version, body)
    etag(response, changed.version)
    return changed


@router.put(
    "/v1/services/{service_id}/capacity",
    operation_id="change_capacity",
    openapi_extra=EXAMPLES["change_capacity"],
    response_model=ServiceOut,
    responses=problems(404, 409, 412, 422, 428),
    tags=["Services"],
)
async def change_capacity(
    service_id: Id, body: CapacityIn, caller: Caller, version: IfMatch, database: Db, response: Response
) -> ServiceOut:
    """Say how many people the service can take now. Its own organisation may say so, and the coordination of its département."""
    async with database.transaction() as session:
        changed = await services.change_capacity(session, caller, service_id, version, body)
    etag(response, changed.version)
    return changed


@router.post(
    "/v1/services/{service_id}/close",
    operation_id="close_service",
    openapi_extra=EXAMPLES["close_service"],
    response_model=ServiceOut,
    responses=problems(404, 409),
    tags=["Services"],
)
async def close_service(service_id: Id, caller: Caller, once: Once) -> Response:
    """Close a service: nobody is oriented to it any more."""
    return await once(lambda session: services.close_service(session, caller, service_id), status=200)


# Units


@router.post(
    "/v1/units",
    status_code=201,
    operation_id="register_unit",
    openapi_extra=EXAMPLES["register_unit"],
    response_model=UnitOut,
    responses=problems(409, 422),
    tags=["Unités"],
)
async def register_unit(body: UnitIn, caller: Caller, once: Once) -> Response:
    """Register a police or gendarmerie unit that the jurisdiction file does not have (a company, a groupement)."""
    return await once(lambda session: units.register_unit(session, caller, body), status=201, location="/v1/units/{id}")


@router.get("/v1/units", operation_id="list_units", openapi_extra=EXAMPLES["list_units"], response_model=UnitList, tags=["Unités"])
async def list_units(
    caller: Caller,
    database: Db,
    page: Page,
    response: Response,
    departement: OfDepartement = None,
    commune: Annotated[CommuneCode | None, Query(description="Competent in that commune")] = None,
    force: Force | None = None,
    kind: UnitKind | None = None,
    closed: AlsoClosed = False,
) -> UnitList:
    """Units, in the order of their ids."""
    async with database.transaction(repeatable_read=True) as session:
        response.headers[POSITION] = await streams.position(session)
        rows = await queries.units(
            session, departement=departement, commune=commune, force=force, kind=kind, closed=closed, after=page.after, limit=page.limit
        )
    items, next = page_of(rows, page, lambda row: (row.id,))
    page.link(response, next)
    return UnitList(items=items, next=next)


@router.get(
    "/v1/units/{unit_id}",
    operation_id="read_unit",
    openapi_extra=EXAMPLES["read_unit"],
    response_model=UnitOut,
    responses=problems(404),
    tags=["Unités"],
)
async def read_unit(unit_id: Id, caller: Caller, database: Db, response: Response) -> UnitOut:
    """One unit and the communes where it is competent."""
    async with database.transaction() as session:
        found = await queries.unit(session, unit_id)
    etag(response, found.version)
    return found


@router.put(
    "/v1/units/{unit_id}",
    operation_id="change_unit",
    openapi_extra=EXAMPLES["change_unit"],
    response_model=UnitOut,
    responses=problems(404, 409, 412, 422, 428),
    tags=["Unités"],
)
async def change_unit(unit_id: Id, body: UnitChange, caller: Caller, version: IfMatch, database: Db, response: Response) -> UnitOut:
    """Replace what is known of a unit. What the jurisdiction file says of it comes back with the next import."""
    async with database.transaction() as session:
        changed = await units.change_unit(session, caller, unit_id, version, body)
    etag(response, changed.version)
    return changed


@router.post(
    "/v1/units/{unit_id}/close",
    operation_id="close_unit",
    openapi_extra=EXAMPLES["close_unit"],
    response_model=UnitOut,
    responses=problems(404, 409),
    tags=["Unités"],
)
async def close_unit(unit_id: Id, caller: Caller, once: Once) -> Response:
    """Close a unit that no post covers."""
    return await once(lambda session: units.close_unit(session, caller, unit_id), status=200)


# Communes and coverage


@router.get(
    "/v1/communes", operation_id="list_communes", openapi_extra=EXAMPLES["list_communes"], response_model=CommuneList, tags=["Communes"]
)
async def list_communes(
    caller: Caller,
    database: Db,
    page: Page,
    response: Response,
    departement: OfDepartement = None,
    postcode: Annotated[Postcode | None, Query(description="With that postcode")] = None,
) -> CommuneList:
    """INSEE's communes, in the order of their codes."""
    async with database.transaction(repeatable_read=True) as session:
        response.headers[POSITION] = await streams.position(session)
        rows = await queries.communes(session, departement=departement, postcode=postcode, after=page.after, limit=page.limit)
    items, next = page_of(rows, page, lambda row: (row.code,))
    page.link(response, next)
    return CommuneList(items=items, next=next)


@router.get(
    "/v1/communes/{code}",
    operation_id="read_commune",
    openapi_extra=EXAMPLES["read_commune"],
    response_model=CommuneOut,
    responses=problems(404),
    tags=["Communes"],
)
async def read_commune(code: CommuneCode, caller: Caller, database: Db) -> CommuneOut:
    """One commune."""
    async with database.transaction() as session:
        return await queries.commune(session, code)


@router.get(
    "/v1/coverage", operation_id="list_coverage", openapi_extra=EXAMPLES["list_coverage"], response_model=CoverageList, tags=["Communes"]
)
async def list_coverage(
    caller: Caller,
    database: Db,
    page: Page,
    response: Response,
    departement: Annotated[DepartementCode, Query(examples=["95"])],
    covered: Annotated[QueryBool | None, Query(description="Only the communes that a post covers, or only the others")] = None,
) -> CoverageList:
    """The communes of a département: which units are competent there, and which posts cover it (report 2.3: uneven coverage)."""
    async with database.transaction(repeatable_read=True) as session:
        response.headers[POSITION] = await streams.position(session)
        rows = await queries.coverage(session, departement=departement, covered=covered, after=page.after, limit=page.limit)
    items, next = page_of(rows, page, lambda row: (row.code,))
    page.link(response, next)
    return CoverageList(items=items, next=next)
