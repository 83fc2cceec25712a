"""Corrections as forms: what the police sent about the facts, and about each person. What is shown is what is sent: a blank takes away.

A telephone is typed as people write it: `06 12 34 56 78` is read as a number of metropolitan France; where ten digits may mean another country code
(overseas), the international form is asked for, rather than a stranger called.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any, Final
from uuid import UUID

from pydantic import BaseModel
from sqlalchemy.ext.asyncio import AsyncSession

from libs.chassis.settings import secret_bytes
from libs.contracts.vocabularies import Channel, ContactAgreement, ContactMode, KnownToServices, PersonRole, Sex, Theme, Urgency
from services.referrals.delays.due import Delays
from services.referrals.desk.changes import Change, Choices, Doing, Field, of_codes, typed_moment
from services.referrals.desk.forms import Form
from services.referrals.forms import whole_number
from services.referrals.orientations.links import Links
from services.referrals.schemas import MAX_WINDOWS, PersonOut
from services.referrals.working import corrections
from services.referrals.working.corrections_schemas import CorrectionIn
from services.referrals.working.domain import CorrectionReason
from services.referrals.working.schemas import ReferralOut

_YES_NO: Final = (("yes", "Oui"), ("no", "Non"))
_RULES: Final = (("none", "Aucune consigne n'a été relevée"), ("given", "Les consignes ci-dessous"))
_SEPARATORS = re.compile(r"[,;\s]+")
_TEN_DIGITS = re.compile(r"0[1-9][0-9]{8}", re.ASCII)
_MAYBE_OVERSEAS = ("0262", "0263", "0269", "0590", "0594", "0596", "0639", "0690", "0691", "0692", "0693", "0694", "0696", "0697")

Shown = Mapping[str, Any]


async def _correct(session: AsyncSession, it: Doing, body: Any) -> BaseModel:
    search_key = secret_bytes(it.runtime.settings.search_key)
    return await corrections.correct(
        session, it.caller, it.runtime.vault, Links.of(it.runtime), search_key, Delays.of(it.runtime), it.id, it.version, body, it.now
    )


# The facts


def _of(read: Callable[[ReferralOut], Any]) -> Callable[[Shown], Any]:
    return lambda shown: read(shown["referral"])


def _yes_no(value: bool | None) -> str:
    return "" if value is None else "yes" if value else "no"


def _communes(shown: Shown) -> Choices:
    """Those of the caller's départements; the one that is there even when it is not among them. None where no name is known: it is typed."""
    known: list[tuple[str, str]] = [(code, f"{name} ({code})") for code, name in shown["communes"]]
    now = shown["referral"].commune
    return known if not known or now in [code for code, _ in known] else [(now, now), *known]


def _facts(given: dict[str, Any], form: Form) -> dict[str, Any]:
    flags = {"danger": given.get("danger") == "yes", "penal": {"yes": True, "no": False}.get(given.get("penal", ""))}
    natinf = [_number_or_text(one) for one in _SEPARATORS.split(given.get("natinf", "")) if one]
    # a narrative that was erased is not shown, so that nothing is said of it
    narrative = {"narrative": given.get("narrative")} if form.one("with_narrative") else {}
    return {name: value for name, value in given.items() if name != "narrative"} | flags | {"natinf": natinf} | narrative


def _number_or_text(typed: str) -> int | str:
    number = whole_number(typed)
    return typed if number is None else number


_REASON: Final = Field("reason", "Motif de la correction", "select", of_codes(CorrectionReason))

