"""Rules of reception: to which post a referral goes, a choice among candidates, and why."""

from collections.abc import Mapping, Sequence, Set
from typing import ClassVar, Final, NamedTuple
from uuid import UUID

from libs.chassis.refusals import Conflict
from libs.contracts.types import Code
from libs.contracts.vocabularies import Channel, RoutingReason, UnroutedReason


class ReferenceTaken(Conflict):
    """The unit (or, without a unit, the client) already used this external reference. Only the same client is given the first one's id."""

    type: ClassVar[str] = "external-reference-taken"
    title: ClassVar[str] = "Référence déjà utilisée"


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
