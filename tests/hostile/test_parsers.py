"""Whatever is read of others: it becomes something valid, or the refusal that its reader documents, and never another exception; what is written reads back.

`READERS` names every reader and where it is tried with anything at all; a test holds it against the code.
"""

import ast
import base64
import json
import math
import re
from collections.abc import Sequence
from datetime import UTC, date, datetime
from importlib import import_module
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from fastapi import Request
from fastapi.exceptions import RequestValidationError
from hypothesis import example, given, settings
from hypothesis import strategies as st
from joserfc.jwk import ECKey
from joserfc.jws import JWSRegistry
from pydantic import BaseModel, ConfigDict, ValidationError

from libs.chassis import app, security
from libs.chassis.etag import etag_of, expected_version
from libs.chassis.idempotency import key_of
from libs.chassis.refusals import Malformed, StaleVersion, Unauthenticated, VersionMissing
from libs.chassis.security import IssuerKeys, Principal, TokenVerifier, bearer
from libs.chassis.settings import Settings, SettingsError
from libs.chassis.signing import SignatureInvalid, Signer, verify, verify_detached
from libs.chassis.telemetry import continued, current_trace, request_context
from libs.chassis.vault import DataKey, SealBroken
from libs.chassis.webhooks import Channel, Policy, Undeliverable, UrlRefused, checked_url
from libs.contracts.identifiers import is_siren, is_siret
from libs.contracts.types import CommuneCode, Day, DepartementCode, Id, Instant
from libs.contracts.vocabularies import Purpose, Role
from services.partners.schemas import Rna
from tests.chassis.answering import ISSUER, Issuer
from tests.hostile.anything import FALSY, JSON, shaped, some
from tests.settings import settings_for

HERE = "tests/hostile/test_parsers.py"
WIRE = "tests/hostile/test_wire.py"
READERS = {
    "libs.chassis.app:_purpose": f"{HERE}::test_a_purpose",
    "libs.chassis.bus:record_of": f"{WIRE}::test_a_message_from_the_bus",
    "libs.chassis.etag:expected_version": f"{HERE}::test_if_match",
    "libs.chassis.feed:Feed": f"{WIRE}::test_a_page_of_the_feed",
    "libs.chassis.feed:Listing": f"{WIRE}::test_a_page_of_a_list",
    "libs.chassis.idempotency:key_of": f"{HERE}::test_an_idempotency_key",
    "libs.chassis.ndjson:lines": f"{WIRE}::test_lines_are_the_same_however_they_come",
    "libs.chassis.pagination:read_cursor": "tests/chassis/test_pagination.py::given",
    "libs.chassis.projector:heard_of": f"{WIRE}::test_a_fact_that_was_heard",
    "libs.chassis.rates:Rates": "tests/chassis/test_rates.py::given",
    "libs.chassis.security:IssuerKeys": f"{HERE}::test_the_issuers_keys",
    "libs.chassis.security:TokenVerifier": f"{HERE}::test_an_access_token",
    "libs.chassis.security:bearer": f"{HERE}::test_a_bearer_header",
    "libs.chassis.security:principal_of": f"{HERE}::test_the_claims_of_a_token",
    "libs.chassis.settings:Settings": f"{HERE}::test_addresses_among_the_settings",
    "libs.chassis.signing:verify": f"{HERE}::test_a_signature",
    "libs.chassis.signing:verify_detached": f"{HERE}::test_a_signature",
    "libs.chassis.streams:Record": f"{WIRE}::test_an_event_of_the_feed",
    "libs.chassis.streams:read_position": f"{WIRE}::test_a_page_of_a_list",
    "libs.chassis.strict:Text": "tests/chassis/test_strict.py::test_whatever_the_schemas_pattern_refuses_the_validator_refuses_and_the_other_way_round",
    "libs.chassis.strict:read_json": "tests/hostile/test_forms.py::test_a_body_of_json",
    "libs.chassis.telemetry:request_context": f"{HERE}::test_a_traceparent",
    "libs.chassis.vault:DataKey": f"{HERE}::test_a_sealed_text",
    "libs.chassis.webhooks:Channel": f"{HERE}::test_retry_after",
    "libs.chassis.webhooks:checked_url": f"{HERE}::test_a_webhooks_address",
    "libs.client.client:Client": f"{WIRE}::test_an_event_of_the_feed",
    "libs.client.client:Cursor": f"{WIRE}::test_a_stream_position",
    "libs.client.importing:read_communes": "tests/client/test_importing.py::given",
    "libs.client.importing:read_jurisdictions": "tests/client/test_importing.py::given",
    "libs.client.receipts:pairs": "tests/client/test_receipts.py::test_any_file_at_all_gives_pairs_or_a_refusal",
    "libs.client.receipts:verify_receipt": "tests/client/test_receipts.py::test_anything_at_all_is_refused",
    "libs.contracts.identifiers:is_siren": f"{HERE}::test_business_numbers",
    "libs.contracts.identifiers:is_siret": f"{HERE}::test_business_numbers",
    "libs.contracts.registry:EVENTS": f"{WIRE}::test_a_fact_that_was_heard",
    "libs.contracts.types:Day": f"{HERE}::test_instants_days_and_ids",
    "libs.contracts.types:Id": f"{HERE}::test_instants_days_and_ids",
    "libs.contracts.types:Instant": f"{HERE}::test_instants_days_and_ids",
    "libs.embedded.authorization:read_request": "tests/embedded/test_authorization.py::given",
    "libs.embedded.oauth:read_form": "tests/hostile/test_forms.py::test_a_form_of_the_issuer",
    "services.referrals.forms:read_pairs": "tests/hostile/test_forms.py::test_a_form_of_the_desk",
    "services.referrals.desk.forms:read_form": "tests/hostile/test_forms.py::test_a_form_of_the_desk",
    "services.referrals.directory.names:read_item": "tests/services/referrals/test_names.py::test_an_item_of_a_list_of_names",
    "services.partners.imports:import_communes": "tests/services/partners/test_imports.py::given",
    "services.reporting.facts:parse": "tests/services/reporting/test_counting.py::given",
    "services.partners.schemas:Rna": f"{HERE}::test_instants_days_and_ids",
    "services.partners.imports:import_jurisdictions": "tests/services/partners/test_imports.py::given",
}
"""Reader → its property test; `given`: the one or ones of that file."""


