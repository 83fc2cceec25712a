"""`memory`: what everything takes once a first referral has gone its whole way; pages that processes share count once (PSS)."""

from tests.bench.ground import Ground, Line, alone
from tests.bench.whole import everything


async def measure(on: Ground) -> list[Line]:
    on.say("starts everything")
    async with everything(on.folder / "memory") as whole:
        await whole.settled()
        return [alone("memory", [whole.memory() / 2**20], "MiB")]
