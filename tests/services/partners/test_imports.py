"""Reference data in bulk: idempotent, judged row by row, one event per unit that really changed."""

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from libs.client.importing import Imported, import_communes, import_jurisdictions
from libs.contracts import demonstration as d
from libs.contracts.units import unit_id_of
from tests.services.partners.conftest import DATA, Partners

COMMUNES = "/v1/imports/communes"
JURISDICTIONS = "/v1/imports/jurisdictions"
FILE = DATA / "competence-territoriale-95.csv"


def commune(code: str, **changed: Any) -> dict[str, Any]:
    departement = code[:3] if code.startswith("97") else code[:2]
    return {"code": code, "name": f"Commune {code}", "departement": departement, "region": "11", "population": 100, **changed}


def row(commune: str, service: str = "Commissariat de police de Cergy", institution: str = "PN", id_service: str = "") -> dict[str, Any]:
    return {"commune": commune, "institution": institution, "id_service": id_service, "service": service}


def brigade(commune: str, number: str, service: str | None = None) -> dict[str, Any]:
    return row(commune, service or f"Gendarmerie - Brigade {number}", "GN", number)


async def sent(partners: Partners, address: str, *rows: Any) -> dict[str, Any]:
    answer = await partners.post("administrator", address, {"rows": list(rows)})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    assert len(found["rows"]) == len(rows)
    return found


def outcomes(found: dict[str, Any]) -> list[str]:
    return [one["outcome"] for one in found["rows"]]


def pointers(found: dict[str, Any]) -> list[str]:
    return [error["pointer"] for one in found["rows"] for error in one["errors"]]


@pytest.fixture
async def known(partners: Partners) -> Partners:
    """A directory that knows twelve communes, in five départements."""
    codes = ["95001", "95002", "95003", "95004", "95005", "84007", "30351", "30011", "97107", "97411", "93066", "2A004"]
    await sent(partners, COMMUNES, *(commune(code, population=90_000 if code == "84007" else 100) for code in codes))
    return partners


async def units(partners: Partners) -> dict[str, tuple[str, list[str], int]]:
    """Each unit's département, communes and version, by its label."""
    items = (await partners.get("administrator", "/v1/units", limit=200)).json()["items"]
    return {item["label"]: (item["departement"], item["communes"], item["version"]) for item in items}


# Communes


async def test_a_list_of_communes_imported_again_changes_nothing(partners: Partners) -> None:
    first = await sent(partners, COMMUNES, commune("95001"), commune("95002", population=None, postcodes=["95800", "95000"]))
    again = await sent(partners, COMMUNES, commune("95001"), commune("95002", population=None, postcodes=["95000", "95800"]))
    changed = await sent(partners, COMMUNES, commune("95001", population=101), commune("95002", population=None))

    assert outcomes(first) == ["created", "created"]
    assert outcomes(again) == ["unchanged", "unchanged"]
    # postcodes that are not said stay
    assert outcomes(changed) == ["changed", "unchanged"]
    assert (changed["created"], changed["changed"], changed["unchanged"], changed["refused"]) == (0, 1, 1, 0)
    assert await partners.said() == []


BAD_COMMUNES: dict[str, tuple[Any, str]] = {
    "a code in another form": (commune("95001") | {"code": "9500"}, "/code"),
    "a code that is a number": (commune("95001") | {"code": 95001}, "/code"),
    "another département's code": (commune("95001", departement="94"), "/departement"),
    "no name": ({name: value for name, value in commune("95001").items() if name != "name"}, "/name"),
    "an empty name": (commune("95001", name="  "), "/name"),
    "a name with a NUL": (commune("95001", name="a\0b"), "/name"),
    "half a character": (commune("95001", name="\ud800"), "/name"),
    "a negative population": (commune("95001", population=-1), "/population"),
    "a population in words": (commune("95001", population="cent"), "/population"),
    "a population that is true": (commune("95001", population=True), "/population"),
    "a postcode of four digits": (commune("95001", postcodes=["9500"]), "/postcodes/0"),
    "an unknown column": (commune("95001", mayor="x"), ""),
    "an empty object": ({}, "/code"),
}


