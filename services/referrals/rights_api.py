"""Persons over HTTP: finding one, and their rights: export, erasure, and the register of who has acted on it."""

from datetime import UTC, datetime

from fastapi import APIRouter

from libs.chassis.audit import audit
from libs.chassis.docs import Example, examples
from libs.chassis.problems import problems
from libs.chassis.runtime import Run
from libs.chassis.security import Caller, Purpose
from libs.chassis.settings import secret_bytes
from services.referrals import queries
from services.referrals.schemas import PersonSearchIn, PersonsFound

router = APIRouter(tags=["Droits des personnes"])


def _now() -> datetime:
    return datetime.now(UTC)


@router.post(
    "/v1/person-searches",
    operation_id="search_persons",
    response_model=PersonsFound,
    responses=problems(422),
    openapi_extra=examples(
        Example(
            "iscg-95",
            200,
            {"family_name": "Exemple", "given_name": "Camille", "birth_on": "1991-04-12"},
            headers={"X-Purpose": "persons_rights"},
        )
    ),
)
async def search_persons(body: PersonSearchIn, caller: Caller, purpose: Purpose, runtime: Run) -> PersonsFound:
    """A person in the caller's referrals, by a keyed hash of the identity, which is in no URL and no log. The search is audited with its purpose."""
    async with runtime.database.transaction() as session:
        found = await queries.persons_found(session, caller, secret_bytes(runtime.settings.search_key), body)
        await audit(session, caller, operation="search_persons", subject="persons", purpose=purpose, detail={"found": str(len(found))})
    return PersonsFound(items=found)
