"""`maillon import communes FILE` and `maillon import jurisdictions FILE`: reference data out of public files, into the partners service.

    maillon import communes libs/embedded/data/communes-95.csv             our own CSV
    maillon import communes package/data/communes.json                     the whole country, out of @etalab/decoupage-administratif
    maillon import jurisdictions competence-territoriale.csv               the Interior's file, as it is published

Idempotent. A bad line is refused alone, by its number, and the others go on; the exit code is then 1. Files are read line by line, in UTF-8 (with or
without a byte order mark), UTF-16 or Windows-1252 / Latin-1.
"""

import asyncio
import codecs
import csv
import json
import re
import unicodedata
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Annotated, Any
from uuid import uuid4

import httpx
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from libs.client.here import partners_here, tokens_here

BATCH = 1000
"""Rows of one request: what the service takes at most."""

_ATTEMPTS = 5
_LONGEST_LINE = 4000
_HEAVIEST = 700_000
"""Bytes of one request: services take 1 MiB by default."""

_CURRENT = frozenset({"commune-actuelle", "arrondissement-municipal"})
"""What counts as a commune of the national file: the jurisdiction file speaks of the arrondissements of Paris, Lyon and Marseille, too."""

Report = Callable[[int, int], None]
"""Told the number of lines done, and of all lines."""


class FileUnreadable(Exception):
    """The file as a whole is not what was announced: a sentence that says so."""


class ImportStopped(Exception):
    """The service cannot be reached, or refuses the whole request: a sentence that says so. What was imported before stays."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a file as a row for the service. With a `problem` it is refused whatever the service says."""

    number: int
    row: dict[str, Any]
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class RefusedLine:
    number: int
    sentences: tuple[str, ...]


@dataclass(slots=True)
class Imported:
    """What became of the lines of a file."""

    created: int = 0
    changed: int = 0
    unchanged: int = 0
    refused: list[RefusedLine] = field(default_factory=list)

    @property
    def lines(self) -> int:
        return self.created + self.changed + self.unchanged + len(self.refused)


# Reading


def _encoding_of(path: Path) -> str:
    """UTF-8 unless the bytes are none; UTF-16 by its mark. Windows-1252 has five holes, Latin-1 has none."""
    with path.open("rb") as file:
        start = file.read(4)
        if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            return "utf-16"
        for encoding in ("utf-8-sig", "cp1252"):
            file.seek(0)
            decoder = codecs.getincrementaldecoder(encoding)()
            try:
                while chunk := file.read(1 << 16):
                    decoder.decode(chunk)
                decoder.decode(b"", final=True)
            except UnicodeDecodeError:
                continue
            return encoding
    return "latin-1"


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """The lines of a text file with their numbers, without those that are blank."""
    try:
        with path.open(encoding=_encoding_of(path), newline="") as file:
            for number, line in enumerate(file, 1):
                text = line.strip("\r\n\ufeff")
                if text.strip():
                    yield number, text
    except UnicodeError:
        raise FileUnreadable("Ce fichier n'est pas un fichier de texte.") from None


def _cells(line: str, delimiter: str) -> list[str] | None:
    """One CSV record. A field never spans lines in these files, so that an open quote spoils its own line only."""
    if len(line) > _LONGEST_LINE:
        return None
    try:
        cells = next(csv.reader([line], delimiter=delimiter, strict=True))
    except (csv.Error, StopIteration):
        return None
    return [unicodedata.normalize("NFC", cell).strip() for cell in cells]


def _table(path: Path, needed: Sequence[str]) -> Iterator[tuple[int, str, dict[str, str] | None]]:
    """The records of a CSV file by column name (`None`: malformed), each with its line number and text. The header tells the delimiter."""
    lines = _lines(path)
    try:
        _, first = next(lines)
    except StopIteration:
        raise FileUnreadable("Ce fichier est vide.") from None
    for delimiter in (";", ",", "\t"):
        names = [cell.lower() for cell in _cells(first, delimiter) or ()]
        if set(needed) <= set(names):
            break
    else:
        raise FileUnreadable(f"La première ligne doit nommer les colonnes {', '.join(needed)}.")
    for number, text in lines:
        cells = _cells(text, delimiter)
        yield number, text, dict(zip(names, cells, strict=True)) if cells is not None and len(cells) == len(names) else None