@pytest.mark.parametrize(("bad", "pointer"), BAD_COMMUNES.values(), ids=BAD_COMMUNES.keys())
async def test_a_bad_commune_is_refused_alone_with_its_pointer(partners: Partners, bad: Any, pointer: str) -> None:
    found = await sent(partners, COMMUNES, commune("95010"), bad, commune("95011"))

    assert outcomes(found) == ["created", "refused", "created"]
    assert pointers(found)[0] == pointer
    assert len(await partners.rows("SELECT 1 FROM communes")) == 2


async def test_a_commune_given_twice_is_taken_once_and_refused_when_it_contradicts_itself(partners: Partners) -> None:
    found = await sent(partners, COMMUNES, commune("95001"), commune("95001"), commune("95001", population=7))

    assert outcomes(found) == ["created", "unchanged", "refused"]


# Jurisdictions


async def test_the_file_of_the_val_d_oise_registers_its_21_units_and_says_each_once(directory: Partners) -> None:
    async def again() -> Imported:
        directory.client.headers.update(directory.token("administrator"))
        return await import_jurisdictions(directory.client, FILE)

    done = await again()

    assert (done.created, done.changed, done.unchanged, done.refused) == (0, 0, 181, [])
    assert await directory.said() == []
    found = {item["id"]: item for item in (await directory.get("police-95", "/v1/units", departement="95", limit=200)).json()["items"]}
    assert len(found) == 21
    assert len(found[str(d.UNIT_MAGNY)]["communes"]) == 25
    assert found[str(d.UNIT_MAGNY)]["code"] == "1003396"
    assert found[str(d.UNIT_CERGY)]["code"] is None
    assert found[str(d.UNIT_CERGY)]["kind"] == "commissariat"
    assert sum(len(unit["communes"]) for unit in found.values()) == 181


async def test_a_new_unit_is_said_once_with_all_its_communes(known: Partners) -> None:
    found = await sent(known, JURISDICTIONS, row("95001"), row("95002"), brigade("95003", "7"))

    assert outcomes(found) == ["created", "created", "created"]
    said = {data["unit_id"]: (type, data["force"], data["kind"], data["communes"]) for type, data in await known.said()}
    assert said == {
        str(unit_id_of("PN", "", "Commissariat de police de Cergy")): ("unit.registered", "police", "commissariat", ["95001", "95002"]),
        str(unit_id_of("GN", "7", "")): ("unit.registered", "gendarmerie", "brigade", ["95003"]),
    }


async def test_a_unit_whose_rows_come_in_two_requests_is_changed_by_the_second(known: Partners) -> None:
    await sent(known, JURISDICTIONS, row("95001"))
    await sent(known, JURISDICTIONS, row("95002"))

    assert [(type, data["communes"]) for type, data in await known.said()] == [
        ("unit.registered", ["95001"]),
        ("unit.changed", ["95001", "95002"]),
    ]


async def test_a_commune_that_passes_to_another_unit_leaves_the_first(known: Partners) -> None:
    await sent(known, JURISDICTIONS, row("95001"), row("95002"))
    await known.said()

    found = await sent(known, JURISDICTIONS, row("95002", "Commissariat de police de Pontoise"))

    assert outcomes(found) == ["changed"]
    assert sorted((type, data["communes"]) for type, data in await known.said()) == [
        ("unit.changed", ["95001"]),
        ("unit.registered", ["95002"]),
    ]


async def test_a_commune_has_its_police_and_its_gendarmerie_side_by_side(known: Partners) -> None:
    """As 97107 in the national file."""
    police, gendarmes = row("97107", "Commissariat de police de Capesterre"), brigade("97107", "9")

    await sent(known, JURISDICTIONS, police)
    await sent(known, JURISDICTIONS, gendarmes)
    again = await sent(known, JURISDICTIONS, police, gendarmes)

    assert outcomes(again) == ["unchanged", "unchanged"]
    assert len((await known.get("police-95", "/v1/units", commune="97107")).json()["items"]) == 2


async def test_a_commune_may_have_two_brigades_in_one_file(known: Partners) -> None:
    rows = (brigade("95001", "7"), brigade("95001", "8"))

    await sent(known, JURISDICTIONS, *rows)
    again = await sent(known, JURISDICTIONS, *rows)
    fewer = await sent(known, JURISDICTIONS, rows[0])

    assert outcomes(again) == ["unchanged", "unchanged"]
    assert outcomes(fewer) == ["unchanged"]
    assert await units(known) == {"Gendarmerie - Brigade 7": ("95", ["95001"], 1), "Gendarmerie - Brigade 8": ("95", [], 2)}


