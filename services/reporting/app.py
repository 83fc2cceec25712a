"""The reporting service, wired."""

from libs.chassis.service import Service
from libs.contracts.reporting import EVENTS
from services.reporting import api
from services.reporting.access import ACCESS
from services.reporting.handlers import LISTENER
from services.reporting.settings import Settings

SERVICE = Service(
    name="reporting",
    title="Maillon : chiffres de l'activité et du financement",
    settings=Settings,
    routers=(api.router,),
    access=ACCESS,
    says=EVENTS,
    listener=LISTENER,
)
