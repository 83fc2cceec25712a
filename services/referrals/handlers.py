"""This service's own copies of units, posts, services and agreements, kept by what partners and funding say. Each fact carries the whole state."""

import json
from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from libs.chassis.listener import Handler, Heard, Listener, ReadList, Source
from libs.contracts import funding, partners
from libs.contracts.envelope import Event
from libs.contracts.funding import AgreementEnded, AgreementSigned
from libs.contracts.partners import (
    CapacityChanged,
    CoverageChanged,
    PostClosed,
    PostFilled,
    PostOpened,
    PostSuspended,
    PostVacant,
    ServiceChanged,
    ServiceClosed,
    ServiceRegistered,
    UnitChanged,
    UnitClosed,
    UnitRegistered,
)
from services.referrals import notices
from services.referrals.delays.due import settle_by_agreement
from services.referrals.directory import names
from services.referrals.orientations.telling import tell_closed
from services.referrals.receiving.routing import mark_due

_UNIT = text(
    "INSERT INTO units_heard (id, force, communes, closed) VALUES (:id, :force, :communes, :closed)"
    " ON CONFLICT (id) DO UPDATE SET force = excluded.force, communes = excluded.communes, closed = excluded.closed"
)
_POST = text(
    "INSERT INTO posts_heard (id, departement, employer_id, state, full_time_percent, channels, units, communes, until_on, replacement_post_id)"
    " VALUES (:id, :departement, :employer_id, :state, :full_time_percent, :channels, :units, :communes, :until_on, :replacement_post_id)"
    " ON CONFLICT (id) DO UPDATE SET departement = excluded.departement, employer_id = excluded.employer_id, state = excluded.state,"
    " full_time_percent = excluded.full_time_percent, channels = excluded.channels, units = excluded.units, communes = excluded.communes,"
    " until_on = excluded.until_on, replacement_post_id = excluded.replacement_post_id"
)
_SERVICE = text(
    "INSERT INTO services_heard (id, organization_id, departement, kind, needs, communes, sexes, age_bands, capacity, closed)"
    " VALUES (:id, :organization_id, :departement, :kind, :needs, :communes, :sexes, :age_bands, :capacity, false) ON CONFLICT (id) DO UPDATE SET"
    " organization_id = excluded.organization_id, departement = excluded.departement, kind = excluded.kind, needs = excluded.needs,"
    " communes = excluded.communes, sexes = excluded.sexes, age_bands = excluded.age_bands, capacity = excluded.capacity, closed = false"
)
_AGREEMENT = text(
    "INSERT INTO agreements_heard (id, post_ids, channels, targets, starts_on, ends_on)"
    " VALUES (:id, :post_ids, :channels, CAST(:targets AS jsonb), :starts_on, :ends_on)"
    " ON CONFLICT (id) DO UPDATE SET post_ids = excluded.post_ids, channels = excluded.channels, targets = excluded.targets,"
    " starts_on = excluded.starts_on, ends_on = excluded.ends_on"
)


async def on_unit(session: AsyncSession, heard: Heard[UnitRegistered] | Heard[UnitChanged]) -> None:
    event = heard.event
    await session.execute(_UNIT, {"id": event.unit_id, "force": event.force.value, "communes": list(event.communes), "closed": False})
    await mark_due(session, event.departement)
    await names.mark(session, names.UNITS, event.departement)


async def on_unit_closed(session: AsyncSession, heard: Heard[UnitClosed]) -> None:
    await session.execute(text("UPDATE units_heard SET closed = true WHERE id = :id"), {"id": heard.event.unit_id})


async def on_post_opened(session: AsyncSession, heard: Heard[PostOpened]) -> None:
    event = heard.event
    await session.execute(
        _POST,
        {
            "id": event.post_id,
            "departement": event.departement,
            "employer_id": event.employer_id,
            "state": "filled" if event.filled else "vacant",
            "full_time_percent": event.full_time_percent,
            "channels": [channel.value for channel in event.channels],
            "units": list(event.units),
            "communes": list(event.communes),
            "until_on": None,
            "replacement_post_id": None,
        },
    )
    await mark_due(session, event.departement)
    await names.mark(session, names.POSTS, event.departement)


async def _post_is(session: AsyncSession, post_id: UUID, state: str) -> None:
    await session.execute(
        text("UPDATE posts_heard SET state = :state, until_on = NULL, replacement_post_id = NULL WHERE id = :id"),
        {"id": post_id, "state": state},
    )


async def on_post_filled(session: AsyncSession, heard: Heard[PostFilled]) -> None:
    await _post_is(session, heard.event.post_id, "filled")
    await mark_due(session, heard.event.departement)


