"""What the referrals service says. Every fact of a referral, its orientations included, is a fact of one aggregate: the referral."""

from typing import ClassVar
from uuid import UUID

from pydantic import Field

from libs.contracts.envelope import Classification, Event, Part
from libs.contracts.types import CommuneCode, Count, Day, DepartementCode, Id, Instant
from libs.contracts.vocabularies import (
    AgeBand,
    AlertKind,
    Channel,
    CloseReason,
    ContactAgreement,
    ContactMode,
    ContactResult,
    Force,
    InterviewPlace,
    KnownToServices,
    Need,
    OrientationCancellation,
    OrientationFailure,
    OrientationOutcome,
    OrientationRejection,
    OrientedContent,
    PartnerKind,
    PersonRole,
    RoutingReason,
    Sex,
    Theme,
    UnroutedReason,
    Urgency,
)


def number_of(place: int) -> UUID:
    """What stands for the id of a person who was erased: their place, from 1, among the persons of the referral. No id in use begins with 64 zero bits."""
    return UUID(int=place)


def is_number(person_id: UUID) -> bool:
    return person_id.int < 1 << 64


class PersonCounted(Part):
    """A person as figures need them; once erased under `number_of` their place: counted, no longer named."""

    person_id: Id
    role: PersonRole
    sex: Sex
    age_band: AgeBand
    agreement: ContactAgreement
    known_to_services: KnownToServices
    returning: bool | None = None
    """Whether an earlier referral held the same person (domain.normalised_identity); `None`: the identity does not suffice to tell."""
    identified: bool | None = None
    """Of who is identified by a correction, or is not any more: whether the identity suffices to tell `returning`. `None`: it is as it was."""


class ReferralEvent(Event):
    """Common to all: whose fact it is and the département it belongs to.

    `police_id`, where there is one: the police system whose referral it is and that is told how far it is (`units.police_id_of`).
    """

    aggregate: ClassVar[tuple[str, str]] = ("referrals", "referral_id")
    classification: ClassVar[Classification] = "restricted"

    referral_id: Id
    departement: DepartementCode


class ReferralReceived(ReferralEvent):
    """A police system's referral was received and stored. Said once per referral."""

    type: ClassVar[str] = "fr.maillon.referral.received.v1"

    commune: CommuneCode
    unit_id: Id | None
    force: Force | None
    channel: Channel
    urgency: Urgency
    principal_theme: Theme
    themes: tuple[Theme, ...] = Field(min_length=1, max_length=10)
    penal: bool | None
    danger: bool
    children_present: Count
    occurred_on: Day
    received_at: Instant
    persons: tuple[PersonCounted, ...] = Field(max_length=50)
    police_id: Id | None = None


class ReferralCorrected(ReferralEvent):
    """What was received was corrected: the whole corrected state. Who the referral is there to help may be others now, and so whether an attempt to
    contact one of them was made, the first, and its delay. Said, too, of an erasure that changes these."""

    type: ClassVar[str] = "fr.maillon.referral.corrected.v1"

    commune: CommuneCode
    unit_id: Id | None
    force: Force | None
    channel: Channel
    urgency: Urgency
    principal_theme: Theme
    themes: tuple[Theme, ...] = Field(min_length=1, max_length=10)
    penal: bool | None
    danger: bool
    children_present: Count
    occurred_on: Day
    received_at: Instant
    corrected_at: Instant
    persons: tuple[PersonCounted, ...] = Field(max_length=50)
    contact_attempted: bool | None = None
    """`None`: said before it was told."""
    first_attempted_at: Instant | None = None
    delay_minutes: Count | None = None


class ReferralAssigned(ReferralEvent):
    type: ClassVar[str] = "fr.maillon.referral.assigned.v1"

    post_id: Id
    reason: RoutingReason
    assigned_at: Instant
    police_id: Id | None = None


