"""Rules of what a request may say about a referral: times, persons, services, safe contact; and what the police may read."""

from collections.abc import Collection, Mapping
from datetime import datetime
from enum import StrEnum
from typing import ClassVar, Final

from libs.chassis.refusals import Conflict, Invalid
from libs.contracts.vocabularies import ContactAgreement, ContactMode, ReferralStatus, Urgency
from services.referrals.domain import CLOCK_SKEW, OLDEST, PersonRefused


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


TARGET_MINUTES: Final[Mapping[str, int]] = {Urgency.IMMEDIATE: 4 * 60, Urgency.PRIORITY: 24 * 60, Urgency.STANDARD: 72 * 60}
"""From reception to the first contact attempt, where no agreement says otherwise (DOMAIN §3, unconfirmed; an agreement replaces them)."""


class PoliceStatus(StrEnum):
    """All that the police reads of its referral (report 1.2.5): never what was said, nor to whom the person was oriented."""

    RECEIVED = "received"
    ASSIGNED = "assigned"
    ACCEPTED = "accepted"
    CONTACTED = "contacted"
    CLOSED = "closed"


def police_status(status: str, contacted: bool) -> PoliceStatus:
    """`unrouted` is the network's own concern: to the police the referral was received."""
    match status:
        case ReferralStatus.CLOSED | ReferralStatus.ERASED:
            return PoliceStatus.CLOSED
        case ReferralStatus.ACCEPTED:
            return PoliceStatus.CONTACTED if contacted else PoliceStatus.ACCEPTED
        case ReferralStatus.ASSIGNED:
            return PoliceStatus.ASSIGNED
        case _:
            return PoliceStatus.RECEIVED
