"""The parts of a worker are started again whatever ends them, and end when they are told to."""

import asyncio

from libs.chassis.health import Heartbeat
from libs.chassis.worker import _for_ever
from tests.waiting import ended, until


async def test_a_part_whose_task_group_failed_is_started_again() -> None:
    """As the relay when PostgreSQL dies: seen to stop for good on Python 3.11, silently, while intake went on."""
    starts = 0

    async def part() -> None:
        nonlocal starts
        starts += 1

        async def fails() -> None:
            await asyncio.sleep(0.01)
            raise OSError("the connection is gone")

        async with asyncio.TaskGroup() as group:
            group.create_task(fails())
            group.create_task(asyncio.sleep(3600))

    running = asyncio.create_task(_for_ever("part", part, Heartbeat("part", 30)))

    await until(lambda: starts >= 2)

    await ended(running)
    assert running.done()


async def test_a_part_that_fails_while_it_is_stopped_is_not_started_again() -> None:
    starts = 0

    async def part() -> None:
        nonlocal starts
        starts += 1
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            raise OSError("cut within a query") from None

    running = asyncio.create_task(_for_ever("part", part, Heartbeat("part", 30)))
    await until(lambda: starts == 1)

    await ended(running)

    assert running.done()
    assert starts == 1


async def test_a_part_of_the_worker_that_nobody_cancelled_is_started_again() -> None:
    began = 0

    async def part() -> None:
        nonlocal began
        began += 1
        if began == 1:
            raise asyncio.CancelledError
        await asyncio.sleep(30)

    keeping = asyncio.create_task(_for_ever("part", part, Heartbeat("part", 30)))
    await until(lambda: began == 2)
    await ended(keeping)
    assert began == 2
