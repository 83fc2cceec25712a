"""The same person seen before: found by the keyed hash of the normalised identity, told to who works the referral, never to the police.

What is normalised is written at `identities.normalised_name` and `normalised_identity`, what is looked for at `identities.identities_sought`. A hint, not a
fact: two persons of one name born on one day are taken for one.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import select, tuple_
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from libs.chassis.database import Statement, run
from services.referrals.models import Person, Referral
from services.referrals.receiving.schemas import AlreadyKnownOut, PersonFound

MOST = 100
"""Earlier referrals looked at for a person: beyond, the picture does not change."""

_KNOWN = Statement(
    "SELECT hash FROM unnest(CAST(:hashes AS bytea[])) AS asked (hash) WHERE EXISTS (SELECT FROM persons WHERE identity_hash = asked.hash)"
)
_KNOWN_BEFORE = Statement(
    "SELECT hash FROM unnest(CAST(:hashes AS bytea[])) AS asked (hash) WHERE EXISTS (SELECT FROM persons p JOIN referrals r ON r.id = p.referral_id"
    " WHERE p.identity_hash = asked.hash AND (r.received_at, r.id) < (CAST(:received_at AS timestamptz), CAST(:id AS uuid)))"
)

Sees = Callable[[Referral], bool]


async def known(session: AsyncSession, hashes: Collection[bytes]) -> set[bytes]:
    """Those of these hashes under which a person was received already."""
    return {row["hash"] for row in await run(session, _KNOWN, {"hashes": list(hashes)})} if hashes else set()


Sought = Mapping[UUID, Collection[bytes]]
"""The hashes by which an earlier referral may hold each person (`persons.hashes_sought_of`)."""


async def returning(session: AsyncSession, referral: Referral, persons: Collection[Person], sought: Sought) -> dict[UUID, bool | None]:
    """Of persons of a referral whose identity became another after its reception: whether an earlier one held them, as the social worker is told it
    (`already_known`); `None`: it does not suffice to tell."""
    hashes = {one for person in persons if person.identity_hash is not None for one in sought[person.id]}
    asked = {"hashes": list(hashes), "received_at": referral.received_at, "id": referral.id}
    before = {row["hash"] for row in await run(session, _KNOWN_BEFORE, asked)} if hashes else set()
    return {person.id: None if person.identity_hash is None else not before.isdisjoint(sought[person.id]) for person in persons}


async def already_known(
    session: AsyncSession, referral: Referral, persons: Sequence[Person], sought: Sought, sees: Sees
) -> list[AlreadyKnownOut]:
    """Who of a referral was in an earlier one: which, within the caller's perimeter; outside it only that there is one."""
    hashes = {one for person in persons for one in sought.get(person.id, ())}
    if not hashes:
        return []
    earlier = select(Person, Referral).join(Referral, col(Referral.id) == col(Person.referral_id))
    earlier = earlier.where(
        col(Person.identity_hash).in_(hashes),
        tuple_(col(Referral.received_at), col(Referral.id)) < tuple_(referral.received_at, referral.id),
    ).order_by(col(Referral.received_at).desc(), col(Referral.id).desc())
    rows = (await session.execute(earlier.limit(MOST))).all()
    told = []
    for person in persons:
        same = [(one, its) for one, its in rows if one.identity_hash in sought.get(person.id, ())]
        if same:
            told.append(
                AlreadyKnownOut(
                    person_id=person.id,
                    referrals=[found(one, its) for one, its in same if sees(its)],
                    elsewhere=any(not sees(its) for _, its in same),
                )
            )
    return told


async def search(session: AsyncSession, who: Any, perimeter: Any) -> list[PersonFound]:
    """The persons of this condition in the referrals of the caller's perimeter, who is known by a birth date first, then newest reception first; at most `MOST`."""
    query = select(Person, Referral).join(Referral, col(Referral.id) == col(Person.referral_id)).where(who, perimeter)
    query = query.order_by(
        col(Person.identity_hash).is_(None), col(Referral.received_at).desc(), col(Referral.id).desc(), col(Person.position)
    )
    rows = await session.execute(query.limit(MOST))
    return [found(person, referral) for person, referral in rows]


def found(person: Person, referral: Referral) -> PersonFound:
    values: dict[str, object] = {
        "person_id": person.id,
        "referral_id": referral.id,
        "role": person.role,
        "sex": person.sex,
        "age_band": person.age_band,
        "status": referral.status,
        "received_at": referral.received_at,
        "closed_at": referral.closed_at,
    }
    return PersonFound.model_validate(values)
