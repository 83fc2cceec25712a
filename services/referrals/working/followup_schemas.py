"""Interviews, assessments, their withdrawal and a contact's, and the timeline of a referral."""

from typing import Annotated

from pydantic import AfterValidator, Field

from libs.chassis.strict import Answer, Body
from libs.contracts.types import Code, Id, Instant
from libs.contracts.vocabularies import InterviewPlace, KnownToServices, Need, ReferralStatus, Role
from services.referrals.schemas import unique
from services.referrals.working.domain import Misnoted, OverrideReason


class InterviewIn(Body):
    person_ids: Annotated[list[Id], Field(min_length=1, max_length=50), AfterValidator(unique)]
    place: InterviewPlace
    duration_minutes: Annotated[int, Field(ge=1, le=24 * 60)]
    held_at: Instant
    override_reason: OverrideReason | None = None
    """Why a safe-contact rule had to be passed over, by phone or at home; audited. Of no effect where no rule forbids."""


class AssessmentIn(Body):
    person_id: Id
    needs: Annotated[list[Need], Field(max_length=18), AfterValidator(unique)]
    """Empty: assessed, and nothing is needed."""
    known_to_services: KnownToServices


class WithdrawIn(Body):
    reason: Misnoted


class ContactWithdrawnOut(Answer):
    """`first_contact_at`: that of the attempts that remain."""

    id: Id
    referral_id: Id
    first_contact_at: Instant | None
    version: int


class InterviewWithdrawnOut(Answer):
    id: Id
    referral_id: Id
    version: int


class AssessmentWithdrawnOut(Answer):
    """`known_to_services`: what holds of the person without it."""

    id: Id
    referral_id: Id
    person_id: Id
    known_to_services: KnownToServices
    version: int


class Step(Code):
    """What a line of the timeline tells; a move has its own code beside it."""

    RECEIVED = "received", "Saisine reçue"
    MOVED = "moved", "Changement d'état ou de poste"
    CONTACT = "contact", "Tentative de contact"
    CONTACT_WITHDRAWN = "contact_withdrawn", "Tentative de contact retirée"
    INTERVIEW = "interview", "Entretien"
    INTERVIEW_WITHDRAWN = "interview_withdrawn", "Entretien retiré"
    ASSESSMENT = "assessment", "Évaluation des besoins"
    ASSESSMENT_WITHDRAWN = "assessment_withdrawn", "Évaluation des besoins retirée"
    CORRECTION = "correction", "Correction"
    PERSON_JOINED = "person_joined", "Personne ajoutée"
    ALERT = "alert", "Information préoccupante ou signalement"
    ALERT_WITHDRAWN = "alert_withdrawn", "Information préoccupante ou signalement retiré"
    ORIENTATION_REQUESTED = "orientation_requested", "Orientation demandée"
    ORIENTATION_ACCEPTED = "orientation_accepted", "Orientation acceptée par le partenaire"
    ORIENTATION_REJECTED = "orientation_rejected", "Orientation refusée par le partenaire"
    ORIENTATION_STARTED = "orientation_started", "Accompagnement commencé par le partenaire"
    ORIENTATION_COMPLETED = "orientation_completed", "Accompagnement terminé par le partenaire"
    ORIENTATION_FAILED = "orientation_failed", "Orientation restée sans suite"
    ORIENTATION_EXPIRED = "orientation_expired", "Orientation expirée sans réponse"
    ORIENTATION_CANCELLED = "orientation_cancelled", "Orientation annulée"
    OVERDUE = "overdue", "Délai de premier contact dépassé"


class TimelineEntry(Answer):
    """`code`: the move, the mode of contact, the place of an interview, the kind of an alert, the need of an orientation, the danger that a correction
    flags or lifts; `reason`: a coded reason or result; `actor`: the subject of who did it, and `actor_role` the role: none where the service did, or an earlier
    version kept none; of what a partner answers the role alone is told."""

    at: Instant
    step: Step
    id: Id
    code: str | None
    status: ReferralStatus | None
    post_id: Id | None
    person_ids: list[Id]
    reason: str | None
    actor: str | None
    actor_role: Role | None
    duplicate_of: Id | None
    """The referral that was named as the original, of a closing as its duplicate."""


class TimelineOut(Answer):
    items: list[TimelineEntry]
