"""`make bench`, or `make bench ARGS="--only intake,relay"`: one JSON line a measure, each against its baseline in the same run.

stdout holds the JSON lines, stderr progress and, measure by measure, its goal and whether it was met. `ratio` is the median of the rounds' own ratios, each of a
value and the baseline measured right beside it: not `value / baseline`, which are medians of their own.

On the embedded broker, or on KAFKA_BOOTSTRAP_SERVERS; on a PostgreSQL that writes to disk (fsync). Values depend on the machine and on what else it
does; ratios much less. Sizes by argument: `--help`.
"""

import argparse
import importlib
import json
import pkgutil
import sys
from collections.abc import Callable
from typing import TypeVar

import structlog
import uvloop
from rich.console import Console

from tests import bench
from tests.bench.goals import judged
from tests.bench.ground import Sizes, ground

Number = TypeVar("Number", int, float)
HELPERS = frozenset({"__main__", "goals", "ground", "load", "bare", "told", "many", "whole"})
MEASURES = sorted(one.name for one in pkgutil.iter_modules(bench.__path__) if one.name not in HELPERS)


MEDIAN_OF = 3
"""Of fewer rounds none says anything."""


def _above_zero(kind: Callable[[str], Number]) -> Callable[[str], Number]:
    def read(text: str) -> Number:
        try:
            number = kind(text)
        except ValueError:
            number = kind("0")
        if not number > 0:
            raise argparse.ArgumentTypeError(f"{text} is no number above 0")
        return number

    return read


def _options(arguments: list[str]) -> argparse.Namespace:
    small = Sizes()
    parser = argparse.ArgumentParser(
        prog="make bench ARGS=…",
        description="Measures against a baseline of the same run.",
        epilog=f"Measures: {', '.join(MEASURES)}. ratio: the median of the rounds' own ratios, not value / baseline.",
    )
    parser.add_argument("--only", default="", help="these measures, with commas between; all of them unless given")
    parser.add_argument(
        "--rounds",
        type=_above_zero(int),
        default=small.rounds,
        help="rounds of each, of which the median counts: three at least (%(default)s)",
    )
    parser.add_argument("--seconds", type=_above_zero(float), default=small.seconds, help="seconds of load in a round (%(default)s)")
    parser.add_argument("--events", type=_above_zero(int), default=small.events, help="events of a rebuild (%(default)s)")
    parser.add_argument(
        "--referrals", type=_above_zero(int), default=small.referrals, help="referrals in the large tables of `growth` (%(default)s)"
    )
    options = parser.parse_args(arguments)
    options.names = [name for name in options.only.split(",") if name] or MEASURES
    if unknown := sorted(set(options.names) - set(MEASURES)):
        parser.error(f"no measure {', '.join(unknown)}; there are {', '.join(MEASURES)}")
    if options.rounds < MEDIAN_OF:
        sys.stderr.write(f"Of {options.rounds} rounds there is no median worth the name: a measure is of {MEDIAN_OF} at least.\n")
    return options


async def main(options: argparse.Namespace) -> None:
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))  # stdout is for the lines
    console = Console(stderr=True)
    sizes = Sizes(options.rounds, options.seconds, options.events, options.referrals)
    with console.status("Preparing…") as status:
        async with ground(sizes, lambda what: status.update(f"{what}…")) as on:
            for place, name in enumerate(options.names, 1):
                on.stage = f"{name} ({place} of {len(options.names)})"
                on.say("begins")
                for line in await importlib.import_module(f"tests.bench.{name}").measure(on):
                    sys.stdout.write(json.dumps(line.said()) + "\n")
                    sys.stdout.flush()
                    console.print(judged(line), highlight=False, markup=False, soft_wrap=True)


if __name__ == "__main__":
    uvloop.run(main(_options(sys.argv[1:])))
