"""How the desk's pages are made: templates, headers, and the few words that every page needs."""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode
from uuid import UUID

from fastapi import Request
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.responses import HTMLResponse, RedirectResponse, Response

from libs.chassis.pagination import PageAsked, Row, page_of
from libs.chassis.refusals import Refusal, Unauthenticated
from libs.chassis.security import Principal
from libs.contracts.types import PARIS, label_of
from libs.contracts.vocabularies import Purpose, Role
from services.referrals.desk.changes import Change, fresh_key, wrongs_of
from services.referrals.desk.forms import Form
from services.referrals.desk.kept import kept_form
from services.referrals.desk.people import named
from services.referrals.domain import within_sentence
from services.referrals.orientations import answer_pages
from services.referrals.orientations.domain import ENDED_BECAUSE
from services.referrals.working.safe_contact import WEEKDAYS, days_in_words

STYLE: Final = Path(__file__).parent / "templates" / "desk.css"
SIGNED_IN: Final = "maillon.desk_signed_in"
"""Where the guard puts who is there, in the ASGI scope; absent on public pages for whoever is not signed in."""

_FOLDERS = (Path(__file__).parent / "templates", Path(answer_pages.__file__).parent / "pages")


def moment(value: datetime | None) -> str:
    return "" if value is None else value.astimezone(PARIS).strftime("%d/%m/%Y à %H:%M")


def _day(value: Any) -> str:
    return "" if value is None else value.strftime("%d/%m/%Y")


def _reference(value: UUID) -> str:
    """Enough of an id to tell two apart on a page: its last eight signs."""
    return f"…{str(value)[-8:]}"


def _lasting(time: timedelta) -> str:
    """`2 j`, `3 h`, `12 min`: the largest of the three that is reached."""
    minutes = int(time.total_seconds() // 60)
    return f"{minutes // 1440} j" if minutes >= 1440 else f"{minutes // 60} h" if minutes >= 60 else f"{minutes} min"


def _days(numbers: list[int]) -> str:
    return days_in_words(sorted(numbers))


def _reason(value: str) -> str:
    """Why an orientation came to nothing."""
    return label_of(value, ENDED_BECAUSE)


PAGES = Environment(loader=FileSystemLoader(_FOLDERS), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
PAGES.filters.update(
    moment=moment, day=_day, lasting=_lasting, reference=_reference, days=_days, reason=_reason, within_sentence=within_sentence
)
PAGES.globals.update(named=named, Role=Role, purposes=list(Purpose), weekdays=WEEKDAYS)


def _headers(request: Request) -> dict[str, str]:
    """`form-action` names the provider too: the form that signs out ends there. (Referrer-Policy `no-referrer` would make Origin `null`.)"""
    provider = getattr(request.app.state, "desk_provider", None)
    forms = "'self'" if provider is None else f"'self' {provider.issuer_origin}"
    on_https = provider is not None and provider.origin.startswith("https://")
    return ({"Strict-Transport-Security": "max-age=31536000"} if on_https else {}) | {
        "Content-Security-Policy": (f"default-src 'none'; style-src 'self'; form-action {forms}; base-uri 'none'; frame-ancestors 'none'"),
        "Referrer-Policy": "same-origin",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
        "X-Robots-Tag": "noindex, nofollow, noarchive",
        "X-Frame-Options": "DENY",
        "Cache-Control": "no-store",
        "Content-Language": "fr",
    }


def home_of(caller: Principal) -> str:
    """Where a person begins."""
    return "/desk/orientations" if caller.role is Role.PARTNER else "/desk/referrals"


def page(request: Request, template: str, status: int = 200, **said: Any) -> Response:
    """One page, with the person who looks at it, and what they wrote on it before their session ended."""
    me = request.scope.get(SIGNED_IN)
    path: str = request.scope["path"]
    if request.method == "POST":  # its own address answers no GET: back to what it is about
        parts = path.split("/")
        path = "/".join(parts[:4] if len(parts) > 4 else parts[:-1])
    kept = kept_form(request)
    if kept is not None and "typed" in said:
        said["typed"] = kept
    given = {"me": me, "home": None if me is None else home_of(me.caller), "path": path, "kept": kept, **said}
    return HTMLResponse(PAGES.get_template(template).render(given), status, _headers(request))


def form_page(request: Request, template: str, change: Change, typed: Form | None, refusal: Refusal | None, **said: Any) -> Response:
    """The form of a change, blank or as it was `typed`. `refusal`: why it was not taken, told where it is to be corrected; the page has its status."""
    wrongs = [] if refusal is None else wrongs_of(change, refusal)
    return page(
        request, template, 200 if refusal is None else refusal.status, change=change, typed=typed, key=fresh_key(), wrongs=wrongs, **said
    )


def list_page(request: Request, template: str, rows: Sequence[Row], asked: PageAsked, key: Callable[[Row], tuple[Any, ...]]) -> Response:
    """One page of a list without filters, with the ways to the next one and back to the first."""
    items, following = page_of(rows, asked, key)
    further = urlencode({"cursor": following}) if following else None
    return page(request, template, items=items, following=further, first=asked.after is None, beginning="")


def message(request: Request, refusal: Refusal, to: str | None = None) -> Response:
    """A refusal as a page, in its own words. `to`: where signing in leads, when not to what the page is about."""
    answer = page(
        request,
        "desk_message.html",
        refusal.status,
        title=refusal.title,
        sentence=refusal.detail,
        sign_in=isinstance(refusal, Unauthenticated),
        **({} if to is None else {"path": to}),
    )
    answer.headers.update(refusal.headers)
    return answer


def go_to(path: str) -> Response:
    """After a change: the page is asked for again, so that a reload repeats nothing."""
    return RedirectResponse(path, 303, {"Cache-Control": "no-store"})
