"""What lives of a person follows that person: an agreement, or an age, that is gone and an erasure end it, what is corrected is to be read again.

The caller has locked the referral and raises its version.
"""

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Final
from uuid import UUID

from sqlalchemy import ColumnElement, and_, select, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from libs.contracts.vocabularies import AgeBand, ContactAgreement, OrientationCancellation, OrientationStatus, OrientedContent
from services.referrals import notices
from services.referrals.models import Person, Referral
from services.referrals.notices import NoticeKind
from services.referrals.orientations.commands import say_cancelled, say_updated
from services.referrals.orientations.domain import LEGAL_GROUNDS, ORIENTATION_LIVES, OrientationMove, Unfounded, orientation_moved
from services.referrals.orientations.links import Links, last_of
from services.referrals.orientations.models import Orientation
from services.referrals.orientations.telling import asks_no_more, of_partner

_WITHOUT_AGREEMENT: Final[Mapping[ContactAgreement, OrientationCancellation]] = {
    ContactAgreement.REFUSED: OrientationCancellation.PERSON_REFUSED,
    ContactAgreement.NOT_ASKED: OrientationCancellation.MISTAKE,  # it was noted, and never given
}


async def end_unagreed(session: AsyncSession, referral: Referral, now: datetime) -> list[Unfounded]:
    """What lives of who does not agree, or not any more, goes, answered or not, unless it rests on a legal ground. What waits for its answer on a ground that
    is not for somebody of their age goes too; of what a partner agreed to it is told: a slip of the pen in an age cuts no support."""
    doubts: set[Unfounded] = set()
    for agreement, reason in _WITHOUT_AGREEMENT.items():
        persons = select(col(Person.id)).where(col(Person.referral_id) == referral.id, col(Person.agreement) == agreement)
        of_them = col(Orientation.person_id).in_(persons), col(Orientation.legal_ground).is_(None)
        await _withdraw(session, referral, reason, now, *of_them)
        for ground, (_, fits) in LEGAL_GROUNDS.items():
            others = persons.where(col(Person.age_band).in_([band for band in AgeBand if not fits(band)]))
            unfounded = col(Orientation.person_id).in_(others), col(Orientation.legal_ground) == ground
            waits = col(Orientation.status) == OrientationStatus.REQUESTED
            await _withdraw(session, referral, OrientationCancellation.NO_LONGER_SUITABLE, now, *unfounded, waits)
            if await _living(session, referral, *unfounded):
                doubts.add(Unfounded.LEGAL_GROUND)
    return sorted(doubts)


async def end_declined(session: AsyncSession, referral: Referral, person: Person, now: datetime) -> None:
    """Who declines all help is not awaited by a partner: what has not begun ends, unless it rests on a legal ground. What has begun is between the two."""
    not_begun = col(Orientation.status).in_((OrientationStatus.REQUESTED, OrientationStatus.ACCEPTED))
    of_them = col(Orientation.person_id) == person.id, col(Orientation.legal_ground).is_(None), not_begun
    await _withdraw(session, referral, OrientationCancellation.DECLINED_BY_PERSON, now, *of_them)


async def end_erased(session: AsyncSession, referral: Referral, person_ids: Collection[UUID], now: datetime) -> None:
    """What lives of who is erased ends, what partners wrote of them goes, and who was asked, be it long ago, is told to erase too.

    The fact is in their stream (referral.erased); who answers by links, or reads at the desk, reads no stream.
    """
    of_them = and_(col(Orientation.referral_id) == referral.id, col(Orientation.person_id).in_(person_ids))
    await session.execute(update(Orientation).where(of_them).values(reason_text=None))
    await _withdraw(session, referral, OrientationCancellation.PERSON_ERASED, now, of_them)
    asked = (await session.scalars(select(Orientation).where(of_them).order_by(col(Orientation.id)))).all()
    told = [of_partner(one, NoticeKind.ORIENTATION_ERASED, await last_of(session, one)) for one in asked]
    await notices.notify(session, *told, now=now)


async def tell_changed(
    session: AsyncSession,
    links: Links,
    referral: Referral,
    changed: Mapping[UUID, Collection[OrientedContent]],
    now: datetime,
    *,
    mailed: bool = True,
) -> None:
    """`changed`: by person, what is read of them with an orientation and is another now. `mailed`: it matters before the next call."""
    for orientation in await _living(session, referral, col(Orientation.person_id).in_(list(changed))):
        await say_updated(session, links, referral, orientation, changed[orientation.person_id], now, mailed=mailed)


async def _withdraw(
    session: AsyncSession, referral: Referral, reason: OrientationCancellation, now: datetime, *which: ColumnElement[bool]
) -> None:
    for orientation in await _living(session, referral, *which):
        orientation.status = orientation_moved(OrientationStatus(orientation.status), OrientationMove.WITHDRAW)
        orientation.version += 1
        await asks_no_more(session, orientation)
        await say_cancelled(session, referral, orientation, reason, now)


async def _living(session: AsyncSession, referral: Referral, *which: ColumnElement[bool]) -> Collection[Orientation]:
    """Locked, in the order of their ids."""
    found = await session.scalars(
        select(Orientation)
        .where(col(Orientation.referral_id) == referral.id, col(Orientation.status).in_(ORIENTATION_LIVES), *which)
        .order_by(col(Orientation.id))
        .with_for_update()
        .execution_options(populate_existing=True)
    )
    return found.all()
