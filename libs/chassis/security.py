"""Who calls: access tokens (RFC 9068) checked against the issuer's published keys, and the service's own token for reading feeds.

Only ES256, RS256 and Ed25519 (also under its older name EdDSA) count, each with a key of its own type; keys come from the configured JWKS
alone (`jku`, `jwk`, `x5u`, `x5c` of a token are never looked at). What a token says is kept, verified, until it expires.
"""

import asyncio
import json
import re
import time
import warnings
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Annotated, Any, NamedTuple
from uuid import UUID

import httpx
from fastapi import Depends, Request
from joserfc import jws, jwt
from joserfc.errors import JoseError, SecurityWarning
from joserfc.jwk import ECKey, Key, KeySet, OKPKey, RSAKey
from joserfc.jwt import JWTClaimsRegistry

from libs.chassis.refusals import Unauthenticated, Unavailable
from libs.chassis.settings import Settings
from libs.chassis.trust import trusted
from libs.contracts import vocabularies
from libs.contracts.audiences import streams_of
from libs.contracts.vocabularies import Role

# joserfc warns that the name EdDSA is deprecated (RFC 9864); providers still write it, and we accept it with Ed25519 keys only.
warnings.filterwarnings("ignore", message="EdDSA is deprecated", category=SecurityWarning)

_LONGEST_TOKEN = 8192
_LARGEST_JWKS = 262_144
_PERIMETER = re.compile(
    r"national|interior|justice|departement:(?:[0-9][0-9AB]|9[78][0-9])|[a-z_]{1,20}:[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}", re.ASCII
)
_ROLES = {role.value: role for role in Role}
_BEARER = re.compile(r"[Bb][Ee][Aa][Rr][Ee][Rr] +([A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+)", re.ASCII)


@dataclass(frozen=True, slots=True)
class Principal:
    """The caller, as its token says. `perimeter`: "national", "departement:95", "post:<uuid>", "interior", "justice"."""

    client_id: str
    subject: str
    role: Role
    organization: UUID | None
    perimeter: frozenset[str]
    scope: frozenset[str]

    @property
    def owner(self) -> str:
        """Whose is what the caller makes and spends: its client's, when a program calls for itself; a person's own, where many share one client.

        No two callers are one owner: what a token says holds no line break. (A provider that names its programs otherwise in `sub` names them always so.)
        """
        return self.client_id if self.subject == self.client_id else f"{self.client_id}\n{self.subject}"

    def departements(self) -> frozenset[str] | None:
        """The départements the caller may look at; None means all of them."""
        if "national" in self.perimeter:
            return None
        return frozenset(one.removeprefix("departement:") for one in self.perimeter if one.startswith("departement:"))

    def covers_departement(self, code: str) -> bool:
        return "national" in self.perimeter or f"departement:{code}" in self.perimeter

    def ids(self, kind: str) -> frozenset[UUID]:
        """`ids("post")`: the posts of its perimeter."""
        return frozenset(UUID(one[len(kind) + 1 :]) for one in self.perimeter if one.startswith(f"{kind}:"))

    def streams(self) -> list[str]:
        """The names of the streams it may read."""
        return streams_of(self.role, self.perimeter, None if self.organization is None else str(self.organization), self.client_id)

    def perimeter_kinds(self) -> frozenset[str]:
        """ "departement", "post", "interior"…, and "organization" when the caller belongs to one."""
        kinds = {one.partition(":")[0] for one in self.perimeter}
        return frozenset(kinds | {"organization"} if self.organization is not None else kinds)


class _Verified(NamedTuple):
    expires_at: float
    principal: Principal


def _refused() -> Unauthenticated:
    return Unauthenticated(
        "Le jeton d'accès n'est pas valable, ou ne l'est plus : demandez-en un nouveau.",
        headers={"WWW-Authenticate": 'Bearer realm="maillon", error="invalid_token"'},
    )


def token_missing() -> Unauthenticated:
    return Unauthenticated(
        "Cette opération demande un jeton d'accès, dans l'en-tête Authorization: Bearer.",
        headers={"WWW-Authenticate": 'Bearer realm="maillon"'},
    )


def bearer(header: str | None) -> str:
    """The token of an Authorization header. Raises Unauthenticated."""
    if header is None:
        raise token_missing()
    found = _BEARER.fullmatch(header) if len(header) <= _LONGEST_TOKEN else None
    if found is None:
        raise _refused()
    return found[1]


