"""A running service: everything that is opened at start and closed at the end, wired in one place."""

import asyncio
import json
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, TypeVar
from uuid import UUID

from fastapi import Depends, Request

from libs.chassis import parking, purging, streams
from libs.chassis.audit import Place
from libs.chassis.bus import Bus
from libs.chassis.consumer import Consumer
from libs.chassis.database import Database
from libs.chassis.feed import Feed
from libs.chassis.gathering import Gathering
from libs.chassis.health import Heartbeat
from libs.chassis.outbox import SESSION_KEY, Speaker
from libs.chassis.projector import reached
from libs.chassis.relay import Relay
from libs.chassis.security import ServiceToken, TokenVerifier
from libs.chassis.service import Service
from libs.chassis.settings import Settings, named_keys, secret_bytes
from libs.chassis.signing import Signer
from libs.chassis.vault import Vault
from libs.contracts.envelope import Event, Projection
from libs.contracts.projecting import project
from libs.contracts.pseudonyms import PseudonymKeys

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Seen:
    """How complete this service's view of one source is: "seen N of head M, at time T"."""

    source: str
    epoch: int
    sequence: int
    head_sequence: int | None
    head_seen_at: datetime | None
    missed: int
    health: str
    detail: str | None


class Runtime:
    """`roles` says which parts run: `api` answers requests, `worker` relays, listens, delivers and does the jobs."""

    def __init__(self, service: Service, settings: Settings, roles: Collection[str] = ("api", "worker")) -> None:
        self.service = service
        self.settings = settings
        self.roles = frozenset(roles)
        self.pseudonyms = keys = PseudonymKeys(secret_bytes(settings.pseudonym_key))
        self.speaker = Speaker(service.name, _projector(service, keys))
        self.database = Database(settings.database_url, pool_size=settings.database_pool_size, info={SESSION_KEY: self.speaker})
        self.vault = Vault(named_keys(settings.vault_keys), settings.vault_active_key)
        self.signer = Signer(settings.signing_key.get_secret_value(), former=json.loads(settings.former_signing_keys))
        self.tokens = TokenVerifier(settings)
        self.service_token = ServiceToken(settings)
        self.bus = Bus(settings)
        self.feed = Feed(settings.source_urls, self.service_token)
        self.relay = Relay(self.database, self.bus, service.name)
        self.consumer: Consumer | None = None
        if service.listener is not None:
            self.consumer = Consumer(
                self.database,
                self.bus,
                self.feed,
                service.listener,
                group=f"{settings.kafka_topic_prefix}.{service.name}",
                share_group=settings.kafka_group_sharing,
                park_limit=settings.consumer_park_limit,
                head_seconds=settings.head_poll_seconds,
            )
        self.heartbeats: dict[str, Heartbeat] = {}
        self._gatherings: dict[str, Gathering[Any]] = {}
        self.signed_head: Place | None = None
        """Of the audit log, as this process last signed it."""
        self.started_at = time.time()

    def gathering(self, operation: str, make: Callable[[], Gathering[T]]) -> Gathering[T]:
        """The one place of this process where requests for an operation gather; made when it is first asked for."""
        found = self._gatherings.get(operation)
        if found is None:
            found = self._gatherings[operation] = make()
        return found

    async def completeness(self) -> list[Seen]:
        """What was seen of each source, from the database: the same answer from every replica."""
        if self.consumer is None:
            return []
        async with self.database.transaction() as session:
            return [
                Seen(*row, state.health, state.detail)
                for row in await reached(session, self.consumer.listener.projection)
                if (state := self.consumer.states.get(row.source)) is not None
            ]

    async def diverged(self) -> dict[str, str]:
        """The streams that say nothing more, each with the reason."""
        async with self.database.transaction() as session:
            return {head.stream: head.diverged_reason for head in await streams.heads(session) if head.diverged_reason}

    async def troubles(self) -> list[str]:
        """Short codes of what an operator should look at: for /readyz and the metrics. Empty when all is well."""
        found = [f"stream-diverged:{stream}" for stream in await self.diverged()]
        async with self.database.transaction() as session:
            found += [f"parked:{source}" for source in await parking.counts(session)]
            absent = await purging.away(session, keep_days=self.settings.retention_days, awaited=self.settings.awaited())
            found += [f"away:{one}" for one in absent]
        if "worker" in self.roles:
            if self.relay.bus_error is not None:
                found.append("broker-absent")
            if self.consumer is not None:
                found += [
                    f"{state.health}:{name}"
                    for name, state in self.consumer.states.items()
                    if state.health not in {"following", "starting"}
                ]
        return found

    async def close(self) -> None:
        """Within seconds, whatever hangs."""
        gatherings = [gathering.close for gathering in self._gatherings.values()]
        for closing in (*gatherings, self.bus.close, self.feed.close, self.service_token.close, self.tokens.close, self.database.close):
            try:
                async with asyncio.timeout(3):
                    await closing()
            except TimeoutError:
                continue


def _projector(service: Service, keys: PseudonymKeys) -> Callable[[Event, UUID], list[Projection]]:
    says = frozenset(service.says)

    def speak(event: Event, event_id: UUID) -> list[Projection]:
        if type(event) not in says:
            raise TypeError(f"{service.name} does not say {event.type}")
        return project(event, event_id, keys)

    return speak


# FastAPI calls a plain function as a dependency in a thread, which costs more than the rest of a small request
async def runtime_of(request: Request) -> Runtime:
    runtime: Runtime = request.app.state.runtime
    return runtime


async def database_of(request: Request) -> Database:
    runtime: Runtime = request.app.state.runtime
    return runtime.database


Run = Annotated[Runtime, Depends(runtime_of)]
Db = Annotated[Database, Depends(database_of)]
