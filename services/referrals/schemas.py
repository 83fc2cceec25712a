"""What requests bring and answers say."""

from datetime import date
from typing import Annotated, TypeVar
from uuid import UUID

from pydantic import AfterValidator, ConfigDict, Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from libs.chassis.strict import Answer, Body, line, prose, wrong
from libs.contracts.types import CommuneCode, Day, DepartementCode, Id, Instant
from libs.contracts.vocabularies import (
    AgeBand,
    Channel,
    CloseReason,
    ContactAgreement,
    ContactMode,
    ContactResult,
    InterviewPlace,
    KnownToServices,
    LegalGround,
    Need,
    OrientationCancellation,
    OrientationFailure,
    OrientationOutcome,
    OrientationRejection,
    OrientationStatus,
    PartnerKind,
    PersonRole,
    ReferralStatus,
    RoutingReason,
    Sex,
    Theme,
    UnroutedReason,
    Urgency,
)
from services.referrals.domain import OLDEST, OLDEST_PERSON, Move, PoliceStatus
from services.referrals.orientations.domain import WITHDRAWN_BECAUSE, Mismatch, OrientationMove
from services.referrals.receiving.domain import Verdict
from services.referrals.working.domain import DeclineReason, Misnoted, OverrideReason

MAX_PERSONS = 50

T = TypeVar("T", str, int, UUID)


def unique(values: list[T]) -> list[T]:
    if len(set(values)) != len(values):
        raise PydanticCustomError("duplicate_items", "Une valeur est donnée deux fois.")
    return values


def _birth(day: date) -> date:
    if not OLDEST.date() <= day <= date(2100, 1, 1):
        raise PydanticCustomError("birth_date", "Cette date de naissance n'est pas possible.")
    return day


Hour = Annotated[str, Field(pattern=r"^(?:[01][0-9]|2[0-3]):[0-5][0-9]$", examples=["09:30"])]
Phone = Annotated[str, Field(pattern=r"^\+[1-9][0-9]{5,14}$", examples=["+33639980001"])]
"""International form (E.164), without spaces."""
Email = Annotated[
    str,
    Field(
        max_length=254, pattern=r"^[A-Za-z0-9._%+-]{1,64}@(?:[A-Za-z0-9-]{1,63}\.)+[A-Za-z]{2,63}$", examples=["camille@exemple.invalid"]
    ),
]
Natinf = Annotated[int, Field(ge=1, le=99_999)]
"""A number of the offence nomenclature: up to five digits (DOMAIN §7)."""


class Identity(Body):
    family_name: Annotated[str, line(100)]
    given_name: Annotated[str, line(100)]
    birth_on: Annotated[Day, AfterValidator(_birth)] | None = None


class Contact(Body):
    phones: Annotated[list[Phone], Field(max_length=5), AfterValidator(unique)] = Field(default_factory=list)
    email: Email | None = None
    address: Annotated[str, line(300)] | None = None


class ContactWindow(Body):
    """When it is safe, on the days of the week 1 (Monday) to 7, in local time."""

    days: Annotated[list[Annotated[int, Field(ge=1, le=7)]], Field(min_length=1, max_length=7), AfterValidator(unique)]
    begins: Hour
    ends: Hour


class SafeContact(Body):
    """In couple violence a call at the wrong hour endangers (DOMAIN §3). These rules travel with every orientation."""

    modes: Annotated[list[ContactMode], Field(max_length=6), AfterValidator(unique)]
    """The only ways to contact this person."""
    windows: Annotated[list[ContactWindow], Field(max_length=14)] = Field(default_factory=list)
    voicemail_allowed: bool
    text_allowed: bool
    read_by_others: bool
    """Whether somebody else may be reading the telephone."""
    code_word: Annotated[str, line(60)] | None = None
    note: Annotated[str, prose(500)] | None = None


class PersonIn(Body):
    role: PersonRole
    sex: Sex
    identity: Identity | None = None
    approximate_age: Annotated[int, Field(ge=0, le=OLDEST_PERSON)] | None = None
    """In years, when the date of birth is not known."""
    contact: Contact | None = None
    safe_contact: SafeContact | None = None
    agreement: ContactAgreement
    known_to_services: KnownToServices = KnownToServices.NOT_KNOWN_WHETHER


