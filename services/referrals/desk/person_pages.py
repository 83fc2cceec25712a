"""A person is sought by name, in the referrals of the caller's perimeter: what is held on them is read, handed over or erased from there."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from fastapi import APIRouter, Request
from pydantic import BaseModel
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.responses import Response

from libs.chassis.refusals import Invalid
from libs.chassis.runtime import Run
from libs.chassis.security import Caller, Purpose
from libs.contracts.vocabularies import Purpose as Stated
from services.referrals.desk.changes import Change, Doing, Field, read
from services.referrals.desk.forms import Form
from services.referrals.desk.pages import form_page
from services.referrals.desk.sign_in_pages import form_of
from services.referrals.receiving.repeats import MOST
from services.referrals.receiving.schemas import PersonFound, PersonSearchIn, PersonsFound
from services.referrals.rights.api import search

router = APIRouter(include_in_schema=False)

_NOBODY = UUID(int=0)


@router.get("/desk/persons", operation_id="ask_person", response_class=Response)
async def ask_person(request: Request, caller: Caller, purpose: Purpose) -> Response:
    """Whom to look for."""
    return _shown(request, _seeking(purpose))


@router.post("/desk/persons", operation_id="find_person", response_class=Response)
async def find_person(request: Request, caller: Caller, purpose: Purpose, runtime: Run) -> Response:
    """By POST: a name is in no address. Audited as the API's search."""
    seeking, form = _seeking(purpose), form_of(request)
    try:
        body = read(seeking, form)
    except Invalid as refusal:
        return _shown(request, seeking, form, refusal=refusal)
    async with runtime.database.transaction() as session:
        found = await seeking.run(session, Doing(caller, runtime, _NOBODY, 0, datetime.now(UTC)), body)
    return _shown(request, seeking, form, PersonsFound.model_validate(found).items)


def _seeking(purpose: Stated) -> Change:
    async def run(session: AsyncSession, it: Doing, body: Any) -> BaseModel:
        return PersonsFound(items=await search(session, it.runtime, it.caller, purpose, body, or_undated=True))

    return Change(
        "Chercher une personne",
        "Chercher",
        "",
        run,
        PersonSearchIn,
        (
            Field("family_name", "Nom", "text", hint="Ni les accents, ni les majuscules, ni les traits d'union ne comptent."),
            Field("given_name", "Prénom", "text"),
            Field(
                "birth_on",
                "Date de naissance",
                "day",
                required=False,
                hint="Avec elle : qui est connu par cette date, et qui porte ce nom sans date de naissance. Sans elle : tous ceux qui portent ce nom.",
            ),
        ),
    )


def _shown(
    request: Request, seeking: Change, typed: Form | None = None, found: list[PersonFound] | None = None, refusal: Invalid | None = None
) -> Response:
    return form_page(
        request,
        "desk_persons.html",
        seeking,
        typed,
        refusal,
        path="/desk/persons",
        found=found,
        most=MOST,
    )
