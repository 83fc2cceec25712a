"""Loops and clients whose end is nobody's wish.

aiokafka's clients cancel tasks of their own when they are stopped, and at times let that CancelledError out (0.14, `Fetcher.close`, seen when the broker died in the
middle of a fetch). Whoever awaited it seems to have been cancelled: a TaskGroup takes that for an end that was asked for, and goes on without the loop.
"""

import asyncio
from collections.abc import Awaitable, Coroutine
from typing import Any, NoReturn


class EndedByItself(RuntimeError):
    """A loop that should run until it is cancelled came to an end, or was cancelled by nobody."""


def being_cancelled() -> bool:
    """Whether somebody asked the running task to end: otherwise a CancelledError came from elsewhere."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


async def endless(loop: Awaitable[None]) -> NoReturn:
    """Await a loop that ends by an error or by cancellation only. Raises EndedByItself for any other end."""
    try:
        await loop
    except asyncio.CancelledError:
        if being_cancelled():
            raise
        raise EndedByItself("cancelled by nobody") from None
    raise EndedByItself("came to an end")


async def bounded(work: Coroutine[Any, Any, None], seconds: float) -> str | None:
    """Do it in a task of its own, for so long at most. Gives what went wrong, by name: an error, a cancellation, or that it would not end."""
    return await finished(asyncio.create_task(work), seconds)


async def finished(task: asyncio.Task[None], seconds: float) -> str | None:
    """Wait for a task, for so long at most; then it is cancelled, and left to itself if it will not hear. What it ended with does not reach who waits."""
    try:
        await asyncio.wait([task], timeout=seconds)
    finally:
        task.cancel()
    if not task.done():
        return "TimeoutError"
    if task.cancelled():
        return "CancelledError"
    error = task.exception()
    return None if error is None else type(error).__name__
