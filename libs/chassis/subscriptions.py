"""Webhooks: a client has one stream POSTed to a URL of its own, in order, from a cursor that we keep. The same bytes and numbers as on the feed.

At least once and in order: the next event is sent when the one before was answered 2xx. A delivery that fails is tried again, with growing pauses;
after three days of failures, at a `410 Gone`, or when the events wanted are no longer kept, the subscription is disabled and says why.

It belongs to `Principal.owner`, and lives no longer than the right to its stream (docs/decisions/0017): with each call about streams or subscriptions its
owner shows what its token lets it read now; what that does not cover is disabled, and so is what is not renewed for a week (`LASTS`).
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from typing import Any, ClassVar
from uuid import UUID

from fastapi import Depends
from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncSession

from libs.chassis import streams
from libs.chassis.ids import new_id
from libs.chassis.refusals import Conflict, Invalid, NotFound
from libs.chassis.runtime import Db, Runtime
from libs.chassis.security import Caller, Principal
from libs.chassis.settings import Settings
from libs.chassis.vault import Vault
from libs.chassis.webhooks import Policy, Sender, Undeliverable, UrlRefused, checked_url, new_secret, signature_headers
from libs.contracts.vocabularies import Role

MOST = 50
"""Subscriptions of one owner."""
LASTS = timedelta(days=7)
"""How long after its owner's last call a subscription delivers: well within the retention, so that who resumes it has lost nothing."""
FORMER_SECRET_FOR = timedelta(hours=24)
"""While a secret is replaced, both sign: the receiver changes over without losing an event."""
PING = "fr.maillon.subscription.ping.v1"

SECRET = "subscription/secret"  # noqa: S105  # the context under which it is sealed


class TooManySubscriptions(Conflict):
    type: ClassVar[str] = "too-many-subscriptions"
    title: ClassVar[str] = "Trop d'abonnements"


class PositionUnavailable(Conflict):
    """The number to start from is not in the stream: not said yet, or no longer kept."""

    type: ClassVar[str] = "position-unavailable"
    title: ClassVar[str] = "Position indisponible"


class SubscriptionTooOld(Conflict):
    """What comes after its cursor is no longer kept: no delivery could be without a hole."""

    type: ClassVar[str] = "subscription-too-old"
    title: ClassVar[str] = "Abonnement trop ancien"


class SubscriptionActive(Conflict):
    type: ClassVar[str] = "subscription-active"
    title: ClassVar[str] = "Abonnement déjà actif"


@dataclass(frozen=True, slots=True)
class Subscription:
    """What its owner sees. `epoch` and `sequence`: the last event that was delivered; `head_sequence`: the stream's last, or the last delivered where the
    stream is no longer the owner's to read."""

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
    expires_at: datetime


_SEEN = """
    SELECT s.id, s.stream, s.url, s.epoch, s.sequence,
           CASE WHEN :everyone OR s.stream = ANY(CAST(:streams AS text[])) THEN coalesce(h.sequence, 0) ELSE s.sequence END AS head_sequence,
           s.status, s.disabled_reason, s.created_at, s.delivered_at, s.failures, s.failing_since, s.last_failure, s.next_attempt_at,
           s.renewed_at + CAST(:lasts AS interval) AS expires_at
    FROM subscriptions s LEFT JOIN streams h ON h.stream = s.stream
    WHERE (:everyone OR s.owner = :owner)
"""
_READ = text(f"{_SEEN} AND s.id = :id")
_LIST = text(f"{_SEEN} AND s.id > :after ORDER BY s.id LIMIT :limit")
_INSERT = text("""
    INSERT INTO subscriptions (id, owner, client_id, role, organization, perimeter, stream, url, key_id, secret, epoch, sequence,
        since_epoch, since_sequence)
    VALUES (:id, :owner, :client, :role, :organization, CAST(:perimeter AS text[]), :stream, :url, :key_id, :secret, :epoch, :sequence, :epoch,
        :sequence)
""")
_END = text("""
    WITH ended AS (DELETE FROM subscriptions WHERE id = :id RETURNING id, stream, client_id, since_epoch, since_sequence, epoch, sequence)
    INSERT INTO former_subscriptions (id, stream, client_id, since_epoch, since_sequence, epoch, sequence) SELECT * FROM ended
""")
_FOR_CHANGE = text(
    "SELECT id, stream, url, key_id, secret, epoch, sequence, status FROM subscriptions WHERE id = :id AND (:everyone OR owner = :owner) FOR UPDATE"
)
_REPLACED = text("SELECT min(after_sequence) FROM stream_epochs WHERE stream = :stream AND epoch > :epoch")
_RENEW = text("""
    WITH mine AS (
        SELECT id, stream = ANY(CAST(:streams AS text[])) AS readable FROM subscriptions
        WHERE owner = :owner AND (renewed_at < now() - interval '1 hour'
          OR (role, organization, perimeter) IS DISTINCT FROM (:role, CAST(:organization AS uuid), CAST(:perimeter AS text[])))
        ORDER BY id FOR UPDATE
    )
    UPDATE subscriptions s SET renewed_at = now(), role = :role, organization = :organization, perimeter = CAST(:perimeter AS text[]),
        status = CASE WHEN readable THEN status ELSE 'disabled' END,
        disabled_reason = CASE WHEN readable OR status = 'disabled' THEN disabled_reason ELSE 'not-entitled' END,
        lease = CASE WHEN readable THEN lease END, leased_until = CASE WHEN readable THEN leased_until END
    FROM mine WHERE s.id = mine.id
""")


