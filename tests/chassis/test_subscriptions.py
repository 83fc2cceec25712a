"""Webhooks: every event of a stream, in order, from the cursor on, whatever the receiver, the replicas and the database do."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

import httpx
import pytest
from sqlalchemy import Row, text
from standardwebhooks import Webhook, WebhookVerificationError
from structlog.testing import capture_logs

from libs.chassis import deliveries, purging, streams, subscriptions
from libs.chassis.audit_api import ACCESS as AUDIT_ACCESS
from libs.chassis.deliveries import Deliverer, pause_after
from libs.chassis.security import Principal
from libs.chassis.subscriptions_api import ACCESS
from tests.chassis.openapi_examples import try_examples, without_example
from tests.chassis.receiving import Received, Receiver, answering, receiver
from tests.chassis.serving import Served, served
from tests.chassis.speaking import everything, fact, say, stamp_all
from tests.planted import seen_red
from tests.waiting import ended, until

ADDRESS = "/v1/subscriptions"


@pytest.fixture
async def house(database_url: Callable[[str | None], str]) -> AsyncIterator[Served]:
    async with served(database_url(None)) as house:
        yield house


@pytest.fixture
async def theirs() -> AsyncIterator[Receiver]:
    async with receiver() as made:
        yield made


async def told(house: Served, events: int) -> None:
    await say(house.speaker, *(fact() for _ in range(events)))
    await stamp_all(house.speaker)


async def subscribed(
    house: Served, theirs: Receiver, after: int | None = 0, who: str = "referrals", stream: str = "internal"
) -> dict[str, Any]:
    body = {"stream": stream, "url": theirs.url()} | ({} if after is None else {"after": after})
    answer = await house.post(who, ADDRESS, body)
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


async def turn(house: Served, deliverer: Deliverer | None = None) -> int:
    """One turn of the deliverer for each subscription that is due; how many there were."""
    deliverer = deliverer or Deliverer(house.runtime)
    claimed = await deliverer.claim(20)
    for one in claimed:
        await deliverer.deliver(one)
    return len(claimed)


async def seen(house: Served, made: dict[str, Any], who: str = "referrals") -> dict[str, Any]:
    answer = await house.get(who, f"{ADDRESS}/{made['id']}")
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def change(house: Served, statement: str) -> None:
    async with house.runtime.database.transaction() as session:
        await session.execute(text(statement))


async def due(house: Served) -> None:
    await change(house, "UPDATE subscriptions SET next_attempt_at = now()")


# Subscribing


async def test_the_secret_is_shown_once_and_stored_sealed(house: Served, theirs: Receiver) -> None:
    made = await subscribed(house, theirs)

    again = await seen(house, made)
    async with house.runtime.database.transaction() as session:
        row = (await session.execute(text("SELECT * FROM subscriptions"))).one()
        answers = list(await session.scalars(text("SELECT body FROM idempotency_keys")))
    assert made["secret"].startswith("whsec_")
    assert "secret" not in again
    assert made["secret"].encode() not in row.secret
    assert not any(made["secret"].encode() in bytes(answer) for answer in answers)


async def test_a_repeated_request_makes_one_subscription_and_shows_the_same_secret(house: Served, theirs: Receiver) -> None:
    body = {"stream": "internal", "url": theirs.url()}

    first = await house.post("referrals", ADDRESS, body, key="once")
    second = await house.post("referrals", ADDRESS, body, key="once")

    assert first.json() == second.json()
    assert second.headers["Idempotency-Replayed"] == "true"
    assert first.headers["Location"] == f"{ADDRESS}/{first.json()['id']}"
    assert len((await house.get("referrals", ADDRESS)).json()["items"]) == 1


@pytest.mark.parametrize(
    ("who", "stream", "status"),
    [
        ("referrals", "internal", 201),
        ("coordinator-95", "departement:95", 201),
        ("interior", "interior", 201),
        ("coordinator-95", "departement:78", 404),
        ("coordinator-95", "internal", 404),
        ("interior", "justice", 404),
        ("auditor", "audit", 404),
        ("administrator", "internal", 404),
        ("police-95", "departement:95", 404),
        ("referrals", "Internal", 422),
        ("referrals", "nothing", 404),
    ],
)
async def test_a_client_subscribes_to_what_it_may_read_only(house: Served, theirs: Receiver, who: str, stream: str, status: int) -> None:
    answer = await house.post(who, ADDRESS, {"stream": stream, "url": theirs.url()})

    assert answer.status_code == status, answer.text


@pytest.mark.parametrize("url", ["http://recepteur.example/", "https://10.0.0.1/", "nonsense", "https://me:secret@recepteur.example/"])
async def test_an_address_that_cannot_be_is_refused_without_being_echoed(house: Served, url: str) -> None:
    answer = await house.post("referrals", ADDRESS, {"stream": "internal", "url": url})

    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"] == "/url"
    assert url not in answer.text


async def test_loopback_is_refused_in_production(database_url: Callable[[str | None], str], theirs: Receiver) -> None:
    production = {"environment": "production", "kafka_allow_plaintext": True, "http_allow_plaintext": True}
    async with served(database_url(None), **production) as house:
        answer = await house.post("referrals", ADDRESS, {"stream": "internal", "url": theirs.url()})

    assert answer.status_code == 422


@pytest.mark.parametrize(("after", "status"), [(None, 201), (0, 201), (3, 201), (4, 409), (-1, 422), ("1", 422)])
async def test_delivery_begins_now_or_after_a_number_that_exists(house: Served, theirs: Receiver, after: int | None, status: int) -> None:
    await told(house, 3)

    answer = await house.post("referrals", ADDRESS, {"stream": "internal", "url": theirs.url(), "after": after})

    assert answer.status_code == status, answer.text
    if status == 201:
        assert answer.json()["sequence"] == (3 if after is None else after)


async def test_what_is_no_longer_kept_cannot_be_the_beginning(house: Served, theirs: Receiver) -> None:
    await told(house, 3)
    await change(house, "UPDATE stream_events SET recorded_at = now() - interval '90 days' WHERE sequence <= 2")
    await change(house, "UPDATE streams SET sent_sequence = sequence")
    async with house.runtime.database.transaction() as session:
        await purging.purge(session, keep_days=30, keep_audit_days=30)

    refused = await house.post("referrals", ADDRESS, {"stream": "internal", "url": theirs.url(), "after": 1})

    assert (refused.status_code, refused.json()["errors"][0]["pointer"]) == (409, "/after")
    assert (await subscribed(house, theirs, after=2))["sequence"] == 2


async def test_nobody_sees_or_ends_another_clients_subscription(house: Served, theirs: Receiver) -> None:
    made = await subscribed(house, theirs)

    for who in ("funding", "coordinator-95"):
        assert (await house.get(who, f"{ADDRESS}/{made['id']}")).status_code == 404
        assert (await house.delete(who, f"{ADDRESS}/{made['id']}")).status_code == 404
        assert (await house.post(who, f"{ADDRESS}/{made['id']}/secret")).status_code == 404
        assert (await house.post(who, f"{ADDRESS}/{made['id']}/resume")).status_code == 404
        assert (await house.post(who, f"{ADDRESS}/{made['id']}/ping")).status_code == 404
        assert (await house.get(who, ADDRESS)).json()["items"] == []
    assert (await house.get("referrals", f"{ADDRESS}/{uuid4()}")).status_code == 404
    assert len((await house.get("referrals", ADDRESS)).json()["items"]) == 1


async def test_persons_at_one_desk_neither_see_nor_touch_each_others_subscriptions(house: Served, theirs: Receiver) -> None:
    made = await subscribed(house, theirs, who="coordinator-95@desk", stream="departement:95")

    for who in ("partner-78@desk", "coordinator-78@desk", "coordinator-95"):
        assert (await house.get(who, ADDRESS)).json()["items"] == []
        assert (await house.get(who, f"{ADDRESS}/{made['id']}")).status_code == 404
        assert (await house.post(who, f"{ADDRESS}/{made['id']}/secret")).status_code == 404
        assert (await house.delete(who, f"{ADDRESS}/{made['id']}")).status_code == 404

    assert [one["id"] for one in (await house.get("coordinator-95@desk", ADDRESS)).json()["items"]] == [made["id"]]
    assert (await house.post("coordinator-95@desk", f"{ADDRESS}/{made['id']}/secret")).json()["secret"] != made["secret"]


async def test_a_key_used_by_one_person_of_a_desk_tells_another_nothing(house: Served, theirs: Receiver) -> None:
    body = {"stream": "departement:78", "url": theirs.url()}
    made = await house.post("coordinator-78@desk", ADDRESS, body, key="the-same")

    other = await house.post("partner-95@desk", ADDRESS, body, key="the-same")
    again = await house.post("coordinator-78@desk", ADDRESS, body, key="the-same")

    assert (made.status_code, other.status_code) == (201, 404)
    assert again.json() == made.json()


async def test_an_administrator_ends_a_subscription_but_never_sees_its_secret(house: Served, theirs: Receiver) -> None:
    made = await subscribed(house, theirs)

    assert [one["id"] for one in (await house.get("administrator", ADDRESS)).json()["items"]] == [made["id"]]
    for operation in ("secret", "resume", "ping"):
        assert (await house.post("administrator", f"{ADDRESS}/{made['id']}/{operation}")).status_code == 404
    async with house.runtime.database.transaction() as session:
        assert await session.scalar(text("SELECT former_secret FROM subscriptions")) is None
    assert (await house.delete("administrator", f"{ADDRESS}/{made['id']}")).status_code == 204

    assert (await house.get("referrals", f"{ADDRESS}/{made['id']}")).status_code == 404


async def test_subscriptions_are_bounded_and_listed_by_pages(house: Served, theirs: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subscriptions, "MOST", 3)
    made = [(await subscribed(house, theirs))["id"] for _ in range(3)]

    refused = await house.post("referrals", ADDRESS, {"stream": "internal", "url": theirs.url()})
    first = await house.get("referrals", ADDRESS, limit=2)
    second = await house.get("referrals", ADDRESS, limit=2, cursor=first.json()["next"])

    assert (refused.status_code, refused.json()["type"].rpartition("/")[2]) == (409, "too-many-subscriptions")
    assert [one["id"] for one in first.json()["items"] + second.json()["items"]] == made
    assert second.json()["next"] is None


async def test_ending_a_subscription_destroys_its_secret(house: Served, theirs: Receiver) -> None:
    made = await subscribed(house, theirs)

    assert (await house.delete("referrals", f"{ADDRESS}/{made['id']}")).status_code == 204

    async with house.runtime.database.transaction() as session:
        assert await session.scalar(text("SELECT count(*) FROM vault_keys WHERE wrapped IS NOT NULL")) == 0
    assert (await house.delete("referrals", f"{ADDRESS}/{made['id']}")).status_code == 404


# Delivering


async def test_every_event_arrives_once_in_order_with_the_stored_bytes(house: Served, theirs: Receiver) -> None:
    made = await subscribed(house, theirs)
    await told(house, 5)

    await turn(house)

    stored = await everything(house.speaker)
    assert theirs.sequences == [1, 2, 3, 4, 5]
    assert [one.body for one in theirs.received] == [record.data for record in stored]
    assert [one.headers["ce-id"] for one in theirs.received] == [json.loads(record.attributes)["id"] for record in stored]
    for one in theirs.received:
        Webhook(made["secret"]).verify(one.body, one.headers)
    now = await seen(house, made)
    assert (now["sequence"], now["head_sequence"], now["status"], now["failures"]) == (5, 5, "active", 0)
    assert await turn(house) == 0


async def test_a_client_gets_its_own_stream_only(house: Served, theirs: Receiver) -> None:
    await subscribed(house, theirs, who="coordinator-95", stream="departement:95")
    await told(house, 2)

    await turn(house)

    assert theirs.sequences == [1, 2]


async def test_a_failed_event_is_tried_again_before_any_later_one(house: Served, theirs: Receiver) -> None:
    made = await subscribed(house, theirs)
    await told(house, 4)

    def fails_at_three(one: Received) -> bytes:
        return answering(500 if one.headers["ce-sequence"] == "3" and len(theirs.received) < 5 else 200)(one)

    theirs.answer = fails_at_three
    await turn(house)
    first = await seen(house, made)
    assert await turn(house) == 0  # not due yet
    await due(house)
    await turn(house)
    await due(house)
    await turn(house)

    assert theirs.sequences == [1, 2, 3, 3, 3, 4]
    assert (first["sequence"], first["failures"], first["last_failure"]) == (2, 1, "http-500")
    assert first["failing_since"] is not None
    now = await seen(house, made)
    assert (now["sequence"], now["failures"], now["failing_since"], now["last_failure"]) == (4, 0, None, None)
    assert len({one.headers["webhook-id"] for one in theirs.received if one.headers["ce-sequence"] == "3"}) == 1


def test_pauses_grow_to_an_hour_and_do_not_come_in_step() -> None:
    for failures in range(20):
        longest = min(3600, 2 ** (failures + 1))
        pauses = {pause_after(failures).total_seconds() for _ in range(50)}
        assert longest / 2 <= min(pauses)
        assert max(pauses) <= longest
        assert len(pauses) > 40
    assert pause_after(0, retry_after_seconds=600) == timedelta(seconds=600)


async def test_a_receiver_that_says_gone_is_left_alone(house: Served, theirs: Receiver) -> None:
    made = await subscribed(house, theirs)
    await told(house, 2)
    theirs.answer = answering(410)

    await turn(house)
    await due(house)

    assert await turn(house) == 0
    now = await seen(house, made)
    assert (now["status"], now["disabled_reason"], now["next_attempt_at"]) == ("disabled", "gone", None)


async def test_after_three_days_of_failures_it_is_disabled_and_resumes_from_its_cursor(house: Served, theirs: Receiver) -> None:
    made = await subscribed(house, theirs)
    await told(house, 3)
    theirs.answer = answering(503)
    await turn(house)
    await change(house, "UPDATE subscriptions SET failing_since = now() - interval '2 days 23 hours', next_attempt_at = now()")
    await turn(house)
    assert (await seen(house, made))["status"] == "active"
    await change(house, "UPDATE subscriptions SET failing_since = now() - interval '3 days', next_attempt_at = now()")
    await turn(house)
    disabled = await seen(house, made)
    theirs.answer, theirs.received = answering(200), []

    resumed = await house.post("referrals", f"{ADDRESS}/{made['id']}/resume")
    again = await house.post("referrals", f"{ADDRESS}/{made['id']}/resume")
    await turn(house)

    assert (disabled["status"], disabled["disabled_reason"]) == ("disabled", "failing")
    assert (resumed.status_code, again.status_code) == (200, 409)
    assert theirs.sequences == [1, 2, 3]


async def test_a_changed_secret_signs_beside_the_former_one_for_a_day(house: Served, theirs: Receiver) -> None:
    made = await subscribed(house, theirs)

    changed = (await house.post("referrals", f"{ADDRESS}/{made['id']}/secret")).json()
    await told(house, 1)
    await turn(house)
    await change(house, "UPDATE subscriptions SET former_secret_until = now() - interval '1 second'")
    await told(house, 1)
    await turn(house)

    both, alone = theirs.received
    assert changed["secret"] != made["secret"]
    for secret in (made["secret"], changed["secret"]):
        Webhook(secret).verify(both.body, both.headers)
    Webhook(changed["secret"]).verify(alone.body, alone.headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(made["secret"]).verify(alone.body, alone.headers)


async def test_a_test_message_arrives_at_once_and_moves_nothing(house: Served, theirs: Receiver) -> None:
    made = await subscribed(house, theirs)

    well = await house.post("referrals", f"{ADDRESS}/{made['id']}/ping")
    theirs.answer = answering(500)
    badly = await house.post("referrals", f"{ADDRESS}/{made['id']}/ping")

    one = theirs.received[0]
    Webhook(made["secret"]).verify(one.body, one.headers)
    assert one.headers["ce-type"] == "fr.maillon.subscription.ping.v1"
    assert "ce-sequence" not in one.headers
    assert (well.json(), badly.json()) == ({"delivered": True, "failure": None}, {"delivered": False, "failure": "http-500"})
    assert (await seen(house, made))["sequence"] == 0


# Replicas


async def test_two_replicas_share_the_subscriptions_and_send_nothing_twice(house: Served) -> None:
    async with receiver() as one, receiver() as two, receiver() as three:
        for theirs in (one, two, three):
            await subscribed(house, theirs)
        replicas = [asyncio.create_task(Deliverer(house.runtime).run()) for _ in range(2)]
        for _ in range(10):
            await told(house, 3)
            await asyncio.sleep(0.05)

        await until(lambda: all(len(theirs.received) >= 30 for theirs in (one, two, three)))
        for replica in replicas:
            await ended(replica)

        assert [theirs.sequences for theirs in (one, two, three)] == [list(range(1, 31))] * 3


async def test_a_replica_that_dies_leaves_its_work_to_the_other(house: Served, theirs: Receiver) -> None:
    await subscribed(house, theirs)
    await told(house, 2)
    dead, alive = Deliverer(house.runtime), Deliverer(house.runtime)
    assert len(await dead.claim(20)) == 1

    assert await turn(house, alive) == 0
    await change(house, "UPDATE subscriptions SET leased_until = now() - interval '1 second'")
    assert await turn(house, alive) == 1

    assert theirs.sequences == [1, 2]


async def test_a_replica_whose_lease_passed_on_stops_and_moves_nothing(house: Served, theirs: Receiver) -> None:
    made = await subscribed(house, theirs)
    await told(house, 3)
    slow, other = Deliverer(house.runtime), Deliverer(house.runtime)
    [claimed] = await slow.claim(20)
    await change(house, "UPDATE subscriptions SET leased_until = now() - interval '1 second'")
    await turn(house, other)
    assert (await seen(house, made))["sequence"] == 3

    await slow.deliver(claimed)

    assert theirs.sequences == [1, 2, 3, 1]  # what was under way may arrive again: at least once
    assert (await seen(house, made))["sequence"] == 3


async def test_a_stopped_replica_gives_its_leases_back(house: Served, theirs: Receiver) -> None:
    await subscribed(house, theirs)
    await told(house, 1)
    hanging = asyncio.Event()

    async def never(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        hanging.set()
        await asyncio.sleep(30)

    silent = await asyncio.start_server(never, "127.0.0.1", 0)
    port = silent.sockets[0].getsockname()[1]
    await change(house, f"UPDATE subscriptions SET url = 'http://127.0.0.1:{port}/'")
    replica = asyncio.create_task(Deliverer(house.runtime).run())
    await asyncio.wait_for(hanging.wait(), 60)

    await ended(replica)

    await change(house, f"UPDATE subscriptions SET url = '{theirs.url()}'")
    assert await turn(house) == 1
    silent.close()


async def test_many_slow_receivers_of_one_client_leave_places_for_the_others(house: Served, theirs: Receiver) -> None:
    async with receiver() as hanging:
        hanging.answer = lambda _: b"HTTP/1.1 200 OK\r\n"
        for _ in range(25):
            await subscribed(house, hanging, who="coordinator-95", stream="departement:95")
        await told(house, 3)
        await subscribed(house, theirs)
        replica = asyncio.create_task(Deliverer(house.runtime).run())

        await until(lambda: len(theirs.received) == 3, 5)

        assert len(hanging.received) <= deliveries.PLACES
        await ended(replica)


async def test_the_places_of_a_client_count_on_all_replicas_together(house: Served, theirs: Receiver) -> None:
    for _ in range(deliveries.PLACES + 3):
        await subscribed(house, theirs)
    await subscribed(house, theirs, who="coordinator-95", stream="departement:95")
    await told(house, 1)

    first, second = await Deliverer(house.runtime).claim(20), await Deliverer(house.runtime).claim(20)

    assert sorted(one.client_id for one in first) == ["coordinator-95"] + ["referrals"] * deliveries.PLACES
    assert second == []


async def test_who_has_no_place_yet_comes_before_who_has(house: Served, theirs: Receiver) -> None:
    for _ in range(3):
        await subscribed(house, theirs)
    await subscribed(house, theirs, who="coordinator-95", stream="departement:95")
    await told(house, 1)

    claimed = await Deliverer(house.runtime).claim(2)

    assert sorted(one.client_id for one in claimed) == ["coordinator-95", "referrals"]


async def test_a_turn_ends_in_time_and_whoever_waited_longest_is_next(
    house: Served, theirs: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deliveries, "TURN_SECONDS", 0.0)
    async with receiver() as other:
        first, second = await subscribed(house, theirs), await subscribed(house, other)
        await told(house, 3)
        deliverer, order = Deliverer(house.runtime), []
        for _ in range(4):
            [one] = await deliverer.claim(1)
            order.append(str(one.id))
            await deliverer.deliver(one)

        assert order == [first["id"], second["id"]] * 2
        assert theirs.sequences == other.sequences == [1, 2]


async def test_one_receiver_that_hangs_does_not_hold_the_others_back(house: Served, theirs: Receiver) -> None:
    async with receiver() as hanging:
        hanging.answer = lambda _: b"HTTP/1.1 200 OK\r\n"
        await subscribed(house, hanging)
        await subscribed(house, theirs)
        await told(house, 3)
        replica = asyncio.create_task(Deliverer(house.runtime).run())

        await until(lambda: len(theirs.received) == 3, 10)
        await until(lambda: len(hanging.received) == 1, 10)  # in turns of their own: who comes first is not said

        await ended(replica)


# The stream's own trouble


async def test_a_restored_stream_goes_on_from_the_last_number_that_holds(house: Served, theirs: Receiver) -> None:
    made = await subscribed(house, theirs)
    await told(house, 5)
    await turn(house)
    await change(house, "DELETE FROM stream_events WHERE sequence > 3")
    await change(
        house,
        "UPDATE streams s SET sequence = 3, digest = (SELECT digest FROM stream_events e WHERE e.stream = s.stream AND sequence = 3)",
    )
    async with house.runtime.database.transaction() as session:
        await streams.new_epoch(session, "restauration")
    await told(house, 2)

    await turn(house)

    assert theirs.sequences == [1, 2, 3, 4, 5, 4, 5]
    assert [one.headers["ce-epoch"] for one in theirs.received] == ["1"] * 5 + ["2"] * 2
    now = await seen(house, made)
    assert (now["epoch"], now["sequence"]) == (2, 5)


async def test_a_diverged_stream_is_not_delivered(house: Served, theirs: Receiver) -> None:
    await subscribed(house, theirs)
    await told(house, 1)
    async with house.runtime.database.transaction() as session:
        await streams.mark_diverged(session, "internal", "a test", epoch=1)

    assert await turn(house) == 0


async def test_events_no_longer_kept_disable_the_subscription(house: Served, theirs: Receiver) -> None:
    made = await subscribed(house, theirs)
    await told(house, 3)
    await change(house, "UPDATE stream_events SET recorded_at = now() - interval '90 days' WHERE sequence <= 2")
    await change(house, "UPDATE streams SET sent_sequence = sequence")
    async with house.runtime.database.transaction() as session:
        await purging.purge(session, keep_days=30, keep_audit_days=30)

    await turn(house)

    assert (await seen(house, made))["disabled_reason"] == "feed-too-old"
    resumed = await house.post("referrals", f"{ADDRESS}/{made['id']}/resume")
    assert (resumed.status_code, resumed.json()["type"].rpartition("/")[2]) == (409, "subscription-too-old")
    assert resumed.json()["oldest_sequence"] == 3
    assert (await seen(house, made))["status"] == "disabled"
    assert theirs.received == []


async def test_a_client_that_may_no_longer_read_the_stream_gets_nothing(house: Served, theirs: Receiver) -> None:
    made = await subscribed(house, theirs, who="coordinator-95", stream="departement:95")
    await told(house, 1)
    await change(house, "UPDATE subscriptions SET perimeter = '{departement:78}'")

    await turn(house)

    assert (await seen(house, made, "coordinator-95"))["disabled_reason"] == "not-entitled"
    assert theirs.received == []


async def test_who_lost_the_stream_operates_its_subscription_no_more_but_ends_it(house: Served, theirs: Receiver) -> None:
    body = {"stream": "departement:95", "url": theirs.url()}
    made = (await house.post("coordinator-95", ADDRESS, body, key="made")).json()
    await told(house, 2)
    narrow = house.token("coordinator-95", perimeter=["departement:78"])
    address = f"{ADDRESS}/{made['id']}"

    operated = [
        (await house.client.post(f"{address}/{operation}", headers=narrow | {"Idempotency-Key": operation})).status_code
        for operation in ("secret", "resume", "ping")
    ]
    repeated = await house.client.post(ADDRESS, json=body, headers=narrow | {"Idempotency-Key": "made"})
    told_of = (await house.client.get(address, headers=narrow)).json()

    assert operated == [404, 404, 404]
    assert (repeated.status_code, made["secret"] in repeated.text) == (404, False)
    assert (told_of["status"], told_of["disabled_reason"], told_of["head_sequence"]) == ("disabled", "not-entitled", 0)
    assert (await house.client.get(ADDRESS, headers=narrow)).json()["items"] == [told_of]
    assert theirs.received == []
    assert (await house.client.delete(address, headers=narrow)).status_code == 204


@pytest.mark.parametrize("asked", ["/v1/streams", "/v1/streams/departement:95/events", ADDRESS])
async def test_a_call_with_other_rights_ends_the_deliveries_they_do_not_cover(house: Served, theirs: Receiver, asked: str) -> None:
    made = await subscribed(house, theirs, who="coordinator-95", stream="departement:95")
    await told(house, 1)
    await turn(house)

    await house.client.get(asked, headers=house.token("coordinator-95", perimeter=["departement:78"]))
    await told(house, 1)
    assert await turn(house) == 0
    disabled = await seen(house, made, "coordinator-95")
    resumed = await house.post("coordinator-95", f"{ADDRESS}/{made['id']}/resume")
    await turn(house)

    assert (disabled["status"], disabled["disabled_reason"]) == ("disabled", "not-entitled")
    assert resumed.status_code == 200
    assert theirs.sequences == [1, 2]


async def test_a_turn_under_way_stops_when_the_right_is_lost(house: Served, theirs: Receiver) -> None:
    made = await subscribed(house, theirs, who="coordinator-95", stream="departement:95")
    await told(house, 3)
    deliverer = Deliverer(house.runtime)
    [claimed] = await deliverer.claim(20)
    await house.client.get(ADDRESS, headers=house.token("coordinator-95", perimeter=["departement:78"]))

    await deliverer.deliver(claimed)

    assert len(theirs.received) <= 1
    assert (await seen(house, made, "coordinator-95"))["sequence"] == 0


async def test_a_subscription_that_its_owner_does_not_renew_is_disabled_after_a_week(house: Served, theirs: Receiver) -> None:
    made = await subscribed(house, theirs)
    await change(house, "UPDATE subscriptions SET renewed_at = now() - interval '6 days 23 hours'")
    await told(house, 1)
    await turn(house)
    assert theirs.sequences == [1]
    await change(house, "UPDATE subscriptions SET renewed_at = now() - interval '7 days 1 second'")
    await told(house, 1)

    await turn(house)

    disabled = await seen(house, made)
    assert (disabled["status"], disabled["disabled_reason"]) == ("disabled", "expired")
    assert theirs.sequences == [1]
    assert (await house.post("referrals", f"{ADDRESS}/{made['id']}/resume")).json()["status"] == "active"
    await turn(house)
    assert theirs.sequences == [1, 2]


async def test_a_call_about_streams_renews_a_subscription_and_its_answer_says_until_when(house: Served, theirs: Receiver) -> None:
    made = await subscribed(house, theirs)
    await change(house, "UPDATE subscriptions SET renewed_at = now() - interval '6 days'")
    async with house.runtime.database.transaction() as session:
        before = await session.scalar(text("SELECT renewed_at FROM subscriptions"))

    await house.get("referrals", "/v1/streams")

    async with house.runtime.database.transaction() as session:
        after = await session.scalar(text("SELECT renewed_at FROM subscriptions"))
    assert after - before > timedelta(days=5, hours=23)
    assert datetime.fromisoformat((await seen(house, made))["expires_at"]) - after == timedelta(days=7)


async def test_a_secret_that_cannot_be_opened_is_a_failure_of_that_subscription_only(house: Served, theirs: Receiver) -> None:
    async with receiver() as other:
        made = await subscribed(house, other)
        await change(house, "UPDATE subscriptions SET secret = 'broken'")
        await subscribed(house, theirs)
        await told(house, 1)

        assert await turn(house) == 2

        assert (await seen(house, made))["last_failure"] == "secret-unreadable"
        assert theirs.sequences == [1]


async def test_the_log_of_a_failure_holds_neither_address_nor_secret_nor_data(house: Served, theirs: Receiver) -> None:
    made = await subscribed(house, theirs)
    await told(house, 1)
    theirs.answer = answering(500, body=b"Marqueur-Reponse")

    with capture_logs() as logs:
        await turn(house)

    said = json.dumps(logs, default=str)
    assert "http-500" in said
    assert made["id"] in said
    for hidden in ("127.0.0.1", str(theirs.port), made["secret"], "Marqueur-Reponse", theirs.received[0].body.decode()):
        assert hidden not in said


# Planted faults turn these proofs red


class MovesFirst(Deliverer):
    """Counts an event before it was sent."""

    async def _deliver(self, claimed: Row[Any], mine: dict[str, Any]) -> None:
        await self._move(mine, claimed.epoch, claimed.sequence + 1)
        await super()._deliver(claimed, mine)


async def test_planted_a_cursor_moved_before_the_delivery_loses_an_event(house: Served, theirs: Receiver) -> None:
    made = await subscribed(house, theirs)
    await told(house, 3)
    theirs.answer = answering(500)
    await turn(house, MovesFirst(house.runtime))
    theirs.answer, theirs.received = answering(200), []
    await due(house)

    await turn(house)

    assert theirs.sequences == [2, 3]
    assert (await seen(house, made))["sequence"] == 3


async def test_planted_a_claim_without_lease_delivers_twice(house: Served, theirs: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    await subscribed(house, theirs)
    await told(house, 2)
    weaker = str(deliveries._CLAIM).replace("(s.leased_until IS NULL OR s.leased_until < now())", "true")
    monkeypatch.setattr(deliveries, "_CLAIM", text(weaker))
    one, two = Deliverer(house.runtime), Deliverer(house.runtime)
    first, second = await one.claim(20), await two.claim(20)

    await one.deliver(first[0])
    await two.deliver(second[0])

    assert theirs.sequences.count(1) == 2


async def test_planted_a_claim_without_places_lets_one_client_take_them_all(
    house: Served, theirs: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    weaker = str(deliveries._CLAIM).replace("due.place <= :places", "(due.place <= :places OR true)")
    monkeypatch.setattr(deliveries, "_CLAIM", text(weaker))

    await seen_red(test_the_places_of_a_client_count_on_all_replicas_together(house, theirs), "3 more items")


async def test_planted_a_success_that_keeps_its_turn_is_always_first(
    house: Served, theirs: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    weaker = str(deliveries._MOVE).replace("next_attempt_at = now(), ", "")
    monkeypatch.setattr(deliveries, "_MOVE", text(weaker))

    await seen_red(test_a_turn_ends_in_time_and_whoever_waited_longest_is_next(house, theirs, monkeypatch), "At index 1 diff")


async def test_planted_persons_who_are_taken_for_their_client_touch_each_others_subscriptions(
    house: Served, theirs: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Principal, "owner", property(lambda self: self.client_id))

    await seen_red(test_persons_at_one_desk_neither_see_nor_touch_each_others_subscriptions(house, theirs), "departement:95")


async def test_planted_rights_that_are_not_renewed_deliver_what_may_no_longer_be_read(
    house: Served, theirs: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    weaker = str(subscriptions._RENEW).replace("WHERE owner = :owner", "WHERE false AND owner = :owner")
    monkeypatch.setattr(subscriptions, "_RENEW", text(weaker))

    await seen_red(test_a_call_with_other_rights_ends_the_deliveries_they_do_not_cover(house, theirs, ADDRESS), "1 == 0")


async def test_the_examples_of_the_documentation_work_as_they_stand(house: Served) -> None:
    document = (await house.client.get("/openapi.json")).json()
    mine = {*ACCESS, *AUDIT_ACCESS}

    failures = await try_examples(house.client, document, house.token, but=lambda example: example.operation not in mine)

    assert failures == []
    assert not mine & set(without_example(document))


async def test_an_unauthenticated_caller_is_refused(house: Served) -> None:
    answer: httpx.Response = await house.client.get(ADDRESS)

    assert answer.status_code == 401


# Who was given events is known


async def given(house: Served) -> list[Row[Any]]:
    async with house.runtime.database.transaction() as session:
        return list(
            await session.execute(
                text(
                    "SELECT stream, client_id, since_sequence, given_sequence, acknowledged_at, given_at, looked_at, xmin FROM stream_readers ORDER BY 1, 2"
                )
            )
        )


async def test_a_page_of_the_feed_notes_its_reader_and_how_far_it_was_handed_events(house: Served) -> None:
    await told(house, 5)

    await house.get("referrals", "/v1/streams/internal/events", after=1, limit=2)
    [first] = await given(house)
    await house.get("referrals", "/v1/streams/internal/events", after=3, limit=100)
    [second] = await given(house)

    assert (first.stream, first.client_id, first.since_sequence, first.given_sequence) == ("internal", "referrals", 1, 3)
    assert (second.since_sequence, second.given_sequence, second.acknowledged_at) == (1, 5, None)


async def test_an_empty_page_and_one_that_was_handed_out_before_write_once_an_hour_that_its_reader_looked(house: Served) -> None:
    async def looks_an_hour_later(after: int) -> Row[Any]:
        async with house.runtime.database.transaction() as session:
            await session.execute(
                text("UPDATE stream_readers SET looked_at = now() - interval '61 minutes', given_at = now() - interval '9 days'")
            )
        [before] = await given(house)
        for _ in range(2):
            await house.get("referrals", "/v1/streams/internal/events", after=after)
        [found] = await given(house)
        assert found.looked_at - before.looked_at > timedelta(hours=1)
        assert (found.given_at, found.given_sequence, found.since_sequence) == (
            before.given_at,
            before.given_sequence,
            before.since_sequence,
        )
        return found

    await told(house, 3)
    await house.get("referrals", "/v1/streams/internal/events", after=3)
    [nothing] = await given(house)
    await house.get("referrals", "/v1/streams/internal/events", after=0)
    before = await given(house)

    for after in (0, 1, 3):
        await house.get("referrals", "/v1/streams/internal/events", after=after)

    assert (nothing.given_at, nothing.given_sequence, nothing.acknowledged_at) == (None, None, None)
    assert nothing.looked_at is not None
    assert await given(house) == before
    again, empty = await looks_an_hour_later(0), await looks_an_hour_later(3)
    assert again.acknowledged_at is empty.acknowledged_at is None


async def test_a_reader_that_goes_back_was_given_all_from_there_on(house: Served) -> None:
    await told(house, 4)
    await house.get("referrals", "/v1/streams/internal/events", after=2)

    await house.get("referrals", "/v1/streams/internal/events", after=0, limit=1)

    [found] = await given(house)
    assert (found.since_sequence, found.given_sequence) == (0, 4)


async def test_pages_read_at_once_by_one_client_are_all_answered(house: Served) -> None:
    await told(house, 8)

    answers = await asyncio.gather(*(house.get("referrals", "/v1/streams/internal/events", after=after, limit=2) for after in range(7)))

    assert {one.status_code for one in answers} == {200}
    [found] = await given(house)
    assert (found.since_sequence, found.given_sequence) == (0, 8)


async def test_what_an_ended_subscription_was_given_stays_known(house: Served, theirs: Receiver) -> None:
    await told(house, 3)
    made = await subscribed(house, theirs, after=1)
    await turn(house)

    assert (await house.delete("referrals", f"{ADDRESS}/{made['id']}")).status_code == 204

    async with house.runtime.database.transaction() as session:
        [left] = await session.execute(text("SELECT stream, client_id, since_sequence, sequence FROM former_subscriptions"))
    assert tuple(left) == ("internal", "referrals", 1, 3)