def _algorithms_of(key: Key) -> tuple[str, ...]:
    """A key verifies with the algorithms of its own type only: no confusion between them is possible."""
    if isinstance(key, ECKey):
        return ("ES256",) if key.curve_name == "P-256" else ()
    if isinstance(key, OKPKey):
        return ("Ed25519", "EdDSA") if key.curve_name == "Ed25519" else ()
    if isinstance(key, RSAKey):
        return ("RS256",) if key.public_key.key_size >= 2048 else ()
    return ()


class KeysUnreachable(Exception):
    """The issuer's JWKS cannot be fetched or read."""


class IssuerKeys:
    """The issuer's public keys: fetched when first needed, again when older than `max_age`, and once when a token names an unknown key
    (at most every `refetch_seconds`, so that foreign tokens cannot make us hammer the issuer)."""

    def __init__(
        self,
        url: str,
        client: httpx.AsyncClient,
        *,
        max_age: float = 600,
        refetch_seconds: float = 5,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._url, self._client = url, client
        self._max_age, self._refetch_seconds, self._monotonic = max_age, refetch_seconds, monotonic
        self._keys: dict[str, Key] = {}
        self._fetched_at: float | None = None
        self._tried_at: float | None = None
        self._reachable = True
        self._lock = asyncio.Lock()
        self.generation = 0
        """Counts the changes of the key set: what was verified with an older one is forgotten."""

    async def find(self, key_id: str | None, before_waiting: Callable[[], None] = lambda: None) -> Key | None:
        """The key of that id (the only key when the token names none), or None. `before_waiting` is called when the key is unknown and the issuer may have to be
        asked; it raises to wait for nothing. Raises KeysUnreachable when it cannot be known."""
        key = self._named(key_id)
        age = None if self._fetched_at is None else self._monotonic() - self._fetched_at
        # one asks, the others go on by what they know
        if key is not None and age is not None and (age < self._max_age or self._lock.locked()):
            return key
        if key is None:
            before_waiting()
        async with self._lock:  # who waited for a try, good or bad, makes none of its own
            if self._may_fetch():
                await self._fetch()
        key = self._named(key_id)
        if key is None and not self._reachable:
            raise KeysUnreachable
        return key

    def _named(self, key_id: str | None) -> Key | None:
        if key_id is None:
            return next(iter(self._keys.values())) if len(self._keys) == 1 else None
        return self._keys.get(key_id)

    def _may_fetch(self) -> bool:
        return self._tried_at is None or self._monotonic() - self._tried_at >= self._refetch_seconds

    async def _fetch(self) -> None:
        """Keeps the keys it has when the issuer does not answer. The pause until the next try begins where this one ends."""
        try:
            found = await self._read()
        except (httpx.HTTPError, KeysUnreachable, OSError, TimeoutError):
            self._reachable, self._tried_at = False, self._monotonic()
            return
        self._reachable = True
        self._fetched_at = self._tried_at = self._monotonic()
        if {name: key.thumbprint() for name, key in found.items()} != {name: key.thumbprint() for name, key in self._keys.items()}:
            self._keys = found
            self.generation += 1

    async def _read(self) -> dict[str, Key]:
        content = bytearray()
        async with (
            asyncio.timeout(5),
            self._client.stream("GET", self._url, headers={"Accept": "application/json"}, follow_redirects=False) as answer,
        ):
            if answer.status_code != 200:
                raise KeysUnreachable
            async for part in answer.aiter_bytes():
                content += part
                if len(content) > _LARGEST_JWKS:
                    raise KeysUnreachable
        try:
            listed = json.loads(bytes(content))["keys"]
        except (ValueError, TypeError, KeyError, RecursionError):
            raise KeysUnreachable from None
        return _usable(listed if isinstance(listed, list) else [])


def _usable(listed: list[Any]) -> dict[str, Key]:
    """The signing keys of a JWKS by their id. One unusable key (another use, a newer type) does not spoil the others."""
    found: dict[str, Key] = {}
    for one in listed:
        if not isinstance(one, dict) or one.get("use", "sig") != "sig":
            continue
        try:
            keys = KeySet.import_key_set({"keys": [one]}).keys
        except (JoseError, ValueError, TypeError, KeyError):
            continue
        found |= {str(key.kid): key for key in keys if _algorithms_of(key)}
    return found


class TokenVerifier:
    """Turns an access token into the Principal it proves. One per process."""

    def __init__(
        self,
        settings: Settings,
        *,
        client: httpx.AsyncClient | None = None,
        now: Callable[[], float] = time.time,
        keys: IssuerKeys | None = None,
        cached_tokens: int = 10_000,
    ) -> None:
        self._client = client or httpx.AsyncClient(verify=trusted(), timeout=5, trust_env=False)
        self._owns_client = client is None
        self.keys = keys or IssuerKeys(settings.token_jwks_url, self._client)
        self._types = frozenset(one.lower() for one in settings.token_types)
        self._now = now
        self._leeway = settings.token_leeway_seconds
        self._issuer = settings.token_issuer
        self._claims = JWTClaimsRegistry(
            now=lambda: int(now()),
            leeway=self._leeway,
            iss={"essential": True, "value": settings.token_issuer},
            aud={"essential": True, "value": settings.token_audience},
            exp={"essential": True},
            iat={"essential": True},
            sub={"essential": True},
            client_id={"essential": True},
            role={"essential": True},
        )
        self._verified: OrderedDict[bytes, _Verified] = OrderedDict()
        self._room = cached_tokens
        self._generation = 0

    def remembered(self, token: str) -> Principal | None:
        """The hot path (2 µs): a token that was verified before and has not expired."""
        known = self._verified.get(sha256(token.encode("ascii", "replace")).digest())
        if known is None or known.expires_at <= self._now() or self._generation != self.keys.generation:
            return None
        return known.principal

    async def verify(self, token: str, before_waiting: Callable[[], None] = lambda: None) -> Principal:
        """Raises Unauthenticated, or Unavailable when the issuer's keys cannot be had, or what `before_waiting` raises (IssuerKeys.find)."""
        known = self.remembered(token)
        if known is not None:
            return known
        claims = await self.claims(token, self._claims, self._types, before_waiting)
        try:
            principal = principal_of(claims)
            expires_at = float(claims["exp"]) + self._leeway
        except (ValueError, TypeError, KeyError, OverflowError):
            raise _refused() from None
        self._remember(token, _Verified(expires_at, principal))
        return principal

    async def identity(self, id_token: str, client_id: str, nonce: str | None) -> dict[str, Any]:
        """The claims of an id_token that the issuer gave to that client (OpenID Connect Core §3.1.3.7); `nonce` None: of a renewal, §12.2.

        Raises Unauthenticated, Unavailable.
        """
        expected: dict[str, Any] = {
            "iss": {"essential": True, "value": self._issuer},
            "aud": {"essential": True, "value": client_id},
            "exp": {"essential": True},
            "iat": {"essential": True},
            "sub": {"essential": True},
        }
        if nonce is not None:
            expected["nonce"] = {"essential": True, "value": nonce}
        registry = JWTClaimsRegistry(now=lambda: int(self._now()), leeway=self._leeway, **expected)
        claims = await self.claims(id_token, registry, frozenset({"jwt"}))
        if claims.get("azp", client_id) != client_id:
            raise _refused()
        return claims

    async def claims(
        self, token: str, expected: JWTClaimsRegistry, types: frozenset[str], before_waiting: Callable[[], None] = lambda: None
    ) -> dict[str, Any]:
        """What a token says that one of the issuer's keys signed. Raises Unauthenticated, Unavailable."""
        if len(token) > _LONGEST_TOKEN:
            raise _refused()
        try:
            header = jws.extract_compact(token.encode("ascii")).headers()
        except (JoseError, ValueError, TypeError, RecursionError):
            raise _refused() from None
        key_id, algorithm, kind = header.get("kid"), header.get("alg"), header.get("typ", "JWT")
        if not isinstance(kind, str) or kind.lower().removeprefix("application/") not in types:
            raise _refused()
        if not (key_id is None or isinstance(key_id, str)) or not isinstance(algorithm, str) or "crit" in header:
            raise _refused()
        try:
            key = await self.keys.find(key_id, before_waiting)
        except KeysUnreachable:
            raise Unavailable("Les jetons ne peuvent pas être vérifiés pour le moment : réessayez dans quelques instants.") from None
        if key is None or algorithm not in _algorithms_of(key):
            raise _refused()
        try:
            claims: dict[str, Any] = jwt.decode(token, key, algorithms=[algorithm]).claims
            expected.validate(claims)  # decode() checks the signature only: an expired token passes it
        except (JoseError, ValueError, TypeError, KeyError, OverflowError, RecursionError):
            raise _refused() from None
        return claims

    def _remember(self, token: str, verified: _Verified) -> None:
        if self._generation != self.keys.generation:
            self._verified.clear()
            self._generation = self.keys.generation
        self._verified[sha256(token.encode("ascii")).digest()] = verified
        while len(self._verified) > self._room:
            self._verified.popitem(last=False)

    async def close(self) -> None:
        if self._owns_client:
            await self._client.aclose()


def _text(claims: Mapping[str, Any], name: str, longest: int = 200) -> str:
    value = claims[name]
    if not isinstance(value, str) or not 0 < len(value) <= longest or not value.isprintable():
        raise ValueError(name)
    return value


def principal_of(claims: Mapping[str, Any]) -> Principal:
    """Strict: a claim of another type, an unknown role or perimeter makes the whole token worthless. Raises ValueError, KeyError."""
    organization = claims.get("organization")
    perimeter = [] if claims.get("perimeter") is None else claims["perimeter"]
    scope = "" if claims.get("scope") is None else claims["scope"]
    if not (organization is None or isinstance(organization, str)) or not isinstance(perimeter, list) or not isinstance(scope, str):
        raise ValueError("claims")
    if len(perimeter) > 500 or not all(isinstance(one, str) and _PERIMETER.fullmatch(one) for one in perimeter):
        raise ValueError("perimeter")
    return Principal(
        client_id=_text(claims, "client_id"),
        subject=_text(claims, "sub"),
        role=_ROLES[_text(claims, "role")],
        organization=None if organization is None else UUID(organization),
        perimeter=frozenset(perimeter),
        scope=frozenset(scope.split()),
    )


CALLER = "maillon.caller"
PURPOSE = "maillon.purpose"
"""Where the guard of a route (libs.chassis.app) puts what it checked, in the ASGI scope."""


async def caller_of(request: Request) -> Principal:
    principal = request.scope.get(CALLER)
    if not isinstance(principal, Principal):
        raise LookupError("a public route has no caller")  # noqa: TRY004  # not the caller's type is wrong: the route has none
    return principal


async def purpose_of(request: Request) -> vocabularies.Purpose:
    purpose = request.scope.get(PURPOSE)
    if not isinstance(purpose, vocabularies.Purpose):
        raise LookupError("the rule of this route asks for no purpose")  # noqa: TRY004  # not the type is wrong: the route has none
    return purpose


Caller = Annotated[Principal, Depends(caller_of)]
"""The verified caller. The access table was checked before the request was read."""

Purpose = Annotated[vocabularies.Purpose, Depends(purpose_of)]
"""The `X-Purpose` header of a route whose access rule says `purpose=True`."""


class TokenUnobtainable(Exception):
    """The service's own token cannot be had: the issuer does not answer, or refuses the client."""


class ServiceToken:
    """The service's own access token (client credentials), renewed before it expires. Shared by all readers of feeds of a process."""

    def __init__(
        self, settings: Settings, *, client: httpx.AsyncClient | None = None, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._settings, self._monotonic = settings, monotonic
        self._client = client or httpx.AsyncClient(verify=trusted(), timeout=5, trust_env=False)
        self._owns_client = client is None
        self._token = ""
        self._renew_at = 0.0
        self._lock = asyncio.Lock()

    async def get(self) -> str:
        """A token that is still good for a while. Raises TokenUnobtainable."""
        if self._token and self._monotonic() < self._renew_at:
            return self._token
        async with self._lock:
            if not self._token or self._monotonic() >= self._renew_at:
                await self._renew()
            return self._token

    async def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {await self.get()}"}

    def forget(self) -> None:
        """After a 401: the next `get` asks for another."""
        self._token = ""

    async def _renew(self) -> None:
        form = {
            "grant_type": "client_credentials",
            "client_id": self._settings.client_id,
            "client_secret": self._settings.client_secret.get_secret_value(),
            "audience": self._settings.token_audience,
        }
        try:
            async with asyncio.timeout(5):
                answer = await self._client.post(self._settings.token_url, data=form, follow_redirects=False)
            answer.raise_for_status()
            said = answer.json()
            token, lifetime = said["access_token"], float(said.get("expires_in", 60))
        except (httpx.HTTPError, OSError, TimeoutError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise TokenUnobtainable(type(error).__name__) from None
        if not isinstance(token, str):
            raise TokenUnobtainable("no token in the answer")
        self._token = token
        self._renew_at = self._monotonic() + max(1.0, lifetime - min(60.0, lifetime / 5))

    async def close(self) -> None:
        if self._owns_client:
            await self._client.aclose()
