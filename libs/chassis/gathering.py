"""Creating requests that wait at the same moment are written by one transaction; each is answered after its commit.

Statements cost more than the work they carry: a referral in a transaction of its own takes ten of them, ten referrals together take the same ten.
Nothing waits for company: while one transaction commits, what arrives gathers, and is the next one. For the caller it is as if its request had been
alone (`libs.chassis.idempotency`): a request that is refused or fails takes nobody with it.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextvars import Context
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeVar

from pydantic import BaseModel
from sqlalchemy.ext.asyncio import AsyncSession

from libs.chassis.database import Database
from libs.chassis.idempotency import WAIT, Claim, InFlight, KeyReused, Stored, answer_of, claim, release, store
from libs.chassis.problems import is_away
from libs.chassis.refusals import Refusal

MOST = 64
"""Requests in one transaction."""
AT_ONCE = 2
"""Transactions at once: while PostgreSQL writes one to disk, the next is prepared."""
WORTH_ANOTHER = 16
"""Requests that wait before a second transaction begins beside the first: at 32 connections it made batches of ten, at half more of PostgreSQL's CPU for each."""
_SHORT_WAIT = "50ms"
"""How long a transaction waits for a request whose twin is in flight elsewhere; then each goes its own way, and that one alone waits longer."""
_ALONE_AT_ONCE = 4

T = TypeVar("T")

Command = Callable[[AsyncSession, Sequence[T]], Awaitable[Sequence[BaseModel | Refusal]]]
"""Does many at once, in the order given. What it refuses has left nothing in the session's transaction."""


class Done(NamedTuple):
    """`replayed`: an earlier request with the same key had done it."""

    stored: Stored
    replayed: bool


@dataclass(slots=True, eq=False)
class _Asked(Generic[T]):
    claim: Claim
    item: T
    outcome: asyncio.Future[Done | Exception]

    def settle(self, outcome: Done | Exception) -> None:
        if not self.outcome.done():
            self.outcome.set_result(outcome)


class Gathering(Generic[T]):
    """`done = await gathering(claim, item)`. One per operation and process, in the Runtime, which closes it."""

    def __init__(
        self,
        database: Database,
        command: Command[T],
        *,
        status: int = 201,
        location: str | None = None,
        most: int = MOST,
        at_once: int = AT_ONCE,
    ) -> None:
        self._database, self._command = database, command
        self._status, self._location = status, location
        self._most, self._at_once = most, at_once
        self._waiting: deque[_Asked[T]] = deque()
        self._known: dict[tuple[str, str], _Asked[T]] = {}
        """By client and key: what waits or is being written. No key is there twice."""
        self._at_work = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._alone = asyncio.Semaphore(_ALONE_AT_ONCE)

    async def __call__(self, claim: Claim, item: T) -> Done:
        """Raises the request's own refusal, KeyReused, InFlight, or what failed. Who is cancelled meanwhile may find it done when it asks again."""
        while (twin := self._known.get((claim.client, claim.key))) is not None:
            await asyncio.wait([twin.outcome])
            result = None if twin.outcome.cancelled() else twin.outcome.result()
            if isinstance(result, Done) and twin.claim == claim:
                return Done(result.stored, replayed=True)
            if isinstance(result, Exception) and not isinstance(result, Refusal):
                raise result  # the database is away: asking once more for each twin would not bring it back
        result = await asyncio.shield(self._ask(claim, item))
        if isinstance(result, Exception):
            raise result
        return result

    async def each(self, asked: Sequence[tuple[Claim, T]]) -> list[Done | Exception]:
        """As so many calls at once, and what each of them gives or raises; without a task for each, but for twins."""
        outcomes = [
            asyncio.ensure_future(self._outcome(claim, item)) if (claim.client, claim.key) in self._known else self._ask(claim, item)
            for claim, item in asked
        ]
        if outcomes:
            await asyncio.wait(outcomes)
        return [outcome.result() for outcome in outcomes]

    async def _outcome(self, claim: Claim, item: T) -> Done | Exception:
        try:
            return await self(claim, item)
        except Exception as error:
            return error

    def _ask(self, claim: Claim, item: T) -> asyncio.Future[Done | Exception]:
        name = claim.client, claim.key
        asked = self._known[name] = _Asked(claim, item, asyncio.get_running_loop().create_future())
        asked.outcome.add_done_callback(lambda _: self._known.pop(name))
        self._waiting.append(asked)
        if self._at_work < self._at_once and self._is_worth_it(self._at_work):
            self._at_work += 1
            self._start(self._work())
        return asked.outcome

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        # a context of its own: the transaction is nobody's request
        task = asyncio.get_running_loop().create_task(work, context=Context())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _is_worth_it(self, others: int) -> bool:
        """Whether to begin a transaction beside so many others: they take along what waits when they are done."""
        return len(self._waiting) >= (WORTH_ANOTHER if others else 1)

    async def _work(self) -> None:
        try:
            while self._is_worth_it(self._at_work - 1):
                await self._write([self._waiting.popleft() for _ in range(min(self._most, len(self._waiting)))], _SHORT_WAIT)
        finally:
            self._at_work -= 1

    async def _write(self, batch: Sequence[_Asked[T]], wait: str) -> None:
        try:
            outcomes = await self._write_together(batch, wait)
        except Exception as error:
            if wait != WAIT and (len(batch) > 1 or isinstance(error, InFlight)) and not is_away(error):
                for asked in batch:
                    self._start(self._write_alone(asked))
            else:
                for asked in batch:
                    asked.settle(error)
        except BaseException:
            for asked in batch:
                asked.outcome.cancel()
            raise
        else:
            for asked, outcome in zip(batch, outcomes, strict=True):
                asked.settle(outcome)

    async def _write_alone(self, asked: _Asked[T]) -> None:
        """After its batch failed: whoever is guilty fails now, the others do not."""
        async with self._alone:
            await self._write([asked], WAIT)

    async def _write_together(self, batch: Sequence[_Asked[T]], wait: str) -> list[Done | Refusal]:
        async with self._database.transaction() as session:
            found = await claim(session, [asked.claim for asked in batch], wait=wait)
            ours = [asked for asked, known in zip(batch, found, strict=True) if known is None]
            answers = iter(await self._command(session, [asked.item for asked in ours]) if ours else ())
            outcomes: list[Done | Refusal] = []
            for known in found:
                if isinstance(known, KeyReused):
                    outcomes.append(known)
                elif known is not None:
                    outcomes.append(Done(known, replayed=True))
                else:
                    answer = next(answers)
                    outcomes.append(
                        answer if isinstance(answer, Refusal) else Done(answer_of(answer, self._status, self._location), replayed=False)
                    )
            new = [(asked.claim, outcome) for asked, outcome, known in zip(batch, outcomes, found, strict=True) if known is None]
            await store(session, [(one, outcome.stored) for one, outcome in new if isinstance(outcome, Done)])
            await release(session, [one for one, outcome in new if isinstance(outcome, Refusal)])
        return outcomes

    async def close(self) -> None:
        """What was asked is still written; nothing may be asked any more."""
        while self._tasks:
            await asyncio.wait(self._tasks)
