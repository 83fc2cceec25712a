"""Fetching ahead of who applies: what comes while one batch is being committed is the next one.

A transaction costs the same for ten events as for a thousand, and a broker hands out few at a time: one produced batch (the embedded one), or what
arrived within a moment (any). Nothing waits for company: who asks gets at once what there is.
"""

import asyncio
from collections import defaultdict
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

from aiokafka import AIOKafkaConsumer, TopicPartition

from libs.chassis.endless import finished

BATCH = 2000
"""Events at which fetching waits until they are taken."""
_WAIT_SECONDS = 1.0
_HUNG_SECONDS = 15.0
_LEAVE_SECONDS = 3.0

Fetched = Mapping[TopicPartition, list[Any]]


class Ahead:
    """Of a consumer that was started. What it holds may belong to a partition that has moved to another member meanwhile: the cursor tells."""

    _fetching: asyncio.Task[None]

    def __init__(self, consumer: AIOKafkaConsumer) -> None:
        self._consumer = consumer
        self._found: defaultdict[TopicPartition, list[Any]] = defaultdict(list)
        self._there, self._room = asyncio.Event(), asyncio.Event()

    async def __aenter__(self) -> Self:
        self._room.set()
        self._fetching = asyncio.create_task(self._fetch())
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._fetching.cancel()
        await finished(self._fetching, _LEAVE_SECONDS)

    async def take(self) -> Fetched:
        """What has come, in order for each partition; nothing when nothing came for a second. Raises what fetching ended with."""
        there = asyncio.create_task(self._there.wait())
        try:
            await asyncio.wait([there, self._fetching], timeout=_WAIT_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        finally:
            there.cancel()
        if self._fetching.done():
            self._fetching.result()
        found, self._found = self._found, defaultdict(list)
        self._there.clear()
        self._room.set()
        return found

    async def _fetch(self) -> None:
        while True:
            await self._room.wait()
            fetched = await asyncio.wait_for(self._consumer.getmany(timeout_ms=1000, max_records=BATCH), _HUNG_SECONDS)
            for place, messages in fetched.items():
                self._found[place] += messages
            if self._found:
                self._there.set()
            if sum(map(len, self._found.values())) >= BATCH:
                self._room.clear()
