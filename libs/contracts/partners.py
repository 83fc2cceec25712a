"""What the partners service says. Each fact carries the whole state a listener needs for its own copy: an upsert is enough."""

from typing import ClassVar

from pydantic import Field

from libs.contracts.envelope import Classification, Event
from libs.contracts.types import CommuneCode, Count, Day, DepartementCode, Id, Instant
from libs.contracts.vocabularies import AgeBand, Channel, Force, Need, PartnerKind, PostForce, Sex, UnitKind


class PartnersEvent(Event):
    classification: ClassVar[Classification] = "public"

    departement: DepartementCode


class OrganizationEvent(PartnersEvent):
    aggregate: ClassVar[tuple[str, str]] = ("organizations", "organization_id")

    organization_id: Id


class OrganizationRegistered(OrganizationEvent):
    type: ClassVar[str] = "fr.maillon.organization.registered.v1"

    kind: PartnerKind
    offence_data_allowed: bool
    """Whether the law lets this body process offence data (GDPR art. 10, LIL art. 46); false unless it was shown."""
    registered_at: Instant


class OrganizationChanged(OrganizationEvent):
    type: ClassVar[str] = "fr.maillon.organization.changed.v1"

    kind: PartnerKind
    offence_data_allowed: bool
    changed_at: Instant


class OrganizationClosed(OrganizationEvent):
    type: ClassVar[str] = "fr.maillon.organization.closed.v1"

    closed_at: Instant


class ServiceEvent(PartnersEvent):
    aggregate: ClassVar[tuple[str, str]] = ("services", "service_id")

    service_id: Id
    organization_id: Id


class ServiceRegistered(ServiceEvent):
    """`communes` lists what it covers; empty means the whole département.

    `capacity` is the number of people it can take now, `None` when unlimited. `sexes` and `age_bands` list whom it takes; empty means anybody.
    """

    type: ClassVar[str] = "fr.maillon.service.registered.v1"

    kind: PartnerKind
    needs: tuple[Need, ...] = Field(min_length=1, max_length=18)
    communes: tuple[CommuneCode, ...] = Field(max_length=1000)
    capacity: Count | None
    registered_at: Instant
    sexes: tuple[Sex, ...] = Field(default=(), max_length=3)
    age_bands: tuple[AgeBand, ...] = Field(default=(), max_length=10)


class ServiceChanged(ServiceEvent):
    type: ClassVar[str] = "fr.maillon.service.changed.v1"

    kind: PartnerKind
    needs: tuple[Need, ...] = Field(min_length=1, max_length=18)
    communes: tuple[CommuneCode, ...] = Field(max_length=1000)
    capacity: Count | None
    changed_at: Instant
    sexes: tuple[Sex, ...] = Field(default=(), max_length=3)
    age_bands: tuple[AgeBand, ...] = Field(default=(), max_length=10)


class ServiceClosed(ServiceEvent):
    type: ClassVar[str] = "fr.maillon.service.closed.v1"

    closed_at: Instant


class CapacityChanged(ServiceEvent):
    type: ClassVar[str] = "fr.maillon.capacity.changed.v1"

    capacity: Count | None
    changed_at: Instant


class UnitEvent(PartnersEvent):
    aggregate: ClassVar[tuple[str, str]] = ("units", "unit_id")

    unit_id: Id


class UnitRegistered(UnitEvent):
    """`communes`: where the unit is competent (the Interior's public jurisdiction file)."""

    type: ClassVar[str] = "fr.maillon.unit.registered.v1"

    force: Force
    kind: UnitKind
    communes: tuple[CommuneCode, ...] = Field(max_length=1000)
    registered_at: Instant


class UnitChanged(UnitEvent):
    type: ClassVar[str] = "fr.maillon.unit.changed.v1"

    force: Force
    kind: UnitKind
    communes: tuple[CommuneCode, ...] = Field(max_length=1000)
    changed_at: Instant


class UnitClosed(UnitEvent):
    type: ClassVar[str] = "fr.maillon.unit.closed.v1"

    closed_at: Instant


class PostEvent(PartnersEvent):
    """Every fact of a post names its employer: it is told to the employer's own stream too (audiences.py)."""

    aggregate: ClassVar[tuple[str, str]] = ("posts", "post_id")

    post_id: Id
    employer_id: Id


class PostOpened(PostEvent):
    """`channels` empty means that the post accepts every channel; an agreement may say otherwise (agreement.signed)."""

    type: ClassVar[str] = "fr.maillon.post.opened.v1"

    force: PostForce
    full_time_percent: int = Field(ge=1, le=100)
    channels: tuple[Channel, ...] = Field(max_length=9)
    units: tuple[Id, ...] = Field(max_length=500)
    communes: tuple[CommuneCode, ...] = Field(max_length=1000)
    """Communes covered directly, besides those of its units."""
    filled: bool
    opened_on: Day
    opened_at: Instant


class PostFilled(PostEvent):
    type: ClassVar[str] = "fr.maillon.post.filled.v1"

    filled_at: Instant


class PostVacant(PostEvent):
    type: ClassVar[str] = "fr.maillon.post.vacant.v1"

    vacant_at: Instant


class PostSuspended(PostEvent):
    type: ClassVar[str] = "fr.maillon.post.suspended.v1"

    suspended_at: Instant
    until_on: Day | None = None
    """The last day of the absence: the day after, the post is said to be what it was before. `None`: until somebody says so."""
    replacement_post_id: Id | None = None
    """The post that takes over its coverage meanwhile."""


class PostClosed(PostEvent):
    type: ClassVar[str] = "fr.maillon.post.closed.v1"

    closed_at: Instant


class CoverageChanged(PostEvent):
    """The post's whole coverage, after the change."""

    type: ClassVar[str] = "fr.maillon.coverage.changed.v1"

    units: tuple[Id, ...] = Field(max_length=500)
    communes: tuple[CommuneCode, ...] = Field(max_length=1000)
    changed_at: Instant


EVENTS: tuple[type[Event], ...] = (
    OrganizationRegistered,
    OrganizationChanged,
    OrganizationClosed,
    ServiceRegistered,
    ServiceChanged,
    ServiceClosed,
    CapacityChanged,
    UnitRegistered,
    UnitChanged,
    UnitClosed,
    PostOpened,
    PostFilled,
    PostVacant,
    PostSuspended,
    PostClosed,
    CoverageChanged,
)
