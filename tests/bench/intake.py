"""`intake`: POST /v1/referrals with all its work, 32 connections, against a bare FastAPI + asyncpg endpoint doing two INSERTs (tests/bench/bare.py).

The API's process alone (`python -m services.referrals api`), as in production; both on one durable PostgreSQL, both with ten database connections, in turns.
"""

from libs.embedded.broker import HOST, free_port
from tests.bench.ground import Ground, Line, compared, until_answers
from tests.bench.load import post, rate, referral


async def measure(on: Ground) -> list[Line]:
    port, _ = await on.start("referrals", await on.database("referrals"), "api")
    bare = free_port()
    on.run(["tests.bench.bare", str(bare), await on.database(None)])
    await until_answers(f"http://{HOST}:{bare}/openapi.json")
    token = await on.token("police-95")
    ours, theirs = post("/v1/referrals", token, referral), post("/", token, referral)
    for warm, make in ((port, ours), (bare, theirs)):
        await rate(warm, make, seconds=1)

    async def one() -> tuple[float, float]:
        return await rate(port, ours, seconds=on.sizes.seconds), await rate(bare, theirs, seconds=on.sizes.seconds)

    return [compared("intake", await on.rounds(one), "referrals/s")]
