"""What funding makes of what it hears: posts, and how many situations each one works.

Both are kept as rows at their number in the source's stream: a restored source is forgotten after a number, to the row. An erased referral keeps its row: it
says that a post worked one situation more, and names nobody.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from libs.chassis.listener import Handler, Heard, Listener, ReadList, Source
from libs.contracts import partners, referrals
from libs.contracts.envelope import Event
from libs.contracts.types import civil_day

_POST = text(
    "INSERT INTO posts_heard (source, post_id, sequence, departement, employer_id, closed)"
    " VALUES (:source, :post_id, :sequence, :departement, :employer_id, :closed) ON CONFLICT DO NOTHING"
)
_ACTIVITY = text(
    "INSERT INTO activity_heard (source, sequence, referral_id, post_id, what, year)"
    " VALUES (:source, :sequence, :referral_id, :post_id, :what, :year) ON CONFLICT DO NOTHING"
)


async def on_post(session: AsyncSession, heard: Heard[Any]) -> None:
    """Any fact of a post names its département and employer."""
    await session.execute(
        _POST,
        {
            "source": heard.source,
            "post_id": heard.event.post_id,
            "sequence": heard.sequence,
            "departement": heard.event.departement,
            "employer_id": heard.event.employer_id,
            "closed": isinstance(heard.event, partners.PostClosed),
        },
    )


async def _worked(session: AsyncSession, heard: Heard[Any], post_id: UUID, what: str, at: datetime) -> None:
    await session.execute(
        _ACTIVITY,
        {
            "source": heard.source,
            "sequence": heard.sequence,
            "referral_id": heard.event.referral_id,
            "post_id": post_id,
            "what": what,
            "year": civil_day(at).year,
        },
    )


async def on_assigned(session: AsyncSession, heard: Heard[referrals.ReferralAssigned]) -> None:
    await _worked(session, heard, heard.event.post_id, "assigned", heard.event.assigned_at)


async def on_closed(session: AsyncSession, heard: Heard[referrals.ReferralClosed]) -> None:
    if heard.event.post_id is not None:
        await _worked(session, heard, heard.event.post_id, "closed", heard.event.closed_at)


async def on_rewind(session: AsyncSession, source: str, after_sequence: int) -> None:
    """The source took back what it said after that number."""
    for table in ("posts_heard", "activity_heard"):
        await session.execute(
            text(f"DELETE FROM {table} WHERE source = :source AND sequence > :after"),  # noqa: S608 - one of two constants
            {"source": source, "after": after_sequence},
        )


async def bootstrap(session: AsyncSession, source: str, read: ReadList) -> bool:
    """The feed no longer reaches back. Posts are read in partners' list.

    Assignments that the feed has forgotten stay unknown: the cost per situation of those weeks is too high by them. The list of referrals is opened for
    its stream position only, and what is parked of them may be replayed.
    """
    if source == "referrals":
        async for _ in read("/v1/referrals?limit=1"):
            break
        return False
    await session.execute(text("DELETE FROM posts_heard WHERE source = :source"), {"source": source})
    async for post in read("/v1/posts?limit=200&closed=true"):
        await session.execute(
            _POST,
            {
                "source": source,
                "post_id": UUID(post["id"]),
                "sequence": 0,
                "departement": post["departement"],
                "employer_id": UUID(post["employer_id"]),
                "closed": post["closed_at"] is not None,
            },
        )
    return True


_POSTS: Mapping[type[Event], Handler] = {
    partners.PostOpened: on_post,
    partners.PostFilled: on_post,
    partners.PostVacant: on_post,
    partners.PostSuspended: on_post,
    partners.PostClosed: on_post,
}
_ACTIVITIES: Mapping[type[Event], Handler] = {referrals.ReferralAssigned: on_assigned, referrals.ReferralClosed: on_closed}

LISTENER = Listener(
    projection="posts",
    sources=(
        Source("partners", handles=_POSTS, ignores=tuple(set(partners.EVENTS) - set(_POSTS))),
        Source("referrals", handles=_ACTIVITIES, ignores=tuple(set(referrals.EVENTS) - set(_ACTIVITIES))),
    ),
    rewind=on_rewind,
    bootstrap=bootstrap,
    keeps_log=True,
)
