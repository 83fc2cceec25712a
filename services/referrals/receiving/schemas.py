"""What the police sends and is answered, why a referral is routed where it is, and the persons found again."""

from typing import Annotated

from pydantic import AfterValidator, Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from libs.chassis.strict import Answer, Body, line, prose
from libs.contracts.types import CommuneCode, Id, Instant
from libs.contracts.vocabularies import AgeBand, Channel, PersonRole, ReferralStatus, RoutingReason, Sex, Theme, UnroutedReason, Urgency
from services.referrals.domain import PoliceStatus
from services.referrals.receiving.domain import Verdict
from services.referrals.schemas import MAX_PERSONS, Birth, Natinf, PersonIn, unique


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


class PersonFound(Answer):
    """A person in a referral, without content. By their sex and age band two of one name are told apart."""

    person_id: Id
    referral_id: Id
    role: PersonRole
    sex: Sex
    age_band: AgeBand
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

    Without `birth_on` everybody of that name is found; with it, who was born that day: not who is known by no birth date (an approximate age). Who is known by
    no name is found through the referral.
    """

    family_name: Annotated[str, line(100)]
    given_name: Annotated[str, line(100)]
    birth_on: Birth | None = None


class PersonsFound(Answer):
    items: list[PersonFound]


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
    corrected_at: Instant | None
    """The unit, the commune or the channel was corrected since: what is told is of before."""
