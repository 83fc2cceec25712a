"""What is done to the house while it works: SIGKILLs at seeded moments, connections cut, the broker absent, wiped, its topics deleted."""

import asyncio
import os
import random
import signal
import subprocess
from collections import Counter
from collections.abc import Callable, Mapping

from aiokafka.errors import KafkaError

from tests.proof.standing import PARTS, SERVICES, Kafka, Standing

_WEIGHTS = {"worker": 9, "api": 5, "PostgreSQL": 2, "broker": 2, "connections cut": 3}
_RARE = ("broker away", "topics deleted", "broker wiped")
KINDS = (*PARTS, "PostgreSQL", "broker", "connections cut", *_RARE)
"""All that is done to it. The relay and the listeners of a service live in its workers, and of two one leads: each is killed."""


_TRIES = 60
"""For topics to delete, one a second: after a wipe the first event that is sent makes them again."""


def never_done(done: Mapping[str, int]) -> list[str]:
    """The kinds of faults that a campaign passed over: what it found says nothing about them."""
    return [kind for kind in KINDS if not done.get(kind)]


def is_large(kills: int) -> bool:
    """Enough for each kind: such a campaign that passes one over has failed."""
    return kills >= len(KINDS)


class Faults:
    """`run` ends when `enough()` says so and `kills` SIGKILLs are done; the broker then stands."""

    def __init__(self, house: Standing, kafka: Kafka, seed: int, kills: int, say: Callable[[str], None]) -> None:
        self._house = house
        self._kafka = kafka
        self._dice = random.Random(seed)
        self._wanted = kills
        self._say = say
        self.kills = 0
        self.done: Counter[str] = Counter()
        self.wiped = False
        third = max(1, kills // 3)
        self._rare = sorted(zip((third, third + 2, 2 * third), _RARE, strict=True))
        """After so many kills."""
        self._first = [kind for kind in KINDS if kind not in _RARE]
        """Each once, before the dice take over."""
        self._dice.shuffle(self._first)

    async def run(self, enough: Callable[[], bool]) -> None:
        while self.kills < self._wanted or not enough():
            await asyncio.sleep(self._dice.uniform(0.5, 3.0))
            if self._rare and self.kills >= self._rare[0][0]:
                _, kind = self._rare.pop(0)
                if not await self._do(kind):
                    self._rare.append((self.kills + 1, kind))
                continue
            if self._first:
                kind = self._first.pop(0)
                if await self._do(kind):
                    continue
                self._first.append(kind)  # on its way back: the dice meanwhile
            [kind] = self._dice.choices(list(_WEIGHTS), list(_WEIGHTS.values()))
            await self._do(kind)
        for _, late in self._rare:
            await self._do(late)

    async def _do(self, kind: str) -> bool:
        """Whether there was anything to do it to."""
        by_name = {
            "broker": self._broker,
            "broker away": self._broker_away,
            "broker wiped": self._broker_wiped,
            "topics deleted": self._topics_deleted,
            "connections cut": self._connections,
        }
        before = self.done.total()
        if kind in by_name:
            await by_name[kind]()
        else:
            self._kill_one(kind)
        return self.done.total() > before

    def _killed(self, name: str) -> None:
        self.kills += 1
        self.done[name] += 1
        self._say(f"SIGKILL {name}")

    def _kill_one(self, word: str) -> None:
        alive = self._house.alive(word)
        if alive:
            part = self._dice.choice(alive)
            if part.process is not None:
                os.kill(part.process.pid, signal.SIGKILL)
                self._killed(part.name)

    async def _broker(self) -> None:
        await self._kafka.kill()
        self._killed("broker")
        await self._kafka.start()

    async def _broker_away(self) -> None:
        await self._kafka.kill()
        self._killed("broker")
        self._say("the broker stays away")
        await asyncio.sleep(self._dice.uniform(5, 8))
        await self._kafka.start()
        self.done["broker away"] += 1
        self._say("the broker is back")

    async def _broker_wiped(self) -> None:
        await self._kafka.kill()
        self._killed("broker")
        self._kafka.forget()
        self.wiped = True
        self.done["broker wiped"] += 1
        await self._kafka.start()
        self._say("the broker is back and knows nothing")

    async def _topics_deleted(self) -> None:
        why = "there are none"
        for _ in range(_TRIES):
            try:
                number = await self._kafka.delete_topics()
            except (KafkaError, OSError) as error:
                why, number = type(error).__name__, 0
            if number:
                self.wiped = True
                self.done["topics deleted"] += number
                self._say(f"{number} topics deleted")
                return
            await asyncio.sleep(1)
        self._say(f"no topics could be deleted: {why}")

    async def _connections(self) -> None:
        """Half of the connections to one service's database, cut by the server."""
        server, service = self._house.postgres, self._dice.choice(SERVICES)
        if server is None:
            return
        half = f"SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = '{service}' AND pid % 2 = {self._dice.randrange(2)}"
        try:
            cut = int(await asyncio.to_thread(server.psql, "postgres", half))
        except subprocess.CalledProcessError:
            return  # PostgreSQL is just dead
        self.done["connections cut"] += cut
        self._say(f"{cut} connections of {service} cut")
