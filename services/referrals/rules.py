"""Rules of what a request may say about a referral: times, places, persons, services, safe contact."""

from collections.abc import Callable, Collection, Mapping
from datetime import date, datetime
from typing import ClassVar, Final, NamedTuple
from uuid import UUID

from libs.chassis.refusals import Conflict, Forbidden, Invalid
from libs.contracts.vocabularies import AgeBand, ContactAgreement, ContactResult, LegalGround, OrientationStatus, PersonRole, Role
from services.referrals.domain import CLOCK_SKEW, OLDEST, ORIENTATION_LIVES, SPOKEN_WITH, PersonRefused, local_day
from services.referrals.models import Person


class ContentErased(Conflict):
    """Nothing is left that would say how to reach this person safely."""

    type: ClassVar[str] = "person-erased"
    title: ClassVar[str] = "Données effacées"


class NoContactYet(Conflict):
    """The life of a referral: contacted, then interviewed, then assessed (DOMAIN §3); the target delay counts the first contact."""

    type: ClassVar[str] = "no-contact-yet"
    title: ClassVar[str] = "Premier contact non noté"


class AgreementMissing(Conflict):
    type: ClassVar[str] = "agreement-missing"
    title: ClassVar[str] = "Accord de la personne manquant"


class AgreementUnsaid(Invalid):
    """Who was not asked is reached: that is when they are asked (DOMAIN §3, a first contact asks)."""

    type: ClassVar[str] = "agreement-unsaid"
    title: ClassVar[str] = "Accord de la personne à noter"


class GroundUnfounded(Conflict):
    type: ClassVar[str] = "legal-ground-unfounded"
    title: ClassVar[str] = "Motif légal sans fondement"


class UnknownPerson(Invalid):
    type: ClassVar[str] = "unknown-person"
    title: ClassVar[str] = "Personne inconnue"


class UnknownService(Invalid):
    type: ClassVar[str] = "unknown-service"
    title: ClassVar[str] = "Service inconnu"


class UnknownOrientation(Invalid):
    type: ClassVar[str] = "unknown-orientation"
    title: ClassVar[str] = "Orientation inconnue"


class NotToReplace(Conflict):
    """It still lives, or came to its good end: nothing is to be replaced."""

    type: ClassVar[str] = "orientation-not-to-replace"
    title: ClassVar[str] = "Orientation à ne pas remplacer"


class BothSides(Conflict):
    """One organization would read both the alleged perpetrator's and another person's content of one situation (DOMAIN §3)."""

    type: ClassVar[str] = "both-sides"
    title: ClassVar[str] = "Les deux parties dans une même structure"


class UnknownPost(Invalid):
    type: ClassVar[str] = "unknown-post"
    title: ClassVar[str] = "Poste inconnu"


class OutsidePerimeter(Invalid):
    """The client works for other départements than the one the referral would belong to."""

    type: ClassVar[str] = "outside-perimeter"
    title: ClassVar[str] = "Hors du périmètre"


class TimeImpossible(Invalid):
    type: ClassVar[str] = "time-impossible"
    title: ClassVar[str] = "Date impossible"


def check_contact(agreement: str) -> None:
    """Asked and accepted, or not asked yet: a first contact asks. Raises PersonRefused."""
    if agreement == ContactAgreement.REFUSED:
        raise PersonRefused("Cette personne a refusé d'être contactée : elle est comptée, mais personne ne l'appelle.")


def check_asked(agreement: str, result: ContactResult, said: ContactAgreement | None) -> None:
    """A contact that reaches somebody not asked yet says whether they agree; one that reaches nobody says nothing of it. Raises AgreementUnsaid."""
    if said is None and result is ContactResult.REACHED and agreement == ContactAgreement.NOT_ASKED:
        sentence = (
            "Cette personne est jointe pour la première fois : notez si elle accepte d'être contactée, refuse, ou n'a pu être interrogée."
        )
    elif said is not None and result not in SPOKEN_WITH:
        sentence = "Seule une personne jointe a pu dire si elle accepte d'être contactée."
    else:
        return
    raise AgreementUnsaid(sentence, pointers=[("/agreement", sentence)])


def check_kept(content: bytes) -> None:
    """Of who was erased nothing is sealed any more, and nothing is done any more. Raises ContentErased."""
    if not content:
        raise ContentErased("Les données de cette personne ont été effacées : plus rien n'est fait pour elle.")


def are_met(persons: Collection[Person], reached: Collection[UUID]) -> bool:
    strangers = [person for person in persons if person.id not in reached]
    return not strangers or (bool(reached) and all(person.age_band in MINORS for person in strangers))


def check_met(persons: Collection[Person], reached: Collection[UUID]) -> None:
    """For an interview or an assessment: each adult was reached before, which is when the person says whether they agree; a minor may come with
    whoever was. Raises NoContactYet."""
    if not are_met(persons, reached):
        raise NoContactYet(
            "Aucun contact où chacune de ces personnes a été jointe n'est noté à cette date : notez-le d'abord"
            " (« sur place » si la personne est venue). Un mineur peut accompagner une personne jointe."
        )


def may_still_be_contacted(agreement: str, ground: str | None) -> bool:
    """Whether an orientation still leads to the person: a refusal ends that, unless the orientation rests on a legal ground."""
    return agreement != ContactAgreement.REFUSED or ground is not None


MINORS: Final = frozenset({AgeBand.AGE_0_5, AgeBand.AGE_6_10, AgeBand.AGE_11_14, AgeBand.AGE_15_17})

