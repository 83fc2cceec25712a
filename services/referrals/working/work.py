"""Working a referral: assign, transfer, accept, decline, close, reopen (contacts and interviews: followup.py).

Each command locks the referral first, then says what changed; none commits."""

from collections.abc import Sequence
from datetime import datetime
from typing import TypeVar
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from libs.chassis import outbox
from libs.chassis.etag import match
from libs.chassis.ids import new_id
from libs.chassis.refusals import Conflict, Forbidden, NotFound
from libs.chassis.security import Principal
from libs.chassis.vault import Vault
from libs.contracts.referrals import ReferralAccepted, ReferralAssigned, ReferralClosed, ReferralReopened, ReferralUnrouted
from libs.contracts.types import Code
from libs.contracts.units import police_id_of
from libs.contracts.vocabularies import (
    CloseReason,
    ContactAgreement,
    OrientationStatus,
    ReferralStatus,
    Role,
    RoutingReason,
    UnroutedReason,
)
from services.referrals import notices
from services.referrals.delays.calls import calls_of, recount
from services.referrals.delays.due import Delays
from services.referrals.domain import MOVES, Move, MoveRefused, moved
from services.referrals.justice.models import Alert
from services.referrals.models import Person, PostHeard, Referral, Withdrawable
from services.referrals.orientations.domain import ORIENTATION_TAKEN
from services.referrals.orientations.models import Orientation
from services.referrals.persons import NARRATIVE, opened_content
from services.referrals.receiving import routing
from services.referrals.receiving.domain import Decision, PostState, Verdict
from services.referrals.rules import UnknownPerson, UnknownPost, check_kept
from services.referrals.schemas import PersonContent
from services.referrals.working.domain import SPOKEN_WITH, Helped, PostNotAvailable, Work, check_closing
from services.referrals.working.duplicates import original_of
from services.referrals.working.helping import attempts_for, those_of_first, to_help, tries
from services.referrals.working.models import Assessment, ContactAttempt, Interview, Moved
from services.referrals.working.schemas import AssignIn, CloseIn, DeclineIn, MovedOut, TransferIn

Noted = TypeVar("Noted", Alert, Assessment, ContactAttempt, Interview)


def may_see(caller: Principal, referral: Referral) -> bool:
    """The social worker sees the referrals of their own posts, the coordinator those of the département."""
    if caller.role is Role.ISCG:
        return referral.post_id is not None and referral.post_id in caller.ids("post")
    return caller.role is Role.COORDINATOR and caller.covers_departement(referral.departement)


async def locked(session: AsyncSession, caller: Principal, referral_id: UUID, move: Move, version: int | None = None) -> Referral:
    """The referral, its row locked until the end of the transaction. Raises NotFound outside the perimeter, Forbidden, StaleVersion."""
    referral = await session.get(Referral, referral_id, with_for_update=True, populate_existing=True)
    if referral is None or not may_see(caller, referral):
        raise NotFound
    if caller.role not in MOVES[move].by:
        raise Forbidden("Votre rôle ne permet pas cette étape.")
    if version is not None:
        match(referral.version, version)
    return referral


async def locked_for(session: AsyncSession, caller: Principal, referral_id: UUID, move: Move, version: int | None = None) -> Referral:
    """Locked, and in a state that allows the move, for what leaves the state as it is. Raises as `locked`, and MoveRefused."""
    referral = await locked(session, caller, referral_id, move, version)
    moved(ReferralStatus(referral.status), move)
    return referral


def _moved(
    session: AsyncSession,
    caller: Principal,
    referral: Referral,
    move: Move,
    now: datetime,
    *,
    post_id: UUID | None,
    reason: str | None = None,
) -> MovedOut:
    note_move(session, referral, move, now, post_id=post_id, reason=reason, actor=caller.subject, role=caller.role)
    referral.version += 1
    return MovedOut(id=referral.id, status=ReferralStatus(referral.status), post_id=post_id, version=referral.version, warnings=[])


def note_move(
    session: AsyncSession,
    referral: Referral,
    move: Move,
    now: datetime,
    *,
    post_id: UUID | None,
    reason: str | None,
    actor: str | None,
    role: Role | None,
) -> None:
    """Make the move, to this post, and note it for the timeline. The caller has locked the referral. Raises MoveRefused."""
    status = moved(ReferralStatus(referral.status), move)
    session.add(
        Moved(
            id=new_id(),
            referral_id=referral.id,
            move=move,
            status_before=referral.status,
            status_after=status,
            post_before=referral.post_id,
            post_after=post_id,
            reason=reason,
            actor=actor,
            actor_role=role,
            duplicate_of=referral.duplicate_of if move in (Move.CLOSE, Move.CLOSE_UNROUTED) else None,
            at=now,
        )
    )
    referral.status = status
    referral.post_id = post_id


