"""The desk in front of any OpenID provider: what it finds by discovery, how it shows who it is, and what it does not believe."""

import base64
import json
from collections.abc import Callable
from typing import Any, cast
from urllib.parse import parse_qsl

import httpx
import pytest

from libs.chassis.refusals import Unavailable
from libs.chassis.security import TokenVerifier
from services.referrals.desk.provider import Provider, SignInRefused
from services.referrals.settings import Settings
from tests.settings import settings_for

ISSUER = "https://identite.example/realm"
METADATA: dict[str, Any] = {
    "issuer": ISSUER,
    "authorization_endpoint": f"{ISSUER}/auth?kc=1",
    "token_endpoint": f"{ISSUER}/token",
    "end_session_endpoint": f"{ISSUER}/logout",
}


class Elsewhere:
    """A provider that answers `metadata`, and 400 to whoever asks for a token; it remembers what it was asked."""

    def __init__(self, metadata: Any = METADATA, answer: Callable[[httpx.Request], httpx.Response] | None = None) -> None:
        self.metadata, self.asked = metadata, list[httpx.Request]()
        self._answer = answer or (lambda request: httpx.Response(400, json={"error": "invalid_grant"}))

    def client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(transport=httpx.MockTransport(self._take))

    def _take(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        if request.url.path.endswith("/.well-known/openid-configuration"):
            return self.metadata if isinstance(self.metadata, httpx.Response) else httpx.Response(200, json=self.metadata)
        return self._answer(request)


def provider_of(elsewhere: Elsewhere, **settings: Any) -> Provider:
    given = settings_for(
        "referrals", Settings, token_issuer=ISSUER, desk_client_id="desk:1", desk_url="https://maillon.example/desk", **settings
    )
    return Provider(cast(Settings, given), TokenVerifier(given), client=elsewhere.client)


def _says(given: dict[str, Any]) -> Callable[[httpx.Request], httpx.Response]:
    return lambda _: httpx.Response(200, json=given)


async def finished(provider: Provider) -> None:
    _, pending = await provider.begin("")
    await provider.finish(pending, {"state": pending.state, "code": "c"})


async def test_the_endpoints_are_those_of_the_discovery_document_asked_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = Elsewhere()
    provider = provider_of(elsewhere)

    first, _ = await provider.begin("")
    await provider.begin("")

    assert first.startswith(
        f"{ISSUER}/auth?kc=1&response_type=code&client_id=desk%3A1&redirect_uri=https%3A%2F%2Fmaillon.example%2Fdesk%2Fcallback"
    )
    assert [str(request.url) for request in elsewhere.asked] == [f"{ISSUER}/.well-known/openid-configuration"]
    monkeypatch.setattr(provider, "_now", lambda: 4_000_000_000.0)
    await provider.begin("")
    assert len(elsewhere.asked) == 2


async def test_a_document_that_is_not_this_providers_is_not_believed() -> None:
    wrong: list[Any] = [
        METADATA | {"issuer": "https://ailleurs.example"},
        METADATA | {"token_endpoint": "http://identite.example/token"},
        METADATA | {"authorization_endpoint": "javascript:alert(1)"},
        METADATA | {"end_session_endpoint": "http://ailleurs.example"},
        {name: value for name, value in METADATA.items() if name != "token_endpoint"},
        [METADATA],
        httpx.Response(200, text="<html>"),
        httpx.Response(200, text=json.dumps(METADATA | {"more": "x" * 300_000})),
        httpx.Response(302, headers={"Location": "https://ailleurs.example"}),
        httpx.Response(500, json=METADATA),
    ]
    for metadata in wrong:
        with pytest.raises(Unavailable):
            await provider_of(Elsewhere(metadata)).begin("")


@pytest.mark.parametrize(
    ("settings", "methods", "basic", "in_form"),
    [
        ({}, None, False, {"client_id": "desk:1"}),
        ({"desk_client_secret": "é:s"}, None, True, {}),
        ({"desk_client_secret": "é:s"}, ["client_secret_basic", "client_secret_post"], True, {}),
        ({"desk_client_secret": "é:s"}, ["client_secret_post"], False, {"client_id": "desk:1", "client_secret": "é:s"}),
    ],
)
async def test_the_client_shows_who_it_is_as_the_provider_asks(
    settings: dict[str, Any], methods: list[str] | None, basic: bool, in_form: dict[str, str]
) -> None:
    elsewhere = Elsewhere(METADATA | ({} if methods is None else {"token_endpoint_auth_methods_supported": methods}))

    with pytest.raises(SignInRefused):
        await finished(provider_of(elsewhere, **settings))

    asked = elsewhere.asked[-1]
    form = dict(parse_qsl(asked.content.decode()))
    assert form["grant_type"] == "authorization_code"
    assert len(form["code_verifier"]) >= 43
    assert {name: form[name] for name in ("client_id", "client_secret") if name in form} == in_form
    authorization = asked.headers.get("authorization")
    assert (authorization is not None) is basic
    if authorization is not None:
        assert base64.b64decode(authorization.removeprefix("Basic ")).decode() == "desk%3A1:%C3%A9%3As"


async def test_what_is_no_token_signs_nobody_in() -> None:
    nothing: tuple[dict[str, Any], ...] = (
        {},
        {"access_token": "x"},
        {"access_token": 1, "id_token": []},
        {"access_token": "a.b.c", "id_token": "a.b.c"},
    )
    for given in nothing:
        with pytest.raises(SignInRefused):
            await finished(provider_of(Elsewhere(answer=_says(given))))
    with pytest.raises(Unavailable):
        await finished(provider_of(Elsewhere(answer=lambda _: httpx.Response(502, json={}))))


async def test_a_provider_without_an_end_of_session_is_left_as_it_is() -> None:
    metadata = {name: value for name, value in METADATA.items() if name != "end_session_endpoint"}
    tokens: Any = object()

    assert await provider_of(Elsewhere(metadata)).end_of_session(tokens) is None
