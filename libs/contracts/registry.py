"""What there is: every event by its type, every speaker and what it says, every vocabulary that `GET /v1/vocabularies` serves."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from libs.contracts import funding, partners, referrals, reporting
from libs.contracts import vocabularies as v
from libs.contracts.envelope import Event
from libs.contracts.territories import COG_EDITION, DEPARTEMENTS, REGIONS
from libs.contracts.types import Code

SPEAKERS: Final[Mapping[str, tuple[type[Event], ...]]] = MappingProxyType(
    {
        "referrals": referrals.EVENTS,
        "partners": partners.EVENTS,
        "funding": funding.EVENTS,
        "reporting": reporting.EVENTS,
    }
)
"""Service -> the event types it says."""

EVENTS: Final[Mapping[str, type[Event]]] = MappingProxyType({event.type: event for events in SPEAKERS.values() for event in events})
"""CloudEvents type -> event."""

SPEAKER_OF: Final[Mapping[str, str]] = MappingProxyType({event.type: service for service, events in SPEAKERS.items() for event in events})
"""CloudEvents type -> service."""


class Term(NamedTuple):
    """One code, its French label and, in some vocabularies, the code of what it belongs to in another one."""

    code: str
    label: str
    belongs_to: str | None = None


class Vocabulary(NamedTuple):
    """A code list. `version` rises when a code goes; within a version codes are only added, and none changes its meaning."""

    name: str
    label: str
    version: int
    source: str | None
    """Where the list comes from, when it is not ours."""
    terms: tuple[Term, ...]

    def answer(self) -> dict[str, Any]:
        """As `GET /v1/vocabularies` serves it."""
        return {
            "name": self.name,
            "label": self.label,
            "version": self.version,
            "source": self.source,
            "terms": [{"code": term.code, "label": term.label, "belongs_to": term.belongs_to} for term in self.terms],
        }


def _of(codes: type[Code], name: str, label: str, version: int = 1, source: str | None = None) -> Vocabulary:
    return Vocabulary(name, label, version, source, tuple(Term(code.value, code.label) for code in codes))


_COG = f"INSEE, Code officiel géographique, {COG_EDITION}"

VOCABULARIES: Final[Mapping[str, Vocabulary]] = MappingProxyType(
    {
        vocabulary.name: vocabulary
        for vocabulary in (
            _of(v.Force, "forces", "Institution de l'unité"),
            _of(v.PostForce, "post_forces", "Force auprès de laquelle le poste intervient"),
            _of(v.UnitKind, "unit_kinds", "Type d'unité"),
            _of(v.Channel, "channels", "Mode de saisine"),
            _of(v.Urgency, "urgencies", "Urgence"),
            _of(v.Theme, "themes", "Problématique à la réception"),
            _of(v.Need, "needs", "Besoin évalué"),
            _of(v.PersonRole, "person_roles", "Qualité de la personne"),
            _of(v.Sex, "sexes", "Sexe"),
            _of(v.AgeBand, "age_bands", "Tranche d'âge"),
            _of(v.ContactAgreement, "contact_agreements", "Accord pour être contacté"),
            _of(v.KnownToServices, "known_to_services", "Connaissance par les services sociaux"),
            _of(v.LegalGround, "legal_grounds", "Motif légal d'une orientation sans accord"),
            _of(v.ContactMode, "contact_modes", "Moyen de contact"),
            _of(v.ContactResult, "contact_results", "Résultat de la tentative de contact"),
            _of(v.InterviewPlace, "interview_places", "Lieu d'entretien"),
            _of(v.RoutingReason, "routing_reasons", "Motif d'affectation"),
            _of(v.UnroutedReason, "unrouted_reasons", "Motif d'absence d'affectation"),
            _of(v.CloseReason, "close_reasons", "Motif de clôture"),
            _of(v.ReferralStatus, "referral_statuses", "État d'une saisine"),
            _of(v.OrientationStatus, "orientation_statuses", "État d'une orientation", source="HL7 FHIR R4, Task.status"),
            _of(v.OrientationRejection, "orientation_rejections", "Motif de refus d'une orientation"),
            _of(v.OrientationOutcome, "orientation_outcomes", "Issue d'une orientation"),
            _of(v.OrientationFailure, "orientation_failures", "Motif d'une orientation sans suite"),
            _of(v.OrientedContent, "oriented_contents", "Ce qui a changé de ce qu'une orientation montre"),
            _of(v.OrientationCancellation, "orientation_cancellations", "Motif d'annulation d'une orientation"),
            _of(v.AlertKind, "alert_kinds", "Information préoccupante ou signalement"),
            _of(v.PartnerKind, "partner_kinds", "Type de structure"),
            _of(v.FunderKind, "funder_kinds", "Type de financeur"),
            _of(v.Firmness, "firmnesses", "Fermeté d'un financement"),
            _of(v.RiskReason, "risk_reasons", "Motif de fragilité d'un poste"),
            _of(v.Role, "roles", "Rôle d'un compte"),
            _of(v.Purpose, "purposes", "Motif de consultation"),
            Vocabulary("regions", "Région", 1, _COG, tuple(Term(region.code, region.name) for region in REGIONS.values())),
            Vocabulary(
                "departements",
                "Département ou collectivité d'outre-mer",
                1,
                _COG,
                tuple(Term(each.code, each.name, each.region) for each in DEPARTEMENTS.values()),
            ),
        )
    }
)
"""Name -> vocabulary, in the order in which they are served. `belongs_to` of a département is its région; overseas collectivities have none."""


def vocabularies_answer() -> dict[str, Any]:
    """The answer of `GET /v1/vocabularies`: plain values, ready to be written as JSON; the same for everyone, so it may be cached."""
    return {"items": [vocabulary.answer() for vocabulary in VOCABULARIES.values()]}


def vocabulary_answer(name: str) -> dict[str, Any] | None:
    """One vocabulary, `None` when there is none of that name."""
    vocabulary = VOCABULARIES.get(name)
    return None if vocabulary is None else vocabulary.answer()
