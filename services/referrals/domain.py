"""The rules of a referral. Every legal move of a referral and of an orientation is in one of two tables; routing is a choice among candidates."""

import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import ClassVar, Final, NamedTuple
from uuid import UUID
from zoneinfo import ZoneInfo

from libs.chassis.refusals import Conflict
from libs.contracts.types import Code, CommuneCode, departement_of
from libs.contracts.vocabularies import (
    Channel,
    CloseReason,
    ContactAgreement,
    ContactResult,
    Need,
    OrientationCancellation,
    OrientationFailure,
    OrientationRejection,
    OrientationStatus,
    PartnerKind,
    PersonRole,
    ReferralStatus,
    Role,
    RoutingReason,
    UnroutedReason,
)

# ------------------------------------------------------------------------------------------------------------------------
# Moves of a referral


class Move(Code):
    ROUTE = "route", "Affecter selon la couverture"
    UNROUTE = "unroute", "Constater qu'aucun poste ne convient"
    ASSIGN = "assign", "Affecter à un poste"
    ACCEPT = "accept", "Accepter"
    DECLINE = "decline", "Décliner"
    TRANSFER = "transfer", "Transférer à un autre poste"
    CONTACT = "contact", "Noter une tentative de contact"
    INTERVIEW = "interview", "Noter un entretien"
    ASSESS = "assess", "Évaluer les besoins"
    CORRECT = "correct", "Corriger ce qui a été reçu"
    ORIENT = "orient", "Orienter vers un partenaire"
    ALERT = "alert", "Noter une information préoccupante ou un signalement"
    CLOSE = "close", "Clore"
    CLOSE_UNROUTED = "close_unrouted", "Clore sans poste"
    REOPEN = "reopen", "Rouvrir"
    REOPEN_UNROUTED = "reopen_unrouted", "Rouvrir sans poste"
    ERASE = "erase", "Effacer"


class Legal(NamedTuple):
    """Who may do it (nobody: the service itself), and from which state to which."""

    by: frozenset[Role]
    states: Mapping[ReferralStatus, ReferralStatus]


_S = ReferralStatus
_SYSTEM: Final[frozenset[Role]] = frozenset()
_ISCG: Final = frozenset({Role.ISCG})
_COORDINATOR: Final = frozenset({Role.COORDINATOR})
_EITHER: Final = _ISCG | _COORDINATOR

MOVES: Final[Mapping[Move, Legal]] = {
    Move.ROUTE: Legal(_SYSTEM, {_S.RECEIVED: _S.ASSIGNED, _S.UNROUTED: _S.ASSIGNED}),
    Move.UNROUTE: Legal(_SYSTEM, {_S.RECEIVED: _S.UNROUTED}),
    Move.ASSIGN: Legal(_COORDINATOR, {_S.UNROUTED: _S.ASSIGNED, _S.ASSIGNED: _S.ASSIGNED, _S.ACCEPTED: _S.ASSIGNED}),
    Move.ACCEPT: Legal(_ISCG, {_S.ASSIGNED: _S.ACCEPTED}),
    Move.DECLINE: Legal(_ISCG, {_S.ASSIGNED: _S.UNROUTED}),
    Move.TRANSFER: Legal(_ISCG, {_S.ASSIGNED: _S.ASSIGNED, _S.ACCEPTED: _S.ASSIGNED}),
    Move.CONTACT: Legal(_ISCG, {_S.ACCEPTED: _S.ACCEPTED}),
    Move.INTERVIEW: Legal(_ISCG, {_S.ACCEPTED: _S.ACCEPTED}),
    Move.ASSESS: Legal(_ISCG, {_S.ACCEPTED: _S.ACCEPTED}),
    Move.CORRECT: Legal(_EITHER, {state: state for state in (_S.UNROUTED, _S.ASSIGNED, _S.ACCEPTED, _S.CLOSED)}),
    Move.ORIENT: Legal(_ISCG, {_S.ACCEPTED: _S.ACCEPTED}),
    Move.ALERT: Legal(_EITHER, {state: state for state in (_S.UNROUTED, _S.ASSIGNED, _S.ACCEPTED, _S.CLOSED)}),
    Move.CLOSE: Legal(_ISCG, {_S.ASSIGNED: _S.CLOSED, _S.ACCEPTED: _S.CLOSED}),
    Move.CLOSE_UNROUTED: Legal(_COORDINATOR, {_S.UNROUTED: _S.CLOSED}),
    Move.REOPEN: Legal(_ISCG, {_S.CLOSED: _S.ACCEPTED}),
    Move.REOPEN_UNROUTED: Legal(_COORDINATOR, {_S.CLOSED: _S.UNROUTED}),
    Move.ERASE: Legal(_SYSTEM, {_S.CLOSED: _S.ERASED}),
}
"""Every legal move of a referral. `received` lasts within one transaction: a referral is routed as it is received."""


