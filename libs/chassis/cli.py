"""Commands for whoever operates a service: `maillon audit`, `maillon streams`, `maillon vault`.

They work on the service's database, with its settings (`REFERRALS_DATABASE_URL`, …); of these they need only the database's address and the key the
command speaks of, so that an auditor needs no secret: `--keys` takes the published keys instead of the signing key.

Exit codes: 0 done and in order, 1 something is not in order, 2 settings or command line, 3 the database does not answer.
"""

import asyncio
import getpass
import json
import os
import re
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, TypeVar

import asyncpg
import typer
from pydantic import SecretStr
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from sqlalchemy.exc import DBAPIError

from libs.chassis import streams
from libs.chassis.audit import KEEP_DAYS, Signed, Verified, audit, checkpoint, keep, verify_stream
from libs.chassis.database import Database, sqlstate
from libs.chassis.here import NOT_HERE
from libs.chassis.outbox import SESSION_KEY, Speaker
from libs.chassis.security import Principal
from libs.chassis.settings import BESIDE, Settings, SettingsError, named_keys
from libs.chassis.signing import SignatureInvalid, Signer
from libs.chassis.vault import Vault, VaultError
from libs.contracts.envelope import Event
from libs.contracts.registry import SPEAKERS
from libs.contracts.vocabularies import Role

IN_ORDER, NOT_IN_ORDER, MISCONFIGURED, NO_DATABASE = range(4)

_REWRAP_BATCH = 500

T = TypeVar("T")

audit_app = typer.Typer(name="audit", help="Journal d'audit : vérifier, signer un point de contrôle.", no_args_is_help=True)
streams_app = typer.Typer(name="streams", help="Flux d'événements : vérifier, ouvrir une nouvelle époque.", no_args_is_help=True)
vault_app = typer.Typer(name="vault", help="Coffre : changer la clé qui protège les clés de données.", no_args_is_help=True)


class OperatorSettings(Settings):
    """A service's settings as far as an operator's command needs them."""

    client_id: str = ""
    pseudonym_key: SecretStr = SecretStr("")
    search_key: SecretStr = SecretStr("")
    signing_key: SecretStr = SecretStr("")
    vault_keys: SecretStr = SecretStr('{"": ""}')
    vault_active_key: str = ""


class CommandFailed(Exception):
    """Why a command could not do its work, in sentences, and the exit code that says so."""

    def __init__(self, code: int, *sentences: str) -> None:
        super().__init__(*sentences)
        self.code = code
        self.sentences = sentences


# What the commands share

_out, _err = Console(highlight=False, soft_wrap=True), Console(stderr=True, highlight=False, soft_wrap=True)


def _say(sentence: str, style: str | None = None) -> None:
    _out.print(sentence, style=style, markup=False)


@contextmanager
def _spoken() -> Iterator[None]:
    """What stops a command becomes sentences on stderr and an exit code."""
    try:
        yield
    except CommandFailed as failed:
        for sentence in failed.sentences:
            _err.print(sentence, style="red", markup=False)
        raise typer.Exit(failed.code) from None


def _settings(service: str) -> OperatorSettings:
    if service not in SPEAKERS:
        raise CommandFailed(MISCONFIGURED, "Un service s'appelle referrals, partners, funding ou reporting.")
    kind: type[OperatorSettings] = type(
        "NamedSettings", (OperatorSettings,), {"service": service, "__annotations__": {}, "__module__": __name__}
    )
    try:
        return kind.load(**BESIDE)
    except SettingsError as error:
        here = () if f"{service.upper()}_DATABASE_URL" in os.environ else (NOT_HERE,)
        raise CommandFailed(MISCONFIGURED, f"Les réglages du service {service} sont à corriger :", *error.sentences, *here) from None


def _signer(settings: OperatorSettings) -> Signer:
    try:
        return Signer(settings.signing_key.get_secret_value(), former=json.loads(settings.former_signing_keys))
    except (ValueError, AttributeError):
        raise CommandFailed(
            MISCONFIGURED, "SIGNING_KEY manque ou ne convient pas : une clé privée EC P-256 (JWK). Pour vérifier, --keys suffit."
        ) from None


def _jwks(settings: OperatorSettings, keys: Path | None) -> dict[str, Any]:
    """The keys that signatures are checked with: those of a file, else the public half of the service's own."""
    if keys is None:
        return _signer(settings).public_jwks()
    try:
        read = json.loads(keys.read_text())
        if isinstance(read["keys"], list):
            return {"keys": read["keys"]}
    except (OSError, ValueError, TypeError, KeyError):
        raise CommandFailed(
            MISCONFIGURED, "Le fichier de --keys ne contient pas de clés (JWKS) : enregistrez-y la réponse de GET /v1/keys."
        ) from None
    raise CommandFailed(MISCONFIGURED, "Le fichier de --keys ne contient pas de clés (JWKS).")


