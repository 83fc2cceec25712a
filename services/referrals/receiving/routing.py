"""Finding posts for referrals, from this service's own copies of units, posts and agreements."""

import json
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from libs.chassis import outbox
from libs.chassis.database import PlainRow, Statement, run
from libs.chassis.ids import new_id
from libs.contracts.referrals import ReferralAssigned
from libs.contracts.types import departement_of
from libs.contracts.units import police_id_of
from libs.contracts.vocabularies import Channel, Force, ReferralStatus, RoutingReason, UnroutedReason
from services.referrals import notices
from services.referrals.delays.due import IN_FORCE, Delays
from services.referrals.domain import Move, moved
from services.referrals.models import Referral
from services.referrals.receiving.domain import LOAD_LIMIT, Candidate, Decision, PostState, Verdict, by_hand, decide

_CANDIDATES = Statement(
    "WITH RECURSIVE competent AS (SELECT id, force, communes FROM units_heard"  # noqa: S608 - our own words
    "  WHERE NOT closed AND (id = ANY(CAST(:units AS uuid[])) OR communes && CAST(:communes AS text[])))"
    ", covering AS (SELECT id, replacement_post_id FROM posts_heard"
    "  WHERE state <> 'closed' AND (units && CAST(:units AS uuid[]) OR communes && CAST(:communes AS text[]) OR units && ARRAY(SELECT id FROM competent))"
    # who stands in for who is absent, and for who is absent in turn; `UNION` ends a circle
    "  UNION SELECT p.id, p.replacement_post_id FROM covering c JOIN posts_heard p ON p.id = c.replacement_post_id WHERE p.state <> 'closed')"
    " SELECT named.forces, named.places, p.id, p.state, p.units, p.communes AS direct, coalesce(a.channels, p.channels) AS channels, p.full_time_percent,"
    " (SELECT array_agg(DISTINCT c.commune) FROM competent u, unnest(u.communes) AS c (commune)"
    "  WHERE u.id = ANY(p.units) AND c.commune = ANY(CAST(:communes AS text[]))) AS through_units,"
    " a.targets, p.replacement_post_id,"
    " (SELECT count(*) FROM (SELECT 1 FROM referrals r WHERE r.post_id = p.id AND r.status IN ('assigned', 'accepted') LIMIT :most) open) AS load"
    # one row without a post when there is none: the forces of the units that were named come along, and where they are competent: three characters of
    # each commune, which hold its département at home and overseas
    " FROM (SELECT jsonb_object_agg(id, force) AS forces,"
    "  jsonb_object_agg(id, ARRAY(SELECT DISTINCT left(c, 3) FROM unnest(communes) AS c)) FILTER (WHERE NOT closed) AS places"
    "  FROM units_heard WHERE id = ANY(CAST(:units AS uuid[]))) named"
    " LEFT JOIN (posts_heard p LEFT JOIN LATERAL (SELECT a.channels, a.targets FROM agreements_heard a WHERE p.id = ANY(a.post_ids)"
    f"  {IN_FORCE}) a ON true) ON p.id IN (SELECT id FROM covering) ORDER BY p.id"
)


@dataclass(frozen=True, slots=True)
class Covering:
    """A post and what it covers: units, and communes directly or through a unit that is competent there."""

    id: UUID
    state: PostState
    units: frozenset[UUID]
    communes: frozenset[str]
    channels: frozenset[Channel]
    full_time_percent: int
    targets: Mapping[str, int]
    """Of the agreement in force, in minutes by urgency."""
    replacement_id: UUID | None
    """While it is suspended: who stands in for it."""

    def candidate(self, unit_id: UUID | None, commune: str) -> Candidate | None:
        if unit_id is not None and unit_id in self.units:
            return Candidate(self.id, RoutingReason.UNIT, self.state, self.channels, self.full_time_percent)
        if commune in self.communes:
            return Candidate(self.id, RoutingReason.COMMUNE, self.state, self.channels, self.full_time_percent)
        return None


