"""Rules of what a request may say about a referral: times, places, persons, services, safe contact."""

from datetime import date, datetime
from typing import ClassVar

from libs.chassis.refusals import Conflict, Invalid
from libs.contracts.vocabularies import ContactAgreement
from services.referrals.domain import CLOCK_SKEW, OLDEST, PersonRefused, local_day


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


class UnknownService(Invalid):
    type: ClassVar[str] = "unknown-service"
    title: ClassVar[str] = "Service inconnu"


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


def check_orientation(agreement: str) -> None:
    """Raises PersonRefused."""
    if agreement == ContactAgreement.REFUSED:
        raise PersonRefused("Cette personne a refusé d'être contactée : elle ne peut pas être orientée.")


def check_past(moment: datetime, now: datetime, pointer: str) -> None:
    """What happened lies in the past, but for the difference of two clocks. Raises TimeImpossible."""
    if moment > now + CLOCK_SKEW:
        raise TimeImpossible("Une date ou une heure est dans le futur.", pointers=[(pointer, "Cette date est dans le futur.")])
    if moment < OLDEST:
        raise TimeImpossible("Une date ou une heure est trop ancienne.", pointers=[(pointer, "Cette date est trop ancienne.")])


def check_birth(birth_on: date, now: datetime, pointer: str) -> None:
    """Nobody is born tomorrow, by the calendar of Paris: at half past midnight a newborn's day has not begun in UTC. Raises TimeImpossible."""
    if birth_on > local_day(now):
        raise TimeImpossible("Une date de naissance est dans le futur.", pointers=[(pointer, "Cette date est dans le futur.")])
