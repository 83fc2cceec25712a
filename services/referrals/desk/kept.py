"""What was written in a form that could not be taken because its session was over: kept, sealed, until the same person sends it (ADR 0014).

A form says who it was made for (`whose`), signed: so it is known after the session is gone, cookie and all. What it says is sealed by a key of that person's
and of our own. It is given back in the same form to the same person, and never sent for them.
"""

import hmac
import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Final, Self
from uuid import UUID

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from fastapi import Request
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from libs.chassis.idempotency import key_is_one
from libs.chassis.runtime import Runtime
from libs.chassis.security import Principal
from libs.chassis.settings import secret_bytes
from libs.chassis.vault import DataKey, SealBroken
from services.referrals.desk.forms import Form, own_path

LONGEST: Final = timedelta(hours=1)
"""To sign in again, and send it."""
_FORM_LASTS: Final = timedelta(days=3)
"""How old the page may be that it was written on: over a weekend."""
_MOST: Final = 10
"""Of one person; the oldest goes. Each is no larger than a form may be."""
_NOT_WRITTEN: Final = frozenset({"csrf", "whose", "version", "key", "with_narrative"})

KEPT = "maillon.desk_kept"
"""Where the guard puts the form that comes back to its page, in the ASGI scope."""

_KEEP = text(
    "INSERT INTO desk_kept_forms (owner, path, key, sealed, ends_at) SELECT CAST(:owner AS bytea), CAST(:path AS text), :key, :sealed, :ends"
    " WHERE NOT EXISTS (SELECT FROM erasures e WHERE e.erased_at >= :made AND e.referral_id IN (SELECT CAST(:about AS uuid)"
    "  UNION ALL SELECT o.referral_id FROM orientations o WHERE o.id = :about UNION ALL SELECT q.referral_id FROM requisitions q WHERE q.id = :about))"
    " ON CONFLICT (owner, path) DO UPDATE SET key = excluded.key, sealed = excluded.sealed, ends_at = excluded.ends_at RETURNING owner"
)
"""Unless something was erased since the page was made of the referral that it is about, or of whose orientation or requisition it is: whom it speaks of,
nobody can tell."""
_NO_MORE = text(
    "DELETE FROM desk_kept_forms WHERE owner = :owner AND path IN"
    " (SELECT path FROM desk_kept_forms WHERE owner = :owner ORDER BY ends_at DESC, path OFFSET :most)"
)
_FIND = text("SELECT key, sealed FROM desk_kept_forms WHERE owner = :owner AND path = :path AND ends_at > :now")
_FORGET = text("DELETE FROM desk_kept_forms WHERE owner = :owner AND path = :path AND key = :key")
_SWEEP = text("DELETE FROM desk_kept_forms WHERE ends_at <= :now")


def kept_form(request: Request) -> Form | None:
    """What comes back to the page that is asked for."""
    found: Form | None = request.scope.get(KEPT)
    return found


@dataclass(frozen=True, slots=True)
class KeptForms:
    """Signs, seals and opens. `owner`: who wrote it, as a keyed hash. None of its methods commits."""

    key: bytes = field(repr=False)

    @classmethod
    def of(cls, runtime: Runtime) -> Self:
        return cls(hmac.digest(secret_bytes(runtime.settings.search_key), b"maillon desk kept forms", sha256))

    def owner_of(self, caller: Principal) -> bytes:
        return self._digest(b"owner", caller.owner.encode())

    def whose(self, caller: Principal, now: datetime) -> str:
        """For a form that is made now for them."""
        said = int(now.timestamp()).to_bytes(8, "big") + self.owner_of(caller)
        return urlsafe_b64encode(said + self._digest(b"whose", said)).decode()

    def owner_said(self, form: Form, now: datetime) -> bytes | None:
        """Whom the form was made for; None when it does not say so, is too old, or nothing was written in it."""
        if not key_is_one(form.one("key")) or all(name in _NOT_WRITTEN for name, _ in form.pairs):
            return None
        try:
            given = urlsafe_b64decode(form.one("whose").encode())
        except ValueError:
            return None
        said, signature = given[:40], given[40:]
        if not hmac.compare_digest(signature, self._digest(b"whose", said)):
            return None
        return said[8:] if _made_at(said) > now - _FORM_LASTS else None

    async def keep(self, session: AsyncSession, owner: bytes, path: str, form: Form, now: datetime) -> bool:
        """All but the session's own proof, in place of what was kept for that page before. Gives whether it may be kept."""
        pairs = [pair for pair in form.pairs if pair[0] not in ("csrf", "whose")]
        sealed = self._key_of(owner).seal(json.dumps(pairs).encode(), context=_context(path))
        given = {"owner": owner, "path": path, "key": form.one("key"), "sealed": sealed, "ends": now + LONGEST}
        given |= {"about": _about(path), "made": _made_at(urlsafe_b64decode(form.one("whose").encode()))}
        kept = (await session.scalars(_KEEP, given)).all()
        await session.execute(_NO_MORE, {"owner": owner, "most": _MOST})
        return bool(kept)

    async def find(self, session: AsyncSession, caller: Principal, path: str, now: datetime) -> Form | None:
        """What the caller wrote on that page. What another key sealed is gone."""
        owner = self.owner_of(caller)
        row = (await session.execute(_FIND, {"owner": owner, "path": path, "now": now})).one_or_none()
        if row is None:
            return None
        try:
            pairs = json.loads(self._key_of(owner).open(row.sealed, context=_context(path)))
        except SealBroken:
            await session.execute(_FORGET, {"owner": owner, "path": path, "key": row.key})
            return None
        return Form(tuple((name, value) for name, value in pairs))

    async def forget(self, session: AsyncSession, caller: Principal, path: str, form: Form) -> None:
        """That very form was sent."""
        if key := form.one("key"):
            await session.execute(_FORGET, {"owner": self.owner_of(caller), "path": path, "key": key})

    def _key_of(self, owner: bytes) -> DataKey:
        return DataKey(UUID(bytes=owner[:16]), AESGCM(self._digest(b"key", owner)))

    def _digest(self, use: bytes, said: bytes) -> bytes:
        return hmac.digest(self.key, use + b"\0" + said, sha256)


def has_a_page(path: str) -> bool:
    """Whether signing in can lead back to it."""
    return own_path(path, "") == path


def _made_at(whose: bytes) -> datetime:
    """To the second."""
    return datetime.fromtimestamp(int.from_bytes(whose[:8], "big"), UTC)


def _about(path: str) -> UUID | None:
    """`/desk/referrals/<id>/close`, and the pages of orientations and requisitions."""
    parts = path.split("/")
    try:
        return UUID(parts[3]) if len(parts) > 3 else None
    except ValueError:  # a page of no referral
        return None


def _context(path: str) -> str:
    return f"desk/kept {path}"


async def sweep(session: AsyncSession, now: datetime) -> None:
    """Forget what was not sent in time."""
    await session.execute(_SWEEP, {"now": now})
