"""Organisations, services and units over HTTP: what is registered is said, what changes nothing is not, and walls stand between perimeters."""

from typing import Any

import pytest

from libs.contracts import demonstration as d
from libs.contracts.units import unit_id_of
from tests.services.partners.conftest import Partners, load_reference, plain

ORGANIZATION: dict[str, Any] = {
    "departement": "95",
    "name": "Association fictive du test",
    "kind": "legal",
    "siret": "00095005500012",
    "rna": "W951234567",
    "offence_data_allowed": False,
}
SERVICE: dict[str, Any] = {
    "organization_id": str(d.ASSOCIATION),
    "departement": "95",
    "name": "Permanence fictive du test",
    "kind": "legal",
    "themes": ["couple_violence"],
    "needs": ["rights", "legal_advice"],
    "communes": ["95585", "95127"],
    "sexes": ["female"],
    "age_bands": ["25-39", "18-24"],
    "capacity": 3,
    "phone": "+33199000095",
    "email": "accueil@exemple.invalid",
    "url": "https://exemple.invalid/",
    "opening_hours": "Lundi de 9 h à 12 h\nJeudi sur rendez-vous",
    "locations": [{"name": "Maison fictive", "address": "1 place Fictive", "postcode": "95000", "commune": "95127"}],
}
UNIT: dict[str, Any] = {
    "departement": "95",
    "force": "gendarmerie",
    "kind": "company",
    "label": "Gendarmerie - Compagnie fictive",
    "communes": ["95355", "95370"],
}


# Organisations


async def test_an_organisation_is_registered_once_and_said_once(partners: Partners) -> None:
    body = ORGANIZATION | {"id": str(d.SHELTER)}

    first = await partners.post("administrator", "/v1/organizations", body)
    again = await partners.post("administrator", "/v1/organizations", body)

    assert (first.status_code, again.status_code) == (201, 201)
    assert first.json() == again.json()
    assert first.headers["Location"] == f"/v1/organizations/{d.SHELTER}"
    assert first.headers["ETag"] == '"1"'
    [(type, data)] = await partners.said()
    assert type == "organization.registered"
    assert data["kind"] == "legal"
    assert "name" not in data
    assert (await partners.get("justice", f"/v1/organizations/{d.SHELTER}")).json() == first.json()


async def test_an_id_that_is_taken_by_other_content_is_a_conflict(untouched: Partners) -> None:
    answer = await untouched.post("administrator", "/v1/organizations", ORGANIZATION | {"id": str(d.SHELTER)})

    assert answer.status_code == 409
    assert answer.json()["type"].endswith("/id-taken")


async def test_a_siret_is_held_by_one_open_organisation(partners: Partners) -> None:
    held = (await partners.post("administrator", "/v1/organizations", ORGANIZATION)).json()

    taken = await partners.post("administrator", "/v1/organizations", ORGANIZATION | {"name": "Une autre"})
    await partners.post("administrator", f"/v1/organizations/{held['id']}/close")
    freed = await partners.post("administrator", "/v1/organizations", ORGANIZATION | {"name": "Une autre"})

    assert taken.status_code == 409
    assert taken.json()["type"].endswith("/siret-taken")
    assert taken.json()["organization_id"] == held["id"]
    assert freed.status_code == 201
    assert await partners.said_types() == ["organization.registered", "organization.closed", "organization.registered"]


CHANGES_OF_AN_ORGANIZATION = {
    "nothing": ({}, [], 1),
    "a name, which listeners do not know": ({"name": "Un autre nom"}, [], 2),
    "its kind": ({"kind": "victim_support"}, ["organization.changed"], 2),
    "whether it may know offences": ({"offence_data_allowed": True}, ["organization.changed"], 2),
    "its département": ({"departement": "78"}, ["organization.changed"], 2),
}


