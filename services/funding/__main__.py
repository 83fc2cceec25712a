"""`python -m services.funding [api|worker|both|migrate|openapi|asyncapi]`."""

from libs.chassis.serve import main
from services.funding.app import SERVICE

main(SERVICE)
