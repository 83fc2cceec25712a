"""Reading ahead: what comes while a batch is applied is the next one, read already, in order, with the offset after it."""

import asyncio
from typing import Any, NamedTuple, cast

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from libs.chassis import ahead
from libs.chassis.ahead import Ahead, Fetched

ONE, OTHER = TopicPartition("one", 0), TopicPartition("other", 0)


class Message(NamedTuple):
    offset: int
    value: str


class Broker:
    """Gives out what it is told to, then nothing more."""

    def __init__(self, *answers: dict[TopicPartition, list[Message]]) -> None:
        self._answers = list(answers)
        self.empty = asyncio.Event()

    async def getmany(self, **_: Any) -> dict[TopicPartition, list[Message]]:
        if self._answers:
            return self._answers.pop(0)
        self.empty.set()
        await asyncio.Event().wait()
        return {}


def reading(broker: Broker) -> Ahead[str]:
    return Ahead(cast(AIOKafkaConsumer, broker), lambda message: None if message.value == "foreign" else message.value.upper())


async def test_what_came_meanwhile_is_one_batch_in_order_with_the_offset_after_it() -> None:
    broker = Broker({ONE: [Message(0, "a"), Message(1, "b")]}, {OTHER: [Message(7, "x")], ONE: [Message(2, "c")]})
    async with reading(broker) as held:
        await broker.empty.wait()
        assert await held.take() == {ONE: Fetched(["A", "B", "C"], 3), OTHER: Fetched(["X"], 8)}


async def test_a_message_of_somebody_else_is_passed_over_and_its_offset_committed() -> None:
    broker = Broker({ONE: [Message(0, "a"), Message(1, "foreign")]})
    async with reading(broker) as held:
        await broker.empty.wait()
        assert await held.take() == {ONE: Fetched(["A"], 2)}


async def test_no_more_is_fetched_than_a_batch_until_it_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ahead, "BATCH", 3)
    broker = Broker(*({ONE: [Message(number, "a")]} for number in range(5)))
    async with reading(broker) as held:
        for _ in range(100):  # the broker answers at once: nothing but the room is waited for
            await asyncio.sleep(0)
        assert not broker.empty.is_set()
        assert (await held.take())[ONE].next_offset == 3
        assert (await held.take())[ONE].next_offset > 3


async def test_what_cannot_be_read_ends_the_listening_with_its_error() -> None:
    def broken(message: Message) -> str:
        raise RuntimeError("a fault of ours")

    async with Ahead(cast(AIOKafkaConsumer, Broker({ONE: [Message(0, "a")]})), broken) as held:
        with pytest.raises(RuntimeError, match="a fault of ours"):
            await held.take()