_MALFORMED = "Cette ligne n'a pas la forme de la première : nombre de colonnes ou guillemets."


def read_communes(path: Path) -> Iterator[Line]:
    """Our CSV (`code,name,departement,region,population` and, optionally, `postcodes` joined by `-`), or the national JSON.

    Raises FileUnreadable.
    """
    first = next(_lines(path), None)
    if first is not None and first[1].lstrip().startswith(("[", "{")):
        yield from _communes_of_json(path)
        return
    for number, _, cells in _table(path, ("code", "name", "departement", "region", "population")):
        if cells is None:
            yield Line(number, {}, _MALFORMED)
            continue
        row: dict[str, Any] = {name: cells[name] for name in ("code", "name", "departement", "region")}
        population = cells["population"]
        row["population"] = int(population) if re.fullmatch(r"[0-9]{1,9}", population, re.ASCII) else (population or None)
        if "postcodes" in cells:
            row["postcodes"] = [postcode for postcode in cells["postcodes"].split("-") if postcode]
        yield Line(number, row)


_ITEM = re.compile(r"\s*,?\s*")
_NEXT_ITEM = re.compile(r"\n\s*(?=\{)")


def _communes_of_json(path: Path) -> Iterator[Line]:
    """A JSON list, object by object. After a broken one, reading goes on where the next line begins an object."""
    text = path.read_text(encoding=_encoding_of(path))
    decoder = json.JSONDecoder()
    place = len(text) - len(text.lstrip("\ufeff \t\r\n"))
    if not text.startswith("[", place):
        raise FileUnreadable("Ce fichier JSON doit être une liste de communes.")
    place, counted, number = place + 1, 0, 1
    while True:
        skipped = _ITEM.match(text, place)
        place = skipped.end() if skipped is not None else place
        number, counted = number + text.count("\n", counted, place), place
        if place >= len(text) or text[place] == "]":
            return
        try:
            item, place = decoder.raw_decode(text, place)
        except (ValueError, RecursionError):
            yield Line(number, {}, "Ce n'est pas du JSON.")
            following = _NEXT_ITEM.search(text, place + 1)
            if following is None:
                return
            place = following.end()
            continue
        if not isinstance(item, dict):
            yield Line(number, {}, "Un objet JSON est attendu.")
        elif item.get("type", "commune-actuelle") in _CURRENT:
            row = _commune_of_item(item)
            yield Line(number, row) if all(map(_plain, row.values())) else Line(number, {}, "Une valeur n'est pas du genre attendu.")


def _plain(value: object) -> bool:
    """A value that can be sent and judged: JSON has others (NaN for Python, half characters, lists of lists)."""
    match value:
        case str():
            return len(value) <= _LONGEST_LINE and not any("\ud800" <= letter <= "\udfff" for letter in value)
        case bool() | None:
            return True
        case int():
            return abs(value) < 10**15
        case list():
            return len(value) <= BATCH and all(isinstance(one, str) and len(one) < 100 and _plain(one) for one in value)
        case _:
            return False


def _commune_of_item(item: dict[str, Any]) -> dict[str, Any]:
    row = {"code": item.get("code"), "name": item.get("nom"), "departement": item.get("departement"), "region": item.get("region")}
    row["population"] = item.get("population")
    if "codesPostaux" in item:
        row["postcodes"] = item["codesPostaux"]
    return row


_COMMUNE_AT_START = re.compile(r"""["'\s]*([0-9][0-9AB][0-9]{3})\b""", re.ASCII)


def read_jurisdictions(path: Path) -> Iterator[Line]:
    """The Interior's file: `code_commune;libelle_commune;institution;id_service;service;code_postal;codes_postaux`, by column name.

    Of a malformed line only the commune can be guessed: it is sent without a unit, so that the service refuses it and takes nothing away from that commune.
    Raises FileUnreadable.
    """
    for number, text, cells in _table(path, ("code_commune", "institution", "id_service", "service")):
        if cells is not None:
            yield Line(
                number,
                {
                    "commune": cells["code_commune"],
                    "institution": cells["institution"],
                    "id_service": cells["id_service"],
                    "service": cells["service"],
                },
            )
        elif (commune := _COMMUNE_AT_START.match(text)) is not None:
            for institution in ("PN", "GN"):
                yield Line(number, {"commune": commune[1], "institution": institution}, _MALFORMED)
        else:
            yield Line(number, {}, _MALFORMED)


