"""Settings: where they come from, and what production refuses."""

import json
from base64 import b64encode
from inspect import signature
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import trustme
from asyncpg.connect_utils import SSLMode, _parse_connect_dsn_and_args  # type: ignore[attr-defined]  # not in its stubs
from joserfc.jwk import ECKey
from pydantic import SecretStr, create_model

from libs.chassis import settings
from libs.chassis.settings import Settings, SettingsError, development_secrets, is_development, named_keys, secret_bytes
from libs.chassis.signing import Signer, verify_detached
from tests.planted import red


class PartnersSettings(Settings):
    service = "partners"


OWN_KEY = b64encode(bytes(range(32))).decode()


def _own_signing_key() -> str:
    return json.dumps(ECKey.generate_key("P-256", {"kid": "2027"}).as_dict(private=True))


PRODUCTION: dict[str, str] = {
    "PARTNERS_DATABASE_URL": "postgresql://partners:hunter2@db.example/partners?sslmode=verify-full",
    "PARTNERS_CLIENT_ID": "partners",
    "PARTNERS_CLIENT_SECRET": "a-secret-of-production",
    "KAFKA_BOOTSTRAP_SERVERS": "kafka.example:9093",
    "KAFKA_SECURITY_PROTOCOL": "SSL",
    "TOKEN_ISSUER": "https://id.example",
    "TOKEN_JWKS_URL": "https://id.example/jwks",
    "TOKEN_URL": "https://id.example/token",
    "PSEUDONYM_KEY": OWN_KEY,
    "VAULT_KEYS": json.dumps({"2026": OWN_KEY}),
    "VAULT_ACTIVE_KEY": "2026",
    "SEARCH_KEY": OWN_KEY,
    "SIGNING_KEY": _own_signing_key(),
    "SOURCE_URLS": '{"funding": "https://funding.example/"}',
}


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name, value in PRODUCTION.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


def _refusals() -> str:
    with pytest.raises(SettingsError) as caught:
        PartnersSettings.load()
    return "\n".join(caught.value.sentences)


def test_production_is_the_default_and_its_own_settings_are_accepted(environment: pytest.MonkeyPatch) -> None:
    settings = PartnersSettings.load()

    assert settings.environment == "production"
    assert settings.source_urls == {"funding": "https://funding.example"}
    assert secret_bytes(settings.pseudonym_key) == bytes(range(32))
    assert named_keys(settings.vault_keys) == {"2026": bytes(range(32))}


