"""What a desk asks of /authorize, and the page that a person sees there."""

import re
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.contracts.demonstration import COMMUNE_CERGY, DESKS, PERSONS
from libs.embedded.grants import Grants
from libs.embedded.issuer import Issuer, create_app
from tests.embedded.desk import ABSENT, ASKED, CAMILLE, URL, VERIFIER, Page, choose, told_to_the_desk

_RFC_6749_TEXT = re.compile(r"[\x20-\x21\x23-\x5b\x5d-\x7e]+")


# What a desk asks


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"response_type": ABSENT}, "invalid_request"),
        ({"response_type": "token"}, "unsupported_response_type"),
        ({"response_type": "code id_token"}, "unsupported_response_type"),
        ({"response_mode": "fragment"}, "invalid_request"),
        ({"scope": ABSENT}, "invalid_scope"),
        ({"scope": "maillon"}, "invalid_scope"),
        ({"scope": "openid everything"}, "invalid_scope"),
        ({"state": ABSENT}, "invalid_request"),
        ({"state": "é"}, "invalid_request"),
        ({"state": "x\r\nSet-Cookie: a=b"}, "invalid_request"),
        ({"state": "x" * 2001}, "invalid_request"),
        ({"nonce": ABSENT}, "invalid_request"),
        ({"nonce": "\0"}, "invalid_request"),
        ({"code_challenge": ABSENT}, "invalid_request"),
        ({"code_challenge": VERIFIER}, "invalid_request"),
        ({"code_challenge": "é" * 43}, "invalid_request"),
        ({"code_challenge_method": ABSENT}, "invalid_request"),
        ({"code_challenge_method": "plain"}, "invalid_request"),
        ({"code_challenge_method": "s256"}, "invalid_request"),
        ({"prompt": "none"}, "login_required"),
        ({"request": "e30.e30."}, "request_not_supported"),
        ({"request_uri": "http://127.0.0.1:8001/request"}, "request_uri_not_supported"),
    ],
    ids=str,
)
async def test_what_is_wrong_with_a_request_is_told_to_the_desk(http: httpx.AsyncClient, change: dict[str, str], error: str) -> None:
    asked = ASKED | change

    for answer in (await http.get("/authorize", params=asked), await choose(http, asked)):
        told = told_to_the_desk(answer)
        assert (told["error"], told["iss"], "code" in told) == (error, URL, False)
        assert _RFC_6749_TEXT.fullmatch(told["error_description"])
        assert told.get("state") == (None if "state" in change else "the-state")


@pytest.mark.parametrize("name", ["state", "nonce", "scope", "code_challenge_method"])
async def test_a_field_given_twice_is_told_to_the_desk(http: httpx.AsyncClient, name: str) -> None:
    answer = await http.get(f"/authorize?{urlencode([*ASKED.items(), (name, ASKED[name])])}")

    assert told_to_the_desk(answer)["error"] == "invalid_request"


@pytest.mark.parametrize(
    "change",
    [
        {"client_id": ABSENT},
        {"client_id": "iscg-95"},
        {"client_id": "<script>alert(1)</script>"},
        {"redirect_uri": ABSENT},
        {"redirect_uri": "/desk/callback"},
        {"redirect_uri": "//evil.example/desk/callback"},
        {"redirect_uri": "https://evil.example/desk/callback"},
        {"redirect_uri": "https://127.0.0.1:8001/desk/callback"},
        {"redirect_uri": "http://localhost:8001/desk/callback"},
        {"redirect_uri": "http://127.0.0.1.evil.example/desk/callback"},
        {"redirect_uri": "http://127.0.0.1:8001@evil.example/desk/callback"},
        {"redirect_uri": "http://evil.example#@127.0.0.1:8001/desk/callback"},
        {"redirect_uri": "http://evil.example\\@127.0.0.1:8001/desk/callback"},
        {"redirect_uri": "http://127.0.0.2:8001/desk/callback"},
        {"redirect_uri": "http://127.0.0.1:0/desk/callback"},
        {"redirect_uri": "http://127.0.0.1:65536/desk/callback"},
        {"redirect_uri": "http://127.0.0.1:8001/desk/callback/"},
        {"redirect_uri": "http://127.0.0.1:8001/desk/../desk/callback"},
        {"redirect_uri": "http://127.0.0.1:8001/desk/callback?next=//evil.example"},
        {"redirect_uri": "http://127.0.0.1:8001/desk/callback#x"},
        {"redirect_uri": "http://127.0.0.1:8001/desk/callback\n"},
        {"redirect_uri": "http://127.0.0.1:8001/desk/"},
        {"redirect_uri": "javascript:alert(1)"},
    ],
    ids=str,
)
async def test_nobody_is_sent_where_it_cannot_be_trusted(http: httpx.AsyncClient, change: dict[str, str]) -> None:
    for answer in (await http.get("/authorize", params=ASKED | change), await choose(http, ASKED | change)):
        assert (answer.status_code, "location" in answer.headers) == (400, False)
        assert "<h1>Connexion impossible</h1>" in answer.text
        assert not any(value and value in answer.text for value in change.values() if "<" in value or "evil" in value)