class PoliceStatus(Code):
    """How far a referral is, as the police may know it (report 1.2.5). Never what was said, to whom the person was oriented, or whether it is known."""

    RECEIVED = "received", "Reçue"
    ASSIGNED = "assigned", "Affectée à un intervenant social"
    ACCEPTED = "accepted", "Prise en charge"
    CONTACTED = "contacted", "Premier contact engagé"
    CLOSED = "closed", "Close"


_POLICE_STATUSES: Final[Mapping[ReferralStatus, PoliceStatus]] = {
    _S.RECEIVED: PoliceStatus.RECEIVED,
    _S.UNROUTED: PoliceStatus.RECEIVED,
    _S.ASSIGNED: PoliceStatus.ASSIGNED,
    _S.ACCEPTED: PoliceStatus.ACCEPTED,
    _S.CLOSED: PoliceStatus.CLOSED,
    _S.ERASED: PoliceStatus.CLOSED,
}


def police_status(status: ReferralStatus, *, contacted: bool) -> PoliceStatus:
    seen = _POLICE_STATUSES[status]
    return PoliceStatus.CONTACTED if contacted and seen is PoliceStatus.ACCEPTED else seen


class DeclineReason(Code):
    """Why a social worker gives a referral back."""

    OUTSIDE_AREA = "outside_area", "Hors secteur"
    OUTSIDE_COMPETENCE = "outside_competence", "Hors compétence"
    OVERLOADED = "overloaded", "Charge trop élevée"
    ABSENT = "absent", "Absence"
    CLOSE_TO_PERSON = "close_to_person", "Lien avec une personne concernée"
    OTHER = "other", "Autre motif"


class OverrideReason(Code):
    """Why a safe-contact rule is passed over."""

    IMMEDIATE_DANGER = "immediate_danger", "Danger immédiat"
    PERSON_ASKED = "person_asked", "À la demande de la personne"
    RULES_OUTDATED = "rules_outdated", "Consignes dépassées, vérifiées auprès de la personne"


class CorrectionReason(Code):
    """Why what was received is corrected."""

    MISTAKE = "mistake", "Erreur à la réception"
    LEARNED = "learned", "Information apprise depuis"
    RECTIFICATION = "rectification", "Demande de rectification de la personne (RGPD, article 16)"


class Misnoted(Code):
    """Why a contact or an interview is withdrawn that was noted by mistake."""

    NOT_DONE = "not_done", "N'a pas eu lieu"
    NOTED_TWICE = "noted_twice", "Noté deux fois"
    OTHER_REFERRAL = "other_referral", "Concerne une autre saisine"
    OTHER_PERSON = "other_person", "Concerne une autre personne"
    WRONG_ENTRY = "wrong_entry", "Erreur de saisie : noté autrement à sa place"


class MoveRefused(Conflict):
    """The state does not allow it."""

    type: ClassVar[str] = "move-not-allowed"
    title: ClassVar[str] = "Action impossible dans cet état"


def moved(status: ReferralStatus, move: Move) -> ReferralStatus:
    """The state after a move. Raises MoveRefused when the table does not have it."""
    after = MOVES[move].states.get(status)
    if after is None:
        raise MoveRefused(
            f"Une saisine à l'état « {status.label} » ne permet pas : {within_sentence(move.label)}.",
            more={"status": str(status), "move": str(move)},
        )
    return after


