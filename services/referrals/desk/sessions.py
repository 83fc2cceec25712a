"""Sessions of the desk: a row in PostgreSQL, a random secret in the browser's cookie.

The row holds the secret's hash. The tokens are sealed by a key made of the secret and of our own key: neither the database, nor the configuration,
nor both open them without the browser. A new secret at each sign-in, so that none can be planted beforehand.
"""

import asyncio
import hmac
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any, Final, NamedTuple, Self, cast
from uuid import UUID

import structlog
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from fastapi import Request
from pydantic import ValidationError
from sqlalchemy import TextClause, text
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.responses import Response

from libs.chassis import problems
from libs.chassis.database import Database
from libs.chassis.refusals import Unauthenticated, Unavailable
from libs.chassis.runtime import Runtime
from libs.chassis.security import Principal
from libs.chassis.settings import secret_bytes
from libs.chassis.vault import DataKey, SealBroken
from libs.contracts.vocabularies import Purpose
from services.referrals.desk import kept
from services.referrals.desk.provider import Pending, Provider, SignInRefused, Tokens
from services.referrals.settings import Settings

_log = structlog.get_logger(__name__)

_TOKENS: Final = "desk/tokens"
_PENDING: Final = "desk/pending"
_PENDING_SECONDS: Final = 600
_SECRET_LENGTH: Final = 43
_RENEWAL_SECONDS: Final = 60
"""After these another may try: who began is gone. The provider is given half of them at most (`provider._read`, `IssuerKeys`)."""
_LOOKS: Final = 50
_LOOK_SECONDS: Final = 0.2
"""How often, and how far apart, a request looks whether another one renewed the tokens of their session: for ten seconds."""

_STORE_PAUSES: Final = (0.1, 0.3, 1.0)
"""Before each further try to store renewed tokens while the database is away: the provider may take the former ones no more."""

_MAKE = text(
    "INSERT INTO desk_sessions (id_hash, sealed, purpose, created_at, seen_at, expires_at) VALUES (:id, :sealed, NULL, :now, :now, :ends)"
)
_USE = text(
    "UPDATE desk_sessions SET seen_at = :now WHERE id_hash = :id AND seen_at > :idle AND expires_at > :now RETURNING sealed, purpose"
)
_CLAIM = text(
    "UPDATE desk_sessions SET renewing_until = now() + make_interval(secs => :seconds)"
    " WHERE id_hash = :id AND sealed = :former AND (renewing_until IS NULL OR renewing_until <= now()) RETURNING id_hash"
)
_RENEW = text("UPDATE desk_sessions SET sealed = :sealed, renewing_until = NULL WHERE id_hash = :id AND sealed = :former")
_GIVE_UP = text("UPDATE desk_sessions SET renewing_until = NULL WHERE id_hash = :id AND sealed = :former")
_END = text("DELETE FROM desk_sessions WHERE id_hash = :id")
_PURPOSE = text("UPDATE desk_sessions SET purpose = :purpose WHERE id_hash = :id")
_SWEEP = text("DELETE FROM desk_sessions WHERE expires_at <= :now OR seen_at <= :idle")


@dataclass(frozen=True, slots=True)
class SignedIn:
    """Who sits in front of the desk, for one request."""

    id_hash: bytes = field(repr=False)
    caller: Principal
    name: str
    purpose: Purpose | None
    csrf: str = field(repr=False)
    whose: str = field(repr=False)
    """What a form says of whom it was made for: it outlives the session (kept.py)."""
    tokens: Tokens = field(repr=False)


class _Used(NamedTuple):
    """What a session holds, as it was read."""

    sealed: bytes
    tokens: Tokens
    purpose: Purpose | None


