"""Fills an empty network with the demonstration territory: real communes and units, fictitious organisations, services, posts and money.

Only through the services' own doors: the public files by the code of `maillon import`, the rest by HTTP, each request with a key of its own, so that
a filling that was interrupted is taken up where it stopped.
"""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

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
            "sexes": list(service.sexes),
            "age_bands": list(service.age_bands),
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
    say("financement")
    await _fund(network)
    say("postes entendus")
    await _heard(network)
    done.touch()


async def _heard(network: Network) -> None:
    """Until the referrals service knows the posts: the first referral then finds its own at once."""
    head = await network.head("partners")
    deadline = time.monotonic() + 60
    while True:
        seen = (await network.call("referrals", "administrator", "GET", "/readyz", accepted=(200, 503))).json()
        if any(one["source"] == "partners" and one["sequence"] >= head for one in seen["sources"]):
            return
        if time.monotonic() > deadline:
            raise CallFailed("Le service referrals n'a pas entendu parler des postes : regardez son adresse /readyz.")
        await asyncio.sleep(0.1)


BUDGET = {
    "salary_cents": 3_600_000,
    "charges_cents": 1_500_000,
    "travel_cents": 200_000,
    "equipment_cents": 200_000,
    "overheads_cents": 500_000,
}
CONTRIBUTIONS = (
    (d.CONTRIBUTION_STATE, d.FUNDER_STATE, 3_000_000, "granted"),
    (d.CONTRIBUTION_DEPARTEMENT, d.FUNDER_DEPARTEMENT, 2_000_000, "requested"),
)
"""Ten thousand euros are missing."""


async def _fund(network: Network) -> None:
    for funder in d.FUNDERS:
        body: dict[str, Any] = {"id": str(funder.id), "kind": funder.kind, "name": funder.name, "departement": funder.departement}
        await _create(network, "funding", "/v1/funders", body)
    plan = {"id": str(d.PLAN), "post_id": str(d.POST_CERGY), "year": d.YEAR, "budget": BUDGET}
    deadline = time.monotonic() + 60
    while (await _create(network, "funding", "/v1/plans", plan)).json().get("type", "").endswith("/post-not-yet-known"):
        if time.monotonic() > deadline:
            raise CallFailed(f"Le service funding n'a pas entendu parler des postes : regardez {network.urls['funding']}/readyz.")
        await asyncio.sleep(0.1)  # the posts are on their way
    for contribution, funder_id, amount, firmness in CONTRIBUTIONS:
        body = {"id": str(contribution), "funder_id": str(funder_id), "amount_cents": amount, "firmness": firmness}
        await _create(network, "funding", f"/v1/plans/{d.PLAN}/contributions", body)


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


async def _create(network: Network, service: str, path: str, body: dict[str, Any]) -> httpx.Response:
    key = f"demonstration:{path}:{body['id']}"
    return await network.call(service, "administrator", "POST", path, body=body, key=key, accepted=_CREATED)