# Sending


def _commune_of(line: Line) -> str:
    return str(line.row.get("commune", ""))


def _by_commune(lines: Iterable[Line]) -> Iterator[list[Line]]:
    """The rows of one commune together, wherever they stand in the file: together they replace what was known of it.

    Holds the rows in memory: 35,000 of them are about 20 MB.
    """
    for _, group in groupby(sorted(lines, key=_commune_of), _commune_of):
        yield list(group)


def _batches(groups: Iterable[list[Line]]) -> Iterator[list[Line]]:
    """Requests of a size that the service takes, parting no group that fits into one."""
    batch: list[Line] = []
    weight = 0
    for group in groups:
        added = sum(len(json.dumps(line.row)) for line in group)
        if batch and (len(batch) + len(group) > BATCH or weight + added > _HEAVIEST):
            yield batch
            batch, weight = [], 0
        batch, weight = batch + group, weight + added
        while len(batch) > BATCH:
            yield batch[:BATCH]
            batch = batch[BATCH:]
    if batch:
        yield batch


async def _send(client: httpx.AsyncClient, address: str, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The outcome of each row. One key for all attempts: a repeated request is not done twice."""
    key = str(uuid4())
    answer = None
    for attempt in range(_ATTEMPTS):
        if attempt:
            await asyncio.sleep(0.5 * 2**attempt)
        try:
            answer = await client.post(address, json={"rows": rows}, headers={"Idempotency-Key": key}, timeout=60)
        except httpx.TransportError:
            continue
        if answer.status_code not in (409, 429, 502, 503, 504):
            break
    if answer is None:
        raise ImportStopped("Le service partners ne répond pas : vérifiez son adresse, puis relancez la commande.")
    if answer.status_code != 200:
        raise ImportStopped(f"Le service partners refuse l'import ({answer.status_code}). {_detail(answer)}".strip())
    outcomes: list[dict[str, Any]] = answer.json()["rows"]
    return outcomes


def _detail(answer: httpx.Response) -> str:
    try:
        body = answer.json()
    except ValueError:
        return ""
    return str(body.get("detail", "")) if isinstance(body, dict) else ""


def _sentences(errors: list[dict[str, str]]) -> tuple[str, ...]:
    return tuple(f"{error['pointer'].lstrip('/')} : {error['detail']}" if error["pointer"] else error["detail"] for error in errors)


async def _import(
    client: httpx.AsyncClient, address: str, lines: Sequence[Line], batches: Iterable[list[Line]], report: Report | None
) -> Imported:
    done = Imported()
    refused: dict[int, tuple[str, ...]] = {}
    sent = 0
    for batch in batches:
        outcomes = await _send(client, address, [line.row for line in batch])
        for line, outcome in zip(batch, outcomes, strict=True):
            if line.problem is not None:
                refused[line.number] = (line.problem,)
            elif outcome["outcome"] == "refused":
                refused[line.number] = _sentences(outcome["errors"])
            else:
                setattr(done, outcome["outcome"], getattr(done, outcome["outcome"]) + 1)
        sent += len(batch)
        if report is not None:
            report(sent, len(lines))
    done.refused = [RefusedLine(number, sentences) for number, sentences in sorted(refused.items())]
    return done


async def import_communes(client: httpx.AsyncClient, path: Path, *, report: Report | None = None) -> Imported:
    """`client`: its base URL is the partners service, its token an administrator's. Raises FileUnreadable, ImportStopped."""
    lines = list(read_communes(path))
    return await _import(client, "/v1/imports/communes", lines, _batches([line] for line in lines), report)


async def import_jurisdictions(client: httpx.AsyncClient, path: Path, *, report: Report | None = None) -> Imported:
    """As `import_communes`; the communes come first: a jurisdiction in an unknown commune is refused."""
    lines = list(read_jurisdictions(path))
    return await _import(client, "/v1/imports/jurisdictions", lines, _batches(_by_commune(lines)), report)


# The command line

import_app = typer.Typer(
    name="import", help="Données de référence : communes (INSEE) et compétences territoriales (Intérieur).", no_args_is_help=True
)

_FILE = Annotated[Path, typer.Argument(exists=True, dir_okay=False, readable=True, help="Le fichier à importer.")]
_URL = Annotated[
    str,
    typer.Option(
        "--url", envvar="MAILLON_PARTNERS_URL", help="Adresse du service partners ; sinon celui de cette machine.", show_default=False
    ),
]
_TOKEN = Annotated[str, typer.Option("--token", envvar="MAILLON_TOKEN", help="Jeton d'accès d'un administrateur.", show_default=False)]
_TOKEN_URL = Annotated[
    str,
    typer.Option(
        "--token-url",
        envvar="MAILLON_TOKEN_URL",
        help="Où demander un jeton quand aucun n'est donné ; sinon à l'émetteur de cette machine.",
        show_default=False,
    ),
]
_CLIENT_ID = Annotated[str, typer.Option("--client-id", envvar="MAILLON_CLIENT_ID", help="Le client qui demande ce jeton.")]
_SECRET = Annotated[str, typer.Option(envvar="MAILLON_CLIENT_SECRET", hidden=True)]

Importer = Callable[..., Any]


@asynccontextmanager
async def _connected(url: str, token: str, token_url: str, client_id: str, secret: str) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=url, timeout=10) as client:
        if not token:
            form = {"grant_type": "client_credentials", "client_id": client_id} | ({"client_secret": secret} if secret else {})
            try:
                answer = await client.post(token_url, data=form)
                answer.raise_for_status()
                token = answer.json()["access_token"]
            except (httpx.HTTPError, ValueError, KeyError):
                raise ImportStopped(f"Aucun jeton n'a pu être obtenu de {token_url} pour {client_id}.") from None
        client.headers["Authorization"] = f"Bearer {token}"
        yield client


