"""The social worker asks a service of the directory to take a person over, and may hand the partner a link. The referral is locked first."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import and_, or_, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from libs.chassis import outbox
from libs.chassis.audit import audit
from libs.chassis.ids import new_id
from libs.chassis.refusals import NotFound
from libs.chassis.security import Principal
from libs.chassis.vault import Vault
from libs.contracts.referrals import OrientationRequested
from libs.contracts.vocabularies import AgeBand, Need, OrientationStatus, PartnerKind, PersonRole, Sex, Urgency
from services.referrals import notices
from services.referrals.domain import Move
from services.referrals.models import Person, Referral, ServiceHeard
from services.referrals.notices import NoticeKind
from services.referrals.orientations.commands import check_reach
from services.referrals.orientations.domain import (
    ORIENTATION_LIVES,
    Asked,
    Mismatch,
    Offer,
    OrientationMove,
    OrientationOver,
    OrientedAlready,
    UnknownOrientation,
    UnknownService,
    Whom,
    check_orientation,
    check_replaced,
    check_sides,
    check_sides_apart,
    mismatches,
    orientation_moved,
    place_of,
)
from services.referrals.orientations.links import Links
from services.referrals.orientations.models import Orientation
from services.referrals.orientations.schemas import LinkMade, OrientationIn, OrientationRequestedOut
from services.referrals.orientations.telling import facts_of, hears, summary, to_partner
from services.referrals.orientations.waiting import until
from services.referrals.persons import hashes_sought_of
from services.referrals.working.work import contents_of, locked_for, may_see, person_of, post_of


async def request(
    session: AsyncSession,
    caller: Principal,
    vault: Vault,
    search_key: bytes,
    links: Links,
    referral_id: UUID,
    body: OrientationIn,
    now: datetime,
    answer_times: Mapping[str, timedelta],
) -> OrientationRequestedOut:
    """Ask a service of the directory. Refused for who refused to be contacted; what may not fit is a warning.

    `search_key`: of the hashes of identities. `answer_times`: how long an answer is waited for, by urgency.
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
    asked_of_it = await _asked(session, vault, search_key, referral.id, service.organization_id)
    check_sides(person.role, [one.role for one in asked_of_it])
    if body.replaces_id is not None:
        await _check_replaced(session, referral.id, person.id, body.replaces_id)
    offer = Offer(
        service.departement,
        frozenset(map(Need, service.needs)),
        frozenset(service.communes),
        service.capacity,
        PartnerKind(service.kind),
        frozenset(map(Sex, service.sexes)),
        frozenset(map(AgeBand, service.age_bands)),
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
        expires_at=until(referral, answer_times, now),
        reminded_at=None,
        answered_at=None,
        ended_at=None,
        version=1,
        actor=caller.subject,
        actor_role=caller.role,
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
            **facts_of(referral, orientation),
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
    await notices.notify(session, await to_partner(session, links, orientation, kind, now, urgent=urgent), now=now)
    whom = Whom(PersonRole(person.role), Sex(person.sex), AgeBand(person.age_band))
    doubts = mismatches(offer, body.need, place_of(referral.commune, referral.departement), whom)
    if not await hears(session, service.organization_id):
        doubts.append(Mismatch.UNTOLD)
    return OrientationRequestedOut(**summary(orientation).model_dump(), warnings=doubts)


async def _asked(
    session: AsyncSession, vault: Vault, search_key: bytes, referral_id: UUID, organization_id: UUID | None = None
) -> list[Asked]:
    """What was asked for the persons of a referral, here or in another that may hold them by their names and birth (`hashes_sought_of`): a duplicate, an
    earlier one."""
    persons = (await session.scalars(select(Person).where(col(Person.referral_id) == referral_id))).all()
    contents = await contents_of(session, vault, persons)
    sought = {id: frozenset(hashes_sought_of(search_key, content.identity)) for id, content in contents.items()}
    found = (
        select(
            col(Orientation.organization_id),
            col(Orientation.status),
            col(Orientation.referral_id),
            col(Person.id),
            col(Person.identity_hash),
        )
        .join(Person, and_(col(Person.referral_id) == col(Orientation.referral_id), col(Person.id) == col(Orientation.person_id)))
        .where(or_(col(Person.referral_id) == referral_id, col(Person.identity_hash).in_(frozenset().union(*sought.values()))))
    )
    if organization_id is not None:
        found = found.where(col(Orientation.organization_id) == organization_id)
    return [
        Asked(organization, person.role, OrientationStatus(status), at == referral_id)
        for organization, status, at, asked_for, identity in await session.execute(found)
        for person in persons
        if person.id == asked_for or identity in sought.get(person.id, ())
    ]


async def check_sides_of(session: AsyncSession, vault: Vault, search_key: bytes, referral_id: UUID) -> None:
    """After a role was corrected, its row locked and flushed. Raises BothSides."""
    check_sides_apart(await _asked(session, vault, search_key, referral_id))


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