class ReferralIn(Body):
    """A referral (saisine) as police software posts it. DOMAIN §3."""

    external_reference: Annotated[str, line(100)]
    """The caller's own number of the case, unique for the unit (without a unit: for the caller). Opaque; never shown to others."""
    unit_id: Id | None = None
    """The unit that refers, as in the directory (partners, GET /v1/units); without it the referral is routed by its commune."""
    commune: CommuneCode
    """Where it happened."""
    occurred_at: Instant
    channel: Channel
    urgency: Urgency
    themes: Annotated[list[Theme], Field(min_length=1, max_length=10), AfterValidator(unique)]
    principal_theme: Theme
    """One of `themes`."""
    penal: bool | None = None
    natinf: Annotated[list[Natinf], Field(max_length=20), AfterValidator(unique)] = Field(default_factory=list)
    narrative: Annotated[str, prose(20_000)] | None = None
    danger: bool = False
    children_present: Annotated[int, Field(ge=0, le=50)] = 0
    persons: Annotated[list[PersonIn], Field(min_length=1, max_length=MAX_PERSONS)]

    @field_validator("principal_theme")
    @classmethod
    def _principal_is_a_theme(cls, value: Theme, info: ValidationInfo) -> Theme:
        if value not in info.data.get("themes", [value]):  # no themes: they are wrong themselves, and said to be
            raise PydanticCustomError("principal_theme", "Le thème principal doit être l'un des thèmes.")
        return value


class Receipt(Answer):
    """Proof of what was received: `signature` is a detached JWS (ES256, keys at /v1/keys, `typ` vnd.maillon.receipt+jws) over `statement`, which names
    the SHA-256 of the request's body, or of its line in a batch."""

    statement: str
    signature: str


class ReferralReceivedOut(Answer):
    id: Id
    status: PoliceStatus
    received_at: Instant
    version: int
    receipt: Receipt


class PersonOut(Answer):
    id: Id
    role: PersonRole
    sex: Sex
    age_band: AgeBand
    agreement: ContactAgreement
    known_to_services: KnownToServices
    erased: bool
    identity: Identity | None
    approximate_age: int | None
    contact: Contact | None
    safe_contact: SafeContact | None


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
    changed_at: Instant
    version: int


class ContactOut(Answer):
    id: Id
    person_id: Id
    mode: ContactMode
    result: ContactResult
    attempted_at: Instant
    override_reason: OverrideReason | None
    """Why a safe-contact rule was passed over."""
    withdrawn_at: Instant | None
    """It was noted by mistake, and counts no longer."""
    withdrawn_because: Misnoted | None


class OrientationSummary(Answer):
    id: Id
    referral_id: Id
    person_id: Id
    post_id: Id
    service_id: Id
    organization_id: Id
    partner_kind: PartnerKind
    need: Need
    status: OrientationStatus
    reason: str | None
    outcome: OrientationOutcome | None
    replaces_id: Id | None
    """The orientation that came to nothing before; not told to partners."""
    legal_ground: LegalGround | None
    """On what it rests, when the person did not agree."""
    requested_at: Instant
    expires_at: Instant
    answered_at: Instant | None
    updated_at: Instant | None
    """When what is told with it of the person or the situation last became another: read it again before calling."""
    ended_at: Instant | None
    version: int


class PersonFound(Answer):
    """A person in a referral, without content."""

    person_id: Id
    referral_id: Id
    role: PersonRole
    status: ReferralStatus
    received_at: Instant
    closed_at: Instant | None


class AlreadyKnownOut(Answer):
    """A person who was in earlier referrals: those the caller may read; `elsewhere`: there are others, of which no more is told."""

    person_id: Id
    referrals: list[PersonFound]
    elsewhere: bool


class PersonSearchIn(Body):
    """Accents, case, apostrophes and further given names do not matter, nor whether a double name is written with a hyphen or a space; its first part alone
    does not find who was received under both with a hyphen (`Jean` finds `Jean Pierre`, not `Jean-Pierre`).

    `birth_on`: whose birth date is known is found with it alone; without it, who is known by name and by no birth date (an approximate age): search both ways. Who
    is known by no name is found through the referral.
    """

    family_name: Annotated[str, line(100)]
    given_name: Annotated[str, line(100)]
    birth_on: Annotated[Day, AfterValidator(_birth)] | None = None


class PersonsFound(Answer):
    items: list[PersonFound]


class InterviewOut(Answer):
    id: Id
    referral_id: Id
    person_ids: list[Id]
    place: InterviewPlace
    duration_minutes: int
    held_at: Instant
    withdrawn_at: Instant | None
    withdrawn_because: Misnoted | None


class AssessmentOut(Answer):
    id: Id
    referral_id: Id
    person_id: Id
    needs: list[Need]
    known_to_services: KnownToServices
    recorded_at: Instant


class ReferralOut(ReferralSummary):
    """Everything, for the social worker and the coordinator. `moves`: what the caller may do next."""

    themes: list[Theme]
    penal: bool | None
    natinf: list[int]
    children_present: int
    occurred_at: Instant
    narrative: str | None
    people: list[PersonOut]
    already_known: list[AlreadyKnownOut]
    contacts: list[ContactOut]
    interviews: list[InterviewOut]
    assessments: list[AssessmentOut]
    orientations: list[OrientationSummary]
    accepted_at: Instant | None
    closed_at: Instant | None
    close_reason: CloseReason | None
    moves: list[Move]


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


