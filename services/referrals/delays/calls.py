"""Who of a referral was called, read from its rows; and what follows for its due time, under the lock of the referral."""

from datetime import datetime
from typing import NamedTuple

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from libs.contracts.vocabularies import ContactAgreement, ContactResult, PersonRole
from services.referrals.delays.due import closed_before
from services.referrals.domain import MINORS
from services.referrals.models import Person, Referral
from services.referrals.working.domain import SPOKEN_WITH
from services.referrals.working.helping import Attempt, Concerned, awaits_contact, first_contact, made_for
from services.referrals.working.models import ContactAttempt


class Calls(NamedTuple):
    """`attempts`: by when they were made, without those that were withdrawn."""

    persons: list[Concerned]
    attempts: list[Attempt]


async def calls_of(session: AsyncSession, referral: Referral) -> Calls:
    persons = await session.execute(
        select(
            col(Person.id), col(Person.role), col(Person.age_band), col(Person.agreement), col(Person.content) == b"", col(Person.joined_at)
        ).where(col(Person.referral_id) == referral.id)
    )
    attempts = await session.execute(
        select(col(ContactAttempt.person_id), col(ContactAttempt.result), col(ContactAttempt.attempted_at))
        .where(col(ContactAttempt.referral_id) == referral.id, col(ContactAttempt.withdrawn_at).is_(None))
        .order_by(col(ContactAttempt.attempted_at), col(ContactAttempt.id))
    )
    return Calls(
        [
            Concerned(id, PersonRole(role), band in MINORS, ContactAgreement(said), erased, joined_at)
            for id, role, band, said, erased, joined_at in persons
        ],
        [Attempt(person_id, ContactResult(result), at) for person_id, result, at in attempts],
    )


def count(referral: Referral, calls: Calls, since: datetime | None) -> bool:
    """Write when the first contact was, and whether somebody is still to be called. Gives whether somebody whom the referral is there to help was reached:
    what the police may know. `since`: when it was closed before it was last reopened (`closed_before`)."""
    referral.first_contact_at = first_contact(*calls)
    referral.awaits_contact = awaits_contact(*calls, since)
    return _reached(calls, since)


async def reached(session: AsyncSession, referral: Referral) -> bool:
    """What `count` gives, before something is changed."""
    return _reached(await calls_of(session, referral), await closed_before(session, referral.id))


def _reached(calls: Calls, since: datetime | None) -> bool:
    return any(one.result in SPOKEN_WITH for one in made_for(*calls, since))


async def recount(session: AsyncSession, referral: Referral, *, joined_at: datetime | None = None) -> bool:
    """`count`, from the rows: after a withdrawal, a correction, an erasure or a reopening.

    `joined_at`: somebody was added then, or turned out to be a victim. Where nobody else was to be called any more, the due time begins with them.
    """
    await session.flush()
    waited = referral.awaits_contact
    found = count(referral, await calls_of(session, referral), await closed_before(session, referral.id))
    if joined_at is not None and referral.awaits_contact and not waited:
        referral.due_from = joined_at
    return found
