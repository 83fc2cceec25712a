"""The timeline of a referral, built from its rows: codes, ids and instants, no personal content."""

from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from libs.chassis.ids import created_at
from libs.chassis.security import Principal
from libs.contracts.vocabularies import OrientationStatus, ReferralStatus, Role
from services.referrals.delays.models import Overdue
from services.referrals.justice.models import Alert
from services.referrals.models import Authored, Referral, Withdrawable
from services.referrals.orientations.models import Orientation
from services.referrals.queries import visible
from services.referrals.working.domain import CorrectedTo
from services.referrals.working.duplicates import told_original
from services.referrals.working.followup_schemas import Step, TimelineEntry, TimelineOut
from services.referrals.working.models import Assessment, ContactAttempt, CorrectedContent, Correction, Interview, Moved
from services.referrals.working.work import may_see


def _entry(step: Step, row: object, at: object, **more: object) -> TimelineEntry:
    nothing: dict[str, object] = {
        "code": None,
        "status": None,
        "post_id": None,
        "person_ids": [],
        "reason": None,
        "actor": None,
        "actor_role": None,
        "duplicate_of": None,
    }
    return TimelineEntry.model_validate(nothing | {"step": step, "at": at, "id": getattr(row, "id", None)} | more)


def _author(row: Authored | Correction) -> dict[str, object]:
    return {"actor": row.actor, "actor_role": row.actor_role}


def _withdrawn(row: Withdrawable) -> dict[str, object]:
    return {"reason": row.withdrawn_because, "actor": row.withdrawn_by, "actor_role": row.withdrawn_by_role}


_ENDED_BY_PARTNER: Final = frozenset({Step.ORIENTATION_REJECTED, Step.ORIENTATION_COMPLETED, Step.ORIENTATION_FAILED})


async def timeline(session: AsyncSession, caller: Principal, referral_id: UUID) -> TimelineOut:
    """Oldest first. Raises NotFound."""
    referral = await visible(session, caller, referral_id)
    moves = (await session.scalars(select(Moved).where(col(Moved.referral_id) == referral.id).order_by(col(Moved.at), col(Moved.id)))).all()
    found = [_received(referral, moves[0] if moves else None)]
    found += [
        _entry(
            Step.MOVED,
            one,
            one.at,
            code=one.move,
            status=one.status_after,
            post_id=one.post_after,
            reason=one.reason,
            **_author(one),
            duplicate_of=await told_original(session, one.duplicate_of, lambda named: may_see(caller, named)),
        )
        for one in moves
    ]
    for attempt in await session.scalars(select(ContactAttempt).where(col(ContactAttempt.referral_id) == referral.id)):
        found.append(
            _entry(
                Step.CONTACT,
                attempt,
                attempt.attempted_at,
                code=attempt.mode,
                reason=attempt.result,
                post_id=attempt.post_id,
                person_ids=[attempt.person_id],
                **_author(attempt),
            )
        )
        if attempt.withdrawn_at is not None:
            found.append(
                _entry(
                    Step.CONTACT_WITHDRAWN,
                    attempt,
                    attempt.withdrawn_at,
                    code=attempt.mode,
                    person_ids=[attempt.person_id],
                    **_withdrawn(attempt),
                )
            )
    for held in await session.scalars(select(Interview).where(col(Interview.referral_id) == referral.id)):
        place = {"code": held.place, "person_ids": held.person_ids}
        found.append(_entry(Step.INTERVIEW, held, held.held_at, **place, post_id=held.post_id, **_author(held)))
        if held.withdrawn_at is not None:
            found.append(_entry(Step.INTERVIEW_WITHDRAWN, held, held.withdrawn_at, **place, **_withdrawn(held)))
    for made in await session.scalars(select(Assessment).where(col(Assessment.referral_id) == referral.id)):
        found.append(_entry(Step.ASSESSMENT, made, made.recorded_at, post_id=made.post_id, person_ids=[made.person_id], **_author(made)))
        if made.withdrawn_at is not None:
            found.append(_entry(Step.ASSESSMENT_WITHDRAWN, made, made.withdrawn_at, person_ids=[made.person_id], **_withdrawn(made)))
    of_them = select(col(Correction.id)).where(col(Correction.referral_id) == referral.id)
    sealed = set(await session.scalars(select(col(CorrectedContent.correction_id)).where(col(CorrectedContent.correction_id).in_(of_them))))
    for corrected in await session.scalars(select(Correction).where(col(Correction.referral_id) == referral.id)):
        found += _corrected(corrected, sealed=corrected.id in sealed)
    for sent in await session.scalars(select(Alert).where(col(Alert.referral_id) == referral.id)):
        kind = {"code": sent.kind, "person_ids": sent.person_ids}
        found.append(_entry(Step.ALERT, sent, sent.sent_at, **kind, actor=sent.recorded_by, actor_role=sent.recorded_by_role))
        if sent.withdrawn_at is not None:
            found.append(_entry(Step.ALERT_WITHDRAWN, sent, sent.withdrawn_at, **kind, **_withdrawn(sent)))
    for asked in await session.scalars(select(Orientation).where(col(Orientation.referral_id) == referral.id)):
        common = {"code": asked.need, "post_id": asked.post_id, "person_ids": [asked.person_id]}
        found.append(_entry(Step.ORIENTATION_REQUESTED, asked, asked.requested_at, **common, **_author(asked)))
        if asked.answered_at is not None and asked.status != OrientationStatus.REJECTED:
            found.append(_entry(Step.ORIENTATION_ACCEPTED, asked, asked.answered_at, **common, actor_role=Role.PARTNER))
        if asked.started_at is not None:
            found.append(_entry(Step.ORIENTATION_STARTED, asked, asked.started_at, **common, actor_role=Role.PARTNER))
        if asked.ended_at is not None:
            ended = Step(f"orientation_{asked.status}")
            by = Role.PARTNER if ended in _ENDED_BY_PARTNER else None
            found.append(_entry(ended, asked, asked.ended_at, **common, reason=asked.reason or asked.outcome, actor_role=by))
    for passed in await session.scalars(select(Overdue).where(col(Overdue.referral_id) == referral.id)):
        found.append(_entry(Step.OVERDUE, passed, passed.due_at, code=passed.urgency, post_id=passed.post_id))
    return TimelineOut(items=sorted(found, key=place_of))  # stable: of one instant, reception and moves come first


