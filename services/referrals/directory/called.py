"""Names for one page: read at once, by id; what has none yet is called by the end of its id, or by its code."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from libs.chassis.security import Principal
from libs.contracts.vocabularies import Role
from services.referrals.directory.names import COMMUNES, POSTS, SERVICES, UNITS

_NAMES = text(
    "SELECT kind, key, name, organization,"
    " CASE WHEN kind = 'services' THEN EXISTS (SELECT FROM services_heard s WHERE s.id = CAST(key AS uuid) AND s.closed) ELSE false END AS closed"
    " FROM directory_names WHERE (kind, key) IN"
    " (SELECT * FROM unnest(CAST(:kinds AS text[]), CAST(:keys AS text[])))"
)


@dataclass(frozen=True, slots=True)
class Called:
    """How ids are called."""

    names: Mapping[tuple[str, str], tuple[str, str | None]]
    closed: Collection[str] = ()
    """The services that have closed."""

    def post(self, id: UUID) -> str:
        return self._of(POSTS, id, "Poste")

    def unit(self, id: UUID) -> str:
        return self._of(UNITS, id, "Unité")

    def service(self, id: UUID) -> str:
        return self._of(SERVICES, id, "Service") + (" (fermé)" if str(id) in self.closed else "")

    def organization(self, service_id: UUID) -> str:
        """Whose service it is, "" while that is not known."""
        return self.names.get((SERVICES, str(service_id)), ("", None))[1] or ""

    def of_service(self, id: UUID) -> dict[str, str | None]:
        """Its name and whose it is, as answers tell them: none while the directory's list was not read."""
        name, organization = self.names.get((SERVICES, str(id)), (None, None))
        return {"service_name": name, "organization_name": organization}

    def commune(self, code: str) -> str:
        """`Cergy (95127)`."""
        found = self.names.get((COMMUNES, code))
        return code if found is None else f"{found[0]} ({code})"

    def _of(self, kind: str, id: UUID, noun: str) -> str:
        found = self.names.get((kind, str(id)))
        return reference_of(id, noun) if found is None else found[0]


def reference_of(id: UUID, noun: str) -> str:
    """Enough of an id to tell two apart."""
    return f"{noun} …{str(id)[-8:]}"


_COMMUNES = text(
    "SELECT key, name FROM directory_names WHERE kind = 'communes' AND departement IN (SELECT unnest(CAST(:departements AS text[]))"
    " UNION SELECT departement FROM posts_heard WHERE id = ANY(CAST(:posts AS uuid[]))) ORDER BY folded"
)


async def communes_of(session: AsyncSession, caller: Principal) -> list[tuple[str, str]]:
    """Code and name of each commune of the départements of the caller's perimeter, by name; of the whole nation none."""
    asked = {"departements": sorted(caller.departements() or ()), "posts": sorted(caller.ids("post"))}
    return [(row.key, row.name) for row in await session.execute(_COMMUNES, asked)]


_POSTS = text(
    "SELECT p.id, n.name FROM posts_heard p LEFT JOIN directory_names n ON n.kind = 'posts' AND n.key = p.id::text"
    " WHERE p.departement = ANY(CAST(:departements AS text[])) OR p.id = ANY(CAST(:posts AS uuid[])) ORDER BY n.folded NULLS LAST, p.id"
)


async def posts_of(session: AsyncSession, caller: Principal) -> list[tuple[str, str]]:
    """Id and name of each post of the caller's perimeter, closed ones too, by name; of the whole nation none. A social worker's are their own."""
    departements = caller.departements() if caller.role is Role.COORDINATOR else None
    asked = {"departements": sorted(departements or ()), "posts": sorted(caller.ids("post"))}
    return [(str(row.id), row.name or reference_of(row.id, "Poste")) for row in await session.execute(_POSTS, asked)]


_ORGANIZATIONS = text(
    "SELECT DISTINCT ON (s.organization_id) s.organization_id AS id, n.organization AS name FROM services_heard s"
    " JOIN directory_names n ON n.kind = 'services' AND n.key = s.id::text"
    " WHERE s.organization_id = ANY(CAST(:ids AS uuid[])) AND n.organization IS NOT NULL ORDER BY s.organization_id, s.closed, s.id"
)


async def organizations_called(session: AsyncSession, ids: Collection[UUID]) -> dict[UUID, str]:
    """By the name that goes with a service of theirs, else by the end of the id."""
    rows = await session.execute(_ORGANIZATIONS, {"ids": sorted(ids)}) if ids else ()
    return {id: reference_of(id, "Structure") for id in ids} | {row.id: row.name for row in rows}


async def called(
    session: AsyncSession,
    *,
    services: Iterable[UUID] = (),
    posts: Iterable[UUID | None] = (),
    units: Iterable[UUID | None] = (),
    communes: Iterable[str] = (),
) -> Called:
    """One statement, whatever is asked."""
    asked = sorted(
        {(SERVICES, str(one)) for one in services}
        | {(POSTS, str(one)) for one in posts if one is not None}
        | {(UNITS, str(one)) for one in units if one is not None}
        | {(COMMUNES, one) for one in communes}
    )
    if not asked:
        return Called({})
    rows = (await session.execute(_NAMES, {"kinds": [one for one, _ in asked], "keys": [one for _, one in asked]})).all()
    return Called({(row.kind, row.key): (row.name, row.organization) for row in rows}, {row.key for row in rows if row.closed})
