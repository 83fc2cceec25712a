"""Orientations as forms: asking a partner's service, and the partner's answers."""

from collections.abc import Mapping
from typing import Any, Final, cast

from pydantic import BaseModel
from sqlalchemy.ext.asyncio import AsyncSession

from libs.chassis.settings import secret_bytes
from libs.contracts.vocabularies import (
    ContactAgreement,
    LegalGround,
    Need,
    OrientationCancellation,
    OrientationFailure,
    OrientationOutcome,
    OrientationRejection,
)
from services.referrals.desk.changes import Change, Choices, Doing, Field, of_codes
from services.referrals.desk.directory import ServiceChoice
from services.referrals.desk.moves import Shown
from services.referrals.desk.people import named
from services.referrals.domain import within_sentence
from services.referrals.orientations import asking
from services.referrals.orientations import commands as orientations
from services.referrals.orientations.domain import CAME_TO_NOTHING, WITHDRAWN_BECAUSE, OrientationMove
from services.referrals.orientations.links import Links
from services.referrals.orientations.schemas import CancelIn, CompleteIn, FailIn, OrientationIn, OrientationSummary, RejectIn
from services.referrals.schemas import PersonOut
from services.referrals.settings import Settings

_AGREEMENTS: Final[Mapping[ContactAgreement, str]] = {
    ContactAgreement.ACCEPTED: "",
    ContactAgreement.NOT_ASKED: " (accord non demandé)",
    ContactAgreement.REFUSED: " (a refusé)",
}


def _persons(shown: Shown) -> Choices:
    people: list[PersonOut] = shown["referral"].people
    return [(str(one.id), named(one) + _AGREEMENTS[one.agreement]) for one in people if not one.erased]


def _services(shown: Shown) -> Choices:
    services: list[ServiceChoice] = shown["services"]
    return [(str(one.id), service_line(one)) for one in services]


def service_line(one: ServiceChoice) -> str:
    """What the directory tells of a service, on one line; what may not fit at its end."""
    area = "tout le département" if not one.communes else f"{len(one.communes)} commune(s)"
    takes = ", ".join(within_sentence(its.label) for its in [*one.sexes, *one.age_bands])
    whom = f", accueille : {takes}" if takes else ""
    room = "" if one.capacity is None else f", {one.capacity} place(s)"
    doubts = "".join(f" — Attention : {doubt.label}" for doubt in one.mismatches)
    needs = ", ".join(within_sentence(need.label) for need in one.needs)
    whose = f", {one.organization}" if one.organization else ""
    return f"{one.name}{whose} ({within_sentence(one.kind.label)}, {one.departement}) : {needs} ; {area}{room}{whom}{doubts}"


def replaceable(shown: Shown) -> Choices:
    """What came to nothing, and may be replaced."""
    asked: list[OrientationSummary] = shown["referral"].orientations
    people: Mapping[Any, PersonOut] = shown["people"]
    return [
        (str(one.id), f"{one.need.label}, {named(people[one.person_id])}, {within_sentence(one.status.label)}")
        for one in asked
        if one.status in CAME_TO_NOTHING
    ]


async def _request(session: AsyncSession, it: Doing, body: Any) -> BaseModel:
    answer_times = cast(Settings, it.runtime.settings).answer_times()
    search_key = secret_bytes(it.runtime.settings.search_key)
    return await asking.request(session, it.caller, it.runtime.vault, search_key, Links.of(it.runtime), it.id, body, it.now, answer_times)


async def _accept(session: AsyncSession, it: Doing, _: Any) -> BaseModel:
    return await orientations.accept(session, it.caller, it.id, it.version, it.now)


async def _reject(session: AsyncSession, it: Doing, body: Any) -> BaseModel:
    return await orientations.reject(session, it.caller, it.runtime.vault, it.id, it.version, body, it.now)


async def _start(session: AsyncSession, it: Doing, _: Any) -> BaseModel:
    return await orientations.start(session, it.caller, it.id, it.version, it.now)


async def _complete(session: AsyncSession, it: Doing, body: Any) -> BaseModel:
    return await orientations.complete(session, it.caller, it.id, it.version, body, it.now)


async def _fail(session: AsyncSession, it: Doing, body: Any) -> BaseModel:
    return await orientations.fail(session, it.caller, it.id, it.version, body, it.now)


async def _cancel(session: AsyncSession, it: Doing, body: Any) -> BaseModel:
    return await orientations.cancel(session, it.caller, it.id, it.version, body, it.now)


def _cancellations(_: Shown) -> Choices:
    return [(one.value, one.label) for one in OrientationCancellation if one not in WITHDRAWN_BECAUSE]


async def _link(session: AsyncSession, it: Doing, _: Any) -> BaseModel:
    return await asking.make_link(session, it.caller, Links.of(it.runtime), it.id, it.now)


REQUEST: Final = Change(
    "Orienter vers un partenaire",
    "Demander l'orientation",
    "L'orientation est demandée.",
    _request,
    OrientationIn,
    (
        Field("person_id", "Personne", "radios", _persons, otherwise=lambda shown: ""),
        Field("service_id", "Service", "radios", _services),
        Field("need", "Besoin", "select", of_codes(Need), otherwise=lambda shown: shown["asked"]["need"] or ""),
        Field(
            "legal_ground",
            "Motif légal, si la personne n'a pas donné son accord",
            "select",
            of_codes(LegalGround),
            required=False,
            hint="Ce motif est conservé et inscrit au journal.",
        ),
        Field("replaces_id", "Remplace une orientation qui n'a pas abouti", "select", replaceable, required=False),
    ),
)
LINK: Final = Change("Lien de réponse", "Faire un lien de réponse", "", _link)
"""For a partner without account."""

CHANGES: Final[Mapping[OrientationMove, Change]] = {
    OrientationMove.ACCEPT: Change("Accepter", "J'accepte cette orientation", "L'orientation est acceptée.", _accept),
    OrientationMove.REJECT: Change(
        "Refuser",
        "Je refuse cette orientation",
        "L'orientation est refusée.",
        _reject,
        RejectIn,
        (
            Field("reason", "Motif du refus", "select", of_codes(OrientationRejection)),
            Field(
                "reason_text",
                "Précisions",
                "prose",
                required=False,
                hint="Obligatoires pour « Autre motif ». La personne peut lire ce que vous écrivez ici.",
            ),
        ),
    ),
    OrientationMove.START: Change("Commencer", "L'accompagnement a commencé", "Le début de l'accompagnement est noté.", _start),
    OrientationMove.COMPLETE: Change(
        "Terminer",
        "L'accompagnement est terminé",
        "L'orientation est terminée.",
        _complete,
        CompleteIn,
        (Field("outcome", "Résultat", "select", of_codes(OrientationOutcome)),),
    ),
    OrientationMove.FAIL: Change(
        "Sans suite",
        "L'orientation est restée sans suite",
        "L'orientation est notée sans suite.",
        _fail,
        FailIn,
        (Field("reason", "Motif", "select", of_codes(OrientationFailure)),),
    ),
    OrientationMove.CANCEL: Change(
        "Annuler",
        "Annuler cette orientation",
        "L'orientation est annulée ; la structure en est prévenue.",
        _cancel,
        CancelIn,
        (Field("reason", "Motif", "select", _cancellations),),
    ),
}
"""What a person does with an orientation that was asked."""
