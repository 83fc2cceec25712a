"""Erasing persons at their own request: who, then what will be lost, then for good. By the API's own command, which audits it."""

from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from typing import Any, Final, cast
from uuid import UUID

from fastapi import APIRouter, Request
from pydantic import BaseModel
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.responses import Response

from libs.chassis.audit import audit
from libs.chassis.refusals import Refusal
from libs.chassis.runtime import Run, Runtime
from libs.chassis.security import Caller, Principal, Purpose
from libs.contracts.types import Id
from libs.contracts.vocabularies import Purpose as Stated
from libs.contracts.vocabularies import ReferralStatus
from services.referrals import queries
from services.referrals.desk.changes import Change, Choices, Doing, Field, is_for_the_form, make, read
from services.referrals.desk.forms import Form
from services.referrals.desk.pages import form_page, go_to
from services.referrals.desk.people import named
from services.referrals.desk.referral_pages import ERASED, MOST_REQUISITIONS, TOLD, opened
from services.referrals.desk.sign_in_pages import form_of
from services.referrals.justice import alerts, requisitions
from services.referrals.orientations.domain import ORIENTATION_LIVES
from services.referrals.rights import commands as rights
from services.referrals.rights.commands import ErasedAlready
from services.referrals.rights.schemas import ErasureIn
from services.referrals.working.duplicates import still_held_in
from services.referrals.working.schemas import ReferralOut
from services.referrals.working.work import may_see

router = APIRouter(include_in_schema=False)

Shown = Mapping[str, Any]


async def _erase(session: AsyncSession, it: Doing, body: Any) -> BaseModel:
    return await rights.erase(session, it.caller, it.runtime.vault, it.id, it.version, body, it.now)


def _erasable(shown: Shown) -> Choices:
    """Also who was erased, where words of an alert that names them are left."""
    left = {id for ids in shown["words"][0] for id in ids}
    return [(str(one.id), named(one)) for one in shown["referral"].people if not one.erased or one.id in left]


def _narrative(shown: Shown) -> Choices:
    return [("yes", "Effacer aussi le récit, tout de suite")] if shown["referral"].narrative is not None else []


ERASE: Final = Change(
    "Effacer à la demande de la personne",
    "Effacer définitivement",
    TOLD[ERASED],
    _erase,
    ErasureIn,
    (
        Field("person_ids", "Personnes qui demandent l'effacement", "boxes", _erasable, otherwise=lambda shown: shown["asked"]),
        Field(
            "narrative",
            "Récit",
            "boxes",
            _narrative,
            required=False,
            hint="Il parle de toutes les personnes : il s'efface en tout cas avec la dernière.",
        ),
    ),
    shape=lambda given, form: given | {"narrative": form.one("narrative") == "yes"},
)


@router.get("/desk/referrals/{referral_id}/erase", operation_id="ask_erasure", response_class=Response)
async def ask_erasure(
    referral_id: Id, request: Request, caller: Caller, purpose: Purpose, runtime: Run, person: Id | None = None
) -> Response:
    """Who asks for it. `person`: of a link."""
    return await _shown(referral_id, request, caller, purpose, runtime, asked=[] if person is None else [str(person)])


@router.post("/desk/referrals/{referral_id}/erase", operation_id="make_erasure", response_class=Response)
async def make_erasure(referral_id: Id, request: Request, caller: Caller, purpose: Purpose, runtime: Run) -> Response:
    """First it is said what will be lost, or what holds it; what was confirmed is done."""
    form = form_of(request)
    try:
        if form.one("confirmed") != "yes":
            await _check(caller, runtime, referral_id, form)
            return await _shown(referral_id, request, caller, purpose, runtime, form, to_confirm=True)
        await make(ERASE, "desk_erase", request, form, caller, referral_id, datetime.now(UTC))
    except Refusal as refusal:
        if not is_for_the_form(refusal):
            raise
        return await _shown(referral_id, request, caller, purpose, runtime, form, refusal=refusal)
    return go_to(f"/desk/referrals/{referral_id}?done={ERASED}")


