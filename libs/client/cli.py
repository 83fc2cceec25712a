"""`maillon`: the command line, for operators and for whoever follows a stream.

    maillon import communes FILE             reference data, over HTTP (libs.client.importing)
    maillon audit verify --service referrals     on the database (libs.chassis.cli), like streams and vault
    maillon dead-letters list --service reporting    over HTTP: replaying needs the service's own handlers
    maillon events follow --service partners --stream internal
    maillon send FILE                        referrals, one a line (libs.client.sending)
    maillon receipt verify RECEIPT REQUEST --keys KEYS    offline (libs.client.receipts)

On a machine where `make run` stands and nothing else is configured, the commands find its databases, its secrets and its token issuer.
"""

import asyncio
import json
import os
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Annotated, Any, TypeVar

import httpx
import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from libs.chassis.cli import audit_app, streams_app, vault_app
from libs.chassis.here import find_here
from libs.chassis.kafka_cli import kafka_app
from libs.chassis.streams import Record
from libs.client import sending
from libs.client.client import (
    ChainBroken,
    Client,
    Credentials,
    Cursor,
    FeedTooOld,
    HistoryReplaced,
    Problem,
    TokenRefused,
    Unreachable,
    cursor_of,
)
from libs.client.here import address_here, tokens_here
from libs.client.importing import import_app
from libs.client.receipt_command import receipt_app
from libs.contracts.registry import SPEAKERS

T = TypeVar("T")

app = typer.Typer(
    name="maillon", help="Maillon : le réseau national d'orientation des ISCG.", no_args_is_help=True, pretty_exceptions_enable=False
)
dead_letters_app = typer.Typer(
    name="dead-letters", help="Événements mis de côté : les voir, les rejouer, les écarter (par l'API du service).", no_args_is_help=True
)
events_app = typer.Typer(name="events", help="Événements : suivre un flux (par l'API du service).", no_args_is_help=True)

for part in (import_app, audit_app, streams_app, vault_app, kafka_app, dead_letters_app, events_app, receipt_app):
    app.add_typer(part)

_out, _err = Console(highlight=False, soft_wrap=True), Console(stderr=True, highlight=False, soft_wrap=True)

_SERVICE = Annotated[str, typer.Option("--service", help="referrals, partners, funding ou reporting.", show_default=False)]
_URL = Annotated[
    str, typer.Option("--url", help="Adresse du service ; sinon MAILLON_<SERVICE>_URL, sinon celui de cette machine.", show_default=False)
]
_TOKEN = Annotated[str, typer.Option("--token", envvar="MAILLON_TOKEN", help="Jeton d'accès.", show_default=False)]
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
_SECRET = Annotated[str, typer.Option("--client-secret", envvar="MAILLON_CLIENT_SECRET", hidden=True)]


@app.callback()
def _main() -> None:
    """Maillon : le réseau national d'orientation des ISCG."""
    find_here()


# What the commands over HTTP share


@contextmanager
def _spoken() -> Iterator[None]:
    """What stops a command becomes a sentence on stderr and exit code 1."""
    try:
        yield
    except Problem as problem:
        _refuse(problem.detail or problem.title or f"Le service a répondu {problem.status}.")
        for error in problem.errors:
            _refuse(f"  {error.get('pointer') or error.get('parameter', '')} : {error.get('detail', '')}")
        raise typer.Exit(1) from None
    except TokenRefused as refused:
        _refuse(f"Aucun jeton n'a pu être obtenu : {refused}.")
        raise typer.Exit(1) from None
    except (Unreachable, httpx.HTTPError) as away:
        _refuse(f"Le service ne répond pas ({away}).")
        raise typer.Exit(1) from None
    except ChainBroken as broken:
        _refuse(f"LE FLUX N'EST PAS INTACT : {broken}.")
        raise typer.Exit(1) from None


def _refuse(sentence: str) -> None:
    _err.print(sentence, style="red", markup=False)


def _client(service: str, url: str, token: str, token_url: str, client_id: str, secret: str) -> Client:
    if not url:
        url = os.environ.get(f"MAILLON_{service.upper()}_URL", "")
    url = url or (address_here(service) if service in SPEAKERS else None) or ""
    if not url:
        _refuse("Un service s'appelle referrals, partners, funding ou reporting ; pour un autre, donnez --url.")
        raise typer.Exit(2)
    return Client(
        url, token=token or None, credentials=None if token else Credentials(token_url or tokens_here(), client_id, secret), attempts=4
    )


def _run(client: Client, work: Callable[[Client], Awaitable[T]]) -> T:
    async def run() -> T:
        async with client:
            return await work(client)

    with _spoken():
        return asyncio.run(run())


