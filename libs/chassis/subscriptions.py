"""Webhooks: a client has one stream POSTed to a URL of its own, in order, from a cursor that we keep. The same bytes and numbers as on the feed.

At least once and in order: the next event is sent when the one before was answered 2xx. A delivery that fails is tried again, with growing pauses;
after three days of failures, at a `410 Gone`, or when the events wanted are no longer kept, the subscription is disabled and says why.

One replica at a time works for a subscription: it takes a *lease* (SKIP LOCKED, so that replicas do not wait for each other) rather than holding a row
lock and a database connection while a slow receiver thinks. A replica that dies leaves a lease that ends by itself; every move of the cursor
asks whether the lease is still its own.
"""

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from typing import Any, ClassVar, Literal
from uuid import UUID

import structlog
from prometheus_client import Counter
from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncSession

from libs.chassis import streams
from libs.chassis.health import Heartbeat
from libs.chassis.ids import new_id
from libs.chassis.refusals import Conflict, Invalid, NotFound
from libs.chassis.runtime import Runtime
from libs.chassis.security import Principal
from libs.chassis.settings import Settings
from libs.chassis.telemetry import REGISTRY
from libs.chassis.vault import DataKey, Vault, VaultError
from libs.chassis.webhooks import Policy, Sender, Undeliverable, UrlRefused, checked_url, headers_of, new_secret, signature_headers
from libs.contracts.audiences import streams_of
from libs.contracts.vocabularies import Role

_log = structlog.get_logger(__name__)

MOST_PER_CLIENT = 50
GIVE_UP_AFTER = timedelta(days=3)
FORMER_SECRET_FOR = timedelta(hours=24)
"""While a secret is replaced, both sign: the receiver changes over without losing an event."""
LONGEST_PAUSE = 3600.0
LEASE = timedelta(seconds=60)
"""Renewed with every delivered event, which takes 20 s at most."""
BATCH = 100
PARALLEL = 20
POLL_SECONDS = 0.5
PING = "fr.maillon.subscription.ping.v1"

_SECRET = "subscription/secret"  # noqa: S105  # the context under which it is sealed

DELIVERIES = Counter("maillon_webhook_deliveries_total", "Deliveries to subscribers", ["service", "outcome"], registry=REGISTRY)

Reason = Literal["gone", "failing", "feed-too-old", "not-entitled"]


class TooManySubscriptions(Conflict):
    type: ClassVar[str] = "too-many-subscriptions"
    title: ClassVar[str] = "Trop d'abonnements"


class PositionUnavailable(Conflict):
    """The number to start from is not in the stream: not said yet, or no longer kept."""

    type: ClassVar[str] = "position-unavailable"
    title: ClassVar[str] = "Position indisponible"


class SubscriptionActive(Conflict):
    type: ClassVar[str] = "subscription-active"
    title: ClassVar[str] = "Abonnement déjà actif"


@dataclass(frozen=True, slots=True)
class Subscription:
    """What its owner sees. `epoch` and `sequence`: the last event that was delivered; `head_sequence`: the stream's last."""

    id: UUID
    stream: str
    url: str
    epoch: int
    sequence: int
    head_sequence: int
    status: str
    disabled_reason: str | None
    created_at: datetime
    delivered_at: datetime | None
    failures: int
    failing_since: datetime | None
    last_failure: str | None
    next_attempt_at: datetime


