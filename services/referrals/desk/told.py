"""Codes of a timeline in the words of the field."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final, NamedTuple
from uuid import UUID

from libs.chassis.security import Principal
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
    Role,
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
    id: UUID
    """Of what was done."""
    by: str
    """Who did it; empty where nobody tells, or `what` does."""


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


_AT_ITS_POST: Final = frozenset({Step.CONTACT, Step.INTERVIEW, Step.ASSESSMENT, Step.ORIENTATION_REQUESTED})
"""Done by somebody of the post that they tell; the rest by somebody of the post that the referral had until then."""


def told_lines(entries: Sequence[TimelineEntry], reader: Principal) -> list[Line]:
    lines: list[Line] = []
    post_id: UUID | None = None
    for entry in entries:
        lines.append(_told_line(entry, _by(entry, entry.post_id if entry.step in _AT_ITS_POST else post_id, reader)))
        if entry.step in (Step.RECEIVED, Step.MOVED):
            post_id = entry.post_id
    return lines


def _by(entry: TimelineEntry, post_id: UUID | None, reader: Principal) -> str:
    """No name of a professional is held here."""
    if entry.actor == reader.subject:
        return "vous"
    match entry.actor_role:
        case Role.ISCG:
            return "un collègue du poste" if post_id in reader.ids("post") else "un intervenant social"
        case Role.COORDINATOR:
            return "la coordination"
        case Role.PARTNER:
            return "le partenaire"
        case _:
            return ""


def _told_line(entry: TimelineEntry, by: str) -> Line:
    code, reason = label_of(entry.code, _CODES.get(entry.step, ())), label_of(entry.reason, _REASONS.get(entry.step, ()))
    what = DONE[Move(entry.code)] if entry.step is Step.MOVED and entry.code else entry.step.label
    said = [reason] if entry.step is Step.MOVED else [code, reason]
    came = entry.post_id if entry.step is Step.RECEIVED or entry.code in _GIVEN else None
    told = ", ".join(one for one in said if one)
    return Line(entry.at, what, told, entry.person_ids, came, entry.duplicate_of, entry.id, "" if by in what else by)
