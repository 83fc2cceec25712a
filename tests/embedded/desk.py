"""A desk, and a person's browser, in front of the development issuer."""

from html.parser import HTMLParser
from typing import Any
from urllib.parse import parse_qsl

import httpx
from authlib.oauth2.rfc7636 import create_s256_code_challenge
from joserfc import jwt
from joserfc.jwk import KeySet

from libs.contracts.demonstration import PERSONS

URL = "http://127.0.0.1:8000"
BACK = "http://127.0.0.1:8001/desk/callback"
LEFT = "http://127.0.0.1:8001/desk/"
VERIFIER = "v" * 64
OTHER_VERIFIER = "w" * 64
CAMILLE = next(person for person in PERSONS.values() if person.client_id == "iscg-95")
ASKED = {
    "client_id": "desk",
    "redirect_uri": BACK,
    "response_type": "code",
    "scope": "openid maillon",
    "state": "the-state",
    "nonce": "the-nonce",
    "code_challenge": create_s256_code_challenge(VERIFIER),
    "code_challenge_method": "S256",
}
ABSENT = ""


class Clock:
    """Stands still unless moved."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


async def choose(http: httpx.AsyncClient, asked: dict[str, str] = ASKED, **form: str) -> httpx.Response:
    return await http.post("/authorize", params=asked, data=form or {"person": str(CAMILLE.id)})


def told_to_the_desk(answer: httpx.Response) -> dict[str, str]:
    """What a redirect says to the desk."""
    assert answer.status_code == 303, answer.text
    address, _, query = answer.headers["location"].partition("?")
    assert address == BACK
    return dict(parse_qsl(query, strict_parsing=True))


async def signed_in(http: httpx.AsyncClient) -> str:
    return told_to_the_desk(await choose(http))["code"]


async def redeem(http: httpx.AsyncClient, code: str, **changes: str) -> httpx.Response:
    form = {"grant_type": "authorization_code", "client_id": "desk", "redirect_uri": BACK, "code_verifier": VERIFIER, "code": code}
    return await http.post("/token", data=form | changes)


async def claims_of(http: httpx.AsyncClient, token: str) -> dict[str, Any]:
    return jwt.decode(token, KeySet.import_key_set((await http.get("/jwks")).json()), algorithms=["ES256"]).claims


async def userinfo(http: httpx.AsyncClient, access_token: str) -> httpx.Response:
    return await http.get("/userinfo", headers={"Authorization": f"Bearer {access_token}"})


class Page(HTMLParser):
    """What a browser and a screen reader make of the page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]

    @property
    def action(self) -> str:
        (form,) = self.of("form")
        return form["action"] or ""