LEGAL_GROUNDS: Final[Mapping[LegalGround, tuple[frozenset[Role], Callable[[AgeBand], bool]]]] = {
    LegalGround.MINOR_IN_DANGER: (frozenset({Role.ISCG}), lambda band: band in MINORS or band is AgeBand.UNKNOWN),
    LegalGround.VULNERABLE_ADULT: (frozenset({Role.ISCG}), lambda band: band not in MINORS),
    LegalGround.VITAL_DANGER: (frozenset({Role.ISCG}), lambda band: True),
    LegalGround.COURT_DECISION: (frozenset({Role.ISCG}), lambda band: True),
}
"""Who may send somebody to a partner without their agreement on which ground, and of what age the person is then."""


def check_orientation(agreement: str, ground: LegalGround | None, role: Role, age_band: AgeBand) -> LegalGround | None:
    """The ground it rests on, `None` when the person agreed: no ground is kept that was not needed.

    Raises PersonRefused, AgreementMissing, Forbidden, GroundUnfounded.
    """
    if agreement == ContactAgreement.ACCEPTED:
        return None
    if ground is None and agreement == ContactAgreement.REFUSED:
        raise PersonRefused("Cette personne a refusé d'être contactée : elle ne peut pas être orientée.")
    if ground is None:
        raise AgreementMissing(
            "L'accord de cette personne n'a pas été demandé : recueillez-le et notez-le par une correction,"
            " ou indiquez le motif légal qui en dispense."
        )
    roles, fits = LEGAL_GROUNDS[ground]
    if role not in roles:
        raise Forbidden("Votre rôle ne permet pas d'orienter sans l'accord de la personne.")
    if not fits(age_band):
        raise GroundUnfounded("Ce motif légal ne vaut pas pour une personne de cet âge : choisissez-en un autre.")
    return ground


CAME_TO_NOTHING: Final = frozenset({OrientationStatus.REJECTED, OrientationStatus.EXPIRED, OrientationStatus.FAILED})


def check_replaced(status: OrientationStatus) -> None:
    """Raises NotToReplace."""
    if status not in CAME_TO_NOTHING:
        raise NotToReplace(
            "Seule une orientation refusée, expirée ou restée sans suite est remplacée par une autre.", more={"status": str(status)}
        )


def check_sides(role: str, others: Collection[str]) -> None:
    """`others`: the roles of those of this situation whom the same organization was asked to take, whatever came of it. Raises BothSides.

    A witness or a child lives with the victim: whoever is not the alleged perpetrator is on one side.
    """
    accused = PersonRole.ALLEGED_PERPETRATOR
    if any((role == accused) != (other == accused) for other in others):
        raise BothSides(
            "Cette structure a déjà été sollicitée pour l'autre partie de cette situation : choisissez-en une autre,"
            " pour que personne n'y lise les coordonnées des deux."
        )


class Asked(NamedTuple):
    """An organization was asked to take somebody of a situation, of this role."""

    organization_id: UUID
    role: str
    status: OrientationStatus


def check_sides_apart(asked: Collection[Asked]) -> None:
    """After a role was corrected: what was asked in this situation, all of it. Raises BothSides.

    Refused while an organization that was asked for both sides still reads one of them. Once it reads neither, a true role can be written
    down (GDPR, article 16): `check_sides` then lets it be asked for neither again.
    """
    accused = PersonRole.ALLEGED_PERPETRATOR
    sides = {(one.organization_id, one.role == accused) for one in asked}
    if any((one.organization_id, one.role != accused) in sides for one in asked if one.status in ORIENTATION_LIVES):
        raise BothSides(
            "Avec ce rôle, une même structure serait sollicitée pour les deux parties de cette situation :"
            " faites d'abord mettre fin à ces orientations, puis corrigez le rôle."
        )


def check_past(moment: datetime, now: datetime, pointer: str) -> None:
    """What happened lies in the past, but for the difference of two clocks. Raises TimeImpossible."""
    if moment > now + CLOCK_SKEW:
        raise TimeImpossible("Une date ou une heure est dans le futur.", pointers=[(pointer, "Cette date est dans le futur.")])
    if moment < OLDEST:
        raise TimeImpossible("Une date ou une heure est trop ancienne.", pointers=[(pointer, "Cette date est trop ancienne.")])


def check_since(moment: datetime, occurred_at: datetime, pointer: str) -> None:
    """Nothing is done about facts before they occurred, but for the difference of two clocks: no delay is met by a date of long ago. Raises TimeImpossible."""
    if moment < occurred_at - CLOCK_SKEW:
        raise TimeImpossible(
            "Une date ou une heure précède les faits.", pointers=[(pointer, "Cette date précède les faits de la saisine.")]
        )


def check_day_since(day: date, since: datetime, now: datetime, pointer: str) -> None:
    """A day, in Paris, between an instant and now. Raises TimeImpossible."""
    if day > local_day(now):
        raise TimeImpossible("Une date est dans le futur.", pointers=[(pointer, "Cette date est dans le futur.")])
    if day < local_day(since):
        raise TimeImpossible("Une date est trop ancienne.", pointers=[(pointer, f"Cette date précède le {local_day(since):%d/%m/%Y}.")])


def check_birth(birth_on: date, now: datetime, pointer: str) -> None:
    """Nobody is born tomorrow, by the calendar of Paris: at half past midnight a newborn's day has not begun in UTC. Raises TimeImpossible."""
    if birth_on > local_day(now):
        raise TimeImpossible("Une date de naissance est dans le futur.", pointers=[(pointer, "Cette date est dans le futur.")])
