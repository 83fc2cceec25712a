"""Orientations move: the partner answers, either side ends them. Their facts are facts of the referral, which is locked first."""

from collections.abc import Collection
from datetime import datetime
from typing import Final
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from libs.chassis.etag import match
from libs.chassis.refusals import Forbidden, NotFound
from libs.chassis.security import Principal
from libs.chassis.vault import Vault
from libs.contracts.referrals import (
    OrientationAccepted,
    OrientationCancelled,
    OrientationCompleted,
    OrientationFailed,
    OrientationRejected,
    OrientationStarted,
    OrientationUpdated,
)
from libs.contracts.vocabularies import OrientationCancellation, OrientationStatus, OrientedContent, PartnerKind, Role
from services.referrals import notices
from services.referrals.domain import PersonRefused, minutes_between
from services.referrals.models import Person, Referral
from services.referrals.notices import NoticeKind
from services.referrals.orientations.domain import ORIENTATION_MOVES, OrientationMove, may_still_be_contacted, orientation_moved
from services.referrals.orientations.links import Links, last_of
from services.referrals.orientations.models import Orientation
from services.referrals.orientations.schemas import CancelIn, CompleteIn, FailIn, OrientationSummary, RejectIn
from services.referrals.orientations.telling import asks_no_more, facts_of, of_partner, say, tell_left, tell_post, to_partner
from services.referrals.persons import REJECTION
from services.referrals.rules import check_kept
from services.referrals.working.work import may_see


async def _locked(
    session: AsyncSession, caller: Principal, orientation_id: UUID, version: int, move: OrientationMove
) -> tuple[Referral, Orientation]:
    """Both rows locked, the referral first. Raises NotFound outside the perimeter, Forbidden, StaleVersion, IllegalMove."""
    referral_id = await session.scalar(select(col(Orientation.referral_id)).where(col(Orientation.id) == orientation_id))
    if referral_id is None:
        raise NotFound
    referral = await session.get(Referral, referral_id, with_for_update=True, populate_existing=True)
    orientation = await session.get(Orientation, orientation_id, with_for_update=True, populate_existing=True)
    if referral is None or orientation is None or not sees(caller, referral, orientation):
        raise NotFound
    if caller.role not in ORIENTATION_MOVES[move].by:
        raise Forbidden("Votre rôle ne permet pas cette étape.")
    match(orientation.version, version)
    if move in REACHING:
        await check_reach(session, orientation)
    orientation.status = orientation_moved(OrientationStatus(orientation.status), move)
    orientation.version += 1
    referral.version += 1
    await asks_no_more(session, orientation)
    return referral, orientation


REACHING: Final = frozenset({OrientationMove.ACCEPT, OrientationMove.START})
"""What brings a partner to a person; an end can always be told."""


async def check_reach(session: AsyncSession, orientation: Orientation) -> None:
    """Raises ContentErased for who was erased, PersonRefused for who refused meanwhile."""
    person = await session.get_one(Person, orientation.person_id)
    check_kept(person.content)
    if not may_still_be_contacted(person.agreement, orientation.legal_ground):
        raise PersonRefused("Cette personne n'accepte plus d'être contactée : ses coordonnées ne sont plus communiquées.")


def sees(caller: Principal, referral: Referral, orientation: Orientation) -> bool:
    """A partner sees what its own organization was asked, nothing else."""
    if caller.role is Role.PARTNER:
        return caller.organization is not None and orientation.organization_id == caller.organization
    return may_see(caller, referral)


def _delay(orientation: Orientation, now: datetime) -> int:
    return minutes_between(orientation.requested_at, now)


async def accept(session: AsyncSession, caller: Principal, orientation_id: UUID, version: int, now: datetime) -> OrientationSummary:
    referral, orientation = await _locked(session, caller, orientation_id, version, OrientationMove.ACCEPT)
    orientation.answered_at = now
    await tell_post(session, referral, orientation, NoticeKind.ORIENTATION_ACCEPTED, now)
    event = OrientationAccepted(
        **facts_of(referral, orientation),
        partner_kind=PartnerKind(orientation.partner_kind),
        delay_minutes=_delay(orientation, now),
        accepted_at=now,
    )
    return await say(session, orientation, event)


