"""Several who change one thing at once, made certain: nobody goes on before each of them has come as far as it can.

The rows in dispute are held; the requests begin one after the other, each when the one before stands; then the rows are let go. With a command's lock
each stands before it and finds, in its turn, what the one before made of the thing. Without it (`without_locks`) each has read the thing as it was and
stands before its own change of it.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import httpx
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.sql.selectable import GenerativeSelect

from libs.chassis import idempotency
from libs.chassis.database import Database
from libs.chassis.runtime import Runtime
from tests.waiting import until

Request = Callable[[], Awaitable[httpx.Response | None]]
"""A job answers nothing: what it did shows in what was said."""
End = tuple[int, tuple[str, ...]]
"""How many requests were told that it is done, and what was said, in order."""


class Speaking(Protocol):
    """A service over HTTP."""

    runtime: Runtime

    async def said_types(self) -> list[str]: ...


@dataclass
class Race:
    """`over`: the tables whose rows are in dispute. `ends`: how it may end; more than one where either may come first."""

    over: Sequence[str]
    requests: Sequence[Request]
    ends: Collection[End]
    refused: Collection[int] = (409, 410, 412)
    """How who comes second may be told so."""
    left: str = "SELECT true"
    """What must be true of the rows that are left."""


async def run(service: Speaking, race: Race) -> None:
    """Raises AssertionError where it ends in another way."""
    await service.said_types()

    with pytest.MonkeyPatch.context() as patient:
        patient.setattr(idempotency, "WAIT", "60s")  # how long any lock is waited for: 5 s are over soon on a machine that is busy
        answers = await _at_once(service.runtime.database, race)

    codes = [answer.status_code for answer in answers if isinstance(answer, httpx.Response)]
    assert {code for code in codes if 300 <= code < 500} <= set(race.refused), f"refused for another reason: {codes}"
    end = sum(code < 300 for code in codes), tuple(await service.said_types())
    async with service.runtime.database.transaction() as session:
        left = await session.scalar(text(race.left))
    assert (max(codes, default=200) < 500, end in race.ends, left) == (True, True, True), f"the lock did not hold: {codes}, {end}"


async def _at_once(database: Database, race: Race) -> list[httpx.Response | None]:
    running: list[asyncio.Future[httpx.Response | None]] = []
    async with database.transaction() as holding:
        for table in race.over:
            await holding.execute(text(f"SELECT 1 FROM {table} FOR UPDATE"))  # one of our tables
        for request in race.requests:
            running.append(asyncio.ensure_future(request()))
            await until(lambda: _stand(database, running))
    return await asyncio.gather(*running)


async def _stand(database: Database, running: Sequence[asyncio.Future[Any]]) -> bool:
    """Whether each is done, or waits before a lock."""
    waiting = text("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'")
    async with database.transaction() as session:
        return (await session.scalar(waiting) or 0) == sum(not one.done() for one in running)


def without_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if somebody had taken `with_for_update` out of every command."""

    def unlocked(get: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def read(session: AsyncSession, *what: Any, with_for_update: object = None, **how: Any) -> Any:
            return await get(session, *what, **how)

        return read

    for name in ("get", "get_one"):
        monkeypatch.setattr(AsyncSession, name, unlocked(getattr(AsyncSession, name)))
    monkeypatch.setattr(GenerativeSelect, "with_for_update", lambda select, **how: select)