_SEEN = """
    SELECT s.id, s.stream, s.url, s.epoch, s.sequence, coalesce(h.sequence, 0) AS head_sequence, s.status, s.disabled_reason, s.created_at,
           s.delivered_at, s.failures, s.failing_since, s.last_failure, s.next_attempt_at
    FROM subscriptions s LEFT JOIN streams h ON h.stream = s.stream
    WHERE (:everyone OR s.client_id = :client)
"""
_READ = text(f"{_SEEN} AND s.id = :id")
_LIST = text(f"{_SEEN} AND s.id > :after ORDER BY s.id LIMIT :limit")
_INSERT = text("""
    INSERT INTO subscriptions (id, client_id, role, organization, perimeter, stream, url, key_id, secret, epoch, sequence,
        since_epoch, since_sequence)
    VALUES (:id, :client, :role, :organization, CAST(:perimeter AS text[]), :stream, :url, :key_id, :secret, :epoch, :sequence, :epoch, :sequence)
""")
_END = text("""
    WITH ended AS (DELETE FROM subscriptions WHERE id = :id RETURNING id, stream, client_id, since_epoch, since_sequence, epoch, sequence)
    INSERT INTO former_subscriptions (id, stream, client_id, since_epoch, since_sequence, epoch, sequence) SELECT * FROM ended
""")
_FOR_CHANGE = text("SELECT id, key_id, secret, status FROM subscriptions WHERE id = :id AND (:everyone OR client_id = :client) FOR UPDATE")


def policy_of(settings: Settings) -> Policy:
    """Where deliveries may go: loopback only in development; private networks only when they are named."""
    return Policy(
        loopback=settings.environment == "development", networks=tuple(ip_network(network) for network in settings.webhook_networks)
    )


def _owner(caller: Principal) -> dict[str, Any]:
    """An administrator sees and ends every client's subscriptions: a client whose access ended cannot be asked to."""
    return {"client": caller.client_id, "everyone": caller.role is Role.ADMINISTRATOR}


def _may_read(role: str, perimeter: Sequence[str], organization: UUID | None, client_id: str, stream: str) -> bool:
    return stream in streams_of(role, frozenset(perimeter), None if organization is None else str(organization), client_id)


async def subscribe(
    session: AsyncSession, vault: Vault, policy: Policy, caller: Principal, *, stream: str, url: str, after: int | None
) -> Subscription:
    """Subscribe the caller to a stream it may read, from after number `after` on, or from now on. The secret is opened by `open_secret`."""
    if not _may_read(caller.role, sorted(caller.perimeter), caller.organization, caller.client_id, stream):
        raise NotFound(
            "Ce flux n'existe pas, ou n'est pas dans votre périmètre.", pointers=[("/stream", "Flux inconnu : voir GET /v1/streams.")]
        )
    try:
        checked_url(url, policy)
    except UrlRefused as refused:
        raise Invalid("L'adresse de livraison ne convient pas.", pointers=[("/url", str(refused))]) from None
    await session.execute(text("SELECT pg_advisory_xact_lock(hashtextextended(:lock, 0))"), {"lock": f"subscriptions {caller.client_id}"})
    held = await session.scalar(text("SELECT count(*) FROM subscriptions WHERE client_id = :client"), {"client": caller.client_id})
    if held is not None and held >= MOST_PER_CLIENT:
        raise TooManySubscriptions(f"Vous avez déjà {MOST_PER_CLIENT} abonnements : supprimez-en un avant d'en créer un autre.")
    head = await streams.head(session, stream)
    if after is not None and not head.purged_sequence <= after <= head.sequence:
        raise PositionUnavailable(
            "Ce numéro n'est pas dans le flux : il n'a pas encore été publié, ou n'est plus conservé.",
            pointers=[("/after", f"Choisissez un numéro entre {head.purged_sequence} et {head.sequence}.")],
        )
    key = await vault.new_key(session, "subscription")
    subscription_id = new_id()
    await session.execute(
        _INSERT,
        {
            "id": subscription_id,
            "client": caller.client_id,
            "role": caller.role.value,
            "organization": caller.organization,
            "perimeter": sorted(caller.perimeter),
            "stream": stream,
            "url": url,
            "key_id": key.id,
            "secret": key.seal(new_secret().encode(), context=_SECRET),
            "epoch": head.epoch,
            "sequence": head.sequence if after is None else after,
        },
    )
    return await subscription(session, caller, subscription_id)


async def subscription(session: AsyncSession, caller: Principal, subscription_id: UUID) -> Subscription:
    row = (await session.execute(_READ, {"id": subscription_id, **_owner(caller)})).one_or_none()
    if row is None:
        raise NotFound
    return Subscription(*row)


