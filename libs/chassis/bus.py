"""The bus: Kafka's protocol through aiokafka. One topic with one partition per stream, CloudEvents 1.0 in Kafka binary mode.

The mapping of attributes to headers is written here because the digest covers these exact texts; a test holds it against the `cloudevents` package.
"""

import asyncio
import ssl
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any

import structlog
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError, TopicAlreadyExistsError
from pydantic_core import from_json

from libs.chassis.endless import bounded
from libs.chassis.settings import ChassisSettings
from libs.chassis.streams import PLACED, Record, topic

_log = structlog.get_logger(__name__)

PARTITION = 0
LOOK_BACK = (1, 100, 10_000)
"""Messages from the end of a topic among which its last event is looked for."""
TIMEOUT = 10.0
"""Seconds for any one exchange with the broker. aiokafka's idempotent producer waits for ever by itself (LIBRARIES.md)."""


class BusError(Exception):
    """The broker could not be reached or refused; transient, retried by the caller."""


def headers_of(record: Record) -> list[tuple[str, bytes]]:
    """The Kafka headers of an event: `content-type` and `ce_<attribute>`."""
    return _headers(from_json(record.attributes), record)


def _headers(attributes: Mapping[str, str], record: Record) -> list[tuple[str, bytes]]:
    headers = [("content-type", attributes["datacontenttype"].encode())]
    headers += [(f"ce_{name}", value.encode()) for name, value in attributes.items() if name != "datacontenttype"]
    headers += [(f"ce_{name}", value.encode()) for name, value in record.place().items()]
    return headers


@lru_cache(maxsize=256)
def _attribute(header: str) -> str | None:
    """The attribute that a header carries; None for somebody else's header."""
    return "datacontenttype" if header == "content-type" else header[3:] if header.startswith("ce_") else None


def record_of(stream: str, headers: Iterable[tuple[str, bytes | None]], value: bytes | None) -> Record:
    """An event read from a topic. Raises ValueError or KeyError when the message is none of ours."""
    attributes: dict[str, str] = {}
    for header, content in headers:
        name = _attribute(header)
        if name is not None:
            if content is None:
                raise ValueError("a header without a value")
            attributes[name] = content.decode()
    place = {name: attributes.pop(name) for name in PLACED}
    return Record.of_parts(stream, attributes, place, value or b"")


def _batches(producer: AIOKafkaProducer, records: Sequence[Record]) -> Iterator[Any]:
    """The records in as many of Kafka's batches as they need: a third of the cost of handing them to the producer one by one."""
    batch = producer.create_batch()
    for record in records:
        attributes = from_json(record.attributes)
        message = {
            "timestamp": int(datetime.fromisoformat(attributes["recordedtime"]).timestamp() * 1000),  # no finer than the audience is told
            "key": attributes["subject"].encode(),
            "value": record.data,
            "headers": _headers(attributes, record),
        }
        if batch.append(**message) is None:  # full; the first of a batch is taken whatever its size
            yield batch
            batch = producer.create_batch()
            batch.append(**message)
    batch.close()
    yield batch


