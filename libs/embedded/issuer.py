"""The development token issuer: `curl -d client_id=police-95 127.0.0.1:8000/token`.

It gives an access token (JWT, RFC 9068) to every client of `libs.contracts.demonstration`, whatever secret is shown, and signs its persons in at a
desk, whoever chooses them (`sign_in.py`): it exists in the embedded default only, on loopback, and refuses to start in production, where any OpenID
provider takes its place. What it offers has the shape of one: client credentials (RFC 6749 §4.4), authorization code with PKCE (§4.1, RFC 7636),
metadata (RFC 8414, OpenID discovery), JWKS, rotating keys (`tokens.py`).

`python -m libs.embedded.issuer --port 8000 --folder .maillon/issuer`
"""

import argparse
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from libs.contracts.demonstration import CLIENTS
from libs.embedded.authorization import SCOPES
from libs.embedded.grants import Grants
from libs.embedded.oauth import OAuthError, client_id_of, read_form
from libs.embedded.sign_in import SignIn
from libs.embedded.tokens import LIFETIME_SECONDS, SCOPE, Issuer, UnknownClient

__all__ = ["Issuer", "UnknownClient", "create_app", "main"]

_CLIENT_CREDENTIALS = "client_credentials"
_CODE = "authorization_code"


def metadata_of(url: str) -> dict[str, Any]:
    """RFC 8414, OpenID Connect Discovery."""
    return {
        "issuer": url,
        "authorization_endpoint": f"{url}/authorize",
        "token_endpoint": f"{url}/token",
        "userinfo_endpoint": f"{url}/userinfo",
        "end_session_endpoint": f"{url}/end-session",
        "jwks_uri": f"{url}/jwks",
        "grant_types_supported": [_CLIENT_CREDENTIALS, _CODE],
        "response_types_supported": ["code"],
        "response_modes_supported": ["query"],
        "code_challenge_methods_supported": ["S256"],
        "scopes_supported": sorted(SCOPES),
        "claims_supported": ["iss", "aud", "sub", "name", "nonce", "auth_time", "sid", "iat", "exp"],
        "token_endpoint_auth_methods_supported": ["none", "client_secret_post", "client_secret_basic"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["ES256"],
        "authorization_response_iss_parameter_supported": True,
        "claims_parameter_supported": False,
        "request_parameter_supported": False,
        "request_uri_parameter_supported": False,
    }


def create_app(issuer: Issuer, grants: Grants | None = None) -> Starlette:
    """The issuer's HTTP side. `grants`: where codes wait; its own unless given."""
    sign_in = SignIn(issuer, grants or Grants())

    def by_client(client_id: str, form: Mapping[str, str]) -> dict[str, Any]:
        if not set(form.get("scope", SCOPE).split()) <= {SCOPE}:
            raise OAuthError("invalid_scope", f"La seule portée est {SCOPE}.")
        try:
            access_token = issuer.issue(client_id)
        except UnknownClient as error:
            raise OAuthError("invalid_client", f"Client inconnu. Clients de démonstration : {', '.join(CLIENTS)}.", 401) from error
        return {"access_token": access_token, "token_type": "Bearer", "expires_in": LIFETIME_SECONDS, "scope": SCOPE}

    grant_types = {_CLIENT_CREDENTIALS: by_client, _CODE: sign_in.redeem}

    async def token(request: Request) -> JSONResponse:
        form = await read_form(request)
        client_id = client_id_of(request, form)
        grant = grant_types.get(form.get("grant_type", _CLIENT_CREDENTIALS))
        if grant is None:
            raise OAuthError("unsupported_grant_type", f"Sont offerts : {', '.join(grant_types)}.")
        answer = grant(client_id, form)
        return JSONResponse(answer, headers={"Cache-Control": "no-store", "Pragma": "no-cache"})

    async def metadata(_: Request) -> JSONResponse:
        return JSONResponse(metadata_of(issuer.url))

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
        if not isinstance(error, OAuthError):
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
            *sign_in.routes(),
            Route("/jwks", jwks),
            Route("/rotate", rotate, methods=["POST"]),
            Route("/clients", clients),
            Route("/livez", livez),
            Route("/.well-known/openid-configuration", metadata),
            Route("/.well-known/oauth-authorization-server", metadata),
        ],
        exception_handlers={OAuthError: refuse, **sign_in.exception_handlers(), 404: no_such_address, 405: no_such_method},
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
