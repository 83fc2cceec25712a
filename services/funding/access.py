"""Who may do what with funding. The perimeter (which département, whose posts) is checked in commands and queries: outside it is 404."""

from libs.chassis.access import AccessTable, Rule
from libs.contracts.vocabularies import Role

_STEERS = Rule(roles={Role.COORDINATOR, Role.FUNDER, Role.ADMINISTRATOR})
_READS = Rule(roles={Role.COORDINATOR, Role.FUNDER, Role.EMPLOYER, Role.ADMINISTRATOR, Role.AUDITOR, Role.SERVICE})

ACCESS = AccessTable(
    {
        "register_funder": _STEERS,
        "list_funders": _READS,
        "read_funder": _READS,
        "open_plan": _STEERS,
        "list_plans": _READS,
        "read_plan": _READS,
        "change_budget": _STEERS,
        "add_contribution": _STEERS,
        "change_contribution": _STEERS,
        "move_contribution": _STEERS,
        "sign_agreement": _STEERS,
        "list_agreements": _READS,
        "read_agreement": _READS,
    }
)