def _nothing_to_say(event: Event, _: object) -> list[Any]:
    raise TypeError(f"a command does not say {event.type}")


def _with_database(service: str, settings: OperatorSettings, work: Callable[[Database], Awaitable[T]]) -> T:
    async def run() -> T:
        database = Database(settings.database_url, pool_size=2, info={SESSION_KEY: Speaker(service, _nothing_to_say)})
        try:
            return await work(database)
        finally:
            await database.close()

    try:
        return asyncio.run(run())
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, DBAPIError) as error:
        if sqlstate(error) == asyncpg.UndefinedTableError.sqlstate:
            sentence = f"La base du service {service} n'est pas préparée : lancez « python -m services.{service} migrate »."
        else:
            sentence = f"La base du service {service} ne répond pas comme attendu ({type(error).__name__})."
        raise CommandFailed(NO_DATABASE, sentence) from None


def _operator() -> Principal:
    """Whoever runs the command, for the audit log: the name of the system's user."""
    name = re.sub(r"[^A-Za-z0-9_.-]", "_", getpass.getuser())[:60] or "unknown"
    return Principal("maillon-command", name, Role.ADMINISTRATOR, None, frozenset({"national"}), frozenset())


_SERVICE_OPTION = Annotated[str, typer.Option("--service", help="referrals, partners, funding ou reporting.", show_default=False)]
_KEYS_OPTION = Annotated[
    Path | None, typer.Option("--keys", help="Clés publiques (JWKS, GET /v1/keys), à la place de la clé de signature.", show_default=False)
]
_CHECKPOINT_OPTION = Annotated[
    list[str] | None, typer.Option("--checkpoint", help="Un point de contrôle signé gardé ailleurs (JWS) ; répétable.", show_default=False)
]
_ARCHIVE_OPTION = Annotated[
    list[Path] | None,
    typer.Option(
        "--archive", help="Un journal du service (lignes JSON) dont les points de contrôle sont comparés ; répétable.", show_default=False
    ),
]


# Audit and streams: verification


def archived_checkpoints(archive: Path, service: str, stream: str) -> list[str]:
    """The signed checkpoints of one stream in a log of JSON lines. Other lines are passed over. Raises OSError."""
    found = []
    with archive.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            if '"audit.checkpoint"' not in line:
                continue
            try:
                said = json.loads(line)
            except ValueError:
                continue  # a line cut by the rotation of the log
            if isinstance(said, dict) and (said.get("event"), said.get("source"), said.get("stream")) == (
                "audit.checkpoint",
                service,
                stream,
            ):
                found.append(str(said.get("jws")))
    return found


def _report(seen: Verified) -> bool:
    """Say what a verification saw. True when all is in order."""
    for finding in seen.findings:
        _say(f"  ✗ {finding.sentence}", "red")
    if not seen.intact:
        _say(f"Le flux « {seen.stream} » de {seen.source} N'EST PAS INTACT : {len(seen.findings)} constat(s).", "red")
        return False
    if not seen.entries:
        _say(f"Le flux « {seen.stream} » de {seen.source} est vide.")
        return True
    place = f"n° {seen.first_sequence} à {seen.last_sequence}, époque {seen.epoch}"
    _say(f"Le flux « {seen.stream} » de {seen.source} est intact : {seen.entries} entrées ({place}), empreinte {seen.digest.hex()[:16]}….")
    return True


def _report_vouched(seen: Verified) -> None:
    """Say what proves it, and whose word that is."""
    outside, inside = seen.compared_outside, seen.compared_inside
    _say(f"  Points de contrôle signés comparés : {outside} gardés hors de la base, {inside} de la base seule.")
    if not outside:
        if seen.entries:
            hidden = "une fin coupée avec les points de contrôle qui l'attestaient, ou un journal entièrement réécrit, ne se verrait pas"
        else:
            hidden = "un journal effacé avec sa tête et ses points de contrôle paraîtrait vide lui aussi"
        _say(f"  Attention : rien d'extérieur à la base n'a été comparé ; {hidden}. Donnez --archive ou --checkpoint.", "yellow")
    if not seen.intact or not seen.entries:
        return
    if not seen.vouched_sequence:
        _say("  Aucun point de contrôle signé n'atteste ces entrées ; seul leur enchaînement est prouvé.", "yellow")
        return
    for vouched, whose in ((seen.vouched_outside, "gardé hors de la base"), (seen.vouched_sequence, "de la base seule")):
        if vouched == seen.last_sequence:
            _say(f"  Un point de contrôle {whose} atteste la dernière entrée.")
            return
        if vouched:
            _say(f"  Un point de contrôle {whose} atteste les entrées jusqu'au n° {vouched}.")
    _say("  Les suivantes sont prouvées par l'enchaînement seul.")


