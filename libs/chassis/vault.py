"""The vault: personal content is sealed with a data key of its own; erasing the content is destroying that key.

Envelope encryption. Each person and each narrative has a random 256-bit *data key*; the database holds it *wrapped* by a
*key-encryption key* (KEK) that only the configuration holds. AES-256-GCM everywhere, with random 96-bit nonces (NIST SP
800-38D §8.3: 2^32 uses of one key; a data key seals a handful of texts, a KEK wraps some millions of keys in ten years).

What is sealed is bound to its key and to its *context* (`"person/identity"`): a sealed text moved to another row, column
or key does not open. A destroyed key leaves a row without key, so that "erased" and "never existed" stay apart. The dead row
that PostgreSQL keeps of it goes within minutes (`tidy`, a job of every service); its statistics hold no wrapped key. What is
left in the write-ahead log and in backups goes with their retention, which therefore stays under the month that erasure has
(deploy/README.md), and opens only with the KEK of its day.
"""

import hmac
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from libs.chassis.database import RawConnection, copy
from libs.chassis.ids import new_id
from libs.chassis.refusals import Gone

_NONCE = 12
_TAG = 16
_VERSION = b"\x01"


class KeyDestroyed(Gone):
    """The content was erased: its data key no longer exists anywhere."""

    type: ClassVar[str] = "content-erased"
    title: ClassVar[str] = "Contenu effacé"

    def __init__(self, detail: str = "Ce contenu a été effacé définitivement et ne peut plus être lu.") -> None:
        super().__init__(detail)


class VaultError(RuntimeError):
    """The vault cannot do its work: an operator's matter, never shown to a caller."""


class KeyUnknown(VaultError):
    """No such data key was ever made in this database."""


class KeyEncryptionKeyMissing(VaultError):
    """A data key is wrapped by a key-encryption key that the configuration no longer holds."""


class SealBroken(VaultError):
    """The sealed bytes were changed, or belong to another key or context."""


@dataclass(frozen=True, slots=True)
class DataKey:
    """An opened data key. It lives as long as the request that opened it and is never written, logged or shown."""

    id: UUID
    _cipher: AESGCM = field(repr=False)

    def seal(self, text: bytes, *, context: str) -> bytes:
        """`text` encrypted, for this key and this context only: one version byte, nonce, ciphertext, tag (29 bytes more than the text)."""
        nonce = os.urandom(_NONCE)
        return _VERSION + nonce + self._cipher.encrypt(nonce, text, self._bound_to(context))

    def open(self, sealed: bytes, *, context: str) -> bytes:
        """The text that `seal` was given. Raises SealBroken when it was changed, moved, or sealed for another context."""
        if len(sealed) < 1 + _NONCE + _TAG or sealed[:1] != _VERSION:
            raise SealBroken(f"what key {self.id} should open is not a sealed text of version 1")
        try:
            return self._cipher.decrypt(sealed[1 : 1 + _NONCE], sealed[1 + _NONCE :], self._bound_to(context))
        except InvalidTag:
            raise SealBroken(f"what key {self.id} should open was changed, or was sealed by another key or for another context") from None

    def _bound_to(self, context: str) -> bytes:
        return self.id.bytes + context.encode()


@dataclass(frozen=True, slots=True)
class FreshKey:
    """A data key just made, and the row that keeps it: store it in the transaction that stores what it sealed."""

    key: DataKey
    purpose: str
    kek_id: str
    wrapped: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Rewrapped:
    """What one batch of `rewrap` did: how many keys it wrapped anew, and the id from which the next batch goes on (None: that was all)."""

    count: int
    last: UUID | None


