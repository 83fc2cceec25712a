"""The projections: one row per referral, person, orientation, post, plan and share, and how each event changes them. Pure: no database here.

A row holds its thing's attributes as they are now. Each event of a referral, an orientation included, touches rows of its own source and aggregate only, so that
no order between sources can matter. An event may come before the one that introduces its thing (listening began late): it then makes a row that
is not counted until that one is heard.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from operator import attrgetter
from typing import Any, NamedTuple, TypeAlias
from uuid import UUID
from zoneinfo import ZoneInfo

from libs.contracts import funding, partners, referrals
from libs.contracts.envelope import Event
from libs.contracts.vocabularies import OrientationStatus, ReferralStatus
from services.reporting.indicators import TALLIED, TOTAL, PlanState, PostState

CIVIL_TIME = ZoneInfo("Europe/Paris")
"""The calendar of the figures: a referral of 00:30 on 1 January in Paris belongs to the new year."""


def civil_day(at: datetime) -> date:
    return at.astimezone(CIVIL_TIME).date()


@dataclass(slots=True)
class Situation:
    """`received_on` is None until the reception was heard: such a row is not counted."""

    referral_id: UUID
    departement: str
    status: str
    received_on: date | None = None
    commune: str | None = None
    unit_id: UUID | None = None
    force: str | None = None
    channel: str | None = None
    urgency: str | None = None
    theme: str | None = None
    themes: str | None = None
    penal: bool | None = None
    danger: bool | None = None
    post_id: UUID | None = None
    close_reason: str | None = None
    first_contact_minutes: int | None = None
    seen_before: bool | None = None
    """Whether one of its persons was in an earlier referral, as reception told; `None`: of nobody it could be told."""
    alerts: str = ""
    """The kinds of alerts that were sent and not withdrawn, in order, joined by commas."""


@dataclass(slots=True)
class Person:
    """`person_id` is a number within the referral once it was erased (`facts.forget_persons`)."""

    referral_id: UUID
    person_id: UUID
    departement: str
    received_on: date
    role: str
    sex: str
    age_band: str
    agreement: str
    known_to_services: str
    seen_before: bool | None = None


@dataclass(slots=True)
class Orientation:
    """`requested_on` is None until the request was heard: such a row is not counted."""

    orientation_id: UUID
    referral_id: UUID
    departement: str
    post_id: UUID
    status: str
    requested_on: date | None = None
    partner_kind: str | None = None
    need: str | None = None
    rejection: str | None = None
    outcome: str | None = None


@dataclass(slots=True)
class Post:
    post_id: UUID
    departement: str
    state: str
    employer_id: UUID | None = None
    force: str | None = None
    full_time_percent: int | None = None


@dataclass(slots=True)
class Plan:
    plan_id: UUID
    post_id: UUID
    departement: str
    year: int
    state: str
    budget_cents: int
    funded_cents: int
    gap_cents: int


@dataclass(slots=True)
class Share:
    """One funder's part of a plan, `number` its place in it."""

    plan_id: UUID
    number: int
    post_id: UUID
    departement: str
    year: int
    funder_id: UUID
    funder_kind: str
    firmness: str
    amount_cents: int


Key: TypeAlias = tuple[UUID, ...] | tuple[UUID, int]


class Table(NamedTuple):
    """A projection's table: its rows are loaded by the id in the first column of the key, all that share it together."""

    name: str
    row: type[Any]
    key: tuple[str, ...]
    types: Mapping[str, str]
    """Column → PostgreSQL type, in the order of the row's fields."""


