"""Who was reached turns out to be who the referral is there to help, by a correction of roles or a refusal: the police is told of that contact."""

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from libs.chassis import outbox
from libs.contracts.referrals import ContactAttempted
from libs.contracts.units import police_id_of
from libs.contracts.vocabularies import ContactMode, ContactResult, ReferralStatus
from services.referrals.delays.calls import calls_of
from services.referrals.delays.due import closed_before
from services.referrals.domain import minutes_between
from services.referrals.models import Person, Referral
from services.referrals.persons import told_as
from services.referrals.working.domain import SPOKEN_WITH
from services.referrals.working.helping import made_for
from services.referrals.working.models import ContactAttempt


async def tell_reached(session: AsyncSession, referral: Referral, *, reached: bool) -> None:
    """`reached`: what the recount of a referral that the caller has locked gave. The first contact by which somebody of them was reached is said again, now
    with the police system. Contacted once, it is so until it ends; of what is closed the police is told nothing more."""
    if not reached or referral.contacted or referral.status == ReferralStatus.CLOSED:
        return
    counted = {(one.person_id, one.at) for one in made_for(*await calls_of(session, referral), await closed_before(session, referral.id))}
    attempts = await session.scalars(
        select(ContactAttempt)
        .where(
            col(ContactAttempt.referral_id) == referral.id,
            col(ContactAttempt.withdrawn_at).is_(None),
            col(ContactAttempt.result).in_(SPOKEN_WITH),
        )
        .order_by(col(ContactAttempt.attempted_at), col(ContactAttempt.id))
    )
    attempt = next(one for one in attempts if (one.person_id, one.attempted_at) in counted)
    person = await session.get_one(Person, attempt.person_id)
    referral.contacted = True
    await say_attempted(session, referral, attempt, person, first=attempt.attempted_at == referral.first_contact_at, to_police=True)


async def say_attempted(
    session: AsyncSession, referral: Referral, attempt: ContactAttempt, person: Person, *, first: bool, to_police: bool
) -> None:
    await outbox.append(
        session,
        ContactAttempted(
            referral_id=referral.id,
            departement=referral.departement,
            contact_id=attempt.id,
            person_id=told_as(person),
            post_id=attempt.post_id,
            mode=ContactMode(attempt.mode),
            result=ContactResult(attempt.result),
            first=first,
            delay_minutes=minutes_between(referral.received_at, attempt.attempted_at),
            attempted_at=attempt.attempted_at,
            police_id=police_id_of(referral.client_id) if to_police else None,
        ),
        occurred_at=attempt.attempted_at,
    )
