"""Correcting what was received, with a log of who changed what, when and why. What was personal before stays sealed, under the person's own key."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from types import MappingProxyType
from typing import Any, Final
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from libs.chassis import outbox
from libs.chassis.ids import new_id
from libs.chassis.refusals import Invalid
from libs.chassis.security import Principal
from libs.chassis.vault import Vault
from libs.contracts.referrals import PersonCounted, ReferralCorrected
from libs.contracts.types import civil_day
from libs.contracts.vocabularies import (
    AgeBand,
    Channel,
    ContactAgreement,
    Force,
    KnownToServices,
    OrientedContent,
    PersonRole,
    ReferralStatus,
    Sex,
    Theme,
    Urgency,
)
from services.referrals import notices
from services.referrals.delays.calls import reached, recount
from services.referrals.delays.due import Delays
from services.referrals.delays.overdue import say_late
from services.referrals.domain import Move, minutes_between
from services.referrals.models import Person, Referral, UnitHeard
from services.referrals.orientations.asking import check_sides_of
from services.referrals.orientations.domain import Unfounded
from services.referrals.orientations.following import end_unagreed, tell_changed
from services.referrals.orientations.links import Links
from services.referrals.orientations.waiting import hasten
from services.referrals.persons import NARRATIVE, age_band_on, hashes_of, hashes_sought_of, reseal, sealed_content, told_as
from services.referrals.receiving import repeats, routing
from services.referrals.receiving.domain import Verdict
from services.referrals.receiving.home import check_stays
from services.referrals.rules import (
    ContentErased,
    UnknownPerson,
    check_age,
    check_birth,
    check_consistent,
    check_kept,
    check_past,
    check_texts,
)
from services.referrals.schemas import MAX_PERSONS, PersonContent, PersonIn
from services.referrals.working.applied import Applied, applied_to
from services.referrals.working.corrections_schemas import (
    CorrectedOut,
    CorrectionIn,
    PersonCorrection,
)
from services.referrals.working.domain import CorrectionReason
from services.referrals.working.models import CorrectedContent, Correction
from services.referrals.working.reaching import tell_reached
from services.referrals.working.work import content_of, contents_of, locked_for

_ROUTED_BY: Final = frozenset({"/unit_id", "/commune", "/channel"})
_PLAIN: Final = (
    "unit_id",
    "commune",
    "occurred_at",
    "channel",
    "urgency",
    "themes",
    "principal_theme",
    "penal",
    "natinf",
    "danger",
    "children_present",
)
_PLAIN_OF_A_PERSON: Final = ("role", "sex", "agreement", "known_to_services")
_SEALED_OF_A_PERSON: Final = ("identity", "approximate_age", "contact", "safe_contact")
_READ_WITH_ORIENTATIONS: Final[Mapping[str, OrientedContent]] = {
    **dict.fromkeys(("commune", "urgency", "danger"), OrientedContent.SITUATION),
    **dict.fromkeys(("contact", "safe_contact"), OrientedContent.CONTACT),
    **dict.fromkeys((*_PLAIN_OF_A_PERSON, "identity", "approximate_age", "age_band"), OrientedContent.PERSON),
}
"""What partners read of the situation and of the person (schemas.OrientationOut)."""
_ORIENTED_BY: Final = frozenset({"agreement", "identity", "approximate_age", "age_band"})
"""What an orientation may rest on: the agreement, or a legal ground for who is of that age."""
_OF_NO_CALL: Final = frozenset({"known_to_services"})
"""What of it changes nothing about who is called, or how: nobody is mailed for it."""

_BEFORE_A_CALL: Final = frozenset({"contact", "safe_contact", "agreement", "urgency", "danger"})
"""What the post that works a referral is told at once when a coordinator corrects it."""


async def correct(
    session: AsyncSession,
    caller: Principal,
    vault: Vault,
    links: Links,
    search_key: bytes,
    delays: Delays,
    referral_id: UUID,
    version: int,
    body: CorrectionIn,
    now: datetime,
) -> CorrectedOut:
    """Say what is right instead, and keep what was there. A correction that changes nothing leaves no trace.

    Raises NotFound, Forbidden, StaleVersion, MoveRefused, OutsidePerimeter, TimeImpossible, UnknownPerson, ContentErased, BothSides,
    Invalid.
    """
    referral = await locked_for(session, caller, referral_id, Move.CORRECT, version)
    await check_stays(session, referral, body.unit_id if "unit_id" in body.model_fields_set else referral.unit_id, body.commune)
    _check(referral, body, now)
    persons = (await session.scalars(select(Person).where(col(Person.referral_id) == referral.id).order_by(col(Person.position)))).all()
    made = _made(caller, referral, body.reason, {}, now)
    kept: list[CorrectedContent] = []
    was_reached, was_applied = await reached(session, referral), await _applied(session, vault, persons)
    was_urgent, post_id = notices.is_urgent(referral.urgency, referral.danger), referral.post_id
    fields = _write(referral, body, _PLAIN, "", made.changes)
    if "narrative" in body.model_fields_set and await _narrate(session, vault, referral, body.narrative, made.id, kept):
        fields.append("/narrative")
    found_by = {person.id: person.identity_hash for person in persons}
    fields += await _persons(session, vault, search_key, referral, persons, body.persons or [], made, kept)
    joined = await _added(session, vault, search_key, referral, persons, body.added or [], made)
    persons, fields = [*persons, *joined], fields + [f"/persons/{one.id}" for one in joined]
    to_call = any(one.joined_at == now for one in persons)
    renamed = [one for one in persons if one.identity_hash != found_by.get(one.id)]
    named = await contents_of(session, vault, renamed)
    sought = {id: hashes_sought_of(search_key, content.identity) for id, content in named.items()}
    returning = await repeats.returning(session, referral, renamed, sought)
    if not was_urgent and notices.is_urgent(referral.urgency, referral.danger):
        await notices.turned_urgent(session, referral, now)
    if referral.status == ReferralStatus.UNROUTED and _ROUTED_BY.intersection(fields):
        await routing.mark_due(session, referral.departement)
    warnings: list[Verdict | Unfounded] = []
    aged = await _ages(session, vault, referral, persons) if "/occurred_at" in fields else []
    if fields:
        referral.version += 1
        session.add(made)
        await session.flush()
        session.add_all(kept)
        now_reached = await recount(session, referral, joined_at=now if to_call else None)
        if referral.awaits_contact:
            await delays.settle(session, referral)
        if any(field.endswith("/role") for field in fields):
            await check_sides_of(session, vault, search_key, referral.id)
        await outbox.append(session, await corrected_state(session, referral, persons, now, returning))
        await say_late(session, referral, now)
        await tell_reached(session, referral, reached=now_reached and not was_reached)
        if _ROUTED_BY.intersection(fields) and referral.status in (ReferralStatus.ASSIGNED, ReferralStatus.ACCEPTED):
            await session.flush()
            misfit = await routing.corrected(session, delays, referral, now)
            warnings += [misfit] if misfit is not None else []
        if any(field.rpartition("/")[2] in _ORIENTED_BY for field in [*fields, *aged]):
            warnings += await end_unagreed(session, referral, now)
        if {"/urgency", "/danger"}.intersection(fields):
            await hasten(session, referral, delays.answers, now)
        if referral.post_id == post_id:
            kind = notices.NoticeKind.PERSON_JOINED if to_call else notices.NoticeKind.REFERRAL_CHANGED
            at_once = not _BEFORE_A_CALL.isdisjoint(field.rpartition("/")[2] for field in fields)
            await notices.tell_post(session, caller, referral, kind, now, at_once=at_once)
        now_applied = await _applied(session, vault, persons)
        ruled = {id for id, applied in now_applied.items() if id in was_applied and was_applied[id] != applied}
        mailed = bool(ruled) or not {field.rpartition("/")[2] for field in [*fields, *aged]}.isdisjoint(
            _READ_WITH_ORIENTATIONS.keys() - _OF_NO_CALL
        )
        await tell_changed(session, links, referral, _read_by_partners([*fields, *aged], persons, ruled), now, mailed=mailed)
    return CorrectedOut(
        id=made.id,
        referral_id=referral.id,
        fields=fields,
        corrected_at=now,
        version=referral.version,
        post_id=referral.post_id,
        warnings=warnings,
    )


def _made(caller: Principal, referral: Referral, reason: CorrectionReason, changes: dict[str, Any], now: datetime) -> Correction:
    return Correction(
        id=new_id(),
        referral_id=referral.id,
        reason=reason,
        actor=caller.subject,
        actor_role=caller.role,
        changes=changes,
        corrected_at=now,
    )


async def _applied(session: AsyncSession, vault: Vault, persons: Sequence[Person]) -> dict[UUID, Applied]:
    return await applied_to(session, vault, persons, await contents_of(session, vault, persons))


def _read_by_partners(fields: Sequence[str], persons: Sequence[Person], ruled: Collection[UUID]) -> dict[UUID, set[OrientedContent]]:
    """What of each person's orientations is another, by the pointers of what changed. `ruled`: to whom other safe-contact rules apply now."""
    of_situation = {_READ_WITH_ORIENTATIONS[name] for field in fields if (name := field[1:]) in _READ_WITH_ORIENTATIONS}
    changed: dict[UUID, set[OrientedContent]] = {}
    for person in persons:
        at = f"/persons/{person.id}/"
        of_person = {_READ_WITH_ORIENTATIONS[field.removeprefix(at)] for field in fields if field.startswith(at)}
        of_person |= {OrientedContent.CONTACT} if person.id in ruled else set()
        if of_situation | of_person:
            changed[person.id] = of_situation | of_person
    return changed


