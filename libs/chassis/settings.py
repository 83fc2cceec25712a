"""Settings, from the environment: `REFERRALS_DATABASE_URL` first, then `MAILLON_…`, then the bare name `KAFKA_BOOTSTRAP_SERVERS`.

Production is the default; development must be said (`MAILLON_ENVIRONMENT=development`). In production, secrets of the embedded default and
plain connections are refused. No message ever shows a value, only the variable's name and what to do.
"""

import json
from base64 import b64decode, b64encode, urlsafe_b64encode
from collections.abc import Mapping
from hashlib import sha256
from ipaddress import ip_network
from typing import Any, ClassVar, Final, Literal, Self
from urllib.parse import parse_qs, unquote, urlsplit

from cryptography.hazmat.primitives.asymmetric import ec
from pydantic import Field, HttpUrl, SecretStr, TypeAdapter, ValidationError, field_validator, model_validator
from pydantic_core import PydanticCustomError
from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict
from pydantic_settings import SettingsError as EnvironmentUnreadable

DEVELOPMENT_MARK = "maillon-development-"
"""Every secret of the embedded default carries it, in clear or in base64, and production refuses it."""

_MARKS = (DEVELOPMENT_MARK, b64encode(DEVELOPMENT_MARK.encode()).decode()[:26])

# A bare HOST, PORT or DATABASE_URL in an environment belongs to somebody else, or would be shared by four services.
_NEVER_BARE = frozenset({"environment", "host", "port", "log_level", "database_url", "public_url", "client_id", "client_secret"})

_VERIFIED = frozenset({"verify-ca", "verify-full"})
"""`sslmode=require` takes any certificate."""

_URL: TypeAdapter[HttpUrl] = TypeAdapter(HttpUrl)


class SettingsError(Exception):
    """The settings cannot be used. `sentences`: what to do, one per setting, without any value."""

    def __init__(self, sentences: list[str]) -> None:
        super().__init__("\n".join(sentences))
        self.sentences = sentences


class _BareNames(EnvSettingsSource):
    """Environment variables without prefix, save those whose bare name is not ours to read."""

    def __call__(self) -> dict[str, Any]:
        return {name: value for name, value in super().__call__().items() if name not in _NEVER_BARE}


def _wrong(sentence: str) -> PydanticCustomError:
    return PydanticCustomError("setting", "{sentence}", {"sentence": sentence})


