"""Which fields are marked and searched for: what may be stored in clear is exempt in its own form, and nowhere else."""

from typing import Any

import pytest

from tests.applications import application
from tests.documents import JSON, Shown, shown
from tests.journeys import markers
from tests.journeys.house import SERVICES
from tests.journeys.markers import IN_CLEAR, PUBLIC, WORD, Place, fields, mark, marked_requests
from tests.planted import red
from tests.settings import settings_for


def document(title: str, name: str) -> dict[str, Any]:
    """Of a service that takes one form with one free text."""
    schema = {"title": title, "type": "object", "properties": {name: {"type": "string"}}}
    content = {"application/json": {"schema": {"$ref": f"#/components/schemas/{title}"}}}
    return {
        "paths": {"/v1/x": {"post": {"operationId": "tell", "requestBody": {"content": content}}}},
        "components": {"schemas": {title: schema}},
    }


def _openapi(name: str) -> dict[str, Any]:
    service = SERVICES[name]
    with application(service, settings_for(name, service.settings)) as app:
        return app.openapi()


def _fields_of(documents: list[dict[str, Any]]) -> set[str]:
    return {field for one in documents for _, field in fields(one)}


def test_what_is_exempt_is_there_and_is_what_is_not_searched_for(monkeypatch: pytest.MonkeyPatch) -> None:
    documents = [_openapi(name) for name in SERVICES]
    searched = _fields_of(documents)
    monkeypatch.setattr(markers, "IN_CLEAR", {})

    assert _fields_of(documents) - searched == IN_CLEAR.keys()
    assert searched >= PUBLIC.keys()


def test_a_field_of_the_same_name_in_another_form_is_searched_for() -> None:
    for where in IN_CLEAR:
        name = where.rpartition(".")[2]
        new, planted = document("ComplaintIn", name), set[str]()
        marked = mark(new["components"]["schemas"]["ComplaintIn"], {name: "x"}, new, "", planted)

        assert fields(new) == {Place("tell", where) for where in planted} == {Place("tell", f"ComplaintIn.{name}")}, (
            f"{name} is exempt everywhere"
        )
        assert marked == {name: WORD}
    assert fields(document("DiscardIn", "reason")) == set()


def test_planted_an_exemption_by_the_bare_name_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    class ByName(dict[str, str]):
        def __contains__(self, where: object) -> bool:
            return str(where).rpartition(".")[2] in {own.rpartition(".")[2] for own in self}

    monkeypatch.setattr(markers, "IN_CLEAR", ByName(IN_CLEAR))

    with red("is exempt everywhere"):
        test_a_field_of_the_same_name_in_another_form_is_searched_for()


def test_a_form_that_comes_in_by_two_doors_is_marked_at_each() -> None:
    document = _openapi("referrals")
    by_door = [{one.field for one in fields(document) if one.operation == name} for name in ("receive_referral", "receive_referrals")]

    assert by_door[0]
    assert by_door[0] == by_door[1]
    assert marked_requests(document)[1] == fields(document), "a personal field without a marker"


def test_planted_a_door_that_is_passed_over_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    def of_json(document: dict[str, Any]) -> list[Shown]:
        return [one for one in shown(document) if one.media == JSON]

    monkeypatch.setattr(markers, "shown", of_json)

    with red("a personal field without a marker"):
        test_a_form_that_comes_in_by_two_doors_is_marked_at_each()
