"""What the partners service makes of what it hears: how services answer orientations, and how the plans of posts stand.

Both are kept as rows at their place in the source's stream, so that a restored source is forgotten after a number, to the row.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from libs.chassis.listener import Handler, Heard, Listener, ReadList, Source
from libs.contracts import funding, referrals
from libs.contracts.envelope import Event
from libs.contracts.funding import PlanBalanced, PlanGapped
from libs.contracts.referrals import OrientationAccepted, OrientationExpired, OrientationRejected

_ANSWER = text(
    "INSERT INTO orientation_answers (source, sequence, service_id, answer, delay_minutes, answered_at)"
    " VALUES (:source, :sequence, :service_id, :answer, :delay_minutes, :answered_at) ON CONFLICT DO NOTHING"
)
_PLAN = text(
    "INSERT INTO plans_heard (source, plan_id, sequence, post_id, year, balanced, budget_cents, funded_cents, changed_at)"
    " VALUES (:source, :plan_id, :sequence, :post_id, :year, :balanced, :budget_cents, :funded_cents, :changed_at) ON CONFLICT DO NOTHING"
)


async def _answered(session: AsyncSession, heard: Heard[Any], answer: str, delay_minutes: int | None, answered_at: datetime) -> None:
    await session.execute(
        _ANSWER,
        {
            "source": heard.source,
            "sequence": heard.sequence,
            "service_id": heard.event.service_id,
            "answer": answer,
            "delay_minutes": delay_minutes,
            "answered_at": answered_at,
        },
    )


async def on_orientation_accepted(session: AsyncSession, heard: Heard[OrientationAccepted]) -> None:
    await _answered(session, heard, "accepted", heard.event.delay_minutes, heard.event.accepted_at)


async def on_orientation_rejected(session: AsyncSession, heard: Heard[OrientationRejected]) -> None:
    await _answered(session, heard, "rejected", heard.event.delay_minutes, heard.event.rejected_at)


async def on_orientation_expired(session: AsyncSession, heard: Heard[OrientationExpired]) -> None:
    await _answered(session, heard, "expired", None, heard.event.expired_at)


async def on_plan(session: AsyncSession, heard: Heard[PlanBalanced] | Heard[PlanGapped]) -> None:
    """The whole state of a post's plan for one year."""
    event = heard.event
    await session.execute(
        _PLAN,
        {
            "source": heard.source,
            "plan_id": event.plan_id,
            "sequence": heard.sequence,
            "post_id": event.post_id,
            "year": event.year,
            "balanced": isinstance(event, PlanBalanced),
            "budget_cents": event.budget_cents,
            "funded_cents": event.funded_cents,
            "changed_at": event.changed_at,
        },
    )


async def on_rewind(session: AsyncSession, source: str, after_sequence: int) -> None:
    """The source took back what it said after that number."""
    for table in ("orientation_answers", "plans_heard"):
        await session.execute(
            text(f"DELETE FROM {table} WHERE source = :source AND sequence > :after"),  # noqa: S608 - one of two constants
            {"source": source, "after": after_sequence},
        )


async def bootstrap(session: AsyncSession, source: str, read: ReadList) -> bool:
    """The feed no longer reaches back. Plans are read in funding's list.

    Answers to orientations that the feed has forgotten stay unknown (they are figures of how a service answers, not facts about it): the
    list of referrals is opened for its stream position only, and what is parked of them may be replayed.
    """
    if source == "referrals":
        async for _ in read("/v1/referrals?limit=1"):
            break
        return False
    await session.execute(text("DELETE FROM plans_heard WHERE source = :source"), {"source": source})
    async for plan in read("/v1/plans?limit=200"):
        await session.execute(
            _PLAN,
            {
                "source": source,
                "plan_id": UUID(plan["id"]),
                "sequence": 0,
                "post_id": UUID(plan["post_id"]),
                "year": plan["year"],
                "balanced": plan["funded_cents"] >= plan["budget_cents"],
                "budget_cents": plan["budget_cents"],
                "funded_cents": plan["funded_cents"],
                "changed_at": datetime.fromisoformat(plan["changed_at"]),
            },
        )
    return True


_ORIENTATIONS: Mapping[type[Event], Handler] = {
    OrientationAccepted: on_orientation_accepted,
    OrientationRejected: on_orientation_rejected,
    OrientationExpired: on_orientation_expired,
}
_PLANS: Mapping[type[Event], Handler] = {PlanBalanced: on_plan, PlanGapped: on_plan}

LISTENER = Listener(
    projection="directory",
    sources=(
        Source("referrals", handles=_ORIENTATIONS, ignores=tuple(set(referrals.EVENTS) - set(_ORIENTATIONS))),
        Source("funding", handles=_PLANS, ignores=tuple(set(funding.EVENTS) - set(_PLANS))),
    ),
    rewind=on_rewind,
    bootstrap=bootstrap,
    keeps_log=True,
)
