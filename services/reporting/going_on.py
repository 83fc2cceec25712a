"""`python -m services.reporting go-on SOURCE`: after an absence longer than anything is kept (`lost:SOURCE`), follows from where the source's feed begins.

What came before is counted as missed, in `/readyz` and beside every figure: figures need history, and no list tells it (decision 0016). What was heard of a
history that the source replaced meanwhile (it was restored from a backup) is forgotten, and counted likewise. The service goes on meanwhile.

Exit codes: 0 it goes on, 1 nothing is lost, 2 settings or command line, 3 the source or the database does not answer.
"""

import asyncio
import sys
from collections.abc import Sequence
from typing import NoReturn

import asyncpg
from rich.console import Console
from sqlalchemy.exc import DBAPIError

from libs.chassis import streams
from libs.chassis.database import Database
from libs.chassis.feed import Feed, FeedError, FeedPast, FeedReplaced
from libs.chassis.projector import Projector
from libs.chassis.security import ServiceToken
from libs.chassis.settings import SettingsError
from services.reporting.facts import SOURCES
from services.reporting.handlers import LISTENER
from services.reporting.settings import Settings

_console = Console(stderr=True)


async def go_on(database: Database, feed: Feed, source: str) -> int | None:
    """Follow from where the feed begins. Returns how many events are missed by it; None, and nothing changes, when the feed still reaches back far enough.

    Raises FeedError, FeedReplaced.
    """
    projector = Projector(database, LISTENER, park_limit=0)
    await projector.ensure_cursors()
    cursor = await projector.where(source)
    try:
        await feed.events(source, streams.INTERNAL, cursor, limit=1)
    except FeedPast as past:
        valid = cursor.sequence if past.last_sequence is None else min(cursor.sequence, past.last_sequence)
        return await projector.go_on(source, cursor, valid, await feed.beginning(source, streams.INTERNAL))
    return None


def go_on_and_exit(arguments: Sequence[str]) -> NoReturn:
    """From the command line; ends the process with one of the codes above."""
    if len(arguments) != 1 or arguments[0] not in SOURCES:
        _console.print(f"Nommez une source : python -m services.reporting go-on {'|'.join(SOURCES)}")
        sys.exit(2)
    [source] = arguments
    try:
        settings = Settings.load()
    except SettingsError as error:
        _console.print("Les réglages du service reporting sont à corriger :", *error.sentences, sep="\n")
        sys.exit(2)
    try:
        missed = asyncio.run(_go_on(settings, source))
    except (FeedError, FeedReplaced, OSError, DBAPIError, asyncpg.PostgresError) as error:
        _console.print(f"{source} ou la base ne répond pas ({type(error).__name__}) : rien n'a été changé.")
        sys.exit(3)
    if missed is None:
        _console.print(f"Rien n'est perdu : le flux de {source} remonte assez loin, reporting le suit de lui-même.")
        sys.exit(1)
    _console.print(f"reporting suit de nouveau {source}. {missed} événements manquent : chaque chiffre le dit (« missed »).")
    sys.exit(0)


async def _go_on(settings: Settings, source: str) -> int | None:
    database, token = Database(settings.database_url, pool_size=2), ServiceToken(settings)
    try:
        async with Feed(settings.source_urls, token) as feed:
            return await go_on(database, feed, source)
    finally:
        await token.close()
        await database.close()
