"""The embedded broker, as aiokafka sees it."""

import asyncio
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from libs.embedded.broker import Broker, free_port, is_listening
from libs.embedded.errors import CannotStart

_ROOT = Path(__file__).parents[2]
_TOPIC = "maillon.test.v1"


@pytest.fixture
def broker() -> Iterator[Broker]:
    broker = Broker.started()
    yield broker
    broker.stop()


async def _send(broker: Broker, *values: bytes) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=broker.bootstrap_servers, enable_idempotence=True, acks="all")
    await producer.start()
    for value in values:
        await producer.send_and_wait(_TOPIC, value, partition=0, headers=[("ce_id", b"1")])
    await producer.stop()


async def _read(broker: Broker) -> list[bytes]:
    consumer = AIOKafkaConsumer(bootstrap_servers=broker.bootstrap_servers, fetch_max_wait_ms=20, auto_offset_reset="earliest")
    await consumer.start()
    place = TopicPartition(_TOPIC, 0)
    consumer.assign([place])
    end = (await consumer.end_offsets([place]))[place]
    got: list[bytes] = []
    while len(got) < end:
        got += [message.value for messages in (await consumer.getmany(timeout_ms=200)).values() for message in messages]
    await consumer.stop()
    return got


async def test_what_was_sent_is_read_in_order(broker: Broker) -> None:
    sent = [b"%d" % number for number in range(200)]

    await _send(broker, *sent)

    assert await _read(broker) == sent


async def test_answers_larger_than_what_is_scanned_pass_unharmed(broker: Broker) -> None:
    sent = [bytes([number]) * 300_000 for number in range(1, 6)]

    await _send(broker, *sent)

    assert await _read(broker) == sent


async def test_a_restart_keeps_the_address_and_forgets_everything(broker: Broker) -> None:
    await _send(broker, b"before")
    address = broker.bootstrap_servers

    broker.restart()

    assert broker.bootstrap_servers == address
    await _send(broker, b"after")
    assert await _read(broker) == [b"after"]


async def test_a_producer_that_stays_open_goes_on_after_a_restart(broker: Broker) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=broker.bootstrap_servers, acks="all")
    await producer.start()
    await producer.send_and_wait(_TOPIC, b"before", partition=0)

    broker.restart()

    async with asyncio.timeout(20):
        await producer.send_and_wait(_TOPIC, b"after", partition=0)
        await producer.stop()
    assert await _read(broker) == [b"after"]


async def test_clients_may_have_the_address_before_the_broker_is_there() -> None:
    broker = Broker()
    assert not is_listening(broker.port)

    broker.start()

    await _send(broker, b"x")
    broker.stop()
    assert not is_listening(broker.port)


def test_a_port_in_use_is_said(broker: Broker) -> None:
    with pytest.raises(CannotStart, match=f"Le port {broker.port} est pris"):
        Broker(broker.port).start()


def test_the_broker_ends_with_the_process_that_started_it() -> None:
    port = free_port()
    program = f"from libs.embedded.broker import Broker; import time; Broker.started({port}); print('ready', flush=True); time.sleep(60)"
    owner = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, cwd=_ROOT)
    assert owner.stdout
    owner.stdout.readline()
    assert is_listening(port)

    owner.send_signal(signal.SIGKILL)
    owner.wait()

    deadline = time.monotonic() + 30
    while is_listening(port) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not is_listening(port)
