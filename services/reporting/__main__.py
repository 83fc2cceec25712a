"""`python -m services.reporting [api|worker|both|migrate|openapi|asyncapi]`, and `python -m services.reporting rebuild`."""

import sys

from libs.chassis.serve import main
from services.reporting.app import SERVICE
from services.reporting.rebuilding import rebuild_and_exit

if sys.argv[1:] == ["rebuild"]:
    rebuild_and_exit()
main(SERVICE)
