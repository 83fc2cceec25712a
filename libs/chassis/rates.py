"""How much one caller may ask for: a window of requests per client (per person, where many share a client) once its token is verified, a window of
refusals per address before that; and of the requests in work a share.

`RateLimit-Policy` and `RateLimit` (draft-ietf-httpapi-ratelimit-headers-10, structured fields) go with every answer to a verified client; a 429
adds `Retry-After`. The counters live in the process: N replicas let through N times as much. (The library's own MemoryStorage starts a thread
every 10 ms and grows with every new key: hence `Windows`, which is bounded and costs 1 µs.)
"""

import math
import time
from collections.abc import Callable
from functools import partial
from ipaddress import AddressValueError, IPv6Address, IPv6Network
from typing import ClassVar

from limits import RateLimitItemPerSecond
from limits.storage import Storage
from limits.strategies import FixedWindowRateLimiter

from libs.chassis.limits import LEAVE, Scope, TooManyAtOnce
from libs.chassis.refusals import Refusal, Unavailable
from libs.chassis.settings import Settings

RATE_HEADERS = "maillon.rate_headers"
"""ASGI scope key: what `libs.chassis.app.Watched` adds to the answer's headers."""

MOST_CALLERS = 10_000
LINK_USES = 20
"""A minute, of one signed link: a person needs two."""


_WAIT = "Trop de demandes de ce client : attendez le nombre de secondes que dit l'en-tête Retry-After, puis reprenez."


class TooManyRequests(Refusal):
    status: ClassVar[int] = 429
    type: ClassVar[str] = "too-many-requests"
    title: ClassVar[str] = "Trop de demandes"


class Windows(Storage):
    """Fixed windows in memory, of one length, for the one thread that answers: at most `room` keys; beyond, the window that ends first goes."""

    STORAGE_SCHEME = None

    def __init__(self, room: int, now: Callable[[], float]) -> None:
        super().__init__()
        self._room, self._now = room, now
        self._windows: dict[str, tuple[float, int]] = {}
        """Key → end and count, the window that ends first in front."""

    def __len__(self) -> int:
        return len(self._windows)

    @property
    def base_exceptions(self) -> type[Exception]:
        return ValueError

    def incr(self, key: str, expiry: int, amount: int = 1) -> int:
        now = self._now()
        window = self._windows.get(key)
        if window is not None and now < window[0]:
            count = window[1] + amount
            self._windows[key] = (window[0], count)
            return count
        self._windows.pop(key, None)
        self._windows[key] = (now + expiry, amount)
        if len(self._windows) > self._room:
            del self._windows[next(iter(self._windows))]
        return amount

    def get(self, key: str) -> int:
        ends_at, count = self._windows.get(key, (0.0, 0))
        return count if self._now() < ends_at else 0

    def get_expiry(self, key: str) -> float:
        window = self._windows.get(key)
        return self._now() if window is None else window[0]

    def check(self) -> bool:
        return True

    def reset(self) -> int:
        forgotten = len(self._windows)
        self._windows.clear()
        return forgotten

    def clear(self, key: str) -> None:
        self._windows.pop(key, None)


class _Quota:
    """One policy: so many a window for each key."""

    def __init__(self, policy: str, amount: int, seconds: int, room: int, now: Callable[[], float]) -> None:
        self._policy, self._now, self._kept = policy, now, amount // 10
        self._item = RateLimitItemPerSecond(amount, seconds, namespace=policy)
        self._limiter = FixedWindowRateLimiter(Windows(room, now))
        self._policy_header = (b"ratelimit-policy", f'"{policy}";q={amount};w={seconds}'.encode())

    def spend(self, scope: Scope, key: str, detail: str) -> None:
        """Raises TooManyRequests."""
        within = self._limiter.hit(self._item, key)
        remaining, seconds = self._left(key)
        scope[RATE_HEADERS] = (self._policy_header, (b"ratelimit", f'"{self._policy}";r={remaining};t={seconds}'.encode()))
        if not within:
            raise TooManyRequests(detail, headers={"Retry-After": str(seconds)})

    def spend_up_to(self, key: str, amount: int) -> int:
        """How many of so many are still within the window, but for the share that is kept for single requests; these are spent."""
        within = max(0, min(amount, self._left(key)[0] - self._kept))
        if within:
            self._limiter.hit(self._item, key, cost=within)
        return within

    def check_kept(self, key: str, detail: str) -> None:
        """Raises TooManyRequests once no more than the share of single requests is left."""
        remaining, seconds = self._left(key)
        if remaining < self._kept:
            raise TooManyRequests(detail, headers={"Retry-After": str(seconds)})

    def _left(self, key: str) -> tuple[int, int]:
        """Requests left in the window, and seconds until its end, one at least."""
        ends_at, remaining = self._limiter.get_window_stats(self._item, key)
        return remaining, max(1, math.ceil(ends_at - self._now()))