async def test_a_bad_row_takes_nothing_away_from_its_commune(known: Partners) -> None:
    await sent(known, JURISDICTIONS, brigade("95001", "7"), brigade("95001", "8"))
    await known.said()

    found = await sent(known, JURISDICTIONS, brigade("95001", "7"), {"commune": "95001", "institution": "GN"})

    assert outcomes(found) == ["unchanged", "refused"]
    assert await known.said() == []


async def test_a_brigade_that_is_renamed_keeps_its_id_and_listeners_are_not_disturbed(known: Partners) -> None:
    await sent(known, JURISDICTIONS, brigade("95001", "7", "Brigade de Magny"), brigade("95002", "7", "Brigade de Magny"))
    await known.said()

    renamed = await sent(known, JURISDICTIONS, brigade("95001", "7", "Brigade du Vexin"), brigade("95002", "7", "Brigade du Vexin"))
    of_another_kind = await sent(known, JURISDICTIONS, brigade("95001", "7", "Compagnie du Vexin"))

    assert outcomes(renamed) == ["changed", "changed"]
    assert outcomes(of_another_kind) == ["changed"]
    assert [(type, data["kind"]) for type, data in await known.said()] == [("unit.changed", "company")]
    assert await units(known) == {"Compagnie du Vexin": ("95", ["95001", "95002"], 3)}


async def test_a_label_written_in_two_ways_does_not_change_at_each_import(known: Partners) -> None:
    rows = (
        row("95001", "Commissariat de police d'Enghien Les Bains"),
        row("95002", "Commissariat de police d’Enghien-les-Bains"),
        brigade("95003", "7", "Brigade A"),
        brigade("95004", "7", "Brigade B"),
    )

    await sent(known, JURISDICTIONS, *rows)
    again = await sent(known, JURISDICTIONS, *rows)

    assert outcomes(again) == ["unchanged"] * 4
    assert set(await units(known)) == {"Commissariat de police d'Enghien Les Bains", "Brigade A"}


async def test_avignon_belongs_to_its_side_of_the_river_whatever_comes_first(known: Partners) -> None:
    label = "Commissariat de police d'Avignon"

    await sent(known, JURISDICTIONS, row("30351", label), row("30011", label))
    await sent(known, JURISDICTIONS, row("84007", label))

    assert await units(known) == {label: ("84", ["30011", "30351", "84007"], 2)}
    assert [(type, data["departement"]) for type, data in await known.said()] == [("unit.registered", "30"), ("unit.changed", "84")]


async def test_two_saint_denis_are_two_units(known: Partners) -> None:
    label = "Commissariat de police de Saint-Denis"

    await sent(known, JURISDICTIONS, row("93066", label), row("97411", label))

    assert sorted(data["departement"] for _, data in await known.said()) == ["93", "974"]


BAD_JURISDICTIONS: dict[str, tuple[Any, str]] = {
    "a commune that INSEE does not know": (row("95999"), "/commune"),
    "a commune in another form": (row("9500"), "/commune"),
    "an institution nobody knows": (row("95001", institution="PM"), "/institution"),
    "no label": (row("95001", service=""), "/service"),
    "a label of signs": (row("95001", service="---"), "/service"),
    "a number as id": (row("95001") | {"id_service": 7}, "/id_service"),
    "a list as commune": (row("95001") | {"commune": ["95001"]}, "/commune"),
    "an unknown column": (row("95001") | {"x": 1}, ""),
    "nothing": ({}, "/commune"),
}


@pytest.mark.parametrize(("bad", "pointer"), BAD_JURISDICTIONS.values(), ids=BAD_JURISDICTIONS.keys())
async def test_a_bad_jurisdiction_is_refused_alone_with_its_pointer(known: Partners, bad: Any, pointer: str) -> None:
    found = await sent(known, JURISDICTIONS, row("95002"), bad, brigade("95003", "7"))

    assert outcomes(found) == ["created", "refused", "created"]
    assert pointers(found)[0] == pointer
    assert await known.said_types() == ["unit.registered", "unit.registered"]


