"""The rules of a referral that the whole service shares: its legal moves in one table, what the police may know, time and ages.

What belongs to one activity is in its folder: `receiving/domain.py` (the choice of a post), `working/domain.py` (closing), `orientations/domain.py` (the moves of
an orientation), `rights/domain.py` (how long).
"""

from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from typing import ClassVar, Final, NamedTuple

from libs.chassis.refusals import Conflict
from libs.contracts.types import Code
from libs.contracts.vocabularies import AgeBand, ReferralStatus, Role

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


# Who moves a referral, or an orientation

SYSTEM: Final[frozenset[Role]] = frozenset()
ISCG: Final = frozenset({Role.ISCG})
COORDINATOR: Final = frozenset({Role.COORDINATOR})
EITHER: Final = ISCG | COORDINATOR

_S = ReferralStatus

MOVES: Final[Mapping[Move, Legal]] = {
    Move.ROUTE: Legal(SYSTEM, {_S.RECEIVED: _S.ASSIGNED, _S.UNROUTED: _S.ASSIGNED, _S.ASSIGNED: _S.ASSIGNED}),
    Move.UNROUTE: Legal(SYSTEM, {_S.RECEIVED: _S.UNROUTED}),
    Move.ASSIGN: Legal(COORDINATOR, {_S.UNROUTED: _S.ASSIGNED, _S.ASSIGNED: _S.ASSIGNED, _S.ACCEPTED: _S.ASSIGNED}),
    Move.ACCEPT: Legal(ISCG, {_S.ASSIGNED: _S.ACCEPTED}),
    Move.DECLINE: Legal(ISCG, {_S.ASSIGNED: _S.UNROUTED}),
    Move.TRANSFER: Legal(ISCG, {_S.ASSIGNED: _S.ASSIGNED, _S.ACCEPTED: _S.ASSIGNED}),
    Move.CONTACT: Legal(ISCG, {_S.ACCEPTED: _S.ACCEPTED}),
    Move.INTERVIEW: Legal(ISCG, {_S.ACCEPTED: _S.ACCEPTED}),
    Move.ASSESS: Legal(ISCG, {_S.ACCEPTED: _S.ACCEPTED}),
    Move.CORRECT: Legal(EITHER, {state: state for state in (_S.UNROUTED, _S.ASSIGNED, _S.ACCEPTED, _S.CLOSED)}),
    Move.ORIENT: Legal(ISCG, {_S.ACCEPTED: _S.ACCEPTED}),
    Move.ALERT: Legal(EITHER, {state: state for state in (_S.UNROUTED, _S.ASSIGNED, _S.ACCEPTED, _S.CLOSED)}),
    Move.CLOSE: Legal(ISCG, {_S.ASSIGNED: _S.CLOSED, _S.ACCEPTED: _S.CLOSED}),
    Move.CLOSE_UNROUTED: Legal(COORDINATOR, {_S.UNROUTED: _S.CLOSED, _S.ASSIGNED: _S.CLOSED, _S.ACCEPTED: _S.CLOSED}),
    Move.REOPEN: Legal(ISCG, {_S.CLOSED: _S.ACCEPTED}),
    Move.REOPEN_UNROUTED: Legal(COORDINATOR, {_S.CLOSED: _S.UNROUTED}),
    Move.ERASE: Legal(SYSTEM, {_S.CLOSED: _S.ERASED}),
}
"""Every legal move of a referral. `received` lasts within one transaction: a referral is routed as it is received; again when nobody works at its
post any more and it was not accepted."""


class PoliceStatus(Code):
    """How far a referral is, as the police may know it (report 1.2.5). Never what was said, to whom the person was oriented, or whether it is known."""

    RECEIVED = "received", "Reçue"
    ASSIGNED = "assigned", "Affectée à un intervenant social"
    ACCEPTED = "accepted", "Prise en charge"
    CONTACTED = "contacted", "Premier contact établi"
    """Somebody was reached. Attempts count for the delay (DOMAIN §3), and tell the police nothing: who was never reached was not contacted."""
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
    """Contacted once, it is so until it ends: which post has it, or gave it back, is told no more."""
    seen = _POLICE_STATUSES[status]
    return PoliceStatus.CONTACTED if contacted and seen is not PoliceStatus.CLOSED else seen


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
        and (move not in {Move.CLOSE_UNROUTED, Move.REOPEN_UNROUTED} or not at_work)
    ]


def within_sentence(label: str) -> str:
    """A label inside a sentence: its first letter small, unless it begins with an acronym; what is a name later in it stays."""
    return label if label[1:2].isupper() else label[:1].lower() + label[1:]


class PersonRefused(Conflict):
    """Refused to be contacted: counted, never called, never sent on (DOMAIN §3)."""

    type: ClassVar[str] = "person-refused-contact"
    title: ClassVar[str] = "La personne refuse d'être contactée"


# ------------------------------------------------------------------------------------------------------------------------
# Time and persons

CLOCK_SKEW: Final = timedelta(minutes=5)
"""How far ahead a caller's clock may be."""
OLDEST: Final = datetime(1900, 1, 1, tzinfo=UTC)
"""Facts may be told decades later; before this it is a slip of the pen."""
OLDEST_PERSON: Final = 125


def age_on(birth: date, day: date) -> int:
    """Completed years."""
    return day.year - birth.year - ((day.month, day.day) < (birth.month, birth.day))


def minutes_between(start: datetime, end: datetime) -> int:
    """Whole minutes, never below zero."""
    return max(0, int((end - start).total_seconds() // 60))


MINORS: Final = frozenset({AgeBand.AGE_0_5, AgeBand.AGE_6_10, AgeBand.AGE_11_14, AgeBand.AGE_15_17})