class Bus:
    """Makes producers and consumers with the settings' servers and security; holds one producer, to be dropped after an error: it is made anew."""

    def __init__(self, settings: ChassisSettings) -> None:
        self._settings = settings
        self._producer: AIOKafkaProducer | None = None
        self._making = asyncio.Lock()  # streams are sent at the same time, through one producer
        self._topics: set[str] = set()

    def topic(self, source: str, stream: str) -> str:
        return topic(source, stream, self._settings.kafka_topic_prefix)

    def _connection(self) -> dict[str, Any]:
        settings = self._settings
        context = None
        if settings.kafka_security_protocol == "SSL":
            context = ssl.create_default_context(cafile=settings.kafka_ssl_cafile)
            if settings.kafka_ssl_certfile is not None:
                context.load_cert_chain(settings.kafka_ssl_certfile, settings.kafka_ssl_keyfile)
        return {
            "bootstrap_servers": settings.kafka_bootstrap_servers,
            "security_protocol": settings.kafka_security_protocol,
            "ssl_context": context,
            "client_id": f"maillon-{settings.service}",
            "request_timeout_ms": int(TIMEOUT * 1000),
        }

    async def send(self, to: str, records: Sequence[Record]) -> None:
        """Send records in order and wait until the broker holds them all (acks=all). Raises BusError; then nothing may be assumed of any of them.

        After an error the producer is to be dropped, by whoever knows that nothing else is being sent through it.
        """
        try:
            async with asyncio.timeout(TIMEOUT):
                async with self._making:
                    producer = await self._ready_producer(to)
                acknowledged = [await producer.send_batch(batch, to, partition=PARTITION) for batch in _batches(producer, records)]
                await asyncio.gather(*acknowledged)
        except (KafkaError, OSError, TimeoutError) as error:
            raise BusError(f"{type(error).__name__} on {to}") from error

    async def _ready_producer(self, to: str) -> AIOKafkaProducer:
        if self._producer is None:
            producer = AIOKafkaProducer(**self._connection(), acks="all", enable_idempotence=True, linger_ms=0, max_batch_size=256 * 1024)
            try:
                await producer.start()
            except BaseException:
                await stop_client(producer)
                raise
            self._producer = producer
            self._topics.clear()
        if to not in self._topics:
            await self.ensure_topics([to])
            self._topics.add(to)
        return self._producer

    async def drop_producer(self) -> None:
        """Let the producer go; the next `send` makes another."""
        producer, self._producer = self._producer, None
        if producer is not None:
            await stop_client(producer)

    async def ensure_topics(self, topics: Collection[str]) -> None:
        """Create topics of one partition where the broker lets us; the embedded broker has no admin API and makes them on first use."""
        if not self._settings.kafka_create_topics:
            return
        admin = AIOKafkaAdminClient(**{name: value for name, value in self._connection().items() if name != "request_timeout_ms"})
        try:
            await admin.start()
            known = set(await admin.list_topics())
            missing = [self._new_topic(name) for name in topics if name not in known]
            if missing:
                response = await admin.create_topics(missing)
                for name, code, *_ in response.topic_errors:
                    if code not in (0, TopicAlreadyExistsError.errno):
                        raise BusError(f"topic {name} could not be created: error {code}")
        finally:
            await bounded(admin.close(), 3)

    def _new_topic(self, name: str) -> NewTopic:
        factor = self._settings.kafka_replication_factor
        topic = NewTopic(
            name=name,
            num_partitions=1,
            replication_factor=max(factor, 1),
            topic_configs={"retention.ms": str(self._settings.retention_days * 86_400_000)},
        )
        topic.replication_factor = factor  # its constructor refuses -1, by which Kafka (2.4 and later) means the broker's own default
        return topic

    def consumer(self, *, group: str | None, **options: Any) -> AIOKafkaConsumer:
        """A consumer that commits only what it is told to; not started."""
        return AIOKafkaConsumer(
            **self._connection(),
            group_id=group,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            fetch_max_wait_ms=self._settings.kafka_fetch_max_wait_ms,
            **options,
        )

    async def last_record(self, source: str, stream: str) -> Record | None:
        """The newest event on a topic, `None` when the topic is empty or absent. Raises BusError.

        Behind what is none of ours it is looked for, further and further back: one stray message must not pass for an empty topic. `None`, and an error in the
        log, when the last messages (`LOOK_BACK`) are all foreign.
        """
        consumer = self.consumer(group=None)
        name = self.topic(source, stream)
        place = TopicPartition(name, PARTITION)
        try:
            async with asyncio.timeout(TIMEOUT):
                await consumer.start()
                if name not in await consumer.topics():
                    return None
                consumer.assign([place])
                end = (await consumer.end_offsets([place]))[place]
                begin = (await consumer.beginning_offsets([place]))[place]
                for back in LOOK_BACK:
                    first = max(begin, end - back)
                    found = await _last_of_ours(consumer, place, stream, first, end)
                    if found is not None or first == begin:
                        return found
                    _log.error("bus.foreign_message", topic=name, messages=back)
                return None
        except (KafkaError, OSError, TimeoutError) as error:
            raise BusError(f"{type(error).__name__} on {name}") from error
        finally:
            await stop_client(consumer)

    async def close(self) -> None:
        await self.drop_producer()


async def _last_of_ours(consumer: AIOKafkaConsumer, place: TopicPartition, stream: str, first: int, end: int) -> Record | None:
    """Of the messages from an offset on, before another."""
    last = None
    consumer.seek(place, first)
    while await consumer.position(place) < end:
        for message in (await consumer.getmany(place, timeout_ms=500)).get(place, ()):
            try:
                last = record_of(stream, message.headers, message.value)
            except (ValueError, KeyError):
                continue
    return last


async def stop_client(client: AIOKafkaProducer | AIOKafkaConsumer, seconds: float = 3) -> None:
    """Stop a client within a bounded time, whatever it does: with idempotence on, `stop()` waits for ever while the broker is down."""
    if wrong := await bounded(client.stop(), seconds):
        _log.info("bus.client_abandoned", error=wrong)
