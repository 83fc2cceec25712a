"""Requests that work as they stand against the seeded demonstration territory, each with the client to call with."""

from typing import Any

from libs.chassis.docs import Example, examples
from libs.contracts import demonstration as d

_FROM, _UNTIL = f"{d.YEAR}-01-01", f"{d.YEAR}-12-31"

EXAMPLES: dict[str, dict[str, Any]] = {
    "list_indicators": examples(Example("interior", 200)),
    "read_figures": examples(
        Example(
            "coordinator-95",
            200,
            query={"measure": "situations", "by": "theme", "from": _FROM, "until": _UNTIL, "departement": d.DEPARTEMENT},
            summary="Les situations d'une année par thème, dans son département",
        ),
        Example("interior", 200, query={"measure": "persons", "by": "sex"}, summary="Les personnes, au niveau national"),
        Example("funder-95", 200, query={"measure": "gap", "by": "departement", "from": _FROM, "until": _UNTIL}, summary="Ce qui manque"),
        Example("employer-95", 200, query={"measure": "situations", "by": "post"}, summary="L'employeur lit ses postes"),
        Example(
            "coordinator-78", 404, query={"measure": "situations", "by": "total", "departement": d.DEPARTEMENT}, summary="Hors du périmètre"
        ),
    ),
}
