"""Who reads figures. What each reader sees of them is decided in reading.py and queries.py. Police reads none (DESIGN: it sees statuses only)."""

from libs.chassis.access import AccessTable, Rule
from libs.contracts.vocabularies import Role

_READERS = Rule(roles={Role.COORDINATOR, Role.MINISTRY, Role.FUNDER, Role.EMPLOYER, Role.ADMINISTRATOR})

ACCESS = AccessTable({"list_indicators": _READERS, "read_figures": _READERS})
