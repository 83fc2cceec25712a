"""The worklist of a social worker and of a coordinator, its counts, and the list that the police follows.

The order goes with the question: what is open in the order in which it is worked (`models.TURN`: urgent first, who is still to be called before the others, by
due time); with closed ones among it oldest reception first; oldest change first for what changed since. Each is an index (tests/bench/worklist.py measures
every list and filter on a million referrals). A referral that changes while it is paged through by change is met again further on, and none is left out; one
that is called, closed or becomes urgent meanwhile takes its new turn. To follow changes without end there is the feed (`Stream-Position`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import ColumnElement, Integer, case, exists, false, func, literal, literal_column, select, true
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from libs.chassis.database import columns_of
from libs.chassis.pagination import Key
from libs.chassis.security import Principal
from libs.contracts.types import departement_of
from libs.contracts.vocabularies import ReferralStatus, Role, Theme, Urgency
from services.referrals.domain import MINORS, PoliceStatus, police_status
from services.referrals.justice.alerts import KINDS_SENT
from services.referrals.models import OPEN, TURN, Person, PostHeard, Referral
from services.referrals.notices import is_urgent
from services.referrals.queries import FOLLOWED, SUMMARISED, status_of, summary
from services.referrals.receiving.domain import PostState
from services.referrals.worklists.pages import Conditions, head, numbers
from services.referrals.worklists.schemas import CountOut, ReferralCounts, ReferralSummary, StateCount, StatusOut

REFERRALS: Final = columns_of(Referral)
PERSONS: Final = columns_of(Person)

STATES: Final = tuple(one for one in ReferralStatus if one is not ReferralStatus.RECEIVED)
"""Received lasts within one transaction."""

OPEN_STATES: Final = frozenset({ReferralStatus.UNROUTED, ReferralStatus.ASSIGNED, ReferralStatus.ACCEPTED})
_WITH_A_POST: Final = (ReferralStatus.ACCEPTED, ReferralStatus.ASSIGNED)

_PERSONS = select(func.count()).select_from(Person).where(PERSONS.referral_id == REFERRALS.id).scalar_subquery()
_MINORS = exists().where(PERSONS.referral_id == REFERRALS.id, PERSONS.age_band.in_(sorted(MINORS)))
_LISTED = select(*SUMMARISED, _PERSONS.label("persons"), _MINORS.label("minors"), KINDS_SENT.label("sent"))
_OPEN: ColumnElement[bool] = literal_column(f"({OPEN})")
_TURN: ColumnElement[int] = literal_column(TURN, Integer)
_WAITING: Final[Conditions] = (literal(0) == _TURN, literal(2) == _TURN)
"""Turns in which somebody is still to be called."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a worklist is narrowed to; nothing given: everything within the perimeter."""

    statuses: Sequence[ReferralStatus] = ()
    urgency: Urgency | None = None
    unit_id: UUID | None = None
    commune: str | None = None
    theme: Theme | None = None
    """The principal one."""
    overdue: bool = False
    post_absent: bool = False
    """Open, with a post where nobody works: suspended, vacant or closed."""
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
    def order(self) -> tuple[ColumnElement[Any], ...]:
        if self.by_turn:
            return _TURN, REFERRALS.due_at, REFERRALS.id
        return REFERRALS.changed_at if self.changed_since is not None else REFERRALS.received_at, REFERRALS.id

    def place(self, row: ReferralSummary) -> Key:
        """Where a row stands in that order."""
        if self.by_turn:
            return turn(row), row.first_contact_due_at, row.id
        return row.changed_at if self.changed_since is not None else row.received_at, row.id


def turn(row: ReferralSummary) -> int:
    """Written in SQL as `models.TURN`."""
    return (not is_urgent(row.urgency, row.danger)) * 2 + (not row.awaits_contact)


def _keys(caller: Principal) -> list[Conditions]:
    """The perimeter, one condition for each post or département; for the nation there is none."""
    if caller.role is Role.ISCG:
        return [[REFERRALS.post_id == post_id] for post_id in sorted(caller.ids("post"))]
    departements = caller.departements() if caller.role is Role.COORDINATOR else None
    return [[]] if departements is None else [[REFERRALS.departement == one] for one in sorted(departements)]


def _narrowed(wanted: Wanted) -> list[ColumnElement[bool]]:
    equal = {
        REFERRALS.urgency: wanted.urgency,
        REFERRALS.unit_id: wanted.unit_id,
        REFERRALS.commune: wanted.commune,
        REFERRALS.principal_theme: wanted.theme,
    }
    conditions = [column == value for column, value in equal.items() if value is not None]
    if wanted.received_since is not None:
        conditions.append(REFERRALS.received_at >= wanted.received_since)
    if wanted.changed_since is not None:
        conditions.append(REFERRALS.changed_at >= wanted.changed_since)
    return conditions