def test_every_reader_has_a_property_test_and_stands_where_the_table_says() -> None:
    for reader, place in READERS.items():
        module, _, name = reader.partition(":")
        file, _, test = place.partition("::")
        paragraphs = Path(file).read_text().split("\n\n\n")

        assert hasattr(import_module(module), name), reader
        assert [True for one in paragraphs if "@given(" in one and (test == "given" or f"def {test}(" in one)], place


NO_READERS = {
    "libs.chassis.audit:verify_stream": "looks at the service's own database; each tampering is tried in tests/chassis/test_audit.py",
    "libs.chassis.ndjson:read_ahead": "reads by what it is given",
    "libs.client.importing:import_communes": "reads by read_communes",
    "libs.client.importing:import_jurisdictions": "reads by read_jurisdictions",
    "services.referrals.directory.names:read_due": "reads by read_one",
    "services.referrals.directory.names:read_one": "reads pages by libs.chassis.feed:Listing and their items by read_item",
}
"""Functions called like readers that read nothing from outside themselves, with the reason."""


def test_no_reader_is_missing_in_the_table() -> None:
    """Every function that reads, parses, imports or verifies what came from outside; an endpoint is fuzzed by schemathesis."""
    found = {
        f"{file.with_suffix('').as_posix().replace('/', '.')}:{one.name}"
        for room in ("libs", "services")
        for file in Path(room).rglob("*.py")
        for one in ast.parse(file.read_text()).body
        if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef)
        and not one.decorator_list
        and re.match(r"parse|verify|(read|import|decode)_", one.name)
    }

    assert found - READERS.keys() == NO_READERS.keys()


# Headers of a request


def request_with(name: bytes, values: Sequence[bytes]) -> Request:
    return Request({"type": "http", "headers": [(name, value) for value in values]})


def header_values(pattern: str) -> st.SearchStrategy[list[bytes]]:
    return st.lists(st.binary(max_size=30) | shaped(pattern).map(lambda text: text.encode("utf-8", "surrogatepass")), max_size=2)


@some
@given(header=shaped(r"(?i)bearer +[\w-]+\.[\w-]+\.[\w-]+") | st.none())
def test_a_bearer_header(header: str | None) -> None:
    try:
        token = bearer(header)
    except Unauthenticated:
        return
    assert bearer(f"Bearer {token}") == token


@some
@given(values=header_values(r'"[0-9]{1,20}"'))
async def test_if_match(values: list[bytes]) -> None:
    try:
        version = await expected_version(request_with(b"if-match", values))
    except (VersionMissing, StaleVersion, Malformed):
        return
    assert [etag_of(version).encode()] == [value.strip(b" \t") for value in values]


