"""`/v1/dead-letters`: what could not be handled, for the operator: look, replay, discard with a reason."""

from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, Query, Response

from libs.chassis import dead_letters, parking
from libs.chassis.access import AccessTable, Rule
from libs.chassis.consumer import Projector
from libs.chassis.idempotency import Once
from libs.chassis.pagination import Page, page_of
from libs.chassis.problems import problems
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
    """A parked event. `cause`: unknown-type, invalid, failed (its handler raised `error`), follows (an earlier event of its aggregate is parked)."""

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
