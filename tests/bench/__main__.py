"""`make bench`, or `make bench ARGS="--only intake,relay"`: one JSON line a measure, each against its baseline in the same run.

On the embedded broker, or on KAFKA_BOOTSTRAP_SERVERS; on a PostgreSQL that writes to disk (fsync). Values depend on the machine and on what else it
does; ratios much less. Sizes by argument: `--help`.
"""

import argparse
import importlib
import json
import pkgutil
import sys

import structlog
import uvloop
from rich.console import Console

from tests import bench
from tests.bench.ground import Sizes, ground

HELPERS = frozenset({"__main__", "ground", "load", "bare", "told", "many", "whole"})
MEASURES = sorted(one.name for one in pkgutil.iter_modules(bench.__path__) if one.name not in HELPERS)


def _options(arguments: list[str]) -> argparse.Namespace:
    small = Sizes()
    parser = argparse.ArgumentParser(
        prog="make bench ARGS=…", description="Measures against a baseline of the same run.", epilog=f"Measures: {', '.join(MEASURES)}."
    )
    parser.add_argument("--only", default="", help="these measures, with commas between; all of them unless given")
    parser.add_argument("--rounds", type=int, default=small.rounds, help="rounds of each, of which the median counts (%(default)s)")
    parser.add_argument("--seconds", type=float, default=small.seconds, help="seconds of load in a round (%(default)s)")
    parser.add_argument("--events", type=int, default=small.events, help="events of a rebuild (%(default)s)")
    parser.add_argument("--referrals", type=int, default=small.referrals, help="referrals in the large tables of `growth` (%(default)s)")
    options = parser.parse_args(arguments)
    options.names = [name for name in options.only.split(",") if name] or MEASURES
    if unknown := sorted(set(options.names) - set(MEASURES)):
        parser.error(f"no measure {', '.join(unknown)}; there are {', '.join(MEASURES)}")
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


if __name__ == "__main__":
    uvloop.run(main(_options(sys.argv[1:])))
