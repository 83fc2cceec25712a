"""A replica that delivers: what goes wrong in one turn, or in the database for a while, ends neither the other turns nor the deliveries after it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncSession
from structlog.testing import capture_logs

from libs.chassis import deliveries
from libs.chassis.database import Database
from libs.chassis.deliveries import Deliverer
from tests.chassis.receiving import Receiver, receiver
from tests.chassis.serving import Served
from tests.chassis.test_subscriptions import due, house, seen, subscribed, theirs, told
from tests.waiting import ended, until

__all__ = ["house", "theirs"]  # fixtures


class Stumbling(Deliverer):
    """Whose turn for one subscription ends by an error that nobody foresaw."""

    over: str | None = None

    async def _deliver(self, claimed: Row[Any], mine: dict[str, Any]) -> None:
        if str(claimed.id) == self.over:
            raise RuntimeError("Marqueur-Erreur")
        await super()._deliver(claimed, mine)


async def test_an_error_of_one_turn_is_a_failure_of_its_subscription_and_ends_no_other_turn(house: Served, theirs: Receiver) -> None:
    async with receiver() as other:
        made = await subscribed(house, other)
        await subscribed(house, theirs)
        await told(house, 2)
        deliverer = Stumbling(house.runtime)
        deliverer.over = made["id"]
        with capture_logs() as logs:
            replica = asyncio.create_task(deliverer.run())
            await until(lambda: replica.done() or len(theirs.received) == 2)
            await told(house, 1)
            await until(lambda: replica.done() or len(theirs.received) == 3)

        assert not replica.done(), "one turn's error ended all turns"
        failed = await seen(house, made)
        assert (failed["failures"] > 0, failed["last_failure"], failed["status"]) == (True, "internal-error", "active")
        assert "RuntimeError" in str(logs)
        assert "Marqueur-Erreur" not in str(logs)
        deliverer.over = None
        await due(house)
        await until(lambda: other.sequences == [1, 2, 3])
        await ended(replica)


class Waiting(Deliverer):
    """Whose turn for the first subscription is over once `over`, and for the others takes `seconds` before it delivers."""

    seconds = 2.5

    def __init__(self, house: Served, first: str) -> None:
        super().__init__(house.runtime)
        self.first, self.over, self.began = first, asyncio.Event(), asyncio.Event()

    async def _deliver(self, claimed: Row[Any], mine: dict[str, Any]) -> None:
        if str(claimed.id) == self.first:
            self.began.set()
            await self.over.wait()
            return
        await asyncio.sleep(self.seconds)
        await super()._deliver(claimed, mine)


async def test_a_lease_that_cannot_be_given_back_in_time_ends_no_other_turn_and_keeps_no_place(house: Served, theirs: Receiver) -> None:
    async with receiver() as other:
        first = (await subscribed(house, other))["id"]
        await subscribed(house, theirs)
        await told(house, 1)
        deliverer = Waiting(house, first)
        replica = asyncio.create_task(deliverer.run())
        await deliverer.began.wait()
        async with house.runtime.database.transaction() as session:
            await session.execute(text("SELECT FROM subscriptions WHERE id = :id FOR UPDATE"), {"id": first})
            deliverer.over.set()
            await until(lambda: replica.done() or theirs.sequences == [1])

        assert not replica.done(), "a lease that could not be given back ended all turns"
        await until(lambda: not deliverer._leases)
        await ended(replica)


async def test_after_the_database_was_away_a_replica_delivers_again_in_all_its_places(
    house: Served, theirs: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deliveries, "PARALLEL", 2)
    for _ in range(2):
        await subscribed(house, theirs)
    await told(house, 1)
    deliverer, transaction, claim = Deliverer(house.runtime), Database.transaction, Deliverer.claim
    away = False

    @asynccontextmanager
    async def unless_away(self: Database, *, repeatable_read: bool = False) -> AsyncIterator[AsyncSession]:
        if away:
            raise OSError("away")
        async with transaction(self, repeatable_read=repeatable_read) as session:
            yield session

    async def then_away(self: Deliverer, limit: int) -> list[Row[Any]]:
        nonlocal away
        claimed = await claim(self, limit)
        away = True
        return claimed

    monkeypatch.setattr(Database, "transaction", unless_away)
    monkeypatch.setattr(Deliverer, "claim", then_away)
    with pytest.raises(BaseException) as outage:  # noqa: PT011  # what ends it is the next test's matter: the worker starts it again
        await asyncio.wait_for(deliverer.run(), 60)
    assert isinstance(outage.value, ExceptionGroup | OSError)
    away = False
    monkeypatch.setattr(Deliverer, "claim", claim)
    async with house.runtime.database.transaction() as session:
        await session.execute(text("UPDATE subscriptions SET leased_until = now() - interval '1 second', next_attempt_at = now()"))

    replica = asyncio.create_task(deliverer.run())
    try:
        await until(lambda: theirs.sequences == [1, 1])
    except TimeoutError:
        pytest.fail("the places of the turns before the outage are never free again")
    finally:
        await ended(replica)
