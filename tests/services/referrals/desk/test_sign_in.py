"""Signing in and out at the desk: whose session it is, how it begins and ends, and what no page of another site can do with it."""

import re
import time
from types import SimpleNamespace
from typing import Any, cast
from urllib.parse import parse_qsl, urlencode, urlsplit

import httpx
import pytest
from pydantic import ValidationError
from sqlalchemy import text
from starlette.responses import Response

from libs.chassis.rates import Rates
from libs.chassis.runtime import Runtime
from libs.chassis.security import TokenVerifier
from services.referrals.desk.provider import Provider
from services.referrals.desk.sessions import Sessions, sweep
from services.referrals.settings import Settings
from tests.services.referrals.desk.browser import BASE, FORM, Browser, Html
from tests.services.referrals.desk.conftest import Desk
from tests.serving import app_of
from tests.settings import settings_for

COOKIE = "maillon-desk"


async def execute(desk: Desk, statement: str, **values: Any) -> None:
    async with desk.runtime.database.transaction() as session:
        await session.execute(text(statement), values)


async def is_signed_in(browser: Browser) -> bool:
    answer = await browser.desk.get("/desk/referrals")
    assert answer.status_code in (200, 303), answer.text
    return answer.status_code == 200


def provider_of(desk: Desk) -> Provider:
    found: Provider = app_of(desk.client).state.desk_provider
    return found


