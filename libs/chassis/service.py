"""What a service is, as data: its `app.py` fills one of these in, and the chassis does the rest."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fastapi import APIRouter, Request
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.responses import Response

from libs.chassis.access import AccessTable, Rule
from libs.chassis.health import Heartbeat
from libs.chassis.listener import Listener
from libs.chassis.settings import Settings
from libs.contracts.envelope import Event

if TYPE_CHECKING:
    from libs.chassis.runtime import Runtime


@dataclass(frozen=True)
class Job:
    """Work done every so often by one replica at a time (an advisory lock says which): expiries, reminders, purges. Opens its own transactions."""

    name: str
    every_seconds: float
    run: Callable[["Runtime"], Awaitable[None]]


@dataclass(frozen=True)
class Loop:
    """Work of its own pace beside the jobs, on every replica: a slow neighbour (a mail server) must not hold up what others wait for.

    `run` beats the heartbeat it is given; silence for longer than `silence_seconds` fails /livez.
    """

    name: str
    silence_seconds: float
    run: Callable[["Runtime", Heartbeat], Awaitable[None]]


PageGuard = Callable[[Request, Rule, Callable[[], Awaitable[Response]]], Awaitable[Response]]
"""Stands before every route whose rule says `page`: finds the person, checks the rule, puts caller and purpose into the scope as the guard of an
API route does (`libs.chassis.security`), then calls the page, and answers whatever is refused with a page."""


@dataclass(frozen=True)
class Service:
    """One room: what it answers, says and hears. `says` lists every event type it may append."""

    name: str
    title: str
    settings: type[Settings]
    routers: Sequence[APIRouter]
    access: AccessTable
    says: Sequence[type[Event]]
    listener: Listener | None = None
    jobs: Sequence[Job] = ()
    loops: Sequence[Loop] = ()
    page_guard: PageGuard | None = None
    measure: Callable[[AsyncSession], Awaitable[None]] | None = None
    """Sets the service's own gauges out of the database, at every scrape: each replica then tells the same."""
