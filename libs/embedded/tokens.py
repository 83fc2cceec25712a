"""Keys and tokens of the development issuer, without HTTP: what tests sign with."""

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, KeySet

from libs.contracts.demonstration import CLIENTS, DemonstrationPerson

AUDIENCE = "maillon"
SCOPE = "maillon"
LIFETIME_SECONDS = 3600
ACCESS_TOKEN = "at+jwt"  # noqa: S105  # the `typ` of RFC 9068
ID_TOKEN = "JWT"  # noqa: S105  # a `typ` too
_ID_TOKEN_SECONDS = 600
_KEPT_KEYS = 3  # a token lives one hour: the keys of the two rotations before stay published
_ALGORITHMS = ["ES256"]


class UnknownClient(LookupError):
    """No demonstration client has this id."""


class ForeignToken(ValueError):
    """Not a token of this kind that this issuer signed with a key it still publishes."""


class Issuer:
    """The newest key signs; earlier ones still verify."""

    def __init__(self, url: str, key_file: Path | None = None) -> None:
        """`url`: the `iss` claim. `key_file`: where the keys live from one start to the next; none: in memory only."""
        self.url = url.rstrip("/")
        self._key_file = key_file
        self._keys = _read_keys(key_file)
        if not self._keys:
            self.rotate()

    def issue(self, client_id: str, /, *, lifetime: int = LIFETIME_SECONDS, **claims: Any) -> str:
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
        return self._sign(ACCESS_TOKEN, said | claims)

    def identify(self, person: DemonstrationPerson, client_id: str, *, nonce: str, auth_time: int, sid: str) -> str:
        """An id_token (OpenID Connect Core §2): who signed in, said to that client alone."""
        now = int(time.time())
        said = {"iss": self.url, "aud": client_id, "sub": str(person.id), "name": person.name, "sid": sid}
        return self._sign(ID_TOKEN, said | {"nonce": nonce, "auth_time": auth_time, "iat": now, "exp": now + _ID_TOKEN_SECONDS})

    def read(self, token: str, kind: str) -> dict[str, Any]:
        """The claims of a token that was signed here, expired or not. `kind`: ACCESS_TOKEN, ID_TOKEN. Raises ForeignToken."""
        try:
            read = jwt.decode(token, KeySet([*self._keys]), algorithms=_ALGORITHMS)
        except (JoseError, ValueError, TypeError, KeyError, RecursionError):
            raise ForeignToken from None
        if read.header.get("typ") != kind or read.claims.get("iss") != self.url:
            raise ForeignToken
        return dict(read.claims)

    def _sign(self, kind: str, claims: Mapping[str, Any]) -> str:
        key = self._keys[0]
        said = {name: value for name, value in claims.items() if value is not None}
        return jwt.encode({"alg": "ES256", "typ": kind, "kid": key.kid}, said, key, algorithms=_ALGORITHMS)

    def rotate(self) -> None:
        """A new key signs from now on."""
        key = ECKey.generate_key("P-256", auto_kid=True)
        self._keys = [key, *self._keys][:_KEPT_KEYS]
        if self._key_file:
            _write_keys(self._key_file, self._keys)

    def jwks(self) -> dict[str, Any]:
        """The public keys, newest first."""
        return {"keys": [{**key.as_dict(private=False), "use": "sig", "alg": "ES256"} for key in self._keys]}


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
