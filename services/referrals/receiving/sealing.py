"""What can be done of a request to receive before its transaction begins: its personal content is sealed, each person and the narrative by a key of their own."""

from collections.abc import Sequence
from hashlib import sha256
from typing import NamedTuple
from uuid import UUID

from libs.chassis.ids import new_id
from libs.chassis.telemetry import Trace
from libs.chassis.vault import FreshKey, Vault
from libs.contracts.referrals import PersonCounted
from services.referrals.persons import NARRATIVE, Hashes, age_band_on, hashes_of, sealed_content
from services.referrals.receiving.schemas import ReferralIn
from services.referrals.schemas import PersonContent, PersonIn


class SealedPerson(NamedTuple):
    id: UUID
    counted: PersonCounted
    fresh: FreshKey
    content: bytes
    found_by: Hashes


class Intake(NamedTuple):
    """One request to receive, its personal content sealed (`sealed`): what could be done of it before its transaction begins is done."""

    client_id: str
    request: ReferralIn
    digest: bytes
    """SHA-256 of its body, which the receipt names."""
    referral_id: UUID
    persons: Sequence[SealedPerson]
    narrative: tuple[FreshKey, bytes] | None
    departements: frozenset[str] | None = None
    """Those that the client works for; `None`: all of them."""
    trace: Trace | None = None
    """The request it came with, when it is received together with others."""


def sealed(
    vault: Vault,
    search_key: bytes,
    client_id: str,
    request: ReferralIn,
    digest: bytes,
    *,
    departements: frozenset[str] | None = None,
    trace: Trace | None = None,
    referral_id: UUID | None = None,
    person_ids: Sequence[UUID] = (),
) -> Intake:
    """Touches no database. `search_key`: of the hashes of identities. Ids are chosen by tests only."""
    ids = iter(person_ids)
    persons = [_person(vault, search_key, person, request, next(ids, None) or new_id()) for person in request.persons]
    narrative = None
    if request.narrative is not None:
        key = vault.fresh_key("narrative")
        narrative = (key, key.key.seal(request.narrative.encode(), context=NARRATIVE))
    return Intake(client_id, request, digest, referral_id or new_id(), persons, narrative, departements, trace)


def _person(vault: Vault, search_key: bytes, person: PersonIn, request: ReferralIn, person_id: UUID) -> SealedPerson:
    key = vault.fresh_key("person")
    content = PersonContent(
        identity=person.identity, approximate_age=person.approximate_age, contact=person.contact, safe_contact=person.safe_contact
    )
    counted = PersonCounted(
        person_id=person_id,
        role=person.role,
        sex=person.sex,
        age_band=age_band_on(content, request.occurred_at),
        agreement=person.agreement,
        known_to_services=person.known_to_services,
    )
    content_sealed = sealed_content(key.key, content)
    return SealedPerson(person_id, counted, key, content_sealed, hashes_of(search_key, person.identity))


def request_digest(body: bytes) -> bytes:
    return sha256(body).digest()
