"""`python -m services.partners [api|worker|both|migrate|openapi|asyncapi]`."""

from libs.chassis.serve import main
from services.partners.app import SERVICE

main(SERVICE)
