"""A proof is worth what its red is worth: with the guarantee taken away it must fail."""

import asyncio
from collections.abc import Awaitable

import pytest


async def seen_red(proof: Awaitable[None], seconds: float = 6) -> None:
    """Awaits a proof under a planted fault. It must fail, or still wait for what does not come when its time is over."""
    with pytest.raises((AssertionError, TimeoutError, pytest.fail.Exception)):
        async with asyncio.timeout(seconds):
            await proof