async def note_agreement(
    session: AsyncSession,
    caller: Principal,
    links: Links,
    referral: Referral,
    person: Person,
    agreement: ContactAgreement,
    now: datetime,
    reason: CorrectionReason = CorrectionReason.LEARNED,
) -> Correction:
    """What a person said about being contacted, when they were. The caller has locked the referral and raised its version."""
    change = {_agreement_of(person): {"before": person.agreement, "after": str(agreement)}}
    made = _made(caller, referral, reason, change, now)
    session.add(made)
    _agree(person, agreement, now)
    await recount(session, referral)
    persons = (await session.scalars(select(Person).where(col(Person.referral_id) == referral.id).order_by(col(Person.position)))).all()
    await outbox.append(session, await corrected_state(session, referral, persons, now))
    await end_unagreed(session, referral, now)
    await tell_changed(session, links, referral, {person.id: {OrientedContent.PERSON}}, now)
    return made


async def take_agreement_back(
    session: AsyncSession, caller: Principal, links: Links, referral: Referral, person: Person, noted: Correction, now: datetime
) -> None:
    """As before what they said was noted, which was a mistake; left as it is when their agreement is another by now, or the person was erased."""
    change = noted.changes[_agreement_of(person)]
    if person.content and person.agreement == change["after"]:
        before = ContactAgreement(change["before"])
        await note_agreement(session, caller, links, referral, person, before, now, CorrectionReason.MISTAKE)