@dataclass
class Atlas:
    """The posts that may concern some referrals. Each referral it routes counts in the load of the next."""

    posts: list[Covering]
    loads: dict[UUID, int]
    forces: dict[UUID, Force]
    competent: dict[UUID, frozenset[str]]
    """By unit that was named and heard of: the départements in which it is competent."""

    def route(self, unit_id: UUID | None, commune: str, channel: Channel, declined: Set[UUID] = frozenset()) -> Decision:
        candidates = self._candidates(unit_id, commune)
        decided = decide(candidates, channel, self.loads, declined)
        if decided.post_id is not None:
            self.loads[decided.post_id] += 1
        return decided

    def by_hand(self, referral: Referral, post_id: UUID | None, reason: RoutingReason | UnroutedReason) -> Decision:
        """What a person decided about a referral, with the posts that cover its place."""
        candidates = self._candidates(referral.unit_id, referral.commune)
        return by_hand(post_id, reason, candidates, Channel(referral.channel), self.loads, frozenset(referral.declined_by))

    def _candidates(self, unit_id: UUID | None, commune: str) -> list[Candidate]:
        """The posts that cover the place and those that stand in for them: with their own channels, load and working time. Each post once."""
        found: dict[UUID, Candidate] = {}
        for post in self.posts:
            own = post.candidate(unit_id, commune)
            if own is None:
                continue
            for one in (own, self._stand_in(post, own.by)):
                known = found.get(one.post_id) if one is not None else None
                if one is not None and (known is None or (known.by is not RoutingReason.UNIT and one.by is RoutingReason.UNIT)):
                    found[one.post_id] = one
        return [found[post_id] for post_id in sorted(found)]

    def _stand_in(self, absent: Covering, by: RoutingReason) -> Candidate | None:
        """Who takes over the coverage of an absent post; who is absent in turn is stood in for as well."""
        at, seen = absent, {absent.id}
        while at.state is PostState.SUSPENDED and at.replacement_id is not None and at.replacement_id not in seen:
            seen.add(at.replacement_id)
            following = next((post for post in self.posts if post.id == at.replacement_id), None)
            if following is None:  # closed
                return None
            at = following
        return None if at is absent else Candidate(at.id, by, at.state, at.channels, at.full_time_percent, absent.id)

    def targets(self, post_id: UUID | None) -> Mapping[str, int] | None:
        return next((post.targets for post in self.posts if post.id == post_id), None)

    def force(self, unit_id: UUID | None) -> Force | None:
        return self.forces.get(unit_id) if unit_id is not None else None

    def home(self, unit_id: UUID | None, commune: str, departements: Set[str] | None = None) -> str:
        """The département to which a referral belongs (decision 0012): that of the facts, unless the unit is competent in others alone; then its own, which
        works for people who come to it about facts of elsewhere. Of a unit that was not heard of yet, or is competent nowhere yet, nothing is known.

        `departements`: those that the client works for, of a unit that is competent in several."""
        facts = departement_of(commune)
        places = self.competent.get(unit_id, frozenset()) if unit_id is not None else frozenset()
        return facts if facts in places or not places else min(places & (departements or places) or places)


async def atlas(session: AsyncSession, places: Sequence[tuple[UUID | None, str]]) -> Atlas:
    """What is needed to route referrals of these units and communes: one statement, whatever their number."""
    if not places:
        return Atlas([], {}, {}, {})
    units = sorted({unit for unit, _ in places if unit is not None})
    communes = sorted({commune for _, commune in places})
    rows = await run(session, _CANDIDATES, {"units": units, "communes": communes, "most": LOAD_LIMIT})
    posts = [
        Covering(
            row["id"],
            PostState(row["state"]),
            frozenset(row["units"]),
            frozenset(row["direct"]) | frozenset(row["through_units"] or ()),
            frozenset(Channel(one) for one in row["channels"]),
            row["full_time_percent"],
            row["targets"] or {},
            row["replacement_post_id"],
        )
        for row in rows
        if row["id"] is not None
    ]
    forces = {UUID(unit): Force(force) for unit, force in (rows[0]["forces"] or {}).items()}
    competent = {UUID(unit): frozenset(map(departement_of, places)) for unit, places in (rows[0]["places"] or {}).items()}
    return Atlas(posts, {row["id"]: row["load"] for row in rows if row["id"] is not None}, forces, competent)


