"""Fills an empty network with the demonstration territory: real communes and units, fictitious organisations, services, posts and money.

Only through the services' own doors: the public files by the code of `maillon import`, the rest by HTTP, each request with a key of its own, so that
a filling that was interrupted is taken up where it stopped.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from libs.client.importing import FileUnreadable, Imported, ImportStopped, import_communes, import_jurisdictions
from libs.contracts import demonstration as d
from libs.contracts.vocabularies import Theme, UnitKind
from libs.embedded.network import CallFailed, Network

_DATA = Path(__file__).with_name("data")
_CREATED = (200, 201, 409)  # 409: there already, in databases that outlived the data folder
_OPENED_ON = f"{d.YEAR}-01-01"
_UNITS_OF_THE_FILE = frozenset({"95"})
"""Départements whose units come out of the jurisdiction file."""

Say = Callable[[str], None]


async def seed(network: Network, folder: Path, say: Say) -> None:
    """Once per data folder. Raises `CallFailed`."""
    done = folder / "demonstration"
    if done.exists():
        return
    say("communes et unités")
    await _import_files(network)
    for unit in d.UNITS:
        if unit.departement not in _UNITS_OF_THE_FILE:
            body: dict[str, Any] = {
                "id": str(unit.id),
                "departement": unit.departement,
                "force": unit.force,
                "kind": UnitKind.COMMISSARIAT,
                "label": unit.name,
                "communes": [unit.commune],
            }
            await _create(network, "partners", "/v1/units", body)
    say("structures")
    for organization in d.ORGANIZATIONS:
        body = {
            "id": str(organization.id),
            "departement": organization.departement,
            "name": organization.name,
            "kind": organization.kind,
            "siret": organization.siret,
            "offence_data_allowed": organization.offence_data_allowed,
        }
        await _create(network, "partners", "/v1/organizations", body)
    say("services partenaires")
    for service in d.SERVICES:
        body = {
            "id": str(service.id),
            "organization_id": str(service.organization_id),
            "departement": service.departement,
            "name": service.name,
            "kind": service.kind,
            "themes": [Theme.COUPLE_VIOLENCE, Theme.FAMILY_VIOLENCE],
            "needs": list(service.needs),
            "communes": list(service.communes),
            "capacity": service.capacity,
        }
        await _create(network, "partners", "/v1/services", body)
    say("postes")
    for post in d.POSTS:
        body = {
            "id": str(post.id),
            "departement": post.departement,
            "employer_id": str(post.employer_id),
            "force": post.force,
            "label": post.name,
            "full_time_percent": post.full_time_percent,
            "channels": list(post.channels),
            "units": [str(unit) for unit in post.units],
            "communes": list(post.communes),
            "filled": True,
            "opened_on": _OPENED_ON,
        }
        await _create(network, "partners", "/v1/posts", body)
    done.touch()


async def _import_files(network: Network) -> None:
    async with await network.client("partners", "administrator") as client:
        try:
            for departement in ("95", "78"):
                _check(await import_communes(client, _DATA / f"communes-{departement}.csv"))
            _check(await import_jurisdictions(client, _DATA / "competence-territoriale-95.csv"))
        except (FileUnreadable, ImportStopped) as reason:
            raise CallFailed(str(reason)) from reason


def _check(done: Imported) -> None:
    if done.refused:
        first = done.refused[0]
        raise CallFailed(f"Ligne {first.number} refusée à l'import : {', '.join(first.sentences)}")


async def _create(network: Network, service: str, path: str, body: dict[str, Any]) -> None:
    key = f"demonstration:{path}:{body['id']}"
    await network.call(service, "administrator", "POST", path, body=body, key=key, accepted=_CREATED)
