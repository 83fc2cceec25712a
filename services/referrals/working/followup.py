"""What the social worker does with a referral it accepted: contact attempts, interviews, assessments. Each locks the referral first; none commits."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from libs.chassis import outbox
from libs.chassis.audit import audit
from libs.chassis.ids import new_id
from libs.chassis.security import Principal
from libs.chassis.vault import Vault
from libs.contracts.referrals import AssessmentRecorded, InterviewHeld
from libs.contracts.vocabularies import ContactAgreement, ContactMode, ContactResult, InterviewPlace, OrientedContent
from services.referrals.delays.calls import calls_of, count
from services.referrals.delays.due import closed_before
from services.referrals.domain import Move, minutes_between
from services.referrals.models import Person, Referral
from services.referrals.orientations.following import end_declined, tell_changed
from services.referrals.orientations.links import Links
from services.referrals.rules import ContentErased, check_contact, check_kept, check_met, check_past, check_since
from services.referrals.working import safe_contact
from services.referrals.working.applied import applied_to, rules_of
from services.referrals.working.corrections import note_agreement
from services.referrals.working.domain import SPOKEN_WITH, OverrideReason, check_asked
from services.referrals.working.followup_schemas import AssessmentIn, InterviewIn
from services.referrals.working.helping import Attempt, first_contact
from services.referrals.working.models import Assessment, ContactAttempt, Interview
from services.referrals.working.reaching import say_attempted
from services.referrals.working.schemas import AssessmentOut, ContactIn, ContactMadeOut, InterviewOut
from services.referrals.working.work import content_of, locked_for, people_of, person_of, post_of


async def contact(
    session: AsyncSession, caller: Principal, vault: Vault, links: Links, referral_id: UUID, body: ContactIn, now: datetime
) -> ContactMadeOut:
    """Note an attempt to reach a person. Refused for who refused to be contacted, and, without a reason to pass over them, against the safe-contact rules.

    What the person said about being contacted is noted with it, as a correction. Who declines help is sent to no partner any more, unless they were reached
    again since: what was agreed then holds.
    The first contact with somebody whom the referral is there to help (helping.py) ends the due time; the first in which one of them was reached is told to
    the police.

    Raises PersonRefused, ContentErased, UnsafeContact, AgreementUnsaid.
    """
    check_past(body.attempted_at, now, "/attempted_at")
    referral = await locked_for(session, caller, referral_id, Move.CONTACT)
    check_since(body.attempted_at, referral.occurred_at, "/attempted_at")
    person = await person_of(session, referral.id, body.person_id)
    check_contact(person.agreement)
    check_asked(person.agreement, body.result, body.agreement)
    content = await content_of(session, vault, person)
    if content is None:
        raise ContentErased("Les données de cette personne ont été effacées : plus rien ne dit comment la joindre sans danger.")
    applied = (await applied_to(session, vault, [person], {person.id: content}))[person.id]
    broken = safe_contact.broken_rules(applied.rules, body.mode, body.result, body.attempted_at)
    safe_contact.check(broken, overridden=body.override_reason is not None)
    before = await calls_of(session, referral)
    noted = before._replace(attempts=[*before.attempts, Attempt(person.id, body.result, body.attempted_at)])
    first = first_contact(*noted) != first_contact(*before)  # whatever the order of noting
    told = referral.contacted
    reached = count(referral, noted, await closed_before(session, referral.id))
    referral.contacted = told or reached
    attempt = ContactAttempt(
        id=new_id(),
        referral_id=referral.id,
        person_id=person.id,
        post_id=post_of(referral),
        mode=body.mode,
        result=body.result,
        attempted_at=body.attempted_at,
        override_reason=body.override_reason if broken else None,
        overridden=[str(rule) for rule in broken],
        actor=caller.subject,
        actor_role=caller.role,
    )
    session.add(attempt)
    referral.version += 1
    await session.flush()
    await _audit_override(session, caller, referral, {"contact": str(attempt.id)}, body.override_reason, broken)
    await say_attempted(session, referral, attempt, person, first=first, to_police=referral.contacted and not told)
    # who was asked before, and not this time, said nothing else
    if body.agreement not in (None, ContactAgreement.NOT_ASKED, person.agreement):
        attempt.correction_id = (await note_agreement(session, caller, links, referral, person, body.agreement, now)).id
    if body.result is ContactResult.DECLINED and not await _reached_since(session, attempt):
        await end_declined(session, referral, person, now)
    return ContactMadeOut(
        id=attempt.id,
        referral_id=referral.id,
        person_id=person.id,
        mode=body.mode,
        result=body.result,
        attempted_at=body.attempted_at,
        first=first,
        delay_minutes=minutes_between(referral.received_at, body.attempted_at),
        override_reason=body.override_reason if broken else None,
    )


_REACHED_BY: Final = {InterviewPlace.PHONE: ContactMode.PHONE, InterviewPlace.HOME: ContactMode.VISIT}
"""An interview where the person is found at an hour that somebody else may know of: the safe-contact rules hold as for a contact."""


async def interview(
    session: AsyncSession, caller: Principal, vault: Vault, referral_id: UUID, body: InterviewIn, now: datetime
) -> InterviewOut:
    """Note an interview with one or several persons of the referral, each of whom was reached before.

    Raises NoContactYet, ContentErased, PersonRefused, UnknownPerson, UnsafeContact.
    """
    check_past(body.held_at, now, "/held_at")
    referral = await locked_for(session, caller, referral_id, Move.INTERVIEW)
    check_since(body.held_at, referral.occurred_at, "/held_at")
    persons = await people_of(session, referral.id, body.person_ids)
    for person in persons:
        check_kept(person.content)
        check_contact(person.agreement)
    check_met(persons, await reached(session, referral.id, body.held_at))
    broken = await _broken(session, vault, persons, body)
    safe_contact.check(broken, overridden=body.override_reason is not None)
    held = Interview(
        id=new_id(),
        referral_id=referral.id,
        post_id=post_of(referral),
        person_ids=body.person_ids,
        place=body.place,
        duration_minutes=body.duration_minutes,
        held_at=body.held_at,
        actor=caller.subject,
        actor_role=caller.role,
    )
    session.add(held)
    referral.version += 1
    await session.flush()
    await _audit_override(session, caller, referral, {"interview": str(held.id)}, body.override_reason, broken)
    await outbox.append(
        session,
        InterviewHeld(
            referral_id=referral.id,
            departement=referral.departement,
            interview_id=held.id,
            person_ids=tuple(body.person_ids),
            post_id=held.post_id,
            place=body.place,
            duration_minutes=body.duration_minutes,
            held_at=body.held_at,
        ),
        occurred_at=body.held_at,
    )
    return InterviewOut(
        id=held.id,
        referral_id=referral.id,
        withdrawn_at=None,
        withdrawn_because=None,
        **body.model_dump(exclude={"override_reason"}),
    )


async def spoken_with(session: AsyncSession, referral_id: UUID, person_id: UUID) -> bool:
    """Whether this person of the referral was reached."""
    reached = select(col(ContactAttempt.id)).where(
        col(ContactAttempt.referral_id) == referral_id,
        col(ContactAttempt.person_id) == person_id,
        col(ContactAttempt.result).in_(SPOKEN_WITH),
        col(ContactAttempt.withdrawn_at).is_(None),
    )
    return await session.scalar(reached.limit(1)) is not None


async def reached(session: AsyncSession, referral_id: UUID, until: datetime, *, besides: UUID | None = None) -> set[UUID]:
    """The persons of a referral who were spoken with by then; `besides`: as if that contact had not been noted."""
    attempts = select(col(ContactAttempt.person_id)).where(
        col(ContactAttempt.referral_id) == referral_id,
        col(ContactAttempt.result) == ContactResult.REACHED,
        col(ContactAttempt.attempted_at) <= until,
        col(ContactAttempt.withdrawn_at).is_(None),
    )
    if besides is not None:
        attempts = attempts.where(col(ContactAttempt.id) != besides)
    return set(await session.scalars(attempts))


async def _reached_since(session: AsyncSession, attempt: ContactAttempt) -> bool:
    """Whether the person of an attempt was reached after it, by one that stands."""
    later = select(col(ContactAttempt.id)).where(
        col(ContactAttempt.referral_id) == attempt.referral_id,
        col(ContactAttempt.person_id) == attempt.person_id,
        col(ContactAttempt.result) == ContactResult.REACHED,
        col(ContactAttempt.attempted_at) > attempt.attempted_at,
        col(ContactAttempt.withdrawn_at).is_(None),
    )
    return await session.scalar(later.limit(1)) is not None


async def _audit_override(
    session: AsyncSession,
    caller: Principal,
    referral: Referral,
    what: dict[str, str],
    reason: OverrideReason | None,
    broken: Sequence[safe_contact.SafeRule],
) -> None:
    """That a safe-contact rule was passed over, and why; nothing when none was."""
    if broken and reason is not None:
        detail = what | {"reason": str(reason)} | {f"rule.{rule}": "overridden" for rule in broken}
        await audit(session, caller, operation="override_safe_contact", subject=f"referrals/{referral.id}", detail=detail)


async def _broken(session: AsyncSession, vault: Vault, persons: Sequence[Person], body: InterviewIn) -> list[safe_contact.SafeRule]:
    """The rules that an interview at this place and hour breaks, of whichever of the persons."""
    mode = _REACHED_BY.get(body.place)
    if mode is None:
        return []
    rules = await rules_of(session, vault, persons)
    found = [rule for one in rules for rule in safe_contact.broken_rules(one, mode, ContactResult.REACHED, body.held_at)]
    return list(dict.fromkeys(found))


async def assess(
    session: AsyncSession, caller: Principal, links: Links, referral_id: UUID, body: AssessmentIn, now: datetime
) -> AssessmentOut:
    """Record what a person needs and whether social services know them: an axis apart from the themes at reception.

    Raises NoContactYet, PersonRefused, UnknownPerson, ContentErased.
    """
    referral = await locked_for(session, caller, referral_id, Move.ASSESS)
    person = await person_of(session, referral.id, body.person_id)
    check_contact(person.agreement)
    check_met([person], await reached(session, referral.id, now))
    made = Assessment(
        id=new_id(),
        referral_id=referral.id,
        person_id=person.id,
        post_id=post_of(referral),
        needs=[str(need) for need in body.needs],
        known_to_services=body.known_to_services,
        known_before=person.known_to_services,
        recorded_at=now,
        actor=caller.subject,
        actor_role=caller.role,
    )
    session.add(made)
    learnt = person.known_to_services != body.known_to_services
    person.known_to_services = body.known_to_services
    referral.version += 1
    await session.flush()
    await outbox.append(
        session,
        AssessmentRecorded(
            referral_id=referral.id,
            departement=referral.departement,
            assessment_id=made.id,
            person_id=person.id,
            post_id=made.post_id,
            needs=tuple(body.needs),
            known_to_services=body.known_to_services,
            recorded_at=now,
        ),
    )
    if learnt:
        await tell_changed(session, links, referral, {person.id: {OrientedContent.PERSON}}, now, mailed=False)
    return AssessmentOut(
        id=made.id, referral_id=referral.id, recorded_at=now, withdrawn_at=None, withdrawn_because=None, **body.model_dump()
    )
