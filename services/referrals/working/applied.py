"""Which safe-contact rules apply to a person: their own; to a minor without any, those of the adults through whom they are called (helping.py), all together.

Never those of an alleged perpetrator; and none to a minor who is one: what is known of the others of the situation is not for who works with them.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from libs.chassis.vault import Vault
from libs.contracts.vocabularies import PersonRole
from services.referrals.domain import MINORS
from services.referrals.models import Person
from services.referrals.persons import sealed_content
from services.referrals.schemas import PersonContent, RulesOf, SafeContact
from services.referrals.working.helping import speaks_for_minors
from services.referrals.working.safe_contact import strictest
from services.referrals.working.work import contents_of


class Applied(NamedTuple):
    """Rules, and whose they are; none of either."""

    rules: SafeContact | None
    of: RulesOf | None


NONE = Applied(None, None)


async def applied_to(
    session: AsyncSession, vault: Vault, persons: Sequence[Person], contents: Mapping[UUID, PersonContent]
) -> dict[UUID, Applied]:
    """By id, of persons of one referral. `contents`: theirs, as `contents_of` gives them; to who was erased nothing applies."""
    found = {person.id: _own(contents.get(person.id)) for person in persons}
    without = [person for person in persons if person.id in contents and found[person.id] == NONE and _is_called_through_adults(person)]
    if without:
        others = await session.scalars(
            select(Person).where(col(Person.referral_id) == without[0].referral_id).order_by(col(Person.position))
        )
        adults = [one for one in others if speaks_for_minors(PersonRole(one.role), minor=one.age_band in MINORS)]
        theirs = (await contents_of(session, vault, adults)).values()
        rules = strictest([one.safe_contact for one in theirs if one.safe_contact is not None])
        found |= dict.fromkeys([person.id for person in without], NONE if rules is None else Applied(rules, RulesOf.ADULTS))
    return found


async def rules_of(session: AsyncSession, vault: Vault, persons: Sequence[Person]) -> list[SafeContact]:
    """All that apply to any of some persons of one referral."""
    applied = await applied_to(session, vault, persons, await contents_of(session, vault, persons))
    return [one.rules for one in applied.values() if one.rules is not None]


async def leave_to_minors(session: AsyncSession, vault: Vault, persons: Sequence[Person], going: Collection[Person]) -> None:
    """Before some of the persons of a referral are erased: by which rules a minor who stays is reached through them is known of the minor from then on."""
    if not any(speaks_for_minors(PersonRole(one.role), minor=one.age_band in MINORS) for one in going):
        return
    minors = [one for one in persons if one not in going and _is_called_through_adults(one)]
    contents = await contents_of(session, vault, minors)
    applied = await applied_to(session, vault, minors, contents)
    for one in minors:
        if applied[one.id].of is RulesOf.ADULTS:
            key = await vault.open_key(session, one.key_id)
            content = contents[one.id].model_copy(update={"safe_contact": applied[one.id].rules})
            one.content = sealed_content(key, content)


def _own(content: PersonContent | None) -> Applied:
    return NONE if content is None or content.safe_contact is None else Applied(content.safe_contact, RulesOf.PERSON)


def _is_called_through_adults(person: Person) -> bool:
    return person.age_band in MINORS and person.role != PersonRole.ALLEGED_PERPETRATOR
