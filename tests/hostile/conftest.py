from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from tests.hostile.process import Served, serving


@pytest.fixture
async def served(request: pytest.FixtureRequest, database_url: Callable[[str | None], str], tmp_path: Path) -> AsyncIterator[Served]:
    """The referrals on a database of their own, called by a police client. Its parameter: more of its environment."""
    async with serving("referrals", "police-95", database_url("referrals"), tmp_path, **getattr(request, "param", {})) as one:
        yield one