@dataclass(frozen=True, slots=True)
class Sessions:
    """Makes, finds and ends them. Cookies are bound to this host by the prefix `__Host-` wherever the desk is on https."""

    key: bytes = field(repr=False)
    secure: bool
    idle: timedelta
    longest: timedelta

    @classmethod
    def of(cls, runtime: Runtime) -> Self:
        settings = cast(Settings, runtime.settings)
        key = hmac.digest(secret_bytes(settings.search_key), b"maillon desk sessions", sha256)
        return cls(
            key,
            settings.desk_base.startswith("https://"),
            timedelta(minutes=settings.desk_idle_minutes),
            timedelta(minutes=settings.desk_session_minutes),
        )

    # The browser's side

    @property
    def cookie(self) -> str:
        return "__Host-maillon-desk" if self.secure else "maillon-desk"

    @property
    def pending_cookie(self) -> str:
        return "__Host-maillon-sign-in" if self.secure else "maillon-sign-in"

    def give(self, response: Response, secret: str) -> None:
        self._set(response, self.cookie, secret, None)

    def take_back(self, response: Response) -> None:
        self._set(response, self.cookie, "", 0)

    def give_pending(self, response: Response, pending: Pending) -> None:
        sealed = self._pending_key().seal(pending.model_dump_json().encode(), context=_PENDING)
        self._set(response, self.pending_cookie, urlsafe_b64encode(sealed).rstrip(b"=").decode(), _PENDING_SECONDS)

    def take_back_pending(self, response: Response) -> None:
        self._set(response, self.pending_cookie, "", 0)

    def pending(self, request: Request) -> Pending:
        """What was given to this browser. Raises SignInRefused."""
        from_browser = request.cookies.get(self.pending_cookie, "")
        try:
            return Pending.model_validate_json(self._pending_key().open(_bytes(from_browser), context=_PENDING))
        except (ValueError, SealBroken, ValidationError):
            raise SignInRefused(
                "Cette connexion n'a pas été commencée dans ce navigateur, ou il y a trop longtemps : recommencez."
            ) from None

    def _pending_key(self) -> DataKey:
        return DataKey(UUID(int=0), AESGCM(hmac.digest(self.key, b"pending", sha256)))

    def _set(self, response: Response, name: str, value: str, max_age: int | None) -> None:
        response.set_cookie(name, value, max_age=max_age, path="/", secure=self.secure, httponly=True, samesite="lax")

    # The server's side. None that takes a session commits

    async def make(self, session: AsyncSession, tokens: Tokens, now: datetime) -> str:
        """A new session, and the secret that the browser keeps of it."""
        secret = secrets.token_urlsafe(32)
        sealed = self._key_of(secret).seal(tokens.model_dump_json().encode(), context=_TOKENS)
        await session.execute(_MAKE, {"id": _hash(secret), "sealed": sealed, "now": now, "ends": now + self.longest})
        return secret

    async def find(self, request: Request, provider: Provider, now: datetime, before_waiting: Callable[[], None]) -> SignedIn | None:
        """Whose session the cookie names, used now; None when it is over or never was. Tokens that ended are renewed, where the provider does so.

        In transactions of its own: none is open while the provider is asked. Raises Unavailable, and what `before_waiting` raises, which is called before that.
        """
        secret = self.secret_of(request)
        if secret is None:
            return None
        runtime: Runtime = request.app.state.runtime
        for _ in range(_LOOKS):
            async with runtime.database.transaction() as session:
                used = await self._use(session, secret, now)
            if used is None:
                return None
            try:
                caller = await runtime.tokens.verify(used.tokens.access_token, before_waiting)
            except Unauthenticated:
                before_waiting()
                await self._renew(runtime.database, secret, used, provider)
            else:
                whose = kept.KeptForms.of(runtime).whose(caller, now)
                return SignedIn(_hash(secret), caller, used.tokens.name, used.purpose, self.csrf_of(secret), whose, used.tokens)
        raise Unavailable("Votre session attend le fournisseur d'identité, qui ne répond pas : réessayez dans un instant.")

    async def _use(self, session: AsyncSession, secret: str, now: datetime) -> _Used | None:
        id_hash = _hash(secret)
        row = (await session.execute(_USE, {"id": id_hash, "now": now, "idle": now - self.idle})).one_or_none()
        if row is None:
            return None
        try:
            tokens = Tokens.model_validate_json(self._key_of(secret).open(row.sealed, context=_TOKENS))
        except SealBroken:  # our own key has changed since
            await session.execute(_END, {"id": id_hash})
            return None
        return _Used(row.sealed, tokens, None if row.purpose is None else Purpose(row.purpose))

    async def _renew(self, database: Database, secret: str, used: _Used, provider: Provider) -> None:
        """New tokens in the place of those that ended; while another request gets them, a moment passes. Raises Unavailable.

        One at a time: a provider may take a refresh token that comes twice for a stolen one, and end everything.
        """
        mine = {"id": _hash(secret), "former": used.sealed}
        async with database.transaction() as session:
            claimed = (await session.execute(_CLAIM, mine | {"seconds": _RENEWAL_SECONDS})).one_or_none() is not None
        if not claimed:
            await asyncio.sleep(_LOOK_SECONDS)
            return
        try:
            tokens = await _renewed(provider, used.tokens)
            await asyncio.shield(self._store(database, secret, mine, tokens))
        except BaseException:  # that of a request which was cancelled too: the next one need not wait for the claim's end
            await asyncio.shield(_do(database, _GIVE_UP, mine))
            raise

    async def _store(self, database: Database, secret: str, mine: dict[str, bytes], tokens: Tokens | None) -> None:
        """In the place of the former ones; None: the session is over."""
        statement, given = _END, {"id": mine["id"]}
        if tokens is not None:
            statement, given = _RENEW, mine | {"sealed": self._key_of(secret).seal(tokens.model_dump_json().encode(), context=_TOKENS)}
        for pause in _STORE_PAUSES:
            try:
                return await _do(database, statement, given)
            except Exception as error:
                if not problems.is_passing(error):
                    raise
                _log.warning("desk.renewal_not_stored", error=type(error).__name__)
            await asyncio.sleep(pause)
        await _do(database, statement, given)

    async def end(self, session: AsyncSession, request: Request) -> None:
        """Of whatever session the cookie names."""
        secret = self.secret_of(request)
        if secret is not None:
            await session.execute(_END, {"id": _hash(secret)})

    async def remember(self, session: AsyncSession, signed_in: SignedIn, purpose: Purpose) -> None:
        await session.execute(_PURPOSE, {"id": signed_in.id_hash, "purpose": purpose.value})

    async def sweep(self, session: AsyncSession, now: datetime) -> None:
        await session.execute(_SWEEP, {"now": now, "idle": now - self.idle})

    def secret_of(self, request: Request) -> str | None:
        """What the cookie says, when it looks like one of ours."""
        given: Any = request.cookies.get(self.cookie)
        return given if isinstance(given, str) and len(given) == _SECRET_LENGTH and given.isascii() else None

    def _key_of(self, secret: str) -> DataKey:
        return DataKey(UUID(bytes=_hash(secret)[:16]), AESGCM(hmac.digest(self.key, b"tokens" + secret.encode(), sha256)))

    def csrf_of(self, secret: str) -> str:
        return urlsafe_b64encode(hmac.digest(self.key, b"csrf" + secret.encode(), sha256)).rstrip(b"=").decode()


async def _renewed(provider: Provider, tokens: Tokens) -> Tokens | None:
    """None when the provider ends the session. Raises Unavailable."""
    try:
        return (await provider.renew(tokens))[1]
    except SignInRefused:
        return None


async def _do(database: Database, statement: TextClause, given: dict[str, Any]) -> None:
    async with database.transaction() as session:
        await session.execute(statement, given)


def _hash(secret: str) -> bytes:
    return sha256(secret.encode()).digest()


def _bytes(text: str) -> bytes:
    return urlsafe_b64decode(text.encode("ascii") + b"=" * (-len(text) % 4))


async def sweep(runtime: Runtime) -> None:
    """Forget sessions that are over, and what was kept of their forms."""
    now = datetime.now(UTC)
    async with runtime.database.transaction() as session:
        await Sessions.of(runtime).sweep(session, now)
        await kept.sweep(session, now)