TABLES: dict[str, Table] = {
    table.name: table
    for table in (
        Table(
            "situations",
            Situation,
            ("referral_id",),
            {
                "referral_id": "uuid",
                "departement": "text",
                "status": "text",
                "received_on": "date",
                "commune": "text",
                "unit_id": "uuid",
                "force": "text",
                "channel": "text",
                "urgency": "text",
                "theme": "text",
                "themes": "text",
                "penal": "boolean",
                "danger": "boolean",
                "post_id": "uuid",
                "close_reason": "text",
                "first_contact_minutes": "integer",
                "seen_before": "boolean",
                "alerts": "text",
            },
        ),
        Table(
            "persons",
            Person,
            ("referral_id", "person_id"),
            {
                "referral_id": "uuid",
                "person_id": "uuid",
                "departement": "text",
                "received_on": "date",
                "role": "text",
                "sex": "text",
                "age_band": "text",
                "agreement": "text",
                "known_to_services": "text",
                "seen_before": "boolean",
            },
        ),
        Table(
            "orientations",
            Orientation,
            ("orientation_id",),
            {
                "orientation_id": "uuid",
                "referral_id": "uuid",
                "departement": "text",
                "post_id": "uuid",
                "status": "text",
                "requested_on": "date",
                "partner_kind": "text",
                "need": "text",
                "rejection": "text",
                "outcome": "text",
            },
        ),
        Table(
            "posts",
            Post,
            ("post_id",),
            {
                "post_id": "uuid",
                "departement": "text",
                "state": "text",
                "employer_id": "uuid",
                "force": "text",
                "full_time_percent": "integer",
            },
        ),
        Table(
            "plans",
            Plan,
            ("plan_id",),
            {
                "plan_id": "uuid",
                "post_id": "uuid",
                "departement": "text",
                "year": "integer",
                "state": "text",
                "budget_cents": "bigint",
                "funded_cents": "bigint",
                "gap_cents": "bigint",
            },
        ),
        Table(
            "shares",
            Share,
            ("plan_id", "number"),
            {
                "plan_id": "uuid",
                "number": "integer",
                "post_id": "uuid",
                "departement": "text",
                "year": "integer",
                "funder_id": "uuid",
                "funder_kind": "text",
                "firmness": "text",
                "amount_cents": "bigint",
            },
        ),
    )
}


@dataclass(slots=True)
class State:
    """The rows that a batch touches: table → owner's id → key → row. An owner is the referral of persons, the plan of shares, else the row itself."""

    rows: dict[str, dict[UUID, dict[Key, Any]]] = field(default_factory=lambda: {name: {} for name in TABLES})
    stored: dict[str, set[Key]] = field(default_factory=lambda: {name: set() for name in TABLES})
    """The keys of the rows that came out of the database."""

    def one(self, table: str, owner: UUID) -> Any:
        found = self.rows[table].get(owner)
        return found[(owner,)] if found else None

    def put(self, table: str, row: Any) -> None:
        key = tuple(getattr(row, column) for column in TABLES[table].key)
        self.rows[table].setdefault(key[0], {})[key] = row

    def load(self, table: str, row: Any) -> None:
        self.put(table, row)
        self.stored[table].add(tuple(getattr(row, column) for column in TABLES[table].key))

    def every(self, table: str) -> Iterable[tuple[Key, Any]]:
        for owned in self.rows[table].values():
            yield from owned.items()


# What the counters hold of a row

Tally: TypeAlias = tuple[str, str, str, date, str]
"""Measure, dimension, département, first day of the month, code."""


Standing: TypeAlias = tuple[Any, ...]
"""What the counters need of a row: its day, its département, then its value in each dimension."""


