"""What the social worker noted by mistake is taken back: it stays in sight with the reason, and nothing counts it or rests on it any more."""

from collections.abc import Sequence
from datetime import datetime
from typing import ClassVar, TypeAlias
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from libs.chassis import outbox
from libs.chassis.refusals import Conflict
from libs.chassis.security import Principal
from libs.contracts.referrals import AssessmentWithdrawn, ContactWithdrawn, InterviewWithdrawn
from libs.contracts.units import police_id_of
from libs.contracts.vocabularies import KnownToServices, OrientedContent
from services.referrals.delays.calls import recount
from services.referrals.delays.due import Delays
from services.referrals.delays.overdue import say_late
from services.referrals.domain import Move, minutes_between
from services.referrals.models import Person, Referral
from services.referrals.orientations.following import tell_changed
from services.referrals.orientations.links import Links
from services.referrals.persons import told_as
from services.referrals.rules import are_met
from services.referrals.working.corrections import take_agreement_back
from services.referrals.working.followup import reached, spoken_with
from services.referrals.working.followup_schemas import AssessmentWithdrawnOut, ContactWithdrawnOut, InterviewWithdrawnOut, WithdrawIn
from services.referrals.working.models import Assessment, ContactAttempt, Correction, Interview
from services.referrals.working.work import anybody_of, locked_for, people_of, still_noted, take_back


class WithdrawnAlready(Conflict):
    type: ClassVar[str] = "contact-withdrawn-already"
    title: ClassVar[str] = "Déjà retirée"


class InterviewWithdrawnAlready(Conflict):
    type: ClassVar[str] = "interview-withdrawn-already"
    title: ClassVar[str] = "Déjà retiré"


class AssessmentWithdrawnAlready(Conflict):
    type: ClassVar[str] = "assessment-withdrawn-already"
    title: ClassVar[str] = "Déjà retirée"


class InterviewRestsOnIt(Conflict):
    """Each adult of an interview was reached before."""

    type: ClassVar[str] = "interview-rests-on-it"
    title: ClassVar[str] = "Un entretien repose sur ce contact"


class AssessmentRestsOnIt(Conflict):
    """An adult who is assessed was reached before."""

    type: ClassVar[str] = "assessment-rests-on-it"
    title: ClassVar[str] = "Une évaluation repose sur ce contact"


async def withdraw_contact(
    session: AsyncSession,
    caller: Principal,
    links: Links,
    delays: Delays,
    referral_id: UUID,
    contact_id: UUID,
    body: WithdrawIn,
    now: datetime,
) -> ContactWithdrawnOut:
    """Where a contact may be noted. What the person said with it about being contacted goes too, unless another contact with them stands. What partners
    were told was cancelled, because the person declined, stays cancelled: it is asked for again.

    Raises NotFound, MoveRefused, WithdrawnAlready, InterviewRestsOnIt, AssessmentRestsOnIt.
    """
    referral = await locked_for(session, caller, referral_id, Move.CONTACT)
    already = WithdrawnAlready("Cette tentative de contact a déjà été retirée.")
    attempt = await still_noted(session, referral.id, ContactAttempt, contact_id, already)
    await _check_nothing_rests(session, referral, attempt)
    await take_back(session, caller, referral, attempt, body.reason, now)
    await session.flush()
    noted = await session.get(Correction, attempt.correction_id) if attempt.correction_id is not None else None
    if noted is not None and not await spoken_with(session, referral.id, attempt.person_id):
        person = await anybody_of(session, referral.id, attempt.person_id)
        await take_agreement_back(session, caller, links, referral, person, noted, now)
    still_reached = await recount(session, referral)  # by whom the referral is there to help without what was said
    told, first = referral.contacted, referral.first_contact_at
    referral.contacted = told and still_reached
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
            police_id=police_id_of(referral.client_id) if told and not referral.contacted else None,
        ),
    )
    if referral.awaits_contact:
        await delays.settle(session, referral)
        await session.flush()
    await say_late(session, referral, now)
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


