"""`python -m services.referrals retention [--dry-run]` and `erase-again LOG…`: what an operator does about personal data.

Where no database is configured they work on that of `make run` on this machine, as `maillon` does.

Exit codes: 0 done, 2 settings, a command line or a file that cannot be read, 3 the database does not answer.
"""

import argparse
import asyncio
import json
import os
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple, NoReturn
from uuid import UUID

import asyncpg
from sqlalchemy.exc import DBAPIError

from libs.chassis.here import NOT_HERE, find_here
from libs.chassis.runtime import Runtime
from libs.chassis.settings import BESIDE, SettingsError
from services.referrals.app import SERVICE
from services.referrals.models import Referral
from services.referrals.rights import erasure, retention
from services.referrals.rights.domain import Term
from services.referrals.rights.erasure import ErasureCause
from services.referrals.settings import Settings

COMMANDS = ("retention", "erase-again")


class OperatorSettings(Settings):
    """As far as these commands need them: what they say waits in the outbox for the worker, and nobody's token is looked at."""

    client_id: str = "referrals"


class ErasedBefore(NamedTuple):
    """An erasure that was made; `narrative`, `alerts`: whether their words went with the persons."""

    referral_id: UUID
    person_ids: Sequence[UUID]
    narrative: bool
    alerts: bool = True


def _parser() -> argparse.ArgumentParser:
    """No abbreviations: what erases is written out, and what is not understood does nothing."""
    parser = argparse.ArgumentParser(prog="python -m services.referrals", description="Données personnelles.", allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", required=True)
    ending = commands.add_parser(
        "retention",
        allow_abbrev=False,
        help="annonce les saisines dont la conservation prend fin, et efface celles qui sont annoncées depuis assez longtemps",
    )
    ending.add_argument("--dry-run", action="store_true", help="annonce, dit ce qui serait effacé, et n'efface rien")
    again = commands.add_parser(
        "erase-again", allow_abbrev=False, help="après la restauration d'une sauvegarde : refait les effacements que disent les journaux"
    )
    again.add_argument("logs", nargs="+", type=Path, metavar="LOG", help="journal du service")
    return parser


def run_and_exit(arguments: Sequence[str]) -> NoReturn:
    asked = _parser().parse_args(arguments)
    find_here()
    try:
        found = _read(asked.logs) if asked.command == "erase-again" else []
        settings = OperatorSettings.load(**BESIDE)
    except OSError as error:
        _fail(2, f"Un journal ne peut pas être lu ({type(error).__name__}).")
    except SettingsError as error:
        here = () if "REFERRALS_DATABASE_URL" in os.environ else (NOT_HERE,)
        _fail(2, "Les réglages du service referrals sont à corriger :", *error.sentences, *here)
    try:
        sentence = asyncio.run(_run(settings, asked, found))
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, DBAPIError) as error:
        _fail(3, f"La base du service referrals ne répond pas comme attendu ({type(error).__name__}).")
    sys.stdout.write(sentence + "\n")
    sys.exit(0)


def _fail(code: int, *sentences: str) -> NoReturn:
    sys.stderr.write("\n".join(sentences) + "\n")
    sys.exit(code)


def _read(logs: Sequence[Path]) -> list[ErasedBefore]:
    return [one for log in logs for one in erased_in(log.read_text(encoding="utf-8", errors="replace").splitlines())]


async def _run(settings: Settings, asked: argparse.Namespace, found: Sequence[ErasedBefore]) -> str:
    runtime = Runtime(SERVICE, settings, roles=())
    try:
        if asked.command == "erase-again":
            return f"{await erase_again(runtime, found)} effacement(s) refait(s), sur {len(found)} dans les journaux."
        return await retain(runtime, settings.term, dry_run=asked.dry_run)
    finally:
        await runtime.close()


async def retain(runtime: Runtime, term: Term, *, dry_run: bool) -> str:
    """Announce what reaches its end, then erase what was announced long enough before, or say how much that is; and what is past the term, but open or held."""
    now, erased, batch = datetime.now(UTC), 0, 50
    async with runtime.database.transaction() as session:
        new = sum((await retention.announce(session, now, term)).values())
        due, left = await retention.due(session, now, term), await retention.still_held(session, now, term.days)
    to_tell = f"\n{new} saisine(s) annoncée(s) maintenant, effaçables dans {term.notice_days} jours au plus tôt : GET /v1/announced-ends."
    why = "encore ouverte, suivie par une structure ou visée par une réquisition sans réponse"
    to_tell += "".join(f"\nGardée au-delà du terme, car {why} : {id} (département {departement})." for id, departement in left)
    if dry_run:
        return (
            f"{due} saisine(s) seraient effacées : dernier contact il y a plus de {term.days} jours,"
            f" annoncées il y a {term.notice_days} jours au moins.{to_tell}"
        )
    while True:
        async with runtime.database.transaction() as session:
            gone = await retention.erase_due(session, runtime.vault, now, term, batch)
        erased += gone
        if gone < batch:
            break
    async with runtime.database.transaction() as session:
        while await retention.unlink(session, runtime.vault, now, term, batch) == batch:
            pass
    return f"{erased} saisine(s) effacée(s).{to_tell}"


def erased_in(lines: Iterable[str]) -> list[ErasedBefore]:
    """The erasures that a log of the service tells. Other lines are passed over."""
    found = []
    for line in lines:
        if '"erasure.done"' not in line:
            continue
        try:
            said = json.loads(line)
            if said["event"] == "erasure.done":
                persons = [UUID(one) for one in said["person_ids"]]
                found.append(ErasedBefore(UUID(said["referral_id"]), persons, bool(said["narrative"]), bool(said.get("alerts", True))))
        except (ValueError, KeyError, TypeError):
            continue  # a line cut by the rotation of the log
    return found


async def erase_again(runtime: Runtime, found: Sequence[ErasedBefore]) -> int:
    """After a backup was restored: destroy again what had been destroyed since. What is not in the backup, or is erased in it, is passed over."""
    done = 0
    for one in found:
        async with runtime.database.transaction() as session:
            referral = await session.get(Referral, one.referral_id, with_for_update=True)
            if referral is None:
                continue
            made = await erasure.erase(
                session,
                runtime.vault,
                referral,
                one.person_ids,
                ErasureCause.RESTORED,
                datetime.now(UTC),
                by="erase-again",
                narrative=one.narrative,
                alerts=one.alerts,
            )
            done += made is not None
    return done
