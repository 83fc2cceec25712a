"""Apache Kafka over TLS with client certificates made here: what we send arrives, and who has no certificate of ours does not get in."""

import asyncio
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import trustme
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from sqlalchemy.ext.asyncio import AsyncSession

from libs.chassis.bus import Bus, BusError
from libs.chassis.consumer import Consumer
from libs.chassis.database import Database
from libs.chassis.feed import Feed
from libs.chassis.listener import Heard, Listener, Source
from libs.chassis.relay import send, stamp
from libs.chassis.security import ServiceToken
from libs.contracts.partners import UnitClosed
from libs.embedded.broker import free_port
from tests.chassis.speaking import database as speaking_database
from tests.chassis.speaking import fact, say
from tests.settings import settings_for
from tests.waiting import ended, until

pytestmark = pytest.mark.kafka
KAFKA = Path(__file__).parents[2] / "deploy" / "kafka" / "kafka"


def _pem(folder: Path, name: str, authority: trustme.CA) -> dict[str, str]:
    """A certificate of that authority, in files as settings name them. (Kafka reads keys in PKCS #8 only.)"""
    made = authority.issue_cert("127.0.0.1", common_name=name)
    key = load_pem_private_key(made.private_key_pem.bytes(), None)
    chain = b"".join(one.bytes() for one in made.cert_chain_pems)
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    files = {"ca": authority.cert_pem.bytes(), "cert": chain, "key": private, "both": private + chain}
    for kind, content in files.items():
        (folder / f"{name}.{kind}.pem").write_bytes(content)
    return {kind: str(folder / f"{name}.{kind}.pem") for kind in files}


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def broker(on_kafka: bool, authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A broker of its own that speaks TLS only and wants a certificate. In the Apache Kafka lane: the embedded broker knows no TLS."""
    if not on_kafka:
        pytest.skip("needs Apache Kafka")
    folder = tmp_path_factory.mktemp("tls")
    own = _pem(folder, "broker", authority)
    properties = folder / "tls.properties"
    properties.write_text(
        f"ssl.keystore.type=PEM\nssl.keystore.location={own['both']}\nssl.truststore.type=PEM\nssl.truststore.location={own['ca']}\n"
        "ssl.client.auth=required\nssl.enabled.protocols=TLSv1.3\n"
    )
    where = ["--dir", str(folder / "kafka"), "--port", str(free_port()), "--protocol", "SSL", "--properties", str(properties)]
    started = subprocess.run([KAFKA, "start", *where], check=True, capture_output=True, text=True)
    yield started.stdout.strip()
    subprocess.run([KAFKA, "stop", "--dir", str(folder / "kafka")], check=True)


@asynccontextmanager
async def _bus(broker: str, **tls: Any) -> AsyncIterator[Bus]:
    made = Bus(
        settings_for(
            "partners",
            kafka_bootstrap_servers=broker,
            kafka_create_topics=True,
            kafka_topic_prefix=f"t{uuid4().hex[:12]}",
            **tls,
        )
    )
    try:
        yield made
    finally:
        await made.close()


def _tls(files: dict[str, str]) -> dict[str, str]:
    return {
        "kafka_security_protocol": "SSL",
        "kafka_ssl_cafile": files["ca"],
        "kafka_ssl_certfile": files["cert"],
        "kafka_ssl_keyfile": files["key"],
    }


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

    async with _bus(broker, **_tls(_pem(tmp_path, "partners", authority))) as bus:
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
    ours, other = _pem(tmp_path, "ours", authority), _pem(tmp_path, "other", trustme.CA())
    tls: dict[str, dict[str, str]] = {
        "plain": {},
        "no certificate": {"kafka_security_protocol": "SSL", "kafka_ssl_cafile": ours["ca"]},
        "another authority's certificate": _tls(other) | {"kafka_ssl_cafile": ours["ca"]},
        "a broker of another authority": _tls(ours) | {"kafka_ssl_cafile": other["ca"]},
    }
    async with _bus(broker, **tls[case]) as bus:
        with pytest.raises(BusError):
            await bus.last_record("partners", "internal")
