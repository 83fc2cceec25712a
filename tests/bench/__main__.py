"""`make bench`, or `make bench ARGS="intake relay"`: one JSON line a measure, each against its baseline in the same run.

On the embedded broker, or on KAFKA_BOOTSTRAP_SERVERS; on a PostgreSQL that writes to disk (fsync). Values depend on the machine and on what else it
does; ratios much less.
"""

import asyncio
import importlib
import json
import pkgutil
import sys
from pathlib import Path

from tests import bench
from tests.bench.ground import ground

HELPERS = frozenset({"__main__", "ground", "load", "bare"})
MEASURES = sorted(one.name for one in pkgutil.iter_modules(bench.__path__) if one.name not in HELPERS)


async def main(names: list[str]) -> None:
    async with ground() as on:
        for name in names:
            for line in await importlib.import_module(f"tests.bench.{name}").measure(on):
                sys.stdout.write(json.dumps(line.said()) + "\n")
                sys.stdout.flush()


if __name__ == "__main__":
    wanted = sys.argv[1:] or MEASURES
    unknown = sorted(set(wanted) - set(MEASURES))
    if unknown:
        sys.exit(f"{Path(__file__).parent.name}: no measure {', '.join(unknown)}; there are {', '.join(MEASURES)}")
    asyncio.run(main(wanted))
