"""Unmistakable personal values in every field of a request that a person could be read in, and the places where they must not be found.

Which fields: every text of every request body of every service whose form lets free words, a telephone number, a mailbox or a birth date in.
They are found in the models; what may be stored in clear is named here, with its reason. What belongs to a public directory gets marks of its own:
they may lie in the tables of the service that was told, and nowhere else.
"""

import json
import re
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from tests.documents import JSON, Shown, shown
from tests.journeys.house import House
from tests.needles import held

WORD: Final = "zqxjvmarqueur"
PHONE: Final = "639989731"
BIRTH: Final = "1913-02-17"
OPEN_WORD: Final = "zqxjvannuaire"
OPEN_PHONE: Final = "639989741"
NEEDLES: Final = (WORD, PHONE, BIRTH)

_REFERENCE: Final = (
    "the police system's own number of the case; it is in the table referrals, shown to that system and whoever works the case"
)
IN_CLEAR: Final = {
    "ReferralIn.external_reference": _REFERENCE,
    "ReferenceSearchIn.external_reference": _REFERENCE,
    ".key": "an idempotency key, of a line of a batch: the caller's own number of its request",
    "SubscriptionIn.url": "a subscriber's receiver",
    "SubscriptionIn.stream": "a stream's name",
    "ConfirmationIn.stream": "a stream's name",
    "DiscardIn.reason": "an operator's note on a dead letter",
}
"""Fields that may be stored in clear, with the reason. A field of the same name elsewhere is marked and searched for."""

_DIRECTORY: Final = "the directory that everybody is sent to: names of structures, services and places, their switchboard and mailbox"
_HOUSE: Final = "a name that the administration gave to what is its own: a unit, a post, a funder"
PUBLIC: Final = {
    "OrganizationIn.name": _DIRECTORY,
    "OrganizationChange.name": _DIRECTORY,
    "LocationIn.name": _DIRECTORY,
    "LocationIn.address": _DIRECTORY,
    "ServiceIn.name": _DIRECTORY,
    "ServiceIn.description": _DIRECTORY,
    "ServiceIn.opening_hours": _DIRECTORY,
    "ServiceIn.phone": _DIRECTORY,
    "ServiceIn.email": _DIRECTORY,
    "ServiceChange.name": _DIRECTORY,
    "ServiceChange.description": _DIRECTORY,
    "ServiceChange.opening_hours": _DIRECTORY,
    "ServiceChange.phone": _DIRECTORY,
    "ServiceChange.email": _DIRECTORY,
    "UnitIn.code": _HOUSE,
    "UnitIn.label": _HOUSE,
    "UnitChange.code": _HOUSE,
    "UnitChange.label": _HOUSE,
    "PostIn.label": _HOUSE,
    "PostLabel.label": _HOUSE,
    "FunderIn.name": _HOUSE,
}
"""Fields that are told to everybody who may read the list, with the reason; kept in clear by the service that was told."""

_FORMS: Final = ((WORD, WORD), (f"{WORD}@exemple.invalid", f"{WORD}@exemple.invalid"), (f"+33{PHONE}", f"+33{PHONE}"))

Schema = dict[str, Any]


class Place(NamedTuple):
    """A field of a form is marked by the request that was sent with it: the same form comes in by several doors."""

    operation: str
    field: str


def _marker(schema: Schema, name: str) -> Any | None:
    """The marker that fits a text field, `None` for a field in which no person can be read (codes, ids, hours, instants)."""
    for choice in (schema, *schema.get("anyOf", ())):
        if choice.get("type") != "string" or "enum" in choice or "const" in choice or choice.get("format") in ("uuid", "date-time"):
            continue
        if choice.get("format") == "date":
            return BIRTH if name.startswith("birth") else None
        for marker, tried in _FORMS:
            if re.search(choice.get("pattern", ""), tried):
                return marker
    return None


def _placed(marker: Any, where: str) -> Any:
    return marker.replace(WORD, OPEN_WORD).replace(PHONE, OPEN_PHONE) if where in PUBLIC else marker


def _object(schema: Schema, document: Schema) -> Schema:
    for choice in (schema, *schema.get("anyOf", ())):
        if "$ref" in choice:
            found: Schema = document["components"]["schemas"][choice["$ref"].rpartition("/")[2]]
            return found
        if "properties" in choice or "items" in choice:
            return dict(choice)
    return schema


