"""What requests and answers about alerts and requisitions hold."""

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from libs.chassis.strict import Answer, Body, line, prose
from libs.contracts.types import Code, CommuneCode, DepartementCode, Id, Instant
from libs.contracts.vocabularies import AlertKind
from services.referrals.schemas import MAX_PERSONS, unique

Persons = Annotated[list[Id], Field(max_length=MAX_PERSONS), AfterValidator(unique)]
Reference = Annotated[str, line(100)]
Words = Annotated[str, prose(5_000)]


class AlertWords(BaseModel):
    """What is sealed of an alert."""

    model_config = ConfigDict(extra="forbid")

    reference: str | None
    note: str | None


class AlertIn(Body):
    """An information préoccupante goes to the CRIP of a département (the referral's, unless another is named); a report to the prosecutor to a
    court, named by the commune of its seat."""

    kind: AlertKind
    departement: DepartementCode | None = None
    court: CommuneCode | None = None
    person_ids: Persons
    """Whom it concerns. None: children who were present and are not among the persons of the referral."""
    sent_at: Instant
    reference: Reference | None = None
    """Given by the addressee."""
    note: Words | None = None

    @field_validator("court")
    @classmethod
    def _court_of_a_prosecutor(cls, value: CommuneCode | None, info: ValidationInfo) -> CommuneCode | None:
        kind = info.data.get("kind")
        if kind is AlertKind.PROSECUTOR_REPORT and value is None:
            raise PydanticCustomError("court", "Indiquez la commune où siège le tribunal judiciaire.")
        if kind is AlertKind.CONCERNING_INFORMATION and value is not None:
            raise PydanticCustomError("court", "Une information préoccupante va au département, pas à un tribunal.")
        if value is not None and info.data.get("departement") is not None:
            raise PydanticCustomError("court", "Un signalement va à un tribunal : n'indiquez pas de département.")
        return value

    model_config = ConfigDict(validate_default=True)


class Mistake(Code):
    """Why an alert is withdrawn: what was really sent cannot be called back, nor does it go from here."""

    NOT_SENT = "not_sent", "L'envoi n'a pas eu lieu"
    NOTED_TWICE = "noted_twice", "Noté deux fois"
    OTHER_REFERRAL = "other_referral", "L'envoi concerne une autre saisine"
    WRONG_ENTRY = "wrong_entry", "Erreur de saisie : un autre envoi est noté à sa place"


class WithdrawAlertIn(Body):
    reason: Mistake


class AlertOut(Answer):
    """`court`: the commune where it sits. `reference`, `note`: nothing any more once those it concerns were erased. `withdrawn_at`: it was noted by mistake."""

    id: Id
    referral_id: Id
    kind: AlertKind
    departement: DepartementCode
    court: CommuneCode | None
    person_ids: list[Id]
    sent_at: Instant
    recorded_at: Instant
    recorded_by: str
    reference: str | None
    note: str | None
    erased: bool
    withdrawn_at: Instant | None
    withdrawn_because: Mistake | None


class AlertMadeOut(Answer):
    id: Id
    referral_id: Id
    version: int


class AlertList(Answer):
    items: list[AlertOut]


class Ground(Code):
    """On what a requisition rests (code de procédure pénale)."""

    CPP_60_1 = "cpp_60_1", "Enquête de flagrance (CPP, article 60-1)"
    CPP_77_1_1 = "cpp_77_1_1", "Enquête préliminaire (CPP, article 77-1-1)"
    CPP_99_3 = "cpp_99_3", "Commission rogatoire (CPP, article 99-3)"
    OTHER = "other", "Autre fondement"


class Authority(Code):
    """Who signed it."""

    JUDICIAL_POLICE = "judicial_police", "Officier ou agent de police judiciaire"
    PROSECUTOR = "prosecutor", "Procureur de la République"
    INVESTIGATING_JUDGE = "investigating_judge", "Juge d'instruction"
    OTHER = "other", "Autre autorité"


class Held(Code):
    """What is held of a situation, as far as it may be asked for and handed over."""

    IDENTITY = "identity", "Identité"
    CONTACT = "contact", "Coordonnées"
    FACTS = "facts", "Faits reçus de l'unité"
    NARRATIVE = "narrative", "Récit"
    FOLLOW_UP = "follow_up", "Contacts et entretiens"
    ASSESSMENT = "assessment", "Évaluation"
    ORIENTATIONS = "orientations", "Orientations"
    ALERTS = "alerts", "Information préoccupante, signalement"


Things = Annotated[list[Held], Field(max_length=8), AfterValidator(unique)]


class RequisitionWords(BaseModel):
    """What is sealed of a requisition."""

    model_config = ConfigDict(extra="forbid")

    authority_name: str
    reference: str
    scope: str


class RequisitionIn(Body):
    """One entry of the register. `corrects_id`: the entry that it replaces, which stays."""

    ground: Ground
    authority: Authority
    authority_name: Annotated[str, line(200)]
    reference: Reference
    """The authority's own number (procès-verbal, parquet)."""
    scope: Words
    """What is asked for, in the words of the requisition."""
    asked: Things
    person_ids: Persons
    received_at: Instant
    handed_over: Things = Field(default_factory=list)
    handed_over_at: Instant | None = None
    """When it was answered; with nothing handed over: answered that nothing is held, or that professional secrecy was opposed."""
    corrects_id: Id | None = None

    @field_validator("handed_over_at")
    @classmethod
    def _answered_when(cls, value: Instant | None, info: ValidationInfo) -> Instant | None:
        if value is None and info.data.get("handed_over"):
            raise PydanticCustomError("handed_over_at", "Indiquez quand ces données ont été remises.")
        received = info.data.get("received_at")
        if value is not None and received is not None and value < received:
            raise PydanticCustomError("handed_over_at", "La remise ne peut pas précéder la réception de la réquisition.")
        return value

    model_config = ConfigDict(validate_default=True)


class RequisitionSummary(Answer):
    """Codes only: no name, no reference, no words. `corrected_by_id`: the later entry that holds in its place."""

    id: Id
    referral_id: Id
    departement: DepartementCode
    ground: Ground
    authority: Authority
    asked: list[Held]
    person_ids: list[Id]
    received_at: Instant
    handed_over: list[Held]
    handed_over_at: Instant | None
    recorded_at: Instant
    recorded_by: str
    corrects_id: Id | None
    corrected_by_id: Id | None
    erased: bool


class RequisitionOut(RequisitionSummary):
    """`authority_name`, `reference`, `scope`: nothing any more once those it concerns were erased; the rest stays."""

    authority_name: str | None
    reference: str | None
    scope: str | None


class RequisitionList(Answer):
    items: list[RequisitionSummary]
    next: str | None