def _text(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


class Counted(NamedTuple):
    """How the rows of a table stand in the counters."""

    standing: Callable[[Any], Standing]
    dimensions: tuple[tuple[int, str, bool], ...]
    """Place in the standing, code, whether the value lists several."""


COUNTED: dict[str, Counted] = {
    measure: Counted(
        attrgetter(day, "departement", *(dimension.column for dimension in TALLIED[measure].values())),
        tuple((place, dimension.code, dimension.many) for place, dimension in enumerate(TALLIED[measure].values(), 2)),
    )
    for measure, day in (("situations", "received_on"), ("persons", "received_on"), ("orientations", "requested_on"))
}
"""The tables that are counted, each by the measure of its name. The same row always stands the same way: a change is a difference of two standings."""

Before: TypeAlias = dict[str, dict[Key, Standing]]


def standing(state: State) -> Before:
    """Where the rows of a state stand in the counters."""
    return {table: {key: counted.standing(row) for key, row in state.every(table)} for table, counted in COUNTED.items()}


def differences(before: Before, after: State) -> Counter[Tally]:
    """What to add to each counter when rows went from `before` to `after`; none is zero."""
    deltas: Counter[Tally] = Counter()
    for table, counted in COUNTED.items():
        raw: Counter[tuple[str, date, str, Any]] = Counter()
        old = before[table]
        now: Mapping[Key, Standing] = {key: counted.standing(row) for key, row in after.every(table)}
        for key, new in now.items():
            was = old.get(key)
            if was is None:
                _stand(raw, new, counted.dimensions, 1)
            elif was != new:
                # by far the most changes move one value: the others cancel out without being touched
                moved = counted.dimensions if was[:2] != new[:2] else tuple(one for one in counted.dimensions if was[one[0]] != new[one[0]])
                _stand(raw, was, moved, -1, total=was[:2] != new[:2])
                _stand(raw, new, moved, 1, total=was[:2] != new[:2])
        for key in old.keys() - now.keys():
            _stand(raw, old[key], counted.dimensions, -1)
        for (departement, month, dimension, value), number in raw.items():
            if number:
                deltas[(table, dimension, departement, month, _text(value))] += number
    return deltas


def _stand(
    raw: Counter[tuple[str, date, str, Any]], row: Standing, dimensions: Iterable[tuple[int, str, bool]], number: int, *, total: bool = True
) -> None:
    if row[0] is None:
        return
    month, departement = row[0].replace(day=1), row[1]
    if total:
        raw[(departement, month, TOTAL, "")] += number
    for place, code, many in dimensions:
        value = row[place]
        if many:
            for one in value.split(","):
                raw[(departement, month, code, one)] += number
        else:
            raw[(departement, month, code, value)] += number


# How each event changes the rows


def _situation(state: State, event: referrals.ReferralEvent) -> Situation:
    row: Situation | None = state.one("situations", event.referral_id)
    if row is None:
        row = Situation(event.referral_id, event.departement, ReferralStatus.RECEIVED)
        state.put("situations", row)
    return row


def _whole(state: State, event: referrals.ReferralReceived | referrals.ReferralCorrected) -> None:
    row = _situation(state, event)
    received_on = civil_day(event.received_at)
    row.departement = event.departement
    row.received_on = received_on
    row.commune = event.commune
    row.unit_id = event.unit_id
    row.force = event.force
    row.channel = event.channel
    row.urgency = event.urgency
    row.theme = event.principal_theme
    row.themes = ",".join(sorted({event.principal_theme, *event.themes}))
    row.penal = event.penal
    row.danger = event.danger
    before: Mapping[Key, Person] = state.rows["persons"].get(event.referral_id, {})
    persons = state.rows["persons"][event.referral_id] = {
        (event.referral_id, person.person_id): Person(
            event.referral_id,
            person.person_id,
            event.departement,
            received_on,
            person.role,
            person.sex,
            person.age_band,
            person.agreement,
            person.known_to_services,
            _seen_before(person, before.get((event.referral_id, person.person_id))),
        )
        for person in event.persons
    }
    told = {person.seen_before for person in persons.values()}
    row.seen_before = True if True in told else False if False in told else None


def _seen_before(person: referrals.PersonCounted, before: Person | None) -> bool | None:
    """Told when a person is received; a correction that does not tell it leaves it as it was."""
    return before.seen_before if person.returning is None and before is not None else person.returning


def _assigned(state: State, event: referrals.ReferralAssigned) -> None:
    row = _situation(state, event)
    row.status = ReferralStatus.ASSIGNED
    row.post_id = event.post_id


def _unrouted(state: State, event: referrals.ReferralUnrouted) -> None:
    row = _situation(state, event)
    row.status = ReferralStatus.UNROUTED
    row.post_id = None


def _accepted(state: State, event: referrals.ReferralAccepted) -> None:
    row = _situation(state, event)
    row.status = ReferralStatus.ACCEPTED
    row.post_id = event.post_id


def _closed(state: State, event: referrals.ReferralClosed) -> None:
    row = _situation(state, event)
    row.status = ReferralStatus.CLOSED
    row.close_reason = event.reason
    row.post_id = event.post_id


def _reopened(state: State, event: referrals.ReferralReopened) -> None:
    row = _situation(state, event)
    row.status = ReferralStatus.UNROUTED if event.post_id is None else ReferralStatus.ACCEPTED
    row.close_reason = None
    row.post_id = event.post_id


def _erased(state: State, event: referrals.ReferralErased) -> None:
    situation = _situation(state, event)
    if event.whole:
        situation.status = ReferralStatus.ERASED


def _contacted(state: State, event: referrals.ContactAttempted) -> None:
    _situation(state, event).first_contact_minutes = event.delay_minutes


def _contact_withdrawn(state: State, event: referrals.ContactWithdrawn) -> None:
    _situation(state, event).first_contact_minutes = event.delay_minutes


def _alerted(state: State, event: referrals.AlertRecorded) -> None:
    row = _situation(state, event)
    row.alerts = ",".join(sorted({event.kind, *row.alerts.split(",")} - {""}))


def _alert_withdrawn(state: State, event: referrals.AlertWithdrawn) -> None:
    row = _situation(state, event)
    if event.last:
        row.alerts = ",".join(kind for kind in row.alerts.split(",") if kind != event.kind)


def _assessed(state: State, event: referrals.AssessmentRecorded) -> None:
    person = state.rows["persons"].get(event.referral_id, {}).get((event.referral_id, event.person_id))
    if person is not None:
        person.known_to_services = event.known_to_services


def _orientation(state: State, event: referrals.OrientationEvent, status: OrientationStatus) -> Orientation:
    row: Orientation | None = state.one("orientations", event.orientation_id)
    if row is None:
        row = Orientation(event.orientation_id, event.referral_id, event.departement, event.post_id, status)
        state.put("orientations", row)
    row.status = status
    return row


def _orientation_requested(state: State, event: referrals.OrientationRequested) -> None:
    row = _orientation(state, event, OrientationStatus.REQUESTED)
    row.requested_on = civil_day(event.requested_at)
    row.partner_kind = event.partner_kind
    row.need = event.need


def _orientation_rejected(state: State, event: referrals.OrientationRejected) -> None:
    _orientation(state, event, OrientationStatus.REJECTED).rejection = event.reason


def _orientation_completed(state: State, event: referrals.OrientationCompleted) -> None:
    _orientation(state, event, OrientationStatus.COMPLETED).outcome = event.outcome


def _orientation_becomes(status: OrientationStatus) -> Callable[[State, Any], None]:
    def fold(state: State, event: referrals.OrientationEvent) -> None:
        _orientation(state, event, status)

    return fold


def _post_opened(state: State, event: partners.PostOpened) -> None:
    state.put(
        "posts",
        Post(
            event.post_id,
            event.departement,
            PostState.FILLED if event.filled else PostState.VACANT,
            event.employer_id,
            event.force,
            event.full_time_percent,
        ),
    )


def _post_becomes(post_state: PostState) -> Callable[[State, Any], None]:
    def fold(state: State, event: partners.PostEvent) -> None:
        row: Post | None = state.one("posts", event.post_id)
        if row is None:
            state.put("posts", Post(event.post_id, event.departement, post_state))
        else:
            row.state = post_state

    return fold


def _planned(state: State, event: funding.PlanEvent) -> None:
    gap = event.gap_cents if isinstance(event, funding.PlanGapped) else 0
    state.put(
        "plans",
        Plan(
            event.plan_id,
            event.post_id,
            event.departement,
            event.year,
            PlanState.GAPPED if gap else PlanState.BALANCED,
            event.budget_cents,
            event.funded_cents,
            gap,
        ),
    )
    state.rows["shares"][event.plan_id] = {
        (event.plan_id, number): Share(
            event.plan_id,
            number,
            event.post_id,
            event.departement,
            event.year,
            share.funder_id,
            share.funder_kind,
            share.firmness,
            share.amount_cents,
        )
        for number, share in enumerate(event.shares, 1)
    }


class Fold(NamedTuple):
    """How one type of event changes the rows: of which tables, whose owner is in which field; and when it does at all."""

    fold: Callable[[State, Any], None]
    owner: str
    tables: tuple[str, ...]
    when: Callable[[Any], bool] | None = None


FOLDS: dict[type[Event], Fold] = {
    referrals.ReferralReceived: Fold(_whole, "referral_id", ("situations", "persons")),
    referrals.ReferralCorrected: Fold(_whole, "referral_id", ("situations", "persons")),
    referrals.ReferralAssigned: Fold(_assigned, "referral_id", ("situations",)),
    referrals.ReferralUnrouted: Fold(_unrouted, "referral_id", ("situations",)),
    referrals.ReferralAccepted: Fold(_accepted, "referral_id", ("situations",)),
    referrals.ReferralClosed: Fold(_closed, "referral_id", ("situations",)),
    referrals.ReferralReopened: Fold(_reopened, "referral_id", ("situations",)),
    referrals.ReferralErased: Fold(_erased, "referral_id", ("situations",)),
    referrals.ContactAttempted: Fold(_contacted, "referral_id", ("situations",), when=attrgetter("first")),
    referrals.ContactWithdrawn: Fold(_contact_withdrawn, "referral_id", ("situations",)),
    referrals.AlertRecorded: Fold(_alerted, "referral_id", ("situations",)),
    referrals.AlertWithdrawn: Fold(_alert_withdrawn, "referral_id", ("situations",)),
    referrals.AssessmentRecorded: Fold(_assessed, "referral_id", ("persons",)),
    referrals.OrientationRequested: Fold(_orientation_requested, "orientation_id", ("orientations",)),
    referrals.OrientationAccepted: Fold(_orientation_becomes(OrientationStatus.ACCEPTED), "orientation_id", ("orientations",)),
    referrals.OrientationRejected: Fold(_orientation_rejected, "orientation_id", ("orientations",)),
    referrals.OrientationStarted: Fold(_orientation_becomes(OrientationStatus.IN_PROGRESS), "orientation_id", ("orientations",)),
    referrals.OrientationCompleted: Fold(_orientation_completed, "orientation_id", ("orientations",)),
    referrals.OrientationFailed: Fold(_orientation_becomes(OrientationStatus.FAILED), "orientation_id", ("orientations",)),
    referrals.OrientationExpired: Fold(_orientation_becomes(OrientationStatus.EXPIRED), "orientation_id", ("orientations",)),
    referrals.OrientationCancelled: Fold(_orientation_becomes(OrientationStatus.CANCELLED), "orientation_id", ("orientations",)),
    partners.PostOpened: Fold(_post_opened, "post_id", ("posts",)),
    partners.PostFilled: Fold(_post_becomes(PostState.FILLED), "post_id", ("posts",)),
    partners.PostVacant: Fold(_post_becomes(PostState.VACANT), "post_id", ("posts",)),
    partners.PostSuspended: Fold(_post_becomes(PostState.SUSPENDED), "post_id", ("posts",)),
    partners.PostClosed: Fold(_post_becomes(PostState.CLOSED), "post_id", ("posts",)),
    funding.PlanBalanced: Fold(_planned, "plan_id", ("plans", "shares")),
    funding.PlanGapped: Fold(_planned, "plan_id", ("plans", "shares")),
}
"""Types that are not here are kept in the log of facts and change no projection yet: interviews, overdue referrals (the share within target is of the
contacts), agreements, contributions, instalments, coverage..."""


def effective(events: Iterable[Event]) -> list[tuple[Event, Fold]]:
    """The events that change rows, each with how."""
    return [(event, fold) for event in events if (fold := FOLDS.get(type(event))) is not None and (fold.when is None or fold.when(event))]


def wanted(folds: Iterable[tuple[Event, Fold]]) -> dict[str, set[UUID]]:
    """Table → ids of the owners whose rows the events touch."""
    ids: dict[str, set[UUID]] = {}
    for event, fold in folds:
        owner = getattr(event, fold.owner)
        for table in fold.tables:
            ids.setdefault(table, set()).add(owner)
    return ids


def apply(state: State, folds: Iterable[tuple[Event, Fold]]) -> None:
    """Change the rows by the events, in order. The rows they touch must be in the state, if they exist."""
    for event, fold in folds:
        fold.fold(state, event)
