"""Corrections of what was received. A field that is not given stays as it is; one that is given, even null, replaces what was there."""

from typing import Annotated, Any

from pydantic import AfterValidator, Field, model_validator

from libs.chassis.strict import Answer, Body, prose, wrong
from libs.contracts.types import CommuneCode, Id, Instant
from libs.contracts.vocabularies import Channel, ContactAgreement, KnownToServices, PersonRole, Role, Sex, Theme, Urgency
from services.referrals.domain import OLDEST_PERSON
from services.referrals.orientations.domain import Unfounded
from services.referrals.receiving.domain import Verdict
from services.referrals.schemas import MAX_PERSONS, Contact, Identity, Natinf, PersonContent, PersonIn, SafeContact, unique
from services.referrals.working.domain import CorrectionReason

_NULLABLE = {"unit_id", "penal", "narrative", "identity", "approximate_age", "contact", "safe_contact"}


class _Correction(Body):
    @model_validator(mode="after")
    def _something_is_given(self) -> Any:
        given = self.model_fields_set - {"reason", "person_id"}
        if not given:
            raise wrong("Rien n'est corrigé.")
        if any(getattr(self, name) is None for name in given - _NULLABLE):
            raise wrong("Ce qui ne peut pas manquer ne peut pas être vidé.")
        return self


class PersonCorrection(_Correction):
    person_id: Id
    role: PersonRole | None = None
    sex: Sex | None = None
    identity: Identity | None = None
    approximate_age: Annotated[int, Field(ge=0, le=OLDEST_PERSON)] | None = None
    contact: Contact | None = None
    safe_contact: SafeContact | None = None
    agreement: ContactAgreement | None = None
    """What the person said since. Refused: nobody contacts them any more, and their data is erased after a short delay."""
    known_to_services: KnownToServices | None = None


class CorrectionIn(_Correction):
    reason: CorrectionReason
    unit_id: Id | None = None
    commune: CommuneCode | None = None
    """Of the same département: another one's coordinator and posts could not see it."""
    occurred_at: Instant | None = None
    channel: Channel | None = None
    urgency: Urgency | None = None
    themes: Annotated[list[Theme], Field(min_length=1, max_length=10), AfterValidator(unique)] | None = None
    principal_theme: Theme | None = None
    penal: bool | None = None
    natinf: Annotated[list[Natinf], Field(max_length=20), AfterValidator(unique)] | None = None
    narrative: Annotated[str, prose(20_000)] | None = None
    danger: bool | None = None
    children_present: Annotated[int, Field(ge=0, le=50)] | None = None
    persons: Annotated[list[PersonCorrection], Field(min_length=1, max_length=MAX_PERSONS)] | None = None
    added: Annotated[list[PersonIn], Field(min_length=1, max_length=MAX_PERSONS)] | None = None
    """Persons of the situation who were forgotten, or of whom one learned since."""


class CorrectedOut(Answer):
    """`fields`: what the correction really changed, as JSON pointers into the referral."""

    id: Id
    referral_id: Id
    fields: list[str]
    corrected_at: Instant
    version: int
    post_id: Id | None
    """Which post has the referral now: one that had not accepted it goes where its unit, commune or channel lead."""
    warnings: list[Verdict | Unfounded]
    """What speaks against the post that has the referral, of which the unit, the commune or the channel was corrected; it keeps it all the same. And that a
    partner supports somebody on a legal ground which is not for who is of this age: the social worker decides what follows."""


class ChangeOut(Answer):
    """`before` and `after` of a code, place or date."""

    field: str
    before: str | int | bool | list[str] | list[int] | None
    after: str | int | bool | list[str] | list[int] | None


class ContentBefore(Answer):
    """What was sealed of a person before; `content` null once the person was erased."""

    person_id: Id
    content: PersonContent | None


class CorrectionOut(Answer):
    id: Id
    reason: CorrectionReason
    actor: str
    actor_role: Role | None
    corrected_at: Instant
    changes: list[ChangeOut]
    persons_before: list[ContentBefore]
    narrative_before: str | None


class CorrectionList(Answer):
    items: list[CorrectionOut]
