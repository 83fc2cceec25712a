"""An export as a readable document, in French, as PDF/UA-1 (ISO 14289-1): tagged, titled, in a language, its fonts embedded. Made without network."""

import json
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, NamedTuple
from uuid import UUID

import typst

from libs.contracts.registry import EVENTS
from libs.contracts.types import PARIS, Code, label_of
from libs.contracts.vocabularies import Channel, CloseReason, ContactAgreement, KnownToServices, PersonRole, Sex, Theme, Urgency
from services.referrals.domain import within_sentence
from services.referrals.exports.schemas import ExportedNotice, ExportedOrientation, ExportOut, Recipient
from services.referrals.orientations.domain import ENDED_BECAUSE
from services.referrals.rights.erasure import ErasureCause
from services.referrals.schemas import Contact, PersonContent, SafeContact
from services.referrals.working.domain import DeclineReason
from services.referrals.working.safe_contact import days_in_words

TITLE: Final = "Données personnelles conservées à votre sujet"
_TEMPLATE: Final = Path(__file__).with_name("export.typ")
_STANDARD: Final = "ua-1"
_NOTHING: Final = "Rien n'est conservé sous cette rubrique."

_FACTS: Final = {
    "referral": "la saisine",
    "contact": "une tentative de contact",
    "interview": "un entretien",
    "assessment": "une évaluation",
    "orientation": "une orientation",
}
"""What the events of a noun are about, for the person; alerts are in no export (held.py)."""


class Section(NamedTuple):
    title: str
    columns: Sequence[str]
    widths: Sequence[int]
    rows: Sequence[Sequence[str]]
    text: str = ""
    nothing: str = _NOTHING


def pdf(export: ExportOut) -> bytes:
    """Blocking: a tenth of a second of one processor."""
    told = {
        "title": TITLE,
        "introduction": [
            f"Ce document a été établi le {_said(export.made_at)} par le réseau Maillon des intervenants sociaux en commissariat et gendarmerie,"
            " au titre de votre droit d'accès (RGPD, article 15).",
            "Vous pouvez demander la rectification ou l'effacement de ces données à l'intervenant social ou à la coordination départementale qui"
            " vous remet ce document, et saisir la Commission nationale de l'informatique et des libertés (www.cnil.fr).",
        ],
        "sections": [section._asdict() for section in sections(export)],
    }
    try:
        return _compiled(json.dumps(told))
    except typst.TypstError:
        # PDF/UA refuses a character that no font has (a name in ideograms, a pictogram): it is shown as a square, and the JSON export has it
        told["introduction"] = [*told["introduction"], "Certains caractères ne peuvent pas être imprimés ; ils sont remplacés par « □ »."]
        return _compiled("".join(map(_printable, json.dumps(told, ensure_ascii=False))))


def _compiled(told: str) -> bytes:
    made = typst.compile(
        _template(), format="pdf", sys_inputs={"told": told}, ignore_system_fonts=True, pdf_standards=_STANDARD, timestamp=0
    )
    if not isinstance(made, bytes):
        raise TypeError("one document is one file")
    return made


@cache
def _template() -> bytes:
    return _TEMPLATE.read_bytes()


_CERTAIN: Final = (range(0x20, 0x500), range(0x1E00, 0x2000), range(0x200B, 0x200C), range(0x2010, 0x2040), range(0x20A0, 0x20C0))
"""Latin, Greek, Cyrillic, general punctuation, currencies: what the fonts that typst 0.15 brings have for certain (a test prints all of it)."""


def _printable(character: str) -> str:
    certain = any(ord(character) in some for some in _CERTAIN) and unicodedata.category(character) not in {"Cn", "Cc"}
    return character if certain else "□"