def _run(importer: Importer, path: Path, url: str, token: str, token_url: str, client_id: str, secret: str) -> None:
    said, errors = Console(), Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())

    async def work() -> Imported:
        with Progress(*columns, console=errors, transient=True) as bar:
            task = bar.add_task("Import", total=None)
            async with _connected(url or partners_here(), token, token_url or tokens_here(), client_id, secret) as client:
                done: Imported = await importer(client, path, report=lambda sent, total: bar.update(task, completed=sent, total=total))
                return done

    try:
        done = asyncio.run(work())
    except (FileUnreadable, ImportStopped, OSError) as error:
        errors.print(str(error), style="red", markup=False, highlight=False, soft_wrap=True)
        raise typer.Exit(1) from None
    for line in done.refused:
        errors.print(f"ligne {line.number} : {' '.join(line.sentences)}", markup=False, highlight=False, soft_wrap=True)
    said.print(
        f"{done.lines} lignes : {done.created} créées, {done.changed} modifiées, {done.unchanged} inchangées, {len(done.refused)} refusées.",
        highlight=False,
        soft_wrap=True,
    )
    if done.refused:
        raise typer.Exit(1)


@import_app.command("communes")
def communes(
    file: _FILE,
    url: _URL = "",
    token: _TOKEN = "",
    token_url: _TOKEN_URL = "",
    client_id: _CLIENT_ID = "administrator",
    secret: _SECRET = "",
) -> None:
    """Importer les communes : notre CSV, ou le JSON national de @etalab/decoupage-administratif."""
    _run(import_communes, file, url, token, token_url, client_id, secret)


@import_app.command("jurisdictions")
def jurisdictions(
    file: _FILE,
    url: _URL = "",
    token: _TOKEN = "",
    token_url: _TOKEN_URL = "",
    client_id: _CLIENT_ID = "administrator",
    secret: _SECRET = "",
) -> None:
    """Importer les compétences territoriales : le fichier du ministère de l'Intérieur, tel qu'il est publié."""
    _run(import_jurisdictions, file, url, token, token_url, client_id, secret)
