"""Orientations: the social worker asks a partner to take a person over; the partner answers. Their facts are facts of the referral, which is locked first."""

from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from typing import Any, Final, TypeVar
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from libs.chassis import outbox
from libs.chassis.audit import audit
from libs.chassis.database import PlainRow
from libs.chassis.etag import match
from libs.chassis.ids import new_id
from libs.chassis.refusals import Forbidden, NotFound
from libs.chassis.security import Principal
from libs.chassis.vault import Vault
from libs.contracts.audiences import PseudonymKeys
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
    OrientationUpdated,
)
from libs.contracts.vocabularies import (
    AgeBand,
    Need,
    OrientationCancellation,
    OrientationStatus,
    OrientedContent,
    PartnerKind,
    PersonRole,
    Role,
    Urgency,
)
from services.referrals import notices
from services.referrals.domain import Move, PersonRefused, minutes_between
from services.referrals.models import Person, Referral, ServiceHeard
from services.referrals.notices import Notice, NoticeKind
from services.referrals.orientations.domain import (
    ORIENTATION_LIVES,
    ORIENTATION_MOVES,
    Asked,
    Offer,
    OrientationMove,
    OrientationOver,
    OrientedAlready,
    UnknownOrientation,
    UnknownService,
    check_orientation,
    check_replaced,
    check_sides,
    check_sides_apart,
    may_still_be_contacted,
    mismatches,
    orientation_moved,
)
from services.referrals.orientations.links import Links, last_of
from services.referrals.orientations.models import Orientation
from services.referrals.orientations.schemas import (
    CancelIn,
    CompleteIn,
    FailIn,
    LinkMade,
    OrientationIn,
    OrientationOut,
    OrientationRequestedOut,
    OrientationSummary,
    RejectIn,
)
from services.referrals.persons import REJECTION
from services.referrals.rules import check_kept
from services.referrals.working.work import locked_for, may_see, person_of, post_of


def summary(orientation: Orientation | PlainRow) -> OrientationSummary:
    return OrientationSummary.of(orientation)


async def request(
    session: AsyncSession,
    caller: Principal,
    links: Links,
    referral_id: UUID,
    body: OrientationIn,
    now: datetime,
    answer_times: Mapping[str, timedelta],
) -> OrientationRequestedOut:
    """Ask a service of the directory. Refused for who refused to be contacted; what may not fit is a warning.

    `answer_times`: how long an answer is waited for, by urgency.
    """
    referral = await locked_for(session, caller, referral_id, Move.ORIENT)
    person = await person_of(session, referral.id, body.person_id)
    ground = check_orientation(person.agreement, body.legal_ground, caller.role, AgeBand(person.age_band))
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
    await _check_sides(session, referral.id, person, service.organization_id)
    if body.replaces_id is not None:
        await _check_replaced(session, referral.id, person.id, body.replaces_id)
    offer = Offer(
        service.departement, frozenset(map(Need, service.needs)), frozenset(service.communes), service.capacity, PartnerKind(service.kind)
    )
    urgent = notices.is_urgent(referral.urgency, referral.danger)
    orientation = Orientation(
        id=new_id(),
        referral_id=referral.id,
        departement=referral.departement,
        current_post_id=referral.post_id,
        person_id=person.id,
        post_id=post_of(referral),
        service_id=service.id,
        organization_id=service.organization_id,
        partner_kind=service.kind,
        need=body.need,
        status=orientation_moved(None, OrientationMove.REQUEST),
        reason=None,
        outcome=None,
        replaces_id=body.replaces_id,
        legal_ground=ground,
        requested_at=now,
        expires_at=now + answer_times[Urgency.IMMEDIATE if urgent else referral.urgency],
        reminded_at=None,
        answered_at=None,
        ended_at=None,
        version=1,
    )
    session.add(orientation)
    referral.version += 1
    await session.flush()
    if ground is not None:
        detail = {"orientation": str(orientation.id), "person": str(person.id), "ground": str(ground)}
        await audit(session, caller, operation="orient_without_agreement", subject=f"referrals/{referral.id}", detail=detail)
    await outbox.append(
        session,
        OrientationRequested(
            **_common(referral, orientation),
            partner_kind=PartnerKind(service.kind),
            person_id=person.id,
            need=body.need,
            replaces_id=body.replaces_id,
            urgency=Urgency(referral.urgency),
            danger=referral.danger,
            requested_at=now,
            expires_at=orientation.expires_at,
        ),
    )
    kind = NoticeKind.ORIENTATION_URGENT if urgent else NoticeKind.ORIENTATION_TO_ANSWER
    await notices.notify(session, await _to_partner(session, links, orientation, kind, now, urgent=urgent), now=now)
    return OrientationRequestedOut(
        **summary(orientation).model_dump(), warnings=mismatches(offer, body.need, referral.commune, PersonRole(person.role))
    )