def sections(export: ExportOut) -> list[Section]:
    """The document, part by part, in words."""
    person, referral, names = export.person, export.referral, export.names
    return [
        Section("Vous", ("Donnée", "Valeur"), (1, 2), [*_pairs(_PERSON, person), *_of_content(person)]),
        Section(
            "La situation, telle qu'elle est notée à ce jour",
            ("Donnée", "Valeur"),
            (1, 2),
            [*_pairs(_REFERRAL, referral, names), *(_pairs(_SITUATION, referral) if referral.alone else [])],
        ),
        Section(
            "Ce qui a été fait de la saisine",
            ("Quand", "Étape", "État", "Motif"),
            (1, 1, 1, 1),
            [
                (_said(one.at), one.move.label, one.status.label, label_of(one.reason, (CloseReason, DeclineReason, ErasureCause)) or "–")
                for one in export.moves
            ],
        ),
        _table("Délais dépassés avant un premier contact", export.overdues, {"due_at": "Échéance", "noticed_at": "Constaté le"}),
        _table(
            "Tentatives de contact",
            export.contacts,
            {
                "attempted_at": "Quand",
                "mode": "Moyen",
                "result": "Résultat",
                "override_reason": "Consigne non suivie : motif",
                "overridden": "Consigne",
                "withdrawn_because": "Retirée",
            },
        ),
        _table(
            "Entretiens",
            export.interviews,
            {"held_at": "Quand", "place": "Lieu", "duration_minutes": "Durée (minutes)", "withdrawn_because": "Retiré"},
        ),
        _table(
            "Évaluations",
            export.assessments,
            {"recorded_at": "Quand", "needs": "Besoins", "known_to_services": "Services sociaux", "withdrawn_because": "Retirée"},
        ),
        Section(
            "Orientations, et vers qui",
            ("Demandée le", "Structure", "Besoin", "État", "Issue ou motif", "Sans accord : motif légal"),
            (3, 5, 3, 3, 3, 3),
            [
                (
                    _said(one.requested_at),
                    _partner(one, names),
                    one.need.label,
                    one.status.label,
                    _said(one.outcome) if one.outcome else " : ".join(filter(None, (_reason(one.reason), one.reason_text))),
                    _said(one.legal_ground),
                )
                for one in export.orientations
            ],
        ),
        Section(
            "Corrections",
            ("Quand", "Motif", "Avant", "Après"),
            (2, 3, 4, 4),
            [row for one in export.corrections for row in _corrected(one, names)],
        ),
        Section(
            "Effacements",
            ("Quand", "Cause", "Qui a confirmé l'effacement de ses copies"),
            (2, 3, 5),
            [
                (
                    _said(one.erased_at),
                    one.cause.label,
                    " ; ".join(_acknowledged(notice, names) for notice in one.notices) or "–",
                )
                for one in export.erasures
            ],
        ),
        Section(
            "À qui des faits ont été communiqués",
            ("Destinataire", "À propos de", "Sous votre identifiant"),
            (3, 5, 2),
            [
                (_recipient(one, names), _facts(one.facts), "non, sous un pseudonyme" if one.pseudonym else "oui")
                for one in export.recipients
            ],
            text="Jamais de nom, de coordonnées ni de texte : des codes, des dates et des lieux jusqu'à la commune.",
        ),
        Section(
            "Qui a lu ces données",
            ("Quand", "Ce qui a été lu", "Fonction, structure", "Motif"),
            (3, 5, 5, 4),
            [
                (
                    _said(one.at),
                    one.label,
                    one.role.label + (f", {_called(one.organization, names)}" if one.organization else ""),
                    _said(one.purpose),
                )
                for one in export.readings
            ],
        ),
        Section(
            "Durée de conservation",
            ("Donnée", "Valeur"),
            (1, 2),
            [("Fin prévue de la conservation", _said(export.kept_until))] if export.kept_until else [],
            text=export.kept_because if export.kept_until else "",
            nothing=export.kept_because,
        ),
        Section(
            "Ce que ce document ne contient pas",
            ("Quoi", "Pourquoi"),
            (1, 2),
            [(one.what, one.why) for one in export.left_out],
        ),
    ]


_PERSON: Final = {
    "id": "Identifiant",
    "role": "Qualité",
    "sex": "Sexe",
    "age_band": "Tranche d'âge",
    "agreement": "Accord pour être contacté",
    "refused_at": "Refus noté le",
    "known_to_services": "Connu des services sociaux",
    "found_by_identity": "Empreinte de votre identité, pour vous reconnaître",
    "found_by_name": "Empreinte de votre nom, pour vous retrouver",
}
_REFERRAL: Final = {
    "id": "Identifiant",
    "status": "État",
    "received_at": "Reçue le",
    "occurred_at": "Faits du",
    "commune": "Commune",
    "departement": "Département",
    "accepted_at": "Acceptée le",
    "closed_at": "Close le",
    "unit_id": "Unité",
    "post_id": "Poste",
}
_SITUATION: Final = {
    "channel": "Mode de saisine",
    "urgency": "Urgence",
    "principal_theme": "Thème principal",
    "themes": "Thèmes",
    "penal": "Suites pénales",
    "natinf": "Infractions (NATINF)",
    "danger": "Danger signalé",
    "children_present": "Enfants présents",
    "close_reason": "Motif de clôture",
    "duplicate_of": "Doublon de la saisine (identifiant)",
    "narrative": "Récit",
}
"""Of a situation in which nobody else is (held.SHARED)."""


_CHANGED: Final[Mapping[str, tuple[str, type[Code] | None]]] = {
    "role": ("Qualité", PersonRole),
    "sex": ("Sexe", Sex),
    "agreement": ("Accord pour être contacté", ContactAgreement),
    "known_to_services": ("Connu des services sociaux", KnownToServices),
    "channel": ("Mode de saisine", Channel),
    "urgency": ("Urgence", Urgency),
    "themes": ("Thèmes", Theme),
    "principal_theme": ("Thème principal", Theme),
    "unit_id": ("Unité", None),
    "commune": ("Commune", None),
    "occurred_at": ("Date des faits", None),
    "penal": ("Suites pénales", None),
    "natinf": ("Infractions", None),
    "danger": ("Danger signalé", None),
    "children_present": ("Enfants présents", None),
}
"""What a correction may have changed, in words."""