@pytest.mark.parametrize(("change", "said", "version"), CHANGES_OF_AN_ORGANIZATION.values(), ids=CHANGES_OF_AN_ORGANIZATION.keys())
async def test_a_change_of_an_organisation_is_said_when_listeners_know_what_changed(
    partners: Partners, change: dict[str, Any], said: list[str], version: int
) -> None:
    made = (await partners.post("administrator", "/v1/organizations", ORGANIZATION)).json()
    await partners.said()

    answer = await partners.change("administrator", f"/v1/organizations/{made['id']}", ORGANIZATION | change)

    assert answer.status_code == 200
    assert answer.headers["ETag"] == f'"{version}"'
    assert await partners.said_types() == said


async def test_an_organisation_cannot_take_the_siret_of_another(untouched: Partners) -> None:
    before = await untouched.snapshot()

    body = ORGANIZATION | {"siret": "00095002200012"}
    answer = await untouched.change("administrator", f"/v1/organizations/{d.SHELTER}", body)

    assert answer.status_code == 409
    assert answer.json()["type"].endswith("/siret-taken")
    assert await untouched.snapshot() == before


async def test_an_organisation_with_open_services_or_posts_is_not_closed(directory: Partners) -> None:
    employs = await directory.post("administrator", f"/v1/organizations/{d.EMPLOYER}/close")
    serves = await directory.post("administrator", f"/v1/organizations/{d.SHELTER}/close")

    assert (employs.status_code, serves.status_code) == (409, 409)
    assert employs.json()["type"].endswith("/still-used")

    await directory.post("coordinator-95", f"/v1/services/{d.SHELTER_SERVICE}/close")
    closed = await directory.post("administrator", f"/v1/organizations/{d.SHELTER}/close")
    again = await directory.post("administrator", f"/v1/organizations/{d.SHELTER}/close")

    assert closed.status_code == 200
    assert again.json()["type"].endswith("/closed")
    assert await directory.said_types() == ["service.closed", "organization.closed"]


async def test_a_new_service_needs_an_open_organisation(directory: Partners) -> None:
    await directory.post("coordinator-95", f"/v1/services/{d.SHELTER_SERVICE}/close")
    await directory.post("administrator", f"/v1/organizations/{d.SHELTER}/close")

    answer = await directory.post("coordinator-95", "/v1/services", SERVICE | {"organization_id": str(d.SHELTER)})

    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"] == "/organization_id"


# Services


async def test_a_service_is_registered_with_its_needs_places_and_communes(directory: Partners) -> None:
    answer = await directory.post("coordinator-95", "/v1/services", SERVICE)

    made = answer.json()
    assert answer.status_code == 201
    assert made["organization_name"] == "Association fictive d'aide aux victimes"
    assert made["communes"] == ["95127", "95585"]
    assert made["locations"][0]["address"] == "1 place Fictive"
    [(type, data)] = await directory.said()
    assert type == "service.registered"
    assert data["needs"] == ["legal_advice", "rights"]
    assert (data["capacity"], data["sexes"], data["age_bands"]) == (3, ["female"], ["18-24", "25-39"])
    assert (made["sexes"], made["age_bands"]) == (["female"], ["18-24", "25-39"])
    assert not {"phone", "email", "name", "locations"} & set(data)


async def test_a_service_registered_twice_with_one_id_stays_one(directory: Partners) -> None:
    body = SERVICE | {"id": "00000095-0002-4000-8000-000000000099"}

    first = await directory.post("coordinator-95", "/v1/services", body)
    again = await directory.post("coordinator-95", "/v1/services", body)
    other = await directory.post("coordinator-95", "/v1/services", body | {"locations": []})

    assert (first.status_code, again.status_code, other.status_code) == (201, 201, 409)
    assert await directory.said_types() == ["service.registered"]


