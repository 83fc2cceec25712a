"""What changes the projections: facts heard, taken back, or counted anew. Each runs inside its caller's transaction."""

from collections.abc import Collection, Iterable, Sequence
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from libs.chassis.listener import Heard
from libs.contracts.envelope import Event
from libs.contracts.referrals import ReferralErased
from services.reporting import facts
from services.reporting.projections import store
from services.reporting.projections.counters import differences, standing
from services.reporting.projections.folds import apply, effective, wanted
from services.reporting.projections.rows import State

_SUBJECTS_AT_ONCE = 500


async def hear(session: AsyncSession, heard: Sequence[Heard[Event]]) -> None:
    """Write a batch into the log and count it: a handful of statements, whatever its length. What is in the log already changes nothing."""
    events = await facts.append(session, heard)
    await project(session, events)
    erased: dict[UUID, set[UUID]] = {}
    for event in events:
        if isinstance(event, ReferralErased):
            erased.setdefault(event.referral_id, set()).update(event.person_ids)
    if erased:
        await facts.forget_persons(session, erased)


async def project(session: AsyncSession, events: Iterable[Event], suffix: str = store.LIVE, *, tallied: bool = True) -> None:
    """Bring the events into the rows and, by the difference they make to the rows, into the counters."""
    folds = effective(events)
    if not folds:
        return
    state = await store.load(session, wanted(folds), suffix)
    before = standing(state) if tallied else None
    apply(state, folds)
    await store.save(session, state, suffix)
    if before is not None:
        await store.tally(session, differences(before, state), suffix)


async def take_back(session: AsyncSession, source: str, after_sequence: int) -> None:
    """Forget what was heard of a source after a number, as if it had never been said: exact, because the log holds the rest."""
    gone = await facts.forget_after(session, source, after_sequence)
    await count_anew(session, source, gone)


async def count_anew(
    session: AsyncSession, source: str, touched: Sequence[Event], suffix: str = store.LIVE, *, tallied: bool = True
) -> None:
    """Make the rows of the aggregates that these events touched anew, from the log alone, and correct the counters by the difference."""
    by_subject: dict[UUID, list[Event]] = {}
    for event in touched:
        by_subject.setdefault(event.aggregate_id, []).append(event)
    for subjects in _chunks(by_subject):
        kept = effective(await facts.of_subjects(session, source, subjects))
        old = effective(event for subject in subjects for event in by_subject[subject])
        stored = await store.load(session, wanted([*kept, *old]), suffix)
        fresh = State(stored=stored.stored)
        apply(fresh, kept)
        await store.save(session, fresh, suffix)
        if tallied:
            await store.tally(session, differences(standing(stored), fresh), suffix)


def _chunks(subjects: Collection[UUID]) -> Iterable[tuple[UUID, ...]]:
    ordered = sorted(subjects)
    for start in range(0, len(ordered), _SUBJECTS_AT_ONCE):
        yield tuple(ordered[start : start + _SUBJECTS_AT_ONCE])
