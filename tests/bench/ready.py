"""`ready`: seconds from `make run` until every service is ready, when everything was started before on this folder."""

from tests.bench.ground import Ground, Line, alone
from tests.bench.whole import everything


async def measure(on: Ground) -> list[Line]:
    folder = on.folder / "ready"
    on.say("starts everything for the first time")
    async with everything(folder) as first:
        await first.settled()
    seconds = []
    for number in range(1, on.sizes.rounds + 1):
        on.say(f"starts everything, round {number} of {on.sizes.rounds}")
        async with everything(folder) as again:
            seconds.append(again.seconds)
    return [alone("ready", seconds, "s")]