CHANGES_OF_A_SERVICE = {
    "nothing, the lists in another order": ({"communes": ["95127", "95585"], "needs": ["legal_advice", "rights"]}, [], 1),
    "a telephone number": ({"phone": "3919"}, [], 2),
    "a place": ({"locations": []}, [], 2),
    "its themes": ({"themes": []}, [], 2),
    "its needs": ({"needs": ["rights"]}, ["service.changed"], 2),
    "its communes": ({"communes": []}, ["service.changed"], 2),
    "its kind": ({"kind": "other"}, ["service.changed"], 2),
    "whom it takes, in another order": ({"age_bands": ["18-24", "25-39"]}, [], 1),
    "whom it takes": ({"sexes": [], "age_bands": []}, ["service.changed"], 2),
    "its capacity": ({"capacity": None}, ["capacity.changed"], 2),
    "its capacity and its needs": ({"capacity": 0, "needs": ["rights"]}, ["service.changed"], 2),
}


@pytest.mark.parametrize(("change", "said", "version"), CHANGES_OF_A_SERVICE.values(), ids=CHANGES_OF_A_SERVICE.keys())
async def test_a_change_of_a_service_is_said_when_listeners_know_what_changed(
    directory: Partners, change: dict[str, Any], said: list[str], version: int
) -> None:
    made = (await directory.post("coordinator-95", "/v1/services", SERVICE)).json()
    await directory.said()
    body = {name: value for name, value in (SERVICE | change).items() if name != "organization_id"}

    answer = await directory.change("coordinator-95", f"/v1/services/{made['id']}", body)

    assert answer.status_code == 200, answer.text
    assert answer.json()["version"] == version
    assert await directory.said_types() == said


WHO_SAYS_THE_CAPACITY = {
    "its own organisation": ("partner-95", 200),
    "the coordination of its département": ("coordinator-95", 200),
    "the administration": ("administrator", 200),
    "another organisation": ("partner-78", 404),
    "an employer that is not its organisation": ("employer-95", 404),
    "the coordination of another département": ("coordinator-78", 404),
    "a social worker": ("iscg-95", 403),
    "the police": ("police-95", 403),
    "a ministry": ("interior", 403),
}


@pytest.mark.parametrize(("who", "status"), WHO_SAYS_THE_CAPACITY.values(), ids=WHO_SAYS_THE_CAPACITY.keys())
async def test_the_capacity_is_said_by_the_service_s_organisation_or_its_coordination(directory: Partners, who: str, status: int) -> None:
    answer = await directory.change(who, f"/v1/services/{d.VICTIM_SUPPORT_SERVICE}/capacity", {"capacity": 2})

    assert answer.status_code == status
    said = await directory.said()
    assert [(type, data["capacity"]) for type, data in said] == ([("capacity.changed", 2)] if status == 200 else [])


async def test_the_same_capacity_said_again_is_no_event(directory: Partners) -> None:
    answer = await directory.change("partner-95", f"/v1/services/{d.VICTIM_SUPPORT_SERVICE}/capacity", {"capacity": None})

    assert answer.json()["version"] == 1
    assert await directory.said() == []


COVERING = {
    "a commune it names, and the whole département": ({"commune": "95127"}, {1, 2, 3, 4}),
    "a commune that only those of the whole département cover": ({"commune": "95002"}, {1, 3}),
    "a need in a commune": ({"commune": "95585", "need": "rights"}, {2}),
    "a kind": ({"kind": "shelter"}, {3}),
    "an organisation": ({"organization": str(d.ASSOCIATION)}, {1, 2}),
    "another département's commune": ({"commune": "75056"}, set()),
}


@pytest.mark.parametrize(("query", "numbers"), COVERING.values(), ids=COVERING.keys())
async def test_services_are_found_by_commune_need_kind_and_organisation(
    untouched: Partners, query: dict[str, str], numbers: set[int]
) -> None:
    items = (await untouched.get("iscg-95", "/v1/services", **query)).json()["items"]

    assert {item["id"] for item in items} == {f"00000095-0002-4000-8000-{number:012d}" for number in numbers}


