"""The four services in one process, on real databases and a real broker; they reach each other's feeds without sockets."""

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import httpx
from starlette.applications import Starlette

from libs.chassis.app import create_app
from libs.chassis.feed import Feed
from libs.chassis.runtime import Runtime
from libs.chassis.security import IssuerKeys, ServiceToken
from libs.chassis.service import Service
from libs.embedded.issuer import Issuer
from libs.embedded.issuer import create_app as create_issuer
from services.funding.app import SERVICE as FUNDING
from services.partners.app import SERVICE as PARTNERS
from services.referrals.app import SERVICE as REFERRALS
from services.reporting.app import SERVICE as REPORTING
from tests.serving import Served
from tests.settings import NOWHERE, settings_for

SERVICES: dict[str, Service] = {service.name: service for service in (REFERRALS, PARTNERS, FUNDING, REPORTING)}


@dataclass
class House:
    """`house["partners"]` is a service as a test calls it. `start` and `stop` work on whole replicas."""

    issuer: Issuer
    urls: dict[str, str]
    settings: dict[str, Any]
    _issuer_app: Starlette
    _running: dict[str, list[tuple[Served, AsyncExitStack]]] = field(default_factory=dict)

    def __getitem__(self, service: str) -> Served:
        return self._running[service][0][0]

    def is_up(self, service: str) -> bool:
        return bool(self._running.get(service))

    async def start(self, *names: str) -> None:
        for name in names:
            stack = AsyncExitStack()
            self._running.setdefault(name, []).append((await stack.enter_async_context(self._replica(name)), stack))

    async def stop(self, name: str, replica: int = 0) -> None:
        _, stack = self._running[name].pop(replica)
        await stack.aclose()

    async def stop_all(self) -> None:
        for name in list(self._running):
            while self._running[name]:
                await self.stop(name)

    @asynccontextmanager
    async def _replica(self, name: str) -> AsyncIterator[Served]:
        service = SERVICES[name]
        others = {other: f"http://{other}" for other in SERVICES if other != name}
        settings = settings_for(name, service.settings, database_url=self.urls[name], source_urls=others, **self.settings)
        app = create_app(service, settings)
        runtime: Runtime = app.state.runtime
        async with AsyncExitStack() as stack:
            to_issuer = await stack.enter_async_context(httpx.AsyncClient(transport=httpx.ASGITransport(self._issuer_app)))
            runtime.tokens.keys = IssuerKeys(f"{NOWHERE}/jwks", to_issuer)
            runtime.service_token = ServiceToken(settings, client=to_issuer)
            feed = Feed(settings.source_urls, runtime.service_token, transport=self._door)
            runtime.feed = feed
            if runtime.consumer is not None:
                runtime.consumer.feed = feed
            client = await stack.enter_async_context(httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=f"http://{name}"))
            await stack.enter_async_context(app.router.lifespan_context(app))
            yield Served(client, runtime, self.issuer, app.openapi)

    def _door(self, name: str) -> httpx.AsyncBaseTransport:
        return _Door(self, name)


class _Door(httpx.AsyncBaseTransport):
    """Leads to whichever replica of a service is up now; nobody answers when none is."""

    def __init__(self, house: House, name: str) -> None:
        self._house = house
        self._name = name

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        replicas = self._house._running.get(self._name)
        if not replicas:
            raise httpx.ConnectError("no replica is up", request=request)
        return await replicas[0][0].client._transport.handle_async_request(request)


@asynccontextmanager
async def house(
    database_url: Callable[[str | None], str], bootstrap_servers: str, on_kafka: bool, *names: str, **settings: Any
) -> AsyncIterator[House]:
    """Databases for all services; `names` are started (all, when none is named)."""
    issuer = Issuer(NOWHERE)
    made = House(
        issuer,
        {name: database_url(name) for name in SERVICES},
        {
            "kafka_bootstrap_servers": bootstrap_servers,
            "kafka_create_topics": on_kafka,
            "kafka_group_sharing": on_kafka,
            "kafka_topic_prefix": f"t{uuid4().hex[:12]}",
            "head_poll_seconds": 0.5,
        }
        | settings,
        create_issuer(issuer),
    )
    try:
        await made.start(*(names or SERVICES))
        yield made
    finally:
        await made.stop_all()
