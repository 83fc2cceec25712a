"""Posts and partner services out of the local copy of the directory: ids, codes and places, as they were heard."""

from typing import Any, Final, NamedTuple
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from libs.contracts.vocabularies import Need, PartnerKind
from services.referrals.domain import Mismatch, Offer, mismatches

MOST: Final = 50
"""Services shown at once: a longer list is not read, it is narrowed."""

_POSTS = text(
    "SELECT p.id, p.full_time_percent, :commune = ANY(p.communes) AS covers, (SELECT count(*) FROM (SELECT FROM referrals r"
    " WHERE r.post_id = p.id AND r.status IN ('assigned', 'accepted') LIMIT 500) AS open) AS open FROM posts_heard p"
    " WHERE p.departement = :departement AND p.state = 'filled' ORDER BY covers DESC, open, p.id LIMIT 100"
)
_SERVICES = text(
    "SELECT id, kind, departement, needs, communes, capacity FROM services_heard WHERE NOT closed AND departement = :departement"
    " AND (:need = '' OR :need = ANY(needs)) AND (:kind = '' OR kind = :kind)"
    " ORDER BY (communes <> '{}' AND NOT :commune = ANY(communes)), coalesce(capacity, 1) = 0, kind, id LIMIT :limit"
)


class PostChoice(NamedTuple):
    id: UUID
    full_time_percent: int
    covers: bool
    open: int


class ServiceChoice(NamedTuple):
    id: UUID
    kind: PartnerKind
    departement: str
    needs: list[Need]
    communes: list[str]
    capacity: int | None
    mismatches: list[Mismatch]


async def posts(session: AsyncSession, departement: str, commune: str) -> list[PostChoice]:
    """The filled posts of a département: those that cover the commune first, the least busy first."""
    rows = await session.execute(_POSTS, {"departement": departement, "commune": commune})
    return [PostChoice(row.id, row.full_time_percent, row.covers, row.open) for row in rows]


async def services(
    session: AsyncSession, departement: str, commune: str, need: Need | None, kind: PartnerKind | None
) -> list[ServiceChoice]:
    """The open services of a département, at most one more than `MOST`: those that cover the commune and have room first."""
    asked: dict[str, Any] = {"departement": departement, "commune": commune, "need": need or "", "kind": kind or "", "limit": MOST + 1}
    found = []
    for row in await session.execute(_SERVICES, asked):
        needs = [Need(one) for one in row.needs]
        offer = Offer(row.departement, frozenset(needs), frozenset(row.communes), row.capacity)
        doubts = mismatches(offer, need, commune) if need is not None else []
        found.append(ServiceChoice(row.id, PartnerKind(row.kind), row.departement, needs, row.communes, row.capacity, doubts))
    return found
