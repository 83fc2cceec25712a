"""Posts over HTTP: opened, covering, moved, closed, and what each caller is shown of their funding."""

import asyncio
from typing import Any

import pytest

from libs.contracts import demonstration as d
from libs.contracts.units import unit_id_of
from tests.services.partners.conftest import Partners, plain

ERMONT = str(unit_id_of("PN", "", "Commissariat de police d'Ermont"))
POST: dict[str, Any] = {
    "departement": "95",
    "employer_id": str(d.EMPLOYER),
    "force": "police",
    "label": "Poste fictif d'Ermont",
    "full_time_percent": 80,
    "channels": ["officer", "complaint"],
    "units": [ERMONT],
    "communes": ["95127"],
    "filled": False,
    "opened_on": "2026-03-01",
}


async def test_a_post_is_opened_and_said_with_its_whole_coverage(directory: Partners) -> None:
    answer = await directory.post("coordinator-95", "/v1/posts", POST)

    made = answer.json()
    assert answer.status_code == 201
    assert made["state"] == "vacant"
    assert made["moves"] == ["fill", "suspend", "close"]
    [(type, data)] = await directory.said()
    assert type == "post.opened"
    assert data == {
        "departement": "95",
        "post_id": made["id"],
        "employer_id": str(d.EMPLOYER),
        "force": "police",
        "full_time_percent": 80,
        "channels": ["complaint", "officer"],
        "units": [ERMONT],
        "communes": ["95127"],
        "filled": False,
        "opened_on": "2026-03-01",
        "opened_at": made["opened_at"],
    }


async def test_a_post_opened_twice_with_one_id_stays_one(directory: Partners) -> None:
    body = POST | {"id": "00000095-0004-4000-8000-000000000099"}

    statuses = [
        (await directory.post("coordinator-95", "/v1/posts", one)).status_code for one in (body, body, body | {"full_time_percent": 50})
    ]

    assert statuses == [201, 201, 409]
    assert await directory.said_types() == ["post.opened"]


async def test_a_repeated_request_is_answered_the_same_and_does_nothing_more(directory: Partners) -> None:
    first = await directory.post("coordinator-95", "/v1/posts", POST, key="one")
    again = await directory.post("coordinator-95", "/v1/posts", POST, key="one")
    other = await directory.post("coordinator-95", "/v1/posts", POST | {"label": "x"}, key="one")

    assert again.content == first.content
    assert again.headers["Idempotency-Replayed"] == "true"
    assert other.status_code == 422
    assert await directory.said_types() == ["post.opened"]


UNCOVERABLE = {
    "nothing at all": ({"units": [], "communes": []}, "/units", "coverage-empty"),
    "a unit nobody knows": ({"units": [ERMONT, "00000000-0000-4000-8000-000000000000"]}, "/units/1", "unknown-reference"),
    "a unit of the other force": ({"units": [str(d.UNIT_MAGNY)]}, "/units/0", "unknown-reference"),
    "a unit at work in another département": ({"units": [str(d.UNIT_78)]}, "/units/0", "unknown-reference"),
    "a commune that INSEE does not know": ({"communes": ["95127", "95999"]}, "/communes/1", "unknown-reference"),
    "an employer nobody knows": ({"employer_id": "00000000-0000-4000-8000-000000000000"}, "/employer_id", "unknown-reference"),
}


@pytest.mark.parametrize(("change", "pointer", "type"), UNCOVERABLE.values(), ids=UNCOVERABLE.keys())
async def test_a_post_covers_what_exists_in_its_departement_and_force(
    untouched: Partners, change: dict[str, Any], pointer: str, type: str
) -> None:
    before = await untouched.snapshot()

    answer = await untouched.post("coordinator-95", "/v1/posts", POST | change)

    assert answer.status_code == 422
    assert answer.json()["type"].endswith(f"/{type}")
    assert [error["pointer"] for error in answer.json()["errors"]] == [pointer]
    assert await untouched.snapshot() == before


