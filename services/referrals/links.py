"""Signed single-use links: a partner without account answers one orientation, once (decision record 0007)."""

import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from hashlib import sha256
from uuid import UUID

from libs.chassis.runtime import Runtime
from libs.chassis.settings import secret_bytes

_MAC = 24


def _mac(runtime: Runtime, link_id: UUID) -> bytes:
    key = hmac.digest(secret_bytes(runtime.settings.search_key), b"maillon orientation links", sha256)
    return hmac.digest(key, link_id.bytes, sha256)[:_MAC]


def token_of(runtime: Runtime, link_id: UUID) -> str:
    """What the link carries: its id and a signature of 192 bits. Made anew when it is needed, never stored."""
    return urlsafe_b64encode(link_id.bytes + _mac(runtime, link_id)).decode()


def link_id_of(runtime: Runtime, token: str) -> UUID | None:
    """The link of a token that we signed; None for any other, without a look at the database."""
    try:
        raw = urlsafe_b64decode(token.encode("ascii"))
    except ValueError:
        return None
    if len(raw) != 16 + _MAC or not hmac.compare_digest(raw[16:], _mac(runtime, UUID(bytes=raw[:16]))):
        return None
    return UUID(bytes=raw[:16])


def token_hash(token: str) -> bytes:
    return sha256(token.encode()).digest()


def link_url(runtime: Runtime, link_id: UUID) -> str:
    return f"{runtime.settings.public_url}/reponse/{token_of(runtime, link_id)}"