def _archived(archives: Sequence[Path], service: str) -> list[str]:
    """The checkpoints of all the archives together: rotated files without one are named, all without any prove nothing."""
    found = []
    for one in archives:
        try:
            here = archived_checkpoints(one, service, streams.AUDIT)
        except OSError as error:
            raise CommandFailed(MISCONFIGURED, f"L'archive ne peut pas être lue ({type(error).__name__}).") from None
        if not here:
            _err.print(f"{one} ne contient aucun point de contrôle du service {service}.", style="yellow", markup=False)
        found += here
    if archives and not found:
        sentence = f"L'archive donnée ne contient aucun point de contrôle du service {service} : rien n'a été comparé."
        raise CommandFailed(MISCONFIGURED, sentence, "Donnez le journal du service lui-même (lignes « audit.checkpoint »).")
    return found


@audit_app.command("verify")
def audit_verify(
    service: _SERVICE_OPTION, checkpoint: _CHECKPOINT_OPTION = None, archive: _ARCHIVE_OPTION = None, keys: _KEYS_OPTION = None
) -> None:
    """Recalculer tout le journal d'audit et le comparer aux points de contrôle signés.

    Ceux de la base ne prouvent rien contre qui l'administre : donnez ceux du journal du service (--archive). Code 1 : une entrée a été modifiée, déplacée
    ou retirée ; code 2 : l'archive donnée ne contient aucun point de contrôle de ce service.
    """
    with _spoken():
        settings = _settings(service)
        jwks = _jwks(settings, keys)
        given = [*(checkpoint or []), *_archived(archive or [], service)]

        async def work(database: Database) -> Verified:
            connection = await database.connect()
            try:
                return await verify_stream(connection, streams.AUDIT, source=service, jwks=jwks, checkpoints=given, keep_days=KEEP_DAYS)
            finally:
                await connection.close()

        try:
            seen = _with_database(service, settings, work)
        except SignatureInvalid:
            raise CommandFailed(
                MISCONFIGURED,
                "Un point de contrôle donné n'est pas signé par ces clés, ou n'est pas celui du journal d'audit de ce service.",
            ) from None
        in_order = _report(seen)
        _report_vouched(seen)
    if not in_order:
        raise typer.Exit(NOT_IN_ORDER)


@audit_app.command("checkpoint")
def audit_checkpoint(service: _SERVICE_OPTION) -> None:
    """Signer maintenant la tête du journal d'audit et l'écrire : à garder hors de la base. Code 1 : la base a autre chose à sa place."""
    with _spoken():
        settings = _settings(service)
        signer = _signer(settings)

        async def work(database: Database) -> tuple[Signed | None, bool]:
            async with database.transaction() as session:
                signed = await checkpoint(session, signer, service)
                return signed, signed is None or await keep(session, signer, signed)

        signed, kept = _with_database(service, settings, work)
    if signed is None:
        _err.print("Le journal d'audit est vide : rien à signer.", markup=False)
        return
    typer.echo(signed.jws)
    if not kept:
        sentence = f"La base garde, à la place de ce point de contrôle n° {signed.checkpoint.sequence}, autre chose que ce qui a été signé."
        _err.print(sentence, style="red", markup=False)
        raise typer.Exit(NOT_IN_ORDER)


@streams_app.command("verify")
def streams_verify(
    service: _SERVICE_OPTION,
    stream: Annotated[str | None, typer.Option("--stream", help="Un seul flux ; sinon tous.", show_default=False)] = None,
    keys: _KEYS_OPTION = None,
) -> None:
    """Recalculer l'enchaînement des événements de chaque flux. Code 1 : un flux n'est pas intact."""
    with _spoken():
        settings = _settings(service)
        jwks = _jwks(settings, keys)

        async def work(database: Database) -> list[Verified]:
            connection = await database.connect()
            try:
                names = [stream] if stream is not None else await _streams_of(connection)
                return [
                    await verify_stream(connection, name, source=service, jwks=jwks, keep_days=KEEP_DAYS if name == streams.AUDIT else None)
                    for name in names
                ]
            finally:
                await connection.close()

        seen = _with_database(service, settings, work)
        in_order = [_report(one) for one in seen]
        if not seen:
            _say(f"Le service {service} n'a encore aucun flux.")
    if not all(in_order):
        raise typer.Exit(NOT_IN_ORDER)


