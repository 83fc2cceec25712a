"""The referrals service, wired."""

from datetime import UTC, datetime, timedelta
from typing import cast

from libs.chassis.runtime import Runtime
from libs.chassis.service import Job, Loop, Service
from libs.contracts.referrals import EVENTS
from services.referrals import (
    acknowledgements,
    answer_pages,
    api,
    bulk_api,
    corrections_api,
    followup_api,
    notice_mail,
    notices_api,
    orientations,
    orientations_api,
    refusals,
    retention,
    rights_api,
    routing,
)
from services.referrals.access import ACCESS
from services.referrals.handlers import LISTENER
from services.referrals.links import Links
from services.referrals.settings import Settings


async def route_unrouted(runtime: Runtime) -> None:
    """After a change of coverage: try the unrouted referrals again, some at a time."""
    async with runtime.database.transaction() as session:
        due = await routing.due(session)
    if not due:
        return
    after: routing.Tried | None = None
    while True:
        async with runtime.database.transaction() as session:
            after = await routing.route_again(session, datetime.now(UTC), after)
            if after is None:
                await routing.settle(session, due)
                return


async def expire_orientations(runtime: Runtime) -> None:
    batch = 100
    while True:
        async with runtime.database.transaction() as session:
            if await orientations.expire(session, datetime.now(UTC), batch) < batch:
                return


async def remind_partners(runtime: Runtime) -> None:
    before, batch, links = timedelta(days=cast(Settings, runtime.settings).orientation_reminder_days), 100, Links.of(runtime)
    while True:
        async with runtime.database.transaction() as session:
            if await orientations.remind(session, links, datetime.now(UTC), before, batch) < batch:
                return


async def look_at_erasures(runtime: Runtime) -> None:
    async with runtime.database.transaction() as session:
        await acknowledgements.look(session, cast(Settings, runtime.settings).erasure_acknowledgers)


async def end_retention(runtime: Runtime) -> None:
    """What has reached its end is erased, some at a time."""
    settings, batch = cast(Settings, runtime.settings), 50
    while settings.retention_job:
        async with runtime.database.transaction() as session:
            if await retention.erase_due(session, runtime.vault, datetime.now(UTC), settings.retention_days, batch) < batch:
                return


async def erase_refused(runtime: Runtime) -> None:
    batch, delay = 50, timedelta(hours=cast(Settings, runtime.settings).refused_erased_after_hours)
    while True:
        async with runtime.database.transaction() as session:
            if await refusals.erase_refused(session, runtime.vault, datetime.now(UTC), delay, batch) < batch:
                return


SERVICE = Service(
    name="referrals",
    title="Maillon : saisines et orientations",
    settings=Settings,
    routers=(
        api.router,
        bulk_api.router,
        orientations_api.router,
        answer_pages.router,
        notices_api.router,
        followup_api.router,
        corrections_api.router,
        rights_api.router,
    ),
    access=ACCESS,
    says=EVENTS,
    listener=LISTENER,
    jobs=(
        Job("route-unrouted", 1, route_unrouted),
        Job("expire-orientations", 60, expire_orientations),
        Job("look-at-erasures", 5, look_at_erasures),
        Job("end-retention", 86_400, end_retention),
        Job("remind-partners", 300, remind_partners),
        Job("erase-refused", 600, erase_refused),
    ),
    loops=(Loop("notices", 300, notice_mail.run),),
)
