"""The development token issuer, as an OAuth client and a resource server see it."""

import os
import subprocess
import sys
import time
from base64 import b64encode
from pathlib import Path
from typing import Any

import httpx
import pytest
from joserfc import jwt
from joserfc.jwk import KeySet

from libs.contracts import demonstration
from libs.embedded.issuer import Issuer, UnknownClient

_ROOT = Path(__file__).parents[2]
_URL = "http://127.0.0.1:8000"


def _read(token: str, jwks: dict[str, Any]) -> jwt.Token:
    return jwt.decode(token, KeySet.import_key_set(jwks), algorithms=["ES256"])  # type: ignore[arg-type]  # joserfc's own TypedDict


async def test_a_client_id_alone_is_enough(http: httpx.AsyncClient) -> None:
    answer = await http.post("/token", data={"client_id": "iscg-95"})

    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    token = _read(answer.json()["access_token"], (await http.get("/jwks")).json())
    assert token.header["typ"] == "at+jwt"
    assert {name: token.claims[name] for name in ("iss", "aud", "sub", "client_id", "role", "scope")} == {
        "iss": _URL,
        "aud": "maillon",
        "sub": "iscg-95",
        "client_id": "iscg-95",
        "role": "iscg",
        "scope": "maillon",
    }
    assert set(token.claims["perimeter"]) == {"departement:95", f"post:{demonstration.POST}"}
    assert token.claims["exp"] - token.claims["iat"] == answer.json()["expires_in"] == 3600


async def test_a_partner_carries_its_organization(issuer: Issuer) -> None:
    claims = _read(issuer.issue("partner-95"), issuer.jwks()).claims

    assert claims["organization"] == str(demonstration.ASSOCIATION)
    assert claims["perimeter"] == []


async def test_a_client_may_name_itself_by_basic_authentication(http: httpx.AsyncClient) -> None:
    credentials = b64encode(b"police-95:whatever").decode()

    answer = await http.post("/token", data={"grant_type": "client_credentials"}, headers={"Authorization": f"Basic {credentials}"})

    assert answer.status_code == 200


@pytest.mark.parametrize(
    ("form", "status", "error"),
    [
        ({"client_id": "nobody"}, 401, "invalid_client"),
        ({}, 400, "invalid_request"),
        ({"client_id": "police-95", "grant_type": "password"}, 400, "unsupported_grant_type"),
        ({"client_id": "police-95", "scope": "everything"}, 400, "invalid_scope"),
        ({"client_id": ["police-95", "iscg-95"]}, 400, "invalid_request"),
        ({"client_id": "x" * 20_000}, 413, "invalid_request"),
    ],
)
async def test_what_is_wrong_is_said_as_rfc_6749_wants(http: httpx.AsyncClient, form: dict[str, Any], status: int, error: str) -> None:
    answer = await http.post("/token", data=form, headers={"content-type": "application/x-www-form-urlencoded"})

    assert (answer.status_code, answer.json()["error"]) == (status, error)
    assert answer.json()["error_description"]


async def test_a_body_that_is_no_form_is_refused(http: httpx.AsyncClient) -> None:
    answer = await http.post("/token", json={"client_id": "police-95"})

    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")


async def test_who_looks_around_is_told_how_to_ask(http: httpx.AsyncClient) -> None:
    by_get, nowhere = await http.get("/token"), await http.get("/")

    assert (by_get.status_code, by_get.headers["allow"], "curl -d client_id=police-95" in by_get.json()["error_description"]) == (
        405,
        "POST",
        True,
    )
    assert (nowhere.status_code, f"{_URL}/token" in nowhere.json()["error_description"]) == (404, True)


async def test_discovery_names_the_token_endpoint_and_the_keys(http: httpx.AsyncClient) -> None:
    for path in ("/.well-known/openid-configuration", "/.well-known/oauth-authorization-server"):
        said = (await http.get(path)).json()
        assert (said["issuer"], said["token_endpoint"], said["jwks_uri"]) == (_URL, f"{_URL}/token", f"{_URL}/jwks")


async def test_published_keys_are_public_halves_only(http: httpx.AsyncClient) -> None:
    (key,) = (await http.get("/jwks")).json()["keys"]

    assert "d" not in key
    assert (key["kty"], key["crv"], key["alg"], key["use"]) == ("EC", "P-256", "ES256", "sig")


async def test_tokens_signed_before_a_rotation_still_verify(http: httpx.AsyncClient, issuer: Issuer) -> None:
    before = issuer.issue("police-95")

    assert len((await http.post("/rotate")).json()["keys"]) == 2

    after = issuer.issue("police-95")
    assert {_read(token, issuer.jwks()).header["kid"] for token in (before, after)} == {key["kid"] for key in issuer.jwks()["keys"]}


def test_keys_are_kept_from_one_start_to_the_next_for_nobody_else_to_read(tmp_path: Path) -> None:
    file = tmp_path / "issuer" / "keys.json"
    token = Issuer(_URL, file).issue("police-95")

    again = Issuer(_URL, file)

    assert _read(token, again.jwks()).claims["client_id"] == "police-95"
    assert file.stat().st_mode & 0o777 == 0o600


def test_a_test_may_change_any_claim(issuer: Issuer) -> None:
    claims = _read(issuer.issue("police-95", lifetime=-10, perimeter=["national"], role=None), issuer.jwks()).claims

    assert claims["exp"] < time.time()
    assert claims["perimeter"] == ["national"]
    assert "role" not in claims


def test_an_unknown_client_gets_no_token(issuer: Issuer) -> None:
    with pytest.raises(UnknownClient):
        issuer.issue("nobody")


@pytest.mark.parametrize("environment", [{}, {"MAILLON_ENVIRONMENT": "production"}])
def test_it_refuses_to_start_unless_development_is_said(tmp_path: Path, environment: dict[str, str]) -> None:
    base = {name: value for name, value in os.environ.items() if name != "MAILLON_ENVIRONMENT"}

    done = subprocess.run(
        [sys.executable, "-m", "libs.embedded.issuer", "--port", "1", "--folder", str(tmp_path)],
        capture_output=True,
        text=True,
        cwd=_ROOT,
        env=base | environment,
    )

    assert done.returncode == 1
    assert "ne démarre pas en production" in done.stderr
    assert list(tmp_path.iterdir()) == []