_LEFT = text(
    "SELECT departement, bool_or(urgency = 'immediate' OR danger) AS urgent FROM referrals"
    " WHERE post_id = :post AND status IN ('assigned', 'accepted') GROUP BY departement"
)


async def _nobody_works_at(session: AsyncSession, post_id: UUID, departement: str, since: datetime) -> None:
    """Its coordinator is told of the open referrals that it leaves; those not accepted are routed again (receiving/routing.py)."""
    await mark_due(session, departement)
    left = await session.execute(_LEFT, {"post": post_id})
    said = [notices.of_absent(post_id, row.departement, since, urgent=row.urgent) for row in left]
    await notices.notify(session, *said, now=datetime.now(UTC))


async def on_post_vacant(session: AsyncSession, heard: Heard[PostVacant]) -> None:
    event = heard.event
    await _post_is(session, event.post_id, "vacant")
    await _nobody_works_at(session, event.post_id, event.departement, event.vacant_at)


async def on_post_suspended(session: AsyncSession, heard: Heard[PostSuspended]) -> None:
    event = heard.event
    await session.execute(
        text("UPDATE posts_heard SET state = 'suspended', until_on = :until_on, replacement_post_id = :replacement_post_id WHERE id = :id"),
        {"id": event.post_id, "until_on": event.until_on, "replacement_post_id": event.replacement_post_id},
    )
    await _nobody_works_at(session, event.post_id, event.departement, event.suspended_at)


async def on_post_closed(session: AsyncSession, heard: Heard[PostClosed]) -> None:
    event = heard.event
    await _post_is(session, event.post_id, "closed")
    await _nobody_works_at(session, event.post_id, event.departement, event.closed_at)


async def on_coverage_changed(session: AsyncSession, heard: Heard[CoverageChanged]) -> None:
    event = heard.event
    await session.execute(
        text("UPDATE posts_heard SET units = :units, communes = :communes WHERE id = :id"),
        {"id": event.post_id, "units": list(event.units), "communes": list(event.communes)},
    )
    await mark_due(session, event.departement)


async def on_service(session: AsyncSession, heard: Heard[ServiceRegistered] | Heard[ServiceChanged]) -> None:
    event = heard.event
    await session.execute(
        _SERVICE,
        {
            "id": event.service_id,
            "organization_id": event.organization_id,
            "departement": event.departement,
            "kind": event.kind.value,
            "needs": [need.value for need in event.needs],
            "communes": list(event.communes),
            "sexes": [sex.value for sex in event.sexes],
            "age_bands": [band.value for band in event.age_bands],
            "capacity": event.capacity,
        },
    )
    await names.mark(session, names.SERVICES, event.departement)


async def on_service_closed(session: AsyncSession, heard: Heard[ServiceClosed]) -> None:
    await session.execute(text("UPDATE services_heard SET closed = true WHERE id = :id"), {"id": heard.event.service_id})
    await tell_closed(session, heard.event.service_id, datetime.now(UTC))


async def on_capacity_changed(session: AsyncSession, heard: Heard[CapacityChanged]) -> None:
    await session.execute(
        text("UPDATE services_heard SET capacity = :capacity WHERE id = :id"),
        {"id": heard.event.service_id, "capacity": heard.event.capacity},
    )


async def on_agreement_signed(session: AsyncSession, heard: Heard[AgreementSigned]) -> None:
    event = heard.event
    await session.execute(
        _AGREEMENT,
        {
            "id": event.agreement_id,
            "post_ids": list(event.post_ids),
            "channels": [channel.value for channel in event.channels],
            "targets": json.dumps({target.urgency.value: target.minutes for target in event.targets}),
            "starts_on": event.starts_on,
            "ends_on": event.ends_on,
        },
    )
    await settle_by_agreement(session, list(event.post_ids))
    await mark_due(session, event.departement)


async def on_agreement_ended(session: AsyncSession, heard: Heard[AgreementEnded]) -> None:
    await session.execute(text("DELETE FROM agreements_heard WHERE id = :id"), {"id": heard.event.agreement_id})
    await mark_due(session, heard.event.departement)


_POSTS_GONE = text(
    "UPDATE posts_heard SET state = 'closed', until_on = NULL, replacement_post_id = NULL WHERE state <> 'closed' AND NOT id = ANY(:posts)"
)
_SERVICES_GONE = text("UPDATE services_heard SET closed = true WHERE NOT closed AND NOT id = ANY(:services) RETURNING id")
_AGREED = text("SELECT id, post_ids, targets, starts_on, ends_on FROM agreements_heard")


