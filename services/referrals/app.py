"""The referrals service, wired."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import cast

from sqlalchemy.ext.asyncio import AsyncSession

from libs.chassis.runtime import Runtime
from libs.chassis.service import Job, Loop, Service
from libs.contracts.referrals import EVENTS
from services.referrals import api
from services.referrals.access import ACCESS
from services.referrals.delays import overdue
from services.referrals.delays.due import Delays
from services.referrals.desk import (
    announced_pages,
    correction_pages,
    erasure_pages,
    erasure_register_pages,
    export_pages,
    guard,
    move_pages,
    notice_pages,
    orientation_pages,
    person_pages,
    reference_pages,
    referral_pages,
    requisition_pages,
    sessions,
    sign_in_pages,
    withdrawal_pages,
    worklist_pages,
)
from services.referrals.directory import names
from services.referrals.exports import api as exports_api
from services.referrals.handlers import LISTENER
from services.referrals.justice import api as justice_api
from services.referrals.notices import api as notices_api
from services.referrals.notices import mail as notice_mail
from services.referrals.orientations import answer_pages, waiting
from services.referrals.orientations import api as orientations_api
from services.referrals.orientations.links import Links
from services.referrals.receiving import bulk_api, routing
from services.referrals.rights import acknowledgements, retention
from services.referrals.rights import api as rights_api
from services.referrals.rights import refused as refusals
from services.referrals.settings import Settings
from services.referrals.working import corrections_api, followup_api

BATCH = 50
"""What a job does in one transaction: short enough to hold nobody up."""


async def route_unrouted(runtime: Runtime) -> None:
    """After a change of coverage or presence: try again, some at a time, the unrouted referrals and those that wait at a post where nobody works."""
    async with runtime.database.transaction() as session:
        due = await routing.due(session)
    if not due:
        return
    after: routing.Tried | None = None
    delays = Delays.of(runtime)
    while True:
        async with runtime.database.transaction() as session:
            after = await routing.route_again(session, delays, datetime.now(UTC), after)
            if after is None:
                await routing.settle(session, due)
                return


async def by_batches(runtime: Runtime, step: Callable[[AsyncSession], Awaitable[int]]) -> None:
    """One transaction a batch, until one found less than `BATCH` to do."""
    while True:
        async with runtime.database.transaction() as session:
            if await step(session) < BATCH:
                return


async def expire_orientations(runtime: Runtime) -> None:
    await by_batches(runtime, lambda session: waiting.expire(session, datetime.now(UTC), BATCH))


async def remind_partners(runtime: Runtime) -> None:
    before, links = timedelta(days=cast(Settings, runtime.settings).orientation_reminder_days), Links.of(runtime)
    await by_batches(runtime, lambda session: waiting.remind(session, links, datetime.now(UTC), before, BATCH))


async def notice_overdue(runtime: Runtime) -> None:
    await by_batches(runtime, lambda session: overdue.notice(session, datetime.now(UTC), BATCH))


async def look_at_erasures(runtime: Runtime) -> None:
    async with runtime.database.transaction() as session:
        await acknowledgements.look(session, cast(Settings, runtime.settings).expected_readers())


async def tell_unconfirmed(runtime: Runtime) -> None:
    after = timedelta(days=cast(Settings, runtime.settings).erasure_unconfirmed_days)
    async with runtime.database.transaction() as session:
        await acknowledgements.tell_unconfirmed(session, datetime.now(UTC), after)


async def end_retention(runtime: Runtime) -> None:
    """What will reach its end is announced; what has reached it, and was announced long enough before, is erased, and what is held is told."""
    settings = cast(Settings, runtime.settings)
    async with runtime.database.transaction() as session:
        await retention.announce(session, datetime.now(UTC), settings.term)
        await retention.tell_held(session, datetime.now(UTC), settings.term)
    if settings.persons_retention_job:
        await by_batches(runtime, lambda session: retention.erase_due(session, runtime.vault, datetime.now(UTC), settings.term, BATCH))
        await by_batches(runtime, lambda session: retention.unlink(session, runtime.vault, datetime.now(UTC), settings.term, BATCH))


async def erase_refused(runtime: Runtime) -> None:
    delay = timedelta(hours=cast(Settings, runtime.settings).refused_erased_after_hours)
    async with runtime.database.transaction() as session:
        await refusals.tell_left_open(session, datetime.now(UTC), delay)
    await by_batches(runtime, lambda session: refusals.erase_refused(session, runtime.vault, datetime.now(UTC), delay, BATCH))


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
        worklist_pages.router,
        export_pages.router,
        referral_pages.router,
        orientation_pages.router,
        correction_pages.router,
        requisition_pages.router,
        withdrawal_pages.router,
        announced_pages.router,
        person_pages.router,
        reference_pages.router,
        erasure_pages.router,
        erasure_register_pages.router,
        notice_pages.router,
        move_pages.router,
        sign_in_pages.router,
        justice_api.router,
        exports_api.router,
    ),
    access=ACCESS,
    says=EVENTS,
    listener=LISTENER,
    jobs=(
        Job("route-unrouted", 1, route_unrouted),
        Job("expire-orientations", 60, expire_orientations),
        Job("look-at-erasures", 5, look_at_erasures),
        Job("tell-unconfirmed", 3_600, tell_unconfirmed),
        Job("end-retention", 86_400, end_retention),
        Job("remind-partners", 300, remind_partners),
        Job("erase-refused", 600, erase_refused),
        Job("end-desk-sessions", 600, sessions.sweep),
        Job("notice-overdue", 15, notice_overdue),
    ),
    page_guard=guard.guard,
    loops=(Loop("notices", 300, notice_mail.run), Loop("names", 600, names.run)),
    measure=overdue.measure,
)