async def subscriptions(session: AsyncSession, caller: Principal, *, after: UUID | None, limit: int) -> list[Subscription]:
    rows = await session.execute(_LIST, {"after": after or UUID(int=0), "limit": limit, **_owner(caller)})
    return [Subscription(*row) for row in rows]


async def open_secret(session: AsyncSession, vault: Vault, caller: Principal, subscription_id: UUID) -> str:
    """The secret in clear: shown when it was made, to its owner, and never again."""
    row = (
        await session.execute(
            text("SELECT key_id, secret FROM subscriptions WHERE id = :id AND client_id = :client"),
            {"id": subscription_id, "client": caller.client_id},
        )
    ).one_or_none()
    if row is None:
        raise NotFound
    key = await vault.open_key(session, row.key_id)
    return key.open(row.secret, context=_SECRET).decode()


async def _locked(session: AsyncSession, caller: Principal, subscription_id: UUID) -> Row[Any]:
    row = (await session.execute(_FOR_CHANGE, {"id": subscription_id, **_owner(caller)})).one_or_none()
    if row is None:
        raise NotFound
    return row


async def rotate_secret(session: AsyncSession, vault: Vault, caller: Principal, subscription_id: UUID) -> Subscription:
    """Make a new secret. The former one signs beside it for a day."""
    row = await _locked(session, caller, subscription_id)
    key = await vault.open_key(session, row.key_id)
    await session.execute(
        text("UPDATE subscriptions SET former_secret = secret, former_secret_until = :until, secret = :secret WHERE id = :id"),
        {"id": row.id, "until": datetime.now(UTC) + FORMER_SECRET_FOR, "secret": key.seal(new_secret().encode(), context=_SECRET)},
    )
    return await subscription(session, caller, subscription_id)


async def resume(session: AsyncSession, caller: Principal, subscription_id: UUID) -> Subscription:
    """Deliver again, from the cursor on, after a disabled subscription's cause is gone."""
    row = await _locked(session, caller, subscription_id)
    if row.status == "active":
        raise SubscriptionActive("Cet abonnement est actif : il n'y a rien à reprendre.")
    await session.execute(
        text(
            "UPDATE subscriptions SET status = 'active', disabled_reason = NULL, failures = 0, failing_since = NULL, next_attempt_at = now()"
            " WHERE id = :id"
        ),
        {"id": row.id},
    )
    return await subscription(session, caller, subscription_id)


async def unsubscribe(session: AsyncSession, vault: Vault, caller: Principal, subscription_id: UUID) -> None:
    """End it, and destroy its secret. An event under way may still arrive. That it was given events, and how far it took them, is kept."""
    row = await _locked(session, caller, subscription_id)
    await session.execute(_END, {"id": row.id})
    await vault.destroy(session, row.key_id)


async def ping(runtime: Runtime, sender: Sender, caller: Principal, subscription_id: UUID) -> str | None:
    """Send a test message now, outside the stream: without number, moving nothing. Gives why it did not arrive, None when it did."""
    async with runtime.database.transaction() as session:
        seen = await subscription(session, caller, subscription_id)
        row = (await session.execute(text("SELECT key_id, secret FROM subscriptions WHERE id = :id"), {"id": subscription_id})).one()
        secret = (await runtime.vault.open_key(session, row.key_id)).open(row.secret, context=_SECRET).decode()
    message_id, body = str(new_id()), b"{}"
    attributes = {
        "specversion": "1.0",
        "id": message_id,
        "source": f"urn:maillon:{runtime.service.name}",
        "type": PING,
        "subject": f"subscriptions/{subscription_id}",
        "time": datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z"),
    }
    headers = {f"ce-{name}": value for name, value in attributes.items()} | {"content-type": "application/json"}
    try:
        async with sender.to(seen.url) as channel:
            await channel.post(headers | signature_headers(message_id, body, [secret], datetime.now(UTC)), body)
    except Undeliverable as failure:
        return failure.code
    return None