async def _check_sides(session: AsyncSession, referral_id: UUID, person: Person, organization_id: UUID) -> None:
    roles = await session.scalars(
        select(col(Person.role))
        .join(Orientation, col(Orientation.person_id) == col(Person.id))
        .where(col(Orientation.referral_id) == referral_id, col(Orientation.organization_id) == organization_id)
    )
    check_sides(person.role, roles.all())


async def check_sides_of(session: AsyncSession, referral_id: UUID) -> None:
    """After a role was corrected, its row locked and flushed. Raises BothSides."""
    asked = await session.execute(
        select(col(Orientation.organization_id), col(Person.role), col(Orientation.status))
        .join(Person, col(Orientation.person_id) == col(Person.id))
        .where(col(Orientation.referral_id) == referral_id)
    )
    check_sides_apart([Asked(organization_id, role, OrientationStatus(status)) for organization_id, role, status in asked])


async def _check_replaced(session: AsyncSession, referral_id: UUID, person_id: UUID, replaced_id: UUID) -> None:
    status = await session.scalar(
        select(col(Orientation.status)).where(
            col(Orientation.id) == replaced_id, col(Orientation.referral_id) == referral_id, col(Orientation.person_id) == person_id
        )
    )
    if status is None:
        raise UnknownOrientation(
            "L'orientation à remplacer n'est pas une orientation de cette personne.",
            pointers=[("/replaces_id", "Aucune orientation de cette personne ne porte cet identifiant.")],
        )
    check_replaced(OrientationStatus(status))


Told = TypeVar("Told", bound=OrientationSummary)


def told(caller: Principal, keys: PseudonymKeys, answer: Told) -> Told:
    """As the caller may know it: a partner is told its own pseudonyms of the situation and the person, those of its stream's events.

    With the true ids the partner of the victim and that of the alleged perpetrator could find that they work for the same situation.
    """
    if caller.role is not Role.PARTNER:
        return answer
    name = keys.namer(f"organization:{caller.organization}")
    changed: dict[str, Any] = {
        "referral_id": UUID(name(str(answer.referral_id))),
        "person_id": UUID(name(str(answer.person_id))),
        "replaces_id": None,
    }
    if isinstance(answer, OrientationOut):
        changed["person"] = answer.person.model_copy(update={"id": changed["person_id"]})
    return answer.model_copy(update=changed)


async def _to_partner(
    session: AsyncSession, links: Links, orientation: Orientation, kind: NoticeKind, now: datetime, *, urgent: bool = False
) -> Notice:
    """With the link to answer by, for an organization without account."""
    return _of_partner(orientation, kind, await links.for_partner(session, orientation, now), urgent=urgent)


def _of_partner(orientation: Orientation, kind: NoticeKind, link_id: UUID | None, *, urgent: bool = False) -> Notice:
    cause = f"{kind}:{orientation.id}:{orientation.version}"
    return Notice(cause, kind, notices.of_organization(orientation.organization_id), None, orientation.id, link_id, urgent)


async def make_link(session: AsyncSession, caller: Principal, links: Links, orientation_id: UUID, now: datetime) -> LinkMade:
    """For the social worker to hand to a partner without account. Raises NotFound, OrientationOver, ContentErased, PersonRefused."""
    referral_id = await session.scalar(select(col(Orientation.referral_id)).where(col(Orientation.id) == orientation_id))
    if referral_id is None:
        raise NotFound
    referral = await session.get_one(Referral, referral_id, with_for_update=True, populate_existing=True)
    orientation = await session.get_one(Orientation, orientation_id, with_for_update=True, populate_existing=True)
    if not may_see(caller, referral):
        raise NotFound
    if OrientationStatus(orientation.status) not in ORIENTATION_LIVES:
        raise OrientationOver("Cette orientation est terminée : elle n'attend plus de réponse.", more={"status": orientation.status})
    await check_reach(session, orientation)
    made = await links.make(session, orientation, now)
    await audit(session, caller, operation="make_orientation_link", subject=f"orientations/{orientation_id}")
    return LinkMade(id=made.id, orientation_id=orientation_id, expires_at=made.expires_at)


def _to_post(referral: Referral, orientation: Orientation, kind: NoticeKind) -> Notice:
    """To who works the referral now: it may have gone to another post since."""
    recipient = notices.of_post(referral.post_id or orientation.post_id)
    return Notice(f"{kind}:{orientation.id}", kind, recipient, referral.id, urgent=notices.is_urgent(referral.urgency, referral.danger))


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
    if move in REACHING:
        await check_reach(session, orientation)
    orientation.status = orientation_moved(OrientationStatus(orientation.status), move)
    orientation.version += 1
    referral.version += 1
    return referral, orientation


REACHING: Final = frozenset({OrientationMove.ACCEPT, OrientationMove.START})
"""What brings a partner to a person; an end can always be told."""