def stored(decided: Decision, at: datetime) -> dict[str, Any]:
    """A decision as it is kept beside the referral, so that it can be explained later (`GET /v1/referrals/{id}/routing`)."""
    return {
        "post_id": str(decided.post_id) if decided.post_id else None,
        "reason": str(decided.reason),
        "considered": [
            {"post_id": str(one.post_id), "by": str(one.by), "verdict": str(one.verdict), "open_referrals": one.load}
            | ({"replaces_id": str(one.replaces)} if one.replaces is not None else {})
            for one in decided.considered
        ],
        "decided_at": at.isoformat(),
    }


async def mark_due(session: AsyncSession, departement: str) -> None:
    """Coverage or a post's presence changed in a département, or where one of its unrouted referrals is from: they are worth another try."""
    await session.execute(
        text(
            "INSERT INTO routing_due (departement, marked_at) VALUES (:departement, clock_timestamp())"
            " ON CONFLICT (departement) DO UPDATE SET marked_at = excluded.marked_at"
        ),
        {"departement": departement},
    )


Mark = tuple[str, datetime]
"""A département, and when its coverage last changed."""


async def due(session: AsyncSession) -> list[Mark]:
    """The marks; none when nothing changed since the last try."""
    return [(row.departement, row.marked_at) for row in await session.execute(text("SELECT departement, marked_at FROM routing_due"))]


async def settle(session: AsyncSession, tried: Sequence[Mark]) -> None:
    """These very marks were tried. One made meanwhile stays due, and so does an older one whose transaction committed only now."""
    await session.execute(
        text(
            "DELETE FROM routing_due USING unnest(CAST(:departements AS text[]), CAST(:marks AS timestamptz[])) AS tried (departement, marked_at)"
            " WHERE routing_due.departement = tried.departement AND routing_due.marked_at = tried.marked_at"
        ),
        {"departements": [departement for departement, _ in tried], "marks": [marked for _, marked in tried]},
    )


Tried = tuple[datetime, UUID]
"""Where a try of all unrouted referrals stands: reception and id of the last one looked at."""


_STILL_UNROUTED = text(
    "UPDATE referrals SET routing = tried.routing FROM unnest(CAST(:ids AS uuid[]), CAST(:decisions AS jsonb[])) AS tried (id, routing)"
    " WHERE referrals.id = tried.id AND referrals.routing - 'decided_at' IS DISTINCT FROM tried.routing - 'decided_at'"
)
"""Why they found no post this time, where that is another reason."""


_TO_ROUTE = text(
    "SELECT id, client_id, unit_id, commune, departement, channel, urgency, danger, received_at, declined_by, status, post_id, contacted FROM referrals"
    " WHERE (status = 'unrouted' OR (status = 'assigned' AND routing ->> 'reason' NOT IN ('manual', 'transfer')"
    "  AND post_id = ANY(ARRAY(SELECT id FROM posts_heard WHERE state <> 'filled'))))"
    " AND (CAST(:received AS timestamptz) IS NULL OR (received_at, id) > (:received, CAST(:id AS uuid)))"
    " ORDER BY received_at, id LIMIT :limit FOR UPDATE"
)


async def route_again(session: AsyncSession, delays: Delays, now: datetime, after: Tried | None = None, limit: int = 200) -> Tried | None:
    """Try the next referrals that nobody has, oldest first: the unrouted, and those that were assigned to a post where nobody works and not accepted.

    Not those that were given to it by hand, perhaps away from the very post that the coverage names: the coordinator is told of them and decides.
    These go where they would go if they were received now, and stay where they are if that is nowhere: their post may be back tomorrow. A post of a
    neighbouring département may cover them, so all are tried. Returns where to go on, `None` at the end.
    """
    given = {"limit": limit, "received": after[0] if after else None, "id": after[1] if after else None}
    rows = (await session.execute(_TO_ROUTE, given)).all()
    found = await atlas(session, [(row.unit_id, row.commune) for row in rows])
    unrouted: dict[UUID, str] = {}
    for row in rows:
        decided = found.route(row.unit_id, row.commune, Channel(row.channel), frozenset(row.declined_by))
        if decided.post_id is not None:
            await _go(session, row, decided, found, delays, now)
        elif row.status == ReferralStatus.UNROUTED:
            unrouted[row.id] = json.dumps(stored(decided, now))
    if unrouted:
        await session.execute(_STILL_UNROUTED, {"ids": list(unrouted), "decisions": list(unrouted.values())})
    return (rows[-1].received_at, rows[-1].id) if len(rows) == limit else None