def _agreement_of(person: Person) -> str:
    return f"/persons/{person.id}/agreement"


def _agree(person: Person, agreement: str, now: datetime) -> None:
    person.agreement = agreement
    person.refused_at = now if agreement == ContactAgreement.REFUSED else None


def _check(referral: Referral, body: CorrectionIn, now: datetime) -> None:
    if body.occurred_at is not None:
        check_past(body.occurred_at, now, "/occurred_at")
    if (body.principal_theme or referral.principal_theme) not in (body.themes or referral.themes):
        raise Invalid(
            "Le thème principal doit être l'un des thèmes.",
            pointers=[("/principal_theme", "Le thème principal doit être l'un des thèmes.")],
        )
    given: dict[str, Sequence[PersonCorrection | PersonIn]] = {"persons": body.persons or [], "added": body.added or []}
    for name, people in given.items():
        for place, person in enumerate(people):
            if person.identity is not None and person.identity.birth_on is not None:
                check_birth(person.identity.birth_on, now, f"/{name}/{place}/identity/birth_on")


def _write(row: Any, given: CorrectionIn | PersonCorrection, names: Sequence[str], at: str, changes: dict[str, Any]) -> list[str]:
    """Put what is given and differs into a row; what was there before, and what is there now, into `changes`."""
    written = []
    for name in names:
        if name not in given.model_fields_set:
            continue
        before, after = getattr(row, name), getattr(given, name)
        if before != after:
            changes[f"{at}/{name}"] = {"before": _jsonable(before), "after": _jsonable(after)}
            setattr(row, name, after)
            written.append(f"{at}/{name}")
    return written


