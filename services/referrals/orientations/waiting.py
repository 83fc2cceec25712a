"""Nobody answers: the partner is reminded once, then the orientation expires."""

from collections.abc import Mapping
from datetime import datetime, timedelta

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from libs.contracts.referrals import OrientationExpired
from libs.contracts.vocabularies import OrientationStatus, Urgency
from services.referrals import notices
from services.referrals.models import Referral
from services.referrals.notices import NoticeKind
from services.referrals.orientations.domain import OrientationMove, orientation_moved
from services.referrals.orientations.links import Links
from services.referrals.orientations.models import Orientation
from services.referrals.orientations.telling import asks_no_more, facts_of, say, tell_post, to_partner


def until(referral: Referral, answers: Mapping[str, timedelta], now: datetime) -> datetime:
    """When an orientation asked now expires. `answers`: how long an answer is waited for, by urgency; danger is as urgent as can be."""
    urgent = notices.is_urgent(referral.urgency, referral.danger)
    return now + answers[Urgency.IMMEDIATE if urgent else referral.urgency]


async def hasten(session: AsyncSession, referral: Referral, answers: Mapping[str, timedelta], now: datetime) -> None:
    """It turned out to be more urgent: whoever has not answered yet has no longer than if asked now. A promised time is never put off."""
    sooner = until(referral, answers, now)
    waiting = update(Orientation).where(col(Orientation.referral_id) == referral.id, col(Orientation.status) == OrientationStatus.REQUESTED)
    await session.execute(waiting.where(col(Orientation.expires_at) > sooner).values(expires_at=sooner))


async def expire(session: AsyncSession, now: datetime, limit: int = 100) -> int:
    """End what nobody answered in time. Returns how many were looked at; each referral is locked before its orientation."""
    ids = (
        await session.execute(
            select(col(Orientation.id), col(Orientation.referral_id))
            .where(col(Orientation.status) == OrientationStatus.REQUESTED, col(Orientation.expires_at) <= now)
            .order_by(col(Orientation.referral_id), col(Orientation.id))
            .limit(limit)
        )
    ).all()
    for orientation_id, referral_id in ids:
        referral = await session.get_one(Referral, referral_id, with_for_update=True, populate_existing=True)
        orientation = await session.get_one(Orientation, orientation_id, with_for_update=True, populate_existing=True)
        if orientation.status != OrientationStatus.REQUESTED:
            continue  # answered since it was listed
        orientation.status = orientation_moved(OrientationStatus(orientation.status), OrientationMove.EXPIRE)
        orientation.ended_at = now
        orientation.version += 1
        referral.version += 1
        await asks_no_more(session, orientation)
        await say(session, orientation, OrientationExpired(**facts_of(referral, orientation), expired_at=now))
        await tell_post(session, referral, orientation, NoticeKind.ORIENTATION_EXPIRED, now)
    return len(ids)


async def remind(session: AsyncSession, links: Links, now: datetime, before: timedelta, limit: int = 100) -> int:
    """Recall to the partners what expires within `before`, once each. One that was asked later than that is not recalled at once, but halfway."""
    due = await session.execute(
        select(Orientation, col(Referral.urgency), col(Referral.danger))
        .join(Referral, col(Referral.id) == col(Orientation.referral_id))
        .where(
            col(Orientation.status) == OrientationStatus.REQUESTED,
            col(Orientation.reminded_at).is_(None),
            col(Orientation.expires_at) > now,
            col(Orientation.expires_at) <= now + before,
            col(Orientation.expires_at) - now <= now - col(Orientation.requested_at),
        )
        .order_by(col(Orientation.expires_at), col(Orientation.id))
        .limit(limit)
        .with_for_update(of=Orientation, skip_locked=True)
    )
    reminded = due.all()
    for orientation, _, _ in reminded:
        orientation.reminded_at = now
    await session.flush()
    said = [
        await to_partner(session, links, one, NoticeKind.ORIENTATION_REMINDER, now, urgent=notices.is_urgent(urgency, danger))
        for one, urgency, danger in reminded
    ]
    await notices.notify(session, *said, now=now)
    return len(reminded)
