"""JSON Schemas and AsyncAPI documents: what is published fits what is said, and changes are seen.

The snapshots are rewritten by `MAILLON_SNAPSHOTS=write python -m pytest tests/contracts`; a change that would break a reader of v1 is refused even
then. Before a version is published the way out is to remove its snapshot.
"""

import json
import os
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from jsonschema import Draft202012Validator

from libs.chassis.bus import headers_of
from libs.chassis.outbox import Speaker, write
from libs.chassis.streams import GENESIS, Record, has_topic, topic
from libs.contracts.audiences import AUDIENCES, KINDS, kind_of
from libs.contracts.envelope import Event
from libs.contracts.projecting import project
from libs.contracts.pseudonyms import PseudonymKeys
from libs.contracts.registry import EVENTS, SPEAKERS
from libs.contracts.samples import sample
from libs.contracts.schemas import DIALECT, HEADERS, INTERNAL_HEADERS, all_schemas, asyncapi, event_schema, schema_id, told_kinds
from tests.contracts.making import events

SNAPSHOTS = Path(__file__).parent / "snapshots"
KEYS = PseudonymKeys(bytes(32))
EVENT_ID = UUID("00000000-0000-7000-8000-000000000001")
SCHEMAS = all_schemas()
VALIDATORS = {name: Draft202012Validator(schema, format_checker=Draft202012Validator.FORMAT_CHECKER) for name, schema in SCHEMAS.items()}


def problems(event: Event) -> list[str]:
    """What of an event's projections does not fit its published schema."""
    return [
        f"{told.audience}: {error.message}"
        for told in project(event, EVENT_ID, KEYS)
        for error in VALIDATORS[schema_id(event.type, kind_of(told.audience))].iter_errors(json.loads(told.data))
    ]


# JSON Schema


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_schema_is_valid_and_bears_its_dataschema_as_id(name: str) -> None:
    schema = SCHEMAS[name]

    Draft202012Validator.check_schema(schema)
    assert (schema["$schema"], schema["$id"]) == (DIALECT, name)
    assert set(schema["required"]) <= set(schema["properties"])


@pytest.mark.parametrize("event", EVENTS.values(), ids=EVENTS)
def test_a_schema_shows_the_fields_that_the_audience_is_granted_and_no_other(event: type[Event]) -> None:
    for kind in told_kinds(event):
        granted = AUDIENCES[kind].grants[event]
        schema = event_schema(event, kind)
        assert set(schema["properties"]) == set(granted.fields)
        for field, inner in granted.parts.items():
            part = schema["$defs"][schema["properties"][field]["items"]["$ref"].rpartition("/")[2]]
            assert set(part["properties"]) == set(inner)


def test_an_audience_has_no_schema_of_what_it_is_not_told() -> None:
    with pytest.raises(KeyError):
        event_schema(EVENTS["fr.maillon.interview.held.v1"], "justice")
    assert schema_id("fr.maillon.interview.held.v1", "justice") not in SCHEMAS


@pytest.mark.parametrize("type", EVENTS)
def test_a_sample_fits_its_schema_for_every_audience(type: str) -> None:
    assert problems(sample(type)) == []


@given(events(*EVENTS.values()))
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_whatever_is_said_fits_its_schema(event: Event) -> None:
    assert problems(event) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [({"departement": "20"}, "does not match"), ({"post_id": None}, "not of type"), ({"accepted_at": 5}, "not of type")],
)
def test_a_value_in_another_form_does_not_fit(change: dict[str, Any], message: str) -> None:
    told = json.loads(sample("fr.maillon.referral.accepted.v1").model_dump_json()) | change

    errors = [error.message for error in VALIDATORS["urn:maillon:schema:fr.maillon.referral.accepted.v1"].iter_errors(told)]

    assert any(message in error for error in errors), errors


# What the chassis puts on the wire is what the documents say


@pytest.mark.parametrize(
    "event", [sample("fr.maillon.orientation.requested.v1"), sample("fr.maillon.post.opened.v1")], ids=lambda each: each.type
)
def test_the_wire_carries_the_headers_the_schemas_and_the_topics_of_the_documents(event: Event) -> None:
    service = next(name for name, says in SPEAKERS.items() if type(event) in says)
    document = asyncapi(service)

    for said in write(Speaker(service, partial(project, keys=KEYS)), event, None):
        kind = kind_of(said.stream)
        headers = {name for name, _ in headers_of(Record(said.stream, 1, 1, GENESIS, said.attributes, said.data))}
        address = document["channels"][kind]["address"]
        told_topic = topic(service, said.stream) if has_topic(said.stream) else None

        assert set(HEADERS) <= headers <= set(HEADERS) | (set(INTERNAL_HEADERS) if kind == "internal" else set())
        assert json.loads(said.attributes)["dataschema"] == schema_id(event.type, kind)
        assert told_topic == (address and address.replace("{departement}", said.stream.partition(":")[2]))


# AsyncAPI


