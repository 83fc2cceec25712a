"""The page behind a partner's answer link: plain HTML, French, without JavaScript, name or contact. GET shows, POST answers once.

The token is in the address, so the address is nowhere else: not in our logs and spans (they hold operations, not paths), not in a Referer.
"""

import hmac
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, Final
from uuid import UUID

from fastapi import APIRouter, Request
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from pydantic import ValidationError
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.responses import FileResponse, HTMLResponse, Response

from libs.chassis.audit import audit
from libs.chassis.rates import Rates
from libs.chassis.refusals import Gone, Malformed, NotFound, Refusal, StaleVersion
from libs.chassis.runtime import Run, Runtime
from libs.chassis.security import Principal
from libs.chassis.vault import Vault
from libs.contracts.types import PARIS
from libs.contracts.vocabularies import (
    ContactAgreement,
    LegalGround,
    Need,
    OrientationFailure,
    OrientationOutcome,
    OrientationRejection,
    OrientationStatus,
    Purpose,
    Role,
    Urgency,
)
from services.referrals.directory.called import called
from services.referrals.forms import read_pairs, whole_number
from services.referrals.models import Person, Referral
from services.referrals.orientations import commands as orientations
from services.referrals.orientations import links
from services.referrals.orientations.domain import OrientationMove, may_still_be_contacted, orientation_moves_open_to
from services.referrals.orientations.links import Links
from services.referrals.orientations.models import Orientation, OrientationLink
from services.referrals.orientations.schemas import CompleteIn, FailIn, RejectIn
from services.referrals.orientations.telling import HandedOn, hand_on
from services.referrals.schemas import RulesOf
from services.referrals.working.applied import applied_to
from services.referrals.working.safe_contact import days_in_words
from services.referrals.working.work import contents_of

router = APIRouter(include_in_schema=False)

_FOLDER = Path(__file__).parent / "pages"
_PAGES = Environment(loader=FileSystemLoader(_FOLDER), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
_HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Robots-Tag": "noindex, nofollow, noarchive",
    "X-Frame-Options": "DENY",
    "Cache-Control": "no-store",
}
_FORM_BYTES = 16_384
"""A thousand characters of any script, each up to twelve bytes long in a form, and the codes."""


class LinkUnknown(NotFound):
    type: ClassVar[str] = "link-unknown"
    title: ClassVar[str] = "Lien inconnu"


class LinkOver(Gone):
    """Used, revoked or expired, or its orientation waits for no answer any more."""

    type: ClassVar[str] = "link-over"
    title: ClassVar[str] = "Lien périmé"


_OVER = "Ce lien a déjà servi, a expiré ou a été remplacé. Demandez-en un nouveau à l'intervenant social qui vous a sollicité."


_CANCELLED = "Cette orientation est annulée : elle n'attend plus de réponse. Ne contactez plus la personne."


class _Opened:
    """What a link leads to, while it holds. `moves`: what may be answered; `until`: it may since expire sooner than the link."""

    def __init__(self, link: OrientationLink, orientation: Orientation) -> None:
        self.link, self.orientation = link, orientation
        self.moves = orientation_moves_open_to(Role.PARTNER, OrientationStatus(orientation.status))
        asked = orientation.status == OrientationStatus.REQUESTED
        self.until = min(link.expires_at, orientation.expires_at) if asked else link.expires_at
        self.caller = Principal(
            "answer-link", f"link:{link.id}", Role.PARTNER, orientation.organization_id, perimeter=frozenset(), scope=frozenset()
        )


async def _opened(session: AsyncSession, link_id: UUID, token: str, now: datetime) -> _Opened:
    """Raises LinkUnknown, LinkOver."""
    link = await session.get(OrientationLink, link_id)
    if link is None or not hmac.compare_digest(link.token_hash, links.token_hash(token)):
        raise LinkUnknown("Ce lien n'existe pas : vérifiez que l'adresse est complète.")
    found = _Opened(link, await session.get_one(Orientation, link.orientation_id))
    if found.orientation.status == OrientationStatus.CANCELLED:
        raise LinkOver(_CANCELLED)
    if link.used_at is not None or link.revoked_at is not None or link.expires_at <= now or not found.moves:
        raise LinkOver(_OVER)
    person = await session.get_one(Person, found.orientation.person_id)
    if not person.content:
        raise LinkOver("Cette demande a été effacée : elle n'attend plus de réponse.")
    if not may_still_be_contacted(person.agreement, found.orientation.legal_ground):
        raise LinkOver("Cette personne n'accepte plus d'être contactée : cette demande n'attend plus de réponse.")
    return found