def _jsonable(value: Any) -> Any:
    match value:
        case datetime():
            return value.isoformat()
        case UUID():
            return str(value)
        case list():
            return list(value)
        case _:
            return value


async def _narrate(
    session: AsyncSession, vault: Vault, referral: Referral, narrative: str | None, correction_id: UUID, kept: list[CorrectedContent]
) -> bool:
    """Under the key it has; a referral that came without a narrative is given one. Raises ContentErased."""
    if referral.narrative_key_id is None:
        if narrative is None:
            return False
        key = await vault.new_key(session, "narrative")
        referral.narrative_key_id, referral.narrative = key.id, key.seal(narrative.encode(), context=NARRATIVE)
        return True
    living = (await vault.open_keys(session, [referral.narrative_key_id])).get(referral.narrative_key_id)
    if living is None:
        raise ContentErased("Le récit de cette saisine a été effacé : il ne peut plus être corrigé.")
    before = None if referral.narrative is None else living.open(referral.narrative, context=NARRATIVE).decode()
    if before == narrative:
        return False
    if referral.narrative is not None:
        kept.append(CorrectedContent(correction_id=correction_id, key_id=living.id, person_id=None, before=referral.narrative))
    referral.narrative = None if narrative is None else living.seal(narrative.encode(), context=NARRATIVE)
    return True


async def _persons(
    session: AsyncSession,
    vault: Vault,
    search_key: bytes,
    referral: Referral,
    persons: Sequence[Person],
    corrections: Sequence[PersonCorrection],
    made: Correction,
    kept: list[CorrectedContent],
) -> list[str]:
    known = {person.id: person for person in persons}
    seen: set[UUID] = set()
    fields: list[str] = []
    for place, given in enumerate(corrections):
        person = known.get(given.person_id)
        if person is None or given.person_id in seen:
            raise UnknownPerson(
                "Cette personne ne fait pas partie de la saisine, ou y est corrigée deux fois.",
                pointers=[(f"/persons/{place}/person_id", "Aucune personne de cette saisine, ou une personne donnée deux fois.")],
            )
        check_kept(person.content)
        seen.add(person.id)
        at, was = f"/persons/{person.id}", person.agreement
        fields += _write(person, given, _PLAIN_OF_A_PERSON, at, made.changes)
        if person.agreement != was:
            _agree(person, person.agreement, made.corrected_at)
        if f"{at}/role" in made.changes and person.role == PersonRole.VICTIM:
            person.joined_at = made.corrected_at
        sealed = [name for name in _SEALED_OF_A_PERSON if name in given.model_fields_set]
        if not sealed:
            continue
        content = await content_of(session, vault, person)
        if content is None:
            raise ContentErased("Les données de cette personne ont été effacées : elles ne peuvent plus être corrigées.")
        after = PersonContent(**{name: getattr(given if name in sealed else content, name) for name in _SEALED_OF_A_PERSON})
        if "safe_contact" in sealed:
            check_texts(after.safe_contact, f"/persons/{place}")
        if {"identity", "approximate_age"}.intersection(sealed):
            wrong = "approximate_age" if "approximate_age" in sealed else "identity/birth_on"
            check_age(after, referral.occurred_at, made.corrected_at, f"/persons/{place}/{wrong}")
        if after != content:
            kept.append(CorrectedContent(correction_id=made.id, key_id=person.key_id, person_id=person.id, before=person.content))
            await reseal(session, vault, search_key, person, after, referral.occurred_at)
            fields += [f"{at}/{name}" for name in sealed if getattr(after, name) != getattr(content, name)]
    return fields


