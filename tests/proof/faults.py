"""What is done to the house while it works: SIGKILLs at seeded moments, connections cut, the broker absent, wiped, its topics deleted."""

import asyncio
import os
import random
import signal
import subprocess
from collections import Counter
from collections.abc import Callable

from aiokafka.errors import KafkaError

from tests.proof.standing import SERVICES, Kafka, Standing

_WEIGHTS = {"worker": 9, "api": 5, "postgres": 2, "broker": 2, "connections": 3}


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
        self._rare = {third: self._broker_away, third + 2: self._topics_deleted, 2 * third: self._broker_wiped}

    async def run(self, enough: Callable[[], bool]) -> None:
        while self.kills < self._wanted or not enough():
            await asyncio.sleep(self._dice.uniform(0.5, 3.0))
            due = [at for at in self._rare if self.kills >= at]
            if due:
                await self._rare.pop(due[0])()
            else:
                [kind] = self._dice.choices(list(_WEIGHTS), list(_WEIGHTS.values()))
                await getattr(self, f"_{kind}")()
        for late in list(self._rare):
            await self._rare.pop(late)()

    def _killed(self, name: str) -> None:
        self.kills += 1
        self.done[name] += 1
        self._say(f"SIGKILL {name}")

    async def _worker(self) -> None:
        self._kill_one("worker")

    async def _api(self) -> None:
        self._kill_one("api")

    async def _postgres(self) -> None:
        self._kill_one("PostgreSQL")

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
        self._say("the broker is back")

    async def _broker_wiped(self) -> None:
        await self._kafka.kill()
        self._killed("broker")
        self._kafka.forget()
        self.wiped = True
        await self._kafka.start()
        self._say("the broker is back and knows nothing")

    async def _topics_deleted(self) -> None:
        try:
            number = await self._kafka.delete_topics()
        except (KafkaError, OSError) as error:
            self._say(f"the topics could not be deleted ({type(error).__name__})")
            return
        self.wiped = True
        self.done["topics deleted"] += number
        self._say(f"{number} topics deleted")

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
