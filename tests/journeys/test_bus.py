"""What one service says reaches the others, whatever happens to the broker, the replicas and the events on the way. Runs on Apache Kafka too."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
import trustme
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from libs.chassis import purging, streams
from libs.chassis.consumer import Consumer
from libs.chassis.feed import Feed
from libs.chassis.listener import Heard
from libs.chassis.projector import Projector
from libs.contracts import demonstration as d
from libs.contracts.partners import PostOpened
from libs.embedded.broker import Broker
from services.referrals import handlers
from tests.chassis.kafka_over_tls import certificate, tls, tls_broker
from tests.journeys.house import House, house
from tests.journeys.posts import (
    POSTS,
    copied_posts,
    equals,
    heard_all,
    looked,
    parked,
    state_is,
)
from tests.journeys.territory import register_territory
from tests.planted import seen_red
from tests.services.referrals.conftest import REFERRAL_BODY
from tests.waiting import until

pytestmark = pytest.mark.kafka
DatabaseUrl = Callable[[str | None], str]


@pytest.fixture
async def two(database_url: DatabaseUrl, bootstrap_servers: str, on_kafka: bool) -> AsyncIterator[House]:
    async with house(database_url, bootstrap_servers, on_kafka, "partners", "referrals") as made:
        yield made


async def test_what_partners_says_is_heard_by_referrals(two: House) -> None:
    await register_territory(two["partners"])

    await until(lambda: equals(copied_posts(two), POSTS))

    seen = {one.source: one for one in await two["referrals"].runtime.completeness()}
    assert seen["partners"].sequence == 3 + 4 + 4 + 3


async def test_what_partners_says_is_heard_by_referrals_over_tls_with_certificates(
    database_url: DatabaseUrl, on_kafka: bool, tmp_path: Path
) -> None:
    """By the broker alone: once referrals listens it has no feed to heal by."""
    if not on_kafka:
        pytest.skip("needs Apache Kafka: the embedded broker knows no TLS")
    authority = trustme.CA()
    ours = tls(certificate(tmp_path, "services", authority))
    with tls_broker(tmp_path, authority) as address:
        async with house(database_url, address, on_kafka, "partners", "referrals", **ours) as up:
            await until(lambda: equals(_connected(up), [True]))
            consumer = up["referrals"].runtime.consumer
            assert consumer is not None
            consumer.feed = Feed({}, up["referrals"].runtime.service_token)

            await test_what_partners_says_is_heard_by_referrals(up)


async def test_a_poison_event_is_parked_with_its_successors_the_others_go_on_and_a_replay_heals(
    two: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = handlers.LISTENER.sources[0].handles
    assert isinstance(table, dict)

    async def refuse_one(session: AsyncSession, heard: Heard[PostOpened]) -> None:
        if heard.event.post_id == d.POST_CERGY:
            raise ValueError("planted")
        await handlers.on_post_opened(session, heard)

    monkeypatch.setitem(table, PostOpened, refuse_one)
    await register_territory(two["partners"])
    await two["partners"].post("coordinator-95", f"/v1/posts/{d.POST_CERGY}/vacate", version=1)
    await until(lambda: equals(copied_posts(two), POSTS - {d.POST_CERGY}))
    held = await until(lambda: parked(two, 2))
    assert [(one["type"], one["cause"]) for one in held] == [
        ("fr.maillon.post.opened.v1", "failed"),
        ("fr.maillon.post.vacant.v1", "follows"),
    ]
    refused = await two["referrals"].post("administrator", f"/v1/dead-letters/{held[0]['id']}/replay")
    assert refused.status_code == 409
    assert "parked:partners" in str((await two["referrals"].client.get("/readyz")).json())

    monkeypatch.undo()
    healed = await two["referrals"].post("administrator", f"/v1/dead-letters/{held[0]['id']}/replay")

    assert len(healed.json()["replayed"]) == 2
    [row] = await two["referrals"].rows(f"SELECT state FROM posts_heard WHERE id = '{d.POST_CERGY}'")
    assert row.state == "vacant"


async def test_two_replicas_run_one_is_stopped_and_nothing_is_lost(two: House) -> None:
    await two.start("partners", "referrals")
    await register_territory(two["partners"])
    await until(lambda: equals(copied_posts(two), POSTS))

    await two.stop("partners")
    await two.stop("referrals")
    for post in d.POSTS[:3]:
        answer = await two["partners"].post("coordinator-95", f"/v1/posts/{post.id}/vacate", version=1)
        assert answer.status_code == 200, answer.text

    await until(lambda: _states(two, {"vacant"}))


async def test_two_replicas_of_a_listener_share_its_sources_or_take_turns(two: House, bootstrap_servers: str, on_kafka: bool) -> None:
    """As members of one group on Apache Kafka, each with a source of its own; the embedded broker knows no sharing (decision record 6)."""
    await two.start("referrals")

    if on_kafka:
        group = f"{two.settings['kafka_topic_prefix']}.referrals"
        assert await until(lambda: equals(_sources_by_member(bootstrap_servers, group), [1, 1]))
    else:
        assert await until(lambda: equals(_connected(two), [False, True]))


async def _connected(up: House) -> list[bool]:
    consumers = [replica.runtime.consumer for replica, _ in up._running["referrals"]]
    return sorted(consumer is not None and consumer._kafka_connected for consumer in consumers)


async def _sources_by_member(bootstrap_servers: str, group: str) -> list[int]:
    """How many topics each member of a consumer group was given."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap_servers)
    await admin.start()
    try:
        [said] = await admin.describe_consumer_groups([group])
        [(*_, members)] = [found[:6] for found in said.groups]
        return sorted(len(ConsumerProtocolMemberAssignment.decode(member[4]).assignment) for member in members if member[4])
    finally:
        await admin.close()