async def test_a_mixed_post_covers_both_forces(directory: Partners) -> None:
    answer = await directory.post("coordinator-95", "/v1/posts", POST | {"force": "mixed", "units": [ERMONT, str(d.UNIT_MAGNY)]})

    assert answer.status_code == 201


async def test_a_post_may_cover_a_unit_of_the_next_departement_that_works_in_its_own(directory: Partners) -> None:
    """Avignon's police works in the Gard."""
    across = {"departement": "78", "force": "police", "kind": "commissariat", "label": "Au bord", "communes": ["78646", "95127"]}
    unit = (await directory.post("administrator", "/v1/units", across)).json()

    answer = await directory.post("coordinator-95", "/v1/posts", POST | {"units": [unit["id"]]})

    assert answer.status_code == 201


async def test_a_change_of_coverage_is_said_whole_and_only_when_something_changed(directory: Partners) -> None:
    address = f"/v1/posts/{d.POST_CERGY}/coverage"

    same = await directory.change("coordinator-95", address, plain({"units": [d.UNIT_CERGY], "communes": []}))
    changed = await directory.change("coordinator-95", address, plain({"units": [d.UNIT_CERGY, ERMONT], "communes": ["95018"]}))

    assert (same.json()["version"], changed.json()["version"]) == (1, 2)
    [(type, data)] = await directory.said()
    assert type == "coverage.changed"
    assert data["units"] == sorted([str(d.UNIT_CERGY), ERMONT])
    assert data["communes"] == ["95018"]


async def test_a_name_is_no_event_and_nothing_else_of_a_post_can_be_changed(directory: Partners) -> None:
    address = f"/v1/posts/{d.POST_CERGY}"

    renamed = await directory.change("coordinator-95", address, {"label": "Un autre nom"}, method="PATCH")
    channels = await directory.change("coordinator-95", address, {"label": "x", "channels": []}, version=2, method="PATCH")

    assert renamed.json()["label"] == "Un autre nom"
    assert channels.status_code == 422
    assert await directory.said() == []


async def test_a_post_moves_and_each_move_is_said(directory: Partners) -> None:
    for move in ("suspend", "fill", "vacate", "suspend", "vacate", "fill", "close"):
        answer = await directory.post("coordinator-95", f"/v1/posts/{d.POST_CERGY}/{move}")
        assert answer.status_code == 200, answer.text

    assert answer.json()["state"] == "closed"
    assert answer.json()["moves"] == []
    assert answer.json()["version"] == 8
    said = await directory.said()
    assert [type for type, _ in said] == [
        f"post.{state}" for state in ("suspended", "filled", "vacant", "suspended", "vacant", "filled", "closed")
    ]
    assert {data["employer_id"] for _, data in said} == {str(d.EMPLOYER)}


async def test_a_move_that_the_table_does_not_have_is_refused_in_a_sentence(untouched: Partners) -> None:
    before = await untouched.snapshot()

    answer = await untouched.post("coordinator-95", f"/v1/posts/{d.POST_CERGY}/fill")

    assert answer.status_code == 409
    assert answer.json()["type"].endswith("/post-move-refused")
    assert answer.json()["detail"] == "Un poste pourvu ne permet pas : pourvoir."
    assert answer.json()["state"] == "filled"
    assert await untouched.snapshot() == before


async def test_a_closed_post_stays_as_it_is(directory: Partners) -> None:
    await directory.post("coordinator-95", f"/v1/posts/{d.POST_CERGY}/close")
    await directory.said()

    renamed = await directory.change("coordinator-95", f"/v1/posts/{d.POST_CERGY}", {"label": "x"}, version=2, method="PATCH")
    covers = await directory.change("coordinator-95", f"/v1/posts/{d.POST_CERGY}/coverage", {"units": [], "communes": ["95127"]}, version=2)

    assert renamed.json()["type"].endswith("/closed")
    assert covers.json()["type"].endswith("/closed")
    assert await directory.said() == []