class ReferralUnrouted(ReferralEvent):
    type: ClassVar[str] = "fr.maillon.referral.unrouted.v1"

    reason: UnroutedReason
    unrouted_at: Instant
    police_id: Id | None = None
    """Of a referral that had a post and lost it: the police, told of that post, is told so; of one that never had any it knows the reception."""


class ReferralAccepted(ReferralEvent):
    type: ClassVar[str] = "fr.maillon.referral.accepted.v1"

    post_id: Id
    accepted_at: Instant
    police_id: Id | None = None


class ReferralClosed(ReferralEvent):
    type: ClassVar[str] = "fr.maillon.referral.closed.v1"

    post_id: Id | None
    reason: CloseReason
    closed_at: Instant
    police_id: Id | None = None


class ReferralReopened(ReferralEvent):
    type: ClassVar[str] = "fr.maillon.referral.reopened.v1"

    post_id: Id | None
    reopened_at: Instant
    police_id: Id | None = None


class ReferralErased(ReferralEvent):
    """The keys of the personal data were destroyed. Whoever holds a copy or a pseudonym drops it."""

    type: ClassVar[str] = "fr.maillon.referral.erased.v1"

    person_ids: tuple[Id, ...] = Field(max_length=50)
    organization_ids: tuple[Id, ...] = Field(default=(), max_length=100)
    """Those that were asked to take an orientation of it, whatever came of it: each is told in its own stream, without a repeat."""
    whole: bool = True
    """False: some of its persons only, the others stay."""
    erased_at: Instant


class ReferralOverdue(ReferralEvent):
    """The target delay passed without a contact attempt: an alert. Said once for each due time; without a post it still is with the coordinator."""

    type: ClassVar[str] = "fr.maillon.referral.overdue.v1"

    post_id: Id | None
    urgency: Urgency
    due_at: Instant
    noticed_at: Instant


class ContactAttempted(ReferralEvent):
    """`first` marks the first attempt to contact somebody whom the referral is there to help: the delay is counted from reception to it, in whole minutes.

    The first in which one of them was reached, since reception or the last reopening, alone names the police system. It is said again, with the same
    `contact_id`, when it becomes that by a correction.
    """

    type: ClassVar[str] = "fr.maillon.contact.attempted.v1"

    contact_id: Id
    person_id: Id
    post_id: Id
    mode: ContactMode
    result: ContactResult
    first: bool
    delay_minutes: Count
    attempted_at: Instant
    police_id: Id | None = None


class ContactWithdrawn(ReferralEvent):
    """A contact attempt was noted by mistake, by `post_id`. What the first attempt of the referral is now, and its delay: null when none is left.

    It names the police system when none of those is left who was reached: it was told that one was.
    """

    type: ClassVar[str] = "fr.maillon.contact.withdrawn.v1"

    contact_id: Id
    post_id: Id
    first_attempted_at: Instant | None
    delay_minutes: Count | None
    withdrawn_at: Instant
    police_id: Id | None = None


class InterviewHeld(ReferralEvent):
    type: ClassVar[str] = "fr.maillon.interview.held.v1"

    interview_id: Id
    person_ids: tuple[Id, ...] = Field(min_length=1, max_length=50)
    post_id: Id
    place: InterviewPlace
    duration_minutes: Count
    held_at: Instant


class InterviewWithdrawn(ReferralEvent):
    """An interview was noted by mistake, by `post_id`."""

    type: ClassVar[str] = "fr.maillon.interview.withdrawn.v1"

    interview_id: Id
    post_id: Id
    withdrawn_at: Instant


class AssessmentRecorded(ReferralEvent):
    type: ClassVar[str] = "fr.maillon.assessment.recorded.v1"

    assessment_id: Id
    person_id: Id
    post_id: Id
    needs: tuple[Need, ...] = Field(max_length=18)
    known_to_services: KnownToServices
    recorded_at: Instant


class AssessmentWithdrawn(ReferralEvent):
    """An assessment was noted by mistake, by `post_id`. `known_to_services`: what holds of the person without it."""

    type: ClassVar[str] = "fr.maillon.assessment.withdrawn.v1"

    assessment_id: Id
    person_id: Id
    post_id: Id
    known_to_services: KnownToServices
    withdrawn_at: Instant


