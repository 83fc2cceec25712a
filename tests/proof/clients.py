"""Clients that post referrals and work them through their whole life, repeating what was not acknowledged with the same key; and what they were told."""

import asyncio
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from libs.contracts import demonstration as d
from libs.embedded.journey import referral
from libs.embedded.network import CallFailed, Network

_ANYTHING = tuple(range(200, 600))
_AGAIN = frozenset({401, 408, 425, 429, 500, 502, 503, 504})
PERSONS = 2
"""In each referral (`libs.embedded.journey.referral`)."""


class Refused(Exception):
    """A service said no to what no client did wrong: the proof has failed."""


@dataclass
class Told:
    """The clients' account: referral → the facts they were told are done, in order."""

    facts: dict[str, list[str]] = field(default_factory=dict)
    commits: int = 0
    repeated: int = 0
    answers: Counter[str] = field(default_factory=Counter)

    def note(self, referral_id: str, *facts: str) -> None:
        self.commits += 1
        self.facts.setdefault(referral_id, []).extend(facts)
        self.answers.update(facts)


class Clients:
    """`stop` ends each client once the referral in its hands is closed."""

    def __init__(self, replicas: Sequence[Network], seed: int, number: int) -> None:
        self._replicas = replicas
        self._dice = random.Random(seed)
        self._number = number
        self._enough = asyncio.Event()
        self.told = Told()

    async def run(self) -> None:
        async with asyncio.TaskGroup() as all_of_them:
            for _ in range(self._number):
                all_of_them.create_task(self._work())

    def stop(self) -> None:
        self._enough.set()

    async def _work(self) -> None:
        while not self._enough.is_set():
            await self._one_life()

    async def _one_life(self) -> None:
        received = await self._post("police-95", "/v1/referrals", referral(f"PROOF-{uuid4().hex}"))
        own = received["id"]
        self.told.note(own, "referral.received", f"referral.{received['status']}")
        address = f"/v1/referrals/{own}"
        opened = await self._read(address)
        await self._post("iscg-95", f"{address}/accept", version=opened["version"])
        self.told.note(own, "referral.accepted")
        victim = next(person["id"] for person in opened["people"] if person["role"] == "victim")
        call = {"person_id": victim, "mode": "phone", "result": "reached", "attempted_at": received["received_at"]}
        await self._post("iscg-95", f"{address}/contacts", call)
        self.told.note(own, "contact.attempted")
        await self._follow_up(own, address, victim, received["received_at"])
        wanted = {"person_id": victim, "service_id": str(d.VICTIM_SUPPORT_SERVICE), "need": "victim_support"}
        asked = f"/v1/orientations/{(await self._post('iscg-95', f'{address}/orientations', wanted))['id']}"
        self.told.note(own, "orientation.requested")
        rejected = self._dice.random() < 0.25
        if rejected:
            await self._post("partner-95", f"{asked}/reject", {"reason": "no_capacity"}, version=1)
            self.told.note(own, "orientation.rejected")
        else:
            for version, (verb, body) in enumerate((("accept", None), ("start", None), ("complete", {"outcome": "supported"})), 1):
                await self._post("partner-95", f"{asked}/{verb}", body, version=version)
                self.told.note(own, f"orientation.{'started' if verb == 'start' else verb.rstrip('e') + 'ed'}")
        opened = await self._read(address)
        await self._post("iscg-95", f"{address}/close", {"reason": "completed" if rejected else "oriented"}, version=opened["version"])
        self.told.note(own, "referral.closed")

    async def _follow_up(self, own: str, address: str, victim: str, at: str) -> None:
        """An interview, an assessment, a correction: each now and then, in any order."""
        works = ["interview.held", "assessment.recorded", "referral.corrected"]
        for fact in self._dice.sample(works, self._dice.randint(0, 3)):
            if fact == "interview.held":
                held = {"person_ids": [victim], "place": "phone", "duration_minutes": 20, "held_at": at}
                await self._post("iscg-95", f"{address}/interviews", held)
            elif fact == "assessment.recorded":
                needs = {"person_id": victim, "needs": ["victim_support"], "known_to_services": "unknown"}
                await self._post("iscg-95", f"{address}/assessments", needs)
            else:
                version = (await self._read(address))["version"]
                await self._post("iscg-95", f"{address}/corrections", {"reason": "learned", "children_present": 2}, version=version)
            self.told.note(own, fact)

    async def _read(self, address: str) -> dict[str, Any]:
        return await self._until_answered("iscg-95", "GET", address, None, {"X-Purpose": "follow_up"}, None)

    async def _post(self, who: str, path: str, body: Any = None, *, version: int | None = None) -> dict[str, Any]:
        headers = {"If-Match": f'"{version}"'} if version is not None else {}
        return await self._until_answered(who, "POST", path, body, headers, uuid4().hex)

    async def _until_answered(
        self, who: str, method: str, path: str, body: Any, headers: dict[str, str], key: str | None
    ) -> dict[str, Any]:
        await asyncio.sleep(self._dice.uniform(0, 0.1))
        while True:
            # now and then a client loses its patience: its connection is cut, and whether it was heard is not known
            patience = self._dice.uniform(0.001, 0.05) if self._dice.random() < 0.04 else 15
            try:
                async with asyncio.timeout(patience):
                    answer = await self._dice.choice(self._replicas).call(
                        "referrals", who, method, path, body=body, key=key, headers=headers, accepted=_ANYTHING
                    )
            except (CallFailed, TimeoutError):
                self.told.repeated += 1
                await asyncio.sleep(self._dice.uniform(0.05, 0.4))
                continue
            if answer.status_code < 300:
                found: dict[str, Any] = answer.json()
                return found
            if answer.status_code not in _AGAIN and "idempotency-in-flight" not in answer.text:
                raise Refused(f"{answer.status_code} to {method} {path}: {answer.text[:500]}")
            self.told.repeated += 1
            await asyncio.sleep(self._dice.uniform(0.05, 0.4))
