"""What delivers to the subscribers: the same bytes and numbers as on the feed, each event when the one before was answered 2xx.

One replica at a time works for a subscription: it takes a *lease* (SKIP LOCKED, so that replicas do not wait for each other) rather than holding a row
lock and a database connection while a slow receiver thinks. A replica that dies leaves a lease that ends by itself; every move of the cursor
asks whether the lease is still its own.

A slow receiver is its owner's trouble alone: a replica works for `PARALLEL` subscriptions at once, of which one owner has `PLACES` at most on all replicas
together; a turn is bounded in time, and whoever had one goes to the end of the queue. What goes wrong in a turn ends that turn alone.
"""

import asyncio
import random
import time
from datetime import UTC, datetime, timedelta
from typing import Any, Literal
from uuid import UUID

import structlog
from prometheus_client import Counter
from sqlalchemy import Row, text

from libs.chassis import streams
from libs.chassis.health import Heartbeat
from libs.chassis.runtime import Runtime
from libs.chassis.subscriptions import LASTS, SECRET, goes_on_after, policy_of
from libs.chassis.telemetry import REGISTRY
from libs.chassis.vault import DataKey, VaultError
from libs.chassis.webhooks import Sender, Undeliverable, headers_of
from libs.contracts.audiences import streams_of

_log = structlog.get_logger(__name__)

GIVE_UP_AFTER = timedelta(days=3)
LONGEST_PAUSE = 3600.0
LEASE = timedelta(seconds=60)
"""Renewed with every delivered event, which takes 20 s at most."""
BATCH = 100
TURN_SECONDS = 10.0
PARALLEL = 20
PLACES = 5
POLL_SECONDS = 0.5

DELIVERIES = Counter("maillon_webhook_deliveries_total", "Deliveries to subscribers", ["service", "outcome"], registry=REGISTRY)

Reason = Literal["gone", "failing", "feed-too-old", "not-entitled"]

_EXPIRE = text("""
    UPDATE subscriptions SET status = 'disabled', disabled_reason = 'expired', lease = NULL, leased_until = NULL
    WHERE id IN (SELECT id FROM subscriptions WHERE status = 'active' AND renewed_at <= now() - CAST(:lasts AS interval) FOR UPDATE SKIP LOCKED)
    RETURNING id
""")
# `place`: how many places of its owner a subscription would make, those that are taken counted. Ranked on a snapshot, so looked at again when locked.
_CLAIM = text("""
    WITH taken AS (SELECT owner, count(*) AS places FROM subscriptions WHERE leased_until >= now() GROUP BY owner),
    due AS (
        SELECT s.id, s.next_attempt_at,
               coalesce(t.places, 0) + row_number() OVER (PARTITION BY s.owner ORDER BY s.next_attempt_at, s.id) AS place
        FROM subscriptions s JOIN streams h ON h.stream = s.stream LEFT JOIN taken t ON t.owner = s.owner
        WHERE s.status = 'active' AND s.next_attempt_at <= now() AND (s.leased_until IS NULL OR s.leased_until < now())
          AND (h.sequence > s.sequence OR h.epoch > s.epoch) AND h.diverged_at IS NULL
    )
    UPDATE subscriptions SET lease = gen_random_uuid(), leased_until = now() + :lease
    WHERE id IN (
        SELECT s.id FROM due JOIN subscriptions s ON s.id = due.id
        WHERE due.place <= :places AND s.status = 'active' AND (s.leased_until IS NULL OR s.leased_until < now())
        ORDER BY due.place, due.next_attempt_at, s.id LIMIT :limit FOR UPDATE OF s SKIP LOCKED
    )
    RETURNING id, lease, client_id, role, organization, perimeter, stream, url, key_id, secret, former_secret, former_secret_until, epoch, sequence, failures,
              failing_since
""")
_MOVE = text("""
    UPDATE subscriptions SET epoch = :epoch, sequence = :sequence, delivered_at = now(), failures = 0, failing_since = NULL, last_failure = NULL,
           next_attempt_at = now(), leased_until = now() + :lease
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
        """Lease subscriptions that have something to deliver and that no other replica works for, `PLACES` of an owner at most: first of who has none,
        then of who waited longest."""
        if limit <= 0:
            return []
        async with self._database.transaction() as session:
            expired = list(await session.scalars(_EXPIRE, {"lasts": LASTS}))
            claimed = list((await session.execute(_CLAIM, {"lease": LEASE, "places": PLACES, "limit": limit})).all())
        for one in expired:
            _log.error("webhook.disabled", subscription=str(one), reason="expired")
        self._leases |= {one.lease for one in claimed}
        return claimed

    async def deliver(self, claimed: Row[Any]) -> None:
        """One turn for one subscription: up to `BATCH` events in `TURN_SECONDS`, in order, each when the one before was taken."""
        try:
            await self._turn(claimed, {"id": claimed.id, "mine": claimed.lease})
        except Exception as error:  # the database's, mostly: how the turn went cannot be written down
            _log.error("webhook.turn_lost", subscription=str(claimed.id), error=type(error).__name__)
        await self._release(claimed.lease)  # a cancelled turn leaves it to `run`

    async def _turn(self, claimed: Row[Any], mine: dict[str, Any]) -> None:
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
        except Exception as error:  # nobody foresaw it: it waits like any that failed, instead of being claimed again at once
            _log.error("webhook.turn_failed", subscription=str(claimed.id), error=type(error).__name__)
            await self._failed(claimed, mine, Undeliverable("internal-error"))

    async def _deliver(self, claimed: Row[Any], mine: dict[str, Any]) -> None:
        organization = None if claimed.organization is None else str(claimed.organization)
        if claimed.stream not in streams_of(claimed.role, frozenset(claimed.perimeter), organization, claimed.client_id):
            raise _NotEntitled
        ends_at = time.monotonic() + TURN_SECONDS
        async with self._database.transaction(repeatable_read=True) as session:
            after = await goes_on_after(session, claimed.stream, claimed.epoch, claimed.sequence)
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
                if not await self._move(mine, record.epoch, record.sequence) or time.monotonic() >= ends_at:
                    return

    async def _move(self, mine: dict[str, Any], epoch: int, sequence: int) -> bool:
        """False when the lease is no longer ours: the subscription was ended or disabled, or another replica took over."""
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
        """Give leases back (all of them when none is named), so that another replica need not wait for their end. They count no longer, however that went."""
        given_back = list(leases or self._leases)
        if not given_back:
            return
        try:
            async with asyncio.timeout(2), self._database.transaction() as session:
                await session.execute(_RELEASE, {"leases": given_back})
        except Exception as error:
            _log.warning("webhook.leases_run_out", leases=len(given_back), error=type(error).__name__)
        finally:
            self._leases.difference_update(given_back)


class _NotEntitled(Exception):
    """The audience table no longer lets this client read the stream."""


def _secrets(key: DataKey, claimed: Row[Any]) -> list[str]:
    sealed = [claimed.secret]
    if claimed.former_secret is not None and claimed.former_secret_until > datetime.now(UTC):
        sealed.append(claimed.former_secret)
    return [key.open(one, context=SECRET).decode() for one in sealed]
