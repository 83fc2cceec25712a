"""`python -m services.referrals [api|worker|both|migrate|openapi|asyncapi]`"""

from libs.chassis.serve import main
from services.referrals.app import SERVICE

if __name__ == "__main__":
    main(SERVICE)