@some
@given(values=header_values(r"[!-~]{1,210}"))
def test_an_idempotency_key(values: list[bytes]) -> None:
    try:
        key = key_of(request_with(b"idempotency-key", values))
    except Malformed:
        return
    assert key_of(request_with(b"idempotency-key", [key.encode()])) == key
    assert len(key) <= 200


@some
@given(header=st.none() | st.text(max_size=20) | st.sampled_from([purpose.value for purpose in Purpose]))
def test_a_purpose(header: str | None) -> None:
    try:
        purpose = app._purpose(header)
    except (app.PurposeMissing, RequestValidationError):
        return
    assert app._purpose(purpose.value) is purpose


TRACEPARENT = r"00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}"


@some
@given(header=shaped(TRACEPARENT) | st.none() | st.just(f"00-{'0' * 32}-{'1' * 16}-01"), correlation=st.text(max_size=9) | st.none())
def test_a_traceparent(header: str | None, correlation: str | None) -> None:
    with request_context(header):
        said = current_trace().traceparent
    with continued(correlation, None, said, "again"):
        again = current_trace()

    assert re.fullmatch(TRACEPARENT, said)
    assert again.traceparent[:36] == said[:36]
    assert again.correlation_id
    if header and re.fullmatch(TRACEPARENT, header) and header[3:35].strip("0") and header[36:52].strip("0"):
        assert said[:36] == header[:36]


# Tokens and signatures

issuer = Issuer()
VERIFYING = settings_for("partners", token_issuer=ISSUER)
CLAIMS = {
    "client_id": st.text(max_size=5),
    "sub": st.text(max_size=5),
    "role": st.sampled_from([role.value for role in Role]),
    "organization": st.uuids().map(str) | st.text("0123456789abcdef-{}", max_size=40),
    "perimeter": st.lists(
        st.sampled_from(["national", "departement:95", "post:1", f"post:{UUID(int=1)}"]) | st.text(max_size=5), max_size=3
    ),
    "scope": st.text(max_size=9),
}
STANDARD = dict.fromkeys(("iss", "aud", "iat", "exp", "nbf", "jti"), st.integers() | st.sampled_from([math.nan, math.inf, -1, 1e300]))
changed_claims = st.fixed_dictionaries({}, optional={name: likely | JSON | FALSY for name, likely in CLAIMS.items()})


def is_valid(principal: Principal) -> bool:
    return (
        0 < len(principal.client_id) <= 200
        and 0 < len(principal.subject) <= 200
        and isinstance(principal.role, Role)
        and all(principal.ids("post") is not None and isinstance(one, str) for one in principal.perimeter)
        and not any(scope != scope.strip() for scope in principal.scope)
    )


@some
@given(claims=st.just({"client_id": "a", "sub": "b", "role": "police"}).flatmap(lambda good: changed_claims.map(lambda some: good | some)))
def test_the_claims_of_a_token(claims: dict[str, Any]) -> None:
    try:
        principal = security.principal_of(claims)
    except (ValueError, KeyError):
        return
    assert is_valid(principal)
    for name, kind in (("organization", str), ("perimeter", list), ("scope", str)):
        assert claims.get(name) is None or isinstance(claims[name], kind)


@some
@example(header={}, changed={}, standard={}, cut=None)
@example(header={}, changed={}, standard={"exp": math.nan}, cut=None)
@example(header={}, changed={}, standard={"exp": math.inf}, cut=None)
@given(
    header=st.dictionaries(st.sampled_from(["kid", "typ", "alg", "crit", "b64", "jwk", "cty"]), JSON, max_size=2),
    changed=changed_claims,
    standard=st.fixed_dictionaries({}, optional={name: JSON | likely for name, likely in STANDARD.items()}),
    cut=st.integers(0, 400) | st.none(),
)
async def test_an_access_token(header: dict[str, Any], changed: dict[str, Any], standard: dict[str, Any], cut: int | None) -> None:
    token = signed({"alg": "ES256", "kid": "first", "typ": "at+jwt"} | header, issuer.claims() | changed | standard)
    clock = [float(issuer.claims()["iat"])]
    keys = IssuerKeys(f"{ISSUER}/jwks", issuer.client())
    verifier = TokenVerifier(VERIFYING, keys=keys, client=issuer.client(), now=lambda: clock[0])
    presented = token if cut is None else token[:cut]

    try:
        principal = await verifier.verify(presented)
    except Unauthenticated:
        return
    assert is_valid(principal)
    clock[0] = math.inf
    assert verifier.remembered(presented) is None  # whatever was accepted ends some day