async def check_reach(session: AsyncSession, orientation: Orientation) -> None:
    """Raises ContentErased for who was erased, PersonRefused for who refused meanwhile."""
    person = await session.get_one(Person, orientation.person_id)
    check_kept(person.content)
    if not may_still_be_contacted(person.agreement, orientation.legal_ground):
        raise PersonRefused("Cette personne a refusé depuis d'être contactée : ses coordonnées ne sont plus communiquées.")


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
    await notices.notify(session, _to_post(referral, orientation, NoticeKind.ORIENTATION_ACCEPTED), now=now)
    event = OrientationAccepted(
        **_common(referral, orientation),
        partner_kind=PartnerKind(orientation.partner_kind),
        delay_minutes=_delay(orientation, now),
        accepted_at=now,
    )
    return await _said(session, orientation, event)


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
    await notices.notify(session, _to_post(referral, orientation, NoticeKind.ORIENTATION_REJECTED), now=now)
    event = OrientationRejected(
        **_common(referral, orientation),
        partner_kind=PartnerKind(orientation.partner_kind),
        reason=body.reason,
        delay_minutes=_delay(orientation, now),
        rejected_at=now,
    )
    return await _said(session, orientation, event)


async def reason_text_of(session: AsyncSession, vault: Vault, orientation: Orientation, person: Person) -> str | None:
    if orientation.reason_text is None:
        return None
    key = (await vault.open_keys(session, [person.key_id])).get(person.key_id)
    return key.open(orientation.reason_text, context=REJECTION).decode() if key is not None else None


async def start(session: AsyncSession, caller: Principal, orientation_id: UUID, version: int, now: datetime) -> OrientationSummary:
    referral, orientation = await _locked(session, caller, orientation_id, version, OrientationMove.START)
    await notices.notify(session, _to_post(referral, orientation, NoticeKind.ORIENTATION_STARTED), now=now)
    return await _said(session, orientation, OrientationStarted(**_common(referral, orientation), started_at=now))


async def complete(
    session: AsyncSession, caller: Principal, orientation_id: UUID, version: int, body: CompleteIn, now: datetime
) -> OrientationSummary:
    referral, orientation = await _locked(session, caller, orientation_id, version, OrientationMove.COMPLETE)
    orientation.ended_at = now
    orientation.outcome = body.outcome
    await notices.notify(session, _to_post(referral, orientation, NoticeKind.ORIENTATION_COMPLETED), now=now)
    return await _said(session, orientation, OrientationCompleted(**_common(referral, orientation), outcome=body.outcome, completed_at=now))


async def fail(
    session: AsyncSession, caller: Principal, orientation_id: UUID, version: int, body: FailIn, now: datetime
) -> OrientationSummary:
    referral, orientation = await _locked(session, caller, orientation_id, version, OrientationMove.FAIL)
    orientation.ended_at = now
    orientation.reason = body.reason
    await notices.notify(session, _to_post(referral, orientation, NoticeKind.ORIENTATION_FAILED), now=now)
    return await _said(session, orientation, OrientationFailed(**_common(referral, orientation), reason=body.reason, failed_at=now))


async def cancel(
    session: AsyncSession, caller: Principal, orientation_id: UUID, version: int, body: CancelIn, now: datetime
) -> OrientationSummary:
    referral, orientation = await _locked(session, caller, orientation_id, version, OrientationMove.CANCEL)
    return await say_cancelled(session, referral, orientation, body.reason, now)


async def say_cancelled(
    session: AsyncSession, referral: Referral, orientation: Orientation, reason: OrientationCancellation, now: datetime
) -> OrientationSummary:
    """Of one that the caller has locked and cancelled: its partner is told at once to contact the person no longer."""
    orientation.reason, orientation.ended_at = reason, now
    link_id = await last_of(session, orientation)
    await notices.notify(session, _of_partner(orientation, NoticeKind.ORIENTATION_WITHDRAWN, link_id), now=now)
    return await _said(session, orientation, OrientationCancelled(**_common(referral, orientation), reason=reason, cancelled_at=now))


async def say_updated(
    session: AsyncSession, links: Links, referral: Referral, orientation: Orientation, changed: Collection[OrientedContent], now: datetime
) -> OrientationSummary:
    """Of one that the caller has locked: its partner is told at once to read it again, and answers nothing from what it read before."""
    orientation.updated_at = now
    orientation.version += 1
    await notices.notify(session, await _to_partner(session, links, orientation, NoticeKind.ORIENTATION_UPDATED, now), now=now)
    parts = tuple(one for one in OrientedContent if one in changed)
    return await _said(session, orientation, OrientationUpdated(**_common(referral, orientation), changed=parts, updated_at=now))


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
        await notices.notify(session, _to_post(referral, orientation, NoticeKind.ORIENTATION_EXPIRED), now=now)
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
        await _to_partner(session, links, one, NoticeKind.ORIENTATION_REMINDER, now, urgent=notices.is_urgent(urgency, danger))
        for one, urgency, danger in reminded
    ]
    await notices.notify(session, *said, now=now)
    return len(reminded)