class _Share:
    """So many requests in work for each caller, until `Limits` says that one is over."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._at_work: dict[str, int] = {}

    def take(self, scope: Scope, caller: str) -> bool:
        if (leave := scope.pop(LEAVE, None)) is not None:  # a stranger turned out to be somebody: a request has one place
            leave()
        at_work = self._at_work.get(caller, 0)
        if at_work >= self._most:
            return False
        self._at_work[caller] = at_work + 1
        scope[LEAVE] = partial(self._give_back, caller)
        return True

    def _give_back(self, caller: str) -> None:
        if self._at_work[caller] == 1:
            del self._at_work[caller]
        else:
            self._at_work[caller] -= 1


class Rates:
    """One per application."""

    def __init__(self, settings: Settings, *, room: int = MOST_CALLERS, now: Callable[[], float] = time.monotonic) -> None:
        self._clients = _Quota("client", settings.rate_limit_requests, settings.rate_limit_seconds, room, now)
        self._links = _Quota("link", LINK_USES, 60, room, now)
        self._strangers = _Quota("stranger", settings.rate_limit_refusals, settings.rate_limit_seconds, room, now)
        self._at_work = _Share(settings.client_concurrency_limit)
        self._strangers_at_work = _Share(settings.client_concurrency_limit)
        self._unproven_at_work = _Share(settings.client_concurrency_limit)
        self._unrecognised_at_work = _Share(settings.client_concurrency_limit)

    def spend(self, scope: Scope, owner: str) -> None:
        """Counts a request of a verified caller (`Principal.owner`), and that it is in work. Raises TooManyRequests, TooManyAtOnce."""
        self._clients.spend(scope, owner, _WAIT)
        if not self._at_work.take(scope, owner):
            raise TooManyAtOnce(
                "Trop de demandes de ce client sont en cours : attendez la réponse des premières, puis reprenez.",
                headers={"Retry-After": "1"},
            )

    def check_lines(self, owner: str) -> None:
        """Before a request of many lines: a tenth of the client's rate is left to its single requests. Raises TooManyRequests."""
        self._clients.check_kept(owner, _WAIT)

    def spend_lines(self, owner: str, lines: int) -> int:
        """Counts lines of a request as requests of their own. Gives how many of them are within what the client's rate lets lines spend."""
        return self._clients.spend_up_to(owner, lines)

    def admit(self, scope: Scope) -> None:
        """Counts that a request of nobody known is in work, for its address. Raises Unavailable."""
        self._take(self._strangers_at_work, scope)

    def admit_unproven(self, scope: Scope) -> None:
        """Counts that a request waits for the issuer, for its address: for its keys, or for a session to go on. Raises Unavailable.

        Beside those of `admit`, who shut nobody with a token out.
        """
        self._take(self._unproven_at_work, scope)

    def admit_unrecognised(self, scope: Scope) -> None:
        """Counts that a request waits until it is known whose session it names, for its address. Raises Unavailable.

        Beside the others: neither strangers nor an issuer that does not answer shut out who is signed in.
        """
        self._take(self._unrecognised_at_work, scope)

    def _take(self, share: _Share, scope: Scope) -> None:
        if not share.take(scope, _address(scope)):
            raise Unavailable("Trop de demandes de cette adresse sont en cours : réessayez dans un instant.", retry_after_seconds=1)

    def spend_link(self, scope: Scope, link: str) -> None:
        """Counts a use of a signed link, which stands in for a token. Raises TooManyRequests."""
        self._links.spend(scope, link, "Ce lien est ouvert trop souvent : attendez une minute, puis réessayez.")

    def refuse(self, scope: Scope, refusal: Refusal) -> Refusal:
        """The refusal of a caller without a valid token: the one given, or, when its address had too many, TooManyRequests.

        The token was looked at first: many clients share an address (a proxy's, a ministry's), and one that sends rubbish
        must not shut out its neighbours.
        """
        try:
            self._strangers.spend(
                scope,
                _address(scope),
                "Trop de demandes sans jeton valable depuis cette adresse : attendez, puis demandez un nouveau jeton.",
            )
        except TooManyRequests as too_many:
            return too_many
        return refusal


def _address(scope: Scope) -> str:
    """The caller's address; of IPv6 the /64, which one machine has to itself."""
    client = scope.get("client")
    host = str(client[0]) if client else "local"
    if ":" not in host:
        return host
    try:
        address = IPv6Address(host.partition("%")[0])
    except AddressValueError:
        return host
    return str(address.ipv4_mapped or IPv6Network((address, 64), strict=False).network_address)