def _ranges(caller: Principal, wanted: Wanted, now: datetime, absent: Sequence[UUID] = ()) -> list[Conditions]:
    """By reception each state is a range of its own; what is open or changed is few, and filtered by state. `absent`: the posts where nobody works."""
    narrowed = _narrowed(wanted)
    asked = sorted(set(wanted.statuses) or (_WITH_A_POST if wanted.post_absent else ()))
    states: list[Conditions] = [[REFERRALS.status.in_(asked)]] if asked else [[]]
    if not wanted.by_turn and wanted.changed_since is None:
        states = [[REFERRALS.status == one] for one in asked] or [[]]
    if wanted.overdue:  # the beginning of these turns
        states = [[*state, _OPEN, waiting, REFERRALS.due_at <= now] for state in states for waiting in _WAITING]
    if wanted.post_absent:
        narrowed.append(REFERRALS.post_id.in_(absent))
    return [[*key, *state, *narrowed] for key in _keys_of(caller, wanted) for state in states]


def _keys_of(caller: Principal, wanted: Wanted) -> list[Conditions]:
    """A commune nearly says its département: asked for twice, the database would think that few of its rows are there. It cannot estimate a CASE. Of another
    département's commune there are few indeed: of facts that a unit heard of from elsewhere."""
    departements = caller.departements() if caller.role is Role.COORDINATOR else None
    if wanted.commune is not None and departements is not None and departement_of(wanted.commune) in departements:
        return [[case((REFERRALS.departement.in_(sorted(departements)), true()), else_=false())]]
    return _keys(caller)


async def page(session: AsyncSession, caller: Principal, wanted: Wanted, *, after: Key | None, limit: int) -> list[ReferralSummary]:
    """One more than `limit` when there are more."""
    ranges = _ranges(caller, wanted, datetime.now(UTC), await _absent(session) if wanted.post_absent else ())
    if not ranges:
        return []
    found = head(ranges, wanted.order, after, limit)
    rows = await session.execute(_LISTED.where(REFERRALS.id.in_(found)).order_by(*wanted.order))
    return [ReferralSummary.model_validate(summary(row, row.persons, row.minors, row.sent)) for row in rows]


async def _absent(session: AsyncSession) -> Sequence[UUID]:
    return (await session.scalars(select(col(PostHeard.id)).where(col(PostHeard.state) != PostState.FILLED))).all()


async def counts(session: AsyncSession, caller: Principal) -> ReferralCounts:
    """Of every state, and of what is overdue, within the perimeter."""
    now, keys = datetime.now(UTC), _keys(caller)
    ranges: list[tuple[str, Conditions]] = [(status.value, [*key, REFERRALS.status == status]) for key in keys for status in STATES]
    ranges += [("absent", one) for one in _ranges(caller, Wanted(post_absent=True), now, await _absent(session))]
    ranges += [("overdue", one) for one in _ranges(caller, Wanted(overdue=True), now)]
    number = await numbers(session, ranges)
    return ReferralCounts(
        states=[StateCount(status=status, **number(status.value)) for status in STATES],
        overdue=CountOut(**number("overdue")),
        post_absent=CountOut(**number("absent")),
    )


# The police: its own referrals, how far they are


def _seen_as(status: PoliceStatus) -> list[Conditions]:
    """The states that the police sees as this one."""
    found: list[Conditions] = []
    for state in STATES:
        seen = {flag: police_status(state, contacted=flag) is status for flag in (False, True)}
        if any(seen.values()):
            of_state = REFERRALS.status == state
            found.append([of_state] if all(seen.values()) else [of_state, REFERRALS.contacted if seen[True] else ~REFERRALS.contacted])
    return found


async def statuses(
    session: AsyncSession,
    caller: Principal,
    *,
    wanted: Sequence[PoliceStatus],
    received_since: datetime | None,
    after: Key | None,
    limit: int,
) -> list[StatusOut]:
    """The caller's own, oldest reception first. There is no "changed since": it would tell of changes that are not the police's business.

    Its stream tells it of each step (`/v1/streams`).
    """
    client: Conditions = [
        REFERRALS.client_id == caller.client_id,
        *([REFERRALS.received_at >= received_since] if received_since is not None else []),
    ]
    states = [state for status in sorted(set(wanted)) for state in _seen_as(status)] or [[REFERRALS.status == one] for one in STATES]
    found = head([[*client, *state] for state in states], (REFERRALS.received_at, REFERRALS.id), after, limit)
    rows = await session.execute(FOLLOWED.where(REFERRALS.id.in_(found)).order_by(REFERRALS.received_at, REFERRALS.id))
    return [status_of(row) for row in rows]
