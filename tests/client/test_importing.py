"""`maillon import`: files as they are published, bad lines by their numbers, and nothing sent that a service could choke on."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from libs.client.importing import (
    BATCH,
    FileUnreadable,
    ImportStopped,
    Line,
    import_app,
    import_communes,
    import_jurisdictions,
    read_communes,
    read_jurisdictions,
)

DATA = Path("libs/embedded/data")
HEADER = "code_commune;libelle_commune;institution;id_service;service;code_postal;codes_postaux"
MAGNY = '"95011";"Ambleville";"GN";"1003396";"Gendarmerie - Brigade de Magny-en-Vexin";"95420";"95420-95710"'
ENGHIEN = '"95014";"Andilly";"PN";"";"Commissariat de police d\'Enghien Les Bains";"95580";"95580"'

Written = Callable[[str | bytes], Path]


@pytest.fixture
def written(tmp_path: Path) -> Written:
    def write(content: str | bytes) -> Path:
        path = tmp_path / "file"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


class Service:
    """The partners service as the importer sees it: notes what it is sent, refuses the communes it is told to."""

    def __init__(self, *, refuses: frozenset[str] = frozenset(), failures: int = 0) -> None:
        self.requests: list[list[dict[str, Any]]] = []
        self.keys: list[str] = []
        self._refuses = refuses
        self._failures = failures

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.keys.append(request.headers["Idempotency-Key"])
        if self._failures:
            self._failures -= 1
            return httpx.Response(503, json={"detail": "absent"})
        rows = json.loads(request.content)["rows"]
        self.requests.append(rows)
        return httpx.Response(200, json={"rows": [self._outcome(row) for row in rows]})

    def _outcome(self, row: dict[str, Any]) -> dict[str, Any]:
        code = row.get("commune", row.get("code"))
        if code is None or code in self._refuses:
            return {"outcome": "refused", "errors": [{"pointer": "/code", "detail": "Ce n'est pas le format attendu."}]}
        return {"outcome": "created", "errors": []}

    @property
    def client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(base_url="http://partners", transport=httpx.MockTransport(self))


# Reading


def test_the_communes_of_the_demonstration_are_read() -> None:
    lines = list(read_communes(DATA / "communes-95.csv"))

    assert len(lines) == 183
    assert lines[0] == Line(
        2,
        {"code": "95002", "name": "Ableiges", "departement": "95", "region": "11", "population": 1108, "postcodes": ["95450"]},
    )


def test_the_jurisdictions_of_the_demonstration_are_read() -> None:
    lines = list(read_jurisdictions(DATA / "competence-territoriale-95.csv"))

    assert len(lines) == 181
    assert lines[0] == Line(
        2, {"commune": "95011", "institution": "GN", "id_service": "1003396", "service": "Gendarmerie - Brigade de Magny-en-Vexin"}
    )
    assert {line.row["id_service"] for line in lines if line.row["institution"] == "PN"} == {""}


def _encoded(text: str, encoding: str) -> bytes:
    return text.encode(encoding)


ENCODINGS = {
    "UTF-8": ("utf-8", "\n"),
    "UTF-8 with a byte order mark": ("utf-8-sig", "\n"),
    "Windows-1252, lines of Windows": ("cp1252", "\r\n"),
    "Latin-1": ("latin-1", "\n"),
    "UTF-16 of a spreadsheet": ("utf-16", "\r\n"),
    "lines of old Macintoshes": ("utf-8", "\r"),
}


@pytest.mark.parametrize(("encoding", "end"), ENCODINGS.values(), ids=ENCODINGS.keys())
def test_a_file_is_read_whatever_its_encoding(written: Written, encoding: str, end: str) -> None:
    label = '"95026";"Asnières-sur-Oise";"GN";"1003388";"Gendarmerie - Brigade d\'Asnières-sur-Oise";"95270";"95270"'

    lines = list(read_jurisdictions(written(_encoded(end.join((HEADER, label, "")), encoding))))

    assert [(line.number, line.row["service"]) for line in lines] == [(2, "Gendarmerie - Brigade d'Asnières-sur-Oise")]


def test_the_characters_that_windows_adds_to_latin_1_are_read(written: Written) -> None:
    lines = list(read_jurisdictions(written(f"{HEADER}\n95500;X;PN;;Commissariat du Sacré-Cœur;95300;95300\n".encode("cp1252"))))

    assert lines[0].row["service"] == "Commissariat du Sacré-Cœur"


@pytest.mark.parametrize("delimiter", [";", ",", "\t"])
def test_a_file_that_a_spreadsheet_saved_anew_is_read(written: Written, delimiter: str) -> None:
    text = "\n".join((HEADER, "95011;Ambleville;GN;1003396;Brigade de Magny;95420;95420-95710")).replace(";", delimiter)

    assert next(read_jurisdictions(written(text))).row["service"] == "Brigade de Magny"


def test_blank_lines_are_passed_over_and_numbers_stay_those_of_the_file(written: Written) -> None:
    lines = list(read_jurisdictions(written(f"{HEADER}\n\n{MAGNY}\n   \n{ENGHIEN}\n")))

    assert [line.number for line in lines] == [3, 5]


MALFORMED = {
    "a column too few": '"95011";"Ambleville";"GN";"1003396";"Gendarmerie";"95420"',
    "a column too many": MAGNY + ';"x"',
    "an open quote": MAGNY[:-1],
    "text behind a quote": '"95011"x;"Ambleville";"GN";"1003396";"Gendarmerie";"95420";"95420"',
    "a line without end": '"95011";"' + "x" * 10_000 + '";"GN";"1003396";"Gendarmerie";"95420";"95420"',
}


@pytest.mark.parametrize("line", MALFORMED.values(), ids=MALFORMED.keys())
async def test_a_malformed_line_is_refused_alone_and_its_commune_loses_nothing(written: Written, line: str) -> None:
    service = Service()

    done = await import_jurisdictions(service.client, written(f"{HEADER}\n{line}\n{ENGHIEN}\n"))

    assert [refused.number for refused in done.refused] == [2]
    assert done.created == 1
    # sent without a unit, so that the service knows that something about this commune could not be read
    assert {"commune": "95011", "institution": "GN"} in service.requests[0]


WHOLE_FILES = {
    "empty": b"",
    "only blank lines": b"\n\n",
    "other columns": b"a;b;c\n1;2;3\n",
    "bytes of a picture": bytes(range(256)) * 4,
    "half a UTF-16 character": "﻿x".encode("utf-16") + b"\x00",
}


@pytest.mark.parametrize("content", WHOLE_FILES.values(), ids=WHOLE_FILES.keys())
def test_a_file_that_is_another_is_refused_as_a_whole(written: Written, content: bytes) -> None:
    with pytest.raises(FileUnreadable):
        list(read_jurisdictions(written(content)))
    with pytest.raises(FileUnreadable):
        list(read_communes(written(content)))


def test_the_national_list_is_read_with_its_arrondissements_and_without_delegated_communes(written: Written) -> None:
    items = [
        {"code": "01001", "nom": "L'Abergement-Clémenciat", "type": "commune-actuelle", "departement": "01", "region": "84",
         "population": 860, "codesPostaux": ["01400"]},
        {"code": "01015", "nom": "Arbignieu", "type": "commune-deleguee", "departement": "01", "region": "84"},
        {"code": "13201", "nom": "Marseille 1er Arrondissement", "type": "arrondissement-municipal", "departement": "13", "region": "93",
         "population": 37599, "codesPostaux": ["13001"]},
        {"code": "98411", "nom": "Îles Saint-Paul et Nouvelle-Amsterdam", "type": "commune-actuelle", "departement": "984", "region": "984"},
    ]  # fmt: skip

    lines = list(read_communes(written("[\n" + ",\n".join(json.dumps(item, ensure_ascii=False) for item in items) + "\n]\n")))

    assert [(line.number, line.row["code"]) for line in lines] == [(2, "01001"), (4, "13201"), (5, "98411")]
    assert lines[0].row["postcodes"] == ["01400"]
    assert lines[2].row["population"] is None
    assert "postcodes" not in lines[2].row


def test_a_broken_object_of_the_national_list_is_refused_by_its_line_and_the_next_ones_are_read(written: Written) -> None:
    lines = list(read_communes(written('[\n{"code":"01001"},\n{"code":"01002,\n{"code":"01004"},\n3,\n{"code":"01005"}\n]')))

    assert [(line.number, line.problem is not None) for line in lines] == [(2, False), (3, True), (4, False), (5, True), (6, False)]


HOSTILE_VALUES = ["NaN", "1e400", '"\\ud800"', "[[[[[]]]]]", "{}", "1" * 200, '["\\udfff"]', '"' + "x" * 100_000 + '"']


@pytest.mark.parametrize("value", HOSTILE_VALUES, ids=lambda value: value[:12])
async def test_a_value_that_cannot_be_sent_is_refused_by_its_line(written: Written, value: str) -> None:
    service = Service()

    done = await import_communes(service.client, written(f'[\n{{"code":"01001","nom":{value}}},\n{{"code":"01002"}}\n]'))

    assert [refused.number for refused in done.refused] == [2]
    assert done.created == 1


_cells = st.one_of(
    st.sampled_from(["95011", "PN", "GN", "", "1003396", "Commissariat de police de Cergy", '"', ";", "2A004"]), st.text(max_size=30)
)
_lines = st.one_of(st.lists(_cells, max_size=9).map(";".join), st.lists(_cells, max_size=9).map('";"'.join), st.text(max_size=60))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300)
@given(lines=st.lists(_lines, max_size=8), encoding=st.sampled_from(["utf-8", "utf-16", "cp1252", "latin-1"]))
def test_no_file_breaks_the_reading_of_jurisdictions(written: Written, lines: list[str], encoding: str) -> None:
    path = written("\n".join((HEADER, *lines)).encode(encoding, "ignore"))

    read = list(read_jurisdictions(path))

    for line in read:
        assert line.number >= 2
        assert line.problem is not None or set(line.row) == {"commune", "institution", "id_service", "service"}
        json.dumps(line.row, ensure_ascii=False).encode()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300)
@given(content=st.binary(max_size=300))
def test_no_bytes_break_the_reading(written: Written, content: bytes) -> None:
    for read in (read_jurisdictions, read_communes):
        for start in (b"", (HEADER + "\n").encode(), b"code,name,departement,region,population\n", b"[\n"):
            try:
                lines = list(read(written(start + content)))
            except FileUnreadable:
                continue
            for line in lines:
                json.dumps(line.row, ensure_ascii=False, allow_nan=False).encode()


# Sending


async def test_rows_of_one_commune_are_never_parted_wherever_they_stand(written: Written) -> None:
    service = Service()
    rows = [f"{10_000 + place};X;GN;{place};Brigade {place};;" for place in range(1500)]
    again = [f"{10_000 + place};X;PN;;Commissariat {place};;" for place in reversed(range(1500))]

    done = await import_jurisdictions(service.client, written("\n".join((HEADER, *rows, *again))))

    assert done.created == 3000
    assert all(len(request) <= BATCH for request in service.requests)
    seen: dict[str, int] = {}
    for number, request in enumerate(service.requests):
        for row in request:
            assert seen.setdefault(row["commune"], number) == number


async def test_a_request_that_fails_for_a_moment_is_repeated_with_its_key(written: Written, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asyncio, "sleep", _no_sleep)
    service = Service(failures=2)

    done = await import_jurisdictions(service.client, written(f"{HEADER}\n{MAGNY}\n"))

    assert done.created == 1
    assert len(service.keys) == 3
    assert len(set(service.keys)) == 1


async def _no_sleep(seconds: float) -> None:
    return None


async def test_a_service_that_refuses_the_request_stops_the_import_with_its_sentence(written: Written) -> None:
    refusing = httpx.MockTransport(lambda request: httpx.Response(403, json={"detail": "Votre rôle ne permet pas cette opération."}))

    async with httpx.AsyncClient(base_url="http://partners", transport=refusing) as client:
        with pytest.raises(ImportStopped, match="Votre rôle ne permet pas"):
            await import_jurisdictions(client, written(f"{HEADER}\n{MAGNY}\n"))


async def test_requests_stay_small_enough_for_a_service(written: Written) -> None:
    service = Service()
    items = [{"code": f"{10_000 + place}", "nom": "é" * 3900, "type": "commune-actuelle"} for place in range(600)]

    await import_communes(service.client, written(json.dumps(items, ensure_ascii=False)))

    assert len(service.requests) > 1
    assert all(len(json.dumps(request, ensure_ascii=False).encode()) < 1_000_000 for request in service.requests)


# The command


def _connected_to(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    real = httpx.AsyncClient
    monkeypatch.setattr(httpx, "AsyncClient", lambda **given: real(**given, transport=httpx.MockTransport(service)))


def test_the_command_says_what_became_of_the_lines(written: Written, monkeypatch: pytest.MonkeyPatch) -> None:
    _connected_to(Service(), monkeypatch)

    done = CliRunner().invoke(import_app, ["jurisdictions", str(written(f"{HEADER}\n{MAGNY}\n{ENGHIEN}\n")), "--token", "t"])

    assert done.exit_code == 0
    assert "2 lignes : 2 créées, 0 modifiées, 0 inchangées, 0 refusées." in done.output


def test_the_command_lists_refused_lines_by_number_goes_on_and_ends_with_1(written: Written, monkeypatch: pytest.MonkeyPatch) -> None:
    _connected_to(Service(refuses=frozenset({"95011"})), monkeypatch)
    path = written(f"{HEADER}\n{MAGNY}\n{ENGHIEN}\nnonsense\n{ENGHIEN.replace('95014', '95018')}\n")

    done = CliRunner().invoke(import_app, ["jurisdictions", str(path), "--token", "t"])

    assert done.exit_code == 1
    assert "ligne 2 : code : Ce n'est pas le format attendu." in done.output
    assert "ligne 4 : Cette ligne n'a pas la forme de la première" in done.output
    assert "4 lignes : 2 créées, 0 modifiées, 0 inchangées, 2 refusées." in done.output


def test_the_command_says_in_a_sentence_what_is_wrong_with_a_file(written: Written) -> None:
    done = CliRunner().invoke(import_app, ["communes", str(written("a;b\n1;2\n")), "--token", "t"])

    assert done.exit_code == 1
    assert "La première ligne doit nommer les colonnes" in done.output
