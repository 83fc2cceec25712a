"""Posts: opened, covering, moved as the table of domain.py says. Each command locks what it changes, says what listeners need, and never commits.

A registration with an id of the caller's choice may be repeated: the same content answers the same again, other content is refused.
"""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import exists, func, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from libs.chassis import outbox
from libs.chassis.ids import new_id
from libs.chassis.refusals import Pointer
from libs.chassis.security import Principal
from libs.contracts.envelope import Event
from libs.contracts.partners import (
    CoverageChanged,
    PostClosed,
    PostFilled,
    PostOpened,
    PostSuspended,
    PostVacant,
)
from services.partners import queries
from services.partners.domain import (
    FORCES_SERVED,
    POST_STATES,
    CoverageEmpty,
    IdTaken,
    Move,
    PostState,
    Unknown,
    moved,
)
from services.partners.models import Post, Unit, UnitCommune
from services.partners.rows import (
    check_changeable,
    check_perimeter,
    insert_row,
    known_communes,
    locked,
    mark_closed,
    new_life,
    open_organization,
    touch,
    write,
)
from services.partners.schemas import (
    CoverageIn,
    PostIn,
    PostLabel,
    PostOut,
)


async def _coverage(
    session: AsyncSession, departement: str, force: str, units: Sequence[UUID], communes: Sequence[str]
) -> tuple[list[UUID], list[str]]:
    """The units and communes, sorted, each once. The units are held open until the end of the transaction.

    Raises CoverageEmpty, or Unknown for a unit that is closed, of a force the post does not serve, or not at work in its département.
    """
    if not units and not communes:
        raise CoverageEmpty
    at_work = exists().where(col(UnitCommune.unit_id) == col(Unit.id), func.starts_with(col(UnitCommune.commune), departement))
    rows = await session.execute(
        select(col(Unit.id), col(Unit.force), (col(Unit.departement) == departement) | at_work)
        .where(col(Unit.id).in_(set(units)), col(Unit.closed_at).is_(None))
        .order_by(col(Unit.id))
        .with_for_update(read=True, of=Unit)
    )
    known = {id: (unit_force, here) for id, unit_force, here in rows}
    wrong = list(_wrong_units(units, known, force))
    if wrong:
        raise Unknown(wrong)
    return sorted(known), await known_communes(session, communes)


def _wrong_units(units: Sequence[UUID], known: dict[UUID, tuple[str, bool]], force: str) -> Iterable[Pointer]:
    for place, id in enumerate(units):
        if id not in known:
            yield f"/units/{place}", "Aucune unité ouverte ne porte cet identifiant."
        elif known[id][0] not in FORCES_SERVED[force]:
            yield f"/units/{place}", "Cette unité n'est pas de la force que sert le poste."
        elif not known[id][1]:
            yield f"/units/{place}", "Cette unité n'intervient pas dans le département du poste."


async def open_post(session: AsyncSession, caller: Principal, body: PostIn) -> PostOut:
    """Raises NotFound (another département), Unknown, CoverageEmpty, IdTaken."""
    now = datetime.now(UTC)
    check_perimeter(caller, body.departement)
    await open_organization(session, body.employer_id, "/employer_id")
    units, communes = await _coverage(session, body.departement, body.force, body.units, body.communes)
    values = {
        "departement": body.departement,
        "employer_id": body.employer_id,
        "force": body.force,
        "label": body.label,
        "full_time_percent": body.full_time_percent,
        "channels": sorted(set(body.channels)),
        "units": units,
        "communes": communes,
        "state": moved(None, Move.OPEN_FILLED if body.filled else Move.OPEN),
        "opened_on": body.opened_on,
    }
    post_id = body.id or new_id()
    made = await insert_row(session, Post, {"id": post_id, **values, **new_life(now, "opened_at")})
    if made is None:
        there = await locked(session, Post, post_id)
        if any(getattr(there, name) != value for name, value in values.items()):
            raise IdTaken
        return await queries.post_out(session, there)
    await outbox.append(
        session,
        PostOpened(
            departement=made.departement,
            post_id=post_id,
            employer_id=made.employer_id,
            force=body.force,
            full_time_percent=made.full_time_percent,
            channels=tuple(sorted(set(body.channels))),
            units=tuple(units),
            communes=tuple(communes),
            filled=body.filled,
            opened_on=made.opened_on,
            opened_at=now,
        ),
    )
    return await queries.post_out(session, made)


async def rename_post(session: AsyncSession, caller: Principal, post_id: UUID, version: int, body: PostLabel) -> PostOut:
    """Raises NotFound, Closed, StaleVersion."""
    post = await locked(session, Post, post_id)
    check_perimeter(caller, post.departement)
    check_changeable(post, version)
    write(post, {"label": body.label}, datetime.now(UTC))
    return await queries.post_out(session, post)


async def change_coverage(session: AsyncSession, caller: Principal, post_id: UUID, version: int, body: CoverageIn) -> PostOut:
    """Raises NotFound, Closed, StaleVersion, CoverageEmpty, Unknown."""
    now = datetime.now(UTC)
    post = await locked(session, Post, post_id)
    check_perimeter(caller, post.departement)
    check_changeable(post, version)
    units, communes = await _coverage(session, post.departement, post.force, body.units, body.communes)
    if write(post, {"units": units, "communes": communes}, now):
        await outbox.append(
            session,
            CoverageChanged(
                departement=post.departement,
                post_id=post_id,
                employer_id=post.employer_id,
                units=tuple(units),
                communes=tuple(communes),
                changed_at=now,
            ),
        )
    return await queries.post_out(session, post)


def post_event(post: Post, state: PostState, now: datetime) -> Event:
    whose: dict[str, Any] = {"departement": post.departement, "post_id": post.id, "employer_id": post.employer_id}
    match state:
        case PostState.FILLED:
            return PostFilled(**whose, filled_at=now)
        case PostState.VACANT:
            return PostVacant(**whose, vacant_at=now)
        case PostState.SUSPENDED:
            return PostSuspended(**whose, suspended_at=now, until_on=post.until_on, replacement_post_id=post.replacement_post_id)
        case PostState.CLOSED:
            return PostClosed(**whose, closed_at=now)


async def move_post(session: AsyncSession, caller: Principal, post_id: UUID, move: Move) -> PostOut:
    """Fill, vacate or close (suspend: absences.py). Raises NotFound, MoveRefused."""
    now = datetime.now(UTC)
    post = await locked(session, Post, post_id)
    check_perimeter(caller, post.departement)
    state = moved(POST_STATES[post.state], move)
    post.state = state
    post.suspended_from = post.until_on = post.replacement_post_id = None
    if state is PostState.CLOSED:
        mark_closed(post, now)
    else:
        touch(post, now)
    await outbox.append(session, post_event(post, state, now))
    return await queries.post_out(session, post)
