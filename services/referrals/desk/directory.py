"""Posts and partner services out of the local copy of the directory: as they were heard, under their names."""

from typing import Any, Final, NamedTuple
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from libs.contracts.units import plain_label
from libs.contracts.vocabularies import AgeBand, Need, PartnerKind, RoutingReason, Sex, Theme
from services.referrals.directory.called import reference_of
from services.referrals.models import Referral
from services.referrals.orientations.domain import Mismatch, Offer, mismatches
from services.referrals.receiving.domain import Verdict
from services.referrals.receiving.routing import atlas

MOST: Final = 50
"""Services shown at once: a longer list is not read, it is narrowed."""

_POSTS = text(
    "SELECT p.id, n.name, p.full_time_percent,"
    " (SELECT count(*) FROM (SELECT FROM referrals r WHERE r.post_id = p.id AND r.status IN ('assigned', 'accepted') LIMIT 500) AS open) AS open"
    " FROM posts_heard p LEFT JOIN directory_names n ON n.kind = 'posts' AND n.key = p.id::text"
    " WHERE p.departement = :departement AND p.state = 'filled' ORDER BY open, p.id LIMIT 200"
)
_SERVICES = text(
    "SELECT s.id, s.kind, s.departement, s.needs, s.communes, s.capacity, s.sexes, s.age_bands, n.name, n.organization FROM services_heard s"
    " LEFT JOIN directory_names n ON n.kind = 'services' AND n.key = s.id::text WHERE NOT s.closed AND s.departement = :departement"
    " AND (:need = '' OR :need = ANY(s.needs)) AND (:kind = '' OR s.kind = :kind) AND (:theme = '' OR :theme = ANY(n.themes))"
    " AND (CAST(:words AS text[]) = '{}' OR n.folded LIKE ALL(CAST(:words AS text[]))) AND (NOT :nearby OR s.communes = '{}' OR :commune = ANY(s.communes))"
    " ORDER BY (s.communes <> '{}' AND NOT :commune = ANY(s.communes)), coalesce(s.capacity, 1) = 0, n.name, s.kind, s.id LIMIT :limit"
)


class PostChoice(NamedTuple):
    id: UUID
    name: str
    full_time_percent: int
    misfit: Verdict | None
    """What speaks against it."""
    open: int


class Sought(NamedTuple):
    """What a service is searched by; nothing given: every open one of the département. `name`: words of its name or of its organisation's."""

    departement: str
    need: Need | None = None
    kind: PartnerKind | None = None
    theme: Theme | None = None
    name: str = ""
    nearby: bool = False
    """Those that cover the referral's commune only."""


class ServiceChoice(NamedTuple):
    id: UUID
    name: str
    organization: str
    kind: PartnerKind
    departement: str
    needs: list[Need]
    communes: list[str]
    capacity: int | None
    sexes: list[Sex]
    age_bands: list[AgeBand]
    """Whom it takes, as `sexes`; empty: anybody."""
    mismatches: list[Mismatch]


async def posts(session: AsyncSession, referral_id: UUID) -> list[PostChoice]:
    """The filled posts of the referral's département: those that fit it first, the least busy first. The caller may see the referral."""
    referral = await session.get_one(Referral, referral_id)
    found = await atlas(session, [(referral.unit_id, referral.commune)])
    rows = await session.execute(_POSTS, {"departement": referral.departement})
    made = [
        PostChoice(
            row.id,
            row.name or reference_of(row.id, "Poste"),
            row.full_time_percent,
            found.by_hand(referral, row.id, RoutingReason.MANUAL).misfit,
            row.open,
        )
        for row in rows
    ]
    return sorted(made, key=lambda one: one.misfit is not None)


async def services(session: AsyncSession, sought: Sought, commune: str | None) -> list[ServiceChoice]:
    """The open services that answer, at most one more than `MOST`: those that cover the commune and have room first."""
    asked: dict[str, Any] = {
        "departement": sought.departement,
        "commune": commune or "",
        "need": sought.need or "",
        "kind": sought.kind or "",
        "theme": sought.theme or "",
        "words": [f"%{word}%" for word in plain_label(sought.name).split()],
        "nearby": sought.nearby,
        "limit": MOST + 1,
    }
    found = []
    for row in await session.execute(_SERVICES, asked):
        needs = [Need(one) for one in row.needs]
        offer = Offer(row.departement, frozenset(needs), frozenset(row.communes), row.capacity, PartnerKind(row.kind))
        doubts = mismatches(offer, sought.need, commune) if sought.need is not None else []
        name, organization = row.name or reference_of(row.id, "Service"), row.organization or ""
        found.append(
            ServiceChoice(
                row.id,
                name,
                organization,
                PartnerKind(row.kind),
                row.departement,
                needs,
                row.communes,
                row.capacity,
                [one for one in Sex if one in row.sexes],
                [one for one in AgeBand if one in row.age_bands],
                doubts,
            )
        )
    return found