async def _list_agreements(session: AsyncSession, read: ReadList) -> None:
    """What was signed or changed since sets the delays of its posts, as `on_agreement_signed` does; what was known already moves nothing."""
    before = {row.id: tuple(row) for row in await session.execute(_AGREED)}
    await session.execute(text("DELETE FROM agreements_heard"))
    async for agreement in read("/v1/agreements?limit=200"):
        await session.execute(
            _AGREEMENT,
            {
                "id": UUID(agreement["id"]),
                "post_ids": [UUID(one) for one in agreement["post_ids"]],
                "channels": agreement["channels"],
                "targets": json.dumps({target["urgency"]: int(target["minutes"]) for target in agreement["targets"]}),
                **_days(agreement),
            },
        )
        await mark_due(session, agreement["departement"])
    changed = [row for row in await session.execute(_AGREED) if before.get(row.id) != tuple(row)]
    await settle_by_agreement(session, sorted({post for row in changed for post in row.post_ids}))


async def bootstrap(session: AsyncSession, source: str, read: ReadList) -> bool:
    """List, then follow: the copies out of the source's lists. What they show to have happened meanwhile takes effect as if it had been heard.

    What is no longer listed is closed: also of a source that was restored, to which it is unknown by now.
    """
    if source == "funding":
        await _list_agreements(session, read)
        return True
    filled = {row.id for row in await session.execute(text("SELECT id FROM posts_heard WHERE state = 'filled'"))}
    await session.execute(text("DELETE FROM units_heard"))
    posts: list[UUID] = []
    services: list[UUID] = []
    listed: set[tuple[str, str]] = set()
    async for unit in read("/v1/units?limit=200&closed=true"):
        closed = unit["closed_at"] is not None
        await session.execute(_UNIT, {"id": UUID(unit["id"]), "force": unit["force"], "communes": unit["communes"], "closed": closed})
        await mark_due(session, unit["departement"])
        listed.add((names.UNITS, unit["departement"]))
    async for post in read("/v1/posts?limit=200"):
        await session.execute(
            _POST,
            {
                "id": UUID(post["id"]),
                "departement": post["departement"],
                "employer_id": UUID(post["employer_id"]),
                "state": post["state"],
                "full_time_percent": post["full_time_percent"],
                "channels": post["channels"],
                "units": [UUID(one) for one in post["units"]],
                "communes": post["communes"],
                "until_on": date.fromisoformat(post["until_on"]) if post.get("until_on") else None,
                "replacement_post_id": UUID(post["replacement_post_id"]) if post.get("replacement_post_id") else None,
            },
        )
        await mark_due(session, post["departement"])
        listed.add((names.POSTS, post["departement"]))
        posts.append(UUID(post["id"]))
    async for service in read("/v1/services?limit=200"):
        await session.execute(
            _SERVICE,
            {
                "id": UUID(service["id"]),
                "organization_id": UUID(service["organization_id"]),
                **{name: service[name] for name in ("departement", "kind", "needs", "communes", "capacity")},
                **{name: service.get(name, []) for name in ("sexes", "age_bands")},  # a partners service of an earlier release has none
            },
        )
        listed.add((names.SERVICES, service["departement"]))
        services.append(UUID(service["id"]))
    now = datetime.now(UTC)
    await session.execute(_POSTS_GONE, {"posts": posts})
    left = await session.execute(
        text("SELECT id, departement FROM posts_heard WHERE state <> 'filled' AND id = ANY(:filled)"), {"filled": list(filled)}
    )
    for row in left.all():
        await _nobody_works_at(session, row.id, row.departement, now)
    for service_id in (await session.scalars(_SERVICES_GONE, {"services": services})).all():
        await tell_closed(session, service_id, now)
    for kind, departement in sorted(listed):
        await names.mark(session, kind, departement)
    return True


def _days(agreement: Mapping[str, Any]) -> dict[str, date]:
    return {name: date.fromisoformat(agreement[name]) for name in ("starts_on", "ends_on")}


_PARTNERS: Mapping[type[Event], Handler] = {
    UnitRegistered: on_unit,
    UnitChanged: on_unit,
    UnitClosed: on_unit_closed,
    PostOpened: on_post_opened,
    PostFilled: on_post_filled,
    PostVacant: on_post_vacant,
    PostSuspended: on_post_suspended,
    PostClosed: on_post_closed,
    CoverageChanged: on_coverage_changed,
    ServiceRegistered: on_service,
    ServiceChanged: on_service,
    ServiceClosed: on_service_closed,
    CapacityChanged: on_capacity_changed,
}
_FUNDING: Mapping[type[Event], Handler] = {AgreementSigned: on_agreement_signed, AgreementEnded: on_agreement_ended}

LISTENER = Listener(
    projection="copies",
    sources=(
        Source("partners", handles=_PARTNERS, ignores=tuple(set(partners.EVENTS) - set(_PARTNERS))),
        Source("funding", handles=_FUNDING, ignores=tuple(set(funding.EVENTS) - set(_FUNDING))),
    ),
    bootstrap=bootstrap,
)
