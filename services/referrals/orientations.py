"""Orientations: the social worker asks a partner to take a person over; the partner answers. Their facts are facts of the referral, which is locked first."""

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from libs.chassis import outbox
from libs.chassis.etag import match
from libs.chassis.ids import new_id
from libs.chassis.refusals import Forbidden, NotFound
from libs.chassis.security import Principal
from libs.contracts.envelope import Event
from libs.contracts.referrals import (
    OrientationAccepted,
    OrientationCancelled,
    OrientationCompleted,
    OrientationExpired,
    OrientationFailed,
    OrientationRejected,
    OrientationRequested,
    OrientationStarted,
)
from libs.contracts.vocabularies import Need, OrientationStatus, PartnerKind, ReferralStatus, Role
from services.referrals.domain import (
    ORIENTATION_LIVES,
    ORIENTATION_MOVES,
    Move,
    Offer,
    OrientationMove,
    OrientedAlready,
    minutes_between,
    mismatches,
    moved,
    orientation_moved,
)
from services.referrals.models import Orientation, Referral, ServiceHeard
from services.referrals.rules import UnknownService, check_orientation
from services.referrals.schemas import CompleteIn, FailIn, OrientationIn, OrientationRequestedOut, OrientationSummary, RejectIn
from services.referrals.work import locked, may_see, person_of, post_of


def summary(orientation: Orientation) -> OrientationSummary:
    return OrientationSummary.model_validate({name: getattr(orientation, name) for name in OrientationSummary.model_fields}, strict=False)


async def request(
    session: AsyncSession, caller: Principal, referral_id: UUID, body: OrientationIn, now: datetime, expires_after: timedelta
) -> OrientationRequestedOut:
    """Ask a service of the directory. Refused for who refused to be contacted; what may not fit is a warning."""
    referral = await locked(session, caller, referral_id, Move.ORIENT)
    moved(ReferralStatus(referral.status), Move.ORIENT)
    person = await person_of(session, referral.id, body.person_id)
    check_orientation(person.agreement)
    service = await session.get(ServiceHeard, body.service_id)
    if service is None or service.closed:
        raise UnknownService(
            "Ce service n'existe pas dans l'annuaire, ou est fermé.",
            pointers=[("/service_id", "Aucun service ouvert ne porte cet identifiant.")],
        )
    asked = await session.scalar(
        select(col(Orientation.id)).where(
            col(Orientation.service_id) == service.id,
            col(Orientation.person_id) == person.id,
            col(Orientation.status).in_(ORIENTATION_LIVES),
        )
    )
    if asked is not None:
        raise OrientedAlready("Cette personne est déjà orientée vers ce service.", more={"orientation_id": str(asked)})
    offer = Offer(service.departement, frozenset(map(Need, service.needs)), frozenset(service.communes), service.capacity)
    orientation = Orientation(
        id=new_id(),
        referral_id=referral.id,
        person_id=person.id,
        post_id=post_of(referral),
        service_id=service.id,
        organization_id=service.organization_id,
        partner_kind=service.kind,
        need=body.need,
        status=orientation_moved(None, OrientationMove.REQUEST),
        reason=None,
        outcome=None,
        requested_at=now,
        expires_at=now + expires_after,
        answered_at=None,
        ended_at=None,
        version=1,
    )
    session.add(orientation)
    referral.version += 1
    await session.flush()
    await outbox.append(
        session,
        OrientationRequested(
            **_common(referral, orientation),
            partner_kind=PartnerKind(service.kind),
            person_id=person.id,
            need=body.need,
            requested_at=now,
            expires_at=orientation.expires_at,
        ),
    )
    return OrientationRequestedOut(**summary(orientation).model_dump(), warnings=mismatches(offer, body.need, referral.commune))


def _common(referral: Referral, orientation: Orientation) -> dict[str, Any]:
    return {
        "referral_id": referral.id,
        "departement": referral.departement,
        "orientation_id": orientation.id,
        "post_id": orientation.post_id,
        "service_id": orientation.service_id,
        "organization_id": orientation.organization_id,
    }


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
    orientation.status = orientation_moved(OrientationStatus(orientation.status), move)
    orientation.version += 1
    referral.version += 1
    return referral, orientation


def sees(caller: Principal, referral: Referral, orientation: Orientation) -> bool:
    """A partner sees what its own organization was asked, nothing else."""
    if caller.role is Role.PARTNER:
        return caller.organization is not None and orientation.organization_id == caller.organization
    return may_see(caller, referral)


async def _said(session: AsyncSession, orientation: Orientation, event: Event) -> OrientationSummary:
    await session.flush()
    await outbox.append(session, event)
    return summary(orientation)


def _delay(orientation: Orientation, now: datetime) -> int:
    return minutes_between(orientation.requested_at, now)


async def accept(session: AsyncSession, caller: Principal, orientation_id: UUID, version: int, now: datetime) -> OrientationSummary:
    referral, orientation = await _locked(session, caller, orientation_id, version, OrientationMove.ACCEPT)
    orientation.answered_at = now
    event = OrientationAccepted(
        **_common(referral, orientation),
        partner_kind=PartnerKind(orientation.partner_kind),
        delay_minutes=_delay(orientation, now),
        accepted_at=now,
    )
    return await _said(session, orientation, event)


async def reject(
    session: AsyncSession, caller: Principal, orientation_id: UUID, version: int, body: RejectIn, now: datetime
) -> OrientationSummary:
    referral, orientation = await _locked(session, caller, orientation_id, version, OrientationMove.REJECT)
    orientation.answered_at = orientation.ended_at = now
    orientation.reason = body.reason
    event = OrientationRejected(
        **_common(referral, orientation),
        partner_kind=PartnerKind(orientation.partner_kind),
        reason=body.reason,
        delay_minutes=_delay(orientation, now),
        rejected_at=now,
    )
    return await _said(session, orientation, event)


async def start(session: AsyncSession, caller: Principal, orientation_id: UUID, version: int, now: datetime) -> OrientationSummary:
    referral, orientation = await _locked(session, caller, orientation_id, version, OrientationMove.START)
    return await _said(session, orientation, OrientationStarted(**_common(referral, orientation), started_at=now))


async def complete(
    session: AsyncSession, caller: Principal, orientation_id: UUID, version: int, body: CompleteIn, now: datetime
) -> OrientationSummary:
    referral, orientation = await _locked(session, caller, orientation_id, version, OrientationMove.COMPLETE)
    orientation.ended_at = now
    orientation.outcome = body.outcome
    return await _said(session, orientation, OrientationCompleted(**_common(referral, orientation), outcome=body.outcome, completed_at=now))


async def fail(
    session: AsyncSession, caller: Principal, orientation_id: UUID, version: int, body: FailIn, now: datetime
) -> OrientationSummary:
    referral, orientation = await _locked(session, caller, orientation_id, version, OrientationMove.FAIL)
    orientation.ended_at = now
    orientation.reason = body.reason
    return await _said(session, orientation, OrientationFailed(**_common(referral, orientation), reason=body.reason, failed_at=now))


async def cancel(session: AsyncSession, caller: Principal, orientation_id: UUID, version: int, now: datetime) -> OrientationSummary:
    referral, orientation = await _locked(session, caller, orientation_id, version, OrientationMove.CANCEL)
    orientation.ended_at = now
    return await _said(session, orientation, OrientationCancelled(**_common(referral, orientation), cancelled_at=now))


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
        await _said(session, orientation, OrientationExpired(**_common(referral, orientation), expired_at=now))
    return len(ids)
