"""The log of corrections in the words of the field: what was there before, what stands there since."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final, NamedTuple
from uuid import UUID

from libs.contracts.types import PARIS, Code
from libs.contracts.vocabularies import Channel, ContactAgreement, KnownToServices, PersonRole, Sex, Theme, Urgency
from services.referrals.desk.people import named
from services.referrals.schemas import PersonContent, PersonOut
from services.referrals.working.corrections_schemas import CorrectionOut
from services.referrals.working.safe_contact import days_in_words


class Corrected(NamedTuple):
    what: str
    before: str
    after: str


class Told(NamedTuple):
    at: datetime
    reason: str
    changes: list[Corrected]
    narrative: str | None
    """What it was before."""
    by: str


_FIELDS: Final[Mapping[str, tuple[str, type[Code] | None]]] = {
    "unit_id": ("Unité", None),
    "commune": ("Commune", None),
    "occurred_at": ("Jour et heure des faits", None),
    "channel": ("Mode de saisine", Channel),
    "urgency": ("Urgence", Urgency),
    "themes": ("Thèmes", Theme),
    "principal_theme": ("Thème principal", Theme),
    "penal": ("Suites pénales", None),
    "natinf": ("Codes NATINF", None),
    "danger": ("Danger signalé", None),
    "children_present": ("Enfants présents", None),
    "role": ("rôle", PersonRole),
    "sex": ("sexe", Sex),
    "agreement": ("accord pour être contactée", ContactAgreement),
    "known_to_services": ("services sociaux", KnownToServices),
}


def told_correction(one: CorrectionOut, people: Mapping[UUID, PersonOut], by: str) -> Told:
    changes = [_change(change.field, change.before, change.after, people) for change in one.changes]
    for before in one.persons_before:
        was = "effacé" if before.content is None else "\u202f; ".join(_content(before.content)) or "rien"
        changes.append(Corrected(f"{_who(before.person_id, people)}, identité, coordonnées ou consignes", was, ""))
    return Told(one.corrected_at, one.reason.label, changes, one.narrative_before, by)


def _change(field: str, before: Any, after: Any, people: Mapping[UUID, PersonOut]) -> Corrected:
    parts = field.strip("/").split("/")
    if parts[0] != "persons":
        label, codes = _FIELDS[parts[0]]
        return Corrected(label, _value(before, codes), _value(after, codes))
    who = _who(UUID(parts[1]), people)
    if len(parts) == 2:  # who joined, with the role
        return Corrected(f"{who}, ajout", "", _value(after, PersonRole))
    label, codes = _FIELDS[parts[2]]
    return Corrected(f"{who}, {label}", _value(before, codes), _value(after, codes))


def _who(person_id: UUID, people: Mapping[UUID, PersonOut]) -> str:
    person = people.get(person_id)
    return named(person) if person is not None else "Une personne"


def _value(value: Any, codes: type[Code] | None) -> str:
    match value:
        case None:
            return ""
        case bool():
            return "oui" if value else "non"
        case list():
            return ", ".join(_value(one, codes) for one in value)
        case str() if codes is not None:
            return codes(value).label
        case _:
            return _moment(str(value))


def _moment(text: str) -> str:
    """An instant by the clock of Paris; anything else as it is."""
    try:
        return f"{datetime.fromisoformat(text).astimezone(PARIS):%d/%m/%Y à %H:%M}" if "T" in text else text
    except ValueError:
        return text


def _content(content: PersonContent) -> list[str]:
    told = []
    if (identity := content.identity) is not None:
        told.append(f"{identity.given_name} {identity.family_name}")
        told += [f"né(e) le {identity.birth_on:%d/%m/%Y}"] if identity.birth_on is not None else []
    told += [f"environ {content.approximate_age} ans"] if content.approximate_age is not None else []
    if (contact := content.contact) is not None:
        told += [*contact.phones, *(one for one in (contact.email, contact.address) if one)]
    if (safe := content.safe_contact) is not None:
        told.append("seuls moyens : " + (", ".join(mode.label.lower() for mode in safe.modes) or "aucun"))
        told += [f"{days_in_words(sorted(one.days))} de {one.begins} à {one.ends}" for one in safe.windows]
        told.append("message vocal " + ("permis" if safe.voicemail_allowed else "interdit"))
        told.append("SMS " + ("permis" if safe.text_allowed else "interdit"))
        told += ["quelqu'un d'autre lit peut-être son téléphone"] if safe.read_by_others else []
        told += [f"mot convenu : {safe.code_word}"] if safe.code_word else []
        told += [safe.note] if safe.note else []
    return told
