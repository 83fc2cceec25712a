"""A browser without a screen in front of the desk and of the embedded issuer: follows links, keeps cookies, fills in forms as a person does."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from html.parser import HTMLParser
from urllib.parse import urlencode, urljoin

import httpx

from libs.contracts.demonstration import PERSONS

BASE = "http://127.0.0.1:8000"
FORM = "application/x-www-form-urlencoded"


@dataclass
class Filled:
    """A form of a page: where it goes, and what it would say as it stands."""

    action: str
    method: str
    fields: list[tuple[str, str]] = field(default_factory=list)
    choices: dict[str, list[str]] = field(default_factory=dict)

    def with_(self, **values: str | Iterable[str]) -> list[tuple[str, str]]:
        given = [(name, value) for name, value in self.fields if name not in values]
        for name, value in values.items():
            given += [(name, value)] if isinstance(value, str) else [(name, one) for one in value]
        return given


class Html(HTMLParser):
    """What a page holds: its forms, links and visible text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.forms: list[Filled] = []
        self.links: dict[str, str] = {}
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.words: list[str] = []
        self._form: Filled | None = None
        self._link: str | None = None
        self._select: str | None = None
        self._typed: tuple[str, list[str]] | None = None
        self.feed(text)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    @property
    def all_links(self) -> list[tuple[str, str]]:
        return [(tag, given["href"]) for tag, given in self.tags if tag == "a" and "href" in given]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.tags.append((tag, given))
        if tag == "form":
            self._form = Filled(given.get("action", ""), given.get("method", "get"))
            self.forms.append(self._form)
        elif tag == "a":
            self._link = given.get("href")
        elif self._form is not None:
            self._in_form(tag, given)

    def _in_form(self, tag: str, given: dict[str, str]) -> None:
        assert self._form is not None
        name = given.get("name", "")
        if tag == "input":
            if given.get("type") in ("radio", "checkbox"):
                self._form.choices.setdefault(name, []).append(given["value"])
                if "checked" not in given:
                    return
            if name:
                self._form.fields.append((name, given.get("value", "")))
        elif tag == "button" and name:
            self._form.choices.setdefault(name, []).append(given["value"])
        elif tag == "select":
            self._select = name
        elif tag == "textarea":
            self._typed = name, []
        elif tag == "option" and self._select is not None:
            self._form.choices.setdefault(self._select, []).append(given.get("value", ""))
            if "selected" in given:
                self._form.fields.append((self._select, given.get("value", "")))

    def handle_endtag(self, tag: str) -> None:
        if tag == "form":
            self._form = None
        elif tag == "a":
            self._link = None
        elif tag == "select":
            self._select = None
        elif tag == "textarea" and self._form is not None and self._typed is not None:
            name, parts = self._typed
            # a browser leaves out the first line break, and sends CRLF
            self._form.fields.append((name, "".join(parts).removeprefix("\n").replace("\n", "\r\n")))
            self._typed = None

    def handle_data(self, data: str) -> None:
        self.words.append(data)
        if self._typed is not None:
            self._typed[1].append(data)
        if self._link is not None and data.strip():
            self.links.setdefault(" ".join(data.split()), self._link)


@dataclass
class Browser:
    """`desk` and `issuer` answer at BASE and at the issuer's own address."""

    desk: httpx.AsyncClient
    issuer: httpx.AsyncClient
    seen: list[httpx.Response] = field(default_factory=list)
    """Every answer, redirects included."""

    @property
    def page(self) -> httpx.Response:
        return self.seen[-1]

    @property
    def html(self) -> Html:
        return Html(self.page.text)

    @property
    def visited(self) -> list[str]:
        return [str(answer.request.url) for answer in self.seen]

    async def open(self, address: str) -> httpx.Response:
        return await self._go("GET", address)

    async def follow(self, link: str) -> httpx.Response:
        return await self.open(self.html.links[link])

    async def submit(self, number: int = -1, /, **values: str | Iterable[str]) -> httpx.Response:
        form = self.html.forms[number]
        action = urljoin(str(self.page.url), form.action) if form.action else str(self.page.url)
        if form.method == "get":
            return await self._go("GET", f"{action}?{urlencode(form.with_(**values))}")
        return await self._go("POST", action, urlencode(form.with_(**values)))

    async def send(self, address: str, /, **values: str) -> httpx.Response:
        """A form as this session may send it, whatever its page offers."""
        await self.open("/desk/sign-out")
        csrf = dict(self.html.forms[-1].fields)["csrf"]
        return await self._go("POST", address, urlencode({"csrf": csrf} | values))

    async def sign_in(self, who: str, to: str = "/desk/referrals", purpose: str | None = "follow_up") -> httpx.Response:
        """As that demonstration client's person, all the way; and says why content is read."""
        await self.open(to)
        assert "/authorize" in str(self.page.url), self.page.text
        answer = await self.submit(person=next(id for id, person in PERSONS.items() if person.client_id == who))
        if purpose is not None:
            await self.open(f"/desk/purpose?to={to}")
            answer = await self.submit(purpose=purpose)
        return answer

    async def _go(self, method: str, address: str, form: str | None = None) -> httpx.Response:
        for _ in range(8):
            address = urljoin(str(self.page.url) if self.seen else BASE, address)
            client = self.desk if address.startswith(f"{BASE}/") else self.issuer
            headers = {} if form is None else {"Sec-Fetch-Site": "same-origin", "Origin": BASE, "Content-Type": FORM}
            answer = await client.request(method, address, content=form, headers=headers, follow_redirects=False)
            self.seen.append(answer)
            if not answer.is_redirect:
                return answer
            address = answer.headers["location"]
            if answer.status_code == 303:
                method, form = "GET", None
        raise AssertionError(f"too many redirects: {self.visited}")