def _checked(request: Request, runtime: Runtime, token: str) -> UUID:
    """The link's id; wrong tokens are counted by address, uses of a link by link. Raises LinkUnknown, TooManyRequests."""
    rates: Rates = request.app.state.rates
    link_id = Links.of(runtime).id_of(token)
    if link_id is None:
        raise rates.refuse(request.scope, LinkUnknown("Ce lien n'existe pas : vérifiez que l'adresse est complète."))
    rates.spend_link(request.scope, str(link_id))
    return link_id


_CHOICE_WANTED: Final = "Choisissez un motif dans la liste, puis envoyez à nouveau."
_WORDS_WANTED: Final = "Précisez le motif du refus, en mille caractères au plus, puis envoyez à nouveau."


async def _shown(
    session: AsyncSession, runtime: Runtime, found: _Opened, error: str | None = None, typed: Mapping[str, str] = MappingProxyType({})
) -> str:
    """The minimum: commune, post that asks, need, urgency, and how the person may be contacted. No name, contact, code word or free text of a person.

    Nor the service's name: whoever a mail was forwarded to would learn where the person is to be found.
    """
    orientation = found.orientation
    referral = await session.get_one(Referral, orientation.referral_id)
    person = await session.get_one(Person, orientation.person_id)
    contents = await contents_of(session, runtime.vault, [person])
    if person.id not in contents:
        raise LinkOver("Cette demande a été effacée : elle n'attend plus de réponse.")
    post_id = referral.post_id or orientation.post_id
    names = await called(session, posts=[post_id], communes=[referral.commune])
    safe, whose = (await applied_to(session, runtime.vault, [person], contents))[person.id]
    return _PAGES.get_template("answer.html").render(
        error=error,
        typed=typed,
        orientation=orientation,
        commune=names.commune(referral.commune),
        post=names.post(post_id),
        need=Need(orientation.need).label,
        urgency=Urgency(referral.urgency).label,
        danger=referral.danger,
        ground=LegalGround(orientation.legal_ground) if orientation.legal_ground else None,
        agreement=ContactAgreement(person.agreement),
        safe=safe,
        of_adults=whose is RulesOf.ADULTS,
        modes=[mode.label for mode in safe.modes] if safe else [],
        windows=[(days_in_words(sorted(one.days)), one.begins, one.ends) for one in safe.windows] if safe else [],
        moves=[str(move) for move in found.moves],
        until=found.until.astimezone(PARIS),
        rejections=list(OrientationRejection),
        failures=list(OrientationFailure),
        outcomes=list(OrientationOutcome),
    )


def _page(html: str, status: int = 200) -> Response:
    return HTMLResponse(html, status, _HEADERS)


_CHANGED = "La demande a changé pendant que vous la lisiez, ou votre réponse est déjà enregistrée. Revoyez la demande avant de répondre."


def _refused(refusal: Refusal) -> Response:
    """A refusal as a page; from an answer to what changed meanwhile there is a way back."""
    stale = isinstance(refusal, StaleVersion)
    sentence = _CHANGED if stale else refusal.detail
    html = _PAGES.get_template("message.html").render(title=refusal.title, sentence=sentence, again=stale)
    return HTMLResponse(html, refusal.status, _HEADERS | refusal.headers)


@router.get("/reponse.css", operation_id="read_answer_style", response_class=Response)
async def read_answer_style() -> Response:
    """The stylesheet of these pages."""
    return FileResponse(_FOLDER / "answer.css", media_type="text/css", headers={"Cache-Control": "public, max-age=86400"})


