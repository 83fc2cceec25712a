"""Reporting's own database, empty."""

from collections.abc import AsyncIterator, Callable

import pytest

from libs.chassis.database import Database


@pytest.fixture
async def database(database_url: Callable[[str], str]) -> AsyncIterator[Database]:
    opened = Database(database_url("reporting"))
    yield opened
    await opened.close()