FACTS: Final = Change(
    "Corriger ce qui a été reçu",
    "Corriger",
    "La correction est enregistrée.",
    _correct,
    CorrectionIn,
    (
        _REASON,
        Field("urgency", "Urgence", "select", of_codes(Urgency), otherwise=_of(lambda it: it.urgency.value)),
        Field("danger", "Danger signalé", "select", lambda _: _YES_NO, otherwise=_of(lambda it: _yes_no(it.danger))),
        Field("themes", "Thèmes", "boxes", of_codes(Theme), otherwise=_of(lambda it: [one.value for one in it.themes])),
        Field("principal_theme", "Thème principal", "select", of_codes(Theme), otherwise=_of(lambda it: it.principal_theme.value)),
        Field("commune", "Commune", "commune", _communes, otherwise=_of(lambda it: it.commune)),
        Field(
            "occurred_at",
            "Jour et heure des faits",
            "moment",
            otherwise=_of(lambda it: typed_moment(it.occurred_at)),
            exact=_of(lambda it: it.occurred_at),
        ),
        Field("channel", "Mode de saisine", "select", of_codes(Channel), otherwise=_of(lambda it: it.channel.value)),
        Field(
            "penal",
            "Suites pénales",
            "select",
            lambda _: _YES_NO,
            required=False,
            hint="Aucun : non précisé.",
            otherwise=_of(lambda it: _yes_no(it.penal)),
        ),
        Field(
            "natinf",
            "Codes NATINF",
            "text",
            required=False,
            hint="Séparés par des virgules.",
            otherwise=_of(lambda it: ", ".join(map(str, it.natinf))),
        ),
        Field("children_present", "Enfants présents", "number", otherwise=_of(lambda it: str(it.children_present))),
        Field("narrative", "Récit", "prose", required=False, otherwise=_of(lambda it: it.narrative or "")),
    ),
    shape=_facts,
    explanation="Ce qui était écrit avant reste au journal des corrections. Chaque personne a son propre formulaire, sur la page de la saisine.",
    complete=True,
)


# A person


def _his(read: Callable[[PersonOut], Any]) -> Callable[[Shown], Any]:
    """`""` of who is about to join."""
    return lambda shown: read(shown["person"]) if shown["person"] is not None else ""


def _identity(read: Callable[[Any], Any]) -> Callable[[Shown], Any]:
    return _his(lambda it: read(it.identity) or "" if it.identity else "")


def _contact(read: Callable[[Any], Any]) -> Callable[[Shown], Any]:
    return _his(lambda it: read(it.contact) or "" if it.contact else "")


def _safe(read: Callable[[Any], Any]) -> Callable[[Shown], Any]:
    return _his(lambda it: read(it.own_safe_contact) if it.own_safe_contact else "")


def phone_of(typed: str) -> str:
    """In international form where that is certain; otherwise as it was typed, which is refused with the rest."""
    digits = re.sub(r"[\s.\-()]", "", typed)
    return f"+33{digits[1:]}" if _TEN_DIGITS.fullmatch(digits) and not digits.startswith(_MAYBE_OVERSEAS) else digits


def windows_of(form: Form) -> list[dict[str, Any]]:
    """The rows of the table of hours in which something is said."""
    rows = []
    for number in range(MAX_WINDOWS):
        days, begins, ends = form.all(f"days:{number}"), form.one(f"begins:{number}"), form.one(f"ends:{number}")
        if days or begins or ends:
            rows.append({"days": [_number_or_text(one) for one in days], "begins": begins, "ends": ends})
    return rows


def _person(person_id: UUID | None) -> Callable[[dict[str, Any], Form], dict[str, Any]]:
    def shape(given: dict[str, Any], form: Form) -> dict[str, Any]:
        identity = {name: given[name] for name in ("family_name", "given_name", "birth_on") if name in given}
        phones = [phone_of(one) for one in given.get("phones", "").splitlines() if one.strip()]
        contact = {name: given[name] for name in ("email", "address") if name in given} | ({"phones": phones} if phones else {})
        rules: dict[str, Any] | None = None
        if given.get("rules") == "given":
            rules = {name: given[name] for name in ("code_word", "note") if name in given}
            rules |= {name: given.get(name) == "yes" for name in ("voicemail_allowed", "text_allowed", "read_by_others")}
            rules |= {"modes": given.get("modes", []), "windows": windows_of(form)}
        person = {
            "identity": identity or None,
            "approximate_age": given.get("approximate_age"),
            "contact": contact or None,
            "safe_contact": rules,
        }
        plain = {name: given[name] for name in ("role", "sex", "agreement", "known_to_services") if name in given}
        if person_id is None:
            return {"reason": given.get("reason"), "added": [person | plain]}
        return {"reason": given.get("reason"), "persons": [{"person_id": str(person_id)} | person | plain]}

    return shape


