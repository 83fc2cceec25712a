"""The client: repeats that do no harm, refusals as exceptions, lists as iterators, streams proved while they are read."""

import json
from collections.abc import AsyncIterator, Callable
from typing import Any
from uuid import uuid4

import httpx
import pytest
from joserfc.jwk import ECKey
from sqlalchemy import text

from libs.chassis import purging, streams
from libs.chassis.signing import Signer
from libs.client import client as calls
from libs.client.client import (
    ChainBroken,
    Client,
    Credentials,
    Cursor,
    FeedTooOld,
    HistoryReplaced,
    Problem,
    TokenRefused,
    Unreachable,
    cursor_of,
)
from libs.embedded.issuer import create_app as create_issuer
from tests.chassis.receiving import Receiver, receiver
from tests.chassis.serving import Served, served
from tests.chassis.speaking import fact, say, stamp_all

Step = int | str | httpx.Response | type[Exception]


class Unsteady(httpx.AsyncBaseTransport):
    """Does to each request in turn what a step says, then lets all through: "through", "lost" (it took effect, the answer is lost), a status, an error."""

    def __init__(self, inner: httpx.AsyncBaseTransport, *steps: Step) -> None:
        self._inner = inner
        self.steps = list(steps)
        self.seen: list[httpx.Request] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.seen.append(request)
        step = self.steps.pop(0) if self.steps else "through"
        if isinstance(step, httpx.Response):
            return step
        if isinstance(step, int):
            return httpx.Response(step, request=request)
        if isinstance(step, type):
            raise step("a test")
        answer = await self._inner.handle_async_request(request)
        if step == "lost":
            await answer.aread()
            raise httpx.ReadTimeout("a test")
        return answer


@pytest.fixture
async def house(database_url: Callable[[str | None], str]) -> AsyncIterator[Served]:
    async with served(database_url(None)) as house:
        yield house


@pytest.fixture
async def theirs() -> AsyncIterator[Receiver]:
    async with receiver() as made:
        yield made


def caller(house: Served, *steps: Step, who: str = "referrals", token_steps: tuple[Step, ...] = ()) -> tuple[Client, Unsteady, Unsteady]:
    inner = house.client._transport
    way = Unsteady(inner, *steps)
    token_way = Unsteady(httpx.ASGITransport(create_issuer(house.issuer)), *token_steps)
    credentials = Credentials("http://issuer/token", who)
    client = Client("http://partners", credentials=credentials, pause_seconds=0.001, transport=way, token_transport=token_way)
    return client, way, token_way


async def told(house: Served, events: int) -> None:
    await say(house.speaker, *(fact() for _ in range(events)))
    await stamp_all(house.speaker)


async def change(house: Served, *statements: str) -> None:
    async with house.runtime.database.transaction() as session:
        for statement in statements:
            await session.execute(text(statement))


# Calls


async def test_one_token_serves_many_calls(house: Served) -> None:
    client, _, tokens = caller(house)

    async with client:
        for _ in range(3):
            await client.get("/v1/streams")

    assert len(tokens.seen) == 1


async def test_a_refused_token_is_renewed_once(house: Served) -> None:
    client, way, tokens = caller(house, 401)

    async with client:
        assert (await client.get("/v1/streams"))["items"]

    assert (len(way.seen), len(tokens.seen)) == (2, 2)


async def test_a_client_without_token_is_told_so(house: Served) -> None:
    client, _, _ = caller(house, who="nobody")

    async with client:
        with pytest.raises(TokenRefused, match="nobody"):
            await client.get("/v1/streams")


@pytest.mark.parametrize("step", ["lost", httpx.ConnectError, httpx.ReadError, httpx.RemoteProtocolError, 429, 502, 503, 504])
async def test_a_creation_that_must_be_sent_again_takes_effect_once(house: Served, theirs: Receiver, step: Step) -> None:
    client, way, _ = caller(house, step, step)

    async with client:
        made = await client.post("/v1/subscriptions", {"stream": "internal", "url": theirs.url()})
        every = [one["id"] async for one in client.pages("/v1/subscriptions")]

    assert every == [made["id"]]
    assert len({request.headers["Idempotency-Key"] for request in way.seen if request.method == "POST"}) == 1