# Dead letters


@dead_letters_app.command("list")
def list_dead_letters(
    service: _SERVICE,
    status: Annotated[str, typer.Option("--status", help="parked, replayed ou discarded.")] = "parked",
    url: _URL = "",
    token: _TOKEN = "",
    token_url: _TOKEN_URL = "",
    client_id: _CLIENT_ID = "administrator",
    secret: _SECRET = "",
) -> None:
    """Les événements que ce service n'a pas pu traiter, les plus anciens d'abord. Code 1 s'il en reste à traiter."""

    async def work(client: Client) -> list[dict[str, Any]]:
        return [letter async for letter in client.pages("/v1/dead-letters", status=status)]

    letters = _run(_client(service, url, token, token_url, client_id, secret), work)
    for letter in letters:
        why = letter["cause"] + (f" ({letter['error']})" if letter["error"] else "")
        _out.print(
            f"{letter['id']}  {letter['source']} n° {letter['sequence']}  {letter['type']}  {letter['subject']}  {why}", markup=False
        )
    if status == "parked":
        _out.print(f"{len(letters)} événement(s) en attente d'une décision." if letters else "Aucun événement n'est mis de côté.")
        if letters:
            raise typer.Exit(1)


@dead_letters_app.command("replay")
def replay_dead_letter(
    letter: Annotated[str, typer.Argument(help="L'identifiant donné par list.")],
    service: _SERVICE,
    url: _URL = "",
    token: _TOKEN = "",
    token_url: _TOKEN_URL = "",
    client_id: _CLIENT_ID = "administrator",
    secret: _SECRET = "",
) -> None:
    """Traiter à nouveau un événement et ceux qui le suivent pour le même objet, dans l'ordre."""

    async def work(client: Client) -> list[str]:
        answer = await client.post(f"/v1/dead-letters/{letter}/replay")
        replayed: list[str] = answer["replayed"]
        return replayed

    replayed = _run(_client(service, url, token, token_url, client_id, secret), work)
    _out.print(f"{len(replayed)} événement(s) traité(s).")


@dead_letters_app.command("discard")
def discard_dead_letter(
    letter: Annotated[str, typer.Argument(help="L'identifiant donné par list.")],
    service: _SERVICE,
    reason: Annotated[str, typer.Option("--reason", help="Pourquoi : gardé avec l'événement.", show_default=False)],
    url: _URL = "",
    token: _TOKEN = "",
    token_url: _TOKEN_URL = "",
    client_id: _CLIENT_ID = "administrator",
    secret: _SECRET = "",
) -> None:
    """Renoncer à un événement, en donnant la raison."""

    async def work(client: Client) -> None:
        await client.post(f"/v1/dead-letters/{letter}/discard", {"reason": reason})

    _run(_client(service, url, token, token_url, client_id, secret), work)
    _out.print("L'événement est écarté ; ceux qui le suivent pour le même objet restent à rejouer.")


# Referrals


