"""What a client of Kafka does when it is stopped ends nobody's loop."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any, cast

import pytest
from aiokafka import AIOKafkaConsumer

from libs.chassis import ahead
from libs.chassis.bus import stop_client
from libs.chassis.endless import EndedByItself, endless
from tests.waiting import ended


class Client:
    """Stops as it is told to."""

    def __init__(self, stop: Callable[[], Any]) -> None:
        self.stop = stop


async def stopped(stop: Callable[[], Any], seconds: float = 3) -> None:
    await stop_client(cast(AIOKafkaConsumer, Client(stop)), seconds)


async def _cancelled_by_nobody() -> None:
    raise asyncio.CancelledError


async def _deaf() -> None:
    with suppress(asyncio.CancelledError):
        await asyncio.sleep(30)
    await asyncio.sleep(30)


async def test_a_client_whose_own_cancellation_gets_out_does_not_cancel_who_stops_it() -> None:
    await stopped(_cancelled_by_nobody)


async def test_a_client_that_will_not_stop_is_left() -> None:
    async with asyncio.timeout(20):
        await stopped(_deaf, seconds=0.05)


async def test_a_fetching_that_will_not_end_holds_up_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ahead, "_LEAVE_SECONDS", 0.05)

    class Consumer:
        async def getmany(self, **_: object) -> None:
            await _deaf()

    async with asyncio.timeout(20):
        async with ahead.Ahead(cast(AIOKafkaConsumer, Consumer()), str):
            await asyncio.sleep(0.05)


async def test_who_is_cancelled_while_it_stops_a_client_is_cancelled() -> None:
    stopping = asyncio.create_task(stopped(lambda: asyncio.sleep(30), seconds=30))
    await asyncio.sleep(0.05)
    await ended(stopping)
    assert stopping.cancelled()


async def test_a_loop_that_nobody_cancelled_and_that_ends_is_an_error() -> None:
    with pytest.raises(EndedByItself, match="cancelled by nobody"):
        await endless(_cancelled_by_nobody())
    with pytest.raises(EndedByItself, match="came to an end"):
        await endless(asyncio.sleep(0))
    running = asyncio.create_task(endless(asyncio.sleep(30)))
    await asyncio.sleep(0.05)
    await ended(running)
    assert running.cancelled()
