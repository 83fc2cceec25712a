"""A person's sealed content: how it is hashed for finding, sealed anew when it is corrected, and found again in other referrals."""

from datetime import date, datetime
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from libs.chassis.vault import Vault, keyed_hash
from libs.contracts.referrals import number_of
from libs.contracts.types import civil_day
from libs.contracts.vocabularies import AgeBand, age_band_of
from services.referrals.domain import age_on
from services.referrals.identities import identities_sought, normalised_identity
from services.referrals.models import Person
from services.referrals.schemas import Identity, PersonContent

PERSON = "person/content"
NARRATIVE = "referral/narrative"
REJECTION = "orientation/rejection"
"""The vault's contexts: what is sealed for one place opens at no other."""


def identity_hash_of(search_key: bytes, identity: Identity | None) -> bytes | None:
    """The keyed hash a person is found by (`identities.normalised_identity` says of what), `None` when the identity does not suffice."""
    if identity is None:
        return None
    normalised = normalised_identity(identity.family_name, identity.given_name, identity.birth_on)
    return keyed_hash(search_key, normalised) if normalised is not None else None


def hashes_sought(search_key: bytes, family_name: str, given_name: str, birth_on: date) -> list[bytes]:
    """Those by which a person of this identity may be found (`identities.identities_sought`)."""
    return [keyed_hash(search_key, one) for one in identities_sought(family_name, given_name, birth_on)]


def hashes_sought_of(search_key: bytes, identity: Identity | None) -> list[bytes]:
    """Those by which another referral may hold the same person; none when the identity does not suffice."""
    if identity is None or identity.family_name is None or identity.given_name is None or identity.birth_on is None:
        return []
    return hashes_sought(search_key, identity.family_name, identity.given_name, identity.birth_on)


def hashes_of(search_key: bytes, identity: Identity | None) -> tuple[bytes | None, list[bytes]]:
    """`identity_hash_of`, and `hashes_sought_of` where there is one: for most people it is the same hash, made once."""
    if identity is None or identity.birth_on is None:
        return None, []
    own = normalised_identity(identity.family_name, identity.given_name, identity.birth_on)
    if own is None:
        return None, []
    others = [one for one in identities_sought(identity.family_name, identity.given_name, identity.birth_on) if one != own]
    hashes = [keyed_hash(search_key, one) for one in (own, *others)]
    return hashes[0], hashes


def age_band_on(content: PersonContent, occurred_at: datetime) -> AgeBand:
    """The age band on the day it happened, as figures count it."""
    birth_on = content.identity.birth_on if content.identity is not None else None
    age = content.approximate_age if birth_on is None else age_on(birth_on, civil_day(occurred_at))
    return AgeBand.UNKNOWN if age is not None and age < 0 else age_band_of(age)


async def reseal(
    session: AsyncSession, vault: Vault, search_key: bytes, person: Person, content: PersonContent, occurred_at: datetime
) -> None:
    """Replace what is sealed of a person, under the person's own key; the hash and the age band follow.

    The caller has locked the referral. Raises KeyDestroyed (410) for who was erased: nothing is sealed for them any more.
    """
    key = await vault.open_key(session, person.key_id)
    person.content = key.seal(content.model_dump_json().encode(), context=PERSON)
    person.identity_hash = identity_hash_of(search_key, content.identity)
    person.age_band = age_band_on(content, occurred_at)
    await session.flush()


def told_as(person: Person) -> UUID:
    """By which id events tell of a person: of who was erased by the number in the referral alone."""
    return person.id if person.content else number_of(person.position + 1)
