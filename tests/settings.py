"""Settings for tests: made-up secrets, addresses that lead nowhere unless a test gives them."""

import json
from base64 import b64encode
from typing import Any

from joserfc.jwk import ECKey

from libs.chassis.settings import Settings

_SIGNING_KEY = json.dumps(ECKey.generate_key("P-256", auto_kid=True).as_dict(private=True))
NOWHERE = "http://127.0.0.1:9"


_read: dict[str, Settings] = {}
"""To read settings takes 10 ms: tests differ in the address of their database alone."""


def settings_for(service: str, kind: type[Settings] = Settings, **overrides: Any) -> Settings:
    """A service's settings, of its own class where given. `overrides` are fields of Settings, plain values."""
    address = overrides.pop("database_url", "postgresql://nobody@127.0.0.1:9/nothing")
    if "environment" in overrides:  # production looks at the address
        return _of(service, kind, overrides | {"database_url": address})
    key = f"{service} {kind!r} {overrides!r}"
    if key not in _read:
        _read[key] = _of(service, kind, overrides | {"database_url": address})
    return _read[key].model_copy(update={"database_url": address})


def _of(service: str, kind: type[Settings], overrides: dict[str, Any]) -> Settings:
    own = kind if kind.service == service else type("TestSettings", (kind,), {"service": service, "__annotations__": {}})
    given: dict[str, Any] = {
        "environment": "development",
        "kafka_bootstrap_servers": "127.0.0.1:9",
        "kafka_fetch_max_wait_ms": 20,
        "kafka_create_topics": False,
        "kafka_group_sharing": False,
        "token_issuer": NOWHERE,
        "token_jwks_url": f"{NOWHERE}/jwks",
        "token_url": f"{NOWHERE}/token",
        "client_id": service,
        "client_secret": "a-test",
        "pseudonym_key": b64encode(b"p" * 32).decode(),
        "search_key": b64encode(b"s" * 32).decode(),
        "vault_keys": json.dumps({"test": b64encode(b"v" * 32).decode()}),
        "vault_active_key": "test",
        "signing_key": _SIGNING_KEY,
        "head_poll_seconds": 0.3,
    }
    made: Settings = own(**(given | overrides))
    return made