@router.get("/reponse/{token}", operation_id="show_answer_page", response_class=Response)
async def show_answer_page(token: str, request: Request, runtime: Run) -> Response:
    """What is asked, to whoever holds the link. Changes nothing; the reading is audited."""
    try:
        link_id = _checked(request, runtime, token)
        async with runtime.database.transaction() as session:
            found = await _opened(session, link_id, token, datetime.now(UTC))
            html = await _shown(session, runtime, found)
            await _audit(session, found, "show_answer_page")
    except Refusal as refusal:
        return _refused(refusal)
    return _page(html)


async def _audit(session: AsyncSession, found: _Opened, operation: str, **detail: str) -> None:
    subject = f"orientations/{found.orientation.id}"
    await audit(session, found.caller, operation=operation, subject=subject, purpose=Purpose.ORIENTATION, detail=detail)


@router.post("/reponse/{token}", operation_id="answer_by_link", response_class=Response)
async def answer_by_link(token: str, request: Request, runtime: Run) -> Response:
    """The answer, once: it, the link's end and the next link are one transaction."""
    now = datetime.now(UTC)
    try:
        link_id = _checked(request, runtime, token)
        form = await _form(request)
        async with runtime.database.transaction() as session:
            found = await _opened(session, link_id, token, now)
            try:
                command = _command(form, runtime.vault)
            except ValidationError as error:
                wanted = _WORDS_WANTED if error.errors()[0]["loc"] == ("reason_text",) else _CHOICE_WANTED
                return _page(await _shown(session, runtime, found, wanted, form), 422)
            await command(session, found, _version(form), now)
            if not await links.use(session, link_id, now):
                raise LinkOver(_OVER)
            following = await hand_on(session, Links.of(runtime), found.orientation, now)
            further = {} if following is None else {"next": str(following.link.id)}
            await _audit(session, found, "answer_by_link", answer=form["answer"], **further)
    except Refusal as refusal:
        return _refused(refusal)
    return _page(_answered(runtime, form["answer"], following))


def _answered(runtime: Runtime, answer: str, following: HandedOn | None) -> str:
    """With the link by which the same partner goes on: shown here once, and nowhere else but in the mail of an organization that is mailed it."""
    further: dict[str, Any] = {"following": None}
    if following is not None:
        link, mailed = following
        further = {"following": Links.of(runtime).url(link.id), "until": link.expires_at.astimezone(PARIS), "mailed": mailed}
    return _PAGES.get_template("answered.html").render(answer=answer, **further)


async def _form(request: Request) -> dict[str, str]:
    """The fields of the page's form that say something. Raises Malformed, TooLarge."""
    pairs = await read_pairs(request, most_bytes=_FORM_BYTES, most_fields=8)
    return {name: value for name, value in pairs if value.strip()}


def _version(form: dict[str, str]) -> int:
    given = whole_number(form.get("version", ""))
    if given is None:
        raise Malformed("Le formulaire ne peut pas être lu.")
    return given


def _command(form: dict[str, str], vault: Vault) -> Any:
    """The move that the form asks for. Raises Malformed, ValidationError for a reason or outcome that is not in the list."""
    match form.get("answer"):
        case OrientationMove.ACCEPT:
            return lambda session, it, version, now: orientations.accept(session, it.caller, it.orientation.id, version, now)
        case OrientationMove.START:
            return lambda session, it, version, now: orientations.start(session, it.caller, it.orientation.id, version, now)
        case OrientationMove.REJECT:
            reject = RejectIn.model_validate({"reason": form.get("reject_reason"), "reason_text": form.get("reject_text")}, strict=False)
            return lambda session, it, version, now: orientations.reject(session, it.caller, vault, it.orientation.id, version, reject, now)
        case OrientationMove.FAIL:
            fail = FailIn.model_validate({"reason": form.get("fail_reason")}, strict=False)
            return lambda session, it, version, now: orientations.fail(session, it.caller, it.orientation.id, version, fail, now)
        case OrientationMove.COMPLETE:
            outcome = CompleteIn.model_validate({"outcome": form.get("outcome")}, strict=False)
            return lambda session, it, version, now: orientations.complete(session, it.caller, it.orientation.id, version, outcome, now)
        case _:
            raise Malformed("Le formulaire ne dit pas votre réponse.")
