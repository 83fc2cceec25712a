"""What may be done with a referral, as forms: one row for each move of the domain's table that a person makes."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from pydantic import BaseModel
from sqlalchemy.ext.asyncio import AsyncSession

from libs.contracts.types import PARIS
from libs.contracts.vocabularies import (
    AlertKind,
    CloseReason,
    ContactAgreement,
    ContactMode,
    ContactResult,
    InterviewPlace,
    KnownToServices,
    Need,
)
from services.referrals.delays.due import Delays
from services.referrals.desk.changes import Change, Choices, Doing, Field, now_in_paris, of_codes
from services.referrals.desk.correction_changes import FACTS
from services.referrals.desk.directory import PostChoice
from services.referrals.desk.people import named
from services.referrals.domain import Move, within_sentence
from services.referrals.justice import alerts
from services.referrals.justice.schemas import AlertIn
from services.referrals.orientations.links import Links
from services.referrals.schemas import PersonOut
from services.referrals.working import followup, work
from services.referrals.working.domain import DeclineReason, OverrideReason
from services.referrals.working.followup_schemas import AssessmentIn, InterviewIn
from services.referrals.working.schemas import AssignIn, CloseIn, ContactIn, DeclineIn, TransferIn

Shown = Mapping[str, Any]


def _persons(shown: Shown) -> Choices:
    """Who may be contacted."""
    people: list[PersonOut] = shown["referral"].people
    return [(str(one.id), named(one)) for one in people if not one.erased and one.agreement is not ContactAgreement.REFUSED]


def everybody(shown: Shown) -> Choices:
    """Whom an alert or a requisition may name: also who refused to be contacted."""
    people: list[PersonOut] = shown["referral"].people
    return [(str(one.id), named(one)) for one in people if not one.erased]


def _posts(shown: Shown) -> Choices:
    posts: list[PostChoice] = shown["posts"]
    return [(str(one.id), _post(one)) for one in posts if one.id != shown["referral"].post_id]


def _earlier(shown: Shown) -> Choices:
    """Where somebody of the referral was seen before, as far as the caller sees it."""
    found = {str(one.referral_id): one for known in shown["referral"].already_known for one in known.referrals}
    return [
        (id, f"Saisine reçue le {one.received_at.astimezone(PARIS):%d/%m/%Y à %H:%M}, {within_sentence(one.status.label)}")
        for id, one in found.items()
    ]


def _post(one: PostChoice) -> str:
    misfit = f", {within_sentence(one.misfit.label)}" if one.misfit is not None else ""
    return f"{one.name}{misfit}, {one.open} saisine(s) en cours, {one.full_time_percent} %"


def _only(choices: Callable[[Shown], Choices]) -> Callable[[Shown], str]:
    """What there is no choice about is chosen."""

    def otherwise(shown: Shown) -> str:
        found = choices(shown)
        return found[0][0] if len(found) == 1 else ""

    return otherwise


def _person(name: str = "person_id", label: str = "Personne") -> Field:
    return Field(name, label, "radios", _persons, otherwise=_only(_persons))


POST: Final = Field("post_id", "Poste", "radios", _posts)


async def _assign(session: AsyncSession, it: Doing, body: Any) -> BaseModel:
    return await work.assign(session, it.caller, Delays.of(it.runtime), it.id, it.version, body, it.now)


async def _transfer(session: AsyncSession, it: Doing, body: Any) -> BaseModel:
    return await work.transfer(session, it.caller, Delays.of(it.runtime), it.id, it.version, body, it.now)


async def _accept(session: AsyncSession, it: Doing, _: Any) -> BaseModel:
    return await work.accept(session, it.caller, it.id, it.version, it.now)


async def _decline(session: AsyncSession, it: Doing, body: Any) -> BaseModel:
    return await work.decline(session, it.caller, it.id, it.version, body, it.now)


async def _close(session: AsyncSession, it: Doing, body: Any) -> BaseModel:
    return await work.close(session, it.caller, it.id, it.version, body, it.now)


async def _reopen(session: AsyncSession, it: Doing, _: Any) -> BaseModel:
    return await work.reopen(session, it.caller, Delays.of(it.runtime), it.id, it.version, it.now)


async def _contact(session: AsyncSession, it: Doing, body: Any) -> BaseModel:
    return await followup.contact(session, it.caller, it.runtime.vault, Links.of(it.runtime), it.id, body, it.now)


async def _interview(session: AsyncSession, it: Doing, body: Any) -> BaseModel:
    return await followup.interview(session, it.caller, it.runtime.vault, it.id, body, it.now)


async def _assess(session: AsyncSession, it: Doing, body: Any) -> BaseModel:
    return await followup.assess(session, it.caller, Links.of(it.runtime), it.id, body, it.now)


async def _alert(session: AsyncSession, it: Doing, body: Any) -> BaseModel:
    return await alerts.record(session, it.caller, it.runtime.vault, it.id, body, it.now)


CLOSE: Final = Change(
    "Clore la saisine",
    "Clore",
    "La saisine est close.",
    _close,
    CloseIn,
    (
        Field("reason", "Motif", "radios", of_codes(CloseReason)),
        Field(
            "duplicate_of",
            "Doublon : la saisine d'origine",
            "select",
            _earlier,
            required=False,
            hint="Les saisines où l'une de ces personnes est déjà connue. Si ce n'est pas l'une d'elles, indiquez son dossier ci-dessous.",
        ),
        Field(
            "duplicate_reference",
            "Doublon : le dossier de la police de la saisine d'origine",
            "text",
            required=False,
            hint="Comme il est écrit dans la saisine d'origine, du même département.",
        ),
    ),
)
REOPEN: Final = Change("Rouvrir la saisine", "Rouvrir", "La saisine est rouverte.", _reopen)

_OVERRIDE: Final = Field(
    "override_reason",
    "Motif pour passer outre une consigne",
    "select",
    of_codes(OverrideReason),
    required=False,
    hint="Seulement si une consigne l'interdit : ce motif est conservé et inscrit au journal.",
)

CHANGES: Final[Mapping[Move, Change]] = {
    Move.ACCEPT: Change("Accepter la saisine", "Accepter la saisine", "La saisine est acceptée.", _accept),
    Move.CONTACT: Change(
        "Noter une tentative de contact",
        "Enregistrer",
        "La tentative de contact est notée.",
        _contact,
        ContactIn,
        (
            _person(),
            Field("mode", "Moyen", "select", of_codes(ContactMode)),
            Field(
                "result",
                "Résultat",
                "select",
                of_codes(ContactResult),
                hint="« La personne décline l'aide » annule ses orientations qui n'ont pas commencé, sauf motif légal ; les structures en sont prévenues.",
            ),
            Field("attempted_at", "Jour et heure", "moment", otherwise=now_in_paris),
            Field(
                "agreement",
                "Accepte d'être contactée",
                "select",
                of_codes(ContactAgreement),
                required=False,
                hint="À noter quand une personne à qui cela n'avait pas été demandé répond. « Non demandé » laisse ce qui a été dit auparavant.",
            ),
            _OVERRIDE,
        ),
    ),
    Move.INTERVIEW: Change(
        "Noter un entretien",
        "Enregistrer",
        "L'entretien est noté.",
        _interview,
        InterviewIn,
        (
            Field("person_ids", "Personnes présentes", "boxes", _persons),
            Field("place", "Lieu", "select", of_codes(InterviewPlace)),
            Field("duration_minutes", "Durée en minutes", "number"),
            Field("held_at", "Jour et heure", "moment", otherwise=now_in_paris),
            _OVERRIDE,
        ),
    ),
    Move.ASSESS: Change(
        "Évaluer les besoins",
        "Enregistrer",
        "L'évaluation est notée.",
        _assess,
        AssessmentIn,
        (
            _person(),
            Field("needs", "Besoins", "boxes", of_codes(Need), required=False, hint="Aucune case : évalué, et rien n'est nécessaire."),
            Field("known_to_services", "Services sociaux", "select", of_codes(KnownToServices)),
        ),
        shape=lambda given, _: {"needs": []} | given,
    ),
    Move.CORRECT: FACTS,
    Move.ALERT: Change(
        "Noter une information préoccupante ou un signalement",
        "Enregistrer",
        "L'envoi est noté.",
        _alert,
        AlertIn,
        (
            Field("kind", "Ce qui a été envoyé", "radios", of_codes(AlertKind)),
            Field(
                "person_ids",
                "Personnes concernées",
                "boxes",
                everybody,
                required=False,
                hint="Aucune case : des enfants présents qui ne sont pas parmi les personnes de la saisine.",
            ),
            Field(
                "court",
                "Tribunal judiciaire : commune du siège (code INSEE)",
                "text",
                required=False,
                hint="Pour un signalement seulement ; une information préoccupante va à la CRIP du département.",
            ),
            Field(
                "departement",
                "Autre département (code)",
                "text",
                required=False,
                hint="Pour une information préoccupante qui va à la CRIP d'un autre département que celui de la saisine.",
            ),
            Field("sent_at", "Jour et heure de l'envoi", "moment", otherwise=now_in_paris),
            Field("reference", "Référence donnée par le destinataire", "text", required=False),
            Field("note", "Ce que vous voulez en retenir", "prose", required=False),
        ),
        shape=lambda given, _: {"person_ids": []} | given,
        explanation="Maillon n'envoie rien : notez ici ce que vous avez déjà envoyé.",
    ),
    Move.TRANSFER: Change("Transférer à un autre poste", "Transférer", "La saisine est transférée.", _transfer, TransferIn, (POST,)),
    Move.DECLINE: Change(
        "Décliner la saisine",
        "Décliner",
        "La saisine est rendue à la coordination.",
        _decline,
        DeclineIn,
        (Field("reason", "Motif", "radios", of_codes(DeclineReason)),),
    ),
    Move.ASSIGN: Change("Affecter à un poste", "Affecter", "La saisine est affectée.", _assign, AssignIn, (POST,)),
    Move.CLOSE: CLOSE,
    Move.CLOSE_UNROUTED: CLOSE,
    Move.REOPEN: REOPEN,
    Move.REOPEN_UNROUTED: REOPEN,
}
"""`orient` has pages of its own (orientation_pages.py)."""


def told_of(move: str) -> str:
    """What was done, "" for what is no move."""
    found = next((change for one, change in CHANGES.items() if one.value == move), None)
    return found.told if found is not None else ""
