"""`python -m services.reporting [api|worker|both|migrate|openapi|asyncapi]`, and `python -m services.reporting rebuild|go-on SOURCE`."""

import sys

from libs.chassis.serve import main
from services.reporting.app import SERVICE
from services.reporting.going_on import go_on_and_exit
from services.reporting.rebuilding import rebuild_and_exit

if sys.argv[1:] == ["rebuild"]:
    rebuild_and_exit()
if sys.argv[1:2] == ["go-on"]:
    go_on_and_exit(sys.argv[2:])
main(SERVICE)
