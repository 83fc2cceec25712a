"""The demonstration territory, told to the partners service over HTTP as an administrator would."""

from typing import Any

from libs.contracts import demonstration as d
from libs.contracts.vocabularies import Theme, UnitKind
from tests.serving import Served


async def register_territory(partners: Served, departement: str = "95") -> None:
    """Communes, units, organizations, services and posts of one département."""
    units = [unit for unit in d.UNITS if unit.departement == departement]
    communes = sorted({unit.commune for unit in units} | {code for service in d.SERVICES for code in service.communes})
    rows = [
        {"code": code, "name": f"Commune {code}", "departement": code[:2], "region": "11", "population": 1000}
        for code in communes
        if code.startswith(departement)
    ]
    await _done(partners, "/v1/imports/communes", {"rows": rows})
    for unit in units:
        await _done(
            partners,
            "/v1/units",
            {
                "id": unit.id,
                "departement": unit.departement,
                "force": unit.force,
                "kind": UnitKind.OTHER,
                "label": unit.name,
                "communes": [unit.commune],
            },
        )
    for organization in d.ORGANIZATIONS:
        if organization.departement == departement:
            await _done(partners, "/v1/organizations", organization._asdict())
    for service in d.SERVICES:
        if service.departement == departement:
            await _done(partners, "/v1/services", service._asdict() | {"themes": [Theme.COUPLE_VIOLENCE]})
    for post in d.POSTS:
        if post.departement == departement:
            body = post._asdict() | {"label": post.name, "filled": True, "opened_on": f"{d.YEAR}-01-01"}
            del body["name"]
            await _done(partners, "/v1/posts", body)


async def _done(partners: Served, address: str, body: dict[str, Any]) -> None:
    answer = await partners.post("administrator", address, body)
    assert answer.status_code in (200, 201), answer.text
