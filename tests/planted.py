"""A proof is worth what its red is worth: with the guarantee taken away it must fail."""

import re
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager

import pytest


@contextmanager
def red(because: str) -> Iterator[None]:
    """Around a proof under a planted fault: one of its own assertions must fail, the one that says `because`."""
    with pytest.raises((AssertionError, pytest.fail.Exception), match=re.escape(because)):
        yield


async def seen_red(proof: Awaitable[None], because: str) -> None:
    """Awaits a proof under a planted fault, `red`.

    A proof that waits in vain is slow or red, and nothing tells which: it ends as a TimeoutError, which is no red here. Before it asserts it waits
    for a sign that the world is at rest (`tests.journeys.posts.looked`), not for the thing itself.
    """
    with red(because):
        await proof
