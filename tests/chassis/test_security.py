"""Access tokens: what is believed, what is not, and how the issuer's keys are kept."""

import asyncio
import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable
from typing import Any
from uuid import UUID

import httpx
import pytest
from joserfc.jwk import ECKey, OctKey, OKPKey, RSAKey
from pydantic import SecretStr

from libs.chassis.refusals import Unauthenticated, Unavailable
from libs.chassis.security import IssuerKeys, KeysUnreachable, Principal, ServiceToken, TokenUnobtainable, TokenVerifier, bearer
from libs.chassis.serve import documentary_settings
from libs.contracts.vocabularies import Role
from tests.chassis.answering import ISSUER, Issuer, ThingSettings
from tests.planted import seen_red


class Clock:
    def __init__(self) -> None:
        self.offset = 0.0

    def __call__(self) -> float:
        return time.time() + self.offset


@pytest.fixture
def issuer() -> Issuer:
    return Issuer()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def verifier(issuer: Issuer, clock: Clock) -> TokenVerifier:
    settings = documentary_settings(ThingSettings, token_issuer=ISSUER)
    return TokenVerifier(settings, now=clock, keys=IssuerKeys(f"{ISSUER}/jwks", issuer.client(), monotonic=clock))


def _b64(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()


def _unsigned(header: dict[str, Any], claims: dict[str, Any], signature: bytes = b"") -> str:
    return f"{_b64(json.dumps(header).encode())}.{_b64(json.dumps(claims).encode())}.{_b64(signature)}"


async def test_a_token_says_who_calls(issuer: Issuer, verifier: TokenVerifier) -> None:
    post = UUID("00000095-0004-4000-8000-000000000001")
    token = issuer.token(client_id="iscg-95", sub="someone", role="iscg", perimeter=[f"post:{post}", "departement:95"], scope="read write")

    principal = await verifier.verify(token)

    assert principal == Principal(
        "iscg-95", "someone", Role.ISCG, None, frozenset({f"post:{post}", "departement:95"}), frozenset({"read", "write"})
    )
    assert principal.ids("post") == {post}
    assert principal.departements() == frozenset({"95"})
    assert principal.covers_departement("95")
    assert not principal.covers_departement("78")
    assert principal.perimeter_kinds() == {"post", "departement"}


async def test_what_a_person_makes_is_theirs_and_what_a_program_makes_its_clients(issuer: Issuer, verifier: TokenVerifier) -> None:
    owners = [
        (await verifier.verify(issuer.token(client_id=client, sub=subject))).owner
        for client, subject in (("desk", "one"), ("desk", "another"), ("desk one", "another"), ("desk", "one another"), ("desk", "desk"))
    ]

    assert len(set(owners)) == 5
    assert owners[-1] == "desk"


async def test_national_covers_every_departement(issuer: Issuer, verifier: TokenVerifier) -> None:
    principal = await verifier.verify(issuer.token(role="administrator", perimeter=["national"]))

    assert principal.departements() is None
    assert principal.covers_departement("78")


@pytest.mark.parametrize("make", [lambda: RSAKey.generate_key(2048, {"kid": "r"}), lambda: OKPKey.generate_key("Ed25519", {"kid": "o"})])
async def test_rsa_and_ed25519_keys_are_accepted_too(issuer: Issuer, verifier: TokenVerifier, make: Callable[[], Any]) -> None:
    issuer.keys.append(make())

    assert (await verifier.verify(issuer.token())).client_id == "police-95"


WRONG_CLAIMS: dict[str, dict[str, Any]] = {
    "expired": {"exp": 1},
    "not valid yet": {"nbf": 32503680000},
    "issued in the future": {"iat": 32503680000},
    "no expiry": {"exp": None},
    "an expiry that is text": {"exp": "4102444800"},
    "an infinite expiry": {"exp": 10**400},
    "another issuer": {"iss": "http://evil.test"},
    "another audience": {"aud": "elsewhere"},
    "no audience": {"aud": None},
    "no client": {"client_id": None},
    "a client that is a number": {"client_id": 5},
    "a client with a line break": {"client_id": "a\nb"},
    "no role": {"role": None},
    "an unknown role": {"role": "root"},
    "a role in a list": {"role": ["police"]},
    "perimeter as text": {"perimeter": "national"},
    "an unknown perimeter": {"perimeter": ["world"]},
    "a perimeter with a trailing line break": {"perimeter": ["national\n"]},
    "too many perimeters": {"perimeter": ["departement:95"] * 501},
    "an organization that is no id": {"organization": "me"},
    "scope as a list": {"scope": ["a"]},
}


@pytest.mark.parametrize("case", WRONG_CLAIMS)
async def test_a_token_is_worth_nothing_with(issuer: Issuer, verifier: TokenVerifier, case: str) -> None:
    token = issuer.token(**WRONG_CLAIMS[case])

    with pytest.raises(Unauthenticated) as caught:
        await verifier.verify(token)

    assert caught.value.headers["WWW-Authenticate"] == 'Bearer realm="maillon", error="invalid_token"'


def _forgeries(issuer: Issuer) -> dict[str, str]:
    claims = issuer.claims()
    public = issuer.keys[0].as_dict(private=False)
    stranger = ECKey.generate_key("P-256", {"kid": "first"})
    header, payload, signature = issuer.token().split(".")
    confused = f"{_b64(json.dumps({'alg': 'HS256', 'kid': 'first', 'typ': 'at+jwt'}).encode())}.{payload}"
    mac = hmac.digest(json.dumps(public).encode(), confused.encode(), hashlib.sha256)
    return {
        "signed by a stranger's key of the same name": issuer.token(key=stranger),
        "unsigned": _unsigned({"alg": "none", "typ": "at+jwt"}, claims),
        "unsigned, with our key's name": _unsigned({"alg": "none", "typ": "at+jwt", "kid": "first"}, claims),
        "HMAC under the public key": f"{confused}.{_b64(mac)}",
        "HMAC": issuer.token(key=OctKey.generate_key(256, {"kid": "first"})),
        "another algorithm's name": issuer.token(header={"alg": "ES256"}).replace(
            header, _b64(b'{"alg":"RS256","kid":"first","typ":"at+jwt"}')
        ),
        "a key of its own inside": issuer.token(key=stranger, header={"jwk": stranger.as_dict(private=False)}),
        "a key somewhere else": issuer.token(key=stranger, header={"jku": "http://evil.test/jwks"}),
        "a certificate somewhere else": issuer.token(key=stranger, header={"x5u": "http://evil.test/cert"}),
        "an extension we do not know": _unsigned({"alg": "ES256", "kid": "first", "typ": "at+jwt", "crit": ["exp"]}, claims, b"x" * 64),
        "a changed payload": f"{header}.{_b64(json.dumps({**claims, 'role': 'administrator'}).encode())}.{signature}",
        "a cut signature": f"{header}.{payload}.{signature[:-4]}",
        "no signature": f"{header}.{payload}.",
        "an id token": issuer.token(header={"typ": "JWT"}),
        "no type": issuer.token(header={"typ": None}),
        "rubbish": "a.b.c",
        "a deep header": f"{_b64(b'[' * 5000)}.{payload}.{signature}",
        "a very long token": f"{header}.{'a' * 9000}.{signature}",
    }


@pytest.mark.parametrize("case", _forgeries(Issuer()))
async def test_a_forged_token_is_refused(issuer: Issuer, verifier: TokenVerifier, case: str) -> None:
    with pytest.raises(Unauthenticated):
        await verifier.verify(_forgeries(issuer)[case])


async def test_typ_jwt_is_accepted_only_when_it_was_configured(issuer: Issuer) -> None:
    settings = documentary_settings(ThingSettings, token_issuer=ISSUER, token_types=("at+jwt", "JWT"))
    verifier = TokenVerifier(settings, client=issuer.client())

    assert (await verifier.verify(issuer.token(header={"typ": "JWT"}))).client_id == "police-95"


async def test_a_verified_token_is_remembered_until_it_expires(issuer: Issuer, verifier: TokenVerifier, clock: Clock) -> None:
    token = issuer.token()

    principal = await verifier.verify(token)

    assert verifier.remembered(token) is principal
    clock.offset = 600 + 31  # its ten minutes, and the leeway
    assert verifier.remembered(token) is None
    with pytest.raises(Unauthenticated):
        await verifier.verify(token)


async def test_the_memory_of_tokens_is_bounded(issuer: Issuer) -> None:
    settings = documentary_settings(ThingSettings, token_issuer=ISSUER)
    verifier = TokenVerifier(settings, client=issuer.client(), cached_tokens=3)
    tokens = [issuer.token() for _ in range(5)]

    for token in tokens:
        await verifier.verify(token)

    assert [verifier.remembered(token) is not None for token in tokens] == [False, False, True, True, True]


async def test_an_unknown_key_triggers_one_refetch_and_a_rotation_is_followed(
    issuer: Issuer, verifier: TokenVerifier, clock: Clock
) -> None:
    old = issuer.token()
    await verifier.verify(old)
    issuer.keys = [ECKey.generate_key("P-256", {"kid": "second"})]
    clock.offset = 10

    await verifier.verify(issuer.token())

    assert issuer.asked == 2
    assert verifier.remembered(old) is None  # its key is no longer published
    with pytest.raises(Unauthenticated):
        await verifier.verify(old)


async def test_foreign_tokens_do_not_make_us_hammer_the_issuer(issuer: Issuer, verifier: TokenVerifier) -> None:
    await verifier.verify(issuer.token())

    for number in range(20):
        with pytest.raises(Unauthenticated):
            await verifier.verify(issuer.token(key=ECKey.generate_key("P-256", {"kid": f"foreign-{number}"})))

    assert issuer.asked == 1


async def test_known_keys_serve_on_while_the_issuer_is_away(issuer: Issuer, verifier: TokenVerifier, clock: Clock) -> None:
    await verifier.verify(issuer.token())
    issuer.down = True
    clock.offset = 3000

    principal = await verifier.verify(issuer.token(iat=int(clock()), exp=int(clock()) + 60))

    assert principal.client_id == "police-95"


async def test_without_any_key_the_answer_is_503_not_401(issuer: Issuer, verifier: TokenVerifier) -> None:
    issuer.down = True

    with pytest.raises(Unavailable):
        await verifier.verify(issuer.token())


async def test_who_waits_for_keys_shares_the_one_try_that_failed_however_long_it_took(clock: Clock) -> None:
    asked: list[httpx.Request] = []
    begun, hangs = asyncio.Event(), asyncio.Event()

    async def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        begun.set()
        await hangs.wait()
        clock.offset += 5  # as long as the pause between two tries
        raise httpx.ReadTimeout("hangs")

    keys = IssuerKeys(f"{ISSUER}/jwks", httpx.AsyncClient(transport=httpx.MockTransport(answer)), monotonic=clock)
    waiting = [asyncio.create_task(keys.find(f"unknown-{number}")) for number in range(6)]
    await begun.wait()
    hangs.set()

    assert [type(one) for one in await asyncio.gather(*waiting, return_exceptions=True)] == [KeysUnreachable] * 6
    assert len(asked) == 1, "asked once"
    clock.offset += 5
    with pytest.raises(KeysUnreachable):
        await keys.find("unknown")
    assert len(asked) == 2, "it is asked again once the pause is over"


async def test_while_one_asks_for_keys_anew_the_others_go_on_by_those_they_know(issuer: Issuer, clock: Clock) -> None:
    begun, hangs = asyncio.Event(), asyncio.Event()
    published = issuer.client()

    async def slowly(request: httpx.Request) -> httpx.Response:
        begun.set()
        await hangs.wait()
        return await published.get(request.url)

    keys = IssuerKeys(f"{ISSUER}/jwks", published, monotonic=clock)
    before = await keys.find("first")
    issuer.keys = [ECKey.generate_key("P-256", {"kid": "first"})]
    keys._client = httpx.AsyncClient(transport=httpx.MockTransport(slowly))
    clock.offset += 700
    strangers: list[str] = []
    asking = asyncio.create_task(keys.find("first", lambda: strangers.append("first")))
    await begun.wait()

    assert await keys.find("first", lambda: strangers.append("first")) is before
    assert not strangers, "whose key is known waits as no stranger"
    unknown = asyncio.create_task(keys.find("unknown", lambda: strangers.append("unknown")))
    hangs.set()

    assert await unknown is None
    assert strangers == ["unknown"]
    assert await asking is await keys.find("first") is not before


async def test_planted_a_pause_that_begins_with_the_try_is_seen(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    fetch = IssuerKeys._fetch

    async def begins(self: IssuerKeys) -> None:
        begun = self._monotonic()
        await fetch(self)
        self._tried_at = begun

    monkeypatch.setattr(IssuerKeys, "_fetch", begins)

    await seen_red(test_who_waits_for_keys_shares_the_one_try_that_failed_however_long_it_took(clock), "asked once")


async def test_keys_that_must_not_sign_are_left_out(issuer: Issuer, verifier: TokenVerifier) -> None:
    weak, other_use = RSAKey.generate_key(1024, {"kid": "weak"}), ECKey.generate_key("P-256", {"kid": "enc"})
    issuer.extra = [
        weak.as_dict(private=False),
        {**other_use.as_dict(private=False), "use": "enc"},
        {"kty": "oct", "kid": "shared", "k": _b64(b"x" * 32)},
        {"kty": "AKP", "kid": "newer"},
        {"kty": "EC"},
        "rubbish",  # type: ignore[list-item]  # what an issuer must not write
    ]

    assert (await verifier.verify(issuer.token())).client_id == "police-95"
    for key in (weak, other_use, OctKey.import_key(b"x" * 32, {"kid": "shared"})):
        with pytest.raises(Unauthenticated):
            await verifier.verify(issuer.token(key=key))


@pytest.mark.parametrize("body", ["[]", "{}", "nonsense", '{"keys": 5}', "[" * 5000, " " * 300_000])
async def test_a_jwks_that_cannot_be_read_counts_as_absent(body: str, issuer: Issuer) -> None:
    transport = httpx.MockTransport(lambda request: httpx.Response(200, text=body))
    verifier = TokenVerifier(documentary_settings(ThingSettings, token_issuer=ISSUER), client=httpx.AsyncClient(transport=transport))

    with pytest.raises((Unavailable, Unauthenticated)):
        await verifier.verify(issuer.token())


async def test_a_redirect_of_the_jwks_is_not_followed(issuer: Issuer) -> None:
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(str(request.url))
        return httpx.Response(302, headers={"Location": "http://evil.test/jwks"})

    client = httpx.AsyncClient(transport=httpx.MockTransport(answer), follow_redirects=True)
    verifier = TokenVerifier(documentary_settings(ThingSettings, token_issuer=ISSUER, token_jwks_url=f"{ISSUER}/jwks"), client=client)

    with pytest.raises(Unavailable):
        await verifier.verify(issuer.token())
    assert asked == [f"{ISSUER}/jwks"]


@pytest.mark.parametrize("header", [None, "", "Basic abc", "Bearer", "Bearer a b", "Bearer a.b", "bearer  ", f"Bearer {'a' * 9000}.b.c"])
def test_an_authorization_header_without_a_token(header: str | None) -> None:
    with pytest.raises(Unauthenticated):
        bearer(header)


def test_the_scheme_is_read_in_any_case() -> None:
    assert bearer("bEaReR a.b.c") == "a.b.c"


# The service's own token


class Endpoint:
    def __init__(self, *answers: httpx.Response | Exception) -> None:
        self.answers = list(answers)
        self.forms: list[bytes] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.forms.append(request.content)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def _own_token(endpoint: Endpoint, clock: Callable[[], float]) -> ServiceToken:
    settings = documentary_settings(ThingSettings, client_secret=SecretStr("s3cret"))
    return ServiceToken(settings, client=httpx.AsyncClient(transport=httpx.MockTransport(endpoint)), monotonic=clock)


async def test_the_own_token_is_renewed_before_it_expires(clock: Clock) -> None:
    first, second = (httpx.Response(200, json={"access_token": name, "expires_in": 300}) for name in ("one", "two"))
    token = _own_token(Endpoint(first, second), clock)

    assert [await token.get(), await token.get()] == ["one", "one"]
    clock.offset = 250
    assert await token.headers() == {"Authorization": "Bearer two"}


async def test_the_own_token_is_asked_for_anew_after_it_was_refused(clock: Clock) -> None:
    token = _own_token(Endpoint(*(httpx.Response(200, json={"access_token": name}) for name in ("one", "two"))), clock)

    await token.get()
    token.forget()

    assert await token.get() == "two"


@pytest.mark.parametrize(
    "answer",
    [
        httpx.ConnectError("no"),
        httpx.Response(401, json={"error": "invalid_client"}),
        httpx.Response(200, text="nonsense"),
        httpx.Response(200, json=[]),
        httpx.Response(200, json={"access_token": 5}),
        httpx.Response(302, headers={"Location": "http://evil.test"}),
    ],
)
async def test_an_own_token_that_cannot_be_had_is_one_error_without_the_secret(answer: httpx.Response | Exception, clock: Clock) -> None:
    endpoint = Endpoint(answer)
    with pytest.raises(TokenUnobtainable) as caught:
        await _own_token(endpoint, clock).get()

    assert "s3cret" not in repr(caught.value)
    assert len(endpoint.forms) == 1
