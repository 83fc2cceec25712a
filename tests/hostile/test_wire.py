"""Events off the wire and pages of feeds and lists: read whole, or refused as the reader documents (the table: tests/hostile/test_parsers.py)."""

import json
from contextlib import suppress
from itertools import pairwise
from typing import Any

import httpx
import pytest
from fastapi import Request
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import ValidationError

from libs.chassis import ndjson, streams
from libs.chassis.bus import headers_of, record_of
from libs.chassis.feed import Feed, FeedError, FeedPast, FeedReplaced
from libs.chassis.projector import heard_of
from libs.chassis.security import ServiceToken
from libs.chassis.streams import Place, Record
from libs.client.client import Cursor
from libs.contracts.registry import EVENTS
from libs.contracts.samples import sample_data
from tests.hostile.anything import JSON, shaped, some
from tests.settings import NOWHERE, settings_for

RECORD = Record(
    "internal",
    1,
    7,
    bytes(range(32)),
    streams.canonical(
        {
            "specversion": "1.0",
            "id": "018f",
            "source": "urn:maillon:partners",
            "type": "fr.maillon.unit.closed.v1",
            "subject": "units/é",
            "time": "2026-11-23T08:00:00.000000Z",
            "datacontenttype": "application/json",
        }
    ),
    '{"commune":"95127","note":"é"}'.encode(),
)
numbers = st.integers(-(2**70), 2**70).map(str) | st.sampled_from(["0", "1", " 1", "+1", "1_0", "١", "01", "1e3", "9" * 5000])
digests = st.sampled_from([bytes(32).hex(), "AB" * 32, "ab " * 32, "ab" * 31, "zz" * 32]) | st.text(max_size=5)
places = st.fixed_dictionaries({}, optional={"epoch": numbers, "sequence": numbers, "previousdigest": digests})


def holds(record: Record) -> None:
    """It can be stored, hashed, sent on, and read back the same."""
    assert 0 < record.epoch < 2**31
    assert 0 < record.sequence < 2**63
    assert len(record.digest) == 32
    assert record_of(record.stream, headers_of(record), record.data) == record
    json.loads(record.attributes)["subject"].encode()


@some
@given(
    changed=places,
    others=st.lists(st.tuples(st.text(max_size=9) | st.sampled_from(["ce_subject", "ce_x", "content-type"]), st.none() | st.binary(max_size=9)), max_size=3),
    without=st.sets(st.sampled_from([name for name, _ in headers_of(RECORD)]), max_size=1),
    value=st.none() | st.binary(max_size=20),
)  # fmt: skip
def test_a_message_from_the_bus(
    changed: dict[str, str], others: list[tuple[str, bytes | None]], without: set[str], value: bytes | None
) -> None:
    headers = dict(headers_of(RECORD)) | {f"ce_{name}": text.encode() for name, text in changed.items()}
    sent = [(name, content) for name, content in headers.items() if name not in without]
    try:
        record = record_of("internal", [*sent, *others], value)
    except (ValueError, KeyError):
        return
    holds(record)
    assert record.data == (value or b"")


@some
@given(
    changed=st.dictionaries(st.text(max_size=9) | st.sampled_from(sorted(json.loads(RECORD.attributes))), JSON, max_size=2),
    place=places | st.dictionaries(st.sampled_from(sorted(streams.PLACED)), JSON, max_size=1),
    data=JSON,
    without=st.sets(st.sampled_from(["subject", "data", "epoch", "datacontenttype"]), max_size=1),
)
def test_an_event_of_the_feed(changed: dict[str, Any], place: dict[str, Any], data: Any, without: set[str]) -> None:
    said = json.loads(RECORD.cloudevent())
    assert Record.of_cloudevent("internal", said) == RECORD

    given = said | {"data": data} | changed | place
    event = {name: value for name, value in given.items() if name not in without}
    try:
        record = Record.of_cloudevent("internal", event)
    except (ValueError, KeyError):
        return
    holds(record)
    assert Record.of_cloudevent("internal", json.loads(record.cloudevent())) == record


LAST_PAGE = httpx.Response(200, content=b'{"items":[]}')
HEAD = {"epoch": 1, "sequence": 7, "digest": "ab" * 32}
PROBLEMS = [
    {"type": "https://maillon.example/problems/feed-too-old", "oldest_sequence": 3, "last_sequence": 1},
    {"type": "https://maillon.example/problems/stream-diverged"},
    {"type": "https://maillon.example/problems/epoch-ended", "epoch": 2, "last_sequence": 5, "last_digest": "ab" * 32},
]


@st.composite
def damaged(draw: st.DrawFn, value: Any) -> Any:
    """A value with one part of it, at any depth, replaced by anything or gone."""
    if isinstance(value, dict) and value and draw(st.booleans()):
        name = draw(st.sampled_from(sorted(value)))
        rest = {other: kept for other, kept in value.items() if other != name}
        return rest if draw(st.integers(0, 4)) == 0 else rest | {name: draw(damaged(value[name]))}
    if isinstance(value, list) and value and draw(st.booleans()):
        return [draw(damaged(value[0]))]
    return value if draw(st.integers(0, 4)) == 0 else draw(JSON | st.integers(-5, 5))


def contents(*good: Any) -> st.SearchStrategy[bytes]:
    nested = [b"[" * 100_000, b'{"events":' * 50_000]
    return (
        st.binary(max_size=20) | st.sampled_from(nested) | st.sampled_from(good).flatmap(damaged).map(lambda one: json.dumps(one).encode())
    )


ATTRIBUTES = json.loads(RECORD.attributes) | {"recordedtime": "2026-11-23T08:00:00.000000Z"}


