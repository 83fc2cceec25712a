"""The worklist of a social worker and of a coordinator, its counts, and the list that the police follows.

The order goes with the question: what is open in the order in which it is worked (`models.TURN`: urgent first, who is still to be called before the others, by
due time); with closed ones among it oldest reception first; oldest change first for what changed since. Each is an index (tests/bench/worklist.py measures
every list and filter on a million referrals). A referral that changes while it is paged through by change is met again further on, and none is left out; one
that is called, closed or becomes urgent meanwhile takes its new turn. To follow changes without end there is the feed (`Stream-Position`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from libs.chassis import streams
from libs.chassis.database import RawConnection, Statement, run
from libs.chassis.pagination import Key
from libs.chassis.security import Principal
from libs.contracts.types import departement_of
from libs.contracts.vocabularies import AlertKind, ReferralStatus, Role, Theme, Urgency
from services.referrals.domain import MINORS, PoliceStatus, police_status
from services.referrals.models import OPEN, TURN, WAITING
from services.referrals.notices import is_urgent
from services.referrals.receiving.domain import PostState
from services.referrals.worklists.pages import EVERYWHERE, Condition, Conditions, Question, Within, keys_of, numbers, where
from services.referrals.worklists.schemas import CountOut, ReferralCounts, ReferralSummary, StateCount

STATES: Final = tuple(one for one in ReferralStatus if one is not ReferralStatus.RECEIVED)
"""Received lasts within one transaction."""

OPEN_STATES: Final = frozenset({ReferralStatus.UNROUTED, ReferralStatus.ASSIGNED, ReferralStatus.ACCEPTED})
GIVEN_UP_SHOWN: Final = timedelta(days=30)
"""Whoever is to reopen a referral was told by then, and has decided."""
_WITH_A_POST: Final = (ReferralStatus.ACCEPTED, ReferralStatus.ASSIGNED)
_WAITING: Final = (0, 2)
"""Turns in which somebody is still to be called."""

_COMPUTED: Final = {
    "minor": "people.minors OR referrals.children_present > 0",
    "concerning_information_sent": "alerted.concerning_information",
    "reported_to_prosecutor": "alerted.prosecutor_report",
    "persons": "people.number",
    "first_contact_due_at": "referrals.due_at",
    "overdue": f"{WAITING} AND referrals.due_at <= now()",
}
_NAMES: Final = tuple(ReferralSummary.model_fields)
_SUMMARY: Final = ", ".join(f"{_COMPUTED.get(name, f'referrals.{name}')} AS {name}" for name in _NAMES)
"""What a summary says, in its order."""
_BESIDE: Final = f"""
    LEFT JOIN LATERAL (
        SELECT count(*) AS number, coalesce(bool_or(age_band IN ({", ".join(f"'{band}'" for band in sorted(MINORS))})), false) AS minors
        FROM persons WHERE persons.referral_id = referrals.id
    ) AS people ON true
    LEFT JOIN LATERAL (
        SELECT {", ".join(f"coalesce(bool_or(kind = '{kind}'), false) AS {kind}" for kind in AlertKind)}
        FROM alerts WHERE alerts.referral_id = referrals.id AND alerts.withdrawn_at IS NULL
    ) AS alerted ON true
"""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a worklist is narrowed to; nothing given: everything within the perimeter."""

    statuses: Sequence[ReferralStatus] = ()
    urgency: Urgency | None = None
    unit_id: UUID | None = None
    post_id: UUID | None = None
    commune: str | None = None
    theme: Theme | None = None
    """The principal one."""
    overdue: bool = False
    post_absent: bool = False
    """Open, with a post where nobody works: suspended, vacant or closed."""
    given_up: bool = False
    """Closed, and a partner gave up or its service closed since, no longer than `GIVEN_UP_SHOWN` ago."""
    received_since: datetime | None = None
    changed_since: datetime | None = None

    @property
    def by_turn(self) -> bool:
        """Nothing but what is open."""
        return (
            self.overdue
            or self.post_absent
            or (bool(self.statuses) and self.changed_since is None and OPEN_STATES.issuperset(self.statuses))
        )

    @property
    def order(self) -> tuple[str, ...]:
        if self.by_turn:
            return TURN, "due_at", "id"
        return "changed_at" if self.changed_since is not None else "received_at", "id"

    def place(self, row: Mapping[str, Any]) -> Key:
        """Where a summary stands in that order."""
        if self.by_turn:
            return turn(row), row["first_contact_due_at"], row["id"]
        return row["changed_at" if self.changed_since is not None else "received_at"], row["id"]