def an_hour_later(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the clock of who looks at tokens."""
    verifier = TokenVerifier(desk.runtime.settings, now=lambda: time.time() + 3700, keys=desk.runtime.tokens.keys)
    monkeypatch.setattr(desk.runtime, "tokens", verifier)
    monkeypatch.setattr(provider_of(desk), "_tokens", verifier)


async def answer_of_the_provider(browser: Browser, **changes: str) -> httpx.Response:
    """Somebody chose a person, and the browser is about to come back: its address, changed."""
    await browser.open("/desk/sign-in")
    form = browser.html.forms[-1]
    answer = await browser.issuer.post(
        form.action, content=urlencode({"person": form.choices["person"][0]}), headers={"Content-Type": FORM}
    )
    assert answer.status_code == 303, answer.text
    address, _, query = answer.headers["location"].partition("?")
    return await browser.desk.get(f"{address}?{urlencode(dict(parse_qsl(query)) | changes)}")


async def test_a_social_worker_signs_in_says_why_and_sees_their_own_worklist(desk: Desk) -> None:
    referral_id = await desk.receive()
    browser = desk.browser()

    await browser.sign_in("iscg-95")

    assert "Camille Exemple, Intervenant social" in browser.html.text
    assert f"/desk/referrals/{referral_id}" in browser.html.links.values()
    other = await desk.sign_in("iscg-78")
    assert f"/desk/referrals/{referral_id}" not in other.html.links.values()


async def test_a_link_of_a_mail_leads_through_sign_in_and_purpose_to_its_page(desk: Desk) -> None:
    referral_id = await desk.receive()
    browser = desk.browser()

    await browser.sign_in("iscg-95", to=f"/desk/referrals/{referral_id}", purpose=None)
    assert browser.html.text.count("Pourquoi consultez-vous") == 1
    await browser.submit(purpose="supervision")

    assert urlsplit(str(browser.page.url)).path == f"/desk/referrals/{referral_id}"
    assert browser.page.status_code == 200


async def test_the_session_is_a_random_secret_in_a_cookie_that_no_script_reads_and_the_database_does_not_hold(desk: Desk) -> None:
    browser = await desk.sign_in("iscg-95")

    secret = browser.desk.cookies[COOKIE]
    [given] = [header for answer in browser.seen for header in answer.headers.get_list("set-cookie") if header.startswith(f"{COOKIE}=")]
    kept = str(await desk.snapshot("desk_sessions"))

    assert len(secret) >= 43
    assert {"httponly", "samesite=lax", "path=/"} <= {part.strip().lower() for part in given.split(";")}
    assert secret not in kept
    assert secret.encode().hex() not in kept
    assert "eyJ" not in kept, "the tokens are sealed"


@pytest.mark.parametrize(("url", "name", "secure"), [("https://maillon.example/desk", "__Host-maillon-desk", True), (None, COOKIE, False)])
def test_on_https_cookies_are_secure_and_bound_to_the_host(url: str | None, name: str, secure: bool) -> None:
    settings = settings_for("referrals", Settings, desk_url=url)
    runtime = cast(Runtime, SimpleNamespace(settings=settings))
    answer = Response()

    sessions = Sessions.of(runtime)
    sessions.give(answer, "secret")

    assert sessions.cookie == name
    assert ("secure" in answer.headers["set-cookie"].lower()) is secure


async def test_a_session_planted_before_sign_in_is_not_the_one_after(desk: Desk) -> None:
    thief = await desk.sign_in("iscg-78")
    planted = thief.desk.cookies[COOKIE]
    victim = desk.browser()
    victim.desk.cookies.set(COOKIE, planted, domain="127.0.0.1")

    await victim.open("/desk/sign-in")
    await victim.submit(person=victim.html.forms[-1].choices["person"][0])

    assert victim.desk.cookies[COOKIE] != planted
    assert not await is_signed_in(thief), "the planted session is over"
    unknown = desk.browser()
    unknown.desk.cookies.set(COOKIE, "x" * 43, domain="127.0.0.1")
    assert not await is_signed_in(unknown)


async def test_a_session_that_nobody_used_for_half_an_hour_is_over(desk: Desk) -> None:
    browser = await desk.sign_in("iscg-95")

    await execute(desk, "UPDATE desk_sessions SET seen_at = now() - interval '29 minutes'")
    assert await is_signed_in(browser)
    await execute(desk, "UPDATE desk_sessions SET seen_at = now() - interval '31 minutes'")
    assert not await is_signed_in(browser)
    assert not await is_signed_in(browser), "asking did not revive it"


async def test_a_session_ends_however_much_it_is_used(desk: Desk) -> None:
    browser = await desk.sign_in("iscg-95")

    await execute(desk, "UPDATE desk_sessions SET expires_at = now() - interval '1 second'")

    assert not await is_signed_in(browser)
    await sweep(desk.runtime)
    assert await desk.rows("SELECT created_at FROM desk_sessions") == []


async def test_a_session_that_our_key_of_today_does_not_open_is_over(desk: Desk) -> None:
    browser = await desk.sign_in("iscg-95")

    await execute(desk, "UPDATE desk_sessions SET sealed = set_byte(sealed, 20, get_byte(sealed, 20) # 1)")

    assert not await is_signed_in(browser)
    assert await desk.rows("SELECT created_at FROM desk_sessions") == []


async def test_a_session_ends_with_the_rights_that_the_provider_gave_when_it_renews_none(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    browser = await desk.sign_in("iscg-95")
    assert await is_signed_in(browser)

    an_hour_later(desk, monkeypatch)

    assert not await is_signed_in(browser)
    assert await desk.rows("SELECT created_at FROM desk_sessions") == []


async def test_tokens_are_renewed_where_the_provider_does_so(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, str]] = []
    provider = provider_of(desk)
    plain = provider._token

    async def token(metadata: Any, form: dict[str, str]) -> dict[str, Any]:
        asked.append(form)
        if form["grant_type"] == "refresh_token":
            return {"access_token": desk.issuer.issue("iscg-95", lifetime=9000, client_id="desk"), "refresh_token": "second"}
        return await plain(metadata, form) | {"refresh_token": "first"}

    monkeypatch.setattr(provider, "_token", token)
    browser = await desk.sign_in("iscg-95")
    an_hour_later(desk, monkeypatch)

    assert await is_signed_in(browser)
    assert await is_signed_in(browser)
    assert [form.get("refresh_token") for form in asked] == [None, "first"]
    page = await browser.open("/desk/")
    assert "Camille Exemple" in page.text


async def test_signing_out_ends_the_session_here_and_at_the_provider_without_a_name_in_an_address(desk: Desk) -> None:
    browser = await desk.sign_in("iscg-95")
    secret = browser.desk.cookies[COOKIE]
    await browser.follow("Se déconnecter")
    await browser.submit()

    assert any(url.endswith("/end-session") for url in browser.visited)
    assert urlsplit(str(browser.page.url)).path == "/desk/"
    assert "Se connecter" in browser.html.links
    assert await desk.rows("SELECT created_at FROM desk_sessions") == []
    browser.desk.cookies.set(COOKIE, secret, domain="127.0.0.1")
    assert not await is_signed_in(browser)
    for url in browser.visited:
        assert "eyJ" not in url
        assert "Camille" not in url


async def test_signing_out_works_while_the_provider_does_not_answer(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    browser = await desk.sign_in("iscg-95")
    await browser.open("/desk/sign-out")
    gone = httpx.MockTransport(lambda request: httpx.Response(502))
    monkeypatch.setattr(provider_of(desk), "_client", lambda: httpx.AsyncClient(transport=gone))
    monkeypatch.setattr(provider_of(desk), "_known", None)

    await browser.submit()

    assert await desk.rows("SELECT created_at FROM desk_sessions") == []
    assert (await browser.open("/desk/sign-in")).status_code == 503
    assert "ne répond pas" in browser.html.text


async def test_an_answer_that_is_not_the_providers_to_this_browser_signs_nobody_in(desk: Desk) -> None:
    wrong = (
        {"state": "another"},
        {"state": ""},
        {"iss": "https://ailleurs.example"},
        {"code": "another"},
        {"code": ""},
        {"error": "access_denied"},
    )
    for changes in wrong:
        answer = await answer_of_the_provider(desk.browser(), **changes)

        assert answer.status_code == 400, changes
        assert "Connexion impossible" in answer.text
        assert await desk.rows("SELECT created_at FROM desk_sessions") == []
    assert (await answer_of_the_provider(desk.browser())).status_code == 303


async def test_the_answer_to_another_browser_signs_nobody_in(desk: Desk) -> None:
    attacker, victim = desk.browser(), desk.browser()
    await attacker.open("/desk/sign-in")
    await victim.open("/desk/sign-in")
    form = attacker.html.forms[-1]
    theirs = await attacker.issuer.post(form.action, data={"person": form.choices["person"][0]})

    answer = await victim.desk.get(theirs.headers["location"])

    assert answer.status_code == 400
    assert await desk.rows("SELECT created_at FROM desk_sessions") == []


async def test_a_code_is_worth_nothing_without_the_verifier_and_an_id_token_nothing_with_another_nonce(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Sessions.pending
    for change in ({"verifier": "v" * 64}, {"nonce": "another"}):
        monkeypatch.setattr(Sessions, "pending", lambda self, request, change=change: original(self, request).model_copy(update=change))
        answer = await answer_of_the_provider(desk.browser())
        assert answer.status_code == 400, change
    assert await desk.rows("SELECT created_at FROM desk_sessions") == []


async def test_the_request_to_the_provider_asks_by_pkce_with_fresh_values_for_who_signed_in_lately(desk: Desk) -> None:
    asked = []
    for _ in range(2):
        answer = await desk.browser().desk.get("/desk/sign-in")
        asked.append(dict(parse_qsl(urlsplit(answer.headers["location"]).query)))

    assert {one["code_challenge_method"] for one in asked} == {"S256"}
    assert {one["redirect_uri"] for one in asked} == {f"{BASE}/desk/callback"}
    assert {one["max_age"] for one in asked} == {"1800"}
    for fresh in ("state", "nonce", "code_challenge"):
        assert asked[0][fresh] != asked[1][fresh]
        assert len(asked[0][fresh]) >= 32


async def test_who_signed_in_at_the_provider_long_ago_is_not_taken_at_its_word(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    provider = provider_of(desk)
    monkeypatch.setattr(provider, "_max_age", -3600)

    assert (await answer_of_the_provider(desk.browser())).status_code == 400


async def test_signing_in_leads_to_no_other_site(desk: Desk) -> None:
    elsewhere = (
        "https://ailleurs.example/",
        "//ailleurs.example",
        "/\\ailleurs.example",
        "/desk/../v1",
        "/desk//x",
        "javascript:1",
        "/v1/keys",
    )
    browser = desk.browser()
    for to in elsewhere:
        await browser.open(f"/desk/sign-in?{urlencode({'to': to})}")
        await browser.submit(person=browser.html.forms[-1].choices["person"][0])
        assert str(browser.page.url) == f"{BASE}/desk/referrals"

        await browser.open(f"/desk/purpose?{urlencode({'to': to})}")
        await browser.submit(purpose="follow_up", to=to)
        assert str(browser.page.url) == f"{BASE}/desk/referrals"


async def test_a_form_of_another_site_is_refused(desk: Desk) -> None:
    cases: tuple[tuple[dict[str, str], int], ...] = (
        ({"Origin": "https://ailleurs.example", "Sec-Fetch-Site": "cross-site"}, 403),
        ({"Origin": "https://ailleurs.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({}, 403),
        ({"Origin": BASE, "Sec-Fetch-Site": "same-origin"}, 303),
        ({"Origin": BASE}, 303),
        ({"Sec-Fetch-Site": "same-origin"}, 303),
    )
    browser = await desk.sign_in("iscg-95")
    await browser.open("/desk/purpose")
    form = dict(browser.html.forms[-1].with_(purpose="supervision"))
    for headers, status in cases:
        answer = await browser.desk.post("/desk/purpose", data=form, headers=headers)

        assert answer.status_code == status, headers
        [row] = await desk.rows("SELECT purpose FROM desk_sessions")
        assert row.purpose == ("supervision" if status == 303 else "follow_up")


async def test_a_form_without_the_token_of_the_session_is_refused(desk: Desk) -> None:
    browser, other = await desk.sign_in("iscg-95"), await desk.sign_in("iscg-95")
    await other.open("/desk/purpose")
    stolen = dict(other.html.forms[-1].fields)["csrf"]

    for token in ("", "another", "é", stolen):
        await browser.open("/desk/purpose")
        assert (await browser.submit(purpose="supervision", csrf=token)).status_code == 403
    assert {row.purpose for row in await desk.rows("SELECT purpose FROM desk_sessions")} == {"follow_up"}


async def test_a_form_sent_after_the_session_ended_changes_nothing_and_says_so(desk: Desk) -> None:
    browser = await desk.sign_in("iscg-95")
    await browser.open("/desk/purpose")
    await execute(desk, "DELETE FROM desk_sessions")

    answer = await browser.submit(purpose="supervision")

    assert answer.status_code == 401
    assert "rien n'a été enregistré" in browser.html.text
    assert "Se connecter" in browser.html.links


async def test_every_page_is_closed_to_scripts_frames_and_caches(desk: Desk) -> None:
    referral_id = await desk.accepted()
    browser = await desk.sign_in("iscg-95")
    addresses = (
        "/desk/",
        "/desk/referrals",
        f"/desk/referrals/{referral_id}",
        "/desk/purpose",
        "/desk/sign-out",
        "/desk/referrals/unknown",
    )

    for address in addresses:
        page = await browser.open(address)
        policy = page.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; style-src 'self'; form-action 'self'"), address
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert page.headers["cache-control"] == "no-store"
        assert page.headers["x-frame-options"] == "DENY"
        assert page.headers["x-content-type-options"] == "nosniff"
        assert "<script" not in page.text
        assert re.search(r"\bstyle=|\bon[a-z]+=", page.text) is None
        assert '<html lang="fr">' in page.text


async def test_who_has_another_role_is_told_so_and_has_no_session(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    issue = desk.issuer.issue
    monkeypatch.setattr(desk.issuer, "issue", lambda who, **claims: issue("police-95", **claims))

    answer = await answer_of_the_provider(desk.browser())

    assert answer.status_code == 403
    assert await desk.rows("SELECT created_at FROM desk_sessions") == []


async def test_a_desk_that_nobody_set_up_is_closed(referrals: Any) -> None:
    answer = await referrals.client.get("/desk/")

    assert answer.status_code == 404
    assert "personne n'a configuré sa connexion" in Html(answer.text).text


async def test_secrets_tried_one_after_the_other_are_slowed(desk: Desk) -> None:
    app_of(desk.client).state.rates = Rates(settings_for("referrals", rate_limit_refusals=5))
    headers = [{"Cookie": f"{COOKIE}={number:043d}"} for number in range(6)]

    assert [(await desk.client.get("/desk/referrals", headers=one)).status_code for one in headers] == [303] * 5 + [429]


async def test_an_address_that_leads_nowhere_is_a_page(desk: Desk) -> None:
    for address in ("/desk/nothing", "/desk/referrals/1/2/3", "/desk/sign-in/x"):
        answer = await desk.client.get(address)
        assert answer.status_code == 404
        assert "Cette adresse n'existe pas" in Html(answer.text).text


def test_in_production_the_desk_and_its_provider_are_on_https() -> None:
    fit = {
        "environment": "production",
        "kafka_allow_plaintext": True,
        "database_allow_plaintext": True,
        "token_issuer": "https://identite.example",
        "token_jwks_url": "https://identite.example/jwks",
        "token_url": "https://identite.example/token",
        "public_url": "https://maillon.example",
        "desk_client_id": "desk",
    }
    assert settings_for("referrals", Settings, **fit)
    for wrong in (
        {"public_url": "http://maillon.example"},
        {"token_issuer": "http://identite.example"},
        {"desk_url": "http://maillon.example/desk"},
    ):
        with pytest.raises(ValidationError, match="n'est pas en https"):
            settings_for("referrals", Settings, **(fit | wrong))
    with pytest.raises(ValidationError):
        settings_for("referrals", Settings, **(fit | {"desk_url": "https://maillon.example/bureau"}))