def moves_open_to(role: Role, status: ReferralStatus, *, at_work: bool) -> list[Move]:
    """What this role may do next with the referral. `at_work`: it has a post, and somebody works there."""
    return [
        move
        for move, row in MOVES.items()
        if role in row.by
        and status in row.states
        and (move is not Move.REOPEN or at_work)
        and (move is not Move.REOPEN_UNROUTED or not at_work)
    ]


# ------------------------------------------------------------------------------------------------------------------------
# Moves of an orientation (HL7 FHIR Task; DOMAIN §3)


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
    OrientationMove.REQUEST: LegalOrientation(_ISCG, {None: _O.REQUESTED}),
    OrientationMove.ACCEPT: LegalOrientation(_PARTNER, {_O.REQUESTED: _O.ACCEPTED}),
    OrientationMove.REJECT: LegalOrientation(_PARTNER, {_O.REQUESTED: _O.REJECTED}),
    OrientationMove.START: LegalOrientation(_PARTNER, {_O.ACCEPTED: _O.IN_PROGRESS}),
    OrientationMove.COMPLETE: LegalOrientation(_PARTNER, {_O.IN_PROGRESS: _O.COMPLETED}),
    OrientationMove.FAIL: LegalOrientation(_PARTNER, {_O.ACCEPTED: _O.FAILED, _O.IN_PROGRESS: _O.FAILED}),
    OrientationMove.CANCEL: LegalOrientation(_EITHER, _LIVING_CANCELLED),
    OrientationMove.EXPIRE: LegalOrientation(_SYSTEM, {_O.REQUESTED: _O.EXPIRED}),
    OrientationMove.WITHDRAW: LegalOrientation(_SYSTEM, _LIVING_CANCELLED),
}
"""Every legal move of an orientation (`None`: none yet). They go on after the referral was closed: the partner took over."""

ORIENTATION_LIVES: Final = frozenset({_O.REQUESTED, _O.ACCEPTED, _O.IN_PROGRESS})
"""While it lives, the partner reads the person's content, and the same person is not sent to the same service twice."""

ORIENTATION_TAKEN: Final = frozenset({_O.REQUESTED, _O.ACCEPTED, _O.IN_PROGRESS, _O.COMPLETED})
"""Nobody said no: what "a partner takes over" can rest on."""


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


def within_sentence(label: str) -> str:
    """A label inside a sentence: its first letter small, unless it begins with an acronym; what is a name later in it stays."""
    return label if label[1:2].isupper() else label[:1].lower() + label[1:]


# ------------------------------------------------------------------------------------------------------------------------
# Refusals


class ReferenceTaken(Conflict):
    """The unit (or, without a unit, the client) already used this external reference. Only the same client is given the first one's id."""

    type: ClassVar[str] = "external-reference-taken"
    title: ClassVar[str] = "Référence déjà utilisée"


class PersonRefused(Conflict):
    """Refused to be contacted: counted, never called, never sent on (DOMAIN §3)."""

    type: ClassVar[str] = "person-refused-contact"
    title: ClassVar[str] = "La personne refuse d'être contactée"


class PostNotAvailable(Conflict):
    type: ClassVar[str] = "post-not-available"
    title: ClassVar[str] = "Poste indisponible"


class ReasonUnfounded(Conflict):
    """The reason of closing does not fit what was done."""

    type: ClassVar[str] = "close-reason-unfounded"
    title: ClassVar[str] = "Motif de clôture sans fondement"


class OrientedAlready(Conflict):
    type: ClassVar[str] = "oriented-already"
    title: ClassVar[str] = "Orientation déjà en cours"


class OrientationOver(Conflict):
    """It ended: the partner has no reason any more to read the person's content."""

    type: ClassVar[str] = "orientation-over"
    title: ClassVar[str] = "Orientation terminée"


class Work(NamedTuple):
    """What was done with a referral, as far as closing asks."""

    statuses: frozenset[OrientationStatus]
    last_contact: ContactResult | None
    """Of the last attempt, by when it was made."""
    spoken_with: bool
    """In one of the contacts somebody answered."""
    agreements: frozenset[ContactAgreement]


SPOKEN_WITH: Final = frozenset({ContactResult.REACHED, ContactResult.DECLINED})
"""Results of a contact in which the person answered."""

