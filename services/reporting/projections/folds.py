"""How each event changes the rows. Pure: no database here.

Each event of a referral, an orientation included, touches rows of its own source and aggregate only, so that no order between sources can matter.
An event may come before the one that introduces its thing (listening began late): it then makes a row that is not counted until that one is heard.
"""

from collections.abc import Callable, Iterable, Mapping
from operator import attrgetter
from typing import Any, NamedTuple
from uuid import UUID

from libs.contracts import funding, partners, referrals
from libs.contracts.envelope import Event
from libs.contracts.types import civil_day
from libs.contracts.vocabularies import CloseReason, OrientationStatus, ReferralStatus
from services.reporting.indicators import PlanState, PostState
from services.reporting.projections.rows import Key, Orientation, Person, Plan, Post, Share, Situation, State


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
            row.close_reason,
        )
        for person in event.persons
    }
    told = {person.seen_before for person in persons.values()}
    row.seen_before = True if True in told else False if False in told else None


def _corrected(state: State, event: referrals.ReferralCorrected) -> None:
    _whole(state, event)
    if event.contact_attempted is not None:
        row = _situation(state, event)
        row.first_contact_minutes, row.first_contact_at = event.delay_minutes, event.first_attempted_at


def _seen_before(person: referrals.PersonCounted, before: Person | None) -> bool | None:
    """Told when a person is received, or identified by a correction; one that does not tell it leaves it as it was, unless nobody can tell it any more."""
    if person.identified is False:
        return None
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
    row.post_id = event.post_id
    _close_reason(state, row, event.reason)


def _reopened(state: State, event: referrals.ReferralReopened) -> None:
    row = _situation(state, event)
    row.status = ReferralStatus.UNROUTED if event.post_id is None else ReferralStatus.ACCEPTED
    row.post_id = event.post_id
    _close_reason(state, row, None)


def _close_reason(state: State, situation: Situation, reason: CloseReason | None) -> None:
    """Of the situation and of its persons, so that either is counted without those of duplicates."""
    for row in (situation, *state.rows["persons"].get(situation.referral_id, {}).values()):
        row.close_reason = reason


def _erased(state: State, event: referrals.ReferralErased) -> None:
    situation = _situation(state, event)
    if event.whole:
        situation.status = ReferralStatus.ERASED


def _contacted(state: State, event: referrals.ContactAttempted) -> None:
    row = _situation(state, event)
    row.first_contact_minutes, row.first_contact_at = event.delay_minutes, event.attempted_at


def _contact_withdrawn(state: State, event: referrals.ContactWithdrawn) -> None:
    row = _situation(state, event)
    row.first_contact_minutes, row.first_contact_at = event.delay_minutes, event.first_attempted_at


def _overdue(state: State, event: referrals.ReferralOverdue) -> None:
    row = _situation(state, event)
    row.due_passed_at = min(row.due_passed_at or event.due_at, event.due_at)


def _alerted(state: State, event: referrals.AlertRecorded) -> None:
    row = _situation(state, event)
    row.alerts = ",".join(sorted({event.kind, *row.alerts.split(",")} - {""}))


def _alert_withdrawn(state: State, event: referrals.AlertWithdrawn) -> None:
    row = _situation(state, event)
    if event.last:
        row.alerts = ",".join(kind for kind in row.alerts.split(",") if kind != event.kind)


def _assessed(state: State, event: referrals.AssessmentRecorded | referrals.AssessmentWithdrawn) -> None:
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
    referrals.ReferralCorrected: Fold(_corrected, "referral_id", ("situations", "persons")),
    referrals.ReferralAssigned: Fold(_assigned, "referral_id", ("situations",)),
    referrals.ReferralUnrouted: Fold(_unrouted, "referral_id", ("situations",)),
    referrals.ReferralAccepted: Fold(_accepted, "referral_id", ("situations",)),
    referrals.ReferralClosed: Fold(_closed, "referral_id", ("situations", "persons")),
    referrals.ReferralReopened: Fold(_reopened, "referral_id", ("situations", "persons")),
    referrals.ReferralErased: Fold(_erased, "referral_id", ("situations",)),
    referrals.ReferralOverdue: Fold(_overdue, "referral_id", ("situations",)),
    referrals.ContactAttempted: Fold(_contacted, "referral_id", ("situations",), when=attrgetter("first")),
    referrals.ContactWithdrawn: Fold(_contact_withdrawn, "referral_id", ("situations",)),
    referrals.AlertRecorded: Fold(_alerted, "referral_id", ("situations",)),
    referrals.AlertWithdrawn: Fold(_alert_withdrawn, "referral_id", ("situations",)),
    referrals.AssessmentRecorded: Fold(_assessed, "referral_id", ("persons",)),
    referrals.AssessmentWithdrawn: Fold(_assessed, "referral_id", ("persons",)),
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
"""Types that are not here are kept in the log of facts and change no projection yet: interviews, agreements, contributions, instalments, coverage..."""


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
