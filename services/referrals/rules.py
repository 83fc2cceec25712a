"""Rules of what a request may say about a referral: times, places, persons, services, safe contact."""

from collections.abc import Collection
from datetime import date, datetime
from typing import ClassVar
from uuid import UUID

from libs.chassis.refusals import Conflict, Invalid
from libs.contracts.types import civil_day
from libs.contracts.vocabularies import ContactAgreement
from services.referrals.domain import CLOCK_SKEW, MINORS, OLDEST, PersonRefused
from services.referrals.models import Person


class ContentErased(Conflict):
    """Nothing is left that would say how to reach this person safely."""

    type: ClassVar[str] = "person-erased"
    title: ClassVar[str] = "Données effacées"


class NoContactYet(Conflict):
    """The life of a referral: contacted, then interviewed, then assessed (DOMAIN §3); the target delay counts the first contact."""

    type: ClassVar[str] = "no-contact-yet"
    title: ClassVar[str] = "Premier contact non noté"


class UnknownPerson(Invalid):
    type: ClassVar[str] = "unknown-person"
    title: ClassVar[str] = "Personne inconnue"


class UnknownPost(Invalid):
    type: ClassVar[str] = "unknown-post"
    title: ClassVar[str] = "Poste inconnu"


class OutsidePerimeter(Invalid):
    """The client works for other départements than the one the referral would belong to."""

    type: ClassVar[str] = "outside-perimeter"
    title: ClassVar[str] = "Hors du périmètre"


class TimeImpossible(Invalid):
    type: ClassVar[str] = "time-impossible"
    title: ClassVar[str] = "Date impossible"


def check_contact(agreement: str) -> None:
    """Asked and accepted, or not asked yet: a first contact asks. Raises PersonRefused."""
    if agreement == ContactAgreement.REFUSED:
        raise PersonRefused("Cette personne a refusé d'être contactée : elle est comptée, mais personne ne l'appelle.")


def check_kept(content: bytes) -> None:
    """Of who was erased nothing is sealed any more, and nothing is done any more. Raises ContentErased."""
    if not content:
        raise ContentErased("Les données de cette personne ont été effacées : plus rien n'est fait pour elle.")


def are_met(persons: Collection[Person], reached: Collection[UUID]) -> bool:
    strangers = [person for person in persons if person.id not in reached]
    return not strangers or (bool(reached) and all(person.age_band in MINORS for person in strangers))


def check_met(persons: Collection[Person], reached: Collection[UUID]) -> None:
    """For an interview or an assessment: each adult was reached before, which is when the person says whether they agree; a minor may come with
    whoever was. Raises NoContactYet."""
    if not are_met(persons, reached):
        raise NoContactYet(
            "Aucun contact où chacune de ces personnes a été jointe n'est noté à cette date : notez-le d'abord"
            " (« sur place » si la personne est venue). Un mineur peut accompagner une personne jointe."
        )


def check_past(moment: datetime, now: datetime, pointer: str) -> None:
    """What happened lies in the past, but for the difference of two clocks. Raises TimeImpossible."""
    if moment > now + CLOCK_SKEW:
        raise TimeImpossible("Une date ou une heure est dans le futur.", pointers=[(pointer, "Cette date est dans le futur.")])
    if moment < OLDEST:
        raise TimeImpossible("Une date ou une heure est trop ancienne.", pointers=[(pointer, "Cette date est trop ancienne.")])


def check_since(moment: datetime, occurred_at: datetime, pointer: str) -> None:
    """Nothing is done about facts before they occurred, but for the difference of two clocks: no delay is met by a date of long ago. Raises TimeImpossible."""
    if moment < occurred_at - CLOCK_SKEW:
        raise TimeImpossible(
            "Une date ou une heure précède les faits.", pointers=[(pointer, "Cette date précède les faits de la saisine.")]
        )


def check_day_since(day: date, since: datetime, now: datetime, pointer: str) -> None:
    """A day, in Paris, between an instant and now. Raises TimeImpossible."""
    if day > civil_day(now):
        raise TimeImpossible("Une date est dans le futur.", pointers=[(pointer, "Cette date est dans le futur.")])
    if day < civil_day(since):
        raise TimeImpossible("Une date est trop ancienne.", pointers=[(pointer, f"Cette date précède le {civil_day(since):%d/%m/%Y}.")])


def check_birth(birth_on: date, now: datetime, pointer: str) -> None:
    """Nobody is born tomorrow, by the calendar of Paris: at half past midnight a newborn's day has not begun in UTC. Raises TimeImpossible."""
    if birth_on > civil_day(now):
        raise TimeImpossible("Une date de naissance est dans le futur.", pointers=[(pointer, "Cette date est dans le futur.")])
