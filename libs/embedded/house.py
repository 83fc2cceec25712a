"""Everything on one machine: the embedded parts and the services, one process each, started together, watched, stopped together.

Every process ends with the one that owns the house, and every one that dies is started again. What is durable lies in the data folder:
PostgreSQL's data, the issuer's keys, the services' logs.
"""

import asyncio
import errno
import fcntl
import hashlib
import json
import os
import shutil
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import httpx

from libs.chassis.settings import development_secrets
from libs.contracts.demonstration import DESKS
from libs.embedded import children, nursery
from libs.embedded.broker import HOST, Broker, free_port
from libs.embedded.errors import CannotStart
from libs.embedded.nursery import Nursery
from libs.embedded.postgres import Postgres

ROOT = Path(__file__).parents[2]
LAYOUT = "1"
"""Of the data folder. A folder of another layout is refused."""

_ANOTHER_FOLDER = "indiquez un autre dossier par MAILLON_DATA"
_LOG_BYTES = 20 * 2**20
_NEEDED_BYTES = 100 * 2**20
_READY_SECONDS = 90.0
_PAUSES = (0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
_STEADY_SECONDS = 30.0
_SHARED = ("libs.chassis.serve", "libs.chassis.pagination", "libs.chassis.etag", "libs.contracts.demonstration")
"""What the nursery imports: what all services do."""

Report = Callable[[str, str], None]
"""Told the name of a part and what happens to it, in a few French words."""


@dataclass(frozen=True)
class Plan:
    """What to start, and where. An address that is given turns the embedded part off."""

    folder: Path
    services: Mapping[str, int]
    """Name → port."""
    issuer_port: int
    environment: Mapping[str, str]
    """The caller's own: what it says goes before what is made up here."""

    def given(self, variable: str) -> str | None:
        return self.environment.get(variable) or None

    def url(self, service: str) -> str:
        return f"http://{HOST}:{self.services[service]}"

    @property
    def token_url(self) -> str:
        return self.given("TOKEN_URL") or f"http://{HOST}:{self.issuer_port}/token"

    @property
    def needs_postgres(self) -> bool:
        return any(self.given(database_variable(service)) is None for service in self.services)

    @property
    def needs_broker(self) -> bool:
        return self.given("KAFKA_BOOTSTRAP_SERVERS") is None

    @property
    def needs_issuer(self) -> bool:
        return self.given("TOKEN_ISSUER") is None


def database_variable(service: str) -> str:
    return f"{service.upper()}_DATABASE_URL"


def common_environment(plan: Plan) -> dict[str, str]:
    """What every process of the house is given: development, where the issuer is, and the caller's own variables before all."""
    made = {
        "MAILLON_ENVIRONMENT": "development",
        "MALLOC_ARENA_MAX": "2",  # glibc otherwise keeps an arena per thread: 15 MB a process
        "PYTHONUNBUFFERED": "1",
    }
    if plan.needs_issuer:
        issuer = f"http://{HOST}:{plan.issuer_port}"
        made |= {"TOKEN_ISSUER": issuer, "TOKEN_URL": plan.token_url, "TOKEN_JWKS_URL": f"{issuer}/jwks"}
    return made | {name: value for name, value in plan.environment.items() if value}


def environment_of(plan: Plan, service: str, database_url: str, bootstrap_servers: str) -> dict[str, str]:
    """The environment of a service's process: its address, its neighbours', and secrets that production refuses."""
    own = {
        "HOST": HOST,
        "PORT": str(plan.services[service]),
        "PUBLIC_URL": plan.url(service),
        "DATABASE_URL": database_url,
        "CLIENT_ID": service,
    }
    own |= {name.upper(): value for name, value in development_secrets(service).items()}
    made = {f"{service.upper()}_{name}": value for name, value in own.items()}
    made |= {"KAFKA_BOOTSTRAP_SERVERS": bootstrap_servers, "SOURCE_URLS": json.dumps({name: plan.url(name) for name in plan.services})}
    if plan.needs_issuer:
        made["DESK_CLIENT_ID"] = next(iter(DESKS))
    if plan.needs_broker:
        made |= {"KAFKA_CREATE_TOPICS": "false", "KAFKA_GROUP_SHARING": "false", "KAFKA_FETCH_MAX_WAIT_MS": "20"}
    return made | common_environment(plan)


@dataclass
class Part:
    """One process of the house, and how to start it again."""

    name: str
    start: Callable[[], children.Process]
    command: str
    """Its command line, to know it again after the one who started it was killed."""
    ready_url: str | None = None
    log: Path | None = None
    process: children.Process | None = None
    deaths: int = 0
    started_at: float = field(default=0.0)
    due_at: float | None = None
    """When it is to be started again."""


class House:
    """`await start(report)`, `await watch(report)` for as long as it shall stand, `await stop()`."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.folder = plan.folder.absolute()
        self.parts: list[Part] = []
        self.postgres: Postgres | None = None
        self.broker: Broker | None = None
        self.migrated: list[str] = []
        self._lock: IO[bytes] | None = None
        self._nursery: Nursery | None = None

    # Starting

    async def start(self, report: Report) -> None:
        """Returns when every service answers that it is ready. Raises `CannotStart`; what was started is then stopped by `stop`."""
        try:
            self._lock = _take(self.folder)
            self._end_orphans()
            _check_ports(self.plan)
            if nursery.is_possible():
                self._nursery = Nursery(_SHARED, common_environment(self.plan))
            bootstrap_servers = self._start_broker(report)
            database_urls = self._start_postgres(report)
            self._start_issuer(report)
            environments = {name: environment_of(self.plan, name, database_urls[name], bootstrap_servers) for name in self.plan.services}
            await self._migrate(environments, report)
            for name in self.plan.services:
                report(name, "démarre")
                self._start(self._python(name, [f"services.{name}"], environments[name], f"{self.plan.url(name)}/readyz"))
            if self.broker:
                self.broker.wait()
                report("courtier", f"prêt sur {self.broker.bootstrap_servers}")
            async with httpx.AsyncClient(timeout=2, trust_env=False) as client, asyncio.TaskGroup() as waiting:
                for part in self.parts:
                    if part.ready_url:
                        waiting.create_task(_until_ready(client, part, report))
        except OSError as error:
            raise CannotStart(_sentence_of(error, self.folder)) from error
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from errors
        finally:
            if self._nursery:
                self._nursery.close()
                self._nursery = None

    def _start(self, part: Part) -> None:
        part.process = part.start()
        part.started_at = time.monotonic()
        part.due_at = None
        if part not in self.parts:
            self.parts.append(part)
        self._write_pids()

    def _start_broker(self, report: Report) -> str:
        """Gives its address."""
        if not self.plan.needs_broker:
            return self.plan.environment["KAFKA_BOOTSTRAP_SERVERS"]
        report("courtier", "démarre")
        self.broker = broker = Broker(free_port())
        self._start(Part("courtier", broker.launch, broker.command))
        return broker.bootstrap_servers

    def _start_issuer(self, report: Report) -> None:
        if self.plan.needs_issuer:
            report("émetteur de jetons", "démarre")
            port = self.plan.issuer_port
            program = ["libs.embedded.issuer", "--port", str(port), "--folder", str(self.folder / "issuer")]
            self._start(self._python("émetteur de jetons", program, common_environment(self.plan), f"http://{HOST}:{port}/livez"))

    def _start_postgres(self, report: Report) -> dict[str, str]:
        """Gives the address of each service's database."""
        urls = {name: given for name in self.plan.services if (given := self.plan.given(database_variable(name)))}
        if self.plan.needs_postgres:
            report("PostgreSQL", "démarre")
            self.postgres = server = Postgres.start(self.folder / "postgres")
            self._start(Part("PostgreSQL", self._postgres_process, "postgres", log=server.log))
            known = server.databases()
            for name in self.plan.services:
                if name not in urls:
                    if name not in known:
                        server.create_database(name)
                        (self.folder / "migrated").unlink(missing_ok=True)
                    urls[name] = server.url(name)
            report("PostgreSQL", "prêt")
        return urls

    def _postgres_process(self) -> children.Process:
        server = self.postgres
        if server is None:
            raise CannotStart("PostgreSQL n'a pas été démarré.")
        if server.process.poll() is not None:
            server.restart()
        return server.process

    async def _migrate(self, environments: Mapping[str, Mapping[str, str]], report: Report) -> None:
        """Skipped when nothing changed since the last time: it costs an interpreter with SQLAlchemy and alembic per service."""
        state = _migrations_state(environments)
        kept = self.folder / "migrated"
        if kept.exists() and kept.read_text() == state:
            return
        runs = []
        for name, environment in environments.items():
            report(name, "prépare sa base")
            part = self._python(name, [f"services.{name}", "migrate"], environment)
            runs.append((part, part.start()))
        codes = await asyncio.gather(*(asyncio.to_thread(process.wait) for _, process in runs))
        for (part, _), code in zip(runs, codes, strict=True):
            if code != 0:
                raise CannotStart(f"La base de {part.name} n'a pas pu être préparée : {_tail(part.log)} (journal : {part.log}).")
        kept.write_text(state)
        self.migrated = list(environments)

    def _python(self, name: str, program: Sequence[str], environment: Mapping[str, str], ready_url: str | None = None) -> Part:
        """`python -m program…`: out of the nursery while there is one, else by an interpreter of its own."""
        log = self._log(name)

        def start() -> children.Process:
            if self._nursery:
                with suppress(OSError):  # it is gone: then as on other systems
                    return self._nursery.spawn(program, environment, log)
            with log.open("ab") as output:
                return children.start([sys.executable, "-m", *program], env=environment, cwd=ROOT, output=output)

        return Part(name, start, nursery.command_line(program), ready_url, log)

    def _log(self, name: str) -> Path:
        folder = self.folder / "logs"
        folder.mkdir(exist_ok=True)
        log = folder / f"{name.replace(' ', '-')}.log"
        if log.exists() and log.stat().st_size > _LOG_BYTES:
            log.replace(log.with_suffix(".log.1"))
        return log

    # Watching

    async def watch(self, report: Report) -> None:
        """For ever: what dies is started again, with growing pauses, and said."""
        while True:
            await asyncio.sleep(0.1)
            now = time.monotonic()
            for part in self.parts:
                if part.due_at is None and part.process is not None and (code := part.process.poll()) is not None:
                    if now - part.started_at > _STEADY_SECONDS:
                        part.deaths = 0
                    pause = _PAUSES[min(part.deaths, len(_PAUSES) - 1)]
                    part.deaths += 1
                    part.due_at = now + pause
                    where = f" ; journal : {part.log}" if part.log else ""
                    report(part.name, f"s'est arrêté ({_ended(code)}), relancé dans {pause:g} s{where}".replace(".", ",", 1))
                elif part.due_at is not None and now >= part.due_at:
                    self._start_again(part, report)

    def _start_again(self, part: Part, report: Report) -> None:
        try:
            self._start(part)
        except (CannotStart, OSError) as reason:
            pause = _PAUSES[min(part.deaths, len(_PAUSES) - 1)]
            part.deaths += 1
            part.due_at = time.monotonic() + pause
            report(part.name, str(reason))
        else:
            report(part.name, "relancé")

    # Stopping

    async def stop(self) -> None:
        """Services first, each with ten seconds to finish what it does, then what they stand on. May be called twice."""
        services = [part.process for part in self.parts if part.process and part.name in self.plan.services]
        outer = [part.process for part in self.parts if part.process and part.name != "PostgreSQL"]
        await asyncio.gather(*(asyncio.to_thread(children.stop, process, (signal.SIGTERM, 12.0)) for process in services))
        await asyncio.gather(*(asyncio.to_thread(children.stop, process, (signal.SIGTERM, 3.0)) for process in outer))
        if self.postgres:
            self.postgres.stop()
        self.parts.clear()
        if self._lock:
            (self.folder / "processes.json").unlink(missing_ok=True)
            self._lock.close()
            self._lock = None

    # Processes of this folder

    @property
    def pids(self) -> dict[str, int]:
        return {part.name: part.process.pid for part in self.parts if part.process}

    def memory(self) -> dict[str, int]:
        """Resident bytes of each part, this process included (`children.memory_of`)."""
        # Its children are named themselves: what is left to the owner is its own.
        return children.memory_of({"supervision": os.getpid()} | self.pids)

    def _write_pids(self) -> None:
        known = {part.name: [part.process.pid, children.started_at(part.process.pid), part.command] for part in self.parts if part.process}
        making = self.folder / "processes.new"
        making.write_text(json.dumps(known, ensure_ascii=False, indent=1))
        making.replace(self.folder / "processes.json")

    def _end_orphans(self) -> None:
        """We hold the lock, so whatever still runs lost its owner. On Linux it is about to end by itself; its ports are needed now."""
        try:
            known = json.loads((self.folder / "processes.json").read_text())
        except (FileNotFoundError, ValueError):
            return
        running = [
            pid for pid, start, command in known.values() if children.started_at(pid) == start and children.command_of(pid) == command
        ]
        for number, seconds in ((signal.SIGTERM, 5.0), (signal.SIGKILL, 5.0)):
            for pid in running:
                _signal(pid, number)
            deadline = time.monotonic() + seconds
            while running and time.monotonic() < deadline:
                running = [pid for pid in running if children.command_of(pid)]
                time.sleep(0.02)


def _signal(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def _take(folder: Path) -> IO[bytes]:
    folder.mkdir(parents=True, exist_ok=True)
    lock = (folder / "lock").open("ab")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        lock.close()
        raise CannotStart(
            f"Maillon tourne déjà sur le dossier {folder} : arrêtez-le (Ctrl-C dans son terminal), ou {_ANOTHER_FOLDER}."
        ) from error
    layout = folder / "layout"
    found = layout.read_text().strip() if layout.exists() else None
    if found is None and (folder / "postgres").exists():
        found = "inconnue"
    if found not in (None, LAYOUT):
        lock.close()
        raise CannotStart(
            f"Le dossier {folder} a été fait par une autre version de Maillon (disposition {found}, il faut {LAYOUT}) : "
            f"déplacez-le, ou {_ANOTHER_FOLDER}."
        )
    free = shutil.disk_usage(folder).free
    if free < _NEEDED_BYTES:
        lock.close()
        raise CannotStart(
            f"Il reste {free // 2**20} Mo sur le disque de {folder} et il en faut {_NEEDED_BYTES // 2**20} : libérez de la place, ou {_ANOTHER_FOLDER}."
        )
    layout.write_text(LAYOUT)
    return lock


def _check_ports(plan: Plan) -> None:
    wanted = {f"{name.upper()}_PORT": (name, port) for name, port in plan.services.items()}
    if plan.needs_issuer:
        wanted["ISSUER_PORT"] = ("l'émetteur de jetons", plan.issuer_port)
    seen: dict[int, str] = {}
    for variable, (name, port) in wanted.items():
        if port in seen:
            raise CannotStart(f"Le port {port} est demandé deux fois, pour {seen[port]} et pour {name} : changez-en un par {variable}.")
        seen[port] = name
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError as error:
                why = "est pris par un autre programme" if error.errno == errno.EADDRINUSE else f"n'est pas utilisable ({error.strerror})"
                raise CannotStart(
                    f"Le port {port} {why}, et {name} en a besoin : arrêtez ce programme, ou choisissez un autre port par {variable}."
                ) from error


def _migrations_state(environments: Mapping[str, Mapping[str, str]]) -> str:
    """Changes with every migration file and every database's address."""
    digest = hashlib.sha256()
    for name, environment in sorted(environments.items()):
        digest.update(environment[database_variable(name)].encode())
    for file in sorted([*ROOT.glob("libs/chassis/migrations/**/*.py"), *ROOT.glob("services/*/migrations/**/*.py")]):
        digest.update(file.relative_to(ROOT).as_posix().encode() + file.read_bytes())
    return digest.hexdigest()


async def _until_ready(client: httpx.AsyncClient, part: Part, report: Report) -> None:
    deadline = time.monotonic() + _READY_SECONDS
    said = ""
    while time.monotonic() < deadline:
        if part.process is None or part.process.poll() is not None:
            raise CannotStart(f"{part.name} s'est arrêté au démarrage : {_tail(part.log)} (journal : {part.log}).")
        try:
            answer = await client.get(str(part.ready_url))
        except httpx.TransportError:
            await asyncio.sleep(0.03)
            continue
        if answer.status_code == 200:
            report(part.name, f"prêt sur {str(part.ready_url).rpartition('/')[0]}")
            return
        said = answer.text[:300]
        await asyncio.sleep(0.1)
    raise CannotStart(f"{part.name} n'est pas prêt après {_READY_SECONDS:.0f} s : {said or _tail(part.log)} (journal : {part.log}).")


def _tail(log: Path | None) -> str:
    if log is None or not log.exists():
        return "aucun message"
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - 8192))
        return _last_line(file.read().decode(errors="replace"))


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:500].rstrip(".") if lines else "aucun message"


def _ended(code: int) -> str:
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"code {code}"


def _sentence_of(error: OSError, folder: Path) -> str:
    match error.errno:
        case errno.ENOSPC | errno.EDQUOT:
            return f"Le disque de {folder} est plein : libérez de la place, ou {_ANOTHER_FOLDER}."
        case errno.EACCES | errno.EPERM | errno.EROFS:
            return f"Le dossier {folder} n'est pas accessible en écriture : changez ses droits, ou {_ANOTHER_FOLDER}."
        case errno.ENOTDIR | errno.EEXIST:
            return f"{folder} n'est pas un dossier : renommez ce fichier, ou {_ANOTHER_FOLDER}."
        case _:
            return f"Maillon ne peut pas démarrer dans {folder} : {error.strerror or error}."
