"""The development issuer over ASGI, with a clock that stands still."""

from collections.abc import AsyncIterator

import httpx
import pytest

from libs.contracts.demonstration import DESKS, DemonstrationDesk
from libs.embedded.grants import Grants
from libs.embedded.issuer import Issuer, create_app
from tests.embedded.desk import URL, Clock


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def issuer() -> Issuer:
    return Issuer(URL)


@pytest.fixture
async def http(issuer: Issuer, clock: Clock) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(create_app(issuer, Grants(clock)))
    async with httpx.AsyncClient(transport=transport, base_url=URL) as client:
        yield client


@pytest.fixture
def second_desk(monkeypatch: pytest.MonkeyPatch) -> str:
    """Another desk that shares the first one's paths."""
    first = DESKS["desk"]
    monkeypatch.setitem(DESKS, "other-desk", DemonstrationDesk("other-desk", "Autre", first.redirect_paths, first.post_logout_paths))
    return "other-desk"
