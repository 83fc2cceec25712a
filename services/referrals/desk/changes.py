"""A change as a form: its fields, read into the very body that the API takes, and what is refused shown beside what was typed."""

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar, Final, Literal, NamedTuple
from uuid import UUID, uuid4

from fastapi import Request
from pydantic import BaseModel, ValidationError
from sqlalchemy.ext.asyncio import AsyncSession

from libs.chassis.idempotency import KeyReused, OnceOnly, claim_of, key_is_one
from libs.chassis.problems import WRONG_FORMAT, pointers_of
from libs.chassis.refusals import Conflict, Forbidden, Invalid, Malformed, NotFound, Refusal, StaleVersion, Unavailable
from libs.chassis.runtime import Runtime
from libs.chassis.security import Principal
from libs.chassis.strict import Body
from libs.contracts.types import PARIS, Code
from services.referrals.desk.forms import Form
from services.referrals.forms import whole_number

Choices = Sequence[tuple[str, str]]
"""Value and label."""


class Field(NamedTuple):
    """`choices`: what there is to choose from, of what the page shows. `kind`: `boxes` is a list, the others are one value; `windows` are fields of their own."""

    name: str
    label: str
    kind: Literal["select", "radios", "boxes", "moment", "day", "number", "text", "lines", "prose", "commune", "windows"]
    choices: Callable[[Mapping[str, Any]], Choices] | None = None
    required: bool = True
    hint: str = ""
    otherwise: Callable[[Mapping[str, Any]], str | list[str]] | None = None
    """What stands there at first; of `boxes` those that are ticked."""
    heading: str = ""
    """Of this field and those that follow."""
    exact: Callable[[Mapping[str, Any]], datetime | None] | None = None
    """Of a moment that is on record: it stays so, to the microsecond, while the field shows its minute."""


@dataclass(frozen=True, slots=True)
class Doing:
    """Who changes what, from which version on."""

    caller: Principal
    runtime: Runtime
    id: UUID
    version: int
    now: datetime


@dataclass(frozen=True, slots=True)
class Change:
    """`told`: what the page says once it is done. `shape`: from the fields, by name, to the body's members, where they are not the same."""

    title: str
    button: str
    told: str
    run: Callable[[AsyncSession, Doing, Any], Awaitable[BaseModel]]
    body: type[Body] | None = None
    fields: tuple[Field, ...] = ()
    shape: Callable[[dict[str, Any], Form], dict[str, Any]] = lambda given, form: given
    explanation: str = ""
    complete: bool = False
    """Everything that is required is to be there: what is left out of the body would stay as it is."""


class SentAlready(Conflict):
    type: ClassVar[str] = "sent-already"
    title: ClassVar[str] = "Déjà enregistré"


_PLACES: Final[Mapping[str, str]] = {
    "unsafe-contact": "override_reason",
    "person-refused-contact": "person_id",
    "agreement-missing": "legal_ground",
    "legal-ground-unfounded": "legal_ground",
    "close-reason-unfounded": "reason",
    "nobody-concerned": "person_ids",
    "not-a-minor": "person_ids",
    "both-sides": "service_id",
    "oriented-already": "service_id",
    "orientation-not-to-replace": "replaces_id",
    "post-not-available": "post_id",
}
"""Beside which field a refusal of the domain is shown, by its type."""


def of_codes(vocabulary: type[Code]) -> Callable[[Mapping[str, Any]], Choices]:
    return lambda _: [(one.value, one.label) for one in vocabulary]


def typed_moment(moment: datetime) -> str:
    """As a browser writes it in a field: in Paris, without its zone."""
    return moment.astimezone(PARIS).strftime("%Y-%m-%dT%H:%M")


def now_in_paris(shown: Mapping[str, Any]) -> str:
    return typed_moment(shown["now"])


def read(change: Change, form: Form) -> Body | None:
    """The body of the change. Raises Invalid, whose pointers name the fields."""
    if change.body is None:
        return None
    given: dict[str, Any] = {}
    for field in change.fields:
        value: Any = form.all(field.name) if field.kind == "boxes" else form.one(field.name)
        if value in ("", []):
            continue
        if field.exact is not None and _shows(value, exact := form.one(f"{field.name}_exact")):
            value = exact
        elif field.kind != "boxes":
            value = _READERS.get(field.kind, str)(value)
        given[field.name] = value
    missing = [f"/{field.name}" for field in change.fields if field.required and field.name not in given] if change.complete else []
    if missing:
        raise Invalid("Le formulaire est à corriger.", pointers=[(one, "Ce champ est obligatoire.") for one in missing])
    try:
        return change.body.model_validate_json(json.dumps(change.shape(given, form)))
    except ValidationError as error:
        raise Invalid("Le formulaire est à corriger.", pointers=pointers_of(error, change.body)) from None