async def reject(
    session: AsyncSession, caller: Principal, vault: Vault, orientation_id: UUID, version: int, body: RejectIn, now: datetime
) -> OrientationSummary:
    referral, orientation = await _locked(session, caller, orientation_id, version, OrientationMove.REJECT)
    orientation.answered_at = orientation.ended_at = now
    orientation.reason = body.reason
    if body.reason_text is not None:
        person = await session.get_one(Person, orientation.person_id)
        key = await vault.open_key(session, person.key_id)
        orientation.reason_text = key.seal(body.reason_text.encode(), context=REJECTION)
    await tell_post(session, referral, orientation, NoticeKind.ORIENTATION_REJECTED, now)
    event = OrientationRejected(
        **facts_of(referral, orientation),
        partner_kind=PartnerKind(orientation.partner_kind),
        reason=body.reason,
        delay_minutes=_delay(orientation, now),
        rejected_at=now,
    )
    return await say(session, orientation, event)


async def start(session: AsyncSession, caller: Principal, orientation_id: UUID, version: int, now: datetime) -> OrientationSummary:
    referral, orientation = await _locked(session, caller, orientation_id, version, OrientationMove.START)
    orientation.started_at = now
    await tell_post(session, referral, orientation, NoticeKind.ORIENTATION_STARTED, now)
    return await say(session, orientation, OrientationStarted(**facts_of(referral, orientation), started_at=now))


async def complete(
    session: AsyncSession, caller: Principal, orientation_id: UUID, version: int, body: CompleteIn, now: datetime
) -> OrientationSummary:
    referral, orientation = await _locked(session, caller, orientation_id, version, OrientationMove.COMPLETE)
    orientation.ended_at = now
    orientation.outcome = body.outcome
    await tell_post(session, referral, orientation, NoticeKind.ORIENTATION_COMPLETED, now)
    return await say(session, orientation, OrientationCompleted(**facts_of(referral, orientation), outcome=body.outcome, completed_at=now))


async def fail(
    session: AsyncSession, caller: Principal, orientation_id: UUID, version: int, body: FailIn, now: datetime
) -> OrientationSummary:
    referral, orientation = await _locked(session, caller, orientation_id, version, OrientationMove.FAIL)
    orientation.ended_at = now
    orientation.reason = body.reason
    await tell_left(session, referral, orientation, NoticeKind.ORIENTATION_FAILED, now)
    return await say(session, orientation, OrientationFailed(**facts_of(referral, orientation), reason=body.reason, failed_at=now))


async def cancel(
    session: AsyncSession, caller: Principal, orientation_id: UUID, version: int, body: CancelIn, now: datetime
) -> OrientationSummary:
    referral, orientation = await _locked(session, caller, orientation_id, version, OrientationMove.CANCEL)
    await notices.tell_post(session, caller, referral, NoticeKind.ORIENTATION_CANCELLED, now)
    return await say_cancelled(session, referral, orientation, body.reason, now)


async def say_cancelled(
    session: AsyncSession, referral: Referral, orientation: Orientation, reason: OrientationCancellation, now: datetime
) -> OrientationSummary:
    """Of one that the caller has locked and cancelled: its partner is told at once to contact the person no longer."""
    orientation.reason, orientation.ended_at = reason, now
    link_id = await last_of(session, orientation)
    await notices.notify(session, of_partner(orientation, NoticeKind.ORIENTATION_WITHDRAWN, link_id), now=now)
    return await say(session, orientation, OrientationCancelled(**facts_of(referral, orientation), reason=reason, cancelled_at=now))


async def say_updated(
    session: AsyncSession,
    links: Links,
    referral: Referral,
    orientation: Orientation,
    changed: Collection[OrientedContent],
    now: datetime,
    *,
    mailed: bool,
) -> OrientationSummary:
    """Of one that the caller has locked: its partner answers nothing from what it read before, and is told at once to read it again; by mail if `mailed`."""
    orientation.updated_at = now
    orientation.version += 1
    if mailed:
        await notices.notify(session, await to_partner(session, links, orientation, NoticeKind.ORIENTATION_UPDATED, now), now=now)
    parts = tuple(one for one in OrientedContent if one in changed)
    return await say(session, orientation, OrientationUpdated(**facts_of(referral, orientation), changed=parts, updated_at=now))
