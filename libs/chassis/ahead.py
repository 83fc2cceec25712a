"""Fetching and reading ahead of who applies: what comes while one batch is being committed is the next one.

A transaction costs the same for ten events as for a thousand, and a broker hands out few at a time: one produced batch (the embedded one), or what
arrived within a moment (any). Nothing waits for company: who asks gets at once what there is. Read is it while PostgreSQL is at work.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Generic, NamedTuple, Self, TypeVar

from aiokafka import AIOKafkaConsumer, TopicPartition

from libs.chassis.endless import finished

BATCH = 2000
"""Events at which fetching waits until they are taken."""
_WAIT_SECONDS = 1.0
_HUNG_SECONDS = 15.0
_LEAVE_SECONDS = 3.0

_READ_AT_ONCE = 10
"""Messages read before whoever else is at work here goes on."""

T = TypeVar("T")


class Fetched(NamedTuple, Generic[T]):
    """Of one partition, in order."""

    read: list[T]
    next_offset: int
    """What is committed once it is applied."""


class Ahead(Generic[T]):
    """Of a consumer that was started. What it holds may belong to a partition that has moved to another member meanwhile: the cursor tells."""

    _fetching: asyncio.Task[None]

    def __init__(self, consumer: AIOKafkaConsumer, read: Callable[[Any], T | None]) -> None:
        """`read`: of one message; None for one that is to be passed over."""
        self._consumer = consumer
        self._read = read
        self._found: dict[TopicPartition, Fetched[T]] = {}
        self._there, self._room = asyncio.Event(), asyncio.Event()

    async def __aenter__(self) -> Self:
        self._room.set()
        self._fetching = asyncio.create_task(self._fetch())
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._fetching.cancel()
        await finished(self._fetching, _LEAVE_SECONDS)

    async def take(self) -> Mapping[TopicPartition, Fetched[T]]:
        """What has come, in order for each partition; nothing when nothing came for a second. Raises what fetching ended with."""
        there = asyncio.create_task(self._there.wait())
        try:
            await asyncio.wait([there, self._fetching], timeout=_WAIT_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        finally:
            there.cancel()
        if self._fetching.done():
            self._fetching.result()
        found, self._found = self._found, {}
        self._there.clear()
        self._room.set()
        return found

    async def _fetch(self) -> None:
        while True:
            await self._room.wait()
            fetched = await asyncio.wait_for(self._consumer.getmany(timeout_ms=1000, max_records=BATCH), _HUNG_SECONDS)
            for place, messages in fetched.items():
                for first in range(0, len(messages), _READ_AT_ONCE):
                    self._add(place, messages[first : first + _READ_AT_ONCE])
                    await asyncio.sleep(0)

    def _add(self, place: TopicPartition, messages: Sequence[Any]) -> None:
        read = self._found[place].read if place in self._found else []
        read += [one for one in map(self._read, messages) if one is not None]
        self._found[place] = Fetched(read, messages[-1].offset + 1)
        self._there.set()
        if sum(len(fetched.read) for fetched in self._found.values()) >= BATCH:
            self._room.clear()
