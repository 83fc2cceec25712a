"""`python -m services.referrals [api|worker|both|migrate|openapi|asyncapi]`, and `retention [--dry-run]`, `erase-again LOG…` (housekeeping.py)."""

import sys

from libs.chassis.serve import main
from services.referrals.app import SERVICE
from services.referrals.housekeeping import COMMANDS, run_and_exit

if __name__ == "__main__":
    if sys.argv[1:2] and sys.argv[1] in COMMANDS:
        run_and_exit(sys.argv[1:])
    main(SERVICE)
