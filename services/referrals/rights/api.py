"""Persons over HTTP: finding one, and their rights: export, erasure, and the register of who has acted on it."""

from datetime import UTC, datetime
from typing import cast

from fastapi import APIRouter, Response
from sqlalchemy.ext.asyncio import AsyncSession

from libs.chassis.audit import audit
from libs.chassis.docs import Example, examples
from libs.chassis.etag import IfMatch
from libs.chassis.idempotency import Once
from libs.chassis.pagination import Page, page_of
from libs.chassis.problems import problems
from libs.chassis.runtime import Run, Runtime
from libs.chassis.security import Caller, Principal, Purpose
from libs.chassis.settings import secret_bytes
from libs.chassis.strict import QueryBool
from libs.contracts.demonstration import ALLEGED_PERPETRATOR, ASSOCIATION, ERASURE, REFERRAL
from libs.contracts.types import Id
from services.referrals import queries
from services.referrals.receiving.schemas import PersonFound, PersonSearchIn, PersonsFound
from services.referrals.rights import acknowledgements, retention
from services.referrals.rights import commands as rights
from services.referrals.rights.schemas import (
    AnnouncedEndList,
    ConfirmationIn,
    ErasureIn,
    ErasureList,
    ErasureMadeOut,
    ErasureOut,
    HeldEndList,
)
from services.referrals.settings import Settings

router = APIRouter(tags=["Droits des personnes"])


def _expected(runtime: Runtime) -> acknowledgements.Expected:
    return cast(Settings, runtime.settings).expected_readers()


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
    """A person in the caller's referrals, by a keyed hash of the names and the birth date, or of the names alone; they are in no URL and no log, and nothing is
    opened. The search is audited with its purpose."""
    async with runtime.database.transaction() as session:
        return PersonsFound(items=await search(session, runtime, caller, purpose, body))


async def search(
    session: AsyncSession, runtime: Runtime, caller: Principal, purpose: Purpose, body: PersonSearchIn, *, or_undated: bool = False
) -> list[PersonFound]:
    """Audited in the same transaction, without a name."""
    found = await queries.persons_found(session, caller, secret_bytes(runtime.settings.search_key), body, or_undated=or_undated)
    detail = {"found": str(len(found)), "by": "name" if body.birth_on is None else "identity"}
    await audit(session, caller, operation="search_persons", subject="persons", purpose=purpose, detail=detail)
    return found


@router.post(
    "/v1/referrals/{referral_id}/erasures",
    status_code=201,
    operation_id="erase_persons",
    response_model=ErasureMadeOut,
    responses=problems(404, 409, 412, 422, 428),
    openapi_extra=examples(
        Example(
            "coordinator-95",
            201,
            {"person_ids": [ALLEGED_PERPETRATOR]},
            "Une personne demande l'effacement",
            path={"referral_id": REFERRAL},
            headers={"If-Match": '"1"'},
        )
    ),
)
async def erase_persons(referral_id: Id, body: ErasureIn, caller: Caller, version: IfMatch, runtime: Run, once: Once) -> Response:
    """Erase persons of a referral for good, at their own request. With the last one goes all that is sealed of the referral."""

    async def erase(session: AsyncSession) -> ErasureMadeOut:
        return await rights.erase(session, caller, runtime.vault, referral_id, version, body, _now())

    return await once(erase, status=201, location="/v1/erasures/{id}")


@router.get("/v1/erasures", operation_id="list_erasures", response_model=ErasureList)
async def list_erasures(caller: Caller, runtime: Run, page: Page, response: Response, waiting: QueryBool | None = None) -> ErasureList:
    """The register of erasures, oldest first, with who has acted on each, how, and who has not. `waiting`: only those that wait for somebody, or only the others."""
    async with runtime.database.transaction() as session:
        rows = await acknowledgements.erasures(session, caller, _expected(runtime), waiting=waiting, after=page.after, limit=page.limit)
    items, following = page_of(rows, page, lambda row: (row.id,))
    page.link(response, following)
    return ErasureList(items=items, next=following)


@router.get("/v1/erasures/{erasure_id}", operation_id="read_erasure", response_model=ErasureOut, responses=problems(404))
async def read_erasure(erasure_id: Id, caller: Caller, runtime: Run) -> ErasureOut:
    """One erasure, and who has not acted on it yet."""
    async with runtime.database.transaction() as session:
        return await acknowledgements.erasure(session, caller, _expected(runtime), erasure_id)


@router.post(
    "/v1/erasures/{erasure_id}/confirmations",
    status_code=201,
    operation_id="confirm_erasure",
    response_model=ErasureOut,
    responses=problems(404, 409, 422),
    openapi_extra=examples(
        Example(
            "coordinator-95",
            201,
            {"stream": f"organization:{ASSOCIATION}", "confirmed_on": "2026-11-25", "how": "letter"},
            "Une structure sans abonnement a confirmé par courrier",
            path={"erasure_id": ERASURE},
        )
    ),
)
async def confirm_erasure(erasure_id: Id, body: ConfirmationIn, caller: Caller, runtime: Run, once: Once) -> Response:
    """Record that who was told in a stream has acted on the erasure, and said so by other means than by reading it. Audited."""
    return await once(
        lambda session: acknowledgements.confirm(session, caller, _expected(runtime), erasure_id, body, _now()),
        status=201,
        location="/v1/erasures/{id}",
    )


@router.get("/v1/announced-ends", operation_id="list_announced_ends", response_model=AnnouncedEndList)
async def list_announced_ends(caller: Caller, runtime: Run, page: Page, response: Response) -> AnnouncedEndList:
    """Closed referrals whose retention ends, announced before anything is erased: from which day on, and counted from which last contact. To keep one,
    reopen it."""
    term = cast(Settings, runtime.settings).term
    async with runtime.database.transaction() as session:
        rows = await retention.announced(session, caller, term, after=page.after[0] if page.after is not None else None, limit=page.limit)
    items, following = page_of(rows, page, lambda row: (row.referral_id,))
    page.link(response, following)
    return AnnouncedEndList(items=items, next=following)


@router.get("/v1/held-ends", operation_id="list_held_ends", response_model=HeldEndList)
async def list_held_ends(caller: Caller, runtime: Run, page: Page, response: Response) -> HeldEndList:
    """Referrals past the end of their retention that are not erased, and what holds each: still open, supported by a partner, or asked for by a requisition
    without answer."""
    term = cast(Settings, runtime.settings).term
    async with runtime.database.transaction() as session:
        after = page.after[0] if page.after is not None else None
        rows = await retention.held_ends(session, caller, _now(), term, after=after, limit=page.limit)
    items, following = page_of(rows, page, lambda row: (row.referral_id,))
    page.link(response, following)
    return HeldEndList(items=items, next=following)
