"""The broker's ACLs, out of the tables of audiences: what they say, and on Apache Kafka what they let through."""

import asyncio
import shlex
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trustme
from sqlalchemy.ext.asyncio import AsyncSession
from typer.testing import CliRunner

from libs.chassis import streams
from libs.chassis.acls import acls, group_of, principals_of
from libs.chassis.bus import Bus, BusError
from libs.chassis.consumer import Consumer
from libs.chassis.database import Database
from libs.chassis.feed import Feed
from libs.chassis.kafka_cli import kafka_app
from libs.chassis.listener import Heard, Listener, Source
from libs.chassis.relay import send, stamp
from libs.chassis.security import ServiceToken
from libs.contracts.audiences import AUDIENCES
from libs.contracts.partners import UnitClosed
from libs.contracts.registry import SPEAKERS
from tests.chassis.kafka_over_tls import KAFKA, bus_of, certificate, tls, tls_broker
from tests.chassis.speaking import database as speaking_database
from tests.chassis.speaking import fact, say
from tests.waiting import ended, until

NAMES = ("partners", "reporting", "interior", "departement:95")


@pytest.mark.parametrize("stream", ["interior", "justice", "departement:95"])
def test_an_audience_reads_its_own_topics_of_whoever_tells_it_something_and_writes_none(stream: str) -> None:
    kind = stream.partition(":")[0]
    tellers = {name for name, events in SPEAKERS.items() if set(events) & set(AUDIENCES[kind].grants)}  # type: ignore[index]  # a kind
    topics, groups = acls([(stream, "User:x")])

    assert {topics.operations, groups.operations} == {("Read",)}
    assert (topics.pattern, set(topics.names)) == ("literal", {streams.topic(teller, stream) for teller in tellers})
    assert (groups.resource, groups.pattern, groups.names) == ("group", "prefixed", (f"{group_of(stream)}.",))


@pytest.mark.parametrize("service", SPEAKERS)
def test_a_service_writes_its_own_topics_and_of_the_others_reads_what_they_tell_services(service: str) -> None:
    own, others, group = acls([(service, "User:x")], prefix="net")

    assert (own.pattern, own.names) == ("prefixed", (f"net.{service}.",))
    assert set(others.names) == {streams.topic(name, "internal", "net") for name in SPEAKERS if name != service}
    assert "Write" not in others.operations
    assert group.names == (f"net.{service}",)


@pytest.mark.parametrize(
    "wrong",
    [
        ["organization:0198c7a0-0000-7000-8000-000000000001=User:x"],
        ["police:0198c7a0-0000-7000-8000-000000000001=User:x"],
        ["internal=User:x"],
        ["departement=User:x"],
        ["departement:00=User:x"],
        ["interior:95=User:x"],
        ["nobody=User:x"],
        ["interior"],
        ["interior=CN=x"],
        ["interior=User:"],
        ["interior=User:x\ny"],
        ["referrals=User:x", "interior=User:x"],
        ["interior=User:x", "referrals=User:x"],
    ],
)
def test_who_has_no_topic_of_its_own_is_refused_in_a_sentence(wrong: list[str]) -> None:
    with pytest.raises(ValueError, match=r"\.$"):
        acls(principals_of(wrong))

    refused = CliRunner().invoke(kafka_app, wrong)
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert refused.stderr.strip()


def test_the_command_writes_what_a_shell_runs_as_it_stands() -> None:
    """A certificate's name may hold anything printable."""
    written = CliRunner().invoke(kafka_app, ["interior=User:CN=x; rm -rf $HOME 'y',O=é"])
    removed = CliRunner().invoke(kafka_app, ["interior=User:x", "--remove"])

    first, *lines = written.stdout.splitlines()
    assert first == "set -eu"
    assert [shlex.split(line)[shlex.split(line).index("--allow-principal") + 1] for line in lines] == [
        "User:CN=x; rm -rf $HOME 'y',O=é"
    ] * 2
    assert removed.stdout.count("--remove --force") == 2


# On Apache Kafka