# Delivery

_CLAIM = text("""
    UPDATE subscriptions SET lease = gen_random_uuid(), leased_until = now() + :lease
    WHERE id IN (
        SELECT s.id FROM subscriptions s JOIN streams h ON h.stream = s.stream
        WHERE s.status = 'active' AND s.next_attempt_at <= now() AND (s.leased_until IS NULL OR s.leased_until < now())
          AND (h.sequence > s.sequence OR h.epoch > s.epoch) AND h.diverged_at IS NULL
        ORDER BY s.next_attempt_at LIMIT :limit FOR UPDATE OF s SKIP LOCKED
    )
    RETURNING id, lease, client_id, role, organization, perimeter, stream, url, key_id, secret, former_secret, former_secret_until, epoch, sequence, failures,
              failing_since
""")
_MOVE = text("""
    UPDATE subscriptions SET epoch = :epoch, sequence = :sequence, delivered_at = now(), failures = 0, failing_since = NULL, last_failure = NULL,
           leased_until = now() + :lease
    WHERE id = :id AND lease = :mine RETURNING id
""")
_FAIL = text("""
    UPDATE subscriptions SET failures = failures + 1, failing_since = coalesce(failing_since, now()), last_failure = :code,
           next_attempt_at = now() + :pause, lease = NULL, leased_until = NULL
    WHERE id = :id AND lease = :mine
""")
_DISABLE = text("""
    UPDATE subscriptions SET status = 'disabled', disabled_reason = :reason, last_failure = :code, lease = NULL, leased_until = NULL
    WHERE id = :id AND lease = :mine
""")
_RELEASE = text("UPDATE subscriptions SET lease = NULL, leased_until = NULL WHERE lease = ANY(CAST(:leases AS uuid[]))")
_REPLACED = text("""
    SELECT min(after_sequence) FROM stream_epochs WHERE stream = :stream AND epoch > :epoch
""")


def pause_after(failures: int, retry_after_seconds: int | None = None) -> timedelta:
    """How long to wait after one more failure: 2 s, 4 s, 8 s… an hour at most, less up to half of it so that retries do not come in step."""
    longest = min(LONGEST_PAUSE, 2.0 ** min(failures + 1, 16))
    pause = longest * random.uniform(0.5, 1.0)  # noqa: S311  # spreads retries, guards nothing
    return timedelta(seconds=max(pause, retry_after_seconds or 0))


