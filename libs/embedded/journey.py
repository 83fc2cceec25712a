"""One referral through its whole journey, told step by step with the events that each step caused. Only through the services' own doors."""

import asyncio
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from rich.console import Console

from libs.contracts import demonstration as d
from libs.embedded.network import CallFailed, Network

_SECONDS = 30.0
"""How long an event may take to reach another service before the journey counts as failed."""
_POLICE, _ISCG, _PARTNER, _COORDINATOR = "police-95", "iscg-95", "partner-95", "coordinator-95"


def referral(reference: str) -> dict[str, Any]:
    """A fictitious intervention in Cergy, as police software posts it."""
    return {
        "external_reference": reference,
        "unit_id": str(d.UNIT_CERGY),
        "commune": d.COMMUNE_CERGY,
        "occurred_at": datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        "channel": "intervention",
        "urgency": "priority",
        "themes": ["couple_violence"],
        "principal_theme": "couple_violence",
        "children_present": 1,
        "persons": [
            {
                "role": "victim",
                "sex": "female",
                "identity": {"family_name": "Fictif", "given_name": "Camille", "birth_on": "1991-04-12"},
                "contact": {"phones": [d.PHONE]},
                "safe_contact": {"modes": ["phone"], "voicemail_allowed": False, "text_allowed": False, "read_by_others": True},
                "agreement": "accepted",
            },
            {"role": "alleged_perpetrator", "sex": "male", "approximate_age": 35, "agreement": "not_asked"},
        ],
    }


class _Account:
    """Prints each step, then the events that the services said since the step before."""

    def __init__(self, network: Network, console: Console) -> None:
        self._network = network
        self._console = console
        self._heads: dict[str, int] = {}
        self._number = 0

    async def begin(self) -> None:
        self._heads = {service: await self._network.head(service) for service in ("referrals", "partners", "funding")}

    async def step(self, sentence: str, *expected: str) -> None:
        """Wait until the referrals service has said the expected facts, and print them."""
        self._number += 1
        self._console.print(f" [bold]{self._number}.[/] {sentence}", highlight=False, soft_wrap=True)
        deadline, said = time.monotonic() + _SECONDS, list[str]()
        while not set(expected) <= set(said):
            if time.monotonic() > deadline:
                raise CallFailed(f"Les événements attendus ne sont pas venus : {', '.join(sorted(set(expected) - set(said)))}.")
            for event in await self._network.events("referrals", after=self._heads["referrals"]):
                self._heads["referrals"] = int(event["sequence"])
                said.append(str(event["type"]).removeprefix("fr.maillon.").removesuffix(".v1"))
            await asyncio.sleep(0.02)
        if said:
            self._console.print(f"    [cyan]→ {', '.join(said)}[/]", highlight=False, soft_wrap=True)


async def play(network: Network, console: Console) -> bool:
    """Play it, and say whether it was seen in the figures. Raises `CallFailed` when a service refuses a step."""
    console.rule("Une saisine, de la patrouille à la clôture")
    before = {measure: await _figure(network, measure) for measure in ("situations", "persons", "orientations")}
    account = _Account(network, console)
    await account.begin()
    reference = f"DEMO-{uuid4().hex[:10]}"

    received = await _post(network, _POLICE, "/v1/referrals", referral(reference), key=reference)
    address = f"/v1/referrals/{received['id']}"
    await account.step(
        "La police envoie une saisine ; elle reçoit un reçu signé, et la saisine son poste.", "referral.received", "referral.assigned"
    )

    opened = await _read(network, address)
    await _post(network, _ISCG, f"{address}/accept", version=opened["version"])
    await account.step("L'intervenante sociale de Cergy l'accepte.", "referral.accepted")

    victim = next(person["id"] for person in opened["people"] if person["role"] == "victim")
    call = {"person_id": victim, "mode": "phone", "result": "reached", "attempted_at": received["received_at"]}
    await _post(network, _ISCG, f"{address}/contacts", call)
    await account.step("Elle joint la victime par téléphone, seul mode que ses consignes permettent.", "contact.attempted")

    request = {"person_id": victim, "service_id": str(d.VICTIM_SUPPORT_SERVICE), "need": "victim_support"}
    orientation = await _post(network, _ISCG, f"{address}/orientations", request)
    await account.step("Elle l'oriente vers l'association d'aide aux victimes.", "orientation.requested")

    asked = f"/v1/orientations/{orientation['id']}"
    await _post(network, _PARTNER, f"{asked}/accept", version=1)
    await _post(network, _PARTNER, f"{asked}/start", version=2)
    await _post(network, _PARTNER, f"{asked}/complete", {"outcome": "supported"}, version=3)
    await account.step(
        "L'association accepte, accompagne, termine.", "orientation.accepted", "orientation.started", "orientation.completed"
    )

    opened = await _read(network, address)
    await _post(network, _ISCG, f"{address}/close", {"reason": "oriented"}, version=opened["version"])
    await account.step("L'intervenante clôt : le relais est pris.", "referral.closed")

    status = (await network.call("referrals", _POLICE, "GET", f"/v1/referral-statuses/{received['id']}")).json()["status"]
    console.print(f"    La police, elle, lit seulement : « {status} ».", highlight=False, soft_wrap=True)
    return await _counted(network, console, before)