CLOSING: Final[Mapping[CloseReason, tuple[Callable[[Work], bool], str]]] = {
    CloseReason.ORIENTED: (
        lambda work: bool(work.statuses & ORIENTATION_TAKEN),
        "Aucun partenaire n'a pris le relais ni n'est encore sollicité : orientez d'abord la personne, ou choisissez un autre motif.",
    ),
    CloseReason.COMPLETED: (
        lambda work: work.spoken_with,
        "Personne n'a encore été joint : notez d'abord le contact, ou choisissez un autre motif.",
    ),
    CloseReason.DECLINED_BY_PERSON: (
        lambda work: work.spoken_with,
        "Personne n'a encore été joint qui ait pu décliner : notez d'abord le contact, ou choisissez un autre motif.",
    ),
    CloseReason.UNREACHABLE: (
        lambda work: work.last_contact is not None and work.last_contact not in SPOKEN_WITH,
        "La dernière tentative de contact notée doit être restée sans réponse : notez-la d'abord, ou choisissez un autre motif.",
    ),
    CloseReason.CONTACT_REFUSED: (
        lambda work: ContactAgreement.REFUSED in work.agreements,
        "Aucune personne de cette saisine n'a refusé d'être contactée : choisissez un autre motif.",
    ),
}
"""What some reasons of closing rest on; the others rest on the social worker's judgement."""


def check_closing(reason: CloseReason, work: Work) -> None:
    """Raises ReasonUnfounded."""
    holds, sentence = CLOSING.get(reason, (None, ""))
    if holds is not None and not holds(work):
        raise ReasonUnfounded(sentence, more={"reason": str(reason)})


# ------------------------------------------------------------------------------------------------------------------------
# Routing


class PostState(Code):
    """As the partners service says it."""

    FILLED = "filled", "Pourvu"
    VACANT = "vacant", "Vacant"
    SUSPENDED = "suspended", "Suspendu"
    CLOSED = "closed", "Fermé"


class Verdict(Code):
    """Why a post was, or was not, given a referral."""

    CHOSEN = "chosen", "Retenu : le moins chargé des postes possibles"
    BUSIER = "busier", "Possible, mais plus chargé"
    FARTHER = "farther", "Possible par la commune, mais un poste de l'unité convient"
    POSSIBLE = "possible", "Possible"
    AREA = "area", "Ne couvre ni l'unité ni la commune"
    CHANNEL = "channel", "N'accepte pas ce mode de saisine"
    VACANT = "vacant", "Poste vacant"
    SUSPENDED = "suspended", "Poste suspendu"
    CLOSED = "closed", "Poste fermé"
    DECLINED = "declined", "A décliné cette saisine"


class Candidate(NamedTuple):
    """A post that covers the unit or the commune of a referral."""

    post_id: UUID
    by: RoutingReason
    state: PostState
    channels: frozenset[Channel]
    """Of the agreement in force, else of the post; empty: every channel."""
    full_time_percent: int
    replaces: UUID | None = None
    """The absent post for which it stands in."""


class Considered(NamedTuple):
    post_id: UUID
    by: RoutingReason
    verdict: Verdict
    load: int | None
    """Open referrals at that moment (counted up to `LOAD_LIMIT`), where more than one post was possible."""
    replaces: UUID | None = None


class Decision(NamedTuple):
    """`post_id` with the reason it was found by, or the reason why there is none; and what was considered, in order."""

    post_id: UUID | None
    reason: RoutingReason | UnroutedReason
    considered: tuple[Considered, ...]

    @property
    def misfit(self) -> Verdict | None:
        """What speaks against the post that a person chose."""
        if self.post_id is None:
            return None
        verdict = next((one.verdict for one in self.considered if one.post_id == self.post_id), Verdict.AREA)
        return None if verdict in {Verdict.CHOSEN, Verdict.POSSIBLE} else verdict


LOAD_LIMIT: Final = 500
"""A post with more open referrals than this is as busy as it gets: the count stops there, so that routing costs the same in a full table."""

