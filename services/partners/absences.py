"""Absences of posts: until a day, with a post that stands in. The network hears it, and routes meanwhile to who stands in; none commits."""

from datetime import UTC, datetime
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from libs.chassis import outbox
from libs.chassis.security import Principal
from libs.contracts.types import civil_day
from services.partners import queries
from services.partners.domain import FORCES_SERVED, POST_STATES, AbsenceOver, Move, NoReplacement, PostState, moved
from services.partners.models import Post
from services.partners.posts import post_event
from services.partners.rows import check_perimeter, locked, touch
from services.partners.schemas import PostOut, SuspendIn


async def suspend(session: AsyncSession, caller: Principal, post_id: UUID, body: SuspendIn) -> PostOut:
    """Raises NotFound, MoveRefused, AbsenceOver, NoReplacement."""
    now = datetime.now(UTC)
    post = await locked(session, Post, post_id)
    check_perimeter(caller, post.departement)
    state = moved(POST_STATES[post.state], Move.SUSPEND)
    if body.until_on is not None and body.until_on < civil_day(now):
        raise AbsenceOver
    if body.replacement_post_id is not None:
        await _check_replacement(session, post, body.replacement_post_id)
    if post.state != PostState.SUSPENDED:
        post.suspended_from = post.state
    post.state, post.until_on, post.replacement_post_id = state, body.until_on, body.replacement_post_id
    touch(post, now)
    await outbox.append(session, post_event(post, state, now))
    return await queries.post_out(session, post)


async def _check_replacement(session: AsyncSession, post: Post, replacement_id: UUID) -> None:
    """Held as it is until the end of the transaction. It may be suspended itself later: then who stands in for it takes over."""
    if replacement_id == post.id:
        raise NoReplacement("Un poste ne se remplace pas lui-même.")
    found = await session.scalar(select(Post).where(col(Post.id) == replacement_id).with_for_update(read=True))
    if found is None or found.departement != post.departement or found.state != PostState.FILLED:
        raise NoReplacement("Aucun poste pourvu de ce département ne porte cet identifiant.")
    if not FORCES_SERVED[post.force] <= FORCES_SERVED[found.force]:
        raise NoReplacement("Ce poste ne sert pas la force que sert le poste absent.")


async def end_due(session: AsyncSession, now: datetime, limit: int) -> int:
    """Posts whose absence has ended are again what they were before. Returns how many; two replicas never take the same one."""
    due = select(Post).where(col(Post.until_on) < civil_day(now)).order_by(col(Post.until_on), col(Post.id)).limit(limit)
    posts = (await session.scalars(due.with_for_update(skip_locked=True))).all()
    for post in posts:
        state = moved(POST_STATES[post.state], Move.VACATE if post.suspended_from == PostState.VACANT else Move.FILL)
        post.state = state
        post.suspended_from = post.until_on = post.replacement_post_id = None
        touch(post, now)
        await outbox.append(session, post_event(post, state, now))
    return len(posts)
