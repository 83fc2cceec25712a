"""The development token issuer: `curl -d client_id=police-95 127.0.0.1:8000/token`.

It gives an access token (JWT, RFC 9068) to every client of `libs.contracts.demonstration`, whatever secret is shown: it exists in the embedded
default only, on loopback, and refuses to start in production, where any OpenID provider takes its place. What it offers has the shape of one:
client credentials (RFC 6749 §4.4), metadata (RFC 8414, OpenID discovery), JWKS, rotating keys.

`python -m libs.embedded.issuer --port 8000 --folder .maillon/issuer`
"""

import argparse
import base64
import binascii
import json
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote_plus
from uuid import uuid4

import uvicorn
from joserfc import jwt
from joserfc.jwk import ECKey
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from libs.contracts.demonstration import CLIENTS

AUDIENCE = "maillon"
SCOPE = "maillon"
LIFETIME_SECONDS = 3600
_KEPT_KEYS = 3  # a token lives one hour: the keys of the two rotations before stay published
_LARGEST_FORM = 16 * 1024
_GRANT = "client_credentials"
_BASIC = "Basic "


class UnknownClient(LookupError):
    """No demonstration client has this id."""


class Issuer:
    """Keys and tokens, without HTTP: what tests sign with. The newest key signs; earlier ones still verify."""

    def __init__(self, url: str, key_file: Path | None = None) -> None:
        """`url`: the `iss` claim. `key_file`: where the keys live from one start to the next; none: in memory only."""
        self.url = url.rstrip("/")
        self._key_file = key_file
        self._keys = _read_keys(key_file)
        if not self._keys:
            self.rotate()

    def issue(self, client_id: str, *, lifetime: int = LIFETIME_SECONDS, **claims: Any) -> str:
        """A token of that client; `claims` replace its own, and one that is `None` is left out. Raises UnknownClient."""
        client = CLIENTS.get(client_id)
        if client is None:
            raise UnknownClient(client_id)
        now = int(time.time())
        said: dict[str, Any] = {
            "iss": self.url,
            "aud": AUDIENCE,
            "sub": client_id,
            "client_id": client_id,
            "iat": now,
            "exp": now + lifetime,
            "jti": str(uuid4()),
            "scope": SCOPE,
            "role": client.role.value,
            "organization": str(client.organization) if client.organization else None,
            "perimeter": sorted(client.perimeter),
        }
        said = {name: value for name, value in (said | claims).items() if value is not None}
        key = self._keys[0]
        return jwt.encode({"alg": "ES256", "typ": "at+jwt", "kid": key.kid}, said, key, algorithms=["ES256"])

    def rotate(self) -> None:
        """A new key signs from now on."""
        key = ECKey.generate_key("P-256", auto_kid=True)
        self._keys = [key, *self._keys][:_KEPT_KEYS]
        if self._key_file:
            _write_keys(self._key_file, self._keys)

    def jwks(self) -> dict[str, Any]:
        """The public keys, newest first."""
        return {"keys": [{**key.as_dict(private=False), "use": "sig", "alg": "ES256"} for key in self._keys]}

    def metadata(self) -> dict[str, Any]:
        return {
            "issuer": self.url,
            "token_endpoint": f"{self.url}/token",
            "jwks_uri": f"{self.url}/jwks",
            "grant_types_supported": [_GRANT],
            "response_types_supported": [],
            "scopes_supported": [SCOPE],
            "token_endpoint_auth_methods_supported": ["none", "client_secret_post", "client_secret_basic"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["ES256"],
        }


def _read_keys(file: Path | None) -> list[ECKey]:
    if file is None:
        return []
    try:
        kept = json.loads(file.read_text())
    except FileNotFoundError:
        return []
    return [ECKey.import_key(key) for key in kept["keys"]]


def _write_keys(file: Path, keys: list[ECKey]) -> None:
    """Whole or not at all, readable by us only."""
    file.parent.mkdir(parents=True, exist_ok=True)
    making = file.with_suffix(".new")
    making.unlink(missing_ok=True)
    with os.fdopen(os.open(making, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as opened:
        json.dump({"keys": [key.as_dict(private=True) for key in keys]}, opened)
        opened.flush()
        os.fsync(opened.fileno())
    making.replace(file)


class _OAuthError(Exception):
    """RFC 6749 §5.2."""

    def __init__(self, code: str, description: str, status: int = 400) -> None:
        super().__init__(description)
        self.code = code
        self.description = description
        self.status = status


async def _form(request: Request) -> dict[str, str]:
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/x-www-form-urlencoded":
        raise _OAuthError("invalid_request", "La demande est un formulaire : application/x-www-form-urlencoded.")
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > _LARGEST_FORM:
            raise _OAuthError("invalid_request", "La demande est trop longue.", 413)
    try:
        pairs = parse_qsl(body.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=20)
    except ValueError as error:
        raise _OAuthError("invalid_request", "Le formulaire n'est pas lisible.") from error
    form = dict(pairs)
    if len(form) != len(pairs):
        raise _OAuthError("invalid_request", "Un paramètre est donné deux fois.")
    return form


def _client_id(request: Request, form: Mapping[str, str]) -> str:
    authorization = request.headers.get("authorization")
    if authorization is None:
        if not form.get("client_id"):
            raise _OAuthError("invalid_request", "Il manque client_id : curl -d client_id=police-95 …")
        return form["client_id"]
    if not authorization.startswith(_BASIC):
        raise _OAuthError("invalid_client", "Seule l'authentification Basic est reconnue.", 401)
    try:
        text = base64.b64decode(authorization.removeprefix(_BASIC), validate=True).decode()
    except (binascii.Error, UnicodeDecodeError) as error:
        raise _OAuthError("invalid_client", "L'en-tête Authorization n'est pas lisible.", 401) from error
    return unquote_plus(text.partition(":")[0])


def create_app(issuer: Issuer) -> Starlette:
    """The issuer's HTTP side."""

    async def token(request: Request) -> JSONResponse:
        form = await _form(request)
        client_id = _client_id(request, form)
        if form.get("grant_type", _GRANT) != _GRANT:
            raise _OAuthError("unsupported_grant_type", f"Seul {_GRANT} est offert.")
        if not set(form.get("scope", SCOPE).split()) <= {SCOPE}:
            raise _OAuthError("invalid_scope", f"La seule portée est {SCOPE}.")
        try:
            access_token = issuer.issue(client_id)
        except UnknownClient as error:
            raise _OAuthError("invalid_client", f"Client inconnu. Clients de démonstration : {', '.join(CLIENTS)}.", 401) from error
        answer = {"access_token": access_token, "token_type": "Bearer", "expires_in": LIFETIME_SECONDS, "scope": SCOPE}
        return JSONResponse(answer, headers={"Cache-Control": "no-store", "Pragma": "no-cache"})

    async def metadata(_: Request) -> JSONResponse:
        return JSONResponse(issuer.metadata())

    async def jwks(_: Request) -> JSONResponse:
        return JSONResponse(issuer.jwks(), media_type="application/jwk-set+json")

    async def rotate(_: Request) -> JSONResponse:
        issuer.rotate()
        return JSONResponse(issuer.jwks(), media_type="application/jwk-set+json")

    async def clients(_: Request) -> JSONResponse:
        listed = [
            {"client_id": one.client_id, "label": one.label, "role": one.role, "perimeter": sorted(one.perimeter)}
            for one in CLIENTS.values()
        ]
        return JSONResponse({"items": listed})

    async def livez(_: Request) -> JSONResponse:
        return JSONResponse({"status": "ok"})

    async def refuse(_: Request, error: Exception) -> JSONResponse:
        if not isinstance(error, _OAuthError):
            raise error
        headers = {"Cache-Control": "no-store"} | ({"WWW-Authenticate": 'Basic realm="maillon"'} if error.status == 401 else {})
        return JSONResponse({"error": error.code, "error_description": error.description}, error.status, headers)

    async def no_such_address(request: Request, _: Exception) -> JSONResponse:
        said = f"Rien ne répond à cette adresse. Un jeton : curl -d client_id=police-95 {issuer.url}/token ; les clients : {issuer.url}/clients."
        return JSONResponse({"error": "invalid_request", "error_description": said}, 404)

    async def no_such_method(request: Request, error: Exception) -> JSONResponse:
        said = f"Cette adresse ne connaît pas cette méthode. Un jeton se demande par POST : curl -d client_id=police-95 {issuer.url}/token"
        headers = error.headers if isinstance(error, HTTPException) else None
        return JSONResponse({"error": "invalid_request", "error_description": said}, 405, headers)

    return Starlette(
        routes=[
            Route("/token", token, methods=["POST"]),
            Route("/jwks", jwks),
            Route("/rotate", rotate, methods=["POST"]),
            Route("/clients", clients),
            Route("/livez", livez),
            Route("/.well-known/openid-configuration", metadata),
            Route("/.well-known/oauth-authorization-server", metadata),
        ],
        exception_handlers={_OAuthError: refuse, 404: no_such_address, 405: no_such_method},
    )


def main() -> None:
    """The process itself. Like every part of Maillon it takes itself to be in production unless development is said."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--folder", type=Path, required=True)
    options = parser.parse_args()
    if os.environ.get("MAILLON_ENVIRONMENT", "production") != "development":
        sys.exit(
            "L'émetteur de jetons de démonstration ne démarre pas en production : indiquez votre fournisseur OpenID par TOKEN_ISSUER, "
            "TOKEN_URL et TOKEN_JWKS_URL, ou dites MAILLON_ENVIRONMENT=development."
        )
    issuer = Issuer(f"http://127.0.0.1:{options.port}", options.folder / "keys.json")
    uvicorn.run(create_app(issuer), host="127.0.0.1", port=options.port, log_level="warning", access_log=False, timeout_graceful_shutdown=3)


if __name__ == "__main__":
    main()
