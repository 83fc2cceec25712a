"""`make proof ARGS="--commits 10000 --kills 100 --seed 7"`: the campaign.

Several clients post referrals and work them through their whole life while relays, listeners, API processes, PostgreSQL and Apache Kafka are killed
(SIGKILL), connections cut, the broker absent for a while, wiped, its topics deleted. At the end three independent accounts are compared (what clients were
told, what the databases hold, what reporting counts), and each stream by each door: numbers, order, digests, what each audience was granted. The last line is JSON;
exit code 1 (of `make proof`: make's own, 2) unless its four numbers are 0; they are null, with a reason in `failed`, when it did not come to the comparison.
A campaign that was large enough for every kind of fault and passed one over has failed too, whatever its numbers.
Needs Java 17+ and, the first time, Maven.
"""

import argparse
import asyncio
import json
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from pathlib import Path

from libs.embedded import demonstration
from libs.embedded.network import Network
from tests.proof.faults import Faults, never_done
from tests.proof.lives import Lives
from tests.proof.reckoning import reckon, settled
from tests.proof.standing import Kafka, Standing, plan_for

_STARTED = time.monotonic()


def say(what: str) -> None:
    sys.stdout.write(f"{time.monotonic() - _STARTED:6.1f} s  {what}\n")
    sys.stdout.flush()


def options(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog='make proof ARGS="…"', description="Nothing acknowledged is lost, doubled or out of order.")
    parser.add_argument("--commits", type=int, default=300, help="at least so many acknowledged changes (300)")
    parser.add_argument("--kills", type=int, default=30, help="at least so many SIGKILLs (30)")
    parser.add_argument("--clients", type=int, default=4, help="so many at the same time (4)")
    parser.add_argument("--seed", type=int, default=None, help="of the dice; printed: the same dice, though not the same moments")
    parser.add_argument(
        "--keep", type=Path, default=None, help="keep data and logs in this folder (they are kept in any case when something is found)"
    )
    return parser.parse_args(arguments)


_COUNTS = ("missing", "doubled", "out_of_order", "chain_breaks")


def progress(commits: int, wanted_commits: int, kills: int, wanted_kills: int, seconds: float) -> str:
    """How far it is, and how long it may still take at this pace."""
    done = min(commits / wanted_commits if wanted_commits else 1.0, kills / wanted_kills if wanted_kills else 1.0, 1.0)
    left = f", {seconds / done * (1 - done) / 60:4.1f} min left" if done else ""
    return f"{commits:5} of {wanted_commits} commits, {kills:3} of {wanted_kills} kills{left}"


async def campaign(chosen: argparse.Namespace, folder: Path, found: dict[str, int | str | None]) -> None:
    """Puts the numbers of the last line into `found`, as far as it comes."""
    seed = chosen.seed if chosen.seed is not None else random.SystemRandom().randrange(10**6)
    say(f"seed {seed}, data in {folder}")
    kafka = Kafka(folder / "kafka")
    house = Standing(plan_for(folder / "house", kafka))
    watching: asyncio.Task[None] | None = None
    try:
        await kafka.start()
        say(f"Apache Kafka on {kafka.address}")
        await house.start(lambda name, what: None)
        say(f"{len(house.parts)} processes ready")
        watching = asyncio.create_task(house.watch(lambda name, what: None))
        async with (
            Network({name: house.plan.url(name) for name in house.plan.services}, house.plan.token_url) as network,
            Network({name: f"http://127.0.0.1:{port}" for name, port in house.second.items()}, house.plan.token_url) as second,
        ):
            await demonstration.seed(network, house.folder, lambda what: None)
            if not await settled(house, 120, say):
                raise TimeoutError("the territory was not heard everywhere: nothing can be proven on it")
            say("the territory is heard everywhere; clients begin")
            clients = Lives((network, second), seed, chosen.clients)
            told = clients.told
            begun = time.monotonic()

            def tell(what: str) -> None:
                found.update(commits=told.commits, kills=faults.kills)
                say(f"{progress(told.commits, chosen.commits, faults.kills, chosen.kills, time.monotonic() - begun)} | {what}")

            faults = Faults(house, kafka, seed, chosen.kills, tell)
            async with asyncio.TaskGroup() as both:
                both.create_task(clients.run())
                await faults.run(lambda: told.commits >= chosen.commits)
                clients.stop()
            say(f"{told.commits} commits acknowledged, {told.repeated} times repeated, {faults.kills} kills: {dict(faults.done)}")
            quiet = await settled(house, 150, say)
            say("comparing the accounts")
            verdict, events = await reckon(house, kafka, network, told, wiped=faults.wiped)
            verdict.add("heard by everybody in the end", missing=int(not quiet))
            if passed_over := never_done(faults.done, chosen.kills):
                found["failed"] = f"never done: {', '.join(passed_over)}"
        for finding in verdict.findings[:50]:
            say(finding)
        found.update(commits=told.commits, kills=faults.kills, events=events, **verdict.counts)
    finally:
        if watching:
            watching.cancel()
        await house.stop()
        kafka.stop()


async def _until_stopped(chosen: argparse.Namespace, folder: Path, found: dict[str, int | str | None]) -> None:
    """A stop by hand goes through the same clean end: no broker is left behind."""
    running = asyncio.ensure_future(campaign(chosen, folder, found))
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, running.cancel)
    await running


def main(arguments: Sequence[str] | None = None) -> int:
    found: dict[str, int | str | None] = {"commits": 0, "kills": 0, "events": 0, **dict.fromkeys(_COUNTS)}
    try:
        chosen = options(arguments)
        folder = chosen.keep or Path(tempfile.mkdtemp(prefix="maillon-proof-"))
        folder.mkdir(parents=True, exist_ok=True)
        if chosen.keep is None:
            folder.chmod(0o711)  # PostgreSQL runs as another user when this is root
        try:
            asyncio.run(_until_stopped(chosen, folder, found))
        finally:
            if any(found[name] != 0 for name in _COUNTS):
                say(f"data and logs are kept in {folder}")
            elif chosen.keep is None:
                shutil.rmtree(folder, ignore_errors=True)
    except SystemExit as refused:
        if not refused.code:  # --help
            return 0
        found["failed"] = "arguments"
    except BaseException as error:  # whatever it is, the last line says it
        traceback.print_exc()
        found["failed"] = type(error).__name__
    sys.stdout.write(json.dumps(found) + "\n")
    return int(any(found[name] != 0 for name in _COUNTS) or "failed" in found)


if __name__ == "__main__":
    sys.exit(main())