_TYPED: Final = frozenset({Step.CONTACT, Step.INTERVIEW, Step.ALERT})
"""Whose time somebody wrote down, mostly to the minute."""
_MINUTE: Final = timedelta(minutes=1)


def place_of(entry: TimelineEntry) -> datetime:
    """A call noted for 10:15, at 10:15:40, of a referral that was accepted at 10:15:20, came after: what was noted within its own minute counts as of then."""
    if entry.step not in _TYPED or entry.id is None or (noted := created_at(entry.id)) is None:
        return entry.at
    return noted if entry.at <= noted < entry.at + _MINUTE else entry.at


def _corrected(made: Correction, *, sealed: bool) -> list[TimelineEntry]:
    """Who joined is told apart from what became another. `sealed`: something personal did too."""
    joined = [UUID(field.removeprefix("/persons/")) for field in made.changes if field.count("/") == 2 and field.startswith("/persons/")]
    why = {"reason": made.reason, **_author(made)}
    found = [_entry(Step.PERSON_JOINED, made, made.corrected_at, person_ids=joined, **why)] if joined else []
    if sealed or not joined or len(joined) < len(made.changes):
        danger = made.changes.get("/danger")
        code = None if danger is None else CorrectedTo.DANGER if danger["after"] else CorrectedTo.NO_DANGER
        found.append(_entry(Step.CORRECTION, made, made.corrected_at, code=code, **why))
    return found


def _received(referral: Referral, first: Moved | None) -> TimelineEntry:
    """With the state and post it had at first: reception writes no row of its own."""
    status = ReferralStatus(first.status_before if first is not None else referral.status)
    return _entry(
        Step.RECEIVED,
        referral,
        referral.received_at,
        code=referral.channel,
        status=status,
        post_id=first.post_before if first is not None else referral.post_id,
    )