async def _counted(network: Network, console: Console, before: Mapping[str, int]) -> bool:
    wanted = {"situations": before["situations"] + 1, "persons": before["persons"] + 2, "orientations": before["orientations"] + 1}
    heads = {source: await network.head(source) for source in ("referrals", "partners", "funding")}
    deadline = time.monotonic() + _SECONDS
    while True:
        now = {measure: await _figure(network, measure) for measure in wanted}
        heard = {seen["source"]: seen["sequence"] for seen in await _complete(network)}
        if all(now[measure] >= value for measure, value in wanted.items()) and all(heard[source] >= head for source, head in heads.items()):
            break
        if time.monotonic() > deadline:
            console.print(" [red]La saisine n'est pas apparue dans les chiffres.[/]")
            return False
        await asyncio.sleep(0.05)
    console.print(
        f" [bold]7.[/] Elle est comptée dans le Val-d'Oise : {now['situations']} saisine(s), {now['persons']} personne(s), "
        f"{now['orientations']} orientation(s).",
        highlight=False,
        soft_wrap=True,
    )
    plan = (await network.call("funding", _COORDINATOR, "GET", f"/v1/plans/{d.PLAN}")).json()
    gap = await _figure(network, "gap")
    console.print(
        f" [bold]8.[/] En face, le financement du poste de Cergy en {d.YEAR} : budget {_euros(plan['budget_cents'])}, "
        f"financé {_euros(plan['funded_cents'])} ; il manque {_euros(gap)} dans le département.",
        highlight=False,
        soft_wrap=True,
    )
    for seen in await _complete(network):
        console.print(
            f"    [dim]Chiffres complets jusqu'à l'événement {seen['sequence']} de {seen['source']}.[/]", highlight=False, soft_wrap=True
        )
    return True


def _euros(cents: int) -> str:
    return f"{cents // 100:,} €".replace(",", "\u202f")


async def _post(
    network: Network, client: str, path: str, body: Any = None, *, version: int | None = None, key: str | None = None
) -> dict[str, Any]:
    headers = {"If-Match": f'"{version}"'} if version is not None else {}
    answer = await network.call("referrals", client, "POST", path, body=body, key=key or uuid4().hex, headers=headers)
    found: dict[str, Any] = answer.json()
    return found


async def _read(network: Network, address: str) -> dict[str, Any]:
    found: dict[str, Any] = (await network.call("referrals", _ISCG, "GET", address, headers={"X-Purpose": "follow_up"})).json()
    return found


async def _figures(network: Network, measure: str) -> dict[str, Any]:
    path = f"/v1/figures?measure={measure}&departement={d.DEPARTEMENT}"
    found: dict[str, Any] = (await network.call("reporting", _COORDINATOR, "GET", path)).json()
    return found


async def _figure(network: Network, measure: str) -> int:
    return (await _figures(network, measure))["total"]["value"] or 0


async def _complete(network: Network) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await _figures(network, "situations"))["complete_up_to"]
    return found


def first_call(referrals_url: str, token_url: str) -> list[str]:
    """Two commands to paste: a token of the police, and a first referral."""
    body = (
        '{"external_reference":"MON-1","unit_id":"' + str(d.UNIT_CERGY) + '","commune":"' + d.COMMUNE_CERGY + '",'
        '"occurred_at":"' + datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ") + '","channel":"officer","urgency":"standard",'
        '"themes":["housing"],"principal_theme":"housing","persons":[{"role":"other","sex":"unknown","agreement":"accepted"}]}'
    )
    return [
        f"TOKEN=$(curl -s -d client_id=police-95 {token_url} | python3 -c 'import json,sys; print(json.load(sys.stdin)[\"access_token\"])')",
        f"curl -s {referrals_url}/v1/referrals -H \"Authorization: Bearer $TOKEN\" -H 'Idempotency-Key: ma-premiere-cle'"
        f" -H 'Content-Type: application/json' -d '{body}'",
    ]
