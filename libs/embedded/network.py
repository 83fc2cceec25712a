"""The four services as their callers see them: HTTP, a token for each client, nothing else."""

import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

import httpx


class CallFailed(Exception):
    """A service did not answer as it should: one French sentence, with the service's own words."""


class Network:
    """`async with Network(urls, token_url) as network: await network.call("referrals", "police-95", "POST", "/v1/referrals", body=…)`.

    `transports` replaces the wire, service by service: a test's ASGI applications.
    """

    def __init__(
        self, urls: Mapping[str, str], token_url: str, *, transports: Mapping[str, httpx.AsyncBaseTransport] | None = None
    ) -> None:
        self.urls = dict(urls)
        self._token_url = token_url
        self._clients = {
            name: httpx.AsyncClient(base_url=url, timeout=15, trust_env=False, transport=(transports or {}).get(name))
            for name, url in urls.items()
        }
        self._outside = httpx.AsyncClient(timeout=10, trust_env=False)
        self._tokens: dict[str, tuple[str, float]] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for client in (self._outside, *self._clients.values()):
            await client.aclose()

    async def token(self, client_id: str) -> str:
        """An access token of that client, asked for when the last one is about to expire."""
        token, expires = self._tokens.get(client_id, ("", 0.0))
        if time.monotonic() < expires - 30:
            return token
        try:
            answer = await self._outside.post(self._token_url, data={"grant_type": "client_credentials", "client_id": client_id})
            answer.raise_for_status()
            said = answer.json()
            token = str(said["access_token"])
            self._tokens[client_id] = (token, time.monotonic() + float(said.get("expires_in", 60)))
        except (httpx.HTTPError, ValueError, KeyError) as error:
            raise CallFailed(
                f"Aucun jeton n'a pu être obtenu de {self._token_url} pour {client_id} ({error or type(error).__name__})."
            ) from error
        return token

    async def client(self, service: str, client_id: str) -> httpx.AsyncClient:
        """A client of one service that calls as `client_id`; close it after use."""
        client = httpx.AsyncClient(base_url=self.urls[service], timeout=15, trust_env=False)
        client.headers["Authorization"] = f"Bearer {await self.token(client_id)}"
        return client

    async def call(
        self,
        service: str,
        client_id: str,
        method: str,
        path: str,
        *,
        body: Any = None,
        key: str | None = None,
        headers: Mapping[str, str] | None = None,
        accepted: tuple[int, ...] = (200, 201, 202, 204),
    ) -> httpx.Response:
        """One request. `key` is its Idempotency-Key. Raises `CallFailed` for a status that is not among `accepted`."""
        sent = {"Authorization": f"Bearer {await self.token(client_id)}"} | ({"Idempotency-Key": key} if key else {}) | dict(headers or {})
        try:
            answer = await self._clients[service].request(method, path, json=body, headers=sent)
        except httpx.HTTPError as error:
            raise CallFailed(f"{service} ne répond pas à {method} {path} ({type(error).__name__}).") from error
        if answer.status_code not in accepted:
            raise CallFailed(f"{service} répond {answer.status_code} à {method} {path} : {answer.text[:1000]}")
        return answer

    async def events(self, service: str, *, after: int) -> list[dict[str, Any]]:
        """What the service said to the other services after that number, oldest first: CloudEvents in their JSON form."""
        found: list[dict[str, Any]] = []
        while True:
            answer = await self.call(service, "reporting", "GET", f"/v1/streams/internal/events?after={after}&limit=500")
            page: list[dict[str, Any]] = answer.json()["events"]
            if not page:
                return found
            found += page
            after = int(page[-1]["sequence"])

    async def head(self, service: str) -> int:
        """The number of the last thing the service said to the other services."""
        return int((await self.call(service, "reporting", "GET", "/v1/streams/internal")).json()["sequence"])