def _moment(typed: str) -> str:
    """A local moment, as browsers write it, in its time zone. What is none is left as it is, and refused with the rest."""
    try:
        return datetime.fromisoformat(typed).replace(tzinfo=PARIS, second=0, microsecond=0).isoformat()
    except (ValueError, OverflowError):
        return typed


def _shows(typed: str, exact: str) -> bool:
    """Whether a field says nothing else than the moment that its page had read, which browsers show by the minute and without its zone."""
    try:
        return exact != "" and typed_moment(datetime.fromisoformat(exact)) == typed
    except (ValueError, OverflowError):  # no page of ours wrote that
        return False


def _number(typed: str) -> int | str:
    number = whole_number(typed)
    return typed if number is None else number


_READERS: Final[Mapping[str, Callable[[str], Any]]] = {"moment": _moment, "number": _number}

_SENTENCES: Final[Mapping[str, Mapping[str, str]]] = {
    "moment": {"Un instant s'écrit 2026-11-23T10:00:00Z, avec son fuseau.": "Indiquez le jour et l'heure."},
    "lines": {WRONG_FORMAT: "Un numéro s'écrit 06 12 34 56 78, ou avec son indicatif : +33612345678."},
    "windows": {WRONG_FORMAT: "Une heure s'écrit 09:30 ; indiquez le début et la fin."},
    "boxes": {"Ce champ est obligatoire.": "Cochez au moins une case."},
    "select": {"Ce champ est obligatoire.": "Choisissez dans la liste."},
    "radios": {"Ce champ est obligatoire.": "Choisissez une réponse."},
}


_CHANGED: Final = (
    "Quelqu'un a modifié ce dossier depuis que vous avez ouvert cette page : rien n'a été enregistré. Vos réponses sont gardées ci-dessous ; "
    "relisez le dossier tel qu'il est maintenant, puis envoyez-les à nouveau si elles conviennent toujours."
)


class Wrong(NamedTuple):
    """What is wrong: in a field (its name and label), or as a whole ("")."""

    field: str
    label: str
    sentence: str


def _general(sentence: str) -> str:
    """Without the example of a format."""
    return WRONG_FORMAT if sentence.startswith(WRONG_FORMAT) else sentence


def wrongs_of(change: Change, refusal: Refusal) -> list[Wrong]:
    """A refusal, field by field."""
    if isinstance(refusal, StaleVersion):
        return [Wrong("", "", _CHANGED)]
    fields = {field.name: field for field in change.fields}
    found = []
    for pointer, sentence in refusal.pointers or [(f"/{_PLACES.get(refusal.type, '')}", refusal.detail)]:
        field = next((fields[part] for part in reversed(pointer.split("/")) if part in fields), None)
        if field is None:
            found.append(Wrong("", "", sentence))
        else:
            found.append(Wrong(field.name, field.label, _SENTENCES.get(field.kind, {}).get(_general(sentence), sentence)))
    return list(dict.fromkeys(found))


def meanwhile(change: Change, typed: Form, shown: Mapping[str, Any]) -> dict[str, str]:
    """Field by field what the record says now, where a form that was read before says otherwise: so that sending it again undoes nobody's work unseen."""
    found: dict[str, str] = {}
    for field in change.fields if change.complete else ():
        if field.otherwise is None:
            continue
        now = field.otherwise(shown)
        there = sorted(now) if isinstance(now, list) else [now.strip()] if now else []
        if there != sorted(one.replace("\r\n", "\n").strip() for one in typed.all(field.name)):
            labels = dict(field.choices(shown)) if field.choices else {}
            found[field.name] = ", ".join(labels.get(one, one) for one in there) or "rien"
    return found


def fresh_key() -> str:
    """For one form of one page: sent twice, it does its work once."""
    return str(uuid4())


async def make(change: Change, operation: str, request: Request, form: Form, caller: Principal, id: UUID, now: datetime) -> bytes:
    """Do it, once, in one transaction; a repeated form is answered by the first one's answer. Raises Refusal."""
    runtime: Runtime = request.app.state.runtime
    version, key = whole_number(form.one("version")), form.one("key")
    if version is None or not key_is_one(key):
        raise Malformed("Le formulaire ne peut pas être lu : rouvrez la page, puis recommencez.")
    body = read(change, form)
    doing = Doing(caller, runtime, id, version, now)
    said = b"" if body is None else body.model_dump_json().encode()
    claim = claim_of(caller.owner, key, operation, request.scope["path"], said)
    try:
        answer = await OnceOnly(runtime.database, claim)(lambda session: change.run(session, doing, body))
    except KeyReused:
        raise SentAlready("Ce formulaire a déjà été enregistré, avec d'autres réponses : vérifiez avant de l'envoyer à nouveau.") from None
    return bytes(answer.body)


def is_for_the_form(refusal: Refusal) -> bool:
    """Whether the person can do something about it on the form itself; otherwise it is a page of its own."""
    return not isinstance(refusal, NotFound | Forbidden | Unavailable | Malformed)
