"""Every refusal and every failure leaves as RFC 9457 problem+json, from here. What was submitted is never echoed: pointers name our own fields.

`type` is stable (programs match on it), `title` and `detail` are French sentences, `instance` identifies this very request (as in the logs),
`errors[]` points into the body (JSON pointer), or names a parameter.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from http import HTTPStatus
from typing import Any, Final, NamedTuple, Self, get_args

import asyncpg
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import core_schema
from sqlalchemy import exc as sqlalchemy_errors
from starlette.exceptions import HTTPException
from starlette.responses import Response

from libs.chassis.database import sqlstate
from libs.chassis.refusals import Invalid, Malformed, Pointer, Refusal, Unavailable
from libs.chassis.telemetry import request_id

TYPES = "https://maillon.example/problems/"
MEDIA_TYPE = "application/problem+json"
_MOST_ERRORS = 100


class ProblemError(BaseModel):
    """One thing that is wrong: `pointer` into the body (JSON pointer, "" for the whole of it), or the name of a `parameter`."""

    pointer: str | None = None
    parameter: str | None = None
    detail: str


class Problem(BaseModel):
    """RFC 9457. `type` is stable; `detail` is a sentence for a person; `instance` finds the request in the logs."""

    model_config = ConfigDict(extra="allow")

    type: str = Field(examples=[f"{TYPES}invalid"])
    title: str
    status: int
    detail: str
    instance: str
    errors: list[ProblemError] | None = None


_DESCRIPTIONS = {
    400: "Demande illisible",
    401: "Jeton absent ou sans valeur",
    403: "Le rôle ne permet pas cette opération",
    404: "Introuvable, ou hors du périmètre",
    408: "La demande arrive trop lentement",
    409: "Conflit avec l'état actuel",
    410: "N'est plus conservé",
    412: "Version dépassée",
    413: "Demande trop volumineuse",
    414: "Adresse trop longue",
    415: "Le corps doit être du JSON",
    422: "Données invalides",
    428: "If-Match manque",
    429: "Trop de demandes",
    431: "En-têtes trop volumineux",
    500: "Erreur interne",
    503: "Momentanément indisponible",
}


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The OpenAPI `responses` of a route that may refuse so. (400, 401, 403, 408, 413, 414, 415, 422, 431, 503… are added to every route they can come from.)"""
    return {
        status: {
            "description": _DESCRIPTIONS.get(status, HTTPStatus(status).phrase),
            "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
        }
        for status in statuses
    }


