"""Who was told what: the facts that were said of a referral as far as they concern one person, and the audiences that `audiences.py` gives them to."""

from collections.abc import Collection, Mapping
from uuid import UUID

from libs.contracts import referrals as r
from libs.contracts.audiences import AUDIENCES, INTERNAL
from libs.contracts.envelope import Event
from libs.contracts.units import police_id_of
from libs.contracts.vocabularies import OrientationStatus
from services.referrals.domain import Move
from services.referrals.exports.schemas import Recipient

_OF_MOVES: Mapping[Move, type[Event]] = {
    Move.ROUTE: r.ReferralAssigned,
    Move.ASSIGN: r.ReferralAssigned,
    Move.TRANSFER: r.ReferralAssigned,
    Move.UNROUTE: r.ReferralUnrouted,
    Move.DECLINE: r.ReferralUnrouted,
    Move.ACCEPT: r.ReferralAccepted,
    Move.CLOSE: r.ReferralClosed,
    Move.CLOSE_UNROUTED: r.ReferralClosed,
    Move.REOPEN: r.ReferralReopened,
    Move.REOPEN_UNROUTED: r.ReferralReopened,
}
_ANSWERED: Mapping[OrientationStatus, tuple[type[Event], ...]] = {
    OrientationStatus.REQUESTED: (),
    OrientationStatus.ACCEPTED: (r.OrientationAccepted,),
    OrientationStatus.REJECTED: (r.OrientationRejected,),
    OrientationStatus.IN_PROGRESS: (r.OrientationAccepted,),
    OrientationStatus.COMPLETED: (r.OrientationAccepted, r.OrientationCompleted),
    OrientationStatus.FAILED: (r.OrientationAccepted, r.OrientationFailed),
    OrientationStatus.EXPIRED: (r.OrientationExpired,),
    OrientationStatus.CANCELLED: (r.OrientationCancelled,),
}


def facts_of_moves(moves: Collection[Move], *, routed: bool) -> set[type[Event]]:
    """`routed`: whether it had a post when it was received."""
    first = r.ReferralAssigned if routed else r.ReferralUnrouted
    return {r.ReferralReceived, first, *(_OF_MOVES[move] for move in moves if move in _OF_MOVES)}


def facts_of_orientation(status: OrientationStatus, *, answered: bool, started: bool, updated: bool) -> set[type[Event]]:
    """`answered`: whether the partner had, before it was cancelled; `started`: whether it had begun, whatever came of it; `updated`: whether it was told to
    read it again."""
    accepted = {r.OrientationAccepted} if answered and status is OrientationStatus.CANCELLED else set()
    begun = {r.OrientationStarted} if started else set()
    return {r.OrientationRequested, *_ANSWERED[status], *accepted, *begun, *({r.OrientationUpdated} if updated else ())}


def recipients(
    facts: Collection[type[Event]], organizations: Mapping[UUID, Collection[type[Event]]], *, departement: str, client_id: str
) -> list[Recipient]:
    """`organizations`: those that were asked to take this person, each with the facts of its own orientations. `client_id`: empty once nobody knows which
    police system it was."""
    streams: dict[str, tuple[str, Collection[type[Event]]]] = {
        INTERNAL: (INTERNAL, facts),
        "interior": ("interior", facts),
        "justice": ("justice", facts),
        f"departement:{departement}": ("departement", facts),
        f"police:{police_id_of(client_id)}" if client_id else "police": ("police", facts),
        **{f"organization:{one}": ("organization", told) for one, told in sorted(organizations.items())},
    }
    found = []
    for stream, (kind, said) in streams.items():
        audience = next(one for one in AUDIENCES.values() if one.kind == kind)
        told = [event.type for event in r.EVENTS if event in said and event in audience.grants]
        if told:
            found.append(Recipient(stream=stream, label=audience.label, facts=told, pseudonym="referral_id" in audience.pseudonyms))
    return found
