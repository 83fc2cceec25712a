"""Commands of operators, on a service's database: verify a chain, open a new epoch, wrap data keys anew, look after parked events.

They read the same environment as the service (`REFERRALS_DATABASE_URL`…). On the embedded default nothing need be set: `operator.env` in the data folder is read.
"""

import asyncio
import os
import shlex
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, TypeVar

import asyncpg
import typer
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from libs.chassis import audit, streams
from libs.chassis.database import Database
from libs.chassis.settings import Settings, SettingsError, named_keys
from libs.chassis.signing import SignatureInvalid, Signer
from libs.chassis.vault import Vault, VaultError

audit_app = typer.Typer(name="audit", help="Le journal des consultations.", no_args_is_help=True)
streams_app = typer.Typer(name="streams", help="Les flux d'événements.", no_args_is_help=True)
vault_app = typer.Typer(name="vault", help="Les clés de chiffrement.", no_args_is_help=True)

Service = Annotated[str, typer.Option(help="referrals, partners, funding ou reporting", metavar="SERVICE")]
T = TypeVar("T")


def _settings(service: str) -> Settings:
    """Raises typer.Exit after a sentence."""
    variable = f"{service.upper()}_DATABASE_URL"
    file = Path(os.environ.get("MAILLON_DATA") or ".maillon") / "operator.env"
    if not os.environ.get(variable) and file.exists():
        for line in file.read_text(encoding="utf-8").splitlines():
            name, _, value = line.partition("=")
            os.environ.setdefault(name, "".join(shlex.split(value)))
    own: type[Settings] = type("OperatorSettings", (Settings,), {"service": service, "__annotations__": {}})
    try:
        return own.load()
    except SettingsError as error:
        for sentence in error.sentences:
            typer.echo(sentence, err=True)
        raise typer.Exit(2) from None


def _run(work: Callable[[], Awaitable[T]]) -> T:
    async def guarded() -> T:
        return await work()

    try:
        return asyncio.run(guarded())
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, SQLAlchemyError) as error:
        typer.echo(f"La base de données ne répond pas ou n'est pas celle de ce service ({type(error).__name__}).", err=True)
        raise typer.Exit(2) from None


def _verify(service: str, stream: str, checkpoints: list[str], keep_days: int | None) -> None:
    settings = _settings(service)
    signer = Signer(settings.signing_key.get_secret_value())

    async def work() -> audit.Verified:
        database = Database(settings.database_url)
        connection = await database.connect()
        try:
            return await audit.verify_stream(
                connection, stream, source=service, jwks=signer.public_jwks(), checkpoints=checkpoints, keep_days=keep_days
            )
        finally:
            await connection.close()
            await database.close()

    try:
        found = _run(work)
    except SignatureInvalid:
        typer.echo("Un point de contrôle donné n'est pas signé par ce service, ou est celui d'un autre flux.", err=True)
        raise typer.Exit(2) from None
    for finding in found.findings:
        typer.echo(f"✗ {finding.sentence}")
    if not found.intact:
        typer.echo(f"Le flux « {stream} » de {service} a été altéré.")
        raise typer.Exit(1)
    typer.echo(
        f"✓ Le flux « {stream} » de {service} est intact : {found.entries} entrée(s), n° {found.first_sequence} à {found.last_sequence}, "
        f"attesté par signature jusqu'au n° {found.vouched_sequence}."
    )


@audit_app.command("verify")
def audit_verify(
    service: Service,
    checkpoint: Annotated[
        list[str] | None, typer.Option(help="Point de contrôle signé, gardé hors de la base (journaux du service)")
    ] = None,
) -> None:
    """Recalcule toute la chaîne du journal : une entrée modifiée, retirée, déplacée, ou une fin coupée se voit. Code 1 si c'est le cas."""
    _verify(service, streams.AUDIT, checkpoint or [], audit.KEEP_DAYS)


@streams_app.command("verify")
def streams_verify(
    service: Service, stream: Annotated[str, typer.Option(help="Par exemple internal, interior, departement:95")] = streams.INTERNAL
) -> None:
    """Recalcule toute la chaîne d'un flux."""
    _verify(service, stream, [], None)


@streams_app.command("heads")
def streams_heads(service: Service) -> None:
    """Où en est chaque flux d'un service."""
    settings = _settings(service)

    async def work() -> list[streams.Head]:
        database = Database(settings.database_url)
        try:
            async with database.transaction() as session:
                return await streams.heads(session)
        finally:
            await database.close()

    for head in _run(work):
        trouble = f"  DIVERGENT : {head.diverged_reason}" if head.diverged_reason else ""
        typer.echo(f"{head.stream:<60} époque {head.epoch}, n° {head.sequence}, envoyé jusqu'au n° {head.sent_sequence}{trouble}")


@streams_app.command("new-epoch")
def streams_new_epoch(
    service: Service,
    reason: Annotated[str, typer.Option(help="Pourquoi, par exemple « base restaurée de la sauvegarde du 22/11 »", prompt="Pourquoi")],
    yes: Annotated[bool, typer.Option("--yes", help="Ne pas demander confirmation")] = False,
) -> None:
    """Après la restauration d'une base : commence un nouvel historique après le dernier numéro qu'elle contient. Les destinataires y reviennent."""
    settings = _settings(service)
    if not yes:
        typer.confirm(
            f"Ce que {service} a dit après ce que contient cette base sera abandonné par ses destinataires. Continuer ?", abort=True
        )

    async def work() -> list[streams.Head]:
        database = Database(settings.database_url)
        try:
            async with database.transaction() as session:
                return await streams.new_epoch(session, reason)
        finally:
            await database.close()

    for head in _run(work):
        typer.echo(f"{head.stream} : époque {head.epoch}, à partir du n° {head.sequence + 1}")


@vault_app.command("rewrap")
def vault_rewrap(service: Service) -> None:
    """Enveloppe toutes les clés de données par la clé active (VAULT_ACTIVE_KEY), sans arrêt du service. L'ancienne peut ensuite être retirée."""
    settings = _settings(service)
    vault = Vault(named_keys(settings.vault_keys), settings.vault_active_key)

    async def work() -> tuple[int, dict[str, int]]:
        database = Database(settings.database_url)
        try:
            done, after = 0, None
            while True:
                async with database.transaction() as session:
                    batch = await vault.rewrap(session, after=after)
                done, after = done + batch.count, batch.last
                if after is None:
                    break
            async with database.transaction() as session:
                return done, await vault.wrapped_by(session)
        finally:
            await database.close()

    try:
        done, remaining = _run(work)
    except VaultError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from None
    typer.echo(f"{done} clé(s) réenveloppée(s). " + ", ".join(f"{key} : {count}" for key, count in sorted(remaining.items())))


@streams_app.command("parked")
def streams_parked(service: Service) -> None:
    """Les événements reçus que ce service n'a pas pu traiter. Rejouer ou écarter : POST /v1/dead-letters/{id}/replay ou /discard."""
    settings = _settings(service)

    async def work() -> list[tuple[str, str, int, str, str]]:
        database = Database(settings.database_url)
        try:
            async with database.transaction() as session:
                rows = await session.execute(
                    text("SELECT id, source, sequence, type, cause FROM dead_letters WHERE status = 'parked' ORDER BY id LIMIT 1000")
                )
                return [(str(row.id), row.source, row.sequence, row.type, row.cause) for row in rows]
        finally:
            await database.close()

    found = _run(work)
    for letter_id, source, sequence, kind, cause in found:
        typer.echo(f"{letter_id}  {source} n° {sequence}  {kind}  {cause}")
    typer.echo(f"{len(found)} événement(s) en attente.")
