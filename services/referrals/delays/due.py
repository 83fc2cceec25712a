"""Until when the first contact of a referral is to be attempted.

`due_at` = `due_from` + the minutes for its urgency in the agreement of its post that is in force at that moment, else the network's; where danger was
flagged those of immediate urgency, as for notices and orientations. `due_from` is the
reception, or its last reopening: nobody was to call meanwhile, and who comes back is called again (a call since the closing is that call already);
or the joining of who is to be called where nobody was any more.

It is settled anew when the referral is received, gets a post (routed, assigned, transferred), changes its urgency or danger, or is reopened, and when an
agreement is signed for its post; and when its only contact was noted by mistake and is withdrawn, as if it had never been noted. A calendar that
moves on, an agreement that ends and a post that gives the referral back move nothing: the delay was promised. It ends with the first contact with somebody
whom the referral is there to help (working/helping.py), and does not run while each of them refuses (`Referral.awaits_contact`, kept by calls.py).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from libs.chassis.runtime import Runtime
from libs.contracts.vocabularies import Urgency
from services.referrals.domain import Move
from services.referrals.models import Referral
from services.referrals.settings import Settings
from services.referrals.working.models import Moved

IN_FORCE = "AND current_date BETWEEN a.starts_on AND a.ends_on ORDER BY a.starts_on DESC, a.id LIMIT 1"
"""The agreement `a` of a post: of several in force the youngest."""

_TARGETS = text(f"SELECT a.targets FROM agreements_heard a WHERE CAST(:post AS uuid) = ANY(a.post_ids) {IN_FORCE}")  # noqa: S608 - our own words

_BY_AGREEMENT = text(
    "WITH moving AS ("  # noqa: S608 - our own words
    "SELECT r.id, r.due_from + make_interval(mins => CAST(agreed.targets ->> asked.urgency AS integer)) AS due_at"
    " FROM unnest(CAST(:posts AS uuid[])) AS post (id)"
    f" JOIN LATERAL (SELECT a.targets FROM agreements_heard a WHERE post.id = ANY(a.post_ids) {IN_FORCE}) agreed ON true"
    " JOIN referrals r ON r.post_id = post.id AND r.status IN ('assigned', 'accepted') AND r.awaits_contact"
    " CROSS JOIN LATERAL (SELECT CASE WHEN r.danger THEN 'immediate' ELSE r.urgency END AS urgency) asked"
    " WHERE agreed.targets ->> asked.urgency IS NOT NULL ORDER BY r.id FOR UPDATE OF r)"
    " UPDATE referrals SET due_at = moving.due_at, overdue_said = false FROM moving"
    " WHERE referrals.id = moving.id AND referrals.due_at <> moving.due_at"
)


@dataclass(frozen=True, slots=True)
class Delays:
    """`network`: the network's own target delays, in minutes by urgency; `answers`: how long a partner's answer is waited for."""

    network: Mapping[str, int]
    answers: Mapping[str, timedelta]

    @classmethod
    def of(cls, runtime: Runtime) -> "Delays":
        if not isinstance(runtime.settings, Settings):
            raise TypeError("the settings of another service")
        return cls(runtime.settings.targets(), runtime.settings.answer_times())

    def minutes(self, urgency: str, agreed: Mapping[str, int] | None, *, danger: bool) -> int:
        asked = Urgency.IMMEDIATE if danger else urgency
        return (agreed or {}).get(asked, self.network[asked])

    async def settle(self, session: AsyncSession, referral: Referral) -> None:
        """Of a referral that the caller has locked and changed."""
        agreed = await session.scalar(_TARGETS, {"post": referral.post_id}) if referral.post_id is not None else None
        due_at = referral.due_from + timedelta(minutes=self.minutes(referral.urgency, agreed, danger=referral.danger))
        if due_at != referral.due_at:
            referral.due_at, referral.overdue_said = due_at, False


async def closed_before(session: AsyncSession, referral_id: UUID) -> datetime | None:
    """When a referral that was reopened had been closed: who comes back calls before it is reopened."""
    moves = select(func.max(col(Moved.at))).where(col(Moved.referral_id) == referral_id)
    reopened = moves.where(col(Moved.move).in_((Move.REOPEN, Move.REOPEN_UNROUTED))).scalar_subquery()
    closing = moves.where(col(Moved.move).in_((Move.CLOSE, Move.CLOSE_UNROUTED)), col(Moved.at) <= reopened)
    found: datetime | None = await session.scalar(closing)
    return found


async def settle_by_agreement(session: AsyncSession, posts: list[UUID]) -> None:
    """An agreement was signed for these posts: its targets hold for what they have and nobody was called for."""
    await session.execute(_BY_AGREEMENT, {"posts": posts})