@dataclass(frozen=True)
class Guarded:
    """A broker whose authorizer refuses what no ACL allows."""

    address: str
    folder: Path
    authority: trustme.CA

    def bus(self, who: str, service: str = "partners") -> AbstractAsyncContextManager[Bus]:
        return bus_of(self.address, service, "maillon", **tls(certificate(self.folder, who, self.authority)))

    def add(self, options: Sequence[str]) -> None:
        admin = self.folder / "admin.properties"
        own = certificate(self.folder, "broker", self.authority)
        admin.write_text(
            f"security.protocol=SSL\nssl.keystore.type=PEM\nssl.keystore.location={own['both']}\nssl.truststore.type=PEM\nssl.truststore.location={own['ca']}\n"
        )
        where = ["--bootstrap-server", self.address, "--command-config", str(admin)]
        subprocess.run([KAFKA, "acls", *where, "--add", *options], check=True, capture_output=True)


@pytest.fixture(scope="module")
def guarded(on_kafka: bool, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    if not on_kafka:
        pytest.skip("needs Apache Kafka")
    folder, authority = tmp_path_factory.mktemp("acls"), trustme.CA()
    rules = (
        "authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "ssl.principal.mapping.rules=RULE:^.*CN=([a-z0-9-]+).*$/$1/",
        "super.users=User:broker;User:ANONYMOUS",  # the controller's own listener, on loopback
    )
    with tls_broker(folder, authority, *rules) as address:
        made = Guarded(address, folder, authority)
        for one in acls(principals_of(f"{name}=User:{name.replace(':', '-')}" for name in NAMES)):
            made.add(one.options())
        yield made


async def _reads(guarded: Guarded, who: str, stream: str) -> bool:
    async with guarded.bus(who) as bus:
        try:
            return await bus.last_record("partners", stream) is not None
        except BusError:
            return False


async def _told(guarded: Guarded, database: Database) -> set[str]:
    """One fact said and sent by the speaker under its ACLs; the streams that tell it."""
    await say(database, fact())
    connection = await database.connect()
    try:
        await stamp(connection)
        async with guarded.bus("partners") as bus:
            await send(connection, bus, "partners")
        return {row["stream"] for row in await connection.fetch("SELECT stream FROM streams WHERE sent_sequence > 0")}
    finally:
        await connection.close()


@pytest.mark.kafka
async def test_on_apache_kafka_each_certificate_reads_its_own_topics_and_no_other(guarded: Guarded, database_url: Any) -> None:
    database, heard = speaking_database(database_url(None)), asyncio.Event()

    async def hear(session: AsyncSession, one: Heard[UnitClosed]) -> None:
        heard.set()

    told = await _told(guarded, database)
    async with guarded.bus("reporting", "reporting") as bus:
        listener = Listener("proof", [Source("partners", handles={UnitClosed: hear})])
        no_feed = Feed({}, ServiceToken(bus._settings))
        consumer = Consumer(database, bus, no_feed, listener, group="maillon.reporting", share_group=True, park_limit=3, head_seconds=60)
        running = asyncio.create_task(consumer.run())
        await until(heard.is_set)
        await ended(running)
    await database.close()

    assert told == {"internal", "departement:95"}
    for who, may in (
        ("partners", told),
        ("reporting", {"internal"}),
        ("departement-95", {"departement:95"}),
        ("interior", set()),
        ("stranger", set()),
    ):
        assert {stream for stream in told if await _reads(guarded, who, stream)} == may, who


@pytest.mark.kafka
async def test_on_apache_kafka_a_certificate_that_is_allowed_too_much_is_seen_to_read_it(guarded: Guarded, database_url: Any) -> None:
    database = speaking_database(database_url(None))
    await _told(guarded, database)
    await database.close()

    assert not await _reads(guarded, "wide", "internal")
    guarded.add(["--allow-principal", "User:wide", "--operation", "Read", "--topic", "maillon.", "--resource-pattern-type", "prefixed"])
    assert await _reads(guarded, "wide", "internal")