async def _streams_of(connection: Any) -> list[str]:
    """Also those of which only a part is left: a head, events or checkpoints."""
    rows = await connection.fetch(
        "SELECT stream FROM streams UNION SELECT stream FROM stream_events UNION SELECT stream FROM stream_checkpoints ORDER BY stream"
    )
    return [row["stream"] for row in rows]


async def _diverged(database: Database) -> list[str]:
    async with database.transaction() as session:
        return [head.stream for head in await streams.heads(session) if head.diverged_reason]


@streams_app.command("new-epoch")
def streams_new_epoch(
    service: _SERVICE_OPTION,
    reason: Annotated[str, typer.Option("--reason", help="Pourquoi : gardé avec l'époque.", show_default=False)],
    yes: Annotated[bool, typer.Option("--yes", help="Ne pas demander confirmation.")] = False,
) -> None:
    """Après la restauration d'une base : ouvrir une nouvelle époque. Les abonnés reviennent au dernier numéro encore valable."""
    with _spoken():
        settings = _settings(service)
        if not 5 <= len(reason.strip()) <= 500 or not reason.isprintable():
            raise CommandFailed(MISCONFIGURED, "Donnez la raison en une phrase, de 5 à 500 caractères.")
        if not yes:
            diverged = _with_database(service, settings, _diverged)
            seen = (
                f"Divergents : {', '.join(diverged)}."
                if diverged
                else "Aucun flux n'est divergent : seulement si la base vient d'être restaurée."
            )
            typer.confirm(
                f"{seen} Ouvrir une nouvelle époque pour tous les flux de {service} ? Ce que les abonnés ont reçu au-delà est abandonné.",
                abort=True,
            )

        async def work(database: Database) -> list[streams.Head]:
            async with database.transaction() as session:
                heads = await streams.new_epoch(session, reason.strip())
                await audit(session, _operator(), operation="open_epoch", subject=streams.AUDIT)
                return heads

        heads = _with_database(service, settings, work)
    for head in heads:
        _say(f"{head.stream} : époque {head.epoch}, dernier numéro valable {head.sequence}.")
    _say(f"Nouvelle époque ouverte pour {len(heads)} flux de {service} : la numérotation et l'envoi reprennent.")


# Vault


@vault_app.command("rewrap")
def vault_rewrap(
    service: _SERVICE_OPTION,
    batch: Annotated[int, typer.Option("--batch", min=1, max=10_000, help="Clés par transaction.")] = _REWRAP_BATCH,
) -> None:
    """Protéger toutes les clés de données par la clé active (VAULT_ACTIVE_KEY), sans interruption. Peut être repris à tout moment."""
    with _spoken():
        settings = _settings(service)
        if not settings.vault_active_key:
            raise CommandFailed(MISCONFIGURED, "VAULT_KEYS et VAULT_ACTIVE_KEY manquent : donnez l'ancienne clé et la nouvelle.")
        vault = Vault(named_keys(settings.vault_keys), settings.vault_active_key)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())

        async def work(database: Database) -> tuple[int, dict[str, int]]:
            async with database.transaction() as session:
                before = await vault.wrapped_by(session)
            total = sum(keys for kek, keys in before.items() if kek != vault.active)
            done, last = 0, None
            with Progress(*columns, console=_err, transient=True) as bar:
                task = bar.add_task("Clés de données", total=total)
                while True:
                    async with database.transaction() as session:
                        wrapped = await vault.rewrap(session, batch, last)
                    done, last = done + wrapped.count, wrapped.last
                    bar.update(task, completed=done)
                    if last is None:
                        break
            async with database.transaction() as session:
                await audit(session, _operator(), operation="rewrap_vault", subject="vault", detail={"keys": str(done)})
                return done, await vault.wrapped_by(session)

        try:
            done, after = _with_database(service, settings, work)
        except VaultError as error:
            raise CommandFailed(NOT_IN_ORDER, f"Le coffre de {service} ne peut pas être ouvert partout : {error}.") from None
    left = {kek: keys for kek, keys in after.items() if kek != vault.active}
    _say(f"{done} clés de données protégées à nouveau par « {vault.active} ».")
    if left:
        for kek, keys in left.items():
            _say(
                f"{keys} clés restent sous « {kek} » : un processus s'en sert encore. Changez sa clé active, puis relancez la commande.",
                "yellow",
            )
        raise typer.Exit(NOT_IN_ORDER)
    _say("Les autres clés peuvent quitter VAULT_KEYS.")
