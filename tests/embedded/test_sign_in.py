"""Persons sign in through the development issuer: the whole flow, the code and its tokens, userinfo, leaving."""

import warnings
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from libs.chassis.refusals import Unauthenticated
from libs.chassis.security import TokenVerifier
from libs.contracts.demonstration import CLIENTS, PERSONS, POST_CERGY
from libs.contracts.vocabularies import Role
from libs.embedded import grants as grants_module
from libs.embedded.grants import CODE_SECONDS, Grants
from libs.embedded.issuer import Issuer, create_app
from tests.embedded.desk import (
    ASKED,
    BACK,
    CAMILLE,
    LEFT,
    OTHER_VERIFIER,
    URL,
    VERIFIER,
    Clock,
    Page,
    choose,
    claims_of,
    redeem,
    signed_in,
    told_to_the_desk,
    userinfo,
)
from tests.settings import settings_for

with warnings.catch_warnings():  # authlib prefers httpx2, which we do not have
    warnings.simplefilter("ignore")
    from authlib.integrations.httpx_client import AsyncOAuth2Client


async def test_an_oauth_client_signs_a_person_in_and_out_by_what_discovery_says(issuer: Issuer) -> None:
    desk = AsyncOAuth2Client(
        client_id="desk",
        redirect_uri=BACK,
        scope="openid profile maillon",
        code_challenge_method="S256",
        token_endpoint_auth_method="none",
        transport=httpx.ASGITransport(create_app(issuer)),
    )
    async with desk:
        said = (await desk.request("GET", f"{URL}/.well-known/openid-configuration", withhold_token=True)).json()
        address, state = desk.create_authorization_url(said["authorization_endpoint"], code_verifier=VERIFIER, nonce="n-1")

        page = await desk.request("GET", address, withhold_token=True)
        form = Page(page.text)
        chosen = await desk.request("POST", URL + form.action, data={"person": str(CAMILLE.id)}, withhold_token=True)
        tokens = await desk.fetch_token(
            said["token_endpoint"], authorization_response=chosen.headers["location"], code_verifier=VERIFIER, state=state
        )
        person = await desk.get(said["userinfo_endpoint"])
        left = await desk.request(
            "GET",
            said["end_session_endpoint"],
            params={"id_token_hint": tokens["id_token"], "post_logout_redirect_uri": LEFT, "state": "bye"},
            withhold_token=True,
        )
        after = await desk.get(said["userinfo_endpoint"])

    assert person.json() == {"sub": str(CAMILLE.id), "name": "Camille Exemple"}
    assert (left.status_code, left.headers["location"]) == (303, f"{LEFT}?state=bye")
    assert after.status_code == 401
    assert said["code_challenge_methods_supported"] == ["S256"]
    assert {"client_credentials", "authorization_code"} == set(said["grant_types_supported"])
    assert (said["response_types_supported"], said["response_modes_supported"]) == (["code"], ["query"])


async def test_the_tokens_say_who_signed_in_and_where(http: httpx.AsyncClient, clock: Clock) -> None:
    answer = await redeem(http, await signed_in(http))

    assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-store")
    tokens = answer.json()
    assert (tokens["token_type"], tokens["expires_in"], tokens["scope"]) == ("Bearer", 3600, "maillon openid")
    access, identity = await claims_of(http, tokens["access_token"]), await claims_of(http, tokens["id_token"])
    assert {name: access[name] for name in ("iss", "aud", "sub", "name", "client_id", "role", "scope")} == {
        "iss": URL,
        "aud": "maillon",
        "sub": str(CAMILLE.id),
        "name": "Camille Exemple",
        "client_id": "desk",
        "role": "iscg",
        "scope": "maillon openid",
    }
    assert set(access["perimeter"]) == {"departement:95", f"post:{POST_CERGY}"}
    assert {name: identity[name] for name in ("iss", "aud", "sub", "nonce", "auth_time")} == {
        "iss": URL,
        "aud": "desk",
        "sub": str(CAMILLE.id),
        "nonce": "the-nonce",
        "auth_time": int(clock.now),
    }
    assert identity["exp"] - identity["iat"] == 600


async def test_a_service_takes_the_access_token_and_never_the_id_token(http: httpx.AsyncClient) -> None:
    tokens = (await redeem(http, await signed_in(http))).json()
    settings = settings_for("referrals", token_issuer=URL, token_jwks_url=f"{URL}/jwks", token_types=("at+jwt", "JWT"))
    verifier = TokenVerifier(settings, client=http)

    caller = await verifier.verify(tokens["access_token"])

    assert (caller.client_id, caller.subject, caller.role) == ("desk", str(CAMILLE.id), Role.ISCG)
    with pytest.raises(Unauthenticated):
        await verifier.verify(tokens["id_token"])