async def assign(
    session: AsyncSession, caller: Principal, delays: Delays, referral_id: UUID, version: int, body: AssignIn, now: datetime
) -> MovedOut:
    """By hand: an unrouted referral, or one that goes to another post."""
    referral = await locked(session, caller, referral_id, Move.ASSIGN, version)
    return await _given(session, caller, delays, referral, Move.ASSIGN, body.post_id, now)


async def transfer(
    session: AsyncSession, caller: Principal, delays: Delays, referral_id: UUID, version: int, body: TransferIn, now: datetime
) -> MovedOut:
    """By the social worker, to another post of their départements; it no longer is theirs then."""
    referral = await locked(session, caller, referral_id, Move.TRANSFER, version)
    if body.post_id == referral.post_id:
        raise PostNotAvailable("Cette saisine est déjà affectée à ce poste : choisissez-en un autre.")
    return await _given(session, caller, delays, referral, Move.TRANSFER, body.post_id, now)


async def _given(
    session: AsyncSession, caller: Principal, delays: Delays, referral: Referral, move: Move, post_id: UUID, now: datetime
) -> MovedOut:
    post = await session.get(PostHeard, post_id)
    if post is None or post.state == PostState.CLOSED or not caller.covers_departement(post.departement):
        raise UnknownPost("Ce poste n'existe pas ou est fermé.", pointers=[("/post_id", "Aucun poste ouvert ne porte cet identifiant.")])
    if post.state != PostState.FILLED:
        stands_in = {"replacement_post_id": str(post.replacement_post_id)} if post.replacement_post_id is not None else {}
        raise PostNotAvailable(
            "Ce poste n'a pas de titulaire en fonction : personne n'y recevrait la saisine.", more={"state": post.state} | stands_in
        )
    reason, before = RoutingReason.MANUAL if referral.post_id is None else RoutingReason.TRANSFER, referral.post_id
    answer = _moved(session, caller, referral, move, now, post_id=post.id)
    referral.accepted_at = None
    decided = await _decided(session, referral, post.id, reason)
    referral.routing = routing.stored(decided, now)
    await delays.settle(session, referral)
    await session.flush()
    await outbox.append(
        session,
        ReferralAssigned(
            referral_id=referral.id,
            departement=referral.departement,
            post_id=post.id,
            reason=reason,
            assigned_at=now,
            police_id=police_told(referral),
        ),
    )
    await notices.handed_on(session, referral.id, referral.departement, before, post.id, now, by_post=move is Move.TRANSFER)
    await notices.notify(
        session, notices.of_assigned(referral.id, post.id, now, urgent=notices.is_urgent(referral.urgency, referral.danger)), now=now
    )
    return answer.model_copy(update={"warnings": [decided.misfit] if decided.misfit is not None else []})


async def _decided(session: AsyncSession, referral: Referral, post_id: UUID | None, reason: RoutingReason | UnroutedReason) -> Decision:
    await session.flush()  # the posts' loads are those after the move
    atlas = await routing.atlas(session, [(referral.unit_id, referral.commune)])
    return atlas.by_hand(referral, post_id, reason)


def police_told(referral: Referral) -> UUID | None:
    """The police system, of a step towards the first contact. Once that was made it is told no more until the end, whichever post has it (report 1.2.5)."""
    return police_id_of(referral.client_id) if not referral.contacted else None


async def accept(session: AsyncSession, caller: Principal, referral_id: UUID, version: int, now: datetime) -> MovedOut:
    referral = await locked(session, caller, referral_id, Move.ACCEPT, version)
    answer = _moved(session, caller, referral, Move.ACCEPT, now, post_id=referral.post_id)
    referral.accepted_at = now
    await session.flush()
    await outbox.append(
        session,
        ReferralAccepted(
            referral_id=referral.id,
            departement=referral.departement,
            post_id=post_of(referral),
            accepted_at=now,
            police_id=police_told(referral),
        ),
    )
    return answer