async def test_planted_a_new_key_for_each_attempt_creates_twice(house: Served, theirs: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    client, _, _ = caller(house, "lost")
    send = Client._send

    async def forgetful(self: Client, method: str, path: str, params: Any, body: Any, content: Any, headers: Any) -> httpx.Response:
        return await send(
            self, method, path, params, body, content, {**headers, "Idempotency-Key": str(uuid4())} if method == "POST" else headers
        )

    monkeypatch.setattr(Client, "_send", forgetful)
    async with client:
        await client.post("/v1/subscriptions", {"stream": "internal", "url": theirs.url()})
        every = [one async for one in client.pages("/v1/subscriptions")]

    assert len(every) == 2


async def test_a_change_whose_answer_was_lost_is_not_repeated(house: Served) -> None:
    client, way, _ = caller(house, "lost")

    async with client:
        with pytest.raises(Unreachable, match="may have taken effect"):
            await client.put("/v1/units/1", {}, version=3)

    assert len(way.seen) == 1
    assert way.seen[0].headers["If-Match"] == '"3"'


async def test_it_gives_up_after_a_while(house: Served) -> None:
    client, way, _ = caller(house, *[503] * 20)

    async with client:
        with pytest.raises(Unreachable, match="503"):
            await client.get("/v1/streams")

    assert len(way.seen) == 6


async def test_a_refusal_is_an_exception_with_its_pointers(house: Served) -> None:
    client, way, _ = caller(house)

    async with client:
        with pytest.raises(Problem) as refused:
            await client.post("/v1/subscriptions", {"stream": "internal", "url": "nonsense"})

    assert (refused.value.status, refused.value.type, refused.value.errors[0]["pointer"]) == (422, "invalid", "/url")
    assert refused.value.instance.startswith("urn:uuid:")
    assert len(way.seen) == 1


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'"text"', b'{"errors":[1],"type":3}'])
async def test_a_refusal_that_is_no_problem_document_is_one_all_the_same(house: Served, body: bytes) -> None:
    client, _, _ = caller(house, httpx.Response(400, content=body))

    async with client:
        with pytest.raises(Problem) as refused:
            await client.get("/v1/streams")

    assert refused.value.status == 400
    assert refused.value.errors == []


async def test_a_list_is_read_to_its_end(house: Served, theirs: Receiver) -> None:
    client, way, _ = caller(house)

    async with client:
        made = [(await client.post("/v1/subscriptions", {"stream": "internal", "url": theirs.url()}))["id"] for _ in range(5)]
        read = [one["id"] async for one in client.pages("/v1/subscriptions", limit=2)]

    assert read == made
    assert sum(request.method == "GET" for request in way.seen) == 3


# Streams


async def followed(client: Client, cursor: Cursor | None = None) -> list[int]:
    return [record.sequence async for record in client.follow("internal", cursor or Cursor.start(), for_ever=False)]


async def test_a_stream_is_followed_to_its_signed_head(house: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "PAGE", 3)
    client, _, _ = caller(house, "through", httpx.ReadTimeout, 503)
    await told(house, 8)

    async with client:
        assert await followed(client) == list(range(1, 9))
        assert await followed(client, Cursor.at("1:5")) == [6, 7, 8]
        assert await followed(client, await client.now("internal")) == []
        with pytest.raises(Problem):
            await followed(client, Cursor.at("1:9"))


async def test_an_empty_stream_is_followed_too(house: Served) -> None:
    client, _, _ = caller(house)

    async with client:
        assert await followed(client) == []
        assert await followed(client, await client.now("internal")) == []


async def test_a_follower_waits_for_more_and_goes_on_where_it_was(house: Served) -> None:
    client, _, _ = caller(house)
    await told(house, 2)
    seen = []

    async with client:
        async for record in client.follow("internal", Cursor.start(), poll_seconds=0.01):
            seen.append(record.sequence)
            cursor = cursor_of(record)
            if record.sequence in {2, 4}:
                await told(house, 2)
            if record.sequence == 5:
                break
        assert await followed(client, cursor) == [6]

    assert seen == [1, 2, 3, 4, 5]


FORGERIES = {
    "an event is edited": ["UPDATE stream_events SET data = '{\"departement\":\"78\"}' WHERE stream = 'internal' AND sequence = 2"],
    "the last event is edited": ["UPDATE stream_events SET data = '{\"departement\":\"78\"}' WHERE stream = 'internal' AND sequence = 4"],
    "an event is missing": ["DELETE FROM stream_events WHERE stream = 'internal' AND sequence = 3"],
    "an event is relabelled": [
        "UPDATE stream_events SET attributes = convert_to(replace(convert_from(attributes, 'UTF8'), 'closed', 'opened'), 'UTF8')"
        " WHERE stream = 'internal' AND sequence = 1"
    ],
    "the head is another's": ["UPDATE streams SET digest = sha256('x') WHERE stream = 'internal'"],
}


@pytest.mark.parametrize("name", FORGERIES)
async def test_a_broken_chain_is_noticed_when(name: str, house: Served) -> None:
    client, _, _ = caller(house)
    await told(house, 4)
    await change(house, *FORGERIES[name])

    async with client:
        with pytest.raises(ChainBroken):
            await followed(client)


