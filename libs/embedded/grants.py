"""Who signed in and waits for the desk to fetch the tokens: authorization codes, in memory, few and short-lived."""

import secrets
import time
from collections.abc import Callable
from typing import NamedTuple, TypeVar
from uuid import uuid4

from libs.contracts.demonstration import DemonstrationPerson
from libs.embedded.tokens import LIFETIME_SECONDS

Kept = TypeVar("Kept")

CODE_SECONDS = 60
"""RFC 6749 §4.1.2 allows ten minutes; a browser needs one redirect."""

MOST = 1000
"""Codes that wait, codes that were used, sign-ins that were revoked: that many of each are kept at most, some 400 bytes apiece."""


class TooManyWaiting(Exception):
    """MOST codes wait already. Each of them is honoured; a place becomes free within CODE_SECONDS."""


class CodeRefused(Exception):
    """Never given, too old, or used before."""


class Granted(NamedTuple):
    """What a code stands for. `challenge`: S256. `sid`: names this sign-in in its tokens."""

    client_id: str
    redirect_uri: str
    challenge: str
    nonce: str
    scope: str
    person: DemonstrationPerson
    at: int
    sid: str


class Grants:
    """Codes given, each good once. A second use revokes the sign-in (RFC 6749 §4.1.2): what was issued for it counts no more *here*, at
    /userinfo; a service that checks the token by itself does so until it expires."""

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        self._now = now
        # each in the order of its instants, so that the first ones are the oldest
        self._waiting: dict[str, tuple[float, Granted]] = {}
        self._used: dict[str, tuple[float, str]] = {}
        self._revoked: dict[str, tuple[float, str]] = {}

    def give(self, client_id: str, redirect_uri: str, challenge: str, nonce: str, scope: str, person: DemonstrationPerson) -> str:
        """A code for this sign-in, made now. Raises TooManyWaiting."""
        self._forget()
        if len(self._waiting) >= MOST:
            raise TooManyWaiting
        code = secrets.token_urlsafe(32)
        now = self._now()
        self._waiting[code] = now, Granted(client_id, redirect_uri, challenge, nonce, scope, person, int(now), str(uuid4()))
        return code

    def take(self, code: str) -> Granted:
        """What the code stands for. Whoever shows it, rightly or not, has used it. Raises CodeRefused."""
        self._forget()
        if code in self._used:
            self.revoke(self._used[code][1])
            raise CodeRefused
        if code not in self._waiting:
            raise CodeRefused
        _, taken = self._waiting.pop(code)
        self._used[code] = self._now(), taken.sid
        self._forget()
        return taken

    def revoke(self, sid: str) -> None:
        """Idempotent."""
        self._revoked.pop(sid, None)
        self._revoked[sid] = self._now(), sid
        self._forget()

    def is_revoked(self, sid: str) -> bool:
        return sid in self._revoked

    def _forget(self) -> None:
        """What is too old to matter, and the oldest beyond MOST."""
        now = self._now()
        _drop(self._waiting, now - CODE_SECONDS, MOST)
        _drop(self._used, now - LIFETIME_SECONDS, MOST)
        _drop(self._revoked, now - LIFETIME_SECONDS, MOST)


def _drop(kept: dict[str, tuple[float, Kept]], before: float, most: int) -> None:
    while kept:
        oldest = next(iter(kept))
        if kept[oldest][0] > before and len(kept) <= most:
            return
        del kept[oldest]