@pytest.mark.parametrize("person", PERSONS.values(), ids=lambda person: person.client_id)
async def test_each_person_has_the_rights_of_its_client(http: httpx.AsyncClient, person: Any) -> None:
    code = told_to_the_desk(await choose(http, person=str(person.id)))["code"]

    claims = await claims_of(http, (await redeem(http, code)).json()["access_token"])

    client = CLIENTS[person.client_id]
    assert (claims["role"], set(claims["perimeter"])) == (client.role.value, set(client.perimeter))


def test_every_social_worker_coordinator_and_partner_of_the_demonstration_has_a_person() -> None:
    working = {one.client_id for one in CLIENTS.values() if one.role in {Role.ISCG, Role.COORDINATOR, Role.PARTNER}}

    assert {person.client_id for person in PERSONS.values()} == working


# The code


@pytest.mark.parametrize(
    ("change", "status", "error"),
    [
        ({"code_verifier": OTHER_VERIFIER}, 400, "invalid_grant"),
        ({"code_verifier": ASKED["code_challenge"]}, 400, "invalid_grant"),
        ({"code_verifier": "short"}, 400, "invalid_grant"),
        ({"code_verifier": "é" * 64}, 400, "invalid_grant"),
        ({"code_verifier": ""}, 400, "invalid_request"),
        ({"redirect_uri": "http://127.0.0.1:8002/desk/callback"}, 400, "invalid_grant"),
        ({"redirect_uri": ""}, 400, "invalid_request"),
        ({"code": ""}, 400, "invalid_request"),
        ({"code": "guessed"}, 400, "invalid_grant"),
        ({"code": "\0é" * 100}, 400, "invalid_grant"),
        ({"client_id": "iscg-95"}, 401, "invalid_client"),
        ({"client_id": "nobody"}, 401, "invalid_client"),
        ({"grant_type": "implicit"}, 400, "unsupported_grant_type"),
        ({"grant_type": "client_credentials"}, 401, "invalid_client"),
    ],
    ids=str,
)
async def test_a_code_gives_nothing_to_who_cannot_show_the_rest(
    http: httpx.AsyncClient, change: dict[str, str], status: int, error: str
) -> None:
    answer = await redeem(http, **({"code": await signed_in(http)} | change))

    assert (answer.status_code, answer.json()["error"], "access_token" in answer.json()) == (status, error, False)
    assert answer.json()["error_description"]


async def test_a_code_is_of_its_desk_alone(http: httpx.AsyncClient, second_desk: str) -> None:
    answer = await redeem(http, await signed_in(http), client_id=second_desk)

    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_grant")


async def test_a_verifier_is_tried_once(http: httpx.AsyncClient) -> None:
    code = await signed_in(http)
    await redeem(http, code, code_verifier=OTHER_VERIFIER)

    assert (await redeem(http, code)).json()["error"] == "invalid_grant"


async def test_a_code_used_twice_revokes_what_it_gave(http: httpx.AsyncClient) -> None:
    code, other = await signed_in(http), await signed_in(http)
    given, elsewhere = (await redeem(http, code)).json()["access_token"], (await redeem(http, other)).json()["access_token"]
    assert (await userinfo(http, given)).status_code == 200

    again = await redeem(http, code)

    assert (again.status_code, again.json()["error"]) == (400, "invalid_grant")
    refused = await userinfo(http, given)
    assert (refused.status_code, 'error="invalid_token"' in refused.headers["www-authenticate"]) == (401, True)
    assert (await userinfo(http, elsewhere)).status_code == 200


@pytest.mark.parametrize(("age", "status"), [(CODE_SECONDS - 1, 200), (CODE_SECONDS, 400)])
async def test_a_code_lives_a_minute(http: httpx.AsyncClient, clock: Clock, age: int, status: int) -> None:
    code = await signed_in(http)

    clock.now += age

    assert (await redeem(http, code)).status_code == status


async def test_a_bounded_number_of_codes_waits_and_each_is_honoured(
    http: httpx.AsyncClient, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grants_module, "MOST", 3)
    codes = [await signed_in(http) for _ in range(3)]

    assert told_to_the_desk(await choose(http))["error"] == "temporarily_unavailable"

    assert [(await redeem(http, code)).status_code for code in codes] == [200, 200, 200]
    assert "code" in told_to_the_desk(await choose(http))
    clock.now += CODE_SECONDS
    assert [len(await signed_in(http)) for _ in range(3)] == [43, 43, 43]


