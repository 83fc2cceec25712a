"""What callers read, each within its perimeter. Outside it: NotFound."""

from typing import Any, Final
from uuid import UUID

from sqlalchemy import and_, or_, select, true
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from libs.chassis.refusals import NotFound
from libs.chassis.security import Principal
from libs.chassis.vault import Vault
from libs.contracts.vocabularies import OrientationStatus, ReferralStatus, Role
from services.referrals.directory.called import called
from services.referrals.domain import moves_open_to, police_status
from services.referrals.models import Person, Referral
from services.referrals.orientations import commands as orientations
from services.referrals.orientations import telling
from services.referrals.orientations.domain import ORIENTATION_LIVES, OrientationOver, may_still_be_contacted, orientation_moves_open_to
from services.referrals.orientations.models import Orientation
from services.referrals.orientations.schemas import OrientationNamed, OrientationOut
from services.referrals.persons import hashes_sought, hashes_sought_of, names_hashes_sought
from services.referrals.receiving import repeats
from services.referrals.receiving.references import of_reference
from services.referrals.receiving.schemas import PersonFound, PersonSearchIn, RoutingOut
from services.referrals.schemas import PersonContent, PersonNumbered, PersonOut
from services.referrals.working.applied import Applied, applied_to
from services.referrals.working.duplicates import duplicates_of, told_original
from services.referrals.working.models import Assessment, ContactAttempt, Interview
from services.referrals.working.schemas import AssessmentOut, ContactOut, InterviewOut, ReferralOut
from services.referrals.working.work import contents_of, is_at_work, may_see, narrative_of
from services.referrals.worklists.referrals import summary_of
from services.referrals.worklists.schemas import ReferralSummary, StatusOut


def _perimeter(caller: Principal) -> Any:
    """The condition that a referral is the caller's to work."""
    match caller.role:
        case Role.ISCG:
            return col(Referral.post_id).in_(caller.ids("post"))
        case Role.COORDINATOR:
            departements = caller.departements()
            return true() if departements is None else col(Referral.departement).in_(departements)
        case _:
            return true()  # the other services, by the access table


async def visible(session: AsyncSession, caller: Principal, referral_id: UUID) -> Referral:
    """Raises NotFound."""
    referral = await session.get(Referral, referral_id)
    if referral is None or not may_see(caller, referral):
        raise NotFound
    return referral


async def referral(session: AsyncSession, caller: Principal, vault: Vault, search_key: bytes, referral_id: UUID) -> ReferralOut:
    """Everything of a referral, its content opened."""
    found = await visible(session, caller, referral_id)
    persons = (await session.scalars(select(Person).where(col(Person.referral_id) == found.id).order_by(col(Person.position)))).all()
    attempts = (
        await session.scalars(
            select(ContactAttempt).where(col(ContactAttempt.referral_id) == found.id).order_by(col(ContactAttempt.attempted_at))
        )
    ).all()
    held = await session.scalars(
        select(Interview).where(col(Interview.referral_id) == found.id).order_by(col(Interview.held_at), col(Interview.id))
    )
    assessed = await session.scalars(
        select(Assessment).where(col(Assessment.referral_id) == found.id).order_by(col(Assessment.recorded_at), col(Assessment.id))
    )
    asked = (await session.scalars(select(Orientation).where(col(Orientation.referral_id) == found.id).order_by(col(Orientation.id)))).all()
    names = await called(session, services=[one.service_id for one in asked])
    contents = await contents_of(session, vault, persons)
    applied = await applied_to(session, vault, persons, contents)
    sought = {id: hashes_sought_of(search_key, content.identity) for id, content in contents.items()}
    status = ReferralStatus(found.status)
    may_rest_on_it = status is ReferralStatus.CLOSED or caller.role is Role.COORDINATOR  # who may reopen it, or close it
    at_work = may_rest_on_it and await is_at_work(session, found)
    return ReferralOut.model_validate(
        await summary_of(session, found.id)
        | {
            "themes": found.themes,
            "penal": found.penal,
            "natinf": found.natinf,
            "children_present": found.children_present,
            "occurred_at": found.occurred_at,
            "narrative": await narrative_of(session, vault, found),
            "external_reference": found.external_reference,
            "people": [
                PersonNumbered(number=number, **_person(person, contents.get(person.id), applied[person.id]).model_dump())
                for number, person in enumerate(persons, start=1)
            ],
            "already_known": await repeats.already_known(session, found, persons, sought, lambda one: may_see(caller, one)),
            "contacts": [ContactOut.of(one) for one in attempts],
            "interviews": [InterviewOut.of(one) for one in held],
            "assessments": [AssessmentOut.of(one) for one in assessed],
            "orientations": [OrientationNamed.of(one, **names.of_service(one.service_id)) for one in asked],
            "accepted_at": found.accepted_at,
            "closed_at": found.closed_at,
            "close_reason": found.close_reason,
            "duplicate_of": await told_original(session, found.duplicate_of, lambda one: may_see(caller, one)),
            "duplicates": await duplicates_of(session, found, lambda one: may_see(caller, one)),
            "moves": moves_open_to(caller.role, status, at_work=at_work),
        }
    )