async def _states(up: House, wanted: set[str]) -> bool:
    return {row.state for row in await up["referrals"].rows("SELECT state FROM posts_heard")} == wanted


async def test_who_was_away_hears_everything_when_it_is_back(two: House) -> None:
    await two.stop("referrals")
    await register_territory(two["partners"])

    await two.start("referrals")

    await until(lambda: equals(copied_posts(two), POSTS))


async def test_a_listener_that_nobody_cancelled_listens_to_the_broker_again(two: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client of Kafka lets its own cancellation out when the broker dies while it is stopped: the feed went on alone, slower, for good."""
    listen, listened = Consumer._listen, 0

    async def cancelled_once(self: Consumer) -> None:
        nonlocal listened
        if self.listener is handlers.LISTENER:
            listened += 1
            if listened == 1:
                raise asyncio.CancelledError
        await listen(self)

    await two.stop("referrals")
    monkeypatch.setattr(Consumer, "_listen", cancelled_once)

    await two.start("referrals")

    def listening() -> bool:
        consumer = two["referrals"].runtime.consumer
        return consumer is not None and consumer._kafka_connected

    await until(listening)


async def test_without_a_broker_intake_answers_and_the_events_flow_when_it_comes(database_url: DatabaseUrl) -> None:
    broker = Broker()
    async with house(database_url, broker.bootstrap_servers, False, "partners", "referrals") as up:
        await register_territory(up["partners"])

        answer = await up["referrals"].post("police-95", "/v1/referrals", REFERRAL_BODY)
        assert answer.status_code == 201
        assert (await up["referrals"].client.get("/readyz")).status_code == 200
        await until(lambda: equals(copied_posts(up), POSTS))  # by the feed alone

        broker.start()
        try:
            await until(lambda: _all_sent(up))
        finally:
            broker.stop()


async def _all_sent(up: House) -> bool:
    rows = await up["referrals"].rows(f"SELECT 1 FROM streams WHERE sent_sequence < sequence AND stream !~ '{streams.WITHOUT_TOPIC}'")
    sent = await up["referrals"].rows("SELECT 1 FROM streams WHERE sent_sequence > 0")
    return not rows and bool(sent)


async def test_a_broker_that_forgot_everything_loses_nothing(database_url: DatabaseUrl) -> None:
    broker = Broker.started()
    try:
        async with house(database_url, broker.bootstrap_servers, False, "partners", "referrals") as up:
            await register_territory(up["partners"])
            await until(lambda: equals(copied_posts(up), POSTS))

            broker.restart()
            await up["partners"].post("coordinator-95", f"/v1/posts/{d.POST_CERGY}/vacate", version=1)
            await up["partners"].post("coordinator-95", f"/v1/posts/{d.POST_CERGY}/fill", version=2)

            await until(lambda: heard_all(up), seconds=60)
    finally:
        broker.stop()


async def test_who_was_away_longer_than_the_retention_lists_then_follows(two: House) -> None:
    await two.stop("referrals")
    await register_territory(two["partners"])
    await until(lambda: _sent(two))
    async with two["partners"].runtime.database.transaction() as session:
        await session.execute(text("UPDATE stream_events SET recorded_at = now() - interval '31 days'"))
        await purging.purge(session, keep_days=30, keep_audit_days=365)
        assert await session.scalar(text("SELECT count(*) FROM stream_events WHERE stream = 'internal'")) == 0
    two.settings["kafka_topic_prefix"] += "-elsewhere"  # the broker kept no longer either

    await two.start("referrals")
    await looked(two)
    assert await copied_posts(two) == POSTS, "what the feed no longer holds was missed"
    await two["partners"].post("coordinator-95", f"/v1/posts/{d.POST_CERGY}/vacate", version=1)

    await until(lambda: state_is(two, d.POST_CERGY, "vacant"))


async def test_planted_a_listener_that_begins_where_the_feed_begins_misses_what_is_gone(
    two: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def follow_only(*_: object, **__: object) -> bool:
        return False

    monkeypatch.setattr(Projector, "bootstrap", follow_only)

    await seen_red(test_who_was_away_longer_than_the_retention_lists_then_follows(two), "what the feed no longer holds was missed")


async def _sent(up: House) -> bool:
    rows = await up["partners"].rows("SELECT sequence, sent_sequence FROM streams WHERE stream = 'internal'")
    return bool(rows) and rows[0].sequence == rows[0].sent_sequence == 3 + 4 + 4 + 3


async def test_referrals_learns_from_partners_how_services_posts_units_and_communes_are_called(two: House) -> None:
    await register_territory(two["partners"])

    async def names() -> set[tuple[str, str]]:
        return {(row.kind, row.name) for row in await two["referrals"].rows("SELECT kind, name FROM directory_names")}

    wanted = {("services", one.name) for one in d.SERVICES if one.departement == "95"}
    wanted |= {("posts", one.name) for one in d.POSTS if one.departement == "95"}
    wanted |= {("units", one.name) for one in d.UNITS if one.departement == "95"} | {("communes", "Commune 95127")}
    await until(lambda: covers(names(), wanted))

    assert two["referrals"].runtime.heartbeats["names"].alive


async def covers(found: Awaitable[set[tuple[str, str]]], wanted: set[tuple[str, str]]) -> bool:
    return wanted <= await found
