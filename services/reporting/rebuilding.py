"""`python -m services.reporting rebuild`: rebuilds the figures beside the live ones, compares, puts in place. The service goes on meanwhile.

Exit codes: 0 rebuilt and equal, 1 the two differ (the live figures stay), 2 settings, 3 another rebuild is at work.
"""

import asyncio
import sys
import time
from typing import NoReturn

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from sqlalchemy import text

from libs.chassis.database import Database
from libs.chassis.settings import SettingsError
from services.reporting import rebuild
from services.reporting.settings import Settings

_console = Console(stderr=True)


def rebuild_and_exit() -> NoReturn:
    """From the command line; ends the process with one of the codes above."""
    try:
        settings = Settings.load()
    except SettingsError as error:
        _console.print("Les réglages du service reporting sont à corriger :", *error.sentences, sep="\n")
        sys.exit(2)
    try:
        rebuilt, seconds = asyncio.run(run(settings.database_url))
    except rebuild.AlreadyRunning:
        _console.print("Une reconstruction est déjà en cours sur cette base : attendez qu'elle finisse.")
        sys.exit(3)
    if not rebuilt.equal:
        tables = ", ".join(f"{table} ({number})" for table, number in rebuilt.differences.items())
        _console.print(
            f"Les chiffres reconstruits diffèrent : {tables} lignes. Les chiffres en service sont inchangés, les autres restent à côté."
        )
        sys.exit(1)
    rate = rebuilt.events / seconds if seconds else 0
    _console.print(
        f"{rebuilt.events} événements relus en {seconds:.1f} s ({rate:.0f}/s) : chiffres égaux au dernier chiffre près, mis en place."
    )
    sys.exit(0)


async def run(url: str) -> tuple[rebuild.Rebuilt, float]:
    """Rebuild the figures of one database, with a progress bar. Returns what came of it, and in how many seconds. Raises AlreadyRunning."""
    database = Database(url, pool_size=2)
    try:
        async with database.transaction() as session:
            facts = await session.scalar(text("SELECT count(*) FROM facts")) or 0
        started = time.monotonic()
        columns = (TextColumn("Reconstruction"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=_console) as bar:
            task = bar.add_task("", total=facts)
            rebuilt = await rebuild.rebuild(database, progress=lambda events: bar.update(task, completed=events))
        return rebuilt, time.monotonic() - started
    finally:
        await database.close()