async def _added(
    session: AsyncSession,
    vault: Vault,
    search_key: bytes,
    referral: Referral,
    persons: Sequence[Person],
    added: Sequence[PersonIn],
    made: Correction,
) -> list[Person]:
    """Who joins the persons of the referral. Raises Invalid."""
    if len(persons) + len(added) > MAX_PERSONS:
        sentence = f"Une saisine compte {MAX_PERSONS} personnes au plus."
        raise Invalid(sentence, pointers=[("/added", sentence)])
    keys = await vault.new_keys(session, ["person"] * len(added))
    joined: list[Person] = []
    for place, given in enumerate(added):
        check_consistent(given, referral.occurred_at, made.corrected_at, f"/added/{place}")
    for place, (given, key) in enumerate(zip(added, keys, strict=True), max((one.position for one in persons), default=-1) + 1):
        content = PersonContent(**{name: getattr(given, name) for name in _SEALED_OF_A_PERSON})
        found_by = hashes_of(search_key, given.identity)
        person = Person(
            id=new_id(),
            referral_id=referral.id,
            position=place,
            role=given.role,
            sex=given.sex,
            age_band=age_band_on(content, referral.occurred_at),
            agreement=given.agreement,
            refused_at=made.corrected_at if given.agreement is ContactAgreement.REFUSED else None,
            known_to_services=given.known_to_services,
            key_id=key.id,
            content=sealed_content(key, content),
            identity_hash=found_by.identity,
            name_hash=found_by.name,
            joined_at=made.corrected_at,
        )
        joined.append(person)
        made.changes[f"/persons/{person.id}"] = {"before": None, "after": str(given.role)}
    session.add_all(joined)
    return joined


async def _ages(session: AsyncSession, vault: Vault, referral: Referral, persons: Sequence[Person]) -> list[str]:
    """An age is that of the day it happened. Gives the pointers of those that are others now."""
    aged = []
    for person in persons:
        content = await content_of(session, vault, person)
        if content is not None and (band := age_band_on(content, referral.occurred_at)) != person.age_band:
            person.age_band = band
            aged.append(f"/persons/{person.id}/age_band")
    return aged


async def corrected_state(
    session: AsyncSession,
    referral: Referral,
    persons: Sequence[Person],
    now: datetime,
    returning: Mapping[UUID, bool | None] = MappingProxyType({}),
) -> ReferralCorrected:
    """Told, also of an erasure that leaves others to be helped. `returning`: of whose identity it changed, whether an earlier referral held them."""
    unit = await session.get(UnitHeard, referral.unit_id) if referral.unit_id is not None else None
    first = referral.first_contact_at
    return ReferralCorrected(
        referral_id=referral.id,
        departement=referral.departement,
        commune=referral.commune,
        unit_id=referral.unit_id,
        force=Force(unit.force) if unit is not None else None,
        channel=Channel(referral.channel),
        urgency=Urgency(referral.urgency),
        principal_theme=Theme(referral.principal_theme),
        themes=tuple(map(Theme, referral.themes)),
        penal=referral.penal,
        danger=referral.danger,
        children_present=referral.children_present,
        occurred_on=civil_day(referral.occurred_at),
        received_at=referral.received_at,
        corrected_at=now,
        contact_attempted=first is not None,
        first_attempted_at=first,
        delay_minutes=minutes_between(referral.received_at, first) if first is not None else None,
        persons=tuple(
            PersonCounted(
                person_id=told_as(person),
                role=PersonRole(person.role),
                sex=Sex(person.sex),
                age_band=AgeBand(person.age_band),
                agreement=ContactAgreement(person.agreement),
                known_to_services=KnownToServices(person.known_to_services),
                returning=returning.get(person.id),
                identified=returning[person.id] is not None if person.id in returning else None,
            )
            for person in persons
        ),
    )
