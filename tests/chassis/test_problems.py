"""Whatever goes wrong leaves as a problem, and says nothing of what was sent."""

import json
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from libs.chassis import limits
from libs.chassis.problems import failed, refused
from libs.chassis.refusals import Conflict, Invalid
from tests.chassis.answering import MARKER, Issuer, app_of, calling
from tests.planted import seen_red

ISSUER = Issuer()


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    """Signed in as police; no database behind it."""
    async with calling(app_of(ISSUER), ISSUER.headers()) as client:
        yield client


def problem(answer: httpx.Response, status: int, type: str) -> dict[str, Any]:
    """Checks the form of a problem, and gives it."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    said: dict[str, Any] = answer.json()
    assert said["type"] == f"https://maillon.example/problems/{type}"
    assert said["status"] == status
    assert said["title"]
    assert said["detail"].endswith((".", '"', "»", ")"))
    assert said["instance"] == f"urn:uuid:{answer.headers['x-request-id']}"
    assert MARKER not in answer.text
    return said


async def _echo(client: httpx.AsyncClient, content: bytes | Any, **headers: str) -> httpx.Response:
    raw = content if isinstance(content, bytes) else json.dumps(content).encode()
    return await client.post("/v1/echo", content=raw, headers={"Content-Type": "application/json", **headers})


MALFORMED = {
    "no JSON": b"{name:}",
    "half of it": b'{"name": "a',
    "two values": b"{}{}",
    "a key twice": b'{"name":"a","name":"b"}',
    "NaN": b'{"name":NaN}',
    "Infinity": b'{"name":-Infinity}',
    "a number too large for a float": b'{"name":1e999}',
    "a number of 4000 digits": b'{"name":%b}' % (b"1" * 4000),
    "a number of 50 digits": b'{"name":%b}' % (b"1" * 50),
    "latin-1": '{"name":"é"}'.encode("latin-1"),
    "UTF-16": '{"name":"a"}'.encode("utf-16"),
    "a byte order mark": b'\xef\xbb\xbf{"name":"a"}',
    "NUL": b"\x00",
    "lists in lists": b"[" * 2000,
    "objects in objects": b'{"a":' * 700,
}


@pytest.mark.parametrize("case", MALFORMED)
async def test_a_body_that_is_not_json_is_malformed(client: httpx.AsyncClient, case: str) -> None:
    problem(await _echo(client, MALFORMED[case]), 400, "malformed")


INVALID: dict[str, tuple[Any, list[str]]] = {
    "nothing": (b"", [""]),
    "no object": ([], [""]),
    "text": (MARKER, [""]),
    "a missing field": ({}, ["/name"]),
    "an unknown field": ({"name": "a", MARKER: 1}, [""]),
    "an unknown field deeper": ({"name": "a", "parts": [{"label": "x", "count": 1, MARKER: {}}]}, ["/parts/0"]),
    "a number for a text": ({"name": 5}, ["/name"]),
    "a text for a number": ({"name": "a", "parts": [{"label": "x", "count": "1"}]}, ["/parts/0/count"]),
    "false for a number": ({"name": "a", "parts": [{"label": "x", "count": False}]}, ["/parts/0/count"]),
    "a float for a number": ({"name": "a", "parts": [{"label": "x", "count": 1.5}]}, ["/parts/0/count"]),
    "a large number": ({"name": "a", "parts": [{"label": "x", "count": 2**63}]}, ["/parts/0/count"]),
    "1 for true": ({"name": "a", "known": 1}, ["/known"]),
    "a code in capitals": ({"name": "a", "channel": MARKER}, ["/channel"]),
    "an instant without zone": ({"name": "a", "seen_at": "2026-11-23T10:00:00"}, ["/seen_at"]),
    "an instant that is none": ({"name": "a", "seen_at": MARKER}, ["/seen_at"]),
    "an instant as a number": ({"name": "a", "seen_at": 5}, ["/seen_at"]),
    "a day that is none": ({"name": "a", "seen_on": "2026-02-30"}, ["/seen_on"]),
    "an id in capitals": ({"name": "a", "parent": "00000000-0000-4000-8000-00000000000A"}, ["/parent"]),
    "NUL in a text": ({"name": "a\x00b"}, ["/name"]),
    "a lone surrogate": (b'{"name":"\\ud800"}', ["/name"]),
    "a lone surrogate as a name": (b'{"name":"a","\\ud800":1}', [""]),
    "a long text": ({"name": MARKER * 10}, ["/name"]),
    "too many": ({"name": "a", "parts": [{"label": "x", "count": 1}] * 6}, ["/parts"]),
    "several things": ({"name": "", "known": MARKER, "parts": [{}]}, ["/known", "/name", "/parts/0/count", "/parts/0/label"]),
    "null": ({"name": None}, ["/name"]),
}


@pytest.mark.parametrize("case", INVALID)
async def test_a_body_with_wrong_values_is_pointed_at(client: httpx.AsyncClient, case: str) -> None:
    body, pointers = INVALID[case]

    said = problem(await _echo(client, body), 422, "invalid")

    assert sorted(error["pointer"] for error in said["errors"]) == pointers
    assert all(
        (error["detail"][-1] in ".»" and error["detail"][0].isupper()) or error["detail"].startswith("true") for error in said["errors"]
    )


async def test_a_bound_of_one_is_said_in_the_singular(client: httpx.AsyncClient) -> None:
    said = problem(await _echo(client, {"name": ""}), 422, "invalid")

    assert said["errors"] == [{"pointer": "/name", "detail": "Au moins un caractère."}]


async def test_a_correct_body_is_accepted(client: httpx.AsyncClient) -> None:
    body = {"name": " Élan ", "seen_at": "2026-11-23T10:00:00+01:00", "seen_on": "2026-11-23", "channel": "daybook", "parts": []}

    answer = await _echo(client, body, **{"Content-Type": "application/json; charset=UTF-8"})

    assert answer.status_code == 200, answer.text
    assert answer.json()["name"] == "Élan"
    assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "application/json; charset=latin-1", "application/jsonx", ""]
)
async def test_a_body_of_another_type_is_not_read(client: httpx.AsyncClient, kind: str) -> None:
    problem(await _echo(client, {"name": "a"}, **{"Content-Type": kind}), 415, "not-json")


async def test_a_compressed_body_is_not_read(client: httpx.AsyncClient) -> None:
    problem(await _echo(client, b"\x1f\x8b", **{"Content-Encoding": "gzip"}), 415, "not-json")


@pytest.mark.parametrize(
    ("query", "parameters"),
    [
        ("limit=0", ["limit"]),
        ("limit=201", ["limit"]),
        ("limit=1.0", ["limit"]),
        ("limit=99999999999999999999999", ["limit"]),
        ("limit=1&limit=2", ["limit"]),
        ("closed=1", ["closed"]),
        ("cursor=%C3%A9", ["cursor"]),
        ("tag=a&tag=b&tag=c&tag=d", ["tag"]),
        (f"{MARKER}=1", [None]),
        (f"other={MARKER}&closed=2", [None]),
    ],
)
async def test_query_parameters_are_strict(client: httpx.AsyncClient, query: str, parameters: list[str | None]) -> None:
    said = problem(await client.get(f"/v1/things?{query}"), 422, "invalid")

    assert [error.get("parameter") for error in said["errors"]] == parameters


@pytest.mark.parametrize("address", ["/v1/things?cursor=%FF", "/v1/things?cursor=%00", "/v1/%E9", "/v1/things/%00", "/v1/things?a=%0A"])
async def test_an_address_that_is_not_text_is_malformed(client: httpx.AsyncClient, address: str) -> None:
    problem(await client.get(address), 400, "malformed")


async def test_planted_an_address_that_nobody_looks_at_is_seen(client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "_readable", lambda _: True)

    await seen_red(test_an_address_that_is_not_text_is_malformed(client, "/v1/%E9"), "== 400")


async def test_an_id_in_the_path_that_is_none_is_named_by_its_parameter() -> None:
    async with calling(app_of(ISSUER), ISSUER.headers(role="iscg")) as client:
        said = problem(await client.get(f"/v1/things/{MARKER}", headers={"X-Purpose": "follow_up"}), 422, "invalid")

    assert said["errors"] == [{"parameter": "thing_id", "detail": "Un identifiant est un UUID en minuscules, avec ses tirets."}]


@pytest.mark.parametrize("name", ["Authorization", "Content-Type"])
async def test_a_header_given_twice_is_malformed(client: httpx.AsyncClient, name: str) -> None:
    headers = [("Content-Type", "application/json"), *client.headers.items()]
    twice = [*headers, next((key, value) for key, value in headers if key.lower() == name.lower())]

    request = httpx.Request("POST", "http://maillon.test/v1/echo", content=b'{"name":"a"}', headers=twice)

    problem(await client.send(request), 400, "malformed")


@pytest.mark.parametrize("header", ["Bearer é.b.c".encode(), b"Bearer a.b.c\xff", b"Bearer a\tb"])
async def test_a_header_that_is_not_plain_text_is_malformed(client: httpx.AsyncClient, header: bytes) -> None:
    request = httpx.Request("GET", "http://maillon.test/v1/things", headers=[(b"Authorization", header)])

    problem(await client.send(request), 400, "malformed")


async def test_an_unknown_address_is_a_problem_that_does_not_repeat_it(client: httpx.AsyncClient) -> None:
    problem(await client.get(f"/v1/{MARKER}"), 404, "no-such-address")


async def test_an_unknown_method_is_answered_with_every_method_of_the_address(client: httpx.AsyncClient) -> None:
    answer = await client.delete("/v1/things")

    problem(answer, 405, "method-not-allowed")
    assert answer.headers["allow"] == "GET, POST"


async def test_an_unexpected_error_says_nothing(client: httpx.AsyncClient, capsys: pytest.CaptureFixture[str]) -> None:
    said = problem(await client.get("/v1/broken"), 500, "unexpected")

    assert set(said) == {"type", "title", "status", "detail", "instance"}


async def test_without_its_database_the_service_asks_to_try_again(client: httpx.AsyncClient) -> None:
    answer = await client.get("/v1/things")

    problem(answer, 503, "unavailable")
    assert int(answer.headers["retry-after"]) > 0


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ConnectionRefusedError(), 503),
        (TimeoutError(), 503),
        (asyncpg.CannotConnectNowError("starting"), 503),
        (asyncpg.DeadlockDetectedError("x"), 503),
        (asyncpg.LockNotAvailableError("x"), 503),
        (asyncpg.NumericValueOutOfRangeError("5"), 400),
        (asyncpg.UniqueViolationError("(name)=(Dupont)"), 500),
        (ValueError("Dupont"), 500),
    ],
)
def test_what_the_database_raises_is_told_apart(error: Exception, status: int) -> None:
    answer = failed(error)

    assert answer.status_code == status
    assert b"Dupont" not in bytes(answer.body)


def test_a_refusals_own_members_do_not_hide_the_standard_ones() -> None:
    refusal = Conflict("Déjà là.", more={"status": 5, "first_id": "x"}, pointers=[("/name", "Pris.")])

    body = json.loads(bytes(refused(refusal).body))
    assert (body["status"], body["first_id"], body["errors"]) == (409, "x", [{"pointer": "/name", "detail": "Pris."}])
    assert Invalid.status == 422


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=st.binary(max_size=200) | _JSON.map(lambda value: json.dumps(value).encode()))
async def test_no_body_whatever_makes_a_server_error(client: httpx.AsyncClient, body: bytes) -> None:
    assert (await _echo(client, body)).status_code in (200, 400, 422)