def turn(row: Mapping[str, Any]) -> int:
    """Written in SQL as `models.TURN`."""
    return (not is_urgent(row["urgency"], row["danger"])) * 2 + (not row["awaits_contact"])


def _departements(caller: Principal) -> Sequence[str] | None:
    """Of whoever is not a social worker; None: the nation."""
    departements = caller.departements() if caller.role is Role.COORDINATOR else None
    return sorted(departements) if departements is not None else None


def _within(caller: Principal, wanted: Wanted) -> Within | None:
    """The perimeter: posts or départements."""
    if caller.role is Role.ISCG:
        own = caller.ids("post")
        return Within("post_id", "uuid", sorted(own if wanted.post_id is None else own & {wanted.post_id}))
    if wanted.post_id is not None:
        return Within("post_id", "uuid", [wanted.post_id])
    departements = _departements(caller)
    return EVERYWHERE if departements is None or _told_by_place(caller, wanted) else Within("departement", "text", departements)


def _told_by_place(caller: Principal, wanted: Wanted) -> list[Condition]:
    """A post says its département, and a commune nearly: asked for twice, the database would think that few of its rows are there. It cannot estimate a CASE.
    Of another département's commune there are few indeed: of facts that a unit heard of from elsewhere."""
    departements = _departements(caller)
    by_commune = wanted.commune is not None and departements is not None and departement_of(wanted.commune) in departements
    if departements is None or not (by_commune or wanted.post_id is not None):
        return []
    return [where("CASE WHEN departement = ANY({}) THEN true ELSE false END", departements)]


def _narrowed(wanted: Wanted) -> list[Condition]:
    conditions = {
        "urgency = {}": wanted.urgency,
        "unit_id = {}": wanted.unit_id,
        "commune = {}": wanted.commune,
        "principal_theme = {}": wanted.theme,
        "received_at >= {}": wanted.received_since,
        "changed_at >= {}": wanted.changed_since,
    }
    return [where(text, value) for text, value in conditions.items() if value is not None]


def _ranges(caller: Principal, wanted: Wanted, now: datetime, absent: Sequence[UUID] = ()) -> list[Conditions]:
    """By reception each state is a range of its own; what is open or changed is few, and filtered by state. `absent`: the posts where nobody works."""
    narrowed = [*_narrowed(wanted), *_told_by_place(caller, wanted)]
    if wanted.given_up:
        narrowed += [where("status = {}", ReferralStatus.CLOSED), where("given_up_at > {}", now - GIVEN_UP_SHOWN)]
    asked = sorted(set(wanted.statuses) or (_WITH_A_POST if wanted.post_absent else ()))
    states: list[Conditions] = [[where("status = ANY({})", asked)]] if asked else [[]]
    if not wanted.by_turn and wanted.changed_since is None:
        states = [[where("status = {}", one)] for one in asked] or [[]]
    if wanted.overdue:  # the beginning of these turns
        late = where("due_at <= {}", now)
        states = [[*state, where(OPEN), where(f"{TURN} = {waiting}"), late] for state in states for waiting in _WAITING]
    if wanted.by_turn and wanted.urgency is Urgency.IMMEDIATE:
        narrowed.append(where(f"{TURN} <= 1"))
    if wanted.post_absent:
        narrowed.append(where("post_id = ANY({})", absent))
    return [[*state, *narrowed] for state in states]


