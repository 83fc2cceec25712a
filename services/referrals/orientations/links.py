"""Signed single-use links: a partner without account answers one orientation, once (docs/decisions: links show no name)."""

import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Self, cast
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from libs.chassis.ids import new_id
from libs.chassis.runtime import Runtime
from libs.chassis.settings import secret_bytes
from libs.contracts.vocabularies import OrientationStatus
from services.referrals.orientations.models import Orientation, OrientationLink
from services.referrals.settings import Settings

_MAC = 24

_REVOKE = text(
    "UPDATE orientation_links SET revoked_at = :now WHERE orientation_id = :orientation AND used_at IS NULL AND revoked_at IS NULL"
)
_WANTED = text(
    "SELECT p.by_link, (SELECT l.id FROM orientation_links l WHERE l.orientation_id = :orientation AND l.used_at IS NULL"
    " AND l.revoked_at IS NULL AND l.expires_at > :now) AS open FROM notice_preferences p WHERE p.recipient = :recipient AND p.mode <> 'off'"
)
_LAST = text(
    "SELECT l.id FROM orientation_links l JOIN notice_preferences p ON p.recipient = :recipient AND p.by_link"
    " WHERE l.orientation_id = :orientation ORDER BY l.created_at DESC, l.id DESC LIMIT 1"
)
_USE = text(
    "UPDATE orientation_links SET used_at = :now WHERE id = :id AND used_at IS NULL AND revoked_at IS NULL AND expires_at > :now RETURNING id"
)


@dataclass(frozen=True, slots=True)
class Links:
    """Makes and reads links. A token is the link's id and a signature of 192 bits: made anew when it is needed, stored only as SHA-256."""

    key: bytes = field(repr=False)
    public_url: str
    days: int

    @classmethod
    def of(cls, runtime: Runtime) -> Self:
        settings = cast(Settings, runtime.settings)
        key = hmac.digest(secret_bytes(settings.search_key), b"maillon orientation links", sha256)
        return cls(key, settings.public_url, settings.link_days)

    def token(self, link_id: UUID) -> str:
        return urlsafe_b64encode(link_id.bytes + self._mac(link_id)).decode().rstrip("=")

    def id_of(self, token: str) -> UUID | None:
        """The link of a token that we signed; None for any other, without a look at the database."""
        try:
            raw = urlsafe_b64decode(token.encode("ascii") + b"=" * (-len(token) % 4))
        except ValueError:
            return None
        if len(raw) != 16 + _MAC or not hmac.compare_digest(raw[16:], self._mac(UUID(bytes=raw[:16]))):
            return None
        return UUID(bytes=raw[:16])

    def url(self, link_id: UUID) -> str:
        return f"{self.public_url}/reponse/{self.token(link_id)}"

    def _mac(self, link_id: UUID) -> bytes:
        return hmac.digest(self.key, link_id.bytes, sha256)[:_MAC]

    async def make(self, session: AsyncSession, orientation: Orientation, now: datetime) -> OrientationLink:
        """A new link; the one before no longer holds. The caller has locked the orientation."""
        await session.execute(_REVOKE, {"now": now, "orientation": orientation.id})
        expires_at = now + timedelta(days=self.days)
        if orientation.status == OrientationStatus.REQUESTED:
            expires_at = min(expires_at, orientation.expires_at)
        link_id = new_id()
        made = OrientationLink(
            id=link_id,
            orientation_id=orientation.id,
            token_hash=token_hash(self.token(link_id)),
            created_at=now,
            expires_at=expires_at,
            used_at=None,
            revoked_at=None,
        )
        session.add(made)
        await session.flush()
        return made

    async def for_partner(self, session: AsyncSession, orientation: Orientation, now: datetime) -> UUID | None:
        """The open link of an organization that answers by link, made if there is none; None for one with an account."""
        recipient = f"organization:{orientation.organization_id}"
        wanted = (await session.execute(_WANTED, {"orientation": orientation.id, "recipient": recipient, "now": now})).one_or_none()
        if wanted is None or not wanted.by_link:
            return None
        return cast(UUID, wanted.open) or (await self.make(session, orientation, now)).id


async def last_of(session: AsyncSession, orientation: Orientation) -> UUID | None:
    """The link that an organization which answers by link was given last, open or not: by it, it knows which orientation is spoken of."""
    recipient = f"organization:{orientation.organization_id}"
    return cast(UUID | None, await session.scalar(_LAST, {"orientation": orientation.id, "recipient": recipient}))


def token_hash(token: str) -> bytes:
    return sha256(token.encode()).digest()


async def use(session: AsyncSession, link_id: UUID, now: datetime) -> bool:
    """Spend it, once: False when it was spent, revoked or has expired. After the orientation was locked."""
    return (await session.execute(_USE, {"id": link_id, "now": now})).one_or_none() is not None