_SELECT = text("SELECT id, purpose, kek_id, wrapped FROM vault_keys WHERE id = ANY(CAST(:ids AS uuid[]))")
_DESTROY = text("""
    UPDATE vault_keys SET wrapped = NULL, destroyed_at = now() WHERE id = ANY(CAST(:ids AS uuid[])) AND wrapped IS NOT NULL
    RETURNING id
""")
_NEXT_TO_REWRAP = text("""
    SELECT id, purpose, kek_id, wrapped FROM vault_keys
    WHERE id > :after AND kek_id <> :active AND wrapped IS NOT NULL ORDER BY id LIMIT :limit FOR UPDATE
""")
_REWRAP = text("""
    UPDATE vault_keys SET kek_id = :active, wrapped = new.wrapped
    FROM unnest(CAST(:ids AS uuid[]), CAST(:wrapped AS bytea[])) AS new (id, wrapped) WHERE vault_keys.id = new.id
""")
_REMAINING = text("SELECT kek_id, count(*) AS living FROM vault_keys WHERE wrapped IS NOT NULL GROUP BY kek_id ORDER BY kek_id")
_FIRST = UUID(int=0)


class Vault:
    """Makes, opens, destroys and re-wraps data keys. Several key-encryption keys may be known; new keys are wrapped by the active one.

    To rotate: add the new KEK beside the old one everywhere, then make it active everywhere, then `rewrap`, then remove the old one when
    `wrapped_by` no longer names it. Nothing stops in between: each step leaves every replica able to open every key.
    """

    def __init__(self, keks: Mapping[str, bytes], active: str) -> None:
        """`keks`: 32 bytes each, by id. Raises ValueError in a sentence for whoever configures the service."""
        if active not in keks:
            raise ValueError(f"the active vault key {active!r} is not among the vault keys {sorted(keks)}")
        for kek_id, kek in keks.items():
            if len(kek) != 32:
                raise ValueError(f"the vault key {kek_id!r} has {len(kek)} bytes instead of 32")
        self._keks = {kek_id: AESGCM(kek) for kek_id, kek in keks.items()}
        self.active = active

    def fresh_key(self, purpose: str) -> FreshKey:
        """A new random data key, not stored yet: touches no database."""
        key_id = new_id()
        secret = AESGCM.generate_key(256)
        wrapped = self._wrap(key_id, purpose, secret)
        return FreshKey(DataKey(key_id, AESGCM(secret)), purpose, self.active, wrapped)

    async def store(self, session: AsyncSession, keys: Sequence[FreshKey]) -> None:
        """Keep fresh keys: one statement for all of them."""
        if not keys:
            return
        rows = [(fresh.key.id, fresh.purpose, fresh.kek_id, fresh.wrapped) for fresh in keys]
        await copy(session, "vault_keys", ("id", "purpose", "kek_id", "wrapped"), rows)

    async def new_keys(self, session: AsyncSession, purposes: Sequence[str]) -> list[DataKey]:
        """New data keys, one for each purpose, in that order, stored with one statement."""
        keys = [self.fresh_key(purpose) for purpose in purposes]
        await self.store(session, keys)
        return [fresh.key for fresh in keys]

    async def new_key(self, session: AsyncSession, purpose: str) -> DataKey:
        """A new data key, stored in the session's transaction.

        `purpose` says what it seals (`"person"`, `"narrative"`): never a personal value.
        """
        (key,) = await self.new_keys(session, [purpose])
        return key

    async def open_keys(self, session: AsyncSession, ids: Sequence[UUID]) -> dict[UUID, DataKey]:
        """The living keys among `ids`, in one statement. A destroyed key is missing in the answer.

        Raises KeyUnknown for one that never existed.
        """
        if not ids:
            return {}
        wanted = set(ids)
        rows = (await session.execute(_SELECT, {"ids": list(wanted)})).all()
        if len(rows) != len(wanted):
            raise KeyUnknown(f"{len(wanted) - len(rows)} of {len(wanted)} data keys are not in the vault")
        return {row.id: self._opened(row.id, row.purpose, row.kek_id, row.wrapped) for row in rows if row.wrapped is not None}

    async def open_key(self, session: AsyncSession, key_id: UUID) -> DataKey:
        """The data key. Raises KeyDestroyed when it was destroyed, KeyUnknown when it never existed."""
        key = (await self.open_keys(session, [key_id])).get(key_id)
        if key is None:
            raise KeyDestroyed()
        return key

    async def destroy(self, session: AsyncSession, *key_ids: UUID) -> int:
        """Destroy keys: what they sealed can never be read again. Gives how many lived until now; one destroyed before is no error."""
        return len((await session.execute(_DESTROY, {"ids": list(key_ids)})).all())

    async def rewrap(self, session: AsyncSession, limit: int = 500, after: UUID | None = None) -> Rewrapped:
        """Wrap up to `limit` keys, in the order of their ids from `after` on, by the active KEK.

        One short transaction per batch; readers never wait. What is sealed does not change. A key destroyed meanwhile stays
        destroyed: its row is locked first.
        """
        rows = (await session.execute(_NEXT_TO_REWRAP, {"after": after or _FIRST, "active": self.active, "limit": limit})).all()
        if rows:
            wrapped = [self._wrap(row.id, row.purpose, self._unwrap(row.id, row.purpose, row.kek_id, row.wrapped)) for row in rows]
            await session.execute(_REWRAP, {"active": self.active, "ids": [row.id for row in rows], "wrapped": wrapped})
        return Rewrapped(len(rows), rows[-1].id if len(rows) == limit else None)

    async def wrapped_by(self, session: AsyncSession) -> dict[str, int]:
        """How many living keys each KEK wraps: a KEK may leave the configuration once it is not named here."""
        return {row.kek_id: row.living for row in (await session.execute(_REMAINING)).all()}

    def _wrap(self, key_id: UUID, purpose: str, secret: bytes) -> bytes:
        nonce = os.urandom(_NONCE)
        return nonce + self._keks[self.active].encrypt(nonce, secret, _wrapped_for(key_id, purpose))

    def _unwrap(self, key_id: UUID, purpose: str, kek_id: str, wrapped: bytes) -> bytes:
        kek = self._keks.get(kek_id)
        if kek is None:
            raise KeyEncryptionKeyMissing(f"data key {key_id} is wrapped by the vault key {kek_id!r}, which is not configured")
        try:
            return kek.decrypt(wrapped[:_NONCE], wrapped[_NONCE:], _wrapped_for(key_id, purpose))
        except InvalidTag:
            raise SealBroken(
                f"the wrapped data key {key_id} was changed, or the vault key {kek_id!r} is not the one that wrapped it"
            ) from None

    def _opened(self, key_id: UUID, purpose: str, kek_id: str, wrapped: bytes) -> DataKey:
        return DataKey(key_id, AESGCM(self._unwrap(key_id, purpose, kek_id, wrapped)))


_MAY_VACUUM = "SELECT has_table_privilege('vault_keys', 'MAINTAIN')"


async def tidy(connection: RawConnection) -> None:
    """Take the dead rows of destroyed keys out of the table's pages. Outside a transaction; nobody waits for it, and a transaction older than a destruction keeps
    its rows until the next time. It reads what changed since the last time (measured: 0.04 s for 500 destroyed keys of a million).

    Raises VaultError where the service may not: PostgreSQL only warns.
    """
    if not await connection.fetchval(_MAY_VACUUM):
        raise VaultError("the service's role neither owns vault_keys nor may MAINTAIN it: destroyed keys stay in its pages")
    await connection.execute("VACUUM vault_keys")


def _wrapped_for(key_id: UUID, purpose: str) -> bytes:
    return key_id.bytes + purpose.encode()


def keyed_hash(key: bytes, text: str) -> bytes:
    """HMAC-SHA256 of a text: equal texts are found without being read. What is normalised before is the caller's rule."""
    return hmac.digest(key, text.encode(), "sha256")
