"""The OpenID provider that signs persons in: discovery, authorization code flow with PKCE (S256), renewal, the end of the session.

Any provider: it is TOKEN_ISSUER, whose access tokens carry what the API's do. Calls leave by httpx; tokens are verified where the API's are.
"""

import asyncio
import hmac
import json
import time
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, NamedTuple, cast
from urllib.parse import quote_plus, urlencode, urlsplit

import httpx
from authlib.common.security import generate_token
from authlib.oauth2.rfc6749.parameters import prepare_grant_uri
from authlib.oauth2.rfc7636 import create_s256_code_challenge
from fastapi import Request
from pydantic import BaseModel, ConfigDict

from libs.chassis.refusals import Malformed, NotFound, Refusal, Unauthenticated, Unavailable
from libs.chassis.runtime import Runtime
from libs.chassis.security import Principal, TokenVerifier
from libs.chassis.trust import trusted
from services.referrals.settings import Settings

_LARGEST = 262_144
_ANSWER_SECONDS = 10
"""Of one whole answer; httpx bounds each of its parts."""
_METADATA_SECONDS = 300.0
_PENDING_SECONDS = 600
"""How long somebody may take to sign in at the provider."""


class SignInRefused(Malformed):
    type: ClassVar[str] = "sign-in-refused"
    title: ClassVar[str] = "Connexion impossible"


class NoDesk(NotFound):
    type: ClassVar[str] = "no-desk"
    title: ClassVar[str] = "Poste de travail fermé"


class Pending(BaseModel):
    """What must be known again when the person comes back from the provider. The browser keeps it, sealed."""

    model_config = ConfigDict(frozen=True)

    state: str
    nonce: str
    verifier: str
    to: str
    """Where the person wanted to go: a path of the desk, "" for where they begin."""
    at: int


class Tokens(BaseModel):
    """What the provider gave for one person, in one session."""

    model_config = ConfigDict(frozen=True)

    access_token: str
    id_token: str
    refresh_token: str | None
    name: str


class _Metadata(NamedTuple):
    authorization_endpoint: str
    token_endpoint: str
    end_session_endpoint: str | None
    secret_in_form: bool
    names_itself: bool
    """Whether it says in its redirect who it is (RFC 9207)."""


def _unreachable() -> Unavailable:
    return Unavailable(
        "Le fournisseur d'identité ne répond pas : la connexion n'est pas possible pour le moment. Réessayez dans un instant."
    )


