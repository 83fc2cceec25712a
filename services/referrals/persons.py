"""A person's sealed content: how it is hashed for finding, sealed anew when it is corrected, and found again in other referrals."""

from collections.abc import Sequence
from datetime import date, datetime
from typing import NamedTuple
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from libs.chassis.vault import DataKey, Vault, keyed_hash
from libs.contracts.referrals import number_of
from libs.contracts.types import civil_day
from libs.contracts.vocabularies import AgeBand, age_band_of
from services.referrals.domain import age_on
from services.referrals.identities import identities_sought, names_sought, normalised_identity, normalised_name
from services.referrals.models import Person
from services.referrals.schemas import Identity, PersonContent

PERSON = "person/content"
NARRATIVE = "referral/narrative"
REJECTION = "orientation/rejection"
"""The vault's contexts: what is sealed for one place opens at no other."""


def sealed_content(key: DataKey, content: PersonContent) -> bytes:
    return key.seal(content.model_dump_json().encode(), context=PERSON)


def opened_content(key: DataKey, sealed: bytes) -> PersonContent:
    """Raises SealBroken."""
    return PersonContent.model_validate_json(key.open(sealed, context=PERSON))


class Hashes(NamedTuple):
    """Keyed, of what is known of a person; none where it does not suffice."""

    identity: bytes | None
    """Of the names and the birth date (`identities.normalised_identity`)."""
    name: bytes | None
    """Of the names alone (`identities.normalised_name`)."""
    sought: Sequence[bytes]
    """Those by which an earlier referral may hold the same person (`hashes_sought_of`)."""


def hashes_of(search_key: bytes, identity: Identity | None) -> Hashes:
    """For most people what they are known and sought by is one hash, made once."""
    name = normalised_name(identity.family_name, identity.given_name) if identity is not None else None
    if identity is None or name is None:
        return Hashes(None, None, ())
    by_name = keyed_hash(search_key, name)
    if identity.birth_on is None:
        return Hashes(None, by_name, ())
    own = normalised_identity(name, identity.birth_on)
    others = [one for one in identities_sought(identity.family_name, identity.given_name, identity.birth_on) if one != own]
    hashes = [keyed_hash(search_key, one) for one in (own, *others)]
    return Hashes(hashes[0], by_name, hashes)


def names_hashes_sought(search_key: bytes, family_name: str, given_name: str) -> list[bytes]:
    """Those by which a person of these names may be found (`identities.names_sought`)."""
    return [keyed_hash(search_key, one) for one in names_sought(family_name, given_name)]


def hashes_sought(search_key: bytes, family_name: str, given_name: str, birth_on: date) -> list[bytes]:
    """The same, of names and a birth date."""
    return [keyed_hash(search_key, one) for one in identities_sought(family_name, given_name, birth_on)]


def hashes_sought_of(search_key: bytes, identity: Identity | None) -> list[bytes]:
    """Those by which another referral may hold the same person; none when the identity does not suffice."""
    if identity is None or identity.family_name is None or identity.given_name is None or identity.birth_on is None:
        return []
    return hashes_sought(search_key, identity.family_name, identity.given_name, identity.birth_on)


def age_band_on(content: PersonContent, occurred_at: datetime) -> AgeBand:
    """The age band on the day it happened, as figures count it."""
    birth_on = content.identity.birth_on if content.identity is not None else None
    age = content.approximate_age if birth_on is None else age_on(birth_on, civil_day(occurred_at))
    return AgeBand.UNKNOWN if age is not None and age < 0 else age_band_of(age)


async def reseal(
    session: AsyncSession, vault: Vault, search_key: bytes, person: Person, content: PersonContent, occurred_at: datetime
) -> None:
    """Replace what is sealed of a person, under the person's own key; the hashes and the age band follow.

    The caller has locked the referral. Raises KeyDestroyed (410) for who was erased: nothing is sealed for them any more.
    """
    key = await vault.open_key(session, person.key_id)
    person.content = sealed_content(key, content)
    found_by = hashes_of(search_key, content.identity)
    person.identity_hash, person.name_hash = found_by.identity, found_by.name
    person.age_band = age_band_on(content, occurred_at)
    await session.flush()


def told_as(person: Person) -> UUID:
    """By which id events tell of a person: of who was erased by the number in the referral alone."""
    return person.id if person.content else number_of(person.position + 1)
