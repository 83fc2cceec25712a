"""The whole life of a referral as its clients live it, with every exit and turn: each is taken now and then, by the dice."""

import asyncio
import random
from collections.abc import Awaitable, Sequence
from itertools import count
from uuid import uuid4

from libs.contracts import demonstration as d
from libs.embedded.journey import referral
from libs.embedded.network import Network
from tests.proof.clients import Client, Late
from tests.proof.told import Told

_BATCH = "/v1/referrals/batch"


class Lives:
    """So many clients at the same time. `stop` ends each once the referrals in its hands are closed."""

    def __init__(self, replicas: Sequence[Network], seed: int, number: int) -> None:
        self.told = Told()
        self._clients = [Client(replicas, random.Random(f"{seed}/{place}"), self.told) for place in range(number)]
        self._enough = asyncio.Event()

    async def run(self) -> None:
        async with asyncio.TaskGroup() as all_of_them:
            for client in self._clients:
                all_of_them.create_task(self._work(client))

    def stop(self) -> None:
        self._enough.set()

    async def _work(self, client: Client) -> None:
        while not self._enough.is_set():
            for life in await received(client):
                await life.live()


async def received(client: Client) -> list["Life"]:
    """One referral, or several in one request."""
    if client.dice.random() < 0.15:
        bodies = [referral(f"PROOF-{uuid4().hex}") for _ in range(client.dice.randint(2, 5))]
        came = await client.post_lines("police-95", _BATCH, bodies)
    else:
        came = [await client.post("police-95", "/v1/referrals", referral(f"PROOF-{uuid4().hex}"))]
    for one in came:
        client.told.note(one["id"], "referral.received", f"referral.{one['status']}", status=one["status"])
    return [Life(client, one["id"], one["received_at"]) for one in came]


