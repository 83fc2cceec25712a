"""Bad input of every kind gets a problem that says what is wrong, echoes nothing, and changes nothing."""

from typing import Any

import pytest

from libs.contracts import demonstration as d
from tests.services.partners.conftest import Partners
from tests.services.partners.test_directory import ORGANIZATION, SERVICE, UNIT
from tests.services.partners.test_posts import POST

MARK = "MARQUE-SAISIE"

ORGANIZATIONS = ("administrator", "/v1/organizations", ORGANIZATION)
SERVICES = ("coordinator-95", "/v1/services", SERVICE)
UNITS = ("administrator", "/v1/units", UNIT)
POSTS = ("coordinator-95", "/v1/posts", POST)

BAD: dict[str, tuple[tuple[str, str, dict[str, Any]], dict[str, Any], str]] = {
    "a SIRET that fails its formula": (ORGANIZATIONS, {"siret": "20003452800041"}, "/siret"),
    "a SIRET with spaces": (ORGANIZATIONS, {"siret": "200 034 528 00014"}, "/siret"),
    "a SIRET that is a number": (ORGANIZATIONS, {"siret": 20003452800014}, "/siret"),
    "an RNA in another form": (ORGANIZATIONS, {"rna": "751004076"}, "/rna"),
    "a kind nobody knows": (ORGANIZATIONS, {"kind": MARK}, "/kind"),
    "a département nobody knows": (ORGANIZATIONS, {"departement": "20"}, "/departement"),
    "an empty name": (ORGANIZATIONS, {"name": "   "}, "/name"),
    "a name with a line break": (ORGANIZATIONS, {"name": f"{MARK}\n"}, "/name"),
    "a name that turns the reading around": (ORGANIZATIONS, {"name": f"{MARK}\u202e"}, "/name"),
    "a name without end": (ORGANIZATIONS, {"name": MARK * 100}, "/name"),
    "offence data in words": (ORGANIZATIONS, {"offence_data_allowed": "true"}, "/offence_data_allowed"),
    "an id in capitals": (ORGANIZATIONS, {"id": "0000009A-0001-4000-8000-000000000001"}, "/id"),
    "an unknown field": (ORGANIZATIONS, {MARK: 1}, ""),
    "no needs": (SERVICES, {"needs": []}, "/needs"),
    "a need nobody knows": (SERVICES, {"needs": ["rights", MARK]}, "/needs/1"),
    "a theme as a need": (SERVICES, {"needs": ["couple_violence"]}, "/needs/0"),
    "a negative capacity": (SERVICES, {"capacity": -1}, "/capacity"),
    "a capacity with decimals": (SERVICES, {"capacity": 1.0}, "/capacity"),
    "a capacity that is true": (SERVICES, {"capacity": True}, "/capacity"),
    "a capacity beyond all numbers": (SERVICES, {"capacity": 10**30}, "/capacity"),
    "a telephone number with letters": (SERVICES, {"phone": MARK}, "/phone"),
    "an address without at sign": (SERVICES, {"email": MARK}, "/email"),
    "a script as address": (SERVICES, {"url": "javascript:alert(1)"}, "/url"),
    "an address with a line break": (SERVICES, {"url": "https://exemple.invalid/\n"}, "/url"),
    "a commune in another form": (SERVICES, {"communes": ["95127", "9512"]}, "/communes/1"),
    "a commune INSEE does not know": (SERVICES, {"communes": ["95127", "95999"]}, "/communes/1"),
    "too many communes": (SERVICES, {"communes": ["95127"] * 1001}, "/communes"),
    "a place without address": (SERVICES, {"locations": [{"name": "x", "postcode": "95000", "commune": "95127"}]}, "/locations/0/address"),
    "a place in an unknown commune": (
        SERVICES,
        {"locations": [{"name": "x", "address": "y", "postcode": "95000", "commune": "95999"}]},
        "/locations/0/commune",
    ),
    "a place given twice": (SERVICES, {"locations": SERVICE["locations"] * 2}, "/locations/1"),
    "an unknown field of a place": (SERVICES, {"locations": [SERVICE["locations"][0] | {MARK: 1}]}, "/locations/0"),
    "an organisation nobody knows": (SERVICES, {"organization_id": str(d.POST)}, "/organization_id"),
    "opening hours with a bell": (SERVICES, {"opening_hours": "\a"}, "/opening_hours"),
    "a force nobody knows": (UNITS, {"force": "mixed"}, "/force"),
    "a text where a list is expected": (UNITS, {"communes": "95127"}, "/communes"),
    "more than full time": (POSTS, {"full_time_percent": 101}, "/full_time_percent"),
    "no time at all": (POSTS, {"full_time_percent": 0}, "/full_time_percent"),
    "a day that does not exist": (POSTS, {"opened_on": "2026-02-30"}, "/opened_on"),
    "a day in French": (POSTS, {"opened_on": "01/03/2026"}, "/opened_on"),
    "a channel nobody knows": (POSTS, {"channels": ["officer", MARK]}, "/channels/1"),
    "filled in words": (POSTS, {"filled": "oui"}, "/filled"),
    "a unit that is no id": (POSTS, {"units": [MARK]}, "/units/0"),
    "null where a value is expected": (POSTS, {"label": None}, "/label"),
}


