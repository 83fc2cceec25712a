"""Reference data in bulk, over HTTP. A request is taken as a whole when it is well formed; each of its rows has an outcome of its own."""

from fastapi import APIRouter, Response

from libs.chassis.idempotency import Once
from libs.chassis.problems import problems
from libs.chassis.security import Caller
from services.partners import imports
from services.partners.examples import EXAMPLES
from services.partners.schemas import CommunesImport, ImportOutcome, JurisdictionsImport

router = APIRouter(tags=["Imports"])


@router.post(
    "/v1/imports/communes",
    operation_id="import_communes",
    openapi_extra=EXAMPLES["import_communes"],
    response_model=ImportOutcome,
    responses=problems(409, 422),
)
async def import_communes(body: CommunesImport, caller: Caller, once: Once) -> Response:
    """INSEE's communes, up to 1000 at a time. What is repeated is `unchanged`."""
    return await once(lambda session: imports.import_communes(session, body), status=200)


@router.post(
    "/v1/imports/jurisdictions",
    operation_id="import_jurisdictions",
    openapi_extra=EXAMPLES["import_jurisdictions"],
    response_model=ImportOutcome,
    responses=problems(409, 422),
)
async def import_jurisdictions(body: JurisdictionsImport, caller: Caller, once: Once) -> Response:
    """Rows of the Interior's jurisdiction file, up to 1000 at a time: units are registered, and competent where the rows say.

    The rows of one commune and institution belong in one request: together they replace what was known of the two.
    """
    return await once(lambda session: imports.import_jurisdictions(session, body), status=200)