class Life:
    """Of one referral, which one client works; at its end sometimes two."""

    def __init__(self, client: Client, own: str, at: str) -> None:
        self._client = client
        self._dice = client.dice
        self._told = client.told
        self._own = own
        self._at = at
        self._address = f"/v1/referrals/{own}"
        self._persons: dict[str, str] = {}
        self._children = count(3)
        """How many there are: another number with each correction."""

    async def live(self) -> None:
        opened = await self._client.read(self._address)
        self._persons = {person["role"]: person["id"] for person in opened["people"]}
        await self._wander()
        await self._move("iscg-95", "accept", "accepted", "accepted")
        if self._now_and_then(0.1):  # it was another's: nobody was called
            await self._taken_back("contacts", await self._contact("no_answer"), "contact.withdrawn")
            await self._close("duplicate")
            return
        if self._now_and_then(0.2):
            await self._taken_back("contacts", await self._contact("no_answer"), "contact.withdrawn")
        await self._contact("reached")
        await self._follow_up()
        taken = await self._orient()
        await self._close("oriented" if taken else "completed")
        if self._now_and_then(0.2):
            await self._move("iscg-95", "reopen", "reopened", "accepted")
            await self._contact("no_answer")
            await self._close("completed")
        if self._now_and_then(0.2):
            await self._erase()

    def _now_and_then(self, chance: float) -> bool:
        return self._dice.random() < chance

    async def _version(self) -> int:
        return int((await self._client.read(self._address, "coordinator-95"))["version"])

    async def _move(self, who: str, verb: str, fact: str, status: str, body: dict[str, str] | None = None) -> None:
        await self._client.post(who, f"{self._address}/{verb}", body, version=await self._version())
        self._told.note(self._own, f"referral.{fact}", status=status)

    async def _wander(self) -> None:
        """It is declined, or goes to another post, and comes back by the coordinator."""
        if self._now_and_then(0.15):
            await self._move("iscg-95", "decline", "unrouted", "unrouted", {"reason": "overloaded"})
        elif self._now_and_then(0.15):
            await self._move("iscg-95", "transfer", "assigned", "assigned", {"post_id": str(d.POST_SARCELLES)})
        else:
            return
        await self._move("coordinator-95", "assign", "assigned", "assigned", {"post_id": str(d.POST_CERGY)})

    async def _contact(self, result: str) -> str:
        call = {"person_id": self._persons["victim"], "mode": "phone", "result": result, "attempted_at": self._at}
        made = await self._client.post("iscg-95", f"{self._address}/contacts", call)
        self._told.note(self._own, "contact.attempted")
        return str(made["id"])

    async def _taken_back(self, noun: str, noted_id: str, fact: str) -> None:
        """It was noted by mistake."""
        await self._client.post("iscg-95", f"{self._address}/{noun}/{noted_id}/withdraw", {"reason": "noted_twice"})
        self._told.note(self._own, fact)

    async def _follow_up(self) -> None:
        """An interview, an assessment, a correction, an alert: each now and then, in any order; what was noted is now and then taken back."""
        victim = self._persons["victim"]
        notes = {
            "interview.held": ("interviews", {"person_ids": [victim], "place": "phone", "duration_minutes": 20, "held_at": self._at}),
            "assessment.recorded": (
                "assessments",
                {"person_id": victim, "needs": ["victim_support"], "known_to_services": "unknown"},
            ),
            "alert.recorded": ("alerts", {"kind": "concerning_information", "person_ids": [], "sent_at": self._at}),
        }
        for fact in self._dice.sample([*notes, "referral.corrected"], self._dice.randint(0, 4)):
            if fact not in notes:
                right = {"reason": "learned", "children_present": 2}
                await self._client.post("iscg-95", f"{self._address}/corrections", right, version=await self._version())
                self._told.note(self._own, fact)
                continue
            noun, body = notes[fact]
            noted = await self._client.post("iscg-95", f"{self._address}/{noun}", body)
            self._told.note(self._own, fact)
            if self._now_and_then(0.3):
                await self._taken_back(noun, noted["id"], f"{fact.partition('.')[0]}.withdrawn")

    async def _orient(self) -> bool:
        """To a service; to another when that one says no. Whether one took the person over."""
        first = await self._oriented(d.VICTIM_SUPPORT_SERVICE, "victim_support", rejected=self._now_and_then(0.25))
        if first is None:
            return True
        if self._now_and_then(0.5):
            return await self._oriented(d.LEGAL_ADVICE_SERVICE, "legal_advice", rejected=False, replaces=first) is None
        return False

    async def _oriented(self, service: object, need: str, *, rejected: bool, replaces: str | None = None) -> str | None:
        """The orientation's id when it came to nothing."""
        wanted = {"person_id": self._persons["victim"], "service_id": str(service), "need": need, "replaces_id": replaces}
        asked = (await self._client.post("iscg-95", f"{self._address}/orientations", wanted))["id"]
        self._note(asked, service, "requested")
        answer = self._answer_by_link if self._now_and_then(0.25) else self._answer
        if rejected:
            await answer(asked, "reject")
            self._note(asked, service, "rejected")
            return str(asked)
        await answer(asked, "accept")
        self._note(asked, service, "accepted")
        for version, (verb, status, body) in enumerate(
            (("start", "in-progress", None), ("complete", "completed", {"outcome": "supported"})), 2
        ):
            await self._client.post("partner-95", f"/v1/orientations/{asked}/{verb}", body, version=version)
            self._note(asked, service, status)
        return None

    def _note(self, orientation_id: str, service: object, status: str) -> None:
        self._told.note_orientation(self._own, orientation_id, str(service), status)

    async def _answer(self, asked: str, verb: str) -> None:
        body = {"reason": "no_capacity"} if verb == "reject" else None
        await self._client.post("partner-95", f"/v1/orientations/{asked}/{verb}", body, version=1)

    async def _answer_by_link(self, asked: str, verb: str) -> None:
        link = await self._client.post("iscg-95", f"/v1/orientations/{asked}/links")

        async def is_done() -> bool:
            return str((await self._client.read(f"/v1/orientations/{asked}"))["status"]) != "requested"

        fields = {"version": "1", "answer": verb} | ({"reject_reason": "no_capacity"} if verb == "reject" else {})
        await self._client.fill(link["url"], fields, is_done)

    async def _close(self, reason: str) -> None:
        if self._now_and_then(0.5) and await self._closed_while_corrected(reason):
            return
        await self._move("iscg-95", "close", "closed", "closed", {"reason": reason})

    async def _closed_while_corrected(self, reason: str) -> bool:
        """Two workers at once who have looked at the same version: one closes, one corrects. Whether it is closed."""
        version, right = await self._version(), {"reason": "learned", "children_present": next(self._children)}
        closing = self._client.post("iscg-95", f"{self._address}/close", {"reason": reason}, version=version)
        correcting = self._client.post("coordinator-95", f"{self._address}/corrections", right, version=version)
        closed, corrected = await asyncio.gather(_in_time(closing), _in_time(correcting))
        self._told.unfair += closed == corrected
        if corrected:
            self._told.note(self._own, "referral.corrected")
        if closed:
            self._told.note(self._own, "referral.closed", status="closed")
        return closed

    async def _erase(self) -> None:
        """One of the persons, or all: then all that is sealed of the referral goes."""
        whole = self._now_and_then(0.5)
        going = sorted(self._persons.values()) if whole else [self._persons["victim"]]
        await self._client.post("coordinator-95", f"{self._address}/erasures", {"person_ids": going}, version=await self._version())
        self._told.note(self._own, "referral.erased", status="erased" if whole else "closed")
        self._told.erased.update(going)


async def _in_time(change: Awaitable[object]) -> bool:
    """False for who is told that somebody else changed it first."""
    try:
        await change
    except Late:
        return False
    return True
