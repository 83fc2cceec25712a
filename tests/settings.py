"""Settings for tests: made-up secrets, addresses that lead nowhere unless a test gives them."""

import json
from base64 import b64encode
from typing import Any

from joserfc.jwk import ECKey

from libs.chassis.settings import Settings

_SIGNING_KEY = json.dumps(ECKey.generate_key("P-256", auto_kid=True).as_dict(private=True))
NOWHERE = "http://127.0.0.1:9"


def settings_for(service: str, kind: type[Settings] = Settings, **overrides: Any) -> Settings:
    """A service's settings, of its own class where given. `overrides` are fields of Settings."""
    own = kind if kind.service == service else type("TestSettings", (kind,), {"service": service, "__annotations__": {}})
    given: dict[str, Any] = {
        "environment": "development",
        "database_url": "postgresql://nobody@127.0.0.1:9/nothing",
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