async def test_two_people_changing_one_post_do_not_overwrite_each_other(directory: Partners) -> None:
    address = f"/v1/posts/{d.POST_CERGY}/coverage"
    answers = await asyncio.gather(
        *(directory.change("coordinator-95", address, {"units": [], "communes": [commune]}) for commune in ("95127", "95018", "95585"))
    )

    assert sorted(answer.status_code for answer in answers) == [200, 412, 412]
    assert await directory.said_types() == ["coverage.changed"]


async def test_a_change_names_the_version_it_was_made_from(directory: Partners) -> None:
    body = {"units": [], "communes": ["95127"]}

    missing = await directory.change("coordinator-95", f"/v1/posts/{d.POST_CERGY}/coverage", body, version=None)
    stale = await directory.change("coordinator-95", f"/v1/posts/{d.POST_CERGY}/coverage", body, version=7)

    assert (missing.status_code, stale.status_code) == (428, 412)
    assert await directory.said() == []


async def test_opening_a_post_twice_at_the_same_time_with_one_id_opens_one(directory: Partners) -> None:
    body = POST | {"id": "00000095-0004-4000-8000-000000000098"}

    answers = await asyncio.gather(*(directory.post("coordinator-95", "/v1/posts", body) for _ in range(5)))

    assert {answer.status_code for answer in answers} == {201}
    assert await directory.said_types() == ["post.opened"]


COVERED = {
    "by a unit that is competent there": ({"commune": "95127"}, {1}),
    "by a brigade": ({"commune": "95011"}, {3}),
    "by nobody": ({"commune": "95219"}, set()),
    "by unit": ({"unit": str(d.UNIT_SARCELLES)}, {2}),
    "by force": ({"force": "gendarmerie"}, {3}),
    "by state": ({"state": "vacant"}, set()),
    "by employer": ({"employer": str(d.EMPLOYER)}, {1, 2, 3}),
}


@pytest.mark.parametrize(("query", "numbers"), COVERED.values(), ids=COVERED.keys())
async def test_posts_are_found_by_commune_unit_force_state_and_employer(
    untouched: Partners, query: dict[str, str], numbers: set[int]
) -> None:
    items = (await untouched.get("police-95", "/v1/posts", departement="95", **query)).json()["items"]

    assert {item["id"] for item in items} == {f"00000095-0004-4000-8000-{number:012d}" for number in numbers}


async def test_the_coverage_of_a_departement_shows_its_holes(untouched: Partners) -> None:
    every = (await untouched.get("interior", "/v1/coverage", departement="95", limit=200)).json()["items"]
    holes = (await untouched.get("interior", "/v1/coverage", departement="95", covered="false", limit=200)).json()["items"]
    covered = (await untouched.get("interior", "/v1/coverage", departement="95", covered="true", limit=200)).json()["items"]

    assert len(every) == 183
    assert len(holes) + len(covered) == 183
    # Cergy 14 communes, Sarcelles 4, Magny 25
    assert len(covered) == 43
    # two communes are missing in the jurisdiction file
    assert [item["code"] for item in every if not item["units"]] == ["95002", "95008"]
    cergy = next(item for item in every if item["code"] == "95127")
    assert cergy["posts"] == [str(d.POST_CERGY)]
    assert cergy["units"] == [str(d.UNIT_CERGY)]


async def test_a_commune_covered_directly_by_a_post_of_the_other_side_counts(directory: Partners) -> None:
    await directory.change("coordinator-95", f"/v1/posts/{d.POST_CERGY}/coverage", plain({"units": [d.UNIT_CERGY], "communes": ["95002"]}))

    holes = (await directory.get("interior", "/v1/coverage", departement="95", covered="false", limit=200)).json()["items"]

    assert "95002" not in {item["code"] for item in holes}
