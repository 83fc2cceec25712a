"""Waiting for a condition instead of a time."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, overload

T = TypeVar("T")


@overload
async def until(condition: Callable[[], Awaitable[T]], seconds: float = 90) -> T: ...
@overload
async def until(condition: Callable[[], T], seconds: float = 90) -> T: ...
async def until(condition: Callable[[], Any], seconds: float = 90) -> Any:
    """The first truthy value of a condition, looked at every 50 ms. Raises TimeoutError, long after what a busy machine takes."""
    async with asyncio.timeout(seconds):
        while True:
            value = condition()
            found = await value if inspect.isawaitable(value) else value
            if found:
                return found
            await asyncio.sleep(0.05)


async def ended(task: asyncio.Task[None]) -> None:
    """Cancel a task and wait until it is gone."""
    task.cancel()
    await asyncio.wait([task])