def signed(header: dict[str, Any], claims: dict[str, Any]) -> str:
    """Signed by the issuer's own key, whatever the header and the claims say; joserfc would refuse to write most of them."""

    def part(raw: bytes) -> bytes:
        return base64.urlsafe_b64encode(raw).rstrip(b"=")

    content = part(json.dumps(header).encode()) + b"." + part(json.dumps(claims).encode())
    signature = JWSRegistry.algorithms["ES256"].sign(content, issuer.keys[0])
    return (content + b"." + part(signature)).decode()


GOOD_KEY = issuer.keys[0].as_dict(private=False)
damaged_keys = st.dictionaries(st.sampled_from(["kty", "crv", "x", "kid", "use", "n"]), JSON, max_size=2).map(
    lambda changed: GOOD_KEY | changed
)


@some
@given(listed=JSON | st.lists(damaged_keys, max_size=2))
async def test_the_issuers_keys(listed: Any) -> None:
    answer = json.dumps({"keys": listed}).encode()
    async with httpx.AsyncClient(transport=httpx.MockTransport(lambda _: httpx.Response(200, content=answer))) as client:
        found = await IssuerKeys("http://issuer.test/jwks", client).find("first")

    assert found is None or found.kid == "first"


signer = Signer(ECKey.generate_key("P-256", {"kid": "k"}).as_dict(private=True))


@some
@given(payload=st.binary(max_size=40), place=st.integers(0, 200), put=st.text(max_size=4), other=st.text(max_size=60))
def test_a_signature(payload: bytes, place: int, put: str, other: str) -> None:
    detached, whole = signer.sign_detached(payload), signer.sign(payload)

    if payload:
        assert verify_detached(detached, payload, signer.public_jwks()) == "k"
        assert verify(whole, signer.public_jwks()) == payload
    for signature in (other, detached[:place] + put + detached[place + 1 :]):
        try:
            verify_detached(signature, payload, signer.public_jwks())
        except SignatureInvalid:
            continue
        assert payload
    for signature in (other, whole[:place] + put + whole[place + 1 :]):
        try:
            assert verify(signature, signer.public_jwks()) == payload
        except SignatureInvalid:
            continue


@some
@given(text=st.binary(max_size=40), cut=st.integers(0, 80), put=st.binary(max_size=3))
def test_a_sealed_text(text: bytes, cut: int, put: bytes) -> None:
    key = DataKey(UUID(int=1), AESGCM(bytes(32)))
    sealed = key.seal(text, context="a")
    changed = sealed[:cut] + put + sealed[cut + len(put) :]

    assert key.open(sealed, context="a") == text
    if changed != sealed:
        with pytest.raises(SealBroken):
            key.open(changed, context="a")


# Dates, instants, ids, numbers


class Scalars(BaseModel):
    model_config = ConfigDict(strict=True)

    at: Instant | None = None
    on: Day | None = None
    id: Id | None = None
    commune: CommuneCode | None = None
    departement: DepartementCode | None = None
    rna: Rna | None = None


near_instants = st.datetimes().map(lambda at: at.isoformat() + "Z") | st.from_regex(
    r"\A\d{4}-[01]\d-[0-3]\dT[0-2]\d:[0-6]\d:[0-6]\d(\.\d{1,6})?(Z|[+-]\d\d:\d\d)\Z"
)


@some
@given(
    given=st.fixed_dictionaries(
        {},
        optional={
            "at": JSON | near_instants,
            "on": JSON | st.dates().map(str) | st.from_regex(r"\A\d{4}-\d\d-\d\d\Z"),
            "id": JSON | st.uuids().map(str) | shaped("[0-9a-fA-F-]{36}"),
            "commune": JSON | shaped("[0-9AB]{5}"),
            "rna": JSON | shaped("W[0-9A-Z]{9}"),
            "departement": JSON | shaped("[0-9AB]{2,3}"),
        },
    )
)
def test_instants_days_and_ids(given: dict[str, Any]) -> None:
    try:
        read = Scalars.model_validate_json(json.dumps(given))
    except ValidationError:
        return
    assert all(value is None or isinstance(value, str) for value in given.values())
    assert read.at is None or read.at.utcoffset() == UTC.utcoffset(None)
    assert read.on is None or str(read.on) == given["on"]
    assert read.id is None or str(read.id) == given["id"]
    assert Scalars.model_validate_json(read.model_dump_json()) == read