_UNFIT: Final[Mapping[PostState, Verdict]] = {
    PostState.VACANT: Verdict.VACANT,
    PostState.SUSPENDED: Verdict.SUSPENDED,
    PostState.CLOSED: Verdict.CLOSED,
}


def verdict_of(candidate: Candidate, channel: Channel, declined: Set[UUID]) -> Verdict | None:
    """Why a post cannot take the referral; `None` when it can."""
    if candidate.state is not PostState.FILLED:
        return _UNFIT[candidate.state]
    if candidate.channels and channel not in candidate.channels:
        return Verdict.CHANNEL
    return Verdict.DECLINED if candidate.post_id in declined else None


def shortlist(candidates: Sequence[Candidate], channel: Channel, declined: Set[UUID] = frozenset()) -> list[Candidate]:
    """The posts that can take it: those of the unit when there is one, else those of the commune."""
    fit = [one for one in candidates if verdict_of(one, channel, declined) is None]
    return [one for one in fit if one.by is RoutingReason.UNIT] or fit


def decide(candidates: Sequence[Candidate], channel: Channel, loads: Mapping[UUID, int], declined: Set[UUID] = frozenset()) -> Decision:
    """The least loaded post of the shortlist, in proportion to its working time; ties go to the lower id, so that it can be told why.

    Without one: no post covers the place, or none of those that do is filled, or none accepts the channel, or those that could declined.
    """
    possible = shortlist(candidates, channel, declined)
    chosen = min(possible, key=lambda one: (loads.get(one.post_id, 0) / one.full_time_percent, one.post_id), default=None)
    considered = []
    for one in candidates:
        verdict = verdict_of(one, channel, declined)
        if verdict is None:
            verdict = Verdict.CHOSEN if one is chosen else Verdict.BUSIER if one in possible else Verdict.FARTHER
        considered.append(Considered(one.post_id, one.by, verdict, loads.get(one.post_id), one.replaces))
    if chosen is not None:
        return Decision(chosen.post_id, chosen.by, tuple(considered))
    verdicts = {one.verdict for one in considered}
    if not verdicts:
        reason = UnroutedReason.NO_COVERAGE
    elif Verdict.DECLINED in verdicts:
        reason = UnroutedReason.DECLINED
    elif Verdict.CHANNEL in verdicts:
        reason = UnroutedReason.CHANNEL_NOT_ACCEPTED
    else:
        reason = UnroutedReason.NO_OPEN_POST
    return Decision(None, reason, tuple(considered))


def by_hand(
    post_id: UUID | None,
    reason: RoutingReason | UnroutedReason,
    candidates: Sequence[Candidate],
    channel: Channel,
    loads: Mapping[UUID, int],
    declined: Set[UUID],
) -> Decision:
    """What a person decided, with what stood beside it at that moment."""
    considered = (
        Considered(one.post_id, one.by, verdict_of(one, channel, declined) or Verdict.POSSIBLE, loads.get(one.post_id), one.replaces)
        for one in candidates
    )
    return Decision(post_id, reason, tuple(considered))


# ------------------------------------------------------------------------------------------------------------------------
# Orientation: does the service fit?


class Mismatch(Code):
    """Told with the orientation, which is made all the same: the social worker knows more than the directory."""

    NEED = "need", "Ce service n'annonce pas répondre à ce besoin."
    AREA = "area", "Ce service n'annonce pas intervenir dans cette commune."
    CAPACITY = "capacity", "Ce service annonce ne plus avoir de place."
    PUBLIC = "public", "Ce service n'est pas fait pour une personne de ce rôle."


@dataclass(frozen=True, slots=True)
class Offer:
    """What the directory says of a service. `communes` empty: its whole département; `capacity` None: no limit."""

    departement: str
    needs: frozenset[Need]
    communes: frozenset[CommuneCode]
    capacity: int | None
    kind: PartnerKind


_PUBLICS: Final[Mapping[PartnerKind, Set[PersonRole]]] = {
    PartnerKind.PERPETRATOR_CENTRE: frozenset({PersonRole.ALLEGED_PERPETRATOR}),
    PartnerKind.VICTIM_SUPPORT: frozenset(PersonRole) - {PersonRole.ALLEGED_PERPETRATOR},
}
"""Whom some kinds of service are for, by their very name; the others take anybody."""