class AlertRecorded(ReferralEvent):
    """An information préoccupante or a report to the prosecutor was noted as sent. `departement` is the referral's; neither addressee nor persons are told."""

    type: ClassVar[str] = "fr.maillon.alert.recorded.v1"

    alert_id: Id
    post_id: Id | None
    kind: AlertKind
    sent_at: Instant
    recorded_at: Instant


class AlertWithdrawn(ReferralEvent):
    """An alert was noted by mistake. `last`: none of its kind is left on the referral, which is counted as one without."""

    type: ClassVar[str] = "fr.maillon.alert.withdrawn.v1"

    alert_id: Id
    post_id: Id | None
    kind: AlertKind
    last: bool
    withdrawn_at: Instant


class OrientationEvent(ReferralEvent):
    """Common to an orientation's facts: which one, of which post, to whom."""

    orientation_id: Id
    post_id: Id
    service_id: Id
    organization_id: Id


class OrientationRequested(OrientationEvent):
    type: ClassVar[str] = "fr.maillon.orientation.requested.v1"

    partner_kind: PartnerKind
    person_id: Id
    need: Need
    replaces_id: Id | None = None
    """The orientation of the same person that came to nothing before."""
    urgency: Urgency | None = None
    danger: bool | None = None
    """Of the situation, when it was asked; `None`: said before they were."""
    requested_at: Instant
    expires_at: Instant


class OrientationAccepted(OrientationEvent):
    type: ClassVar[str] = "fr.maillon.orientation.accepted.v1"

    partner_kind: PartnerKind
    delay_minutes: Count
    accepted_at: Instant


class OrientationRejected(OrientationEvent):
    type: ClassVar[str] = "fr.maillon.orientation.rejected.v1"

    partner_kind: PartnerKind
    reason: OrientationRejection
    delay_minutes: Count
    rejected_at: Instant


class OrientationStarted(OrientationEvent):
    type: ClassVar[str] = "fr.maillon.orientation.started.v1"

    started_at: Instant


class OrientationCompleted(OrientationEvent):
    type: ClassVar[str] = "fr.maillon.orientation.completed.v1"

    outcome: OrientationOutcome
    completed_at: Instant


class OrientationFailed(OrientationEvent):
    type: ClassVar[str] = "fr.maillon.orientation.failed.v1"

    reason: OrientationFailure
    failed_at: Instant


class OrientationExpired(OrientationEvent):
    type: ClassVar[str] = "fr.maillon.orientation.expired.v1"

    expired_at: Instant


class OrientationCancelled(OrientationEvent):
    type: ClassVar[str] = "fr.maillon.orientation.cancelled.v1"

    reason: OrientationCancellation | None = None
    """`None`: it was said before reasons were."""
    cancelled_at: Instant


class OrientationUpdated(OrientationEvent):
    """What its partner reads of the person or the situation is another than before: it is to be read again before anybody is called. Never what it is."""

    type: ClassVar[str] = "fr.maillon.orientation.updated.v1"

    changed: tuple[OrientedContent, ...] = Field(min_length=1, max_length=3)
    updated_at: Instant


EVENTS: tuple[type[Event], ...] = (
    ReferralReceived,
    ReferralCorrected,
    ReferralAssigned,
    ReferralUnrouted,
    ReferralAccepted,
    ReferralClosed,
    ReferralReopened,
    ReferralErased,
    ReferralOverdue,
    ContactAttempted,
    ContactWithdrawn,
    InterviewHeld,
    InterviewWithdrawn,
    AssessmentRecorded,
    AssessmentWithdrawn,
    AlertRecorded,
    AlertWithdrawn,
    OrientationRequested,
    OrientationAccepted,
    OrientationRejected,
    OrientationStarted,
    OrientationCompleted,
    OrientationFailed,
    OrientationExpired,
    OrientationCancelled,
    OrientationUpdated,
)