def policy_of(settings: Settings) -> Policy:
    """Where deliveries may go: loopback only in development; private networks only when they are named."""
    return Policy(
        loopback=settings.environment == "development", networks=tuple(ip_network(network) for network in settings.webhook_networks)
    )


def _owner(caller: Principal) -> dict[str, Any]:
    """An administrator sees and ends every client's subscriptions: a client whose access ended cannot be asked to."""
    return {"owner": caller.owner, "everyone": caller.role is Role.ADMINISTRATOR}


def _seen_by(caller: Principal) -> dict[str, Any]:
    return {**_owner(caller), "streams": caller.streams(), "lasts": LASTS}


def _claims(caller: Principal) -> dict[str, Any]:
    """What says which streams the caller may read."""
    return {"role": caller.role.value, "organization": caller.organization, "perimeter": sorted(caller.perimeter)}


async def renew(caller: Caller, database: Db) -> None:
    """Before any answer about streams or subscriptions: the caller's subscriptions go on for `LASTS`, but for those to a stream that its token of today
    does not let it read; these are disabled, a turn under way included."""
    async with database.transaction() as session:
        await session.execute(_RENEW, {"owner": caller.owner, "streams": caller.streams(), **_claims(caller)})


Renewed = Depends(renew)


async def subscribe(
    session: AsyncSession, vault: Vault, policy: Policy, caller: Principal, *, stream: str, url: str, after: int | None
) -> Subscription:
    """Subscribe the caller to a stream it may read, from after number `after` on, or from now on. The secret is opened by `open_secret`."""
    if stream not in caller.streams():
        raise NotFound(
            "Ce flux n'existe pas, ou n'est pas dans votre périmètre.", pointers=[("/stream", "Flux inconnu : voir GET /v1/streams.")]
        )
    try:
        checked_url(url, policy)
    except UrlRefused as refused:
        raise Invalid("L'adresse de livraison ne convient pas.", pointers=[("/url", str(refused))]) from None
    await session.execute(text("SELECT pg_advisory_xact_lock(hashtextextended(:lock, 0))"), {"lock": f"subscriptions {caller.owner}"})
    held = await session.scalar(text("SELECT count(*) FROM subscriptions WHERE owner = :owner"), {"owner": caller.owner})
    if held is not None and held >= MOST:
        raise TooManySubscriptions(f"Vous avez déjà {MOST} abonnements : supprimez-en un avant d'en créer un autre.")
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
            "owner": caller.owner,
            "client": caller.client_id,
            **_claims(caller),
            "stream": stream,
            "url": url,
            "key_id": key.id,
            "secret": key.seal(new_secret().encode(), context=SECRET),
            "epoch": head.epoch,
            "sequence": head.sequence if after is None else after,
        },
    )
    return await subscription(session, caller, subscription_id)


async def subscription(session: AsyncSession, caller: Principal, subscription_id: UUID) -> Subscription:
    row = (await session.execute(_READ, {"id": subscription_id, **_seen_by(caller)})).one_or_none()
    if row is None:
        raise NotFound
    return Subscription(*row)


