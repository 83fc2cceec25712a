"""Apache Kafka over TLS with client certificates made here: what we send arrives, and who has no certificate of ours does not get in."""

import asyncio
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme
from sqlalchemy.ext.asyncio import AsyncSession

from libs.chassis.bus import Bus, BusError
from libs.chassis.consumer import Consumer
from libs.chassis.database import Database
from libs.chassis.feed import Feed
from libs.chassis.listener import Heard, Listener, Source
from libs.chassis.relay import send, stamp
from libs.chassis.security import ServiceToken
from libs.contracts.partners import UnitClosed
from tests.chassis.kafka_over_tls import bus_of, certificate, tls, tls_broker
from tests.chassis.speaking import database as speaking_database
from tests.chassis.speaking import fact, say
from tests.planted import seen_red
from tests.waiting import ended, until

pytestmark = pytest.mark.kafka


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def broker(on_kafka: bool, authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """In the Apache Kafka lane: the embedded broker knows no TLS."""
    if not on_kafka:
        pytest.skip("needs Apache Kafka")
    with tls_broker(tmp_path_factory.mktemp("tls"), authority) as address:
        yield address


async def _spoken(database: Database, bus: Bus) -> str | None:
    """Says one fact and sends it; the id under which the topic holds it, read back by another consumer."""
    await say(database, fact())
    connection = await database.connect()
    try:
        await stamp(connection)
        await send(connection, bus, "partners")
    finally:
        await connection.close()
    found = await bus.last_record("partners", "internal")
    return None if found is None else found.data.decode()


async def test_with_a_certificate_of_ours_events_are_sent_and_read(
    broker: str, authority: trustme.CA, tmp_path: Path, database_url: Any
) -> None:
    """By a consumer too, which has no feed to heal by: its speaker's API is away."""
    database, heard = speaking_database(database_url(None)), asyncio.Event()

    async def hear(session: AsyncSession, one: Heard[UnitClosed]) -> None:
        heard.set()

    async with bus_of(broker, **tls(certificate(tmp_path, "partners", authority))) as bus:
        assert await _spoken(database, bus)
        listener = Listener("proof", [Source("partners", handles={UnitClosed: hear})])
        no_feed = Feed({}, ServiceToken(bus._settings))
        group = bus._settings.kafka_topic_prefix
        consumer = Consumer(database, bus, no_feed, listener, group=group, share_group=True, park_limit=3, head_seconds=60)
        running = asyncio.create_task(consumer.run())
        await until(heard.is_set)
        await ended(running)
    await database.close()


@pytest.mark.parametrize("case", ["plain", "no certificate", "another authority's certificate", "a broker of another authority"])
async def test_nobody_else_gets_in(case: str, broker: str, authority: trustme.CA, tmp_path: Path) -> None:
    ours, other = certificate(tmp_path, "ours", authority), certificate(tmp_path, "other", trustme.CA())
    settings: dict[str, dict[str, str]] = {
        "plain": {},
        "no certificate": {"kafka_security_protocol": "SSL", "kafka_ssl_cafile": ours["ca"]},
        "another authority's certificate": tls(other) | {"kafka_ssl_cafile": ours["ca"]},
        "a broker of another authority": tls(ours) | {"kafka_ssl_cafile": other["ca"]},
    }
    async with bus_of(broker, **settings[case]) as bus:
        with pytest.raises(BusError):
            await bus.last_record("partners", "internal")


@pytest.mark.parametrize("case", ["no certificate", "another authority's certificate"])
async def test_planted_a_broker_that_asks_for_no_certificate_is_seen(
    case: str, on_kafka: bool, authority: trustme.CA, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    if not on_kafka:
        pytest.skip("needs Apache Kafka")
    with tls_broker(tmp_path_factory.mktemp("open"), authority, "ssl.client.auth=none") as careless:
        await seen_red(test_nobody_else_gets_in(case, careless, authority, tmp_path), "DID NOT RAISE")


async def test_planted_a_client_that_does_not_look_at_the_brokers_certificate_is_seen(
    broker: str, authority: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = ssl.create_default_context

    def trusting(**authorities: Any) -> ssl.SSLContext:
        context = make(**authorities)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        return context

    monkeypatch.setattr(ssl, "create_default_context", trusting)

    await seen_red(test_nobody_else_gets_in("a broker of another authority", broker, authority, tmp_path), "DID NOT RAISE")
