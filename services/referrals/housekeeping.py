"""`python -m services.referrals retention [--dry-run]` and `erase-again LOG…`: what an operator does about personal data.

Exit codes: 0 done, 2 settings or a file that cannot be read.
"""

import asyncio
import json
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NoReturn
from uuid import UUID

from libs.chassis.runtime import Runtime
from libs.chassis.settings import SettingsError
from services.referrals.app import SERVICE
from services.referrals.models import Referral
from services.referrals.rights import erasure, retention
from services.referrals.rights.erasure import ErasureCause
from services.referrals.settings import Settings

COMMANDS = ("retention", "erase-again")


def run_and_exit(arguments: Sequence[str]) -> NoReturn:
    try:
        sentence = asyncio.run(_run(Settings.load(), arguments, _read(arguments)))
    except SettingsError as error:
        sys.stderr.write("\n".join(("Les réglages du service referrals sont à corriger :", *error.sentences)) + "\n")
        sys.exit(2)
    except OSError as error:
        sys.stderr.write(f"Un journal ne peut pas être lu ({type(error).__name__}).\n")
        sys.exit(2)
    sys.stdout.write(sentence + "\n")
    sys.exit(0)


def _read(arguments: Sequence[str]) -> list[tuple[UUID, list[UUID], bool]]:
    files = arguments[1:] if arguments[0] == "erase-again" else ()
    return [one for file in files for one in erased_in(Path(file).read_text(encoding="utf-8", errors="replace").splitlines())]


async def _run(settings: Settings, arguments: Sequence[str], found: Sequence[tuple[UUID, list[UUID], bool]]) -> str:
    runtime = Runtime(SERVICE, settings, roles=())
    try:
        if arguments[0] == "erase-again":
            return f"{await erase_again(runtime, found)} effacement(s) refait(s), sur {len(found)} dans les journaux."
        return await retain(runtime, settings.retention_days, dry_run="--dry-run" in arguments[1:])
    finally:
        await runtime.close()


async def retain(runtime: Runtime, days: int, *, dry_run: bool) -> str:
    """Erase what has reached its end, or say how much that is; and what is past the term, but still open."""
    now, erased, batch = datetime.now(UTC), 0, 50
    async with runtime.database.transaction() as session:
        due, left = await retention.due(session, now, days), await retention.still_open(session, now, days)
    to_close = "".join(f"\nEncore ouverte au-delà du terme, à clore : {id} (département {departement})." for id, departement in left)
    if dry_run:
        return f"{due} saisine(s) seraient effacées : dernier contact il y a plus de {days} jours.{to_close}"
    while True:
        async with runtime.database.transaction() as session:
            gone = await retention.erase_due(session, runtime.vault, now, days, batch)
        erased += gone
        if gone < batch:
            return f"{erased} saisine(s) effacée(s).{to_close}"


def erased_in(lines: Iterable[str]) -> list[tuple[UUID, list[UUID], bool]]:
    """The erasures that a log of the service tells: referral, persons, whether the narrative went too. Other lines are passed over."""
    found = []
    for line in lines:
        if '"erasure.done"' not in line:
            continue
        try:
            said = json.loads(line)
            if said["event"] == "erasure.done":
                found.append((UUID(said["referral_id"]), [UUID(one) for one in said["person_ids"]], bool(said["narrative"])))
        except (ValueError, KeyError, TypeError):
            continue  # a line cut by the rotation of the log
    return found


async def erase_again(runtime: Runtime, found: Sequence[tuple[UUID, Sequence[UUID], bool]]) -> int:
    """After a backup was restored: destroy again what had been destroyed since. What is not in the backup, or is erased in it, is passed over."""
    done = 0
    for referral_id, persons, narrative in found:
        async with runtime.database.transaction() as session:
            referral = await session.get(Referral, referral_id, with_for_update=True)
            if referral is None:
                continue
            made = await erasure.erase(
                session, runtime.vault, referral, persons, ErasureCause.RESTORED, datetime.now(UTC), by="erase-again", narrative=narrative
            )
            done += made is not None
    return done