def test_what_was_used_or_revoked_is_remembered_within_bounds(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grants_module, "MOST", 3)
    grants = Grants(clock)
    granted = []
    for _ in range(10):
        code = grants.give("desk", BACK, ASKED["code_challenge"], "n", "openid", CAMILLE)
        granted.append(grants.take(code))
        grants.revoke(granted[-1].sid)

    assert [grants.is_revoked(one.sid) for one in granted] == [False] * 7 + [True] * 3
    assert (len(grants._waiting), len(grants._used), len(grants._revoked)) == (0, 3, 3)


# Who is it, and leaving


@pytest.mark.parametrize(
    ("header", "status"),
    [
        (lambda issuer, tokens: None, 401),
        (lambda issuer, tokens: "Basic abc", 401),
        (lambda issuer, tokens: "Bearer a.b.c", 401),
        (lambda issuer, tokens: f"Bearer {tokens['id_token']}", 401),
        (lambda issuer, tokens: f"Bearer {Issuer(URL).issue('iscg-95', scope='openid')}", 401),
        (lambda issuer, tokens: f"Bearer {issuer.issue('iscg-95', scope='openid', lifetime=-1)}", 401),
        (lambda issuer, tokens: f"Bearer {issuer.issue('iscg-95', scope='openid', aud='elsewhere')}", 401),
        (lambda issuer, tokens: f"Bearer {issuer.issue('iscg-95')}", 403),
        (lambda issuer, tokens: f"bearer {tokens['access_token']}", 200),
    ],
    ids=["none", "basic", "nonsense", "id_token", "another key", "expired", "another audience", "a program's", "good"],
)
async def test_userinfo_answers_to_a_person_s_access_token_only(
    http: httpx.AsyncClient, issuer: Issuer, header: Callable[[Issuer, dict[str, str]], str | None], status: int
) -> None:
    tokens = (await redeem(http, await signed_in(http))).json()
    authorization = header(issuer, tokens)

    answer = await http.get("/userinfo", headers={"Authorization": authorization} if authorization else {})

    assert answer.status_code == status
    assert ("www-authenticate" in answer.headers) == (status != 200)


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_leaving_without_an_address_ends_on_a_page_and_revokes(http: httpx.AsyncClient, method: str) -> None:
    tokens = (await redeem(http, await signed_in(http))).json()
    said = {"id_token_hint": tokens["id_token"]}

    answer = await http.request(method, "/end-session", **({"params": said} if method == "GET" else {"data": said}))  # type: ignore[arg-type]  # one keyword of httpx by method

    assert (answer.status_code, "<h1>Déconnexion terminée</h1>" in answer.text) == (200, True)
    assert (await userinfo(http, tokens["access_token"])).status_code == 401


async def test_a_desk_that_names_itself_may_leave_without_a_token(http: httpx.AsyncClient) -> None:
    answer = await http.get("/end-session", params={"client_id": "desk", "post_logout_redirect_uri": LEFT})

    assert (answer.status_code, answer.headers["location"]) == (303, LEFT)


@pytest.mark.parametrize(
    "change",
    [
        {"post_logout_redirect_uri": "https://evil.example/"},
        {"post_logout_redirect_uri": BACK},
        {"post_logout_redirect_uri": "http://127.0.0.1:8001@evil.example/desk/"},
        {"id_token_hint": "a.b.c"},
        {"id_token_hint": "\0"},
        {"id_token_hint": ""},
        {"client_id": "other-desk"},
    ],
    ids=str,
)
async def test_leaving_is_no_way_elsewhere_and_revokes_nothing(http: httpx.AsyncClient, second_desk: str, change: dict[str, str]) -> None:
    tokens = (await redeem(http, await signed_in(http))).json()

    answer = await http.get("/end-session", params={"id_token_hint": tokens["id_token"], "post_logout_redirect_uri": LEFT} | change)

    assert (answer.status_code, "location" in answer.headers) == (400, False)
    assert (await userinfo(http, tokens["access_token"])).status_code == 200


async def test_an_access_token_ends_no_session(http: httpx.AsyncClient) -> None:
    tokens = (await redeem(http, await signed_in(http))).json()

    answer = await http.get("/end-session", params={"id_token_hint": tokens["access_token"]})

    assert answer.status_code == 400
    assert (await userinfo(http, tokens["access_token"])).status_code == 200


async def test_an_id_token_that_has_expired_still_ends_its_session(http: httpx.AsyncClient, issuer: Issuer) -> None:
    tokens = (await redeem(http, await signed_in(http))).json()
    sid = (await claims_of(http, tokens["id_token"]))["sid"]
    old = issuer._sign("JWT", {"iss": URL, "aud": "desk", "sub": str(CAMILLE.id), "sid": sid, "exp": 1})

    answer = await http.get("/end-session", params={"id_token_hint": old, "post_logout_redirect_uri": LEFT})

    assert answer.status_code == 303
    assert (await userinfo(http, tokens["access_token"])).status_code == 401
