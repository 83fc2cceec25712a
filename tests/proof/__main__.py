"""`make proof ARGS="--commits 10000 --kills 100 --seed 7"`: the campaign.

Several clients post referrals and work them through their whole life while relays, listeners, API processes, PostgreSQL and Apache Kafka are killed
(SIGKILL), connections cut, the broker absent for a while, wiped, its topics deleted. At the end three independent accounts are compared (what clients were
told, what the databases hold, what reporting counts), and each stream by each door: numbers, order, digests, what each audience was granted. The last line is JSON;
exit code 1 (of `make proof`: make's own, 2) unless its four numbers are 0; they are null, with a reason in `failed`, when it did not come to the comparison.
It has failed too, whatever its numbers, when it was large enough for every kind of fault and passed one over, when an answer came that no fault explains (a 500),
and when nothing was acknowledged for five minutes; what was asked again is counted by status.
Needs Java 17+ and, the first time, Maven.
"""

import argparse
import asyncio
import json
import logging
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import structlog

from libs.embedded import demonstration
from libs.embedded.network import Network
from tests.proof.clients import watch
from tests.proof.faults import Faults, is_large, never_done
from tests.proof.lives import Lives
from tests.proof.reckoning import reckon, settled
from tests.proof.standing import Kafka, Standing, plan_for
from tests.proof.told import Told

_STARTED = time.monotonic()


def say(what: str) -> None:
    sys.stdout.write(f"{time.monotonic() - _STARTED:6.1f} s  {what}\n")
    sys.stdout.flush()


def quiet() -> None:
    """Of what parts of the house log that run in this process, warnings are told, beside the account."""
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING), logger_factory=structlog.PrintLoggerFactory(sys.stderr)
    )


@asynccontextmanager
async def telling(what: str, say: Callable[[str], None] = say, every: float = 10) -> AsyncIterator[None]:
    """Says what begins, and while it lasts that it does."""

    async def again() -> None:
        while True:
            await asyncio.sleep(every)
            say(f"still {what}")

    say(what)
    going_on = asyncio.create_task(again())
    try:
        yield
    finally:
        going_on.cancel()


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
    return f"{_counted(commits, wanted_commits, 'commits')}, {_counted(kills, wanted_kills, 'kills')}{left}"


def _counted(number: int, wanted: int, what: str) -> str:
    return f"{number:5} of {wanted} {what}" if number < wanted else f"{number:5} {what} ({wanted} are enough)"


def failures(told: Told, done: Mapping[str, int], kills: int) -> list[str]:
    """Why a campaign has failed though its numbers may be 0. `kills`: how many were wanted."""
    found = []
    if told.broken:
        found.append(f"{len(told.broken)} answers that no fault explains, the first: {told.broken[0]}")
    if is_large(kills) and (passed_over := never_done(done)):
        found.append(f"never done: {', '.join(passed_over)}")
    return found


def _why(error: BaseException) -> str:
    """The first of a group."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return f"{type(error).__name__}: {str(error)[:500]}".removesuffix(": ")


def _tell_of(told: Told, faults: Faults) -> None:
    say(f"{told.commits} commits acknowledged, {told.repeated}, {faults.kills} kills: {dict(faults.done)}")
    for answer in told.broken[:50]:
        say(f"no fault explains {answer}")
    if passed_over := never_done(faults.done):
        say(f"never done: {', '.join(passed_over)}")


async def campaign(chosen: argparse.Namespace, folder: Path, found: dict[str, int | str | None]) -> None:
    """Puts the numbers of the last line into `found`, as far as it comes."""
    seed = chosen.seed if chosen.seed is not None else random.SystemRandom().randrange(10**6)
    say(f"seed {seed}, data in {folder}")
    kafka = Kafka(folder / "kafka")
    house = Standing(plan_for(folder / "house", kafka))
    watching: asyncio.Task[None] | None = None

    def report(name: str, what: str) -> None:
        say(f"{name}: {what}")

    try:
        async with telling("starting Apache Kafka (the first time Maven fetches it)"):
            await kafka.start()
        say(f"Apache Kafka on {kafka.address}")
        async with telling("starting PostgreSQL and the services"):
            await house.start(report)
        say(f"{len(house.parts)} processes ready")
        watching = asyncio.create_task(house.watch(report))
        async with (
            Network({name: house.plan.url(name) for name in house.plan.services}, house.plan.token_url) as network,
            Network({name: f"http://127.0.0.1:{port}" for name, port in house.second.items()}, house.plan.token_url) as second,
        ):
            async with telling("describing the territory"):
                await demonstration.seed(network, house.folder, say)
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
            try:
                async with asyncio.TaskGroup() as both:
                    looking = both.create_task(watch(told))
                    working = both.create_task(clients.run())
                    await faults.run(lambda: told.commits >= chosen.commits)
                    clients.stop()
                    async with telling("ending the lives that are begun"):
                        await asyncio.wait([working])
                    looking.cancel()
            finally:
                _tell_of(told, faults)
            heard = await settled(house, 150, say)
            async with telling("comparing the accounts"):
                verdict, events = await reckon(house, kafka, network, told, wiped=faults.wiped)
            verdict.add("heard by everybody in the end", missing=int(not heard))
            if failed := failures(told, faults.done, chosen.kills):
                found["failed"] = "; ".join(failed)
        for finding in verdict.findings[:50]:
            say(finding)
        found.update(commits=told.commits, kills=faults.kills, events=events, **verdict.counts)
    finally:
        if watching:
            watching.cancel()
        async with telling("stopping everything"):
            await house.stop()
            await asyncio.to_thread(kafka.stop)


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
            if has_failed(found):
                say(f"data and logs are kept in {folder}")
            elif chosen.keep is None:
                shutil.rmtree(folder, ignore_errors=True)
    except SystemExit as refused:
        if not refused.code:  # --help
            return 0
        found["failed"] = "arguments"
    except BaseException as error:  # whatever it is, the last line says it
        traceback.print_exc()
        found["failed"] = _why(error)
    sys.stdout.write(json.dumps(found) + "\n")
    return int(has_failed(found))


def has_failed(found: Mapping[str, int | str | None]) -> bool:
    return any(found[name] != 0 for name in _COUNTS) or "failed" in found


if __name__ == "__main__":
    quiet()
    sys.exit(main())