@app.command("send")
def send_referrals(
    file: Annotated[Path, typer.Argument(help="NDJSON : une saisine par ligne, ou une clé et une saisine.", exists=True, dir_okay=False)],
    receipts: Annotated[
        Path | None, typer.Option("--receipts", help="Fichier où ajouter les résultats avec leurs reçus (NDJSON).", show_default=False)
    ] = None,
    url: _URL = "",
    token: _TOKEN = "",
    token_url: _TOKEN_URL = "",
    client_id: _CLIENT_ID = "police-95",
    secret: _SECRET = "",
) -> None:
    """Envoyer un fichier de saisines. Interrompu ou relancé, il ne crée que ce qui manque. Code 1 si des lignes sont refusées, ou leurs reçus non valides."""

    async def work(client: Client) -> sending.Sent:
        columns = (TextColumn("Envoi"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
        with Progress(*columns, console=_err, transient=True) as bar:
            task = bar.add_task("", total=file.stat().st_size)
            with receipts.open("ab") if receipts is not None else nullcontext() as kept:
                return await sending.send(client, file, lambda read: bar.update(task, completed=read), receipts=kept)

    sent = _run(_client("referrals", url, token, token_url, client_id, secret), work)
    for number, why in sent.refused:
        _refuse(f"ligne {number} : {why}")
    for number, flaw in sent.doubtful:
        _refuse(f"ligne {number} : son reçu n'est pas valide, {flaw.label}.")
    _out.print(f"{sent.outcomes['created']} créée(s), {sent.outcomes['replayed']} déjà reçue(s), {sent.outcomes['refused']} refusée(s).")
    if sent.refused or sent.doubtful:
        raise typer.Exit(1)


# Events


def _read_cursor(file: Path, service: str, stream: str) -> Cursor | None:
    if not file.exists():
        return None
    try:
        said = json.loads(file.read_text())
        kept = (said["service"], said["stream"])
        cursor = Cursor(int(said["epoch"]), int(said["sequence"]), bytes.fromhex(said["digest"]))
    except (ValueError, KeyError, TypeError):
        _refuse(f"{file} n'est pas un curseur écrit par cette commande.")
        raise typer.Exit(2) from None
    if kept != (service, stream):
        _refuse(f"{file} est le curseur du flux « {kept[1]} » de {kept[0]}.")
        raise typer.Exit(2)
    return cursor


def _write_cursor(file: Path, service: str, stream: str, cursor: Cursor) -> None:
    said = {
        "service": service,
        "stream": stream,
        "epoch": cursor.epoch,
        "sequence": cursor.sequence,
        "digest": (cursor.digest or b"").hex(),
    }
    making = file.with_name(file.name + ".new")
    making.write_text(json.dumps(said))
    making.replace(file)


async def _check_cursor(client: Client, stream: str, cursor: Cursor) -> None:
    """A service's token is believed when it claims a later history, and the relay stops: a stale file must not do that."""
    head = await client.head(stream)
    if head["epoch"] > cursor.epoch or not cursor.sequence or cursor.digest is None:
        return
    known = None
    if head["epoch"] == cursor.epoch and cursor.sequence <= head["sequence"]:
        try:
            known = (await client.get(f"/v1/streams/{stream}/digests/{cursor.sequence}"))["digest"]
        except Problem as problem:
            if problem.status != 404:
                raise
            if cursor.sequence < head["oldest_sequence"]:
                raise FeedTooOld(head["oldest_sequence"]) from None
    if known != cursor.digest.hex():
        _refuse(
            f"Ce curseur (n° {cursor.sequence}) n'est pas dans l'historique de ce service : autre base, ou base restaurée sans nouvelle époque."
        )
        raise typer.Exit(1)


def _line(record: Record) -> str:
    attributes = json.loads(record.attributes)
    return f"{record.sequence:>8}  {attributes['time']}  {attributes['type']}  {attributes['subject']}"


@events_app.command("follow")
def follow_events(
    stream: Annotated[str, typer.Option("--stream", help="internal, interior, justice, departement:95, organization:<id>…")] = "internal",
    service: _SERVICE = "referrals",
    after: Annotated[int | None, typer.Option("--after", min=0, help="Le dernier numéro déjà reçu ; sinon à partir de maintenant.")] = None,
    cursor_file: Annotated[
        Path | None, typer.Option("--cursor", help="Fichier où garder la position, relu au démarrage.", show_default=False)
    ] = None,
    once: Annotated[bool, typer.Option("--once", help="S'arrêter à la fin du flux.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Un événement CloudEvents (JSON) par ligne.")] = False,
    url: _URL = "",
    token: _TOKEN = "",
    token_url: _TOKEN_URL = "",
    client_id: _CLIENT_ID = "reporting",
    secret: _SECRET = "",
) -> None:
    """Suivre un flux : chaque événement est vérifié (numéro, empreinte, tête signée) avant d'être écrit. Ctrl-C pour finir."""

    async def work(client: Client) -> None:
        cursor = _read_cursor(cursor_file, service, stream) if cursor_file is not None else None
        if cursor is not None:
            await _check_cursor(client, stream, cursor)
        else:
            if after is None:
                cursor = await client.now(stream)
            elif after == 0:
                cursor = Cursor.start()
            else:
                cursor = Cursor((await client.head(stream))["epoch"], after, None)
        while True:
            try:
                async for record in client.follow(stream, cursor, for_ever=not once):
                    typer.echo(record.cloudevent().decode() if as_json else _line(record))
                    cursor = cursor_of(record)
                    if cursor_file is not None:
                        _write_cursor(cursor_file, service, stream, cursor)
            except HistoryReplaced as replaced:
                cursor = replaced.cursor
                _err.print(
                    f"La base du service a été restaurée : ce qui suit le n° {cursor.sequence} est abandonné, l'époque {cursor.epoch} continue.",
                    style="yellow",
                    markup=False,
                )
                if cursor_file is not None:
                    _write_cursor(cursor_file, service, stream, cursor)
                continue
            return

    try:
        _run(_client(service, url, token, token_url, client_id, secret), work)
    except FeedTooOld as old:
        _refuse(f"Le flux ne remonte plus si loin : il commence au n° {old.oldest_sequence}. Relisez les listes, puis suivez le flux.")
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        raise typer.Exit(0) from None


if __name__ == "__main__":
    app()
