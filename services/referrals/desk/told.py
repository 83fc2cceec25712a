"""Codes of a timeline in the words of the field."""

from collections.abc import Mapping
from datetime import datetime
from typing import Final, NamedTuple
from uuid import UUID

from libs.contracts.types import Code, label_of
from libs.contracts.vocabularies import (
    AlertKind,
    Channel,
    CloseReason,
    ContactMode,
    ContactResult,
    InterviewPlace,
    Need,
    OrientationCancellation,
    OrientationFailure,
    OrientationOutcome,
    OrientationRejection,
    Urgency,
)
from services.referrals.domain import Move
from services.referrals.justice.schemas import Mistake
from services.referrals.rights.erasure import ErasureCause
from services.referrals.working.domain import CorrectedTo, CorrectionReason, DeclineReason, Misnoted
from services.referrals.working.followup_schemas import Step, TimelineEntry


class Line(NamedTuple):
    at: datetime
    what: str
    detail: str
    person_ids: list[UUID]
    post_id: UUID | None
    """To which post it came."""
    duplicate_of: UUID | None
    """The referral that it repeats."""


_CODES: Final[Mapping[Step, tuple[type[Code], ...]]] = {
    Step.RECEIVED: (Channel,),
    Step.CONTACT: (ContactMode,),
    Step.CONTACT_WITHDRAWN: (ContactMode,),
    Step.INTERVIEW: (InterviewPlace,),
    Step.INTERVIEW_WITHDRAWN: (InterviewPlace,),
    Step.ALERT: (AlertKind,),
    Step.ALERT_WITHDRAWN: (AlertKind,),
    **dict.fromkeys((step for step in Step if step.startswith("orientation_")), (Need,)),
    Step.CORRECTION: (CorrectedTo,),
    Step.OVERDUE: (Urgency,),
}
_REASONS: Final[Mapping[Step, tuple[type[Code], ...]]] = {
    Step.MOVED: (CloseReason, DeclineReason, ErasureCause),
    Step.CONTACT: (ContactResult,),
    Step.CONTACT_WITHDRAWN: (Misnoted,),
    Step.INTERVIEW_WITHDRAWN: (Misnoted,),
    Step.ASSESSMENT_WITHDRAWN: (Misnoted,),
    Step.CORRECTION: (CorrectionReason,),
    Step.PERSON_JOINED: (CorrectionReason,),
    Step.ALERT_WITHDRAWN: (Mistake,),
    Step.ORIENTATION_REJECTED: (OrientationRejection,),
    Step.ORIENTATION_COMPLETED: (OrientationOutcome,),
    Step.ORIENTATION_FAILED: (OrientationFailure,),
    Step.ORIENTATION_CANCELLED: (OrientationCancellation,),
}
"""Which vocabularies the code and the reason of a step come from; the first that knows it says it."""


DONE: Final[Mapping[Move, str]] = {
    Move.ROUTE: "Affectée selon la couverture",
    Move.UNROUTE: "Aucun poste ne convient",
    Move.ASSIGN: "Affectée par la coordination",
    Move.ACCEPT: "Acceptée",
    Move.DECLINE: "Déclinée",
    Move.TRANSFER: "Transférée à un autre poste",
    Move.CLOSE: "Close",
    Move.CLOSE_UNROUTED: "Close sans poste",
    Move.REOPEN: "Rouverte",
    Move.REOPEN_UNROUTED: "Rouverte sans poste",
    Move.ERASE: "Effacée",
}
"""What was done, of the moves from one state or post to another."""


_GIVEN: Final = frozenset({Move.ROUTE, Move.ASSIGN, Move.TRANSFER})


def told_line(entry: TimelineEntry) -> Line:
    code, reason = label_of(entry.code, _CODES.get(entry.step, ())), label_of(entry.reason, _REASONS.get(entry.step, ()))
    what = DONE[Move(entry.code)] if entry.step is Step.MOVED and entry.code else entry.step.label
    said = [reason] if entry.step is Step.MOVED else [code, reason]
    came = entry.post_id if entry.step is Step.RECEIVED or entry.code in _GIVEN else None
    return Line(entry.at, what, ", ".join(one for one in said if one), entry.person_ids, came, entry.duplicate_of)
