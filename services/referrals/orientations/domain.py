"""Rules of an orientation: its legal moves in one table, whether the service fits, on what it rests, and whose side its organization is on."""

from collections.abc import Callable, Collection, Mapping, Set
from dataclasses import dataclass
from typing import ClassVar, Final, NamedTuple
from uuid import UUID

from libs.chassis.refusals import Conflict, Forbidden, Invalid
from libs.contracts.types import Code, CommuneCode, departement_of
from libs.contracts.vocabularies import (
    AgeBand,
    ContactAgreement,
    LegalGround,
    Need,
    OrientationCancellation,
    OrientationFailure,
    OrientationRejection,
    OrientationStatus,
    PartnerKind,
    PersonRole,
    Role,
    Sex,
)
from services.referrals.domain import EITHER, ISCG, MINORS, SYSTEM, MoveRefused, PersonRefused, within_sentence


class OrientationMove(Code):
    REQUEST = "request", "Demander"
    ACCEPT = "accept", "Accepter"
    REJECT = "reject", "Refuser"
    START = "start", "Commencer"
    COMPLETE = "complete", "Terminer"
    FAIL = "fail", "Constater l'échec"
    CANCEL = "cancel", "Annuler"
    EXPIRE = "expire", "Constater l'expiration"
    WITHDRAW = "withdraw", "Mettre fin"


WITHDRAWN_BECAUSE: Final = frozenset({OrientationCancellation.PERSON_REFUSED, OrientationCancellation.PERSON_ERASED})
"""Why the service itself ends an orientation; every other reason of a cancellation is a person's."""

ENDED_BECAUSE: Final = (OrientationRejection, OrientationFailure, OrientationCancellation)
"""Where the reason of an orientation that came to nothing is from."""


class LegalOrientation(NamedTuple):
    by: frozenset[Role]
    states: Mapping[OrientationStatus | None, OrientationStatus]


_O = OrientationStatus
_PARTNER: Final = frozenset({Role.PARTNER})
_LIVING_CANCELLED: Final[Mapping[OrientationStatus | None, OrientationStatus]] = dict.fromkeys(
    (_O.REQUESTED, _O.ACCEPTED, _O.IN_PROGRESS), _O.CANCELLED
)

ORIENTATION_MOVES: Final[Mapping[OrientationMove, LegalOrientation]] = {
    OrientationMove.REQUEST: LegalOrientation(ISCG, {None: _O.REQUESTED}),
    OrientationMove.ACCEPT: LegalOrientation(_PARTNER, {_O.REQUESTED: _O.ACCEPTED}),
    OrientationMove.REJECT: LegalOrientation(_PARTNER, {_O.REQUESTED: _O.REJECTED}),
    OrientationMove.START: LegalOrientation(_PARTNER, {_O.ACCEPTED: _O.IN_PROGRESS}),
    OrientationMove.COMPLETE: LegalOrientation(_PARTNER, {_O.IN_PROGRESS: _O.COMPLETED}),
    OrientationMove.FAIL: LegalOrientation(_PARTNER, {_O.ACCEPTED: _O.FAILED, _O.IN_PROGRESS: _O.FAILED}),
    OrientationMove.CANCEL: LegalOrientation(EITHER, _LIVING_CANCELLED),
    OrientationMove.EXPIRE: LegalOrientation(SYSTEM, {_O.REQUESTED: _O.EXPIRED}),
    OrientationMove.WITHDRAW: LegalOrientation(SYSTEM, _LIVING_CANCELLED),
}
"""Every legal move of an orientation (`None`: none yet). They go on after the referral was closed: the partner took over."""

ORIENTATION_LIVES: Final = frozenset({_O.REQUESTED, _O.ACCEPTED, _O.IN_PROGRESS})
"""While it lives, the partner reads the person's content, and the same person is not sent to the same service twice."""

ORIENTATION_TAKEN: Final = frozenset({_O.ACCEPTED, _O.IN_PROGRESS, _O.COMPLETED})
"""A partner said yes: what "a partner takes over" can rest on."""