async def test_a_unit_that_was_closed_is_not_brought_back_by_the_file(known: Partners) -> None:
    await sent(known, JURISDICTIONS, brigade("95001", "7"))
    await known.post("administrator", f"/v1/units/{unit_id_of('GN', '7', '')}/close")
    await known.said()

    found = await sent(known, JURISDICTIONS, brigade("95001", "7"), brigade("95002", "7"))

    assert outcomes(found) == ["refused", "refused"]
    assert await known.said() == []


async def test_a_unit_registered_by_hand_with_the_file_s_id_is_the_file_s_from_then_on(known: Partners) -> None:
    body = {"id": str(unit_id_of("GN", "7", "")), "departement": "95", "force": "gendarmerie", "kind": "brigade", "code": "7",
            "label": "Gendarmerie - Brigade 7", "communes": ["95001", "95002"]}  # fmt: skip
    await known.post("administrator", "/v1/units", body)
    await known.said()

    same = await sent(known, JURISDICTIONS, brigade("95001", "7"))
    moved = await sent(known, JURISDICTIONS, brigade("95002", "8"))

    assert (outcomes(same), outcomes(moved)) == (["unchanged"], ["changed"])
    assert sorted((type, data["communes"]) for type, data in await known.said()) == [
        ("unit.changed", ["95001"]),
        ("unit.registered", ["95002"]),
    ]


async def test_a_unit_has_a_thousand_communes_at_most(partners: Partners) -> None:
    codes = [f"{10_000 + number}" for number in range(1001)]
    await sent(partners, COMMUNES, *(commune(code) for code in codes[:1000]))
    await sent(partners, COMMUNES, commune(codes[1000]))
    await sent(partners, JURISDICTIONS, *(brigade(code, "7") for code in codes[:1000]))

    found = await sent(partners, JURISDICTIONS, brigade(codes[1000], "7"), brigade(codes[1000], "8"))

    assert outcomes(found) == ["refused", "created"]


async def test_imports_at_the_same_time_take_turns(known: Partners) -> None:
    answers = await asyncio.gather(*(sent(known, JURISDICTIONS, row("95001"), row("95002"), brigade("95003", "7")) for _ in range(5)))

    assert sorted(found["created"] for found in answers) == [0, 0, 0, 0, 3]
    assert await known.said_types() == ["unit.registered", "unit.registered"]


async def test_an_import_and_a_change_by_hand_at_the_same_time_lose_nothing(known: Partners) -> None:
    await sent(known, JURISDICTIONS, brigade("95001", "7"))
    address = f"/v1/units/{unit_id_of('GN', '7', '')}"
    body = {"departement": "95", "force": "gendarmerie", "kind": "brigade", "code": "7", "label": "Gendarmerie - Brigade 7"}

    await asyncio.gather(
        *(sent(known, JURISDICTIONS, brigade(f"9500{number}", "7")) for number in range(1, 6)),
        *(known.change("administrator", address, body | {"communes": ["95001"]}, version) for version in range(1, 6)),
    )

    told = (await known.said())[-1][1]["communes"]
    assert (await known.get("police-95", address)).json()["communes"] == told


REQUESTS: dict[str, Any] = {
    "no rows": {},
    "an empty list": {"rows": []},
    "too many rows": {"rows": [{}] * 1001},
    "rows that are no objects": {"rows": [1, "x"]},
    "rows in an object": {"rows": {"0": {}}},
    "an unknown field": {"rows": [{}], "force": True},
    "a list": [{}],
}


@pytest.mark.parametrize("body", REQUESTS.values(), ids=REQUESTS.keys())
@pytest.mark.parametrize("address", [COMMUNES, JURISDICTIONS])
async def test_a_request_that_is_no_list_of_rows_is_refused_as_a_whole(known: Partners, address: str, body: Any) -> None:
    before = await known.snapshot()

    answer = await known.post("administrator", address, body)

    assert answer.status_code == 422
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert await known.snapshot() == before


@pytest.mark.parametrize("who", ["coordinator-95", "police-95", "partner-95", "interior", "auditor"])
async def test_only_an_administrator_imports(known: Partners, who: str) -> None:
    assert (await known.post(who, COMMUNES, {"rows": [commune("95001")]})).status_code == 403
    assert (await known.post(who, JURISDICTIONS, {"rows": [row("95001")]})).status_code == 403