async def test_a_closed_service_leaves_the_list_but_not_the_memory(directory: Partners) -> None:
    await directory.post("coordinator-95", f"/v1/services/{d.SHELTER_SERVICE}/close")

    open_ones = (await directory.get("iscg-95", "/v1/services", kind="shelter")).json()["items"]
    with_closed = (await directory.get("iscg-95", "/v1/services", kind="shelter", closed="true")).json()["items"]
    changed = await directory.change("coordinator-95", f"/v1/services/{d.SHELTER_SERVICE}/capacity", {"capacity": 1}, version=2)

    assert open_ones == []
    assert [item["id"] for item in with_closed] == [str(d.SHELTER_SERVICE)]
    assert changed.json()["type"].endswith("/closed")


# Units


async def test_a_unit_that_the_file_does_not_have_is_registered_and_the_import_leaves_it_alone(partners: Partners) -> None:
    await load_reference(partners)
    await partners.said()
    answer = await partners.post("administrator", "/v1/units", UNIT)
    await load_reference(partners)

    found = (await partners.get("police-95", f"/v1/units/{answer.json()['id']}")).json()
    assert found["communes"] == ["95355", "95370"]
    assert await partners.said_types() == ["unit.registered"]


CHANGES_OF_A_UNIT = {
    "nothing": ({"communes": ["95370", "95355"]}, [], 1),
    "a label": ({"label": "Gendarmerie - Compagnie de Pontoise"}, [], 2),
    "its communes": ({"communes": ["95355"]}, ["unit.changed"], 2),
    "its kind": ({"kind": "group"}, ["unit.changed"], 2),
}


@pytest.mark.parametrize(("change", "said", "version"), CHANGES_OF_A_UNIT.values(), ids=CHANGES_OF_A_UNIT.keys())
async def test_a_change_of_a_unit_is_said_when_listeners_know_what_changed(
    directory: Partners, change: dict[str, Any], said: list[str], version: int
) -> None:
    made = (await directory.post("administrator", "/v1/units", UNIT)).json()
    await directory.said()

    answer = await directory.change("administrator", f"/v1/units/{made['id']}", UNIT | change)

    assert answer.json()["version"] == version
    assert await directory.said_types() == said


async def test_a_unit_does_not_change_force_and_is_not_closed_while_a_post_covers_it(directory: Partners) -> None:
    body = {"departement": "95", "force": "gendarmerie", "kind": "brigade", "label": "X", "communes": []}

    force = await directory.change("administrator", f"/v1/units/{d.UNIT_CERGY}", body)
    closed = await directory.post("administrator", f"/v1/units/{d.UNIT_CERGY}/close")
    free = await directory.post("administrator", f"/v1/units/{unit_id_of('GN', '1003398', '')}/close")

    assert force.json()["type"].endswith("/force-fixed")
    assert closed.json()["type"].endswith("/still-used")
    assert free.status_code == 200
    assert await directory.said_types() == ["unit.closed"]


# Lists and walls


async def test_a_list_is_read_page_by_page_without_a_gap(untouched: Partners) -> None:
    seen: list[str] = []
    query: dict[str, str | int] = {"departement": "95", "limit": 7}
    while True:
        answer = await untouched.get("justice", "/v1/units", **query)
        assert answer.status_code == 200
        assert answer.headers["Stream-Position"] == "1:0"
        page = answer.json()
        seen += [item["id"] for item in page["items"]]
        if page["next"] is None:
            break
        assert 'rel="next"' in answer.headers["Link"]
        query["cursor"] = page["next"]

    assert len(seen) == len(set(seen)) == 21
    assert seen == sorted(seen)


async def test_communes_are_found_by_departement_and_postcode(untouched: Partners) -> None:
    one = (await untouched.get("police-95", "/v1/communes/95127")).json()
    by_postcode = (await untouched.get("police-95", "/v1/communes", postcode="95000")).json()["items"]
    missing = await untouched.get("police-95", "/v1/communes/95999")

    assert (one["name"], one["population"]) == ("Cergy", 70906)
    assert "95127" in {item["code"] for item in by_postcode}
    assert missing.status_code == 404