def mark(schema: Schema, given: Any, document: Schema, path: str, planted: set[str]) -> Any:
    """The given example with a marker in every field that takes one, whether the example had it or not."""
    schema = _object(schema, document)
    if isinstance(given, list):
        item = _object(schema.get("items", {}), document)
        marker = _marker(item, path.rpartition(".")[2])
        if marker is not None and given:
            planted.add(path)
            return [marker]
        return [mark(item, one, document, path, planted) for one in given]
    if not isinstance(given, dict):
        return given
    marked = dict(given)
    for name, field in schema.get("properties", {}).items():
        where = f"{schema.get('title', path)}.{name}"
        marker = None if where in IN_CLEAR else _marker(field, name)
        if marker is not None:
            marked[name] = _placed(marker, where)
            planted.add(where)
        elif name in marked:
            marked[name] = mark(field, marked[name], document, where, planted)
    return marked


def fields(document: Schema) -> set[Place]:
    """Every field of every request body that takes a marker, found in the schemas alone."""
    found: set[Place] = set()
    for operations in document["paths"].values():
        for operation in operations.values():
            for content in operation.get("requestBody", {}).get("content", {}).values():
                taking = _fields(content.get("schema", {}), document, "", frozenset())
                found |= {Place(operation["operationId"], where) for where in taking}
    return found


def _fields(schema: Schema, document: Schema, path: str, above: frozenset[str]) -> Iterator[str]:
    schema = _object(schema, document)
    if "items" in schema:
        inner = _object(schema["items"], document)
        if _marker(inner, path.rpartition(".")[2]) is not None:
            yield path
        yield from _fields(inner, document, path, above)
    title = str(schema.get("title", ""))
    if title in above:
        return
    for name, field in schema.get("properties", {}).items():
        where = f"{title}.{name}"
        if where not in IN_CLEAR and _marker(field, name) is not None:
            yield where
        yield from _fields(field, document, where, above | {title})


def marked_requests(document: Schema) -> tuple[list[Shown], set[Place]]:
    """Every example with a body, marked, and the fields that were planted."""
    planted: set[Place] = set()
    requests = []
    for one in shown(document):
        if "value" in one.example:
            schema = document["paths"][one.path][one.method.lower()]["requestBody"]["content"][one.media]["schema"]
            given = [one.content] if one.media == JSON else one.content.splitlines()
            wheres: set[str] = set()
            values = [_told_apart(mark(schema, _complete(json.loads(text)), document, "", wheres)) for text in given]
            value = values[0] if one.media == JSON else "".join(json.dumps(each) + "\n" for each in values)
            planted |= {Place(one.operation, where) for where in wheres}
            requests.append(one._replace(example=one.example | {"value": value}))
    return requests, planted


def _told_apart(value: Any) -> Any:
    """Of one name and birth they would be one person on both sides; signs and digits make no difference to a name. An age would contradict the birth."""
    for number, person in enumerate(_persons_of(value)):
        person["identity"]["given_name"] = WORD + chr(ord("a") + number)
        person.pop("approximate_age", None)
    return value


def _complete(value: Any) -> Any:
    """Examples leave optional parts of a person out: each gets them."""
    for person in _persons_of(value):
        person.setdefault("identity", {"family_name": "x", "given_name": "x"})
        person.setdefault("contact", {"phones": ["+33639980001"]})
        person["contact"].setdefault("phones", ["+33639980001"])
        person.setdefault("safe_contact", {"modes": ["phone"], "voicemail_allowed": False, "text_allowed": False, "read_by_others": True})
    return value


def _persons_of(value: Any) -> list[Any]:
    """Of a referral, or of a line that holds one."""
    value = value.get("referral", value) if isinstance(value, dict) else {}
    found = value.get("persons") if isinstance(value, dict) else None
    return found if isinstance(found, list) else []


# Where it is looked for


def found_in(text: str | bytes) -> bool:
    return bool(held(text, NEEDLES))


def open_in(text: str) -> bool:
    return bool(held(text, (OPEN_WORD, OPEN_PHONE)))


async def rows_of(house: House) -> dict[str, list[str]]:
    """Every row of every table of every database, as text: bytes are hexadecimal there."""
    seen: dict[str, list[str]] = {}
    for name in house.urls:
        tables = await house[name].rows("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        for table in tables:
            rows = await house[name].rows(f'SELECT t::text AS row FROM "{table.tablename}" t')
            seen[f"{name}.{table.tablename}"] = [row.row for row in rows]
    return seen
