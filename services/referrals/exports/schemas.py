"""An export: what is held on one person of a referral."""

from libs.chassis.strict import Answer
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
    OrientationOutcome,
    OrientationStatus,
    PartnerKind,
    PersonRole,
    Purpose,
    ReferralStatus,
    Role,
    Sex,
    Theme,
    Urgency,
)
from services.referrals.domain import Move
from services.referrals.rights.erasure import ErasureCause
from services.referrals.rights.schemas import Acknowledgement
from services.referrals.schemas import Contact, Identity, PersonContent, SafeContact
from services.referrals.working.corrections_schemas import ChangeOut
from services.referrals.working.domain import CorrectionReason, Misnoted, OverrideReason
from services.referrals.working.safe_contact import SafeRule


class ExportedPerson(Answer):
    """`found_by_identity`, `found_by_name`: whether a keyed hash of names and birth date, and of the names alone, is kept, by which the person is found again."""

    id: Id
    role: PersonRole
    sex: Sex
    age_band: AgeBand
    agreement: ContactAgreement
    refused_at: Instant | None
    known_to_services: KnownToServices
    identity: Identity | None
    approximate_age: int | None
    contact: Contact | None
    safe_contact: SafeContact | None
    found_by_identity: bool
    found_by_name: bool
    erased: bool


class ExportedReferral(Answer):
    """The situation as it is noted now. `alone`: nobody but this victim is in it; else what may speak of others is left out (`left_out` says what), and `null`
    here: what was received is corrected by what somebody tells."""

    id: Id
    status: ReferralStatus
    received_at: Instant
    occurred_at: Instant
    commune: CommuneCode
    departement: DepartementCode
    unit_id: Id | None
    post_id: Id | None
    channel: Channel | None
    urgency: Urgency | None
    principal_theme: Theme | None
    themes: list[Theme] | None
    penal: bool | None
    natinf: list[int] | None
    danger: bool | None
    children_present: int | None
    accepted_at: Instant | None
    closed_at: Instant | None
    close_reason: CloseReason | None
    duplicate_of: Id | None
    narrative: str | None
    alone: bool


class ExportedMove(Answer):
    id: Id
    at: Instant
    move: Move
    status: ReferralStatus
    post_id: Id | None
    reason: str | None


class ExportedOverdue(Answer):
    id: Id
    due_at: Instant
    noticed_at: Instant


class ExportedContact(Answer):
    id: Id
    attempted_at: Instant
    mode: ContactMode
    result: ContactResult
    post_id: Id
    override_reason: OverrideReason | None
    overridden: list[SafeRule]
    withdrawn_at: Instant | None
    withdrawn_because: Misnoted | None


class ExportedInterview(Answer):
    id: Id
    held_at: Instant
    place: InterviewPlace
    duration_minutes: int
    post_id: Id
    withdrawn_at: Instant | None
    withdrawn_because: Misnoted | None


class ExportedAssessment(Answer):
    id: Id
    recorded_at: Instant
    needs: list[Need]
    known_to_services: KnownToServices
    post_id: Id
    withdrawn_at: Instant | None
    withdrawn_because: Misnoted | None


class ExportedLink(Answer):
    id: Id
    created_at: Instant
    expires_at: Instant
    used_at: Instant | None
    revoked_at: Instant | None


class ExportedOrientation(Answer):
    """To whom the person was oriented. `links`: answer links sent to a partner without account."""

    id: Id
    organization_id: Id
    service_id: Id
    partner_kind: PartnerKind
    need: Need
    status: OrientationStatus
    reason: str | None
    reason_text: str | None
    outcome: OrientationOutcome | None
    replaces_id: Id | None
    legal_ground: LegalGround | None
    post_id: Id
    requested_at: Instant
    expires_at: Instant
    reminded_at: Instant | None
    answered_at: Instant | None
    started_at: Instant | None
    updated_at: Instant | None
    ended_at: Instant | None
    links: list[ExportedLink]


class ExportedCorrection(Answer):
    id: Id
    corrected_at: Instant
    reason: CorrectionReason
    changes: list[ChangeOut]
    before: PersonContent | None
    """What was sealed of the person before."""
    narrative_before: str | None


class ExportedNotice(Answer):
    """`state`: whether who was told in this stream has confirmed the erasure of their copies, and how."""

    stream: str
    state: Acknowledgement
    acknowledged_at: Instant | None


class ExportedErasure(Answer):
    """`notices`: who was told to erase too, and when they had."""

    id: Id
    erased_at: Instant
    cause: ErasureCause
    notices: list[ExportedNotice]


class Recipient(Answer):
    """Who was told facts of this situation as it went on, and which (types of events); `pseudonym`: without an id that leads back to it."""

    stream: str
    label: str
    facts: list[str]
    pseudonym: bool


class Reading(Answer):
    """Who read content, by role and structure; no employee is named (CJEU C-579/21)."""

    at: Instant
    operation: str
    label: str
    role: Role
    organization: Id | None
    purpose: Purpose | None


class LeftOut(Answer):
    what: str
    why: str


class ExportOut(Answer):
    """`kept_until`: the end of the retention, counted from the last contact so far; none while the referral is open, nor once erased.
    `kept_because` says what holds, in words for the person. `names`: how the directory calls the ids and the codes of communes that stand in it."""

    made_at: Instant
    person: ExportedPerson
    referral: ExportedReferral
    moves: list[ExportedMove]
    overdues: list[ExportedOverdue]
    contacts: list[ExportedContact]
    interviews: list[ExportedInterview]
    assessments: list[ExportedAssessment]
    orientations: list[ExportedOrientation]
    corrections: list[ExportedCorrection]
    erasures: list[ExportedErasure]
    recipients: list[Recipient]
    readings: list[Reading]
    kept_until: Day | None
    kept_because: str
    left_out: list[LeftOut]
    names: dict[str, str]