EVERY_ROLE = [
    "police-95",
    "iscg-95",
    "coordinator-95",
    "partner-95",
    "employer-95",
    "funder-95",
    "interior",
    "justice",
    "administrator",
    "auditor",
]


@pytest.mark.parametrize("who", EVERY_ROLE)
async def test_everyone_with_a_token_reads_the_directory(untouched: Partners, who: str) -> None:
    for address in ("organizations", "services", "units", "posts", "communes", "coverage?departement=95"):
        assert (await untouched.get(who, f"/v1/{address}")).status_code == 200
    for address in (f"services/{d.SERVICE_78}", f"posts/{d.POST_78}", f"units/{d.UNIT_78}", f"organizations/{d.EMPLOYER}"):
        assert (await untouched.get(who, f"/v1/{address}")).status_code == 200


async def test_nobody_reads_it_without_one(untouched: Partners) -> None:
    assert (await untouched.client.get("/v1/services")).status_code == 401


_CHANGED_SERVICE = {name: value for name, value in SERVICE.items() if name != "organization_id"}
_POST = {"departement": "95", "employer_id": str(d.EMPLOYER), "force": "police", "label": "x", "full_time_percent": 50,
         "communes": ["95127"], "filled": False, "opened_on": "2026-01-01"}  # fmt: skip
OUTSIDE = {
    "registering a service": ("POST", "/v1/services", SERVICE),
    "changing a service": ("PUT", f"/v1/services/{d.SHELTER_SERVICE}", _CHANGED_SERVICE),
    "closing a service": ("POST", f"/v1/services/{d.SHELTER_SERVICE}/close", None),
    "opening a post": ("POST", "/v1/posts", _POST),
    "renaming a post": ("PATCH", f"/v1/posts/{d.POST_CERGY}", {"label": "x"}),
    "changing a coverage": ("PUT", f"/v1/posts/{d.POST_CERGY}/coverage", {"units": [], "communes": ["95127"]}),
    "filling a post": ("POST", f"/v1/posts/{d.POST_CERGY}/fill", None),
    "vacating a post": ("POST", f"/v1/posts/{d.POST_CERGY}/vacate", None),
    "suspending a post": ("POST", f"/v1/posts/{d.POST_CERGY}/suspend", None),
    "closing a post": ("POST", f"/v1/posts/{d.POST_CERGY}/close", None),
}


@pytest.mark.parametrize(("method", "address", "body"), OUTSIDE.values(), ids=OUTSIDE.keys())
async def test_the_coordination_of_another_departement_is_answered_404_as_for_what_does_not_exist(
    untouched: Partners, method: str, address: str, body: Any
) -> None:
    before = await untouched.snapshot()

    async def asked(who: str, address: str) -> Any:
        if method == "POST":
            return await untouched.post(who, address, plain(body))
        return await untouched.change(who, address, plain(body), method=method)

    outside = await asked("coordinator-78", address)
    refused = await asked("partner-95", address)

    assert outside.status_code == 404
    assert refused.status_code == 403
    if method != "POST" or body is None:
        nowhere = await asked("coordinator-95", address.replace("-000000000001", "-000000000777").replace("-000000000003", "-000000000777"))
        alike = {name: value for name, value in outside.json().items() if name != "instance"}
        assert alike == {name: value for name, value in nowhere.json().items() if name != "instance"}
    assert await untouched.snapshot() == before


async def test_a_coordination_cannot_push_a_service_into_another_departement(directory: Partners) -> None:
    answer = await directory.change("coordinator-95", f"/v1/services/{d.SHELTER_SERVICE}", _CHANGED_SERVICE | {"departement": "78"})

    assert answer.status_code == 404
    assert await directory.said() == []