@some
@example(said=("fr.maillon.unit.closed.v1", sample_data("fr.maillon.unit.closed.v1")))
@given(said=st.sampled_from(sorted(EVENTS)).flatmap(lambda type: st.tuples(st.just(type), damaged(sample_data(type)))))
def test_a_fact_that_was_heard(said: tuple[str, Any]) -> None:
    type, data = said
    record = Record("internal", 1, 7, bytes(32), RECORD.attributes, json.dumps(data).encode())
    try:
        event = heard_of("partners", EVENTS[type], record, ATTRIBUTES).event
    except ValidationError:
        return
    assert EVENTS[type].model_validate_json(event.model_dump_json()) == event


SETTINGS = settings_for("referrals")
PAGE = {"events": [json.loads(RECORD.cloudevent())], "head": HEAD}


def feed_of(*answers: httpx.Response) -> Feed:
    """A feed that is answered so, one after the other, the last one for ever."""
    left = list(answers)

    def answer(_: httpx.Request) -> httpx.Response:
        one = left.pop(0) if len(left) > 1 else left[0]
        return httpx.Response(one.status_code, content=one.content, headers=one.headers)

    token = ServiceToken(
        SETTINGS,
        client=httpx.AsyncClient(transport=httpx.MockTransport(lambda _: httpx.Response(200, json={"access_token": "t"}))),
    )
    return Feed({"partners": NOWHERE}, token, transport=lambda _: httpx.MockTransport(answer))


def is_place(place: Place) -> bool:
    return type(place.epoch) is int and type(place.sequence) is int and place.epoch > 0 <= place.sequence and len(place.digest) == 32


@some
@example(status=200, content=json.dumps(PAGE).encode())
@given(status=st.sampled_from([200, 200, 401, 404, 409, 410, 500]), content=contents(PAGE, HEAD, *PROBLEMS))
async def test_a_page_of_the_feed(status: int, content: bytes) -> None:
    async with feed_of(httpx.Response(status, content=content)) as feed:
        found: Place | None = None
        head: Place | None = None
        valid: int | None = None
        records: list[Record] = []
        try:
            page = await feed.events("partners", "internal", Place(1, 0, bytes(32)))
        except FeedPast as past:
            valid = past.last_sequence
        except FeedError:
            pass
        except FeedReplaced as replaced:
            found = replaced.last
        else:
            found, records = page.head, page.records
        with suppress(FeedError, FeedPast, FeedReplaced):
            head = await feed.head("partners", "internal")
    for record in records:
        holds(record)
    assert found is None or is_place(found)
    assert valid is None or (type(valid) is int and valid >= 0)
    assert head is None or is_place(head)


@some
@example(position="1:7", content=b'{"items": [{}]}', digest=b'{"digest": "%b"}' % (b"ab" * 32), link=None)
@given(
    position=shaped(r"[0-9]{1,3}:[0-9]{1,20}").filter(lambda text: text.isascii() and text.isprintable()) | st.none(),
    content=contents({"items": [{}]}, HEAD, *PROBLEMS),
    digest=contents({"digest": "ab" * 32}),
    link=st.none() | st.text(max_size=9).map(lambda text: f'<{text}>; rel="next"').filter(str.isascii),
)
async def test_a_page_of_a_list(position: str | None, content: bytes, digest: bytes, link: str | None) -> None:
    headers = ({} if position is None else {"Stream-Position": position}) | ({} if link is None else {"Link": link})
    async with feed_of(*[httpx.Response(200, content=one, headers=headers) for one in (content, digest)], LAST_PAGE) as feed:
        listing = feed.listing("partners")
        try:
            items = [item async for item in listing.read("/v1/posts")]
        except (FeedError, FeedPast, FeedReplaced):
            return
    place = listing.position()
    assert all(isinstance(item, dict) for item in items)
    assert place is not None
    assert is_place(place)


@pytest.mark.parametrize("pages", [["/v1/posts"], ["/v1/posts?cursor=b", "/v1/posts"]])
async def test_a_list_whose_pages_go_in_circles_is_refused(pages: list[str]) -> None:
    position = {"Stream-Position": "1:1"}
    listed = [httpx.Response(200, content=b'{"items": [{}]}', headers=position | {"Link": f'<{page}>; rel="next"'}) for page in pages]
    digest = httpx.Response(200, content=b'{"digest": "%b"}' % (b"ab" * 32))

    async with feed_of(listed[0], digest, *listed[1:]) as feed:
        items = feed.listing("partners").read("/v1/posts")
        with pytest.raises(FeedError, match="circles"):
            for _ in range(10):
                await anext(items)


@some
@given(text=shaped(r"[0-9]{1,3}:[0-9]{1,20}"))
def test_a_stream_position(text: str) -> None:
    try:
        cursor = Cursor.at(text)
    except ValueError:
        return
    assert text == f"{cursor.epoch}:{cursor.sequence}"


@some
@given(body=st.binary(max_size=40) | st.text("a\n", max_size=40).map(str.encode), cuts=st.lists(st.integers(0, 40), max_size=5))
async def test_lines_are_the_same_however_they_come(body: bytes, cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), len(body)]
    parts = [body[begin:end] for begin, end in pairwise(edges)]
    messages = [{"type": "http.request", "body": part, "more_body": True} for part in parts] + [{"type": "http.request", "body": b""}]

    async def receive() -> Any:
        return messages.pop(0)

    found = [line async for some_lines in ndjson.lines(Request({"type": "http", "headers": []}, receive), 5, 60) for line in some_lines]

    whole = body.split(b"\n")
    expected = whole if whole[-1] else whole[:-1]
    assert [line if isinstance(line, bytes) else None for line in found] == [line if len(line) <= 5 else None for line in expected]