@pytest.mark.parametrize("member", ["digest", "sequence", "statement", "signature", "source"])
async def test_a_head_that_was_not_signed_so_is_refused(house: Served, member: str) -> None:
    await told(house, 1)
    client, _, _ = caller(house)
    async with client:
        head = await client.head("internal")
    forged = {**head, member: 7 if member == "sequence" else head[member].replace("a", "b").replace("1", "2")}
    client, _, _ = caller(house, httpx.Response(200, json=forged))

    async with client:
        with pytest.raises(ChainBroken):
            await client.head("internal")


async def test_planted_a_follower_that_looks_at_numbers_only_misses_an_edit(house: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    client, _, _ = caller(house)
    await told(house, 4)
    await change(house, *FORGERIES["an event is edited"])
    honest = calls._successor
    monkeypatch.setattr(calls, "_successor", lambda record, cursor: honest(record._replace(previous_digest=cursor.digest), cursor))
    monkeypatch.setattr(Client, "_check_head", _nothing)

    async with client:
        numbers: list[int] = []
        with pytest.raises(ChainBroken, match="signed head"):
            async for record in client.follow("internal", Cursor.start(), for_ever=False):
                numbers += [record.sequence]

    assert numbers == [1, 2, 3, 4]  # the forged event went by; only the head betrays it at the end


async def _nothing(*_: object) -> None:
    return None


async def test_a_new_signing_key_is_asked_for(house: Served) -> None:
    client, _, _ = caller(house)
    await told(house, 1)

    async with client:
        assert await followed(client) == [1]
        house.runtime.signer = Signer(ECKey.generate_key("P-256").as_dict(private=True), former=house.runtime.signer.public_jwks())
        assert await followed(client) == [1]


async def test_a_restored_source_says_where_to_go_back_to(house: Served) -> None:
    """To what the follower had read of it when the backup was made."""
    client, _, _ = caller(house)
    await told(house, 5)
    async with client:
        assert await followed(client) == [1, 2, 3, 4, 5]
        cursor = await client.now("internal")
        await change(
            house,
            "UPDATE stream_readers SET given_sequence = 3",
            "DELETE FROM stream_events WHERE sequence > 3",
            "UPDATE streams s SET sequence = 3, digest = (SELECT digest FROM stream_events e WHERE e.stream = s.stream AND sequence = 3)",
        )
        async with house.runtime.database.transaction() as session:
            await streams.new_epoch(session, "restauration")
        await told(house, 2)

        with pytest.raises(HistoryReplaced) as replaced:
            await followed(client, cursor)

        assert replaced.value.cursor.sequence == 3
        assert await followed(client, replaced.value.cursor) == [4, 5]


async def test_a_follower_away_for_too_long_is_told_where_the_feed_begins(house: Served) -> None:
    client, _, _ = caller(house)
    await told(house, 4)
    await change(
        house,
        "UPDATE stream_events SET recorded_at = now() - interval '90 days' WHERE sequence <= 2",
        "UPDATE streams SET sent_sequence = sequence",
    )
    async with house.runtime.database.transaction() as session:
        await purging.purge(session, keep_days=30, keep_audit_days=30)

    async with client:
        with pytest.raises(FeedTooOld) as old:
            await followed(client)
        assert old.value.oldest_sequence == 3
        assert await followed(client, Cursor.at("1:2")) == [3, 4]


async def test_what_follows_is_the_very_event(house: Served) -> None:
    client, _, _ = caller(house)
    await told(house, 1)

    async with client:
        [record] = [record async for record in client.follow("internal", Cursor.start(), for_ever=False)]

    async with house.runtime.database.transaction() as session:
        row = (await session.execute(text("SELECT attributes, data, digest FROM stream_events WHERE stream = 'internal'"))).one()
    assert (record.attributes, record.data, record.digest) == (bytes(row.attributes), bytes(row.data), bytes(row.digest))
    assert json.loads(record.data)["departement"] == "95"


@pytest.mark.parametrize("cursors", [["a", "a"], ["a", "b", "a"]])
async def test_a_list_whose_pages_go_in_circles_is_refused(cursors: list[str]) -> None:
    said = [
        httpx.Response(200, json={"items": [{}], "next": cursor}, request=httpx.Request("GET", "http://a.example")) for cursor in cursors
    ]
    way = Unsteady(httpx.MockTransport(lambda _: httpx.Response(500)), *said)

    async with Client("http://a.example", token="t", attempts=1, transport=way) as client:
        with pytest.raises(Unreachable, match="circles"):
            [one async for one in client.pages("/v1/subscriptions")]

    assert way.steps == []