@pytest.mark.parametrize(
    ("query", "status"),
    [
        (b"", 400),
        (urlencode([*ASKED.items(), ("client_id", "desk")]).encode(), 400),
        (urlencode([*ASKED.items(), ("redirect_uri", "https://evil.example/")]).encode(), 400),
        (b"client_id=%ff%fe", 400),
        (b"&".join(b"a=1" for _ in range(50)), 400),
        (b"client_id=desk&x=" + b"x" * 20_000, 413),
    ],
    ids=["empty", "client twice", "address twice", "not UTF-8", "many fields", "long"],
)
async def test_a_query_that_says_nothing_clear_is_refused_on_a_page(http: httpx.AsyncClient, query: bytes, status: int) -> None:
    answer = await http.get(httpx.URL(f"{URL}/authorize", query=query))

    assert (answer.status_code, "location" in answer.headers, answer.headers["content-type"]) == (status, False, "text/html; charset=utf-8")


_VALUES = st.one_of(
    st.sampled_from([*ASKED.values(), "plain", "none", "https://evil.example/", "//evil.example", "http://127.0.0.1:8001@evil.example/"]),
    st.text(max_size=80),
)
_QUERIES = st.one_of(
    st.binary(max_size=200),
    st.lists(st.tuples(st.one_of(st.sampled_from([*ASKED, "prompt", "request"]), st.text(max_size=10)), _VALUES), max_size=25).map(
        lambda pairs: urlencode(pairs).encode()
    ),
    st.dictionaries(st.sampled_from(sorted(ASKED)), _VALUES, max_size=3).map(lambda changes: urlencode(ASKED | changes).encode()),
)


_APPLICATION = create_app(Issuer(URL), Grants())


@given(query=_QUERIES, method=st.sampled_from(["GET", "POST"]))
async def test_no_query_brings_an_error_of_ours_or_a_redirect_elsewhere(query: bytes, method: str) -> None:
    said: list[dict[str, Any]] = []
    body = urlencode({"person": str(CAMILLE.id)}).encode()

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body if method == "POST" else b"", "more_body": False}

    async def send(message: Any) -> None:
        said.append(message)

    headers = [(b"content-type", b"application/x-www-form-urlencoded")]
    scope = {"type": "http", "method": method, "path": "/authorize", "raw_path": b"/authorize", "query_string": query, "headers": headers}
    await _APPLICATION(scope | {"root_path": "", "scheme": "http", "server": ("127.0.0.1", 8000), "http_version": "1.1"}, receive, send)

    location = dict(said[0]["headers"]).get(b"location")
    assert said[0]["status"] in {200, 303, 400, 413}
    assert (said[0]["status"] == 303) == (location is not None)
    if location is not None:
        split = urlsplit(location.decode("ascii"))
        assert (split.scheme, split.hostname, split.path, split.fragment) == ("http", "127.0.0.1", "/desk/callback", "")
        assert "iss" in dict(parse_qsl(split.query))


# The page


async def test_the_page_offers_each_person_by_name_without_any_script(http: httpx.AsyncClient) -> None:
    answer = await http.get("/authorize", params=ASKED)

    page = Page(answer.text)
    assert answer.status_code == 200
    assert [one.get("lang") for one in page.of("html")] == ["fr"]
    assert (len(page.of("h1")), len(page.of("main")), len(page.of("title"))) == (1, 1, 1)
    assert [one.get("value") for one in page.of("button") if one.get("name") == "person"] == list(PERSONS)
    assert all(person.name in answer.text for person in PERSONS.values())
    assert not page.of("script")
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on") or name in {"style", "tabindex"}]


async def test_a_request_comes_back_whole_through_the_page(http: httpx.AsyncClient) -> None:
    state = 'a&b="c" <script>\'+%20'

    page = Page((await http.get("/authorize", params=ASKED | {"state": state})).text)
    told = told_to_the_desk(await http.post(page.action, data={"person": str(CAMILLE.id)}))

    assert (told["state"], set(told)) == (state, {"code", "state", "iss"})
    assert not page.of("script")