def orientation_moved(status: OrientationStatus | None, move: OrientationMove) -> OrientationStatus:
    """The state after a move. Raises MoveRefused when the table does not have it."""
    after = ORIENTATION_MOVES[move].states.get(status)
    if after is None:
        now = status.label if status is not None else "Inexistante"
        raise MoveRefused(
            f"Une orientation à l'état « {now} » ne permet pas : {within_sentence(move.label)}.",
            more={"status": str(status) if status is not None else "none", "move": str(move)},
        )
    return after


def orientation_moves_open_to(role: Role, status: OrientationStatus) -> list[OrientationMove]:
    return [move for move, row in ORIENTATION_MOVES.items() if role in row.by and status in row.states]


class OrientedAlready(Conflict):
    type: ClassVar[str] = "oriented-already"
    title: ClassVar[str] = "Orientation déjà en cours"


class OrientationOver(Conflict):
    """It ended: the partner has no reason any more to read the person's content."""

    type: ClassVar[str] = "orientation-over"
    title: ClassVar[str] = "Orientation terminée"


class Mismatch(Code):
    """Told with the orientation, which is made all the same: the social worker knows more than the directory."""

    NEED = "need", "Ce service n'annonce pas répondre à ce besoin."
    AREA = "area", "Ce service n'annonce pas intervenir dans cette commune."
    CAPACITY = "capacity", "Ce service annonce ne plus avoir de place."
    PUBLIC = "public", "Ce service n'est pas fait pour une personne de ce rôle."
    AGE = "age", "Ce service n'annonce pas accueillir cette tranche d'âge."
    SEX = "sex", "Ce service n'annonce pas accueillir les personnes de ce sexe."
    UNTOLD = (
        "untold",
        "Rien ne prévient cette structure (ni adresse, ni abonnement actif, ni flux lu depuis une semaine) : appelez-la, ou remettez-lui un lien de réponse.",
    )


class Unfounded(Code):
    """Told with a correction; what a partner agreed to goes on all the same, until the social worker ends it."""

    LEGAL_GROUND = (
        "legal_ground",
        "Son motif légal ne vaut pas pour une personne de cet âge : vérifiez l'âge, recueillez son accord, ou annulez l'orientation.",
    )


@dataclass(frozen=True, slots=True)
class Offer:
    """What the directory says of a service. `communes` empty: its whole département; `capacity` None: no limit; `sexes` and `age_bands` empty: anybody."""

    departement: str
    needs: frozenset[Need]
    communes: frozenset[CommuneCode]
    capacity: int | None
    kind: PartnerKind
    sexes: frozenset[Sex] = frozenset()
    age_bands: frozenset[AgeBand] = frozenset()


class Whom(NamedTuple):
    """A person, as far as a service may be made for others."""

    role: PersonRole
    sex: Sex
    age_band: AgeBand


_PUBLICS: Final[Mapping[PartnerKind, Set[PersonRole]]] = {
    PartnerKind.PERPETRATOR_CENTRE: frozenset({PersonRole.ALLEGED_PERPETRATOR}),
    PartnerKind.VICTIM_SUPPORT: frozenset(PersonRole) - {PersonRole.ALLEGED_PERPETRATOR},
}
"""Whom some kinds of service are for, by their very name; the others take anybody."""


def place_of(commune: CommuneCode, departement: str) -> CommuneCode | None:
    """Where a person of a referral is helped: facts outside its département (decision 0012) do not tell."""
    return commune if departement_of(commune) == departement else None


def mismatches(offer: Offer, need: Need, commune: CommuneCode | None, whom: Whom | None = None) -> list[Mismatch]:
    """`whom` None: nobody in particular yet. Of a place, an age or a sex that is not known nothing is said."""
    covered = commune is None or (commune in offer.communes if offer.communes else departement_of(commune) == offer.departement)
    return [
        mismatch
        for mismatch, wrong in (
            (Mismatch.NEED, need not in offer.needs),
            (Mismatch.AREA, not covered),
            (Mismatch.CAPACITY, offer.capacity == 0),
            (Mismatch.PUBLIC, whom is not None and whom.role not in _PUBLICS.get(offer.kind, frozenset(PersonRole))),
            (Mismatch.AGE, whom is not None and bool(offer.age_bands) and whom.age_band not in {*offer.age_bands, AgeBand.UNKNOWN}),
            (Mismatch.SEX, whom is not None and bool(offer.sexes) and whom.sex not in {*offer.sexes, Sex.UNKNOWN}),
        )
        if wrong
    ]