_PERSON_FIELDS: Final = (
    _REASON,
    Field("role", "Rôle", "select", of_codes(PersonRole), otherwise=_his(lambda it: it.role.value)),
    Field(
        "agreement",
        "Accord pour être contactée",
        "select",
        of_codes(ContactAgreement),
        otherwise=_his(lambda it: it.agreement.value),
        hint="Refus : plus personne ne la contacte, et ses données sont effacées après un court délai.",
    ),
    Field("family_name", "Nom", "text", required=False, otherwise=_identity(lambda it: it.family_name), heading="Identité"),
    Field("given_name", "Prénom", "text", required=False, otherwise=_identity(lambda it: it.given_name)),
    Field(
        "birth_on",
        "Date de naissance",
        "day",
        required=False,
        otherwise=_identity(lambda it: it.birth_on.isoformat() if it.birth_on else ""),
    ),
    Field(
        "approximate_age",
        "Âge approximatif",
        "number",
        required=False,
        hint="Si la date de naissance n'est pas connue.",
        otherwise=_his(lambda it: "" if it.approximate_age is None else str(it.approximate_age)),
    ),
    Field("sex", "Sexe", "select", of_codes(Sex), otherwise=_his(lambda it: it.sex.value)),
    Field(
        "known_to_services", "Services sociaux", "select", of_codes(KnownToServices), otherwise=_his(lambda it: it.known_to_services.value)
    ),
    Field(
        "phones",
        "Téléphones",
        "lines",
        required=False,
        hint="Un numéro par ligne, cinq au plus : 06 12 34 56 78 ou +33612345678. Outre-mer et étranger : avec l'indicatif, +262…",
        otherwise=_contact(lambda it: "\n".join(it.phones)),
        heading="Coordonnées",
    ),
    Field("email", "Courriel", "text", required=False, otherwise=_contact(lambda it: it.email)),
    Field("address", "Adresse", "text", required=False, otherwise=_contact(lambda it: it.address)),
    Field(
        "rules",
        "Ce qui a été dit",
        "radios",
        lambda _: _RULES,
        otherwise=_his(lambda it: "given" if it.own_safe_contact else "none"),
        heading="Consignes de contact",
    ),
    Field(
        "modes",
        "Seuls moyens permis",
        "boxes",
        of_codes(ContactMode),
        required=False,
        hint="Aucune case : aucun moyen n'est permis.",
        otherwise=_safe(lambda it: [one.value for one in it.modes]),
    ),
    Field("windows", "Quand", "windows", required=False, hint="Aucune ligne remplie : à toute heure."),
    Field(
        "voicemail_allowed",
        "Message vocal permis",
        "select",
        lambda _: _YES_NO,
        required=False,
        otherwise=_safe(lambda it: _yes_no(it.voicemail_allowed)),
    ),
    Field("text_allowed", "SMS permis", "select", lambda _: _YES_NO, required=False, otherwise=_safe(lambda it: _yes_no(it.text_allowed))),
    Field(
        "read_by_others",
        "Quelqu'un d'autre lit peut-être son téléphone",
        "select",
        lambda _: _YES_NO,
        required=False,
        otherwise=_safe(lambda it: _yes_no(it.read_by_others)),
    ),
    Field("code_word", "Mot convenu", "text", required=False, otherwise=_safe(lambda it: it.code_word or "")),
    Field("note", "Autre consigne", "prose", required=False, otherwise=_safe(lambda it: it.note or "")),
)


ADDED: Final = Change(
    "Ajouter une personne",
    "Ajouter",
    "La personne est ajoutée à la saisine.",
    _correct,
    CorrectionIn,
    _PERSON_FIELDS,
    shape=_person(None),
    explanation="Une personne concernée qui n'était pas dans la saisine reçue. L'ajout est noté au journal des corrections.",
    complete=True,
)


def person_change(person_id: UUID | None) -> Change:
    """`None`: of who joins the referral."""
    if person_id is None:
        return ADDED
    return Change(
        "Corriger une personne",
        "Corriger",
        FACTS.told,
        _correct,
        CorrectionIn,
        _PERSON_FIELDS,
        shape=_person(person_id),
        explanation="Ce qui était écrit avant reste au journal des corrections, scellé. Une case vidée retire ce qui y était.",
        complete=True,
    )