@pytest.mark.parametrize(("request_", "change", "pointer"), BAD.values(), ids=BAD.keys())
async def test_a_bad_value_is_refused_with_its_pointer_and_changes_nothing(
    untouched: Partners, request_: tuple[str, str, dict[str, Any]], change: dict[str, Any], pointer: str
) -> None:
    who, address, good = request_
    before = await untouched.snapshot()

    answer = await untouched.post(who, address, good | change)

    assert answer.status_code == 422, answer.text
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert [error["pointer"] for error in answer.json()["errors"]][:1] == [pointer]
    assert MARK not in answer.text
    assert await untouched.snapshot() == before


REQUIRED = [(request_, name) for request_ in (ORGANIZATIONS, SERVICES, UNITS, POSTS) for name in request_[2]]
OPTIONAL = {
    "rna",
    "offence_data_allowed",
    "themes",
    "communes",
    "sexes",
    "age_bands",
    "capacity",
    "phone",
    "email",
    "url",
    "opening_hours",
    "locations",
    "channels",
}


@pytest.mark.parametrize(("request_", "name"), [(r, name) for r, name in REQUIRED if name not in OPTIONAL and name != "units"])
async def test_what_is_missing_is_named(untouched: Partners, request_: tuple[str, str, dict[str, Any]], name: str) -> None:
    who, address, good = request_

    answer = await untouched.post(who, address, {one: value for one, value in good.items() if one != name})

    assert answer.status_code == 422
    assert answer.json()["errors"] == [{"pointer": f"/{name}", "detail": "Ce champ est obligatoire."}]


UNREADABLE: dict[str, tuple[bytes, str, int]] = {
    "no JSON": (b"{", "application/json", 400),
    "a NUL byte": (b"\0", "application/json", 400),
    "Latin-1": ('{"name": "é"}'.encode("latin-1"), "application/json", 400),
    "a key twice": (b'{"name": "a", "name": "b"}', "application/json", 400),
    "NaN": (b'{"capacity": NaN}', "application/json", 400),
    "deeper than a well": (b"[" * 100_000, "application/json", 400),
    "a form": (b"name=x", "application/x-www-form-urlencoded", 415),
    "larger than allowed": (b'"' + b"x" * 1_100_000 + b'"', "application/json", 413),
    "nothing": (b"", "application/json", 422),
}


