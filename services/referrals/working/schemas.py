"""A referral as the social worker reads it, its moves, and the contacts noted in it."""

from typing import Annotated

from libs.chassis.strict import Answer, Body, line
from libs.contracts.types import Id, Instant
from libs.contracts.vocabularies import (
    CloseReason,
    ContactAgreement,
    ContactMode,
    ContactResult,
    InterviewPlace,
    KnownToServices,
    Need,
    ReferralStatus,
    Theme,
)
from services.referrals.domain import Move
from services.referrals.orientations.schemas import OrientationNamed
from services.referrals.receiving.domain import Verdict
from services.referrals.receiving.schemas import AlreadyKnownOut
from services.referrals.schemas import PersonNumbered
from services.referrals.working.domain import DeclineReason, Misnoted, OverrideReason
from services.referrals.worklists.schemas import ReferralSummary


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
    withdrawn_at: Instant | None
    withdrawn_because: Misnoted | None


class ReferralOut(ReferralSummary):
    """Everything, for the social worker and the coordinator. `moves`: what the caller may do next."""

    external_reference: str
    """The police's own number of the case, by which it and the social worker speak of it."""
    themes: list[Theme]
    penal: bool | None
    natinf: list[int]
    children_present: int
    occurred_at: Instant
    narrative: str | None
    people: list[PersonNumbered]
    already_known: list[AlreadyKnownOut]
    contacts: list[ContactOut]
    interviews: list[InterviewOut]
    assessments: list[AssessmentOut]
    orientations: list[OrientationNamed]
    accepted_at: Instant | None
    closed_at: Instant | None
    close_reason: CloseReason | None
    duplicate_of: Id | None
    """The referral that it repeats, where the closing named it."""
    duplicates: list[Id]
    """Those that are closed as repeating it, within the caller's perimeter."""
    moves: list[Move]


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
    """A duplicate names the referral that it repeats, within the caller's perimeter, by one of the two."""

    reason: CloseReason
    duplicate_of: Id | None = None
    duplicate_reference: Annotated[str, line(100)] | None = None
    """The police's own number of the original, in the same département."""


class ContactIn(Body):
    person_id: Id
    mode: ContactMode
    result: ContactResult
    attempted_at: Instant
    override_reason: OverrideReason | None = None
    """Why a safe-contact rule has to be passed over; kept and audited. Of no effect where no rule forbids."""
    agreement: ContactAgreement | None = None
    """What the person who was reached said about being contacted; to be said of who was not asked before. Noted as a correction;
    `not_asked` changes nothing of what somebody said earlier."""


class ContactMadeOut(Answer):
    id: Id
    referral_id: Id
    person_id: Id
    mode: ContactMode
    result: ContactResult
    attempted_at: Instant
    first: bool
    """Whether it is the first attempt to contact somebody whom the referral is there to help, which the target delay counts."""
    delay_minutes: int
    override_reason: OverrideReason | None