class Provider:
    """One per application. `client` makes an HTTP client: sign-ins are rare, each has its own."""

    def __init__(
        self,
        settings: Settings,
        tokens: TokenVerifier,
        client: Callable[[], httpx.AsyncClient] = lambda: httpx.AsyncClient(verify=trusted(), timeout=5, trust_env=False),
        now: Callable[[], float] = time.time,
    ) -> None:
        if settings.desk_client_id is None:
            raise NoDesk("Le poste de travail n'est pas ouvert ici : personne n'a configuré sa connexion.")
        self._client_id = settings.desk_client_id
        secret = settings.desk_client_secret
        self._secret = None if secret is None else secret.get_secret_value()
        self._issuer, self._scope, self._base = settings.token_issuer, settings.desk_scope, settings.desk_base
        self._max_age, self._leeway = settings.desk_idle_minutes * 60, settings.token_leeway_seconds
        self._tokens, self._client, self._now = tokens, client, now
        self._known: tuple[float, _Metadata] | None = None

    @classmethod
    def of(cls, request: Request) -> "Provider":
        """The application's. Raises NoDesk."""
        state = request.app.state
        found: Provider | None = getattr(state, "desk_provider", None)
        if found is None:
            runtime: Runtime = state.runtime
            found = state.desk_provider = cls(cast(Settings, runtime.settings), runtime.tokens)
        return found

    @property
    def origin(self) -> str:
        """Of the desk's own pages, as browsers say it."""
        parts = urlsplit(self._base)
        return f"{parts.scheme}://{parts.netloc}"

    @property
    def issuer_origin(self) -> str:
        parts = urlsplit(self._issuer)
        return f"{parts.scheme}://{parts.netloc}"

    @property
    def callback(self) -> str:
        return f"{self._base}/callback"

    async def begin(self, to: str) -> tuple[str, Pending]:
        """Where to send the person, and what to know when they come back. Raises Unavailable."""
        metadata = await self._metadata()
        pending = Pending(state=generate_token(32), nonce=generate_token(32), verifier=generate_token(64), to=to, at=int(self._now()))
        address = prepare_grant_uri(
            metadata.authorization_endpoint,
            self._client_id,
            "code",
            redirect_uri=self.callback,
            scope=self._scope,
            state=pending.state,
            nonce=pending.nonce,
            code_challenge=create_s256_code_challenge(pending.verifier),
            code_challenge_method="S256",
            max_age=str(self._max_age),
        )
        return str(address), pending

    async def finish(self, pending: Pending, said: Mapping[str, str]) -> tuple[Principal, Tokens]:
        """Who came back, with their tokens. Raises SignInRefused, Unavailable."""
        if not hmac.compare_digest(said.get("state", "").encode(), pending.state.encode()) or self._now() - pending.at > _PENDING_SECONDS:
            raise SignInRefused("Cette connexion n'a pas été commencée ici, ou il y a trop longtemps : recommencez.")
        metadata = await self._metadata()
        if said.get("iss", self._issuer) != self._issuer or (metadata.names_itself and "iss" not in said):
            raise SignInRefused("La réponse ne vient pas du fournisseur d'identité attendu : recommencez.")
        if "error" in said or not said.get("code"):
            raise SignInRefused("La connexion n'a pas eu lieu : elle a été annulée ou refusée chez le fournisseur d'identité.")
        form = {"grant_type": "authorization_code", "code": said["code"], "redirect_uri": self.callback, "code_verifier": pending.verifier}
        return await self._signed_in(await self._token(metadata, form), pending.nonce)

    async def renew(self, tokens: Tokens) -> tuple[Principal, Tokens]:
        """Raises SignInRefused when the provider ends the session, Unavailable."""
        if tokens.refresh_token is None:
            raise SignInRefused("La session a pris fin : connectez-vous à nouveau.")
        given = await self._token(await self._metadata(), {"grant_type": "refresh_token", "refresh_token": tokens.refresh_token})
        return await self._signed_in({"id_token": tokens.id_token, "refresh_token": tokens.refresh_token} | given, None, tokens)

    async def _signed_in(self, given: dict[str, Any], nonce: str | None, before: Tokens | None = None) -> tuple[Principal, Tokens]:
        """What was given, looked at: an access token for the API, and (always new at sign-in) an id_token of the same person."""
        try:
            principal = await self._tokens.verify(str(given["access_token"]))
            claims = {} if before and given["id_token"] == before.id_token else await self._identity(given, nonce)
            same = claims.get("sub", principal.subject) == principal.subject
            fresh = nonce is None or self._now() - int(claims["auth_time"]) <= self._max_age + self._leeway
            name = str(claims.get("name") or claims.get("preferred_username") or (before.name if before else ""))[:100]
            tokens = Tokens(
                access_token=given["access_token"], id_token=given["id_token"], refresh_token=given.get("refresh_token"), name=name
            )
        except (KeyError, ValueError, TypeError, Unauthenticated):
            same = fresh = False
        if not (same and fresh):
            raise SignInRefused("Le fournisseur d'identité n'a pas donné de quoi vous reconnaître : recommencez.")
        return principal, tokens

    async def _identity(self, given: dict[str, Any], nonce: str | None) -> dict[str, Any]:
        return await self._tokens.identity(str(given["id_token"]), self._client_id, nonce)

    async def end_of_session(self, tokens: Tokens) -> tuple[str, dict[str, str]] | None:
        """Where a form ends the session at the provider too (RP-Initiated Logout), and its fields; None when it offers nothing of the kind."""
        endpoint = (await self._metadata()).end_session_endpoint
        if endpoint is None:
            return None
        fields = {"id_token_hint": tokens.id_token, "client_id": self._client_id, "post_logout_redirect_uri": f"{self._base}/"}
        return endpoint, fields

    async def _token(self, metadata: _Metadata, form: dict[str, str]) -> dict[str, Any]:
        auth = None
        if self._secret is not None and not metadata.secret_in_form:
            auth = httpx.BasicAuth(quote_plus(self._client_id), quote_plus(self._secret))  # RFC 6749 §2.3.1: encoded first
        else:
            form = {"client_id": self._client_id, **form} | ({} if self._secret is None else {"client_secret": self._secret})
        async with self._client() as client:
            headers = {"Accept": "application/json", "Content-Type": "application/x-www-form-urlencoded"}
            request = client.build_request("POST", metadata.token_endpoint, content=urlencode(form), headers=headers)
            status, said = await _read(client, request, auth)
        if status != 200:
            raise _unreachable() if status >= 500 else SignInRefused("Le fournisseur d'identité a refusé cette connexion : recommencez.")
        return said

    async def _metadata(self) -> _Metadata:
        """OpenID Connect Discovery, at most five minutes old. Raises Unavailable."""
        if self._known is not None and self._now() - self._known[0] < _METADATA_SECONDS:
            return self._known[1]
        async with self._client() as client:
            address = f"{self._issuer.rstrip('/')}/.well-known/openid-configuration"
            status, said = await _read(client, client.build_request("GET", address, headers={"Accept": "application/json"}))
        endpoints = [said.get(name) for name in ("authorization_endpoint", "token_endpoint")]
        ending = said.get("end_session_endpoint")
        scheme = urlsplit(self._issuer).scheme
        if (
            status != 200
            or said.get("issuer") != self._issuer
            or not all(isinstance(one, str) and urlsplit(one).scheme == scheme for one in [*endpoints, *([ending] if ending else [])])
        ):
            raise _unreachable()
        methods = said.get("token_endpoint_auth_methods_supported", ["client_secret_basic"])
        found = _Metadata(
            str(endpoints[0]),
            str(endpoints[1]),
            str(ending) if ending else None,
            "client_secret_basic" not in methods,
            said.get("authorization_response_iss_parameter_supported") is True,
        )
        self._known = (self._now(), found)
        return found


async def _read(client: httpx.AsyncClient, request: httpx.Request, auth: httpx.Auth | None = None) -> tuple[int, dict[str, Any]]:
    """Status and JSON object of an answer of bounded length, and in time. Raises Unavailable."""
    content = bytearray()
    try:
        async with asyncio.timeout(_ANSWER_SECONDS):
            answer = await client.send(request, stream=True, auth=auth, follow_redirects=False)
            try:
                async for part in answer.aiter_bytes():
                    content += part
                    if len(content) > _LARGEST:
                        raise _unreachable()
            finally:
                await answer.aclose()
        said = json.loads(bytes(content))
    except Refusal:
        raise
    except (httpx.HTTPError, OSError, TimeoutError, ValueError, RecursionError):
        raise _unreachable() from None
    return answer.status_code, said if isinstance(said, dict) else {}
