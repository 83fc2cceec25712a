"""`python -m services.referrals [api|worker|both|migrate|openapi|asyncapi]`: one process of one service, from start to a clean end.

Exit codes: 0 stopped or done, 1 had to be cut short, 2 settings or command line, 3 database, 4 address in use.
"""

import argparse
import asyncio
import errno
import gc
import json
import os
import resource
import signal
import socket
import sys
import threading
from collections.abc import Sequence
from types import FrameType
from typing import Any
from urllib.parse import parse_qs, urlsplit

import asyncpg
import structlog
import uvicorn
from fastapi import FastAPI

from libs.chassis import telemetry
from libs.chassis.app import create_app
from libs.chassis.database import migrate
from libs.chassis.limits import BoundedProtocol
from libs.chassis.operations_api import write_asyncapi
from libs.chassis.service import Service
from libs.chassis.settings import Settings, SettingsError, development_secrets

_log = structlog.get_logger("process")

STOPPED, CUT_SHORT, MISCONFIGURED, NO_DATABASE, NO_ADDRESS = range(5)

_GRACE_SECONDS = 2
"""For requests in work; the lifespan needs 7 more at most (libs.chassis.app), which makes 9."""
_LAST_SECONDS = 9.7
"""Then the process ends whatever hangs: stopping takes 10 s or less."""
_DATABASE_SECONDS = 30.0


class CannotStart(Exception):
    """What stands in the way, and what to do about it."""

    def __init__(self, code: int, *sentences: str) -> None:
        super().__init__(*sentences)
        self.code = code
        self.sentences = sentences


def main(service: Service, arguments: Sequence[str] | None = None) -> None:
    """Never returns: ends the process with one of the codes above."""
    command = _parser(service).parse_args(arguments).command
    try:
        _run(service, command)
    except SettingsError as error:
        _say(f"Le service {service.name} ne peut pas démarrer, ses réglages sont à corriger :", *error.sentences)
        sys.exit(MISCONFIGURED)
    except CannotStart as obstacle:
        _say(*obstacle.sentences)
        sys.exit(obstacle.code)
    sys.exit(STOPPED)


def _parser(service: Service) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=f"python -m services.{service.name}", description=service.title)
    parser.add_argument(
        "command",
        nargs="?",
        default="both",
        choices=("api", "worker", "both", "migrate", "openapi", "asyncapi"),
        help="api : répond aux demandes ; worker : relaie, écoute, livre ; both : les deux ; migrate : met la base à jour ;"
        " openapi, asyncapi : écrit le document",
    )
    return parser


def _run(service: Service, command: str) -> None:
    if command in ("openapi", "asyncapi"):
        _write_document(service, command)
        return
    _leave_no_core()
    settings = service.settings.load()
    telemetry.start_logging(service.name, settings.log_level)
    if command == "migrate":
        _migrate(service, settings)
        return
    _serve(service, settings, ("api", "worker") if command == "both" else (command,))