class AgreementMissing(Conflict):
    type: ClassVar[str] = "agreement-missing"
    title: ClassVar[str] = "Accord de la personne manquant"


class GroundUnfounded(Conflict):
    type: ClassVar[str] = "legal-ground-unfounded"
    title: ClassVar[str] = "Motif légal sans fondement"


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


def may_still_be_contacted(agreement: str, ground: str | None) -> bool:
    """Whether an orientation still leads to the person: it rests on their agreement or on a legal ground."""
    return agreement == ContactAgreement.ACCEPTED or ground is not None


LEGAL_GROUNDS: Final[Mapping[LegalGround, tuple[frozenset[Role], Callable[[AgeBand], bool]]]] = {
    LegalGround.MINOR_IN_DANGER: (frozenset({Role.ISCG}), lambda band: band in MINORS or band is AgeBand.UNKNOWN),
    LegalGround.VULNERABLE_ADULT: (frozenset({Role.ISCG}), lambda band: band not in MINORS),
    LegalGround.VITAL_DANGER: (frozenset({Role.ISCG}), lambda band: True),
    LegalGround.COURT_DECISION: (frozenset({Role.ISCG}), lambda band: True),
}
"""Who may send somebody to a partner without their agreement on which ground, and of what age the person is then.

The social worker alone orients (DOMAIN §2), the coordinator not even so: an orientation is a post's, and for a minor in danger the law asks for the alert to
the département without delay (CASF L.226-2-1), which the coordinator sends in any state, and hands the referral to a post where somebody works.
"""


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


def unfounded(agreement: str, ground: LegalGround | None, age_band: AgeBand, status: OrientationStatus) -> Unfounded | None:
    """Of an orientation that lives on a legal ground alone, whether it is one for somebody of this age."""
    if ground is None or agreement == ContactAgreement.ACCEPTED or status not in ORIENTATION_LIVES:
        return None
    _, fits = LEGAL_GROUNDS[ground]
    return None if fits(age_band) else Unfounded.LEGAL_GROUND


CAME_TO_NOTHING: Final = frozenset({OrientationStatus.REJECTED, OrientationStatus.EXPIRED, OrientationStatus.FAILED})


def check_replaced(status: OrientationStatus) -> None:
    """Raises NotToReplace."""
    if status not in CAME_TO_NOTHING:
        raise NotToReplace(
            "Seule une orientation refusée, expirée ou restée sans suite est remplacée par une autre.", more={"status": str(status)}
        )


def check_sides(role: str, others: Collection[str]) -> None:
    """`others`: the roles, in this situation, of those whom the same organization was asked to take, in this referral or another, whatever came of it.

    Raises BothSides.

    A witness or a child lives with the victim: whoever is not the alleged perpetrator is on one side.
    """
    accused = PersonRole.ALLEGED_PERPETRATOR
    if any((role == accused) != (other == accused) for other in others):
        raise BothSides(
            "Cette structure a déjà été sollicitée pour l'autre partie de cette situation, dans cette saisine ou une autre :"
            " choisissez-en une autre, pour que personne n'y lise les coordonnées des deux."
        )


class Asked(NamedTuple):
    """An organization was asked to take somebody of a situation, of this role."""

    organization_id: UUID
    role: str
    status: OrientationStatus
    here: bool
    """In the very referral that is looked at, not in another of the same persons."""


def check_sides_apart(asked: Collection[Asked]) -> None:
    """After a role was corrected: what was asked in this situation, all of it. Raises BothSides.

    Refused while an organization that was asked for both sides still reads one of them in this referral. Once it reads neither here, a true role can be
    written down (GDPR, article 16), whatever another referral has, which may be another post's and the victim's support: `check_sides` then lets it be asked
    for neither again.
    """
    accused = PersonRole.ALLEGED_PERPETRATOR
    sides = {(one.organization_id, one.role == accused) for one in asked}
    if any((one.organization_id, one.role != accused) in sides for one in asked if one.here and one.status in ORIENTATION_LIVES):
        raise BothSides(
            "Avec ce rôle, une même structure serait sollicitée pour les deux parties de cette situation :"
            " faites d'abord mettre fin à ces orientations, puis corrigez le rôle."
        )