async def subscriptions(session: AsyncSession, caller: Principal, *, after: UUID | None, limit: int) -> list[Subscription]:
    rows = await session.execute(_LIST, {"after": after or UUID(int=0), "limit": limit, **_seen_by(caller)})
    return [Subscription(*row) for row in rows]


async def open_secret(session: AsyncSession, vault: Vault, caller: Principal, subscription_id: UUID) -> str:
    """The secret in clear: shown when it was made, to its owner, and never again."""
    row = await _operable(session, caller, subscription_id)
    key = await vault.open_key(session, row.key_id)
    return key.open(row.secret, context=SECRET).decode()


async def _locked(session: AsyncSession, caller: Principal, subscription_id: UUID) -> Row[Any]:
    row = (await session.execute(_FOR_CHANGE, {"id": subscription_id, **_owner(caller)})).one_or_none()
    if row is None:
        raise NotFound
    return row


async def _operable(session: AsyncSession, caller: Principal, subscription_id: UUID) -> Row[Any]:
    """Whoever may not read a stream may see and end its subscription, and nothing else."""
    row = await _locked(session, caller, subscription_id)
    if row.stream not in caller.streams():
        raise NotFound
    return row


async def rotate_secret(session: AsyncSession, vault: Vault, caller: Principal, subscription_id: UUID) -> Subscription:
    """Make a new secret. The former one signs beside it for a day."""
    row = await _operable(session, caller, subscription_id)
    key = await vault.open_key(session, row.key_id)
    await session.execute(
        text("UPDATE subscriptions SET former_secret = secret, former_secret_until = :until, secret = :secret WHERE id = :id"),
        {"id": row.id, "until": datetime.now(UTC) + FORMER_SECRET_FOR, "secret": key.seal(new_secret().encode(), context=SECRET)},
    )
    return await subscription(session, caller, subscription_id)


async def resume(session: AsyncSession, caller: Principal, subscription_id: UUID) -> Subscription:
    """Deliver again, from the cursor on, after a disabled subscription's cause is gone. Raises SubscriptionTooOld where that is no longer kept."""
    row = await _operable(session, caller, subscription_id)
    if row.status == "active":
        raise SubscriptionActive("Cet abonnement est actif : il n'y a rien à reprendre.")
    kept = (await streams.head(session, row.stream)).purged_sequence
    if await goes_on_after(session, row.stream, row.epoch, row.sequence) < kept:
        raise SubscriptionTooOld(
            "Les événements qui suivent le dernier livré ne sont plus conservés : relisez les listes, supprimez cet abonnement et créez-en un autre"
            " à partir de leur en-tête Stream-Position.",
            more={"oldest_sequence": kept + 1},
        )
    await session.execute(
        text(
            "UPDATE subscriptions SET status = 'active', disabled_reason = NULL, failures = 0, failing_since = NULL, next_attempt_at = now()"
            " WHERE id = :id"
        ),
        {"id": row.id},
    )
    return await subscription(session, caller, subscription_id)


async def goes_on_after(session: AsyncSession, stream: str, epoch: int, sequence: int) -> int:
    """The number after which a cursor goes on: a stream that was restored goes on from an earlier number, and so does the cursor."""
    replaced: int | None = await session.scalar(_REPLACED, {"stream": stream, "epoch": epoch})
    return sequence if replaced is None else min(sequence, replaced)


async def unsubscribe(session: AsyncSession, vault: Vault, caller: Principal, subscription_id: UUID) -> None:
    """End it, and destroy its secret. An event under way may still arrive. That it was given events, and how far it took them, is kept."""
    row = await _locked(session, caller, subscription_id)
    await session.execute(_END, {"id": row.id})
    await vault.destroy(session, row.key_id)


async def ping(runtime: Runtime, sender: Sender, caller: Principal, subscription_id: UUID) -> str | None:
    """Send a test message now, outside the stream: without number, moving nothing. Gives why it did not arrive, None when it did."""
    async with runtime.database.transaction() as session:
        row = await _operable(session, caller, subscription_id)
        secret = (await runtime.vault.open_key(session, row.key_id)).open(row.secret, context=SECRET).decode()
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
        async with sender.to(row.url) as channel:
            await channel.post(headers | signature_headers(message_id, body, [secret], datetime.now(UTC)), body)
    except Undeliverable as failure:
        return failure.code
    return None
