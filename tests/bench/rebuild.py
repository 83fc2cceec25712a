"""`rebuild`: events a second of a full rebuild of reporting's projections beside the live ones, compared and put in place."""

import time

from libs.chassis.database import Database
from libs.chassis.serve import spare_the_collector
from services.reporting import commands
from services.reporting.rebuild import rebuild
from tests.bench.ground import Ground, Line, alone
from tests.bench.told import lives
from tests.services.reporting.telling import heard

BATCH = 2000


async def measure(on: Ground) -> list[Line]:
    database = Database(await on.database("reporting"))
    told = heard("referrals", lives(on.sizes.events))
    for first in range(0, len(told), BATCH):
        on.say(f"hears {first} of {len(told)} events")
        async with database.transaction() as session:
            await commands.hear(session, told[first : first + BATCH])
    number_told = len(told)
    del told
    spare_the_collector()  # what the measure holds is none of a rebuild's
    rates = []
    for number in range(1, on.sizes.rounds + 1):
        on.say(f"round {number} of {on.sizes.rounds}")
        started = time.perf_counter()
        done = await rebuild(database)
        rates.append(done.events / (time.perf_counter() - started))
        if not done.equal or done.events != number_told:
            raise RuntimeError(f"a rebuild of {number_told} events brought {done.events}, with differences {done.differences}")
    await database.close()
    return [alone("rebuild", rates, "events/s")]