class ConsideredOut(Answer):
    post_id: Id
    by: RoutingReason
    verdict: Verdict
    open_referrals: int | None
    replaces_id: Id | None
    """The absent post for which it stands in."""


class RoutingOut(Answer):
    """Why a referral is where it is: the posts that cover its unit or commune, and what spoke for or against each."""

    post_id: Id | None
    reason: RoutingReason | UnroutedReason
    considered: list[ConsideredOut]
    decided_at: Instant


class StatusOut(Answer):
    """All that the police reads of its own referral."""

    id: Id
    external_reference: str
    status: PoliceStatus
    received_at: Instant


class StatusList(Answer):
    items: list[StatusOut]
    next: str | None


class StatusSearchIn(Body):
    external_reference: Annotated[str, line(100)]
    unit_id: Id | None = None


class StatusesFound(Answer):
    items: list[StatusOut]


class MovedOut(Answer):
    """A referral after a move."""

    id: Id
    status: ReferralStatus
    post_id: Id | None
    version: int
    warnings: list[Verdict]
    """What speaks against the post that was chosen; it is given the referral all the same."""


class AssignIn(Body):
    post_id: Id


class TransferIn(Body):
    post_id: Id


class DeclineIn(Body):
    reason: DeclineReason


class CloseIn(Body):
    reason: CloseReason


class ContactIn(Body):
    person_id: Id
    mode: ContactMode
    result: ContactResult
    attempted_at: Instant
    override_reason: OverrideReason | None = None
    """Why a safe-contact rule has to be passed over; kept and audited. Of no effect where no rule forbids."""
    agreement: ContactAgreement | None = None
    """What the person who was reached said about being contacted; to be said of who was not asked before. Noted as a correction."""


class ContactMadeOut(Answer):
    id: Id
    referral_id: Id
    person_id: Id
    mode: ContactMode
    result: ContactResult
    attempted_at: Instant
    first: bool
    """Whether it is the referral's first attempt, which the target delay counts."""
    delay_minutes: int
    override_reason: OverrideReason | None


class OrientationIn(Body):
    person_id: Id
    service_id: Id
    need: Need
    replaces_id: Id | None = None
    """Of the same person: one that was rejected, expired or failed."""
    legal_ground: LegalGround | None = None
    """On what it rests when the person did not agree; kept and audited."""


class OrientationRequestedOut(OrientationSummary):
    warnings: list[Mismatch]
    """Why it may not fit; it was sent all the same."""


class OrientationOut(OrientationSummary):
    """For the organization that is asked: the person concerned, and how to contact that person safely; nothing of anybody else.

    `reason_text`: what the organization wrote when it rejected; nothing any more once the person was erased.
    """

    departement: DepartementCode
    commune: CommuneCode
    urgency: Urgency
    danger: bool
    reason_text: str | None
    person: PersonOut
    moves: list[OrientationMove]


class OrientationList(Answer):
    items: list[OrientationSummary]
    next: str | None


class OrientationStateCount(CountOut):
    status: OrientationStatus


class OrientationCounts(Answer):
    states: list[OrientationStateCount]


class LinkMade(Answer):
    id: Id
    orientation_id: Id
    expires_at: Instant


class LinkOut(LinkMade):
    """`url`: to be handed to the partner only. It answers once, and no longer when another one is made."""

    url: str


class RejectIn(Body):
    """`reason_text` is needed where the code says nothing, and welcome beside the others (a place in three weeks): it is sealed with what is known of the person."""

    reason: OrientationRejection
    reason_text: Annotated[str, prose(1_000)] | None = None

    @field_validator("reason_text")
    @classmethod
    def _other_says_what(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is None and info.data.get("reason") is OrientationRejection.OTHER:
            raise wrong("Précisez en quelques mots le motif du refus.")
        return value

    model_config = ConfigDict(validate_default=True)


class CompleteIn(Body):
    outcome: OrientationOutcome


class FailIn(Body):
    reason: OrientationFailure


class CancelIn(Body):
    reason: OrientationCancellation
    """A person's: that the person concerned refused to be contacted, or was erased, is said where it is noted."""

    @field_validator("reason")
    @classmethod
    def _is_a_persons(cls, value: OrientationCancellation) -> OrientationCancellation:
        if value in WITHDRAWN_BECAUSE:
            raise wrong("Ce motif est celui du service : notez le refus ou l'effacement de la personne, ou choisissez un autre motif.")
        return value


class PersonContent(Body):
    """What is sealed of a person, as JSON."""

    identity: Identity | None
    approximate_age: int | None
    contact: Contact | None
    safe_contact: SafeContact | None