@some
@given(value=st.datetimes(timezones=st.timezones()) | st.datetimes() | st.dates() | st.uuids() | st.just(datetime.max.replace(tzinfo=UTC)))
def test_values_of_python(value: datetime | date | UUID) -> None:
    for name in ("at", "on", "id"):
        try:
            read = Scalars.model_validate({name: value})
        except ValidationError:
            continue
        assert Scalars.model_validate_json(read.model_dump_json()) == read


@some
@given(text=shaped("[0-9]{9}|[0-9]{14}|3560000[0-9]{7}"))
def test_business_numbers(text: str) -> None:
    if is_siret(text):
        assert is_siren(text[:9])
    if is_siren(text):
        assert re.fullmatch("[0-9]{9}", text)


# Addresses

addresses = st.text(max_size=30) | st.tuples(
    st.sampled_from(["https://", "http://", "HTTPS://", "postgresql://", "postgres://", "https:", " https://", "ftp://"]),
    st.text(max_size=12) | st.sampled_from(["a.example", "[::1", "[::1]", "127.0.0.1", "a b", "u:p@a.example", "a.example:99999", "a.exa\tmple", "xn--a"]),
    st.text(max_size=9) | st.sampled_from(["", "/x", ":0", "?sslmode=verify-full", "?host=/tmp", "#f", "/\n"]),
).map("".join)  # fmt: skip
MARK = "markerf7"


@settings(some, max_examples=20)
@example(text="https://a.exa\tmple/", environment="development")
@example(text="postgresql://[::1", environment="production")
@example(text="postgresql://u:p@a.example:99999/x", environment="production")
@given(text=addresses, environment=st.sampled_from(["development", "production"]))
def test_addresses_among_the_settings(text: str, environment: str) -> None:
    given = json.loads(SETTINGS.model_dump_json()) | SETTINGS.model_dump(include=SECRETS) | OPEN
    said: list[str] = []
    for name in (
        "public_url",
        "token_url",
        "token_jwks_url",
        "otlp_endpoint",
        "database_url",
        "source_urls",
        "webhook_networks",
        "trusted_proxies",
    ):
        lists = {"webhook_networks": [text + MARK], "trusted_proxies": [text + MARK]}
        value: Any = {"source_urls": {"partners": text + MARK}, **lists}.get(name, text + MARK)
        try:
            made = Settings.load(**(given | {name: value, "environment": environment}))
        except SettingsError as error:
            said += error.sentences
            continue
        for url in (made.public_url, made.token_url, made.token_jwks_url, made.otlp_endpoint, *made.source_urls.values()):
            assert url is None or httpx.URL(url).raw_host
        assert Settings.load(**(given | {name: getattr(made, name), "environment": environment})) == made
    assert all(sentence and MARK not in sentence for sentence in said)


OPEN = {"http_allow_plaintext": True, "kafka_allow_plaintext": True, "database_url": "postgresql://a.example/x?sslmode=verify-full"}
SETTINGS = settings_for("referrals")
SECRETS = {"client_secret", "pseudonym_key", "search_key", "vault_keys", "signing_key"}


@some
@given(text=addresses, policy=st.sampled_from([Policy(), Policy(loopback=True)]))
def test_a_webhooks_address(text: str, policy: Policy) -> None:
    try:
        url = checked_url(text, policy)
    except UrlRefused:
        return
    assert checked_url(str(url), policy) == url
    assert url.copy_with(host="192.0.2.1").host == "192.0.2.1"


@some
@given(
    given=st.text(max_size=9)
    | st.from_regex(r"\A[0-9]{1,5}\Z")
    | st.sampled_from(["9" * 5000, "²", "١", "-1", "1.5", "Wed, 21 Oct 2026 07:28:00 GMT"])
)
async def test_retry_after(given: str) -> None:
    raw = given.encode("latin-1", "replace")

    async with httpx.AsyncClient(
        transport=httpx.MockTransport(lambda _: httpx.Response(503, headers=[(b"Retry-After", raw)], stream=httpx.ByteStream(b"")))
    ) as client:
        with pytest.raises(Undeliverable) as caught:
            await Channel(client, httpx.URL("https://a.example/"), "192.0.2.1").post({}, b"{}")

    seconds = caught.value.retry_after_seconds
    assert seconds is None or 0 <= seconds <= 3600
    assert (seconds is not None) == (re.fullmatch(rb"[0-9]+", raw) is not None)