def problem(
    status: int,
    type: str,
    title: str,
    detail: str,
    *,
    errors: Sequence[Mapping[str, str]] = (),
    more: Mapping[str, Any] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    body: dict[str, Any] = {
        "type": TYPES + type,
        "title": title,
        "status": status,
        "detail": detail,
        "instance": f"urn:uuid:{request_id()}",
    }
    if errors:
        body["errors"] = list(errors)
    body.update({name: value for name, value in (more or {}).items() if name not in body})
    return Response(json.dumps(body, ensure_ascii=False, separators=(",", ":")), status, dict(headers or {}), MEDIA_TYPE)


def refused(refusal: Refusal) -> Response:
    errors = [{"pointer": pointer, "detail": detail} for pointer, detail in refusal.pointers]
    return problem(refusal.status, refusal.type, refusal.title, refusal.detail, errors=errors, more=refusal.more, headers=refusal.headers)


# What FastAPI and Starlette raise by themselves

_BY_STATUS = {
    400: ("malformed", "Demande illisible", "La demande ne peut pas être lue."),
    404: ("no-such-address", "Adresse inconnue", "Rien ne répond à cette adresse : voir /docs."),
    405: ("method-not-allowed", "Méthode non permise", "Cette adresse ne connaît pas cette méthode : voir l'en-tête Allow."),
    413: ("too-large", "Demande trop volumineuse", "La demande dépasse la taille permise."),
}


def _unhandled_status(error: HTTPException, allow: str | None) -> Response:
    cause = error.__cause__
    while cause is not None:  # FastAPI wraps whatever reading a body raises into a 400
        if isinstance(cause, Refusal):
            return refused(cause)
        cause = cause.__cause__
    type, title, detail = _BY_STATUS.get(error.status_code, ("refused", "Demande refusée", "La demande ne peut pas être traitée."))
    return problem(error.status_code, type, title, detail, headers={"Allow": allow} if allow else None)


_SENTENCES = {
    "missing": "Ce champ est obligatoire.",
    "extra_forbidden": "Un champ inconnu est présent ici : seuls les champs documentés sont acceptés.",
    "unknown_parameter": "Un paramètre inconnu est présent : seuls les paramètres documentés sont acceptés.",
    "repeated_parameter": "Ce paramètre ne peut être donné qu'une fois.",
    "model_attributes_type": "Un objet JSON est attendu.",
    "model_type": "Un objet JSON est attendu.",
    "dict_type": "Un objet JSON est attendu.",
    "list_type": "Une liste est attendue.",
    "string_type": "Un texte est attendu.",
    "string_unicode": "Ce texte n'est pas de l'Unicode valable.",
    "text_characters": "Les caractères de commande ne sont pas acceptés.",
    "int_type": "Un nombre entier est attendu.",
    "int_parsing": "Un nombre entier est attendu.",
    "int_from_float": "Un nombre entier est attendu.",
    "int_parsing_size": "Ce nombre est trop grand.",
    "float_type": "Un nombre est attendu.",
    "finite_number": "Un nombre fini est attendu.",
    "bool_type": "true ou false est attendu.",
    "bool_parsing": "true ou false est attendu.",
    "none_required": "null est attendu.",
    "enum": "Code inconnu : voir /v1/vocabularies.",
    "literal_error": "Code inconnu.",
    "timezone_aware": "Un instant s'écrit 2026-11-23T10:00:00Z, avec son fuseau.",
    "datetime_type": "Un instant s'écrit 2026-11-23T10:00:00Z, avec son fuseau.",
    "date_type": "Un jour s'écrit 2026-11-23.",
    "uuid_type": "Un identifiant est un UUID en minuscules, avec ses tirets.",
    "union_tag_invalid": "Ce genre d'objet est inconnu.",
    "union_tag_not_found": "Le genre de l'objet manque.",
}
WRONG_FORMAT: Final = "Ce n'est pas le format attendu"
_WITH_BOUNDS = {
    "string_too_long": "Au plus {max_length} caractères.",
    "string_too_short": "Au moins {min_length} caractères.",
    "too_long": "Au plus {max_length} éléments.",
    "too_short": "Au moins {min_length} éléments.",
    "greater_than": "Doit être supérieur à {gt}.",
    "greater_than_equal": "Doit être supérieur ou égal à {ge}.",
    "less_than": "Doit être inférieur à {lt}.",
    "less_than_equal": "Doit être inférieur ou égal à {le}.",
    "multiple_of": "Doit être un multiple de {multiple_of}.",
}
# the sentences of libs.contracts.types, which say them in English for programs that read events
_CONTRACT_SENTENCES = {
    "an instant looks like 2026-11-23T10:00:00Z, with its time zone": _SENTENCES["datetime_type"],
    "a day looks like 2026-11-23": _SENTENCES["date_type"],
    "this day, or this hour, is not in the calendar": "Ce jour, ou cette heure, n'existe pas au calendrier.",
    "an id is a UUID in lower case with dashes": _SENTENCES["uuid_type"],
}
_PYDANTIC_WRITES = frozenset({"value_error", "assertion_error"})
"""Types whose message is an exception's text, which may quote the value."""


def _sentence(error: Mapping[str, Any], formats: Mapping[str, str]) -> str:
    """`formats`: pattern → an example of what it lets through, from the document: never what was sent."""
    kind, context = str(error["type"]), error.get("ctx", {})
    if kind == "string_pattern_mismatch":
        example = formats.get(str(context.get("pattern")))
        return f"{WRONG_FORMAT} : par exemple {example}." if example is not None else f"{WRONG_FORMAT}."
    if kind in _SENTENCES:
        return _SENTENCES[kind]
    if kind in _WITH_BOUNDS:
        return _WITH_BOUNDS[kind].format_map(context).replace(" 1 éléments.", " un élément.").replace(" 1 caractères.", " un caractère.")
    if kind in _PYDANTIC_WRITES:
        return _CONTRACT_SENTENCES.get(str(context.get("error", "")), "Cette valeur n'est pas acceptable.")
    if kind in _OWN_TYPES:
        return "Cette valeur n'est pas acceptable."
    return _CONTRACT_SENTENCES.get(str(error["msg"]), str(error["msg"]))  # a PydanticCustomError: its text is ours


_OWN_TYPES = frozenset(get_args(core_schema.ErrorType))
"""What pydantic itself may say; its messages quote values here and there."""


class _Known(NamedTuple):
    """Of our own models: the field names, which a pointer may say (everything else in a path of pydantic's may be the caller's words), and an example
    for each pattern."""

    names: frozenset[str]
    formats: Mapping[str, str]

    @classmethod
    def of(cls, schemas: Iterable[Mapping[str, Any]]) -> Self:
        fields = [(name, field) for schema in schemas for name, field in schema.get("properties", {}).items()]
        formats = {pattern: example for _, field in fields for pattern, example in _formats(field)}
        return cls(frozenset(name for name, _ in fields), formats)


def _formats(schema: Mapping[str, Any], example: object = None) -> Iterator[tuple[str, str]]:
    """Each pattern of a field with an example of it: its own, or that of the field around."""
    example = next(iter(schema.get("examples", ())), example)
    if "pattern" in schema and isinstance(example, str):
        yield schema["pattern"], example
    for inner in (*schema.get("anyOf", ()), *([schema["items"]] if "items" in schema else [])):
        yield from _formats(inner, example)


def _known_of(app: FastAPI) -> _Known:
    known: _Known | None = getattr(app.state, "known_fields", None)
    if known is None:
        known = app.state.known_fields = _Known.of(app.openapi().get("components", {}).get("schemas", {}).values())
    return known


def _pointer(path: Iterable[Any], known: frozenset[str]) -> str:
    pointer = ""
    for step in path:
        if isinstance(step, str) and step not in known:
            break
        pointer += "/" + str(step).replace("~", "~0").replace("/", "~1")
    return pointer


def _error(error: Mapping[str, Any], known: _Known) -> dict[str, str]:
    place, *path = error["loc"]
    if place == "body":
        if error["type"] == "extra_forbidden":
            path = path[:-1]
        return {"pointer": _pointer(path, known.names), "detail": _sentence(error, known.formats)}
    if error["type"] in ("extra_forbidden", "unknown_parameter") or not path:
        return {"detail": _SENTENCES["unknown_parameter"]}
    return {"parameter": str(path[0]), "detail": _sentence(error, known.formats)}


def invalid(errors: Sequence[Mapping[str, Any]], app: FastAPI) -> Response:
    known = _known_of(app)
    said: list[dict[str, str]] = []
    for error in errors:
        one = _error(error, known)
        if one not in said:
            said.append(one)
        if len(said) == _MOST_ERRORS:
            break
    detail = "Une valeur est à corriger." if len(said) == 1 else f"{len(said)} valeurs sont à corriger."
    return problem(422, Invalid.type, Invalid.title, detail, errors=said)


@lru_cache(maxsize=32)
def _fields_of(model: type[BaseModel]) -> _Known:
    """Of a model and of those inside it."""
    schema = model.model_json_schema()
    return _Known.of((schema, *schema.get("$defs", {}).values()))


def pointers_of(error: ValidationError, model: type[BaseModel]) -> list[Pointer]:
    """What is wrong with one object that was read by hand (a row of an import): pointers into it, in the model's own field names."""
    known = _fields_of(model)
    errors = error.errors(include_url=False, include_input=False)
    said = [
        (_pointer(one["loc"][:-1] if one["type"] == "extra_forbidden" else one["loc"], known.names), _sentence(dict(one), known.formats))
        for one in errors
    ]
    return list(dict.fromkeys(said))[:_MOST_ERRORS]


# What the database raises

_AWAY = (
    OSError,
    TimeoutError,
    sqlalchemy_errors.TimeoutError,
    sqlalchemy_errors.InterfaceError,
    sqlalchemy_errors.OperationalError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # what asyncpg 0.32 raises on a connection that was terminated while it lay in the pool
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.TooManyConnectionsError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
)
_TRY_AGAIN = frozenset({"40001", "40P01", "55P03", "57014"})
"""Serialisation failure, deadlock, lock not available, statement cancelled: the same request may well succeed a second later."""
_AWAY_CLASSES = frozenset({"08", "53", "57"})
"""SQLSTATE classes: connection, insufficient resources, operator intervention."""


def is_away(error: BaseException) -> bool:
    """Whether the database cannot be reached, whoever asks."""
    state = sqlstate(error)
    return state[:2] in _AWAY_CLASSES and state not in _TRY_AGAIN if state else _is_away(error)


def is_passing(error: BaseException) -> bool:
    """Whether the same request may well succeed in a moment: the database is away, or busy with the same rows."""
    return sqlstate(error) in _TRY_AGAIN or is_away(error)


def _is_away(error: BaseException) -> bool:
    """SQLAlchemy wraps what the driver raised, twice."""
    if isinstance(error, _AWAY) or getattr(error, "connection_invalidated", False):
        return True
    return isinstance(error, sqlalchemy_errors.DBAPIError) and error.__cause__ is not None and isinstance(error.__cause__.__cause__, _AWAY)


def failed(error: Exception) -> Response:
    """The answer to what nobody expected: 503 when the database is away or busy, else 500 without a word of what happened."""
    state = sqlstate(error)
    if state in _TRY_AGAIN:
        return refused(Unavailable("Cet objet est en cours de modification : réessayez dans un instant.", retry_after_seconds=1))
    if is_away(error):
        return refused(Unavailable())
    if state[:2] == "22":  # data exception: PostgreSQL refused a value that our own checks let through
        return refused(Malformed("Une valeur ne peut pas être enregistrée : rien n'a été changé."))
    return problem(
        500,
        "unexpected",
        "Erreur interne",
        "Une erreur inattendue est survenue : rien n'a été changé. Donnez l'identifiant de la demande au support.",
    )


def install(app: FastAPI) -> None:
    """Make every refusal of this application leave as a problem."""

    async def on_refusal(request: Request, error: Exception) -> Response:
        assert isinstance(error, Refusal)  # noqa: S101  # that is what it is registered for
        return refused(error)

    async def on_invalid(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)  # noqa: S101  # that is what it is registered for
        errors = error.errors()
        if any(one["type"] == "json_invalid" for one in errors):
            return refused(Malformed("Le corps de la demande n'est pas du JSON."))
        return invalid(errors, app)

    async def on_status(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)  # noqa: S101  # that is what it is registered for
        return _unhandled_status(error, _allowed(app, request) if error.status_code == 405 else None)

    app.add_exception_handler(Refusal, on_refusal)
    app.add_exception_handler(RequestValidationError, on_invalid)
    app.add_exception_handler(HTTPException, on_status)


def _allowed(app: FastAPI, request: Request) -> str:
    """Every method of that address (Starlette names those of the first route only)."""
    methods: set[str] = set()
    for route in app.router.routes:
        if isinstance(route, APIRoute) and route.path_regex.match(request.scope["path"]):
            methods |= route.methods or set()
    return ", ".join(sorted(methods))
