"""What worklists show: no name, no contact, no narrative."""

from typing import Annotated

from libs.chassis.strict import Answer, Body, line
from libs.contracts.types import CommuneCode, DepartementCode, Id, Instant
from libs.contracts.vocabularies import Channel, OrientationStatus, ReferralStatus, Theme, Urgency
from services.referrals.domain import PoliceStatus
from services.referrals.orientations.schemas import OrientationListed


class ReferralSummary(Answer):
    """What a worklist shows: no name, no contact, no narrative."""

    id: Id
    status: ReferralStatus
    departement: DepartementCode
    commune: CommuneCode
    unit_id: Id | None
    post_id: Id | None
    channel: Channel
    urgency: Urgency
    principal_theme: Theme
    danger: bool
    minor: bool
    """One of the persons is a minor, or children were present (DOMAIN §3: danger, minor, and the two that follow are the flags of a referral)."""
    concerning_information_sent: bool
    reported_to_prosecutor: bool
    persons: int
    received_at: Instant
    first_contact_due_at: Instant
    """Until when the first contact is to be attempted: by the agreement of the post, else by the network's targets."""
    overdue: bool
    """That time has passed, the referral is open, and nobody was called yet."""
    first_contact_at: Instant | None
    """The first attempt to contact somebody whom the referral is there to help."""
    awaits_contact: bool
    """Somebody is still to be called; not where each of the persons refused, the alleged perpetrator aside."""
    changed_at: Instant
    version: int


class ReferralList(Answer):
    items: list[ReferralSummary]
    next: str | None


class CountOut(Answer):
    """`more`: there are more than `count`, which is as far as they are counted."""

    count: int
    more: bool


class StateCount(CountOut):
    status: ReferralStatus


class ReferralCounts(Answer):
    """Of the caller's posts or département: what waits in each state, and what is overdue whatever its state."""

    states: list[StateCount]
    overdue: CountOut
    post_absent: CountOut
    """Assigned or accepted, at a post that is suspended, vacant or closed."""
    given_up: CountOut
    """Closed, and a partner gave up or its service closed since, in the last 30 days."""


class StatusOut(Answer):
    """All that the police reads of its own referral."""

    id: Id
    external_reference: str
    unit_id: Id | None
    """The unit that referred, as it was received: a reference is unique for it. What is corrected since is not told."""
    status: PoliceStatus
    received_at: Instant


class StatusList(Answer):
    items: list[StatusOut]
    next: str | None


class ReferenceSearchIn(Body):
    """`unit_id`: that gave the reference, as it was received."""

    external_reference: Annotated[str, line(100)]
    unit_id: Id | None = None


class ReferralsFound(Answer):
    items: list[ReferralSummary]


class StatusesFound(Answer):
    items: list[StatusOut]


class OrientationList(Answer):
    items: list[OrientationListed]
    next: str | None


class OrientationStateCount(CountOut):
    status: OrientationStatus


class OrientationCounts(Answer):
    states: list[OrientationStateCount]
