"""The partners service, wired."""

from datetime import UTC, datetime, timedelta

from sqlalchemy import text

from libs.chassis.runtime import Runtime
from libs.chassis.service import Job, Service
from libs.contracts.partners import EVENTS
from services.partners import absences, api, imports_api, posts_api
from services.partners.access import ACCESS
from services.partners.handlers import LISTENER
from services.partners.queries import ANSWERS_DAYS
from services.partners.settings import Settings

_ABSENCES_AT_ONCE = 50


async def drop_old_answers(runtime: Runtime) -> None:
    """Answers to orientations count for twelve months: older ones go, with a month to spare."""
    async with runtime.database.transaction() as session:
        await session.execute(
            text("DELETE FROM orientation_answers WHERE answered_at < :before"),
            {"before": datetime.now(UTC) - timedelta(days=ANSWERS_DAYS + 31)},
        )


async def end_absences(runtime: Runtime) -> None:
    """Posts come back the day after the last one of their absence; some at a time."""
    while True:
        async with runtime.database.transaction() as session:
            if await absences.end_due(session, datetime.now(UTC), _ABSENCES_AT_ONCE) < _ABSENCES_AT_ONCE:
                return


SERVICE = Service(
    name="partners",
    title="Maillon : annuaire des partenaires, unités et postes",
    settings=Settings,
    routers=(api.router, posts_api.router, imports_api.router),
    access=ACCESS,
    says=EVENTS,
    listener=LISTENER,
    jobs=(Job("drop-old-answers", 86_400, drop_old_answers), Job("end-absences", 60, end_absences)),
)