def mismatches(offer: Offer, need: Need, commune: CommuneCode, role: PersonRole | None = None) -> list[Mismatch]:
    """`role` None: nobody in particular yet."""
    covered = commune in offer.communes if offer.communes else departement_of(commune) == offer.departement
    return [
        mismatch
        for mismatch, wrong in (
            (Mismatch.NEED, need not in offer.needs),
            (Mismatch.AREA, not covered),
            (Mismatch.CAPACITY, offer.capacity == 0),
            (Mismatch.PUBLIC, role is not None and role not in _PUBLICS.get(offer.kind, frozenset(PersonRole))),
        )
        if wrong
    ]


# ------------------------------------------------------------------------------------------------------------------------
# Time and persons

PARIS: Final = ZoneInfo("Europe/Paris")
CLOCK_SKEW: Final = timedelta(minutes=5)
"""How far ahead a caller's clock may be."""
OLDEST: Final = datetime(1900, 1, 1, tzinfo=UTC)
"""Facts may be told decades later; before this it is a slip of the pen."""
OLDEST_PERSON: Final = 125


def local_day(instant: datetime) -> date:
    """The day it was in Paris: figures are national."""
    return instant.astimezone(PARIS).date()


def age_on(birth: date, day: date) -> int:
    """Completed years."""
    return day.year - birth.year - ((day.month, day.day) < (birth.month, birth.day))


def minutes_between(start: datetime, end: datetime) -> int:
    """Whole minutes, never below zero."""
    return max(0, int((end - start).total_seconds() // 60))


@dataclass(frozen=True, slots=True)
class Term:
    """How long what is sealed is kept after the last contact, and how long before its end that is announced, in days."""

    days: int
    notice_days: int


_BETWEEN_NAMES = re.compile(r"[\s,\-\u2010-\u2015]+")


def normalised_identity(family_name: str | None, given_names: str | None, birth_date: date | None) -> str | None:
    """What a repeated person is found by: `v1|FAMILYNAME|FIRSTGIVENNAME|1990-01-31`, or None when one of the three is missing.

    Names are decomposed (NFKD), case-folded and reduced to their letters, so that accents, case, hyphens, apostrophes and spaces do not matter;
    of the given names only the first counts (cut at a space or comma: Jean-Pierre is one). It is hashed with a key before it is stored, and
    never written anywhere. Two persons of one name born on one day are taken for one: it is a hint for a social worker, not a fact.
    """
    name = normalised_name(family_name, given_names)
    return _identity(name, birth_date) if name is not None and birth_date is not None else None


def normalised_name(family_name: str | None, given_names: str | None) -> str | None:
    """The names alone, normalised so, or None when one has no letter."""
    if family_name is None or given_names is None:
        return None
    return _name(family_name, given_names.replace(",", " ").split(" ")[0])


def names_sought(family_name: str, given_names: str) -> list[str]:
    """All that `normalised_name` may have made of a person whose names are told so.

    Jean Pierre may be one first name (written Jean-Pierre elsewhere) or two, and so may Jean-Pierre: a search looks for the first word, the first two...
    """
    words = [word for word in _BETWEEN_NAMES.split(given_names) if word]
    names = (_name(family_name, "".join(words[:many])) for many in range(1, len(words) + 1))
    return list(dict.fromkeys(name for name in names if name is not None))


def identities_sought(family_name: str, given_names: str, birth_date: date) -> list[str]:
    """The same of `normalised_identity`."""
    return [_identity(name, birth_date) for name in names_sought(family_name, given_names)]


def _name(family_name: str, first_name: str) -> str | None:
    family, given = _letters(family_name), _letters(first_name)
    return f"{family}|{given}" if family and given else None


def _identity(name: str, birth_date: date) -> str:
    return f"v1|{name}|{birth_date.isoformat()}"


def _letters(name: str) -> str:
    plain = unicodedata.normalize("NFKD", name.replace("œ", "oe").replace("Œ", "oe").replace("æ", "ae").replace("Æ", "ae").casefold())
    return "".join(letter for letter in plain if letter.isalpha())
