"""One event POSTed to one subscriber: CloudEvents 1.0 in binary HTTP mode, signed as Standard Webhooks says, to an address that was checked.

A subscriber chooses the URL, we make the request: without care it would reach our own network (SSRF). So: https only, and the host is resolved here,
every address it has is checked, and the connection is made to the checked address itself (the name is not resolved a second time). No redirect, no
proxy; the answer's body is not read beyond a bound and never kept.
"""

import asyncio
import base64
import ipaddress
import json
import secrets
import socket
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import quote

import httpx
from standardwebhooks import Webhook

from libs.chassis.streams import Record
from libs.chassis.trust import trusted

LONGEST_URL = 2000
_SECONDS = 15.0
"""For one delivery as a whole, whatever drips."""
_BODY_READ = 16_384
_LONGEST_RETRY_AFTER = 3600

# Addresses that carry an IPv4 address inside: through a gateway they would reach what the inner address names.
_EMBEDDING = tuple(ipaddress.ip_network(net) for net in ("64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "2001::/32"))
# RFC 3986 leaves these in a header as they are; the CloudEvents HTTP binding (3.1.3.2) wants the rest percent-encoded.
_CE_SAFE = "".join(character for character in map(chr, range(0x21, 0x7F)) if character not in '"%')

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class UrlRefused(ValueError):
    """This URL cannot be subscribed; the sentence (French) says why and holds nothing of the URL."""


class Undeliverable(Exception):
    """The event did not arrive. `code`: why, in one word (`http-500`, `timeout`, `connect`, `tls`, `dns`, `address-refused`)."""

    def __init__(self, code: str, retry_after_seconds: int | None = None) -> None:
        super().__init__(code)
        self.code = code
        self.retry_after_seconds = retry_after_seconds


@dataclass(frozen=True, slots=True)
class Policy:
    """Where deliveries may go. `loopback`: also to this machine, over plain http (development only). `networks`: private networks of subscribers
    that an operator opened, on a closed network."""

    loopback: bool = False
    networks: tuple[Network, ...] = ()

    def admits(self, address: Address, scheme: str) -> bool:
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        if address.is_loopback:
            return self.loopback
        if scheme != "https" or address.is_multicast or address.is_unspecified:
            return False
        if any(address.version == network.version and address in network for network in self.networks):
            return True
        return address.is_global and not any(address.version == network.version and address in network for network in _EMBEDDING)


def checked_url(text: str, policy: Policy) -> httpx.URL:
    """A URL that may be subscribed. Its host is checked again at each delivery, when it is resolved. Raises UrlRefused."""
    try:
        url = httpx.URL(text)
        host, port = url.raw_host.decode("ascii"), url.port
    except (httpx.InvalidURL, ValueError, TypeError):
        raise UrlRefused("Cette adresse n'est pas une URL valable.") from None
    if len(text) > LONGEST_URL or not text.isascii() or not host or (port is not None and not 0 < port < 65536):
        raise UrlRefused("Cette adresse n'est pas une URL valable.")
    if url.scheme != "https" and not (url.scheme == "http" and policy.loopback and _is_loopback(host)):
        raise UrlRefused("L'adresse doit être en https.")
    if url.userinfo or "#" in text:
        raise UrlRefused("L'adresse ne doit contenir ni identifiant, ni mot de passe, ni fragment.")
    try:
        literal = ipaddress.ip_address(host)
    except ValueError:
        literal = None
    if literal is not None and not policy.admits(literal, url.scheme):
        raise UrlRefused("Cette adresse désigne un réseau privé ou local : elle n'est pas joignable depuis ce service.")
    return url


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


async def resolve(url: httpx.URL, policy: Policy) -> str:
    """The address to connect to. Every address of the host must be admitted: one bad among them refuses all. Raises Undeliverable."""
    host, port = url.raw_host.decode("ascii"), url.port or (443 if url.scheme == "https" else 80)
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        addresses = [ipaddress.ip_address(str(one[4][0]).partition("%")[0]) for one in found]
    except (OSError, UnicodeError, ValueError):
        raise Undeliverable("dns") from None
    if not addresses:
        raise Undeliverable("dns")
    if not all(policy.admits(address, url.scheme) for address in addresses):
        raise Undeliverable("address-refused")
    return str(addresses[0])


# Secrets and headers


def new_secret() -> str:
    """A Standard Webhooks secret: 32 random bytes."""
    return "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()


def headers_of(record: Record, keys: Sequence[str], at: datetime) -> dict[str, str]:
    """The headers of one event: its attributes and place (`ce-…`), and a signature by each of the secrets (two while one replaces the other)."""
    attributes: dict[str, str] = json.loads(record.attributes) | record.place()
    headers = {f"ce-{name}": quote(value, safe=_CE_SAFE) for name, value in attributes.items() if name != "datacontenttype"}
    headers["content-type"] = attributes["datacontenttype"]
    return headers | signature_headers(attributes["id"], record.data, keys, at)


def signature_headers(message_id: str, body: bytes, keys: Sequence[str], at: datetime) -> dict[str, str]:
    """`webhook-id`, `webhook-timestamp` and `webhook-signature` (standardwebhooks.com, version 1)."""
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": " ".join(Webhook(key).sign(message_id, at.astimezone(UTC), body.decode()) for key in keys),
    }


class Channel:
    """An open way to one subscriber: one connection, kept for the events of one turn."""

    def __init__(self, client: httpx.AsyncClient, url: httpx.URL, address: str) -> None:
        self._client = client
        self._url = url.copy_with(host=address)
        self._host = url.netloc.decode("ascii")
        # certificate and SNI are the name's, the connection is the checked address's
        self._extensions = {"sni_hostname": url.raw_host.decode("ascii")}

    async def post(self, headers: dict[str, str], body: bytes) -> None:
        """Deliver: a 2xx answer within the time. Raises Undeliverable."""
        try:
            async with (
                asyncio.timeout(_SECONDS),
                self._client.stream(
                    "POST", self._url, content=body, headers={**headers, "host": self._host}, extensions=self._extensions
                ) as answer,
            ):
                status, retry_after = answer.status_code, answer.headers.get("retry-after", "")
                read = 0
                async for chunk in answer.aiter_raw():  # a short body is drained, so that the connection can serve again
                    read += len(chunk)
                    if read > _BODY_READ:
                        break
        except (TimeoutError, httpx.TimeoutException):
            raise Undeliverable("timeout") from None
        except httpx.ConnectError as error:
            raise Undeliverable("tls" if isinstance(_root(error), ssl.SSLError) else "connect") from None
        except (httpx.HTTPError, OSError, ValueError):
            raise Undeliverable("protocol") from None
        if 300 <= status < 400:
            raise Undeliverable("redirect")
        if not 200 <= status < 300:
            # by way of float: int() refuses more than 4,300 digits
            seconds = int(min(float(retry_after), _LONGEST_RETRY_AFTER)) if retry_after.isascii() and retry_after.isdigit() else None
            raise Undeliverable(f"http-{status}", seconds)


def _root(error: BaseException) -> BaseException:
    while (cause := error.__cause__ or error.__context__) is not None:
        error = cause
        if isinstance(error, ssl.SSLError):
            break
    return error


class Sender:
    """Opens channels. One per process."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self._tls = trusted()

    @asynccontextmanager
    async def to(self, url: str) -> AsyncIterator[Channel]:
        """Resolve, check, and hold one connection. Raises Undeliverable."""
        try:
            target = checked_url(url, self.policy)
        except UrlRefused:
            raise Undeliverable("address-refused") from None
        try:
            async with asyncio.timeout(5):
                address = await resolve(target, self.policy)
        except TimeoutError:
            raise Undeliverable("dns") from None
        limits = httpx.Limits(max_connections=1, max_keepalive_connections=1)
        timeout = httpx.Timeout(10, connect=5)
        headers = {"user-agent": "Maillon-Webhooks/1"}
        async with httpx.AsyncClient(
            verify=self._tls, trust_env=False, follow_redirects=False, limits=limits, timeout=timeout, headers=headers
        ) as client:
            yield Channel(client, target, address)