async def withdraw_assessment(
    session: AsyncSession, caller: Principal, links: Links, referral_id: UUID, assessment_id: UUID, body: WithdrawIn, now: datetime
) -> AssessmentWithdrawnOut:
    """Where an assessment may be noted. Whether services know the person is what it would be without it; their partners read it again.

    Raises NotFound, MoveRefused, AssessmentWithdrawnAlready.
    """
    referral = await locked_for(session, caller, referral_id, Move.ASSESS)
    already = AssessmentWithdrawnAlready("Cette évaluation a déjà été retirée.")
    made = await still_noted(session, referral.id, Assessment, assessment_id, already)
    await take_back(session, caller, referral, made, body.reason, now)
    person = await anybody_of(session, referral.id, made.person_id)
    believed, person.known_to_services = person.known_to_services, await _known_without_what_was_withdrawn(session, person)
    await session.flush()
    known = KnownToServices(person.known_to_services)
    await outbox.append(
        session,
        AssessmentWithdrawn(
            referral_id=referral.id,
            departement=referral.departement,
            assessment_id=made.id,
            person_id=told_as(person),
            post_id=made.post_id,
            known_to_services=known,
            withdrawn_at=now,
        ),
    )
    if known != believed:
        await tell_changed(session, links, referral, {person.id: {OrientedContent.PERSON}}, now, mailed=False)
    return AssessmentWithdrawnOut(
        id=made.id, referral_id=referral.id, person_id=person.id, known_to_services=known, version=referral.version
    )


_Change: TypeAlias = tuple[UUID, str | None, str | None]
"""What made known whether services know a person: its id, what was known before, what after; `None`: not kept, taken back."""


async def _known_without_what_was_withdrawn(session: AsyncSession, person: Person) -> str:
    """What was said first, then by each assessment that was not withdrawn and each correction, in the order in which they were noted (their ids')."""
    assessed = await session.scalars(select(Assessment).where(col(Assessment.person_id) == person.id))
    changes: list[_Change] = [
        (one.id, one.known_before, None if one.withdrawn_at is not None else one.known_to_services) for one in assessed
    ]
    field = f"/persons/{person.id}/known_to_services"
    corrected = await session.scalars(select(Correction).where(col(Correction.referral_id) == person.referral_id))
    changes += [(one.id, one.changes[field]["before"], one.changes[field]["after"]) for one in corrected if field in one.changes]
    changes.sort(key=lambda change: change[0])
    first = changes[0][1]
    return next((after for _, _, after in reversed(changes) if after is not None), first or KnownToServices.NOT_KNOWN_WHETHER)


async def _check_nothing_rests(session: AsyncSession, referral: Referral, attempt: ContactAttempt) -> None:
    """No interview nor assessment would be left of somebody whom nobody had reached by then. Raises InterviewRestsOnIt, AssessmentRestsOnIt."""
    held_since = select(Interview).where(
        col(Interview.referral_id) == referral.id, col(Interview.held_at) >= attempt.attempted_at, col(Interview.withdrawn_at).is_(None)
    )
    for held in (await session.scalars(held_since)).all():
        if await _rests(session, referral, attempt, held.person_ids, held.held_at):
            raise InterviewRestsOnIt(
                "Un entretien noté depuis repose sur ce contact : retirez d'abord cet entretien, ou notez le contact où la personne a été jointe avant lui.",
                more={"interview_id": str(held.id)},
            )
    made_since = select(Assessment).where(
        col(Assessment.referral_id) == referral.id,
        col(Assessment.recorded_at) >= attempt.attempted_at,
        col(Assessment.withdrawn_at).is_(None),
    )
    for made in (await session.scalars(made_since)).all():
        if await _rests(session, referral, attempt, [made.person_id], made.recorded_at):
            raise AssessmentRestsOnIt(
                "Une évaluation notée depuis repose sur ce contact : retirez-la d'abord, ou notez le contact où la personne a été jointe avant elle.",
                more={"assessment_id": str(made.id)},
            )


async def _rests(session: AsyncSession, referral: Referral, attempt: ContactAttempt, person_ids: Sequence[UUID], at: datetime) -> bool:
    """Whether what was done with these persons at that time was possible by this contact alone."""
    persons = await people_of(session, referral.id, person_ids)
    without = await reached(session, referral.id, at, besides=attempt.id)
    return not are_met(persons, without) and are_met(persons, await reached(session, referral.id, at))
