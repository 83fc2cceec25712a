"""Whom a referral is there to help, and whether they were called: what its due time and the reasons of closing ask (DOMAIN §3: never assume one person).

Its victims. Without any, or when each of them refused before anybody called: whoever is not the alleged perpetrator; then him, whom the police often names
alone. A minor is called through an adult of their side as well: another victim, or whoever is named for them; a witness may be the neighbour.
"""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Final, NamedTuple
from uuid import UUID

from libs.contracts.vocabularies import ContactAgreement, ContactResult, PersonRole

_SIDES: Final = (frozenset({PersonRole.VICTIM}), frozenset(PersonRole) - {PersonRole.ALLEGED_PERPETRATOR}, frozenset(PersonRole))

_OF_A_MINOR: Final = frozenset({PersonRole.VICTIM, PersonRole.OTHER})
"""Adults through whom a minor is called."""


class Concerned(NamedTuple):
    """A person of a referral."""

    id: UUID
    role: PersonRole
    minor: bool
    agreement: ContactAgreement
    erased: bool
    joined_at: datetime | None = None
    """Otherwise than at reception, or as a victim since then."""

    @property
    def may_be_called(self) -> bool:
        return self.agreement is not ContactAgreement.REFUSED and not self.erased


class Attempt(NamedTuple):
    """To contact somebody; one that was withdrawn is none."""

    person_id: UUID
    result: ContactResult
    at: datetime


def those_of_first(persons: Collection[Concerned]) -> list[Concerned]:
    """The victims among them, else those who are not the alleged perpetrator, else all."""
    return next((found for side in _SIDES if (found := [one for one in persons if one.role in side])), [])


def to_help(persons: Collection[Concerned], attempts: Collection[Attempt]) -> list[Concerned]:
    """Who may be called or was; nobody only of a referral without persons."""
    tried = {one.person_id for one in attempts}
    return those_of_first([one for one in persons if one.may_be_called or one.id in tried] or persons)


def speaks_for_minors(role: PersonRole, *, minor: bool) -> bool:
    """Whether a minor is called through whoever has this role."""
    return not minor and role in _OF_A_MINOR


def attempts_for(person: Concerned, persons: Collection[Concerned], attempts: Sequence[Attempt]) -> list[Attempt]:
    """To reach a person; a minor also through the adults of their side."""
    through = {person.id}
    if person.minor:
        through |= {one.id for one in persons if speaks_for_minors(one.role, minor=one.minor)}
    return [one for one in attempts if one.person_id in through]


def tries(person: Concerned, made: Sequence[Attempt]) -> list[Attempt]:
    """Of the `attempts_for` a person: those that are about them. An adult who declined did so for nobody else, and speaks for a minor again once they are
    reached; that they do not answer a second call tries nobody."""
    counted, declined = [], set[UUID]()
    for one in made:
        if one.result is ContactResult.DECLINED:
            declined.add(one.person_id)
        elif one.result is ContactResult.REACHED:
            declined.discard(one.person_id)
        if one.person_id == person.id or one.person_id not in declined:
            counted.append(one)
    return counted


def made_for(persons: Collection[Concerned], attempts: Collection[Attempt], since: datetime | None = None) -> list[Attempt]:
    """Those to contact somebody whom the referral is there to help; `since`: as if nothing had been before."""
    counted = [one for one in attempts if since is None or one.at >= since]
    return [one for person in to_help(persons, counted) for one in attempts_for(person, persons, counted)]


def first_contact(persons: Collection[Concerned], attempts: Collection[Attempt]) -> datetime | None:
    return min((one.at for one in made_for(persons, attempts)), default=None)


def awaits_contact(persons: Collection[Concerned], attempts: Sequence[Attempt], since: datetime | None) -> bool:
    """Nobody to be helped was called, or one of them joined later and was not, and they may be: the alleged perpetrator only where nobody else is named, for
    no refusal presses to call him."""
    others = [one for one in persons if one.role is not PersonRole.ALLEGED_PERPETRATOR]
    waiting = [one for one in others or persons if one.may_be_called]
    late = [one for one in to_help(persons, attempts) if one in waiting and one.joined_at is not None]
    return any(not _tried_since_joining(one, persons, attempts) for one in late) or (
        not made_for(persons, attempts, since) and (not persons or bool(waiting))
    )


def _tried_since_joining(person: Concerned, persons: Collection[Concerned], attempts: Sequence[Attempt]) -> bool:
    """Called by their own name, or, a minor, through an adult from then on: what was said to that adult before was not about them."""
    made = attempts_for(person, persons, attempts)
    return any(one.person_id == person.id or (person.joined_at is not None and one.at >= person.joined_at) for one in made)