def test_the_services_own_name_goes_before_the_shared_one(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("PARTNERS_KAFKA_BOOTSTRAP_SERVERS", "own.example:9093")
    environment.setenv("MAILLON_LOG_LEVEL", "warning")

    settings = PartnersSettings.load()

    assert settings.kafka_bootstrap_servers == "own.example:9093"
    assert settings.log_level == "warning"


def test_a_bare_host_port_or_database_url_of_somebody_else_is_not_read(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("HOST", "elsewhere")
    environment.setenv("PORT", "1")
    environment.setenv("ENVIRONMENT", "development")
    environment.setenv("DATABASE_URL", "postgresql://somebody@else/other")

    settings = PartnersSettings.load()

    assert (settings.host, settings.port, settings.environment) == ("127.0.0.1", 8000, "production")
    assert settings.database_url == PRODUCTION["PARTNERS_DATABASE_URL"]


def test_what_is_missing_is_named_by_its_variable(environment: pytest.MonkeyPatch) -> None:
    environment.delenv("PARTNERS_DATABASE_URL")
    environment.delenv("SEARCH_KEY")

    said = _refusals()

    assert "PARTNERS_DATABASE_URL manque" in said
    assert "SEARCH_KEY manque" in said


def test_proxies_are_addresses_or_networks_and_never_everybody(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("TRUSTED_PROXIES", '["10.20.0.5", "fd00::/64"]')
    assert PartnersSettings.load().trusted_proxies == ["10.20.0.5/32", "fd00::/64"]

    for wrong in ('["*"]', '["proxy.example"]', '["0.0.0.0/0"]', '["::/0"]', '["10.20.0.5/24"]'):
        environment.setenv("TRUSTED_PROXIES", wrong)
        assert "TRUSTED_PROXIES doit être une liste JSON d'adresses" in _refusals()


@pytest.mark.parametrize("name", ["client_secret", "pseudonym_key", "vault_keys", "search_key", "signing_key"])
def test_production_refuses_each_secret_of_the_embedded_default(environment: pytest.MonkeyPatch, name: str) -> None:
    secrets = development_secrets("partners")
    environment.setenv(f"PARTNERS_{name.upper()}", secrets[name])
    environment.setenv("VAULT_ACTIVE_KEY", secrets["vault_active_key"] if name == "vault_keys" else "2026")

    assert f"{name.upper()} est un secret de démonstration" in _refusals()


def test_a_signing_key_of_the_embedded_default_is_known_again_under_another_name() -> None:
    key = json.loads(development_secrets("partners")["signing_key"])

    assert is_development(json.dumps({**key, "kid": "2027"}))
    assert not is_development(PRODUCTION["SIGNING_KEY"])


def test_the_secrets_of_the_embedded_default_work_in_development(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("MAILLON_ENVIRONMENT", "development")
    for name, value in development_secrets("partners").items():
        environment.setenv(f"PARTNERS_{name.upper()}", value)

    settings = PartnersSettings.load()

    signer = Signer(settings.signing_key.get_secret_value())
    assert verify_detached(signer.sign_detached(b"head"), b"head", signer.public_jwks())
    assert all(len(key) == 32 for key in named_keys(settings.vault_keys).values())


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("KAFKA_SECURITY_PROTOCOL", "PLAINTEXT", "Kafka n'est pas chiffré"),
        ("PARTNERS_DATABASE_URL", "postgresql://partners@db.example/partners", "La connexion à PostgreSQL n'est pas chiffrée"),
        (
            "PARTNERS_DATABASE_URL",
            "postgresql://partners@db.example/partners?sslmode=prefer",
            "La connexion à PostgreSQL n'est pas chiffrée",
        ),
        ("TOKEN_JWKS_URL", "http://id.example/jwks", "TOKEN_JWKS_URL n'est pas en https"),
        ("SOURCE_URLS", '{"funding": "http://funding.example"}', "SOURCE_URLS (funding) n'est pas en https"),
    ],
)
def test_production_refuses_plain_connections(environment: pytest.MonkeyPatch, name: str, value: str, sentence: str) -> None:
    environment.setenv(name, value)

    assert sentence in _refusals()


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://p:w@db.example/x?sslmode=require",
        "postgresql://p:w@db.example/x?ssl=verify-full",
        "postgresql://p:w@db.example/x?sslmode=verify-full&sslmode=prefer",
        "postgresql://p:w@db.example:5432/x?host=/tmp",
        "postgresql://p:w@/x?host=/tmp,db.example",
        "postgresql://p:w@%2Ftmp,db.example/x",
        "postgresql://p:w@/x",
    ],
)
def test_nothing_that_may_go_over_the_network_passes_for_private(environment: pytest.MonkeyPatch, url: str) -> None:
    environment.setenv("PARTNERS_DATABASE_URL", url)

    assert "La connexion à PostgreSQL n'est pas chiffrée" in _refusals()


LET_THROUGH = [
    *(
        ("KAFKA_ALLOW_PLAINTEXT", "KAFKA_SECURITY_PROTOCOL", "PLAINTEXT"),
        ("HTTP_ALLOW_PLAINTEXT", "TOKEN_JWKS_URL", "http://id.example/jwks"),
    ),
    ("DATABASE_ALLOW_PLAINTEXT", "PARTNERS_DATABASE_URL", "postgresql://partners@db.example/partners"),
]
"""What lets a plain connection through, the setting that is then plain, and its value."""


@pytest.mark.parametrize(("allowed", "name", "value"), LET_THROUGH)
def test_planted_a_plain_connection_that_is_let_through_is_seen(
    environment: pytest.MonkeyPatch, allowed: str, name: str, value: str
) -> None:
    """As if it were allowed without being said."""
    careless: Any = create_model("Careless", __base__=PartnersSettings, **{allowed.lower(): (bool, True)})  # type: ignore[call-overload]  # a name made here
    environment.setitem(globals(), "PartnersSettings", careless)

    with red("DID NOT RAISE"):
        test_production_refuses_plain_connections(environment, name, value, "")


