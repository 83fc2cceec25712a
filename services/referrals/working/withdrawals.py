"""What the social worker noted by mistake is taken back: it stays in sight with the reason, and nothing counts it or rests on it any more."""

from datetime import datetime
from typing import ClassVar
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from libs.chassis import outbox
from libs.chassis.refusals import Conflict
from libs.chassis.security import Principal
from libs.contracts.referrals import ContactWithdrawn, InterviewWithdrawn
from libs.contracts.units import police_id_of
from services.referrals.delays.due import Delays
from services.referrals.domain import Move, minutes_between
from services.referrals.models import Referral
from services.referrals.rules import are_met
from services.referrals.working.followup import reached
from services.referrals.working.followup_schemas import ContactWithdrawnOut, InterviewWithdrawnOut, WithdrawIn
from services.referrals.working.models import ContactAttempt, Interview
from services.referrals.working.work import locked_for, people_of, still_noted, take_back


class WithdrawnAlready(Conflict):
    type: ClassVar[str] = "contact-withdrawn-already"
    title: ClassVar[str] = "Déjà retirée"


class InterviewWithdrawnAlready(Conflict):
    type: ClassVar[str] = "interview-withdrawn-already"
    title: ClassVar[str] = "Déjà retiré"


class InterviewRestsOnIt(Conflict):
    """Each adult of an interview was reached before."""

    type: ClassVar[str] = "interview-rests-on-it"
    title: ClassVar[str] = "Un entretien repose sur ce contact"


async def withdraw_contact(
    session: AsyncSession, caller: Principal, delays: Delays, referral_id: UUID, contact_id: UUID, body: WithdrawIn, now: datetime
) -> ContactWithdrawnOut:
    """Where a contact may be noted. What the person said with it about being contacted was noted as a correction, and is corrected as one.

    Raises NotFound, MoveRefused, WithdrawnAlready, InterviewRestsOnIt.
    """
    referral = await locked_for(session, caller, referral_id, Move.CONTACT)
    already = WithdrawnAlready("Cette tentative de contact a déjà été retirée.")
    attempt = await still_noted(session, referral.id, ContactAttempt, contact_id, already)
    await _check_nothing_rests(session, referral, attempt)
    await take_back(session, caller, referral, attempt, body.reason, now)
    first = referral.first_contact_at = await _first_of_those_left(session, referral)
    if first is None:
        await delays.resume(session, referral)
    await session.flush()
    await outbox.append(
        session,
        ContactWithdrawn(
            referral_id=referral.id,
            departement=referral.departement,
            contact_id=attempt.id,
            post_id=attempt.post_id,
            first_attempted_at=first,
            delay_minutes=minutes_between(referral.received_at, first) if first is not None else None,
            withdrawn_at=now,
            police_id=police_id_of(referral.client_id) if first is None else None,
        ),
    )
    return ContactWithdrawnOut(id=attempt.id, referral_id=referral.id, first_contact_at=first, version=referral.version)


async def withdraw_interview(
    session: AsyncSession, caller: Principal, referral_id: UUID, interview_id: UUID, body: WithdrawIn, now: datetime
) -> InterviewWithdrawnOut:
    """Where an interview may be noted. Raises NotFound, MoveRefused, InterviewWithdrawnAlready."""
    referral = await locked_for(session, caller, referral_id, Move.INTERVIEW)
    already = InterviewWithdrawnAlready("Cet entretien a déjà été retiré.")
    held = await still_noted(session, referral.id, Interview, interview_id, already)
    await take_back(session, caller, referral, held, body.reason, now)
    await outbox.append(
        session,
        InterviewWithdrawn(
            referral_id=referral.id, departement=referral.departement, interview_id=held.id, post_id=held.post_id, withdrawn_at=now
        ),
    )
    return InterviewWithdrawnOut(id=held.id, referral_id=referral.id, version=referral.version)


async def _first_of_those_left(session: AsyncSession, referral: Referral) -> datetime | None:
    left = select(func.min(col(ContactAttempt.attempted_at))).where(
        col(ContactAttempt.referral_id) == referral.id, col(ContactAttempt.withdrawn_at).is_(None)
    )
    found: datetime | None = await session.scalar(left)
    return found


async def _check_nothing_rests(session: AsyncSession, referral: Referral, attempt: ContactAttempt) -> None:
    """No interview would be left with somebody whom nobody had reached by then. Raises InterviewRestsOnIt."""
    since = select(Interview).where(
        col(Interview.referral_id) == referral.id, col(Interview.held_at) >= attempt.attempted_at, col(Interview.withdrawn_at).is_(None)
    )
    for held in (await session.scalars(since)).all():
        persons = await people_of(session, referral.id, held.person_ids)
        with_it = await reached(session, referral.id, held.held_at)
        without = await reached(session, referral.id, held.held_at, besides=attempt.id)
        if are_met(persons, with_it) and not are_met(persons, without):
            raise InterviewRestsOnIt(
                "Un entretien noté depuis repose sur ce contact : retirez d'abord cet entretien, ou notez le contact où la personne a été jointe avant lui.",
                more={"interview_id": str(held.id)},
            )