class Settings(BaseSettings):
    """Common to every service: `class Settings(ChassisSettings): service = "referrals"`. `Settings.load()` raises SettingsError."""

    model_config = SettingsConfigDict(extra="ignore", frozen=True, hide_input_in_errors=True, env_ignore_empty=True, validate_default=False)

    service: ClassVar[str] = "chassis"

    environment: Literal["development", "production"] = "production"

    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=0, le=65535)
    public_url: str = "http://127.0.0.1:8000"
    """Own base URL as callers see it, for `dataref` and links."""
    trusted_proxies: list[str] = Field(default_factory=list)
    """Addresses or networks, as JSON: ["10.20.0.5"]. What comes from there is counted by the address in its X-Forwarded-For. None: that header is
    not looked at, and behind a proxy all callers without a token are one."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    otlp_endpoint: str | None = None
    """Base URL of an OpenTelemetry collector (OTLP over HTTP); none: traces stay in the process."""
    trace_ratio: float = Field(default=1.0, ge=0, le=1)

    database_url: str
    database_pool_size: int = Field(default=10, ge=2, le=200)
    """Connections of each of a process's two pools, one for transactions and one for `reading` (database.py): it may open twice as many, and a few
    outside of them, for the locks of the relay, of jobs and of listeners. All processes together stay below PostgreSQL's `max_connections`."""
    database_allow_plaintext: bool = False

    kafka_bootstrap_servers: str
    kafka_topic_prefix: str = Field(default="maillon", pattern=r"^[a-z0-9-]{1,40}$")
    """First part of every topic's and group's name: two networks can share a cluster."""
    kafka_create_topics: bool = True
    """False on the embedded broker: it has no admin API, topics appear on first use."""
    kafka_replication_factor: int = Field(default=-1, ge=-1, le=9)
    """-1: the broker's own default."""
    kafka_group_sharing: bool = True
    """False on the embedded broker: one consumer per group, stand-bys wait on an advisory lock."""
    kafka_fetch_max_wait_ms: int = Field(default=500, ge=1, le=30_000)
    """20 on the embedded broker, whose fetch answers only when this time is over."""
    kafka_security_protocol: Literal["PLAINTEXT", "SSL"] = "PLAINTEXT"
    kafka_allow_plaintext: bool = False
    kafka_ssl_cafile: str | None = None
    kafka_ssl_certfile: str | None = None
    kafka_ssl_keyfile: str | None = None

    source_urls: dict[str, str] = Field(default_factory=dict)
    """Base URLs of the other services' feeds, as JSON: {"partners": "https://partners.example"}."""

    token_issuer: str
    token_audience: str = "maillon"  # noqa: S105  # the name of an audience, no secret
    token_jwks_url: str
    token_leeway_seconds: int = Field(default=30, ge=0, le=120)
    token_types: tuple[str, ...] = ("at+jwt",)
    """Accepted `typ` headers (RFC 9068). Add "JWT" for a provider that does not write at+jwt."""
    http_allow_plaintext: bool = False
    """Production otherwise wants https for the token endpoints and the feeds."""

    token_url: str
    client_id: str
    client_secret: SecretStr

    pseudonym_key: SecretStr
    vault_keys: SecretStr
    """JSON {key id: base64 of 32 bytes}."""
    vault_active_key: str
    search_key: SecretStr
    signing_key: SecretStr
    """JWK of a private EC P-256 key: signs stream heads and receipts. Its public half is published at GET /v1/keys."""
    former_signing_keys: str = '{"keys": []}'
    """JWKS of earlier public keys, so that what they signed stays verifiable."""

    retention_days: int = Field(default=30, ge=1, le=3650)
    unheard_retention_days: int = Field(default=365, ge=0, le=3650)
    """How long `internal` keeps what one of the services that listen to it has not confirmed, where that is longer: who keeps a history has no other way to it."""
    awaited_listeners: list[str] = Field(default_factory=list)
    """Client ids of services that are waited for like this before they have ever listened, as JSON: ["reporting"]."""
    consumer_park_limit: int = Field(default=36, ge=1, le=10_000)
    head_poll_seconds: float = Field(default=5, gt=0, le=3600)
    idempotency_hours: int = Field(default=48, ge=24, le=24 * 90)
    """How long an answer is kept for a repeated Idempotency-Key."""

    body_limit_bytes: int = Field(default=1_048_576, ge=1024, le=1_073_741_824)
    body_timeout_seconds: float = Field(default=20, gt=0, le=600)
    """How long a request's body may take to arrive as a whole; of a body of any number of lines, each line."""
    concurrency_limit: int = Field(default=500, ge=1, le=100_000)
    """Requests in work at once; more are answered 503 with Retry-After."""
    client_concurrency_limit: int = Field(default=200, ge=1, le=100_000)
    """Of those, the requests of one client, with answers that it does not read; more are answered 429 with Retry-After. Without a token: of one
    address, answered 503."""
    rate_limit_seconds: int = Field(default=60, ge=1, le=86_400)
    rate_limit_requests: int = Field(default=120_000, ge=1, le=1_000_000_000)
    """Requests of one client in a window of `rate_limit_seconds`, for each process; more are answered 429 with Retry-After."""
    rate_limit_refusals: int = Field(default=600, ge=1, le=1_000_000_000)
    """Refusals for want of a valid token, of one address in such a window, before they become 429."""
    metrics_public: bool = True
    """Whether /metrics answers without a token (a scraper on the inner network)."""
    webhook_networks: list[str] = Field(default_factory=list)
    """Private networks that subscribers' URLs may lie in, as JSON: ["10.20.0.0/16"]. None: public addresses only."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        own = EnvSettingsSource(settings_cls, env_prefix=f"{cls.service.upper()}_")
        common = EnvSettingsSource(settings_cls, env_prefix="MAILLON_")
        return init_settings, own, common, _BareNames(settings_cls, env_prefix="")

    @classmethod
    def load(cls, **overrides: Any) -> Self:
        """From the environment. Raises SettingsError, whose sentences say what to set."""
        try:
            return cls(**overrides)
        except EnvironmentUnreadable:  # its message may show the value
            raise SettingsError(["Une variable d'environnement qui attend du JSON (SOURCE_URLS par exemple) n'en contient pas."]) from None
        except ValidationError as error:
            raise SettingsError(
                [_sentence(cls.service, dict(one)) for one in error.errors(include_input=False, include_url=False)]
            ) from None

    def awaited(self) -> list[str]:
        """`awaited_listeners` but for this service itself."""
        return [one for one in self.awaited_listeners if one != self.client_id]

    @field_validator("pseudonym_key", "search_key")
    @classmethod
    def _thirty_two_bytes(cls, value: SecretStr) -> SecretStr:
        _key_bytes(value.get_secret_value())
        return value

    @field_validator("vault_keys")
    @classmethod
    def _named_keys(cls, value: SecretStr) -> SecretStr:
        try:
            keys = json.loads(value.get_secret_value())
        except ValueError:
            keys = None
        if not isinstance(keys, dict) or not keys or not all(isinstance(key, str) for key in keys.values()):
            raise _wrong('doit être un objet JSON {"identifiant de clé": "32 octets en base64"}')
        for key in keys.values():
            _key_bytes(key)
        return value

    @field_validator("public_url", "token_jwks_url", "token_url", "otlp_endpoint")
    @classmethod
    def _http_url(cls, value: str | None) -> str | None:
        return None if value is None else _base_url(value)

    @field_validator("source_urls")
    @classmethod
    def _http_urls(cls, value: dict[str, str]) -> dict[str, str]:
        return {source: _base_url(url) for source, url in value.items()}

    @field_validator("webhook_networks")
    @classmethod
    def _networks(cls, value: list[str]) -> list[str]:
        try:
            return [str(ip_network(network)) for network in value]
        except ValueError:
            raise _wrong('doit être une liste JSON de réseaux, par exemple ["10.20.0.0/16"]') from None

    @field_validator("trusted_proxies")
    @classmethod
    def _proxies(cls, value: list[str]) -> list[str]:
        try:
            networks = [ip_network(proxy) for proxy in value]
        except ValueError:
            networks = []
        if len(networks) < len(value) or any(network.prefixlen == 0 for network in networks):  # whoever comes would say who he is
            raise _wrong('doit être une liste JSON d\'adresses ou de réseaux, par exemple ["10.20.0.5"], et non le monde entier')
        return [str(network) for network in networks]

    @field_validator("database_url")
    @classmethod
    def _postgresql(cls, value: str) -> str:
        if urlsplit(value).scheme not in ("postgresql", "postgres"):
            raise _wrong("doit commencer par postgresql://")
        return value

    @model_validator(mode="after")
    def _vault_key_known(self) -> Self:
        if self.vault_active_key not in json.loads(self.vault_keys.get_secret_value()):
            raise _wrong("VAULT_ACTIVE_KEY doit nommer une des clés de VAULT_KEYS.")
        return self

    @model_validator(mode="after")
    def _fit_for_production(self) -> Self:
        if self.environment != "production":
            return self
        wrong = [
            f"{name.upper()} est un secret de démonstration : donnez un secret propre à la production."
            for name in type(self).model_fields
            if isinstance(value := getattr(self, name), SecretStr) and is_development(value.get_secret_value())
        ]
        if self.kafka_security_protocol == "PLAINTEXT" and not self.kafka_allow_plaintext:
            wrong.append("Kafka n'est pas chiffré : KAFKA_SECURITY_PROTOCOL=SSL, ou KAFKA_ALLOW_PLAINTEXT=true si le réseau l'est déjà.")
        if not self.database_allow_plaintext and not _is_private(self.database_url):
            wrong.append(
                "La connexion à PostgreSQL n'est pas chiffrée pour un serveur vérifié : ajoutez sslmode=verify-full à l'adresse, "
                "ou DATABASE_ALLOW_PLAINTEXT=true si le réseau l'est déjà."
            )
        if not self.http_allow_plaintext:
            urls = {"TOKEN_JWKS_URL": self.token_jwks_url, "TOKEN_URL": self.token_url}
            urls |= {f"SOURCE_URLS ({source})": url for source, url in self.source_urls.items()}
            wrong += [
                f"{name} n'est pas en https : corrigez-la, ou HTTP_ALLOW_PLAINTEXT=true si le réseau est déjà chiffré."
                for name, url in urls.items()
                if not url.startswith("https://")
            ]
        if wrong:
            raise _wrong("\n".join(wrong))
        return self


ChassisSettings = Settings


def _key_bytes(text: str) -> bytes:
    try:
        key = b64decode(text, validate=True)
    except ValueError:
        key = b""
    if len(key) != 32:
        raise _wrong("doit contenir 32 octets en base64 (par exemple : openssl rand -base64 32)")
    return key


_UNUSED = "https://unused.invalid"
BESIDE: Final[Mapping[str, Any]] = {
    "kafka_bootstrap_servers": "unused:9092",
    "kafka_allow_plaintext": True,
    "token_issuer": _UNUSED,
    "token_jwks_url": _UNUSED,
    "token_url": _UNUSED,
    "client_secret": SecretStr(""),
}
"""For `Settings.load(**BESIDE)`: a command that works beside the service, on its database alone, reaches no broker and no issuer, whatever is configured."""


def secret_bytes(secret: SecretStr) -> bytes:
    """The 32 bytes of a base64 secret."""
    return _key_bytes(secret.get_secret_value())


def named_keys(secret: SecretStr) -> dict[str, bytes]:
    """The keys of `vault_keys`: id → 32 bytes."""
    return {name: _key_bytes(text) for name, text in json.loads(secret.get_secret_value()).items()}


def _base_url(value: str) -> str:
    """As the check has read it: what was given may hold tabs and line breaks, at which httpx would stop when the first request is made."""
    try:
        return str(_URL.validate_python(value)).rstrip("/")
    except ValidationError:
        raise _wrong("doit être une adresse http:// ou https://") from None


def _is_private(url: str) -> bool:
    """TLS with a verified certificate, or Unix sockets only: as asyncpg reads an address, which takes `host=` only where no host stands before the path,
    a list of hosts in either place, and no `ssl=`."""
    parts = urlsplit(url)
    query = parse_qs(parts.query)
    if query.get("sslmode", [""])[-1] in _VERIFIED:
        return True
    hosts = unquote(parts.netloc.partition("@")[2] if "@" in parts.netloc else parts.netloc) or query.get("host", [""])[-1]
    return all(host.startswith("/") for host in hosts.split(","))


def _sentence(service: str, error: dict[str, Any]) -> str:
    message = str(error.get("ctx", {}).get("sentence", ""))
    if not error["loc"]:
        return message
    name = str(error["loc"][0])
    variable = f"{service.upper()}_{name.upper()}" if name in _NEVER_BARE else name.upper()
    if error["type"] == "missing":
        return f"{variable} manque : donnez-lui une valeur dans l'environnement."
    if message:
        return f"{variable} {message}."
    if error["type"] == "literal_error":
        return f"{variable} a une valeur inconnue : attendu {error['ctx']['expected'].replace(' or ', ' ou ')}."
    return f"{variable} a une valeur qui ne convient pas : voir libs/chassis/settings.py."


# The embedded default's secrets


def is_development(secret: str) -> bool:
    """Whether a secret is one of those that the embedded default hands out."""
    return any(mark in secret for mark in _MARKS)


def _development_bytes(name: str) -> bytes:
    return DEVELOPMENT_MARK.encode() + sha256(name.encode()).digest()[:12]


def development_secrets(service: str) -> dict[str, str]:
    """Fixed secrets for one machine: setting → value. Refused in production. Pseudonyms are the same whichever service speaks."""
    scalar = _development_bytes(f"signing-{service}")
    numbers = ec.derive_private_key(int.from_bytes(scalar), ec.SECP256R1()).public_key().public_numbers()

    def coordinate(value: bytes) -> str:
        return urlsafe_b64encode(value).rstrip(b"=").decode()

    signing_key = {
        "kty": "EC",
        "crv": "P-256",
        "kid": f"{DEVELOPMENT_MARK}{service}",
        "x": coordinate(numbers.x.to_bytes(32)),
        "y": coordinate(numbers.y.to_bytes(32)),
        "d": coordinate(scalar),
    }
    return {
        "client_secret": f"{DEVELOPMENT_MARK}{service}",
        "pseudonym_key": b64encode(_development_bytes("pseudonym")).decode(),
        "vault_keys": json.dumps({"development": b64encode(_development_bytes(f"vault-{service}")).decode()}),
        "vault_active_key": "development",
        "search_key": b64encode(_development_bytes("search")).decode(),
        "signing_key": json.dumps(signing_key),
    }
