"""Rules of what a request may say about a referral: times, places, persons, services, safe contact."""

from collections.abc import Collection
from datetime import date, datetime
from typing import ClassVar

from libs.chassis.refusals import Conflict, Invalid
from libs.contracts.vocabularies import ContactAgreement, ContactMode
from services.referrals.domain import CLOCK_SKEW, OLDEST, PersonRefused, local_day


class UnsafeContact(Conflict):
    """The person's safe-contact rules do not name this way of contact (DOMAIN §3)."""

    type: ClassVar[str] = "unsafe-contact"
    title: ClassVar[str] = "Mode de contact dangereux"


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


def check_contact(agreement: str, mode: ContactMode, allowed: Collection[ContactMode] | None) -> None:
    """`allowed`: the ways that the safe-contact rules name, `None` when there are no rules. Raises PersonRefused, UnsafeContact."""
    if agreement == ContactAgreement.REFUSED:
        raise PersonRefused("Cette personne a refusé d'être contactée : elle est comptée, mais personne ne l'appelle.")
    if allowed is not None and mode not in allowed:
        raise UnsafeContact(
            "Les consignes de contact de cette personne ne permettent pas ce mode : choisissez l'un de ceux qu'elles autorisent."
        )


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