@pytest.mark.parametrize(("content", "kind", "status"), UNREADABLE.values(), ids=UNREADABLE.keys())
@pytest.mark.parametrize("address", ["/v1/organizations", "/v1/imports/jurisdictions"])
async def test_what_cannot_be_read_is_refused(untouched: Partners, address: str, content: bytes, kind: str, status: int) -> None:
    before = await untouched.snapshot()
    headers = untouched.token("administrator") | {"Idempotency-Key": "k", "Content-Type": kind}

    answer = await untouched.client.post(address, content=content, headers=headers)

    assert answer.status_code == status
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert await untouched.snapshot() == before


async def test_a_creation_needs_a_key(untouched: Partners) -> None:
    answer = await untouched.client.post("/v1/organizations", json=ORGANIZATION, headers=untouched.token("administrator"))

    assert answer.status_code == 400
    assert answer.json()["type"].endswith("/idempotency-key-missing")


BAD_QUERIES = [
    "services?departement=999", "services?commune=9512", "services?need=x", "services?kind=x", "services?organization=x", "services?closed=1",
    "services?limit=0", "services?limit=201", "services?limit=1.0", "services?cursor=x", "services?q=x", "services?kind=legal&kind=other",
    "units?force=mixed", "posts?state=x", "posts?unit=x", "communes?postcode=9500", "coverage", "coverage?departement=95&covered=x",
    "organizations?siret=20003452800041",
]  # fmt: skip


@pytest.mark.parametrize("address", BAD_QUERIES)
async def test_a_bad_query_is_refused(untouched: Partners, address: str) -> None:
    answer = await untouched.get("iscg-95", f"/v1/{address}")

    assert answer.status_code in (400, 422)
    assert answer.headers["Content-Type"] == "application/problem+json"


@pytest.mark.parametrize("address", ["services/x", f"services/{d.POST}", "units/1", f"posts/{d.UNIT}", f"organizations/{d.POST}"])
async def test_what_does_not_exist_is_not_found(untouched: Partners, address: str) -> None:
    assert (await untouched.get("iscg-95", f"/v1/{address}")).status_code in (404, 422)


WRITES = [
    ("POST", "/v1/organizations", {"administrator"}),
    ("PUT", f"/v1/organizations/{d.SHELTER}", {"administrator"}),
    ("POST", f"/v1/organizations/{d.SHELTER}/close", {"administrator"}),
    ("POST", "/v1/units", {"administrator"}),
    ("PUT", f"/v1/units/{d.UNIT_CERGY}", {"administrator"}),
    ("POST", f"/v1/units/{d.UNIT_CERGY}/close", {"administrator"}),
    ("POST", "/v1/services", {"administrator", "coordinator-95"}),
    ("PUT", f"/v1/services/{d.SHELTER_SERVICE}", {"administrator", "coordinator-95"}),
    ("POST", f"/v1/services/{d.SHELTER_SERVICE}/close", {"administrator", "coordinator-95"}),
    ("POST", "/v1/posts", {"administrator", "coordinator-95"}),
    ("PATCH", f"/v1/posts/{d.POST_CERGY}", {"administrator", "coordinator-95"}),
    ("PUT", f"/v1/posts/{d.POST_CERGY}/coverage", {"administrator", "coordinator-95"}),
    *(("POST", f"/v1/posts/{d.POST_CERGY}/{move}", {"administrator", "coordinator-95"}) for move in ("fill", "vacate", "suspend", "close")),
]
CALLERS = (
    "police-95",
    "iscg-95",
    "coordinator-95",
    "partner-95",
    "employer-95",
    "funder-95",
    "interior",
    "justice",
    "auditor",
    "referrals",
)


@pytest.mark.parametrize(("method", "address", "allowed"), WRITES, ids=lambda value: value if isinstance(value, str) else "")
async def test_no_other_role_writes(untouched: Partners, method: str, address: str, allowed: set[str]) -> None:
    before = await untouched.snapshot()

    for who in CALLERS:
        if who not in allowed:
            answer = await untouched.post(who, address, {}) if method == "POST" else await untouched.change(who, address, {}, method=method)
            assert answer.status_code == 403, who

    assert await untouched.snapshot() == before
