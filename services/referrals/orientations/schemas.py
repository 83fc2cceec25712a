"""What is asked of a partner, told to it, and answered."""

from typing import Annotated

from pydantic import ConfigDict, ValidationInfo, field_validator

from libs.chassis.strict import Answer, Body, prose, wrong
from libs.contracts.types import CommuneCode, DepartementCode, Id, Instant
from libs.contracts.vocabularies import (
    LegalGround,
    Need,
    OrientationCancellation,
    OrientationFailure,
    OrientationOutcome,
    OrientationRejection,
    OrientationStatus,
    PartnerKind,
    Urgency,
)
from services.referrals.orientations.domain import WITHDRAWN_BECAUSE, Mismatch, OrientationMove
from services.referrals.schemas import PersonOut


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


class OrientationNamed(OrientationSummary):
    """With the names in the directory; none while its list was not read."""

    service_name: str | None
    organization_name: str | None


class OrientationListed(OrientationNamed):
    """With how urgent the situation is now; its partner is told no more of it once the orientation has ended."""

    urgency: Urgency | None
    danger: bool | None


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


class OrientationOut(OrientationNamed):
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