async def page(
    connection: RawConnection, caller: Principal, wanted: Wanted, *, after: Key | None, limit: int
) -> tuple[str, list[dict[str, Any]]]:
    """The stream position that the list reflects, and the fields of `ReferralSummary` of each; one more than `limit` when there are more."""
    ranges = _ranges(caller, wanted, datetime.now(UTC), await _absent(connection) if wanted.post_absent else ())
    asked = Question("referrals", _within(caller, wanted))
    *keys, id = keys_of(wanted.order)
    found = asked.head(ranges, wanted.order, after, limit)
    first, *more = await connection.fetch(
        f"SELECT {_SUMMARY}, {streams.POSITION} AS position FROM (SELECT) AS now LEFT JOIN ({found}) AS found ON true"
        f" LEFT JOIN referrals ON referrals.id = {id} {_BESIDE} ORDER BY {', '.join([*keys, id])}",
        *asked.values,
    )
    return first["position"], [dict(zip(_NAMES, row, strict=False)) for row in (first, *more) if row["id"] is not None]


_SUMMARY_OF = Statement(f"SELECT {_SUMMARY} FROM referrals {_BESIDE} WHERE referrals.id = :id")


async def summary_of(session: AsyncSession, referral_id: UUID) -> dict[str, Any]:
    """The fields of `ReferralSummary` of one."""
    [row] = await run(session, _SUMMARY_OF, {"id": referral_id})
    return dict(row)


_ABSENT: Final = f"SELECT id FROM posts_heard WHERE state <> '{PostState.FILLED}'"


async def _absent(connection: RawConnection) -> Sequence[UUID]:
    return [row["id"] for row in await connection.fetch(_ABSENT)]


async def counts(connection: RawConnection, caller: Principal) -> ReferralCounts:
    """Of every state, and of what is overdue, within the perimeter."""
    now = datetime.now(UTC)
    ranges: list[tuple[str, Conditions]] = [(status.value, [where("status = {}", status)]) for status in STATES]
    ranges += [("absent", one) for one in _ranges(caller, Wanted(post_absent=True), now, await _absent(connection))]
    ranges += [("overdue", one) for one in _ranges(caller, Wanted(overdue=True), now)]
    ranges += [("given_up", one) for one in _ranges(caller, Wanted(given_up=True), now)]
    number = await numbers(connection, Question("referrals", _within(caller, Wanted())), ranges)
    return ReferralCounts(
        states=[StateCount(status=status, **number(status.value)) for status in STATES],
        overdue=CountOut(**number("overdue")),
        post_absent=CountOut(**number("absent")),
        given_up=CountOut(**number("given_up")),
    )


# The police: its own referrals, how far they are


def _seen_as(status: PoliceStatus) -> list[Conditions]:
    """The states that the police sees as this one."""
    found: list[Conditions] = []
    for state in STATES:
        seen = {flag: police_status(state, contacted=flag) is status for flag in (False, True)}
        if any(seen.values()):
            of_state = where("status = {}", state)
            found.append([of_state] if all(seen.values()) else [of_state, where("contacted" if seen[True] else "NOT contacted")])
    return found


_RECEIVED: Final = ("received_at", "id")


async def statuses(
    connection: RawConnection,
    caller: Principal,
    *,
    wanted: Sequence[PoliceStatus],
    unit_id: UUID | None,
    received_since: datetime | None,
    after: Key | None,
    limit: int,
) -> list[dict[str, Any]]:
    """The fields of `StatusOut` of the caller's own, oldest reception first. There is no "changed since": it would tell of changes that are not the police's
    business.

    Its stream tells it of each step (`/v1/streams`).
    """
    narrowed = [where("received_at >= {}", received_since)] if received_since is not None else []
    if unit_id is not None:
        narrowed.append(where("first_unit_id = {}", unit_id))
    states = [state for status in sorted(set(wanted)) for state in _seen_as(status)] or [[where("status = {}", one)] for one in STATES]
    asked = Question("referrals", Within("client_id", "text", [caller.client_id]))
    *keys, id = keys_of(_RECEIVED)
    found = asked.head([[*state, *narrowed] for state in states], _RECEIVED, after, limit)
    rows = await connection.fetch(
        "SELECT referrals.id, external_reference, first_unit_id, status, contacted, received_at"
        f" FROM ({found}) AS found JOIN referrals ON referrals.id = {id} ORDER BY {', '.join([*keys, id])}",
        *asked.values,
    )
    return [
        {
            "id": row["id"],
            "external_reference": row["external_reference"],
            "unit_id": row["first_unit_id"],
            "status": police_status(ReferralStatus(row["status"]), contacted=row["contacted"]).value,
            "received_at": row["received_at"],
        }
        for row in rows
    ]
