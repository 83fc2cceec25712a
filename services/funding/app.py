"""The funding service, wired."""

from libs.chassis.service import Service
from libs.contracts.funding import EVENTS
from services.funding import api
from services.funding.access import ACCESS
from services.funding.handlers import LISTENER
from services.funding.settings import Settings

SERVICE = Service(
    name="funding",
    title="Maillon : financement des postes",
    settings=Settings,
    routers=(api.router,),
    access=ACCESS,
    says=EVENTS,
    listener=LISTENER,
)