async def corrected(session: AsyncSession, delays: Delays, referral: Referral, now: datetime) -> Verdict | None:
    """The unit, commune or channel of a referral that a post has was corrected, and flushed. One that the coverage gave to it, and that it has not accepted,
    goes where it would go now; it stays while its post can take it, or nobody else can. Otherwise: gives what speaks against the post that has it.

    What explains why it is there is of then (`corrected_at`), unless it was decided anew.
    """
    found = await atlas(session, [(referral.unit_id, referral.commune)])
    here = found.by_hand(referral, referral.post_id, RoutingReason(referral.routing["reason"]))
    if referral.status == ReferralStatus.ASSIGNED and here.reason not in _BY_HAND:
        decided = found.route(referral.unit_id, referral.commune, Channel(referral.channel), frozenset(referral.declined_by))
        own = next((one for one in decided.considered if one.post_id == referral.post_id), None)
        if own is not None and own.verdict in {Verdict.CHOSEN, Verdict.BUSIER}:
            referral.routing = stored(here._replace(reason=own.by), now)
            return None
        if decided.post_id is not None:
            await _go(session, referral, decided, found, delays, now)
            await session.refresh(referral)
            return None
    referral.routing = {**referral.routing, "corrected_at": now.isoformat()}
    return here.misfit


_BY_HAND: Final = (RoutingReason.MANUAL, RoutingReason.TRANSFER)


async def _go(session: AsyncSession, referral: PlainRow | Referral, decided: Decision, found: Atlas, delays: Delays, now: datetime) -> None:
    """To the post that coverage and load name. The caller has locked the referral."""
    if decided.post_id is None or not isinstance(decided.reason, RoutingReason):
        raise AssertionError("a decision for a post")
    minutes = delays.minutes(referral.urgency, found.targets(decided.post_id), danger=referral.danger)
    before = referral.post_id
    await assign(session, referral, decided, minutes, now)
    await outbox.append(
        session,
        ReferralAssigned(
            referral_id=referral.id,
            departement=referral.departement,
            post_id=decided.post_id,
            reason=decided.reason,
            assigned_at=now,
            police_id=police_id_of(referral.client_id) if not referral.contacted else None,
        ),
    )
    await notices.handed_on(session, referral.id, referral.departement, before, decided.post_id, now)
    urgent = notices.is_urgent(referral.urgency, referral.danger)
    await notices.notify(session, notices.of_assigned(referral.id, decided.post_id, now, urgent=urgent), now=now)


async def assign(session: AsyncSession, referral: PlainRow | Referral, decided: Decision, minutes: int, now: datetime) -> None:
    """Write a decision to a referral (`id`, `status`, `post_id`) whose row the caller has locked; `minutes`: the target delay at the post it goes to."""
    status = moved(ReferralStatus(referral.status), Move.ROUTE).value
    await session.execute(
        text(
            "INSERT INTO moves (id, referral_id, move, status_before, status_after, post_before, post_after, reason, at)"
            " VALUES (:id, :referral, :move, :before, :after, :post_before, :post, :reason, :at)"
        ),
        {
            "id": new_id(),
            "referral": referral.id,
            "move": Move.ROUTE.value,
            "before": referral.status,
            "after": status,
            "post_before": referral.post_id,
            "post": decided.post_id,
            "reason": decided.reason.value,
            "at": now,
        },
    )
    await session.execute(
        text(
            "UPDATE referrals SET status = :status, post_id = :post, routing = CAST(:routing AS jsonb), version = version + 1,"
            " due_at = due_from + make_interval(mins => :minutes),"
            " overdue_said = overdue_said AND due_at = due_from + make_interval(mins => :minutes) WHERE id = :id"
        ),
        {
            "id": referral.id,
            "status": status,
            "post": decided.post_id,
            "minutes": minutes,
            "routing": json.dumps(stored(decided, now)),
        },
    )
