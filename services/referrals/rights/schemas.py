"""What requests and answers about the rights of persons hold."""

from typing import Annotated

from pydantic import AfterValidator, Field

from libs.chassis.strict import Answer, Body
from libs.contracts.types import DepartementCode, Id, Instant
from services.referrals.rights.erasure import ErasureCause
from services.referrals.schemas import MAX_PERSONS, unique


class ErasureIn(Body):
    """`narrative`: destroy it now too; it goes in any case with the last person."""

    person_ids: Annotated[list[Id], Field(min_length=1, max_length=MAX_PERSONS), AfterValidator(unique)]
    narrative: bool = False


class NoticeOut(Answer):
    """`sequence`: the number in that stream. `waiting_for`: the clients (or the organization) that have not acted on it yet."""

    stream: str
    sequence: int | None
    acknowledged_at: Instant | None
    waiting_for: list[str]


class ErasureOut(Answer):
    """`completed_at`: when everybody who was told had acted on it."""

    id: Id
    referral_id: Id
    departement: DepartementCode
    person_ids: list[Id]
    whole: bool
    cause: ErasureCause
    erased_at: Instant
    completed_at: Instant | None
    notices: list[NoticeOut]


class ErasureMadeOut(Answer):
    id: Id
    referral_id: Id
    version: int


class ErasureList(Answer):
    items: list[ErasureOut]
    next: str | None