_values = st.one_of(
    st.none(), st.booleans(), st.integers(-5, 5), st.text(max_size=6), st.lists(st.text(max_size=3), max_size=2),
    st.sampled_from(["95001", "95002", "95999", "PN", "GN", "", "7", "8", "Brigade de Magny", "Commissariat de Cergy"]),
)  # fmt: skip
_rows = st.dictionaries(st.sampled_from(["commune", "institution", "id_service", "service", "x"]), _values, max_size=5)
_good = st.builds(
    row,
    st.sampled_from(["95001", "95002", "95003"]),
    st.sampled_from(["A", "B"]),
    st.sampled_from(["PN", "GN"]),
    st.sampled_from(["", "7"]),
)


_commune_rows = st.dictionaries(
    st.sampled_from(["code", "name", "departement", "region", "population", "postcodes", "x"]), _values, max_size=7
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=20, deadline=None)
@given(rows=st.lists(st.one_of(_commune_rows, st.builds(commune, st.sampled_from(["95001", "95127"]))), min_size=1, max_size=8))
async def test_no_rows_break_an_import_of_communes_and_the_same_rows_again_change_nothing(
    known: Partners, rows: list[dict[str, Any]]
) -> None:
    first = await sent(known, COMMUNES, *rows)
    again = await sent(known, COMMUNES, *rows)

    assert [outcome == "refused" for outcome in outcomes(first)] == [outcome == "refused" for outcome in outcomes(again)]
    assert set(outcomes(again)) <= {"unchanged", "refused"}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40, deadline=None)
@given(rows=st.lists(st.one_of(_rows, _good), min_size=1, max_size=8))
async def test_no_rows_break_an_import_and_the_same_rows_again_change_nothing(known: Partners, rows: list[dict[str, Any]]) -> None:
    first = await sent(known, JURISDICTIONS, *rows)
    again = await sent(known, JURISDICTIONS, *rows)

    assert [outcome == "refused" for outcome in outcomes(first)] == [outcome == "refused" for outcome in outcomes(again)]
    assert set(outcomes(again)) <= {"unchanged", "refused"}
    await known.said()


# The whole country


COUNTRY = int(os.environ.get("MAILLON_IMPORT_COMMUNES", "3500"))
"""The country has 35,000, which CI imports; everybody's `make test` a tenth of it, in as many départements as that makes."""


def national_file(folder: Path) -> tuple[Path, Path]:
    """Communes, 373 in each département, and as many jurisdiction rows, of the shape of the real ones."""
    communes, jurisdictions = folder / "communes.csv", folder / "competences.csv"
    with communes.open("w") as of_communes, jurisdictions.open("w", encoding="utf-8-sig") as of_jurisdictions:
        of_communes.write("code,name,departement,region,population\n")
        of_jurisdictions.write("code_commune;libelle_commune;institution;id_service;service;code_postal;codes_postaux\n")
        for number in range(COUNTRY):
            departement = [f"{code:02d}" for code in range(1, 96) if code != 20][number // 373]
            code = f"{departement}{number % 373 + 1:03d}"
            of_communes.write(f"{code},Commune {number},{departement},11,{number}\n")
            unit = (
                f'"PN";"";"Commissariat {number // 80}"'
                if number % 10 == 0
                else f'"GN";"{number // 9}";"Gendarmerie - Brigade {number // 9}"'
            )
            of_jurisdictions.write(f'"{code}";"Commune {number}";{unit};"{departement}000";"{departement}000-{departement}100"\n')
    return communes, jurisdictions


async def test_the_national_files_are_imported_and_again_without_a_word(partners: Partners, tmp_path: Path) -> None:
    communes, jurisdictions = national_file(tmp_path)
    partners.client.headers.update(partners.token("administrator"))

    made = await import_communes(partners.client, communes)
    competent = await import_jurisdictions(partners.client, jurisdictions)
    said = len(await partners.said())
    again = await import_jurisdictions(partners.client, jurisdictions)

    assert (made.created, made.refused) == (COUNTRY, [])
    assert (competent.created + competent.changed, competent.refused) == (COUNTRY, [])
    assert (again.unchanged, again.refused) == (COUNTRY, [])
    assert await partners.said() == []
    # each unit once, and a second time where a request ended between its rows
    assert said < 1.1 * len(await partners.rows("SELECT 1 FROM units"))
