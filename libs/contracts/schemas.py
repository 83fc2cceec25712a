"""JSON Schemas (draft 2020-12) and AsyncAPI 3.0 documents, made from the models and the audiences: they cannot say anything else than what is said.

`$id` of a schema is the CloudEvents `dataschema`: `urn:maillon:schema:<type>` for `internal`, `urn:maillon:schema:<type>:<kind of audience>` for the
others, whose data hold fewer fields.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from functools import cache
from typing import Any, Final
from uuid import UUID

from pydantic.json_schema import GenerateJsonSchema, models_json_schema

from libs.contracts.audiences import AUDIENCES, KINDS, Audience, Kind
from libs.contracts.envelope import Event
from libs.contracts.projecting import project
from libs.contracts.pseudonyms import PseudonymKeys
from libs.contracts.registry import EVENTS, SPEAKER_OF, SPEAKERS
from libs.contracts.samples import sample
from libs.contracts.territories import DEPARTEMENTS

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
VERSION: Final = "1.0.0"
"""Of the contracts as a whole: the second number rises with an optional addition, the first when a v2 appears. CHANGELOG tells of each."""

Schema = dict[str, Any]


def schema_id(type: str, kind: Kind = "internal") -> str:
    """The `dataschema` of an event type as one kind of audience is told it."""
    return f"urn:maillon:schema:{type}" + ("" if kind == "internal" else f":{kind}")


# ------------------------------------------------------------------------------------------------------------------------
# JSON Schema


class _Generator(GenerateJsonSchema):
    def field_title_should_be_set(self, schema: Any) -> bool:
        """A field's name is title enough."""
        return False


@cache
def _definitions() -> dict[str, Schema]:
    """Every event's and part's and code list's schema by its class's name, references as `#/$defs/<name>`."""
    _, schema = models_json_schema(
        [(event, "validation") for event in EVENTS.values()], ref_template="#/$defs/{model}", schema_generator=_Generator
    )
    definitions: dict[str, Schema] = schema["$defs"]
    return definitions


def _narrowed(schema: Schema, fields: Sequence[str], pseudonyms: Iterable[str], audience: Audience) -> Schema:
    """An object's schema with the listed fields only; ids that leave as pseudonyms say so."""
    narrowed = {key: deepcopy(value) for key, value in schema.items() if key not in {"properties", "required"}}
    narrowed["properties"] = {name: deepcopy(schema["properties"][name]) for name in fields}
    narrowed["required"] = [name for name in fields if name in schema.get("required", ())]
    for name in set(fields) & set(pseudonyms):
        narrowed["properties"][name]["description"] = f"Pseudonyme propre à ce destinataire ({audience.label}), le même pour un même objet."
    for name in fields if audience.by_day else ():
        if name.endswith("_at"):
            narrowed["properties"][name]["description"] = "Le jour, à Paris : son commencement."
    return narrowed


def _references(schema: object) -> set[str]:
    """The names of the definitions that a schema refers to, directly."""
    if isinstance(schema, dict):
        found = {schema["$ref"].rpartition("/")[2]} if isinstance(schema.get("$ref"), str) else set()
        return found.union(*(_references(value) for value in schema.values()))
    if isinstance(schema, list):
        return set().union(*(_references(value) for value in schema))
    return set()


def _told(event: type[Event], kind: Kind) -> tuple[Schema, dict[str, Schema]]:
    """The schema of an event as an audience is told it, and the definitions it needs. Raises KeyError when the audience is not told of it."""
    audience = AUDIENCES[kind]
    granted = audience.grants[event]
    everything = _definitions()
    schema = _narrowed(everything[event.__name__], granted.fields, audience.pseudonyms, audience)
    needed: dict[str, Schema] = {}
    for field, inner in granted.parts.items():
        for name in _references(schema["properties"][field]):
            needed[name] = _narrowed(everything[name], inner, audience.pseudonyms, audience)
    waiting = _references(schema) | _references(list(needed.values()))
    while waiting := waiting - needed.keys():
        needed |= {name: everything[name] for name in waiting}
        waiting = _references(list(needed.values()))
    return schema, dict(sorted(needed.items()))


def event_schema(event: type[Event], kind: Kind = "internal") -> Schema:
    """The JSON Schema of an event version as one kind of audience is told it.

    Raises KeyError when that audience is not told of it. Readers ignore fields they do not know: optional ones may be added within a version.
    """
    schema, definitions = _told(event, kind)
    return {
        "$schema": DIALECT,
        "$id": schema_id(event.type, kind),
        **schema,
        "title": event.type,
        **({"$defs": definitions} if definitions else {}),
    }


def all_schemas() -> dict[str, Schema]:
    """Every schema by its `$id`, in the order of the speakers, then of the audiences."""
    return {schema_id(event.type, kind): event_schema(event, kind) for event in EVENTS.values() for kind in told_kinds(event)}


def told_kinds(event: type[Event]) -> list[Kind]:
    """The kinds of audience that are told of an event type."""
    return [kind for kind in KINDS if event in AUDIENCES[kind].grants]


# ------------------------------------------------------------------------------------------------------------------------
# AsyncAPI