@pytest.mark.parametrize("service", SPEAKERS)
def test_a_document_has_a_channel_and_an_operation_for_each_audience_that_is_told_something(service: str) -> None:
    document = asyncapi(service)

    for kind in KINDS:
        types = [event for event in SPEAKERS[service] if event in AUDIENCES[kind].grants]
        assert (kind in document["channels"]) == bool(types) == (f"say_to_{kind}" in document["operations"])
        if types:
            assert list(document["channels"][kind]["messages"]) == [event.__name__ for event in types]


@pytest.mark.parametrize("service", SPEAKERS)
def test_every_reference_of_a_document_leads_somewhere(service: str) -> None:
    document = asyncapi(service, hears=SPEAKERS["partners"][:2] + SPEAKERS["referrals"][:1])

    def follow(value: Any) -> None:
        if isinstance(value, dict):
            if isinstance(value.get("$ref"), str):
                found: Any = document
                for step in value["$ref"].removeprefix("#/").split("/"):
                    found = found[step]
            for each in value.values():
                follow(each)
        elif isinstance(value, list):
            for each in value:
                follow(each)

    follow(document)
    assert json.loads(json.dumps(document)) == document


def test_a_document_tells_what_the_service_hears_of_the_others() -> None:
    document = asyncapi("funding", hears=SPEAKERS["partners"][:2])

    assert document["operations"]["hear_partners"]["action"] == "receive"
    assert document["channels"]["from_partners"]["address"] == "maillon.partners.v1"
    assert list(document["channels"]["from_partners"]["messages"]) == ["OrganizationRegistered", "OrganizationChanged"]


@pytest.mark.parametrize("service", SPEAKERS)
def test_an_example_fits_the_schema_it_stands_with(service: str) -> None:
    for message in asyncapi(service)["components"]["messages"].values():
        name = message["payload"]["$ref"].rpartition("/")[2]
        kind = kind_of(name.partition(".")[2] or "internal")
        for example in message["examples"]:
            VALIDATORS[schema_id(message["name"], kind)].validate(example["payload"])


# Snapshots


def outline(service: str) -> dict[str, Any]:
    """A service's document without its examples: the samples are kept by their digests."""
    document = asyncapi(service)
    for message in document["components"]["messages"].values():
        del message["examples"]
    return document


def breaks(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """What of a new document would break a reader of the old one: within v1 there are only optional additions."""
    found = [f"message {name} is gone" for name in old["components"]["messages"].keys() - new["components"]["messages"].keys()]
    for name, was in old["components"]["schemas"].items():
        now = new["components"]["schemas"].get(name)
        if now is None:
            found.append(f"schema {name} is gone")
        elif "enum" in was:
            found += [f"{name}: code {code} is gone" for code in was["enum"] if code not in now.get("enum", ())]
        else:
            found += [f"{name}.{field} is gone" for field in was["properties"].keys() - now["properties"].keys()]
            found += [f"{name}.{field} is no longer always there" for field in set(was["required"]) - set(now["required"])]
            found += [f"{name}.{field} was optional or absent" for field in set(now["required"]) - set(was["required"])]
            found += [
                f"{name}.{field} has another form"
                for field in was["properties"].keys() & now["properties"].keys()
                if _form(was["properties"][field]) != _form(now["properties"][field])
            ]
    return found


def _form(schema: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in schema.items() if key not in {"description", "title", "examples"}}


@pytest.mark.parametrize("service", SPEAKERS)
def test_a_service_says_what_it_said(service: str) -> None:
    path = SNAPSHOTS / f"asyncapi-{service}.json"
    now = outline(service)
    if os.environ.get("MAILLON_SNAPSHOTS") == "write":
        assert breaks(json.loads(path.read_text()) if path.exists() else now, now) == []
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(now, indent=1, ensure_ascii=False) + "\n")

    assert json.loads(path.read_text()) == now


def test_a_change_that_would_break_a_reader_is_seen_and_an_optional_addition_is_not() -> None:
    old = outline("partners")
    added, renamed, loosened, narrowed, silent = (deepcopy(old) for _ in range(5))

    added["components"]["schemas"]["PostClosed"]["properties"]["added_on"] = {"type": "string"}
    renamed["components"]["schemas"]["PostClosed"]["properties"]["ended_at"] = renamed["components"]["schemas"]["PostClosed"][
        "properties"
    ].pop("closed_at")
    loosened["components"]["schemas"]["PostClosed"]["required"].remove("closed_at")
    narrowed["components"]["schemas"]["Force"]["enum"].remove("police")
    del silent["components"]["messages"]["PostClosed"]

    assert breaks(old, added) == []
    assert breaks(old, renamed) == ["PostClosed.closed_at is gone"]
    assert breaks(old, loosened) == ["PostClosed.closed_at is no longer always there"]
    assert breaks(old, narrowed) == ["Force: code police is gone"]
    assert breaks(old, silent) == ["message PostClosed is gone"]