async def _check(caller: Principal, runtime: Runtime, referral_id: UUID, form: Form) -> None:
    """Nothing is said to be lost that would then be held. Raises Refusal."""
    body = cast(ErasureIn, read(ERASE, form))
    async with runtime.database.transaction() as session:
        await rights.check_erasable(session, caller, referral_id, body)


async def _shown(
    referral_id: UUID,
    request: Request,
    caller: Principal,
    purpose: Stated,
    runtime: Runtime,
    typed: Form | None = None,
    *,
    asked: Collection[str] = (),
    refusal: Refusal | None = None,
    to_confirm: bool = False,
) -> Response:
    subject = f"referrals/{referral_id}"
    async with runtime.database.transaction() as session:
        shown: dict[str, Any] = await opened(session, runtime, caller, purpose, referral_id)
        noted = await alerts.of_referral(session, runtime.vault, referral_id)
        await audit(session, caller, operation="list_alerts", subject=subject, purpose=purpose)
        held = await still_held_in(session, await queries.visible(session, caller, referral_id), lambda one: may_see(caller, one))
        entries = await requisitions.register(session, caller, referral_id=referral_id, after=None, limit=MOST_REQUISITIONS)
    everybody = [one.id for one in shown["referral"].people]
    shown["words"] = words = [
        [one.person_ids or everybody for one in noted if one.reference or one.note],
        [one.person_ids or everybody for one in entries if not one.erased],
    ]
    if refusal is None and not _erasable(shown):
        raise ErasedAlready("Les données de ces personnes ont déjà été effacées.")
    going = set() if typed is None else set(typed.all("person_ids"))
    return form_page(
        request,
        "desk_erase.html",
        ERASE,
        typed,
        refusal,
        **shown,
        shown=shown | {"asked": asked},
        path=f"/desk/referrals/{referral_id}/erase",
        held=held,
        losses=_losses(shown["referral"], going, typed.one("narrative") == "yes", words) if typed is not None and to_confirm else [],
    )


def _losses(referral: ReferralOut, going: Collection[str], with_narrative: bool, words: list[list[list[UUID]]]) -> list[str]:
    """What rights/erasure.py will destroy, in sentences. `words`: whom each alert, then each requisition, names (everybody, where it names nobody)
    whose words can still be read."""
    people = [one for one in referral.people if not one.erased]
    erased = [one for one in people if str(one.id) in going]
    whole = referral.status is not ReferralStatus.ERASED and len(erased) == len(people)
    asking = {one.id for one in referral.people if str(one.id) in going}
    gone = asking | {one.id for one in referral.people if one.erased}
    noted, entries = (sum(whole or (gone.issuperset(ids) and not asking.isdisjoint(ids)) for ids in of_kind) for of_kind in words)
    living = [one for one in referral.orientations if one.person_id in {p.id for p in erased} and one.status in ORIENTATION_LIVES]
    said = [f"{named(one)} : identité, coordonnées, consignes de contact, et tout ce qui est écrit de cette personne." for one in erased]
    if referral.narrative is not None and (whole or with_narrative):
        said.append("Le récit transmis par la police.")
    if noted:
        said.append(f"Les mots et la référence de {noted} information(s) préoccupante(s) ou signalement(s) : l'envoi reste noté.")
    if entries:
        said.append(f"Les mots de {entries} réquisition(s) du registre : l'entrée reste, sans eux.")
    if living:
        said.append(f"{len(living)} orientation(s) en cours prennent fin : le partenaire en est averti.")
    if whole:
        closing = "" if referral.status is ReferralStatus.CLOSED else "La saisine est close. "
        said.append(f"{closing}Il ne reste personne dans la saisine : elle est effacée en entier, et ne peut plus être rouverte.")
    return said