_INSTANT: Schema = {"type": "string", "format": "date-time"}
_NUMBER: Schema = {"type": "string", "pattern": "^[0-9]+$"}

HEADERS: Final[Mapping[str, Schema]] = {
    "content-type": {"type": "string", "const": "application/json"},
    "ce_specversion": {"type": "string", "const": "1.0"},
    "ce_id": {
        "type": "string",
        "format": "uuid",
        "description": "L'identifiant de l'événement ; un pseudonyme hors des services de Maillon.",
    },
    "ce_source": {"type": "string", "format": "uri", "examples": ["urn:maillon:referrals"]},
    "ce_type": {"type": "string", "examples": ["fr.maillon.referral.received.v1"]},
    "ce_subject": {"type": "string", "description": "<collection>/<identifiant> : les faits d'un même objet se suivent dans l'ordre."},
    "ce_time": {**_INSTANT, "description": "Quand le fait s'est produit."},
    "ce_recordedtime": {**_INSTANT, "description": "Quand il a été enregistré."},
    "ce_dataschema": {"type": "string", "format": "uri", "description": "Le $id du schéma des données."},
    "ce_epoch": {**_NUMBER, "description": "Une histoire continue du flux."},
    "ce_sequence": {**_NUMBER, "description": "Le numéro dans le flux, sans trou."},
    "ce_previousdigest": {"type": "string", "pattern": "^[0-9a-f]{64}$", "description": "L'empreinte de l'événement précédent du flux."},
    "ce_dataclassification": {"type": "string", "enum": ["public", "internal", "restricted"]},
}
"""The Kafka headers of every event (CloudEvents 1.0, Kafka binary mode)."""

INTERNAL_HEADERS: Final[Mapping[str, Schema]] = {
    "ce_correlationid": {"type": "string", "description": "La demande d'origine."},
    "ce_causationid": {"type": "string", "description": "L'événement ou la demande qui a causé celui-ci."},
    "ce_traceparent": {"type": "string", "description": "W3C Trace Context."},
}
"""Only between the services, each when it is known."""

_ADDRESSES: Final[Mapping[Kind, str | None]] = {
    "internal": "maillon.{service}.v1",
    "interior": "maillon.{service}.for.interior.v1",
    "justice": "maillon.{service}.for.justice.v1",
    "departement": "maillon.{service}.for.departement.{{departement}}.v1",
    "organization": None,
    "police": None,
}
"""A stream's Kafka topic, of one partition. Streams of single organizations and police systems have the feed and webhooks only."""

_EXAMPLE_ID = UUID("00000000-0000-8000-8000-000000000001")
_EXAMPLE_KEYS = PseudonymKeys(bytes(32))

_SAID_BY: Final[Mapping[str, str]] = {
    "referrals": "Saisines, personnes, contacts, évaluations et orientations",
    "partners": "Structures, services, unités, postes et ressorts",
    "funding": "Plans de financement, conventions, contributions et versements",
    "reporting": "Publications de chiffres et bilans d'activité",
}


def _name(event: type[Event], kind: Kind) -> str:
    return event.__name__ if kind == "internal" else f"{event.__name__}.{kind}"


def _example(event: type[Event], kind: Kind) -> dict[str, Any]:
    """The sample as the audience is told it, its pseudonyms made with a key of zeros."""
    shown = sample(event.type)
    for field in (AUDIENCES[kind].perimeters.get(event), AUDIENCES[kind].only.get(event)):
        if field is not None and getattr(shown, field) is None:  # added to the event after its sample
            shown = shown.model_copy(update={field: _EXAMPLE_ID})
    told = next(each for each in project(shown, _EXAMPLE_ID, _EXAMPLE_KEYS) if each.audience.partition(":")[0] == kind)
    payload: dict[str, Any] = json.loads(told.data)
    return payload


def _message(event: type[Event], kind: Kind) -> Schema:
    return {
        "name": event.type,
        "title": event.type,
        **({"summary": re.sub(r"\s+", " ", event.__doc__).strip()} if event.__doc__ else {}),
        "contentType": "application/json",
        "headers": {"$ref": f"#/components/schemas/{'InternalHeaders' if kind == 'internal' else 'Headers'}"},
        "payload": {"$ref": f"#/components/schemas/{_name(event, kind)}"},
        "bindings": {"kafka": {"key": {"type": "string", "description": "ce_subject"}, "bindingVersion": "0.5.0"}},
        "examples": [{"name": "sample", "payload": _example(event, kind)}],
    }


def _components(pairs: Iterable[tuple[type[Event], Kind]]) -> dict[str, Schema]:
    """The schemas of events and what they need, each once, references as `#/components/schemas/<name>`.

    A part that an audience sees with fewer fields has the audience in its name.
    """
    everything = _definitions()
    schemas: dict[str, Schema] = {}
    for event, kind in pairs:
        schema, needed = _told(event, kind)
        names = {name: name if definition == everything[name] else f"{name}.{kind}" for name, definition in needed.items()}
        for name, definition in needed.items():
            schemas[names[name]] = _renamed(definition, names)
        schemas[_name(event, kind)] = {**_renamed(schema, names), "title": event.type, "$id": schema_id(event.type, kind)}
    return schemas