def _leave_no_core() -> None:
    """A process that crashes would write its memory to a file, with the keys of the vault and what it has just opened."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))


def _say(*sentences: str) -> None:
    sys.stderr.write("\n".join(sentences) + "\n")


def _write_document(service: Service, command: str) -> None:
    """Needs no environment: the documents are the same everywhere."""
    app = create_app(service, documentary_settings(service.settings), roles=("api",))
    document = app.openapi() if command == "openapi" else write_asyncapi(app.state.runtime)
    sys.stdout.write(json.dumps(document, ensure_ascii=False, indent=2) + "\n")


def documentary_settings(kind: type[Settings], **overrides: Any) -> Settings:
    """Settings that open nothing: to write documents, and to build an application in a test."""
    nowhere: dict[str, Any] = {
        "environment": "development",
        "database_url": "postgresql://nobody@/nowhere?host=/nonexistent",
        "kafka_bootstrap_servers": "127.0.0.1:1",
        "token_issuer": "http://127.0.0.1:8000",
        "token_jwks_url": "http://127.0.0.1:8000/jwks",
        "token_url": "http://127.0.0.1:8000/token",
        "client_id": kind.service,
        **development_secrets(kind.service),
    }
    return kind(**{**nowhere, **overrides})


# The database, before anything else


def _place(url: str) -> str:
    """Where a database is, without who and with which password."""
    parts = urlsplit(url)
    host = parse_qs(parts.query).get("host", [parts.hostname or "localhost"])[-1]
    return f"{parts.path.lstrip('/')} ({host}{f':{parts.port}' if parts.port else ''})"


def _migrate(service: Service, settings: Settings) -> None:
    asyncio.run(_wait_for_database(settings))
    asyncio.run(migrate(settings.database_url, service.name))
    _say(f"La base {_place(settings.database_url)} est à jour.")


async def _wait_for_database(settings: Settings, seconds: float = _DATABASE_SECONDS) -> bool:
    """Whether the database was ever migrated. Waits for one that is starting; raises CannotStart for one that is not there or says no."""
    place, said = _place(settings.database_url), False
    variable = f"{settings.service.upper()}_DATABASE_URL"
    clock = asyncio.get_running_loop().time
    deadline = clock() + seconds
    while True:
        try:
            async with asyncio.timeout(5):
                connection = await asyncpg.connect(settings.database_url)
        except asyncpg.InvalidCatalogNameError:
            raise CannotStart(NO_DATABASE, f"La base {place} n'existe pas : créez-la (createdb), ou corrigez {variable}.") from None
        except (asyncpg.InvalidPasswordError, asyncpg.InvalidAuthorizationSpecificationError):
            raise CannotStart(
                NO_DATABASE, f"PostgreSQL refuse l'utilisateur ou le mot de passe pour {place} : corrigez {variable}."
            ) from None
        except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
            if clock() >= deadline:
                raise CannotStart(
                    NO_DATABASE, f"PostgreSQL ne répond pas pour {place} : démarrez-le, ou corrigez {variable}, puis recommencez."
                ) from None
            if not said:
                _say(f"PostgreSQL ne répond pas encore pour {place} : nouvel essai chaque seconde, pendant {seconds:.0f} s.")
                said = True
            await asyncio.sleep(1)
            continue
        try:
            return await connection.fetchval("SELECT to_regclass('alembic_version')") is not None
        finally:
            connection.terminate()


# Serving


class _Server(uvicorn.Server):
    """A stop that hangs is cut short."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if not self.should_exit:
            _log.info("process.stopping")
            last_resort = threading.Timer(_LAST_SECONDS, _cut_short)
            last_resort.daemon = True
            last_resort.start()
        super().handle_exit(sig, frame)


def _cut_short() -> None:
    _log.error("process.cut_short")
    os._exit(CUT_SHORT)


def _serve(service: Service, settings: Settings, roles: tuple[str, ...]) -> None:
    for one in (signal.SIGINT, signal.SIGTERM):
        signal.signal(one, _stopped)
    listening = _listen(settings)
    if not asyncio.run(_wait_for_database(settings)):
        raise CannotStart(
            NO_DATABASE,
            f"La base {_place(settings.database_url)} est vide : lancez d'abord « python -m services.{service.name} migrate ».",
        )
    telemetry.start_tracing(service.name, endpoint=settings.otlp_endpoint, ratio=settings.trace_ratio)
    app = create_app(service, settings, roles=roles)
    server = _Server(configured(app, settings))
    spare_the_collector()
    _log.info("process.started", roles=sorted(roles), port=listening.getsockname()[1])
    try:
        server.run(sockets=[listening])
    finally:
        telemetry.stop_tracing()
        _log.info("process.stopped")


def configured(app: FastAPI, settings: Settings) -> uvicorn.Config:
    """How an application is served."""
    return uvicorn.Config(
        app,
        loop="uvloop",
        http=BoundedProtocol,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=bool(settings.trusted_proxies),
        forwarded_allow_ips=settings.trusted_proxies,
        timeout_keep_alive=65,
        timeout_graceful_shutdown=_GRACE_SECONDS,
    )


def spare_the_collector() -> None:
    """What lives now (modules, schemas, routes) lives as long as the process: the garbage collector need not look through it again and again.

    It took 15 % of the time of a busy intake (docs/decisions/0011).
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


def _stopped(sig: int, frame: FrameType | None) -> None:
    """Before serving there is nothing to end; uvicorn calls it again when it has stopped."""
    sys.exit(STOPPED)


def _listen(settings: Settings) -> socket.socket:
    """Our own socket, so that an address in use is told in a sentence. Raises CannotStart."""
    variable = f"{settings.service.upper()}_PORT"
    try:
        [(family, _, _, _, address), *_] = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        listening = socket.socket(family)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
    except OSError as error:
        what = "est déjà pris" if error.errno == errno.EADDRINUSE else "ne peut pas être ouvert"
        raise CannotStart(
            NO_ADDRESS,
            f"Le port {settings.port} de {settings.host} {what} : arrêtez le programme qui s'y trouve, ou choisissez-en un autre par {variable}.",
        ) from None
    return listening