async def decline(session: AsyncSession, caller: Principal, referral_id: UUID, version: int, body: DeclineIn, now: datetime) -> MovedOut:
    """Back to the coordinator, with a coded reason; another post that can take it is given it at the next try, within seconds."""
    referral = await locked(session, caller, referral_id, Move.DECLINE, version)
    declined = referral.post_id
    answer = _moved(session, caller, referral, Move.DECLINE, now, post_id=None, reason=body.reason)
    referral.declined_by = [*referral.declined_by, *([declined] if declined is not None else [])]
    referral.decline_reason = body.reason
    decided = await _decided(session, referral, None, UnroutedReason.DECLINED)
    referral.routing = routing.stored(decided, now)
    await session.flush()
    await outbox.append(
        session,
        ReferralUnrouted(
            referral_id=referral.id,
            departement=referral.departement,
            reason=UnroutedReason.DECLINED,
            unrouted_at=now,
            police_id=police_told(referral),
        ),
    )
    if any(one.verdict is Verdict.POSSIBLE for one in decided.considered):
        await routing.mark_due(session, referral.departement)
    await notices.handed_on(session, referral.id, referral.departement, declined, None, now, by_post=True)
    # told in any case: until the next try that post may be gone
    urgent = notices.is_urgent(referral.urgency, referral.danger)
    await notices.notify(session, notices.of_unrouted(referral.id, referral.departement, now, urgent=urgent), now=now)
    return answer


async def close(session: AsyncSession, caller: Principal, referral_id: UUID, version: int, body: CloseIn, now: datetime) -> MovedOut:
    """By the social worker; by the coordinator while nobody works at its post, or it has none. Some reasons rest on what was done (`working.domain.CLOSING`)."""
    move = Move.CLOSE_UNROUTED if caller.role is Role.COORDINATOR else Move.CLOSE
    referral = await locked(session, caller, referral_id, move, version)
    referral.duplicate_of = await original_of(session, referral, body, lambda one: may_see(caller, one))
    answer = _moved(session, caller, referral, move, now, post_id=referral.post_id, reason=body.reason)
    if move is Move.CLOSE_UNROUTED and await is_at_work(session, referral):
        raise MoveRefused("Cette saisine a un poste : c'est à lui de la clore.")
    check_closing(body.reason, await _work(session, referral))
    await say_closed(session, referral, body.reason, now)
    return answer


async def say_closed(session: AsyncSession, referral: Referral, reason: CloseReason, now: datetime) -> None:
    """Of a referral that was just moved to its end."""
    referral.closed_at, referral.close_reason = now, reason
    await session.flush()
    await notices.untrue(session, notices.of_departement(referral.departement), referral.id, notices.UNROUTED)
    if referral.post_id is not None:
        await notices.untrue(session, notices.of_post(referral.post_id), referral.id, notices.ASSIGNED)
    await outbox.append(
        session,
        ReferralClosed(
            referral_id=referral.id,
            departement=referral.departement,
            post_id=referral.post_id,
            reason=reason,
            closed_at=now,
            police_id=police_id_of(referral.client_id),
        ),
    )


async def _work(session: AsyncSession, referral: Referral) -> Work:
    asked = (
        await session.execute(
            select(col(Orientation.person_id), col(Orientation.status), col(Orientation.legal_ground)).where(
                col(Orientation.referral_id) == referral.id
            )
        )
    ).all()
    persons, attempts = await calls_of(session, referral)
    taken = {one.person_id for one in asked if one.status in ORIENTATION_TAKEN}
    helped = []
    reported = await reported_of(session, referral.id)
    for person in to_help(persons, attempts):
        made = attempts_for(person, persons, attempts)
        tried = tries(person, made)
        helped.append(
            Helped(
                agreed=person.agreement is ContactAgreement.ACCEPTED and person.may_be_called,
                may_be_called=person.may_be_called,
                last_contact=made[-1].result if made else None,
                tried=bool(tried),
                spoken_with=any(one.result in SPOKEN_WITH for one in tried),
                left=bool(made) and made[-1] not in tried,
                taken=person.id in taken,
                reported=person.id in reported,
            )
        )
    return Work(
        frozenset(OrientationStatus(one.status) for one in asked),
        frozenset(OrientationStatus(one.status) for one in asked if one.legal_ground is None),
        tuple(helped),
        all(one.agreement is ContactAgreement.REFUSED for one in those_of_first(persons)) and bool(persons),
    )


async def reported_of(session: AsyncSession, referral_id: UUID) -> set[UUID]:
    """Of whom an alert was sent that stands."""
    named = select(func.unnest(col(Alert.person_ids))).where(col(Alert.referral_id) == referral_id, col(Alert.withdrawn_at).is_(None))
    return set(await session.scalars(named))


