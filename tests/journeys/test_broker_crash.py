"""Apache Kafka forgets what it had acknowledged: the power failed before the last events were on its disk."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from libs.chassis.consumer import Consumer
from libs.chassis.streams import INTERNAL, topic
from libs.contracts import demonstration as d
from tests.journeys.house import House, house
from tests.journeys.posts import heard_all, looked, state_is
from tests.journeys.territory import register_territory
from tests.planted import seen_red
from tests.proof.standing import Kafka
from tests.waiting import until

pytestmark = pytest.mark.kafka


@pytest.fixture
async def kafka(on_kafka: bool, tmp_path: Path) -> AsyncIterator[Kafka]:
    """A broker of its own: no other test may lose anything."""
    if not on_kafka:
        pytest.skip("needs Apache Kafka")
    own = Kafka(tmp_path / "kafka")
    await own.start()
    yield own
    await asyncio.to_thread(own.stop)


@pytest.fixture
async def two(database_url: Callable[[str | None], str], kafka: Kafka) -> AsyncIterator[House]:
    async with house(database_url, kafka.address, True, "partners", "referrals") as made:
        yield made


async def _said(up: House) -> bool:
    """Whether the broker has acknowledged all that was said, the newest too."""
    [head] = await up["partners"].rows(
        "SELECT sequence, sent_sequence, (SELECT count(*) FROM outbox) AS waiting FROM streams WHERE stream = 'internal'"
    )
    return bool(head.waiting == 0 and head.sequence == head.sent_sequence)


async def _loses_its_last(kafka: Kafka, up: House) -> None:
    await kafka.kill()
    kafka.cut(topic("partners", INTERNAL, up.settings["kafka_topic_prefix"]))
    await kafka.start()


async def test_what_the_broker_acknowledged_and_lost_is_heard_without_a_later_event(two: House, kafka: Kafka) -> None:
    await register_territory(two["partners"])
    await until(lambda: heard_all(two))
    await two.stop("referrals")
    await two["partners"].post("coordinator-95", f"/v1/posts/{d.POST_CERGY}/vacate", version=1)
    await until(lambda: _said(two))
    await _loses_its_last(kafka, two)

    await two.start("referrals")

    await looked(two)
    assert await state_is(two, d.POST_CERGY, "vacant"), "what the broker lost stayed lost"
    assert await heard_all(two)


async def test_a_listener_ahead_of_a_broker_that_lost_its_last_events_misses_none_of_the_next(two: House, kafka: Kafka) -> None:
    """Its offset lies beyond the end of the topic, and the next events take the numbers of the lost ones."""
    await register_territory(two["partners"])
    await two["partners"].post("coordinator-95", f"/v1/posts/{d.POST_CERGY}/vacate", version=1)
    await until(lambda: heard_all(two))
    await until(lambda: _said(two))
    await _loses_its_last(kafka, two)

    for post, action, version in ((d.POST_SARCELLES, "vacate", 1), (d.POST_CERGY, "fill", 2), (d.POST_CERGY, "vacate", 3)):
        await two["partners"].post("coordinator-95", f"/v1/posts/{post}/{action}", version=version)

    await until(lambda: state_is(two, d.POST_SARCELLES, "vacant"))
    await until(lambda: heard_all(two))
    [parked] = await two["referrals"].rows("SELECT count(*) AS number FROM dead_letters")
    assert parked.number == 0


async def _not_at_all(*_: object, **__: object) -> bool:
    return False


async def test_planted_a_listener_that_asks_nobody_never_hears_what_the_broker_lost(
    two: House, kafka: Kafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Consumer, "catch_up", _not_at_all)

    await seen_red(
        test_what_the_broker_acknowledged_and_lost_is_heard_without_a_later_event(two, kafka), "what the broker lost stayed lost"
    )