class Deliverer:
    """The worker's part that delivers. `run` returns only by cancellation; every replica may run one."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._database = runtime.database
        self._sender = Sender(policy_of(runtime.settings))
        self._leases: set[UUID] = set()
        self.heartbeat = Heartbeat("deliverer", 60)

    async def run(self) -> None:
        try:
            async with asyncio.TaskGroup() as turns:
                while True:
                    self.heartbeat.beat()
                    claimed = await self.claim(PARALLEL - len(self._leases))
                    for one in claimed:
                        turns.create_task(self.deliver(one))
                    if not claimed:
                        await asyncio.sleep(POLL_SECONDS)
        finally:
            await self._release()

    async def claim(self, limit: int) -> list[Row[Any]]:
        """Lease subscriptions that have something to deliver and that no other replica works for."""
        if limit <= 0:
            return []
        async with self._database.transaction() as session:
            claimed = list((await session.execute(_CLAIM, {"lease": LEASE, "limit": limit})).all())
        self._leases |= {one.lease for one in claimed}
        return claimed

    async def deliver(self, claimed: Row[Any]) -> None:
        """One turn for one subscription: up to `BATCH` events, in order, each when the one before was taken."""
        mine = {"id": claimed.id, "mine": claimed.lease}
        try:
            await self._deliver(claimed, mine)
        except Undeliverable as failure:
            await self._failed(claimed, mine, failure)
        except VaultError as error:
            _log.error("webhook.secret_unreadable", subscription=str(claimed.id), error=type(error).__name__)  # the type says it all
            await self._failed(claimed, mine, Undeliverable("secret-unreadable"))
        except streams.FeedTooOld:
            await self._disable(mine, "feed-too-old", None)
        except _NotEntitled:
            await self._disable(mine, "not-entitled", None)
        await self._release(claimed.lease)  # a cancelled turn leaves it to `run`

    async def _deliver(self, claimed: Row[Any], mine: dict[str, Any]) -> None:
        if not _may_read(claimed.role, claimed.perimeter, claimed.organization, claimed.client_id, claimed.stream):
            raise _NotEntitled
        async with self._database.transaction(repeatable_read=True) as session:
            # a stream that was restored goes on from an earlier number: so does the cursor
            replaced = await session.scalar(_REPLACED, {"stream": claimed.stream, "epoch": claimed.epoch})
            after = claimed.sequence if replaced is None else min(claimed.sequence, replaced)
            records = await streams.read(session, claimed.stream, after, BATCH)
            epoch = (await streams.head(session, claimed.stream)).epoch
            keys = _secrets(await self._runtime.vault.open_key(session, claimed.key_id), claimed)
        if not records:
            await self._move(mine, epoch, after)
            return
        async with self._sender.to(claimed.url) as channel:
            for record in records:
                await channel.post(headers_of(record, keys, datetime.now(UTC)), record.data)
                DELIVERIES.labels(self._runtime.service.name, "delivered").inc()
                if not await self._move(mine, record.epoch, record.sequence):
                    return

    async def _move(self, mine: dict[str, Any], epoch: int, sequence: int) -> bool:
        """False when the lease is no longer ours: the subscription was ended, or another replica took over."""
        async with self._database.transaction() as session:
            moved = await session.scalar(_MOVE, {**mine, "epoch": epoch, "sequence": sequence, "lease": LEASE})
        return moved is not None

    async def _failed(self, claimed: Row[Any], mine: dict[str, Any], failure: Undeliverable) -> None:
        DELIVERIES.labels(self._runtime.service.name, "failed").inc()
        _log.warning("webhook.failed", subscription=str(claimed.id), stream=claimed.stream, failure=failure.code)
        async with self._database.transaction() as session:
            now = (
                await session.execute(text("SELECT failures, failing_since FROM subscriptions WHERE id = :id"), {"id": claimed.id})
            ).one_or_none()
        if now is None:
            return  # ended meanwhile
        if failure.code == "http-410":
            await self._disable(mine, "gone", failure.code)
        elif now.failing_since is not None and datetime.now(UTC) - now.failing_since >= GIVE_UP_AFTER:
            await self._disable(mine, "failing", failure.code)
        else:
            async with self._database.transaction() as session:
                await session.execute(
                    _FAIL, {**mine, "code": failure.code, "pause": pause_after(now.failures, failure.retry_after_seconds)}
                )

    async def _disable(self, mine: dict[str, Any], reason: Reason, code: str | None) -> None:
        _log.error("webhook.disabled", subscription=str(mine["id"]), reason=reason)
        async with self._database.transaction() as session:
            await session.execute(_DISABLE, {**mine, "reason": reason, "code": code})

    async def _release(self, *leases: UUID) -> None:
        """Give leases back (all of them when none is named), so that another replica need not wait for their end."""
        given_back = list(leases or self._leases)
        if given_back:
            async with asyncio.timeout(2), self._database.transaction() as session:
                await session.execute(_RELEASE, {"leases": given_back})
            self._leases.difference_update(given_back)


class _NotEntitled(Exception):
    """The audience table no longer lets this client read the stream."""


def _secrets(key: DataKey, claimed: Row[Any]) -> list[str]:
    sealed = [claimed.secret]
    if claimed.former_secret is not None and claimed.former_secret_until > datetime.now(UTC):
        sealed.append(claimed.former_secret)
    return [key.open(one, context=_SECRET).decode() for one in sealed]