def test_planted_tls_with_a_certificate_that_nobody_checks_is_seen(environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    environment.setattr(settings, "_VERIFIED", settings._VERIFIED | {"require"})

    with red("DID NOT RAISE"):
        test_nothing_that_may_go_over_the_network_passes_for_private(environment, "postgresql://p:w@db.example/x?sslmode=require")
    with red("sslmode=require"):
        test_what_we_take_for_private_is_so_to_the_driver(environment, tmp_path)


BEFORE = ("", "p@", "p:w@", "p:w@x@")
HOSTS = ("", "db.example", "db.example:5432", "%2Ftmp", "%2Ftmp,db.example", ":5432", "/tmp")
QUERIES = (
    "host=/tmp",
    "host=db.example",
    "host=/tmp,db.example",
    "host=/a,/b",
    "host=/a&host=db.example",
    "sslmode=require",
    "sslmode=verify-ca",
    "sslmode=verify-full&sslmode=prefer",
    "host=db.example&sslmode=verify-full",
    "ssl=verify-full",
)


def test_what_we_take_for_private_is_so_to_the_driver(environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "authority.pem").write_bytes(trustme.CA().cert_pem.bytes())
    environment.setenv("PGSSLROOTCERT", str(tmp_path / "authority.pem"))
    given = dict.fromkeys(list(signature(_parse_connect_dsn_and_args).parameters)[1:])
    private = 0

    for before, host, query in product(BEFORE, HOSTS, QUERIES):
        url = f"postgresql://{before}{host}/x?{query}"
        if settings._is_private(url):
            addresses, asked = _parse_connect_dsn_and_args(dsn=url, **given)
            assert asked.sslmode >= SSLMode.verify_ca or all(isinstance(one, str) for one in addresses), url
            private += 1

    assert 0 < private < len(BEFORE) * len(HOSTS) * len(QUERIES)


@pytest.mark.parametrize(
    "changed",
    [
        {"KAFKA_SECURITY_PROTOCOL": "PLAINTEXT", "KAFKA_ALLOW_PLAINTEXT": "true"},
        {"PARTNERS_DATABASE_URL": "postgresql://partners@db.example/partners", "DATABASE_ALLOW_PLAINTEXT": "true"},
        {"PARTNERS_DATABASE_URL": "postgresql://partners@/partners?host=/run/postgresql"},
        {"TOKEN_URL": "http://id.example/token", "HTTP_ALLOW_PLAINTEXT": "true"},
    ],
)
def test_unless_it_was_told_otherwise(environment: pytest.MonkeyPatch, changed: dict[str, str]) -> None:
    for name, value in changed.items():
        environment.setenv(name, value)

    assert PartnersSettings.load().environment == "production"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PSEUDONYM_KEY", "hunter2-not-base64"),
        ("VAULT_KEYS", '{"2026": "hunter2"}'),
        ("VAULT_KEYS", "hunter2"),
        ("VAULT_ACTIVE_KEY", "hunter2"),
        ("SOURCE_URLS", '{"hunter2'),
        ("TOKEN_URL", "hunter2"),
        ("PARTNERS_DATABASE_URL", "mysql://hunter2@db/x"),
        ("PARTNERS_PORT", "hunter2"),
        ("MAILLON_ENVIRONMENT", "hunter2"),
        ("PARTNERS_CLIENT_SECRET", "maillon-development-hunter2"),
    ],
)
def test_no_message_ever_shows_a_value(environment: pytest.MonkeyPatch, name: str, value: str) -> None:
    environment.setenv(name, value)

    with pytest.raises(SettingsError) as caught:
        PartnersSettings.load()

    assert caught.value.sentences
    assert "hunter2" not in f"{caught.value} {caught.value!r}"
    assert caught.value.__suppress_context__


def test_a_settings_object_does_not_show_its_secrets(environment: pytest.MonkeyPatch) -> None:
    shown: list[Any] = [repr(PartnersSettings.load()), str(PartnersSettings.load())]

    assert not any(OWN_KEY in one or "a-secret-of-production" in one for one in shown)
    assert isinstance(PartnersSettings.load().client_secret, SecretStr)
