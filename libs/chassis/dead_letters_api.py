"""`/v1/dead-letters`: what could not be handled, for the operator: look, replay, discard with a reason."""

from typing import Annotated, Literal

from fastapi import APIRouter, Query, Response
from sqlalchemy.ext.asyncio import AsyncSession

from libs.chassis import dead_letters, parking
from libs.chassis.access import AccessTable, Rule
from libs.chassis.idempotency import Once
from libs.chassis.pagination import Page, page_of
from libs.chassis.problems import problems
from libs.chassis.projector import Projector
from libs.chassis.refusals import NotFound
from libs.chassis.runtime import Db, Run, Runtime
from libs.chassis.security import Caller
from libs.chassis.strict import Answer, Body, line
from libs.contracts.types import Id, Instant
from libs.contracts.vocabularies import Role

router = APIRouter(tags=["Dead letters"])

_OPERATORS = Rule(roles={Role.ADMINISTRATOR})
ACCESS = AccessTable(
    {"list_dead_letters": _OPERATORS, "read_dead_letter": _OPERATORS, "replay_dead_letter": _OPERATORS, "discard_dead_letter": _OPERATORS}
)


class DeadLetterOut(Answer):
    """A parked event. `cause`: unknown-type, invalid, failed (its handler raised `error`), follows (an earlier event of its aggregate is parked).

    `status`: parked, replayed, discarded, superseded (the listener was away for longer than events are kept, and read newer states in the source's lists).
    `decided_by`: the person or program (`sub` of its token), as the audit log's `actor`.
    """

    id: Id
    projection: str
    source: str
    epoch: int
    sequence: int
    event_id: str
    type: str
    subject: str
    cause: str
    error: str | None
    status: str
    attempts: int
    parked_at: Instant
    decided_at: Instant | None
    decided_by: str | None
    decision_reason: str | None


class DeadLettersOut(Answer):
    items: list[DeadLetterOut]
    next: str | None


class ReplayedOut(Answer):
    """The parked events of the aggregate that took effect, in order."""

    replayed: list[Id]


class DiscardIn(Body):
    reason: Annotated[str, line(500, minimum=5)]


class DiscardedOut(Answer):
    discarded: Id


def _projector(runtime: Runtime) -> Projector:
    if runtime.consumer is None:
        raise NotFound
    return runtime.consumer.projector


def _out(letter: parking.DeadLetter) -> DeadLetterOut:
    return DeadLetterOut(**{name: getattr(letter, name) for name in DeadLetterOut.model_fields})


@router.get("/v1/dead-letters", operation_id="list_dead_letters", response_model=DeadLettersOut)
async def list_dead_letters(
    caller: Caller,
    database: Db,
    page: Page,
    response: Response,
    status: Annotated[Literal["parked", "replayed", "discarded", "superseded"] | None, Query()] = None,
) -> DeadLettersOut:
    """Events that could not be handled, oldest first."""
    async with database.transaction() as session:
        letters = await parking.page(session, status=status, after=page.after[0] if page.after else None, limit=page.limit + 1)
    shown, following = page_of(letters, page, lambda letter: (letter.id,))
    page.link(response, following)
    return DeadLettersOut(items=[_out(letter) for letter in shown], next=following)


@router.get("/v1/dead-letters/{letter_id}", operation_id="read_dead_letter", response_model=DeadLetterOut, responses=problems(404))
async def read_dead_letter(letter_id: Id, caller: Caller, database: Db) -> DeadLetterOut:
    async with database.transaction() as session:
        return _out(await parking.read(session, letter_id))


@router.post(
    "/v1/dead-letters/{letter_id}/replay", operation_id="replay_dead_letter", response_model=ReplayedOut, responses=problems(404, 409)
)
async def replay_dead_letter(letter_id: Id, caller: Caller, runtime: Run, once: Once) -> Response:
    """Try the parked events of this event's aggregate again, in order, from the first on."""

    async def replay(session: AsyncSession) -> ReplayedOut:
        return ReplayedOut(replayed=await dead_letters.replay(session, _projector(runtime), letter_id, caller.subject))

    return await once(replay, status=200)


@router.post(
    "/v1/dead-letters/{letter_id}/discard", operation_id="discard_dead_letter", response_model=DiscardedOut, responses=problems(404, 409)
)
async def discard_dead_letter(letter_id: Id, body: DiscardIn, caller: Caller, runtime: Run, once: Once) -> Response:
    """Give one event up for good, with the reason."""

    async def discard(session: AsyncSession) -> DiscardedOut:
        await dead_letters.discard(session, _projector(runtime), letter_id, caller.subject, body.reason)
        return DiscardedOut(discarded=letter_id)

    return await once(discard, status=200)