async def reopen(session: AsyncSession, caller: Principal, delays: Delays, referral_id: UUID, version: int, now: datetime) -> MovedOut:
    """Back to its post, by the social worker; without a post where somebody works, back to the coordinator."""
    move = Move.REOPEN_UNROUTED if caller.role is Role.COORDINATOR else Move.REOPEN
    referral = await locked(session, caller, referral_id, move, version)
    at_work = await is_at_work(session, referral)
    if move is Move.REOPEN_UNROUTED and at_work:
        raise MoveRefused("Cette saisine a un poste : c'est à lui de la rouvrir.")
    if move is Move.REOPEN and not at_work:
        raise MoveRefused("Personne n'est en fonction à ce poste : c'est au coordinateur de la rouvrir, pour l'affecter à un autre.")
    referral.closed_at = referral.close_reason = referral.duplicate_of = referral.given_up_at = None
    answer = _moved(session, caller, referral, move, now, post_id=referral.post_id if at_work else None)
    if not at_work:
        referral.accepted_at = None
        await routing.mark_due(session, referral.departement)
    if referral.post_id is not None and referral.accepted_at is None:
        referral.accepted_at = now
    referral.contacted, referral.due_from = False, now
    await recount(session, referral)
    await delays.settle(session, referral)
    await session.flush()
    await outbox.append(
        session,
        ReferralReopened(
            referral_id=referral.id,
            departement=referral.departement,
            post_id=referral.post_id,
            reopened_at=now,
            police_id=police_id_of(referral.client_id),
        ),
    )
    return answer


async def is_at_work(session: AsyncSession, referral: Referral) -> bool:
    """It has a post, and somebody works there."""
    post = await session.get(PostHeard, referral.post_id) if referral.post_id is not None else None
    return post is not None and post.state == PostState.FILLED


def post_of(referral: Referral) -> UUID:
    """The post of a referral that is assigned or accepted."""
    if referral.post_id is None:
        raise AssertionError("a referral at this state has a post")
    return referral.post_id


async def person_of(session: AsyncSession, referral_id: UUID, person_id: UUID) -> Person:
    """For work: who was erased is not worked any more. Raises UnknownPerson, ContentErased."""
    person = await anybody_of(session, referral_id, person_id)
    check_kept(person.content)
    return person


async def anybody_of(session: AsyncSession, referral_id: UUID, person_id: UUID) -> Person:
    """Erased or not. Raises UnknownPerson."""
    person = await session.scalar(select(Person).where(col(Person.id) == person_id, col(Person.referral_id) == referral_id))
    if person is None:
        raise UnknownPerson(
            "Cette personne ne fait pas partie de la saisine.",
            pointers=[("/person_id", "Aucune personne de cette saisine ne porte cet identifiant.")],
        )
    return person


async def people_of(session: AsyncSession, referral_id: UUID, person_ids: Sequence[UUID]) -> list[Person]:
    """The persons that a body names by `person_ids`, erased or not, in its order. Raises UnknownPerson."""
    known = {person.id: person for person in await session.scalars(select(Person).where(col(Person.referral_id) == referral_id))}
    strangers = [place for place, person_id in enumerate(person_ids) if person_id not in known]
    if strangers:
        raise UnknownPerson(
            "Une personne ne fait pas partie de la saisine.",
            pointers=[(f"/person_ids/{place}", "Aucune personne de cette saisine ne porte cet identifiant.") for place in strangers],
        )
    return [known[person_id] for person_id in person_ids]


async def still_noted(session: AsyncSession, referral_id: UUID, table: type[Noted], noted_id: UUID, already: Conflict) -> Noted:
    """What was noted for a referral that the caller has locked, and was not withdrawn since. Raises NotFound, `already`."""
    noted = await session.get(table, noted_id)
    if noted is None or noted.referral_id != referral_id:
        raise NotFound
    if noted.withdrawn_at is not None:
        raise already
    return noted


async def take_back(session: AsyncSession, caller: Principal, referral: Referral, noted: Withdrawable, reason: Code, now: datetime) -> None:
    """It was noted by mistake: it stays in sight, with who withdrew it and why."""
    noted.withdrawn_at, noted.withdrawn_because = now, reason
    noted.withdrawn_by, noted.withdrawn_by_role = caller.subject, caller.role
    referral.version += 1
    await session.flush()


async def narrative_of(session: AsyncSession, vault: Vault, referral: Referral) -> str | None:
    """`None` when there is none, or it was erased."""
    if referral.narrative_key_id is None or referral.narrative is None:
        return None
    key = (await vault.open_keys(session, [referral.narrative_key_id])).get(referral.narrative_key_id)
    return key.open(referral.narrative, context=NARRATIVE).decode() if key is not None else None


async def content_of(session: AsyncSession, vault: Vault, person: Person) -> PersonContent | None:
    """What is sealed of a person, `None` when it was erased."""
    return (await contents_of(session, vault, [person])).get(person.id)


async def contents_of(session: AsyncSession, vault: Vault, persons: Sequence[Person]) -> dict[UUID, PersonContent]:
    """What is sealed of some persons, by their ids, in one statement. Who was erased is missing."""
    keys = await vault.open_keys(session, [person.key_id for person in persons])
    return {person.id: opened_content(keys[person.key_id], person.content) for person in persons if person.key_id in keys}
