"""Rules of what a request may say about a referral: times, places, persons, services, safe contact."""

from collections.abc import Collection
from datetime import date, datetime
from typing import ClassVar
from uuid import UUID

from libs.chassis.refusals import Conflict, Invalid
from libs.contracts.types import civil_day
from libs.contracts.vocabularies import ContactAgreement, ContactMode
from services.referrals.domain import CLOCK_SKEW, MINORS, OLDEST, PersonRefused, age_on
from services.referrals.models import Person
from services.referrals.schemas import PersonContent, PersonIn, SafeContact


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


class Contradiction(Invalid):
    """Two things that are said of one person cannot both be true: which one is, nobody here guesses."""

    type: ClassVar[str] = "contradiction"
    title: ClassVar[str] = "Données contradictoires"


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


def check_consistent(person: PersonIn, occurred_at: datetime, now: datetime, pointer: str) -> None:
    """What is said of a person can be true as a whole. Raises Contradiction."""
    check_age(person, occurred_at, now, f"{pointer}/approximate_age")
    check_texts(person.safe_contact, pointer)


def check_age(person: PersonIn | PersonContent, occurred_at: datetime, now: datetime, pointer: str) -> None:
    """Software sends the age it computed beside the birth date, of the day of the facts or of today, and whoever typed it may be a year off. Further from
    both, one of the two is another person's. Raises Contradiction."""
    birth_on = person.identity.birth_on if person.identity is not None else None
    if birth_on is None or person.approximate_age is None:
        return
    if not age_on(birth_on, civil_day(occurred_at)) - 1 <= person.approximate_age <= age_on(birth_on, civil_day(now)) + 1:
        raise Contradiction(
            "L'âge approximatif et la date de naissance d'une personne se contredisent : corrigez l'un des deux, ou ne donnez que la date.",
            pointers=[(pointer, "L'âge approximatif et la date de naissance se contredisent.")],
        )


def check_texts(rules: SafeContact | None, pointer: str) -> None:
    """Raises Contradiction."""
    if rules is not None and ContactMode.TEXT in rules.modes and not rules.text_allowed:
        raise Contradiction(
            "Les consignes de contact d'une personne permettent le SMS et l'interdisent : dites lequel des deux.",
            pointers=[(f"{pointer}/safe_contact/text_allowed", "Le SMS est parmi les seuls moyens permis, et interdit.")],
        )
