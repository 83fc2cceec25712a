"""The partners service, wired."""

from datetime import UTC, datetime, timedelta

from sqlalchemy import text

from libs.chassis.runtime import Runtime
from libs.chassis.service import Job, Service
from libs.contracts.partners import EVENTS
from services.partners import api, imports_api, posts_api
from services.partners.access import ACCESS
from services.partners.handlers import LISTENER
from services.partners.queries import ANSWERS_DAYS
from services.partners.settings import Settings


async def drop_old_answers(runtime: Runtime) -> None:
    """Answers to orientations count for twelve months: older ones go, with a month to spare."""
    async with runtime.database.transaction() as session:
        await session.execute(
            text("DELETE FROM orientation_answers WHERE answered_at < :before"),
            {"before": datetime.now(UTC) - timedelta(days=ANSWERS_DAYS + 31)},
        )


SERVICE = Service(
    name="partners",
    title="Maillon : annuaire des partenaires, unités et postes",
    settings=Settings,
    routers=(api.router, posts_api.router, imports_api.router),
    access=ACCESS,
    says=EVENTS,
    listener=LISTENER,
    jobs=(Job("drop-old-answers", 86_400, drop_old_answers),),
)
