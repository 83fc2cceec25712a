"""Who may do what in the directory. The perimeter (which département, which organisation) is checked in the commands: outside it is 404."""

from libs.chassis.access import EVERY_ROLE, AccessTable, Rule
from libs.contracts.vocabularies import Role

_EVERYONE = Rule(roles=EVERY_ROLE)
_ADMINISTRATOR = Rule(roles={Role.ADMINISTRATOR})
_COORDINATION = Rule(roles={Role.ADMINISTRATOR, Role.COORDINATOR})
_WITH_ITS_ORGANIZATION = Rule(roles={Role.ADMINISTRATOR, Role.COORDINATOR, Role.PARTNER, Role.EMPLOYER})

ACCESS = AccessTable(
    {
        "register_organization": _ADMINISTRATOR,
        "list_organizations": _EVERYONE,
        "read_organization": _EVERYONE,
        "change_organization": _ADMINISTRATOR,
        "close_organization": _ADMINISTRATOR,
        "register_service": _COORDINATION,
        "list_services": _EVERYONE,
        "read_service": _EVERYONE,
        "change_service": _COORDINATION,
        "change_capacity": _WITH_ITS_ORGANIZATION,
        "close_service": _COORDINATION,
        "register_unit": _ADMINISTRATOR,
        "list_units": _EVERYONE,
        "read_unit": _EVERYONE,
        "change_unit": _ADMINISTRATOR,
        "close_unit": _ADMINISTRATOR,
        "list_communes": _EVERYONE,
        "read_commune": _EVERYONE,
        "list_coverage": _EVERYONE,
        "import_communes": _ADMINISTRATOR,
        "import_jurisdictions": _ADMINISTRATOR,
        "open_post": _COORDINATION,
        "list_posts": _EVERYONE,
        "read_post": _EVERYONE,
        "rename_post": _COORDINATION,
        "change_coverage": _COORDINATION,
        "fill_post": _COORDINATION,
        "vacate_post": _COORDINATION,
        "suspend_post": _COORDINATION,
        "close_post": _COORDINATION,
    }
)