def _said(value: Any) -> str:
    match value:
        case None | [] | "":
            return "–"
        case Code():
            return value.label
        case bool():
            return "oui" if value else "non"
        case datetime():
            return value.astimezone(PARIS).strftime("%d/%m/%Y à %H:%M")
        case date():
            return value.strftime("%d/%m/%Y")
        case list() | tuple():
            return ", ".join(map(_said, value))
        case _:
            return str(value)


def _id(value: UUID) -> str:
    """It may break after its hyphens: it is wider than a column."""
    return str(value).replace("-", "-\u200b")


_NAMED: Final = frozenset({"commune", "unit_id", "post_id"})
_ORGANIZATION: Final = "organization:"


def _called(value: object, names: Mapping[str, str]) -> str:
    """By name; what has none yet, by its id or code."""
    return names.get(str(value)) or (_id(value) if isinstance(value, UUID) else _said(value))


def _partner(one: ExportedOrientation, names: Mapping[str, str]) -> str:
    organization, service = _called(one.organization_id, names), names.get(str(one.service_id))
    return ", ".join(filter(None, (organization, service if service != organization else None))) + f" ({one.partner_kind.label})"


def _recipient(one: Recipient, names: Mapping[str, str]) -> str:
    name = names.get(one.stream.removeprefix(_ORGANIZATION))
    return f"{one.label} : {name}" if name else one.label


def _reason(code: str | None) -> str:
    return label_of(code, ENDED_BECAUSE) or "–"


def _pairs(labels: dict[str, str], of: Any, names: Mapping[str, str] = MappingProxyType({})) -> list[tuple[str, str]]:
    values = {name: getattr(of, name) for name in labels}
    return [(label, _called(values[name], names) if name in _NAMED else _said(values[name])) for name, label in labels.items()]


def _table(title: str, rows: Sequence[Any], columns: dict[str, str]) -> Section:
    return Section(title, list(columns.values()), [1] * len(columns), [[_said(getattr(row, name)) for name in columns] for row in rows])


def _of_content(content: Any) -> list[tuple[str, str]]:
    """Identity, contact and safe contact, of a person or of what was there before a correction."""
    identity = content.identity
    found = (
        [] if identity is None else [("Nom", identity.family_name), ("Prénom", identity.given_name), ("Né(e) le", _said(identity.birth_on))]
    )
    if content.approximate_age is not None:
        found.append(("Âge approximatif", str(content.approximate_age)))
    return found + _of_contact(content.contact) + _of_safe_contact(content.safe_contact)


def _of_contact(contact: Contact | None) -> list[tuple[str, str]]:
    if contact is None:
        return []
    return [("Téléphones", _said(contact.phones)), ("Courriel", _said(contact.email)), ("Adresse", _said(contact.address))]


def _of_safe_contact(rules: SafeContact | None) -> list[tuple[str, str]]:
    if rules is None:
        return []
    windows = [f"{days_in_words(one.days)} de {one.begins} à {one.ends}" for one in rules.windows]
    return [
        ("Pour vous joindre sans danger : moyens", _said(rules.modes)),
        ("Pour vous joindre sans danger : heures", " ; ".join(windows) or "–"),
        ("Message sur le répondeur permis", _said(rules.voicemail_allowed)),
        ("SMS permis", _said(rules.text_allowed)),
        ("Quelqu'un d'autre lit peut-être votre téléphone", _said(rules.read_by_others)),
        ("Mot convenu", _said(rules.code_word)),
        ("Remarque", _said(rules.note)),
    ]


def _corrected(one: Any, names: Mapping[str, str]) -> Iterable[tuple[str, str, str, str]]:
    when, why = _said(one.corrected_at), one.reason.label
    for change in one.changes:
        field = change.field.rpartition("/")[2]
        label, vocabulary = _CHANGED[field]
        before, after = (
            _called(value, names) if field in _NAMED else _changed(value, vocabulary) for value in (change.before, change.after)
        )
        yield when, f"{why} : {within_sentence(label)}", before, after
    if one.before is not None:
        yield when, why, _before(one.before), "voir « Vous »"
    if one.narrative_before is not None:
        yield when, f"{why} (récit)", one.narrative_before, "voir « La situation »"


def _acknowledged(one: ExportedNotice, names: Mapping[str, str]) -> str:
    when = f", le {_said(one.acknowledged_at)}" if one.acknowledged_at else ""
    return f"{names.get(one.stream.removeprefix(_ORGANIZATION), one.stream)} : {within_sentence(one.state.label)}{when}"


def _changed(value: Any, vocabulary: type[Code] | None) -> str:
    if isinstance(value, list):
        return ", ".join(_changed(one, vocabulary) for one in value) or "–"
    return _said(value) if vocabulary is None or value is None else label_of(value, (vocabulary,))


def _before(content: PersonContent) -> str:
    return " ; ".join(f"{label} : {value}" for label, value in _of_content(content))


def _facts(types: Sequence[str]) -> str:
    nouns = dict.fromkeys(EVENTS[one].type.split(".")[2] for one in types)
    return ", ".join(_FACTS[noun] for noun in nouns)
