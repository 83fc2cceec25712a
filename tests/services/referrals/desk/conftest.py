"""The desk on a real database with the demonstration territory heard, and an issuer where its persons sign in."""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any, cast

import httpx
import pytest

from libs.contracts import demonstration as d
from libs.contracts.vocabularies import Theme
from libs.embedded.issuer import create_app as create_issuer
from services.referrals.app import SERVICE
from services.referrals.desk.provider import Provider
from services.referrals.directory import names
from services.referrals.settings import Settings
from tests.services.referrals.conftest import Referrals, territory
from tests.services.referrals.desk.browser import BASE, Browser
from tests.serving import Served, app_of, served
from tests.settings import NOWHERE

ORGANIZATIONS = {one.id: one.name for one in d.ORGANIZATIONS}


@dataclass
class Desk(Referrals):
    """`browser()` is a fresh one, which knows nobody."""

    def browser(self) -> Browser:
        return Browser(httpx.AsyncClient(transport=self.client._transport, base_url=BASE), self.issuer_client())

    def issuer_client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(transport=httpx.ASGITransport(app_of(self.client).state.issuer_app), base_url=NOWHERE)

    async def sign_in(self, who: str, to: str = "/desk/referrals", purpose: str | None = "follow_up") -> Browser:
        browser = self.browser()
        await browser.sign_in(who, to, purpose)
        return browser


async def call_by_name(desk: Referrals) -> None:
    """As if the loop had read partners' lists."""
    kept = {
        names.SERVICES: [
            names._row(str(one.id), one.name, ORGANIZATIONS[one.organization_id], [Theme.COUPLE_VIOLENCE]) for one in d.SERVICES
        ],
        names.POSTS: [names._row(str(one.id), one.name) for one in d.POSTS],
        names.UNITS: [names._row(str(one.id), one.name) for one in d.UNITS],
        names.COMMUNES: [names._row("95127", "Cergy"), names._row("95585", "Sarcelles")],
    }
    for kind, rows in kept.items():
        await names._keep(desk.runtime, names.Claim(kind, "95", 0, 0), rows)


def furnish(up: Served) -> None:
    """Give the application its provider: the embedded issuer, without sockets."""
    app = app_of(up.client)
    app.state.issuer_app = create_issuer(up.issuer)
    app.state.desk_provider = Provider(
        cast(Settings, up.runtime.settings),
        up.runtime.tokens,
        client=lambda: httpx.AsyncClient(transport=httpx.ASGITransport(app.state.issuer_app)),
    )


@pytest.fixture
async def desk(database_url: Callable[[str | None], str], informed: str) -> AsyncIterator[Desk]:
    async with served(SERVICE, database_url(informed), **settings()) as up:
        made = Desk(up.client, up.runtime, up.issuer, up.openapi, heard=len(territory()))
        furnish(made)
        yield made


def settings(**more: Any) -> dict[str, Any]:
    return {"desk_client_id": "desk"} | more