def _person(person: Person, content: PersonContent | None, applied: Applied) -> PersonOut:
    return PersonOut.model_validate(
        {
            "id": person.id,
            "role": person.role,
            "sex": person.sex,
            "age_band": person.age_band,
            "agreement": person.agreement,
            "known_to_services": person.known_to_services,
            "erased": content is None,
            "identity": content.identity if content else None,
            "approximate_age": content.approximate_age if content else None,
            "contact": content.contact if content else None,
            "safe_contact": applied.rules,
            "safe_contact_of": applied.of,
        }
    )


async def persons_found(
    session: AsyncSession, caller: Principal, search_key: bytes, body: PersonSearchIn, *, or_undated: bool = False
) -> list[PersonFound]:
    """Nobody when the name has no letter to find it by. `or_undated`: of a search with a birth date, also who has that name and is known by none."""
    named = col(Person.name_hash).in_(names_hashes_sought(search_key, body.family_name, body.given_name))
    if body.birth_on is None:
        return await repeats.search(session, named, _perimeter(caller))
    born = col(Person.identity_hash).in_(hashes_sought(search_key, body.family_name, body.given_name, body.birth_on))
    undated = and_(named, col(Person.identity_hash).is_(None))
    return await repeats.search(session, or_(born, undated) if or_undated else born, _perimeter(caller))


async def referenced(session: AsyncSession, caller: Principal, external_reference: str, unit_id: UUID | None) -> list[ReferralSummary]:
    """The referrals of the caller's perimeter that carry the police's reference, newest reception first; at most 100."""
    query = select(col(Referral.id)).where(of_reference(external_reference, unit_id), _perimeter(caller))
    found = await session.scalars(query.order_by(col(Referral.received_at).desc(), col(Referral.id).desc()).limit(100))
    return [ReferralSummary.model_validate(await summary_of(session, one)) for one in found.all()]


async def routing(session: AsyncSession, caller: Principal, referral_id: UUID) -> RoutingOut:
    decided = (await visible(session, caller, referral_id)).routing
    return RoutingOut.model_validate(
        {"corrected_at": None} | decided | {"considered": [{"replaces_id": None} | one for one in decided["considered"]]}
    )


# The police: its own referrals, their status only


_FOLLOWED: Final = select(
    col(Referral.id),
    col(Referral.external_reference),
    col(Referral.first_unit_id),
    col(Referral.status),
    col(Referral.received_at),
    col(Referral.contacted),
)


def status_of(row: Any) -> StatusOut:
    """Of a row of `_FOLLOWED`."""
    return StatusOut(
        id=row.id,
        external_reference=row.external_reference,
        unit_id=row.first_unit_id,
        status=police_status(ReferralStatus(row.status), contacted=row.contacted),
        received_at=row.received_at,
    )


async def status(session: AsyncSession, caller: Principal, referral_id: UUID) -> StatusOut:
    """Raises NotFound."""
    row = (
        await session.execute(_FOLLOWED.where(col(Referral.id) == referral_id, col(Referral.client_id) == caller.client_id))
    ).one_or_none()
    if row is None:
        raise NotFound
    return status_of(row)


async def statuses_of(session: AsyncSession, caller: Principal, external_reference: str, unit_id: UUID | None) -> list[StatusOut]:
    """The caller's own referrals of this reference, of one unit when it is named, as it was received; at most 100."""
    query = _FOLLOWED.where(of_reference(external_reference, unit_id), col(Referral.client_id) == caller.client_id)
    return [status_of(row) for row in await session.execute(query.order_by(col(Referral.received_at), col(Referral.id)).limit(100))]


# Orientations


async def orientation(session: AsyncSession, caller: Principal, vault: Vault, orientation_id: UUID) -> OrientationOut:
    """With the person concerned, and nobody else of the referral. Raises OrientationOver for the partner once it has ended.

    Of who refused meanwhile a partner reads no content, unless the orientation rests on a legal ground.
    """
    found = await session.get(Orientation, orientation_id)
    referral = await session.get(Referral, found.referral_id) if found is not None else None
    if found is None or referral is None or not orientations.sees(caller, referral, found):
        raise NotFound
    if caller.role is Role.PARTNER and OrientationStatus(found.status) not in ORIENTATION_LIVES:
        raise OrientationOver(
            "Cette orientation est terminée : le contenu sur la personne n'est plus communiqué.", more={"status": found.status}
        )
    person = await session.get_one(Person, found.person_id)
    reached = caller.role is not Role.PARTNER or may_still_be_contacted(person.agreement, found.legal_ground)
    contents = await contents_of(session, vault, [person])
    applied = await applied_to(session, vault, [person], contents)
    shown = _person(person, contents.get(person.id), applied[person.id])
    moves = orientation_moves_open_to(caller.role, OrientationStatus(found.status))
    if not reached:
        shown = shown.model_copy(update=dict.fromkeys([*PersonContent.model_fields, "safe_contact_of"]))
        moves = [move for move in moves if move not in orientations.REACHING]
    return OrientationOut.model_validate(
        telling.summary(found).model_dump()
        | (await called(session, services=[found.service_id])).of_service(found.service_id)
        | {
            "departement": referral.departement,
            "commune": referral.commune,
            "urgency": referral.urgency,
            "danger": referral.danger,
            "reason_text": await telling.reason_text_of(session, vault, found, person),
            "person": shown,
            "moves": moves,
        }
    )