def _renamed(schema: Any, names: Mapping[str, str]) -> Any:
    if isinstance(schema, dict):
        return {
            key: f"#/components/schemas/{names[value.rpartition('/')[2]]}" if key == "$ref" else _renamed(value, names)
            for key, value in schema.items()
        }
    return [_renamed(value, names) for value in schema] if isinstance(schema, list) else schema


def _channel(service: str, kind: Kind, types: Sequence[type[Event]]) -> Schema:
    address = _ADDRESSES[kind]
    channel: Schema = {
        "address": None if address is None else address.format(service=service),
        "title": AUDIENCES[kind].label,
        "description": _CHANNEL_TEXTS[kind],
        "messages": {event.__name__: {"$ref": f"#/components/messages/{_name(event, kind)}"} for event in types},
    }
    if kind == "departement":
        channel["parameters"] = {
            "departement": {
                "description": "Le code du département ou de la collectivité (COG).",
                "enum": list(DEPARTEMENTS),
                "examples": ["95"],
            }
        }
    if address is not None:
        channel["bindings"] = {"kafka": {"partitions": 1, "bindingVersion": "0.5.0"}}
    return channel


_FEED = "Le même flux, octet pour octet, se lit par GET /v1/streams/{flux}/events et par webhook."
_MINISTRY = (
    "sans identité, par pseudonymes, au jour près (ce_time et ce_recordedtime compris). Les orientations, alertes et effacements"
    " portent d'autres pseudonymes que la réception et l'avancement d'une saisine : rien ne les y rattache."
)
_CHANNEL_TEXTS: Final[Mapping[Kind, str]] = {
    "internal": f"Ce que le service dit aux autres services de Maillon. {_FEED}",
    "interior": f"La part du ministère de l'Intérieur : {_MINISTRY} {_FEED}",
    "justice": f"La part du ministère de la Justice : {_MINISTRY} {_FEED}",
    "departement": f"La part de la coordination d'un département. {_FEED}",
    "organization": "La part d'une structure : ce qui la concerne. Sans sujet Kafka ; par GET /v1/streams/organization:{id}/events et par webhook.",
    "police": "La part d'un système de police : l'avancement de ses propres saisines. referral_id est l'identifiant de leur reçu ; leur référence"
    " externe se lit par GET /v1/referral-statuses/{referral_id}. Sans sujet Kafka ; par GET /v1/streams/police:{id}/events et par webhook.",
}


def asyncapi(service: str, hears: Iterable[type[Event]] = ()) -> dict[str, Any]:
    """The AsyncAPI 3.0 document of a service: what it says to each audience, and the events of the other services that it hears.

    Raises KeyError for a service that says nothing.
    """
    says = {kind: [event for event in SPEAKERS[service] if event in AUDIENCES[kind].grants] for kind in KINDS}
    heard: dict[str, list[type[Event]]] = {}
    for event in hears:
        heard.setdefault(SPEAKER_OF[event.type], []).append(event)
    pairs: list[tuple[type[Event], Kind]] = [(event, kind) for kind, types in says.items() for event in types]
    pairs += [(event, "internal") for types in heard.values() for event in types if (event, "internal") not in pairs]

    channels: dict[str, Schema] = {kind: _channel(service, kind, types) for kind, types in says.items() if types}
    channels |= {f"from_{speaker}": _channel(speaker, "internal", types) for speaker, types in heard.items()}
    operations = {
        f"{'say_to' if action == 'send' else 'hear'}_{channel.removeprefix('from_')}": {
            "action": action,
            "channel": {"$ref": f"#/channels/{channel}"},
            "summary": channels[channel]["description"],
            "messages": [{"$ref": f"#/channels/{channel}/messages/{name}"} for name in channels[channel]["messages"]],
        }
        for channel in channels
        for action in ("receive" if channel.startswith("from_") else "send",)
    }
    headers = {"type": "object", "properties": dict(HEADERS), "required": list(HEADERS)}
    return {
        "asyncapi": "3.0.0",
        "id": f"urn:maillon:{service}",
        "info": {
            "title": f"Maillon : événements du service {service}",
            "version": VERSION,
            "description": f"{_SAID_BY[service]}. CloudEvents 1.0 en mode binaire Kafka ; un sujet et une partition par flux, numérotés sans trou.",
        },
        "defaultContentType": "application/json",
        "servers": {
            "bus": {
                "host": "{bootstrap}",
                "protocol": "kafka",
                "description": "Le bus du réseau (protocole Kafka).",
                "variables": {"bootstrap": {"default": "127.0.0.1:9092", "description": "KAFKA_BOOTSTRAP_SERVERS"}},
            }
        },
        "channels": channels,
        "operations": operations,
        "components": {
            "messages": {_name(event, kind): _message(event, kind) for event, kind in pairs},
            "schemas": {
                "Headers": headers,
                "InternalHeaders": {**headers, "properties": {**HEADERS, **INTERNAL_HEADERS}},
                **_components(pairs),
            },
        },
    }