async def test_a_name_is_text_whatever_it_holds(http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(DESKS, "desk", DESKS["desk"]._replace(label="<script>alert(1)</script>"))
    monkeypatch.setitem(PERSONS, str(CAMILLE.id), CAMILLE._replace(name="<b>Camille</b>"))

    answer = await http.get("/authorize", params=ASKED)

    page = Page(answer.text)
    assert (answer.status_code, page.of("script"), page.of("b")) == (200, [], [])
    assert "&lt;b&gt;Camille&lt;/b&gt;" in answer.text


async def test_pages_run_nothing_load_only_their_stylesheet_and_stand_in_no_frame(http: httpx.AsyncClient) -> None:
    choice, refusal = await http.get("/authorize", params=ASKED), await http.get("/authorize")

    policies = [
        dict(part.strip().partition(" ")[::2] for part in one.headers["content-security-policy"].split(";")) for one in (choice, refusal)
    ]
    common = {"default-src": "'none'", "style-src": "'self'", "base-uri": "'none'", "frame-ancestors": "'none'"}
    assert policies == [common | {"form-action": "'self' http://127.0.0.1:8001"}, common | {"form-action": "'none'"}]
    for answer in (choice, refusal):
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["x-frame-options"] == "DENY"
        assert answer.headers["referrer-policy"] == "same-origin"
        (sheet,) = Page(answer.text).of("link")
        assert (await http.get(str(sheet["href"]))).headers["content-type"] == "text/css; charset=utf-8"


@pytest.mark.parametrize(("scheme", "grounds"), [("light", 0), ("dark", 1)])
async def test_every_text_can_be_read_against_its_ground(http: httpx.AsyncClient, scheme: str, grounds: int) -> None:
    sheet = (await http.get("/sign-in.css")).text
    colours = {
        name: re.findall(rf"--{name}: #([0-9a-f]{{6}});", sheet)[grounds] for name in ("ground", "text", "quiet", "accent", "mistake")
    }

    ground = _luminance(colours.pop("ground"))

    for name, colour in colours.items():
        low, high = sorted((ground, _luminance(colour)))
        assert (high + 0.05) / (low + 0.05) >= 4.5, name


def _luminance(colour: str) -> float:
    """WCAG 2.2, relative luminance."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (0, 2, 4)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("person", ["", "nobody", COMMUNE_CERGY, "iscg-95", "<script>", "\0", str(CAMILLE.id).upper() + " "])
async def test_an_unknown_person_is_told_so_and_may_choose_again(http: httpx.AsyncClient, person: str) -> None:
    answer = await choose(http, person=person)

    page = Page(answer.text)
    assert (answer.status_code, "location" in answer.headers) == (400, False)
    assert [one.get("role") for one in page.of("p") if one.get("class") == "mistake"] == ["alert"]
    assert len(page.of("button")) == len(PERSONS) + 1
    assert not page.of("script")


async def test_who_does_not_want_to_sign_in_goes_back(http: httpx.AsyncClient) -> None:
    told = told_to_the_desk(await choose(http, cancel="1"))

    assert (told["error"], told["state"]) == ("access_denied", "the-state")


@pytest.mark.parametrize(("site", "status"), [("same-origin", 303), ("same-site", 403), ("cross-site", 403)])
async def test_another_site_cannot_choose_for_the_person(http: httpx.AsyncClient, site: str, status: int) -> None:
    answer = await http.post("/authorize", params=ASKED, data={"person": str(CAMILLE.id)}, headers={"Sec-Fetch-Site": site})

    assert answer.status_code == status


@pytest.mark.parametrize(
    ("content_type", "content", "status"),
    [
        ("application/json", b"{}", 400),
        ("application/x-www-form-urlencoded", b"person=%ff", 400),
        ("application/x-www-form-urlencoded", b"person=a&person=b", 400),
        ("application/x-www-form-urlencoded", b"person=" + b"x" * 20_000, 413),
    ],
)
async def test_a_choice_that_cannot_be_read_is_refused_on_a_page(
    http: httpx.AsyncClient, content_type: str, content: bytes, status: int
) -> None:
    answer = await http.post("/authorize", params=ASKED, content=content, headers={"Content-Type": content_type})

    assert (answer.status_code, answer.headers["content-type"]) == (status, "text/html; charset=utf-8")
