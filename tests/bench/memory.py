"""`memory`: what everything takes once a first referral has gone its whole way; pages that processes share count once (PSS)."""

from tests.bench.ground import Ground, Line, alone
from tests.bench.whole import everything


async def measure(on: Ground) -> list[Line]:
    taken = []
    for number in range(1, on.sizes.rounds + 1):
        on.say(f"starts everything, round {number} of {on.sizes.rounds}")
        async with everything(on.folder / f"memory-{number}") as whole:
            await whole.settled()
            taken.append(whole.memory() / 2**20)
    return [alone("memory", taken, "MiB")]
