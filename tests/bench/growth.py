"""`growth`: intake and consume with ten thousand and with two million referrals in the tables, in turns; the ratio says how much of the speed is left."""

from libs.chassis.database import Database
from libs.chassis.streams import Record
from services.reporting import commands
from tests.bench.consume import EVENTS, WARM, consumed
from tests.bench.ground import Ground, Line, compared
from tests.bench.load import post, rate, referral
from tests.bench.many import fill_figures, fill_referrals
from tests.bench.told import lives, records
from tests.services.reporting.telling import heard, oriented, received

FEW = 10_000
AWAY = 999_999
"""The number of a referral that no life in the measure has."""


async def measure(on: Ground) -> list[Line]:
    return [compared("growth.intake", await _intake(on), "referrals/s"), compared("growth.consume", await _consume(on), "events/s")]


async def _intake(on: Ground) -> list[tuple[float, float]]:
    make = post("/v1/referrals", await on.token("police-95"), referral)
    ports = []
    for number in (on.sizes.referrals, FEW):
        on.say(f"fills referrals with {number}")
        url = await on.database("referrals")
        port, _ = await on.start("referrals", url, "api")
        await rate(port, make, seconds=1)
        await fill_referrals(url, number)
        ports.append(port)
    for port in ports:
        await rate(port, make, seconds=1)

    async def one() -> tuple[float, float]:
        return await rate(ports[0], make, seconds=on.sizes.seconds), await rate(ports[1], make, seconds=on.sizes.seconds)

    return await on.rounds(one)


async def _hear_one(url: str) -> None:
    database = Database(url)
    async with database.transaction() as session:
        await commands.hear(session, heard("partners", [received(AWAY), *oriented(AWAY)]))
    await database.close()


async def _consume(on: Ground) -> list[tuple[float, float]]:
    urls = []
    for number in (on.sizes.referrals, FEW):
        on.say(f"fills reporting with {number}")
        url = await on.database("reporting")
        await _hear_one(url)
        await fill_figures(url, number)
        urls.append(url)
    told: list[Record] = []
    first = 1

    async def one() -> tuple[float, float]:
        nonlocal told, first
        told = records(lives(EVENTS + WARM, first=first), after=told[-1] if told else None)
        first += EVENTS  # no life has fewer than one event
        return await consumed(on, urls[0], told), await consumed(on, urls[1], told)

    return await on.rounds(one)
