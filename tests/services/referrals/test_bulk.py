"""Many referrals in one request: a result for each line, bad lines and broken requests harm nobody, repeating does nothing twice."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from hashlib import sha256
from typing import Any, cast

import httpx
import pytest

from libs.chassis.gathering import Gathering
from libs.chassis.idempotency import Claim
from libs.chassis.rates import Rates
from services.referrals.receiving import bulk_api
from tests.services.referrals.conftest import Referrals

ADDRESS = "/v1/referrals/batch"
LONGEST = 4096


@pytest.fixture(autouse=True)
def _short_lines(referrals: Referrals) -> None:
    referrals.runtime.settings = referrals.runtime.settings.model_copy(update={"body_limit_bytes": LONGEST})


def line(referrals: Referrals, key: str, **changes: Any) -> bytes:
    return json.dumps({"key": key, "referral": referrals.body(**changes)}, default=str).encode() + b"\n"


async def send(referrals: Referrals, content: bytes | AsyncIterator[bytes], who: str = "police-95", **headers: str) -> httpx.Response:
    return await referrals.client.post(
        ADDRESS, content=content, headers=referrals.token(who) | {"Content-Type": "application/x-ndjson"} | headers
    )


def results(answer: httpx.Response) -> list[dict[str, Any]]:
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("application/x-ndjson")
    return [json.loads(one) for one in answer.content.splitlines()]


async def count(referrals: Referrals) -> int:
    return len(await referrals.rows("SELECT 1 FROM referrals"))


async def test_each_line_has_its_result_in_order(referrals: Referrals) -> None:
    sent = [line(referrals, f"k-{number}") for number in range(150)]

    said = results(await send(referrals, b"".join(sent)))

    assert [(one["line"], one["key"], one["outcome"]) for one in said] == [(number + 1, f"k-{number}", "created") for number in range(150)]
    statement = json.loads(said[7]["referral"]["receipt"]["statement"])
    assert statement["sha256"] == sha256(sent[7].rstrip(b"\n")).hexdigest()
    assert await count(referrals) == 150


async def test_sent_again_it_replays_and_does_only_what_was_missing(referrals: Referrals) -> None:
    sent = [line(referrals, f"k-{number}") for number in range(4)]
    first = results(await send(referrals, b"".join(sent[:2])))

    again = results(await send(referrals, b"".join(sent)))

    assert [one["outcome"] for one in again] == ["replayed", "replayed", "created", "created"]
    assert [one["referral"] for one in again[:2]] == [one["referral"] for one in first]
    assert await count(referrals) == 4


async def test_each_line_counts_as_a_request_and_what_is_beyond_the_rate_is_sent_again_later(referrals: Referrals) -> None:
    few = referrals.runtime.settings.model_copy(update={"rate_limit_requests": 3, "rate_limit_seconds": 600})
    state = cast(Any, referrals.client)._transport.app.state
    state.rates = Rates(few)
    sent = b"".join(line(referrals, f"k-{number}") for number in range(4))

    said = results(await send(referrals, sent))
    again = await send(referrals, sent)
    state.rates = Rates(few)
    later = results(await send(referrals, sent.partition(b"\n")[2]))

    assert [one["outcome"] for one in said] == ["created"] * 3
    assert again.status_code == 429
    assert 1 <= int(again.headers["retry-after"]) <= 600
    assert [one["outcome"] for one in later] == ["replayed", "replayed", "created"]


async def test_a_batch_leaves_a_share_of_the_rate_to_single_referrals_and_the_next_one_waits(referrals: Referrals) -> None:
    few = referrals.runtime.settings.model_copy(update={"rate_limit_requests": 20, "rate_limit_seconds": 600})
    cast(Any, referrals.client)._transport.app.state.rates = Rates(few)
    sent = b"".join(line(referrals, f"k-{number}") for number in range(20))

    said = results(await send(referrals, sent))
    again = await send(referrals, sent)
    single = await referrals.receive(urgency="immediate")

    assert [one["outcome"] for one in said] == ["created"] * 18
    assert again.status_code == 429
    assert 1 <= int(again.headers["retry-after"]) <= 600
    assert single is not None


async def test_bad_lines_are_refused_with_pointers_and_their_neighbours_are_created(referrals: Referrals) -> None:
    marker = "Zébulon"
    bad = line(referrals, "bad")
    wrong = json.loads(bad)
    wrong["referral"]["persons"][0]["identity"]["family_name"] = ""
    wrong["referral"][marker] = marker
    sent = [
        line(referrals, "a"),
        b"not json " + marker.encode() + b"\n",
        json.dumps(wrong).encode() + b"\n",
        b"\xff\xfe\n",
        b"[1]\n",
        b"[" * 2000 + b"\n",
        json.dumps({"key": marker, "referral": {}}).encode() + b"\n",
        b"\n",
        line(referrals, "b", occurred_at="2199-01-01T00:00:00Z"),
        line(referrals, "c"),
        line(referrals, "d", commune="78646", unit_id=None),
    ]

    answer = await send(referrals, b"".join(sent))
    said = results(answer)

    assert [(one["line"], one["outcome"]) for one in said] == [
        (1, "created"),
        *((number, "refused") for number in (2, 3, 4, 5, 6, 7)),
        (9, "refused"),
        (10, "created"),
        (11, "refused"),
    ]
    assert [one["problem"]["status"] for one in said if one["problem"]] == [400, 422, 400, 422, 400, 422, 422, 422]
    assert "/referral/persons/0/identity/family_name" in [error["pointer"] for error in said[2]["problem"]["errors"]]
    assert said[7]["problem"]["errors"][0]["pointer"] == "/referral/occurred_at"
    assert said[9]["problem"]["errors"][0]["pointer"] == "/referral/commune"
    assert marker not in answer.text
    assert await count(referrals) == 2


async def test_a_huge_line_is_passed_over(referrals: Referrals) -> None:
    async def content() -> AsyncIterator[bytes]:
        yield line(referrals, "a") + b'{"key": "huge", '
        for _ in range(50):
            yield b" " * LONGEST
        yield b"}\n" + line(referrals, "b")

    said = results(await send(referrals, content()))

    assert [(one["line"], one["key"], one["outcome"]) for one in said] == [(1, "a", "created"), (2, None, "refused"), (3, "b", "created")]
    assert said[1]["problem"]["status"] == 413


async def test_lines_that_come_byte_by_byte_are_read(referrals: Referrals) -> None:
    whole = line(referrals, "a") + line(referrals, "b").rstrip(b"\n")

    async def content() -> AsyncIterator[bytes]:
        for first in range(0, len(whole), 7):
            yield whole[first : first + 7]

    assert [one["outcome"] for one in results(await send(referrals, content()))] == ["created", "created"]


async def test_a_request_broken_off_in_the_middle_keeps_its_whole_lines_and_is_resumed(referrals: Referrals) -> None:
    sent = [line(referrals, f"k-{number}") for number in range(3)]
    messages = [
        {"type": "http.request", "body": sent[0] + sent[1][:200], "more_body": True},
        {"type": "http.request", "body": sent[1][200:] + sent[2][:-3], "more_body": True},
        {"type": "http.disconnect"},
    ]
    told: list[Any] = []

    async def receive() -> Any:
        return messages.pop(0)

    async def tell(message: Any) -> None:
        told.append(message)

    headers = referrals.token("police-95") | {"content-type": "application/x-ndjson"}
    scope = {
        "type": "http",
        "method": "POST",
        "path": ADDRESS,
        "raw_path": ADDRESS.encode(),
        "query_string": b"",
        "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
        "client": ("127.0.0.1", 1),
        "server": ("referrals", 80),
        "scheme": "http",
        "http_version": "1.1",
        "root_path": "",
    }
    app = referrals.client._transport.app  # type: ignore[attr-defined]  # httpx.ASGITransport's
    await app(scope, receive, tell)

    assert b"".join(one.get("body", b"") for one in told).count(b'"created"') == 2
    assert await count(referrals) == 2
    assert [one["outcome"] for one in results(await send(referrals, b"".join(sent)))] == ["replayed", "replayed", "created"]


async def test_a_key_given_to_two_lines_is_one_referral_or_a_refusal(referrals: Referrals) -> None:
    one, other = line(referrals, "k"), line(referrals, "k")

    said = results(await send(referrals, one + one + other))

    assert [result["outcome"] for result in said] == ["created", "replayed", "refused"]
    assert said[2]["problem"]["type"].endswith("idempotency-key-reused")
    assert await count(referrals) == 1


async def test_a_person_of_many_lines_returns_in_all_but_the_first(referrals: Referrals, monkeypatch: pytest.MonkeyPatch) -> None:
    """Why the parts of a request are written one after the other: of two at once, neither would know the other's persons (docs/decisions/0011)."""
    monkeypatch.setattr(bulk_api, "_AT_ONCE", 16)  # as many as are worth a second transaction

    results(await send(referrals, b"".join(line(referrals, f"k-{number}") for number in range(64))))

    said = [one for type, one in await referrals.said() if type == "referral.received"]
    assert [one["persons"][0]["returning"] for one in said] == [False] + [True] * 63


async def test_a_reference_taken_names_the_first_referral(referrals: Referrals) -> None:
    said = results(await send(referrals, line(referrals, "a", external_reference="same") + line(referrals, "b", external_reference="same")))

    assert [one["outcome"] for one in said] == ["created", "refused"]
    assert said[1]["problem"]["referral_id"] == said[0]["referral"]["id"]


async def test_the_answer_ends_where_the_database_went_away(referrals: Referrals, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk_api, "_AT_ONCE", 2)
    each = Gathering.each

    async def away(self: Gathering[Any], asked: Sequence[tuple[Claim, Any]]) -> list[Any]:
        outcomes = await each(self, [one for one in asked if one[0].key != "k-3"])
        return outcomes if len(outcomes) == len(asked) else [*outcomes, ConnectionRefusedError()]

    monkeypatch.setattr(Gathering, "each", away)
    sent = b"".join(line(referrals, f"k-{number}") for number in range(8))

    said = results(await send(referrals, sent))

    assert [(one["key"], one["outcome"]) for one in said] == [
        ("k-0", "created"),
        ("k-1", "created"),
        ("k-2", "created"),
        ("k-3", "refused"),
    ]
    assert said[3]["problem"]["status"] == 503


@pytest.mark.parametrize("kind", ["application/json", "text/plain", "application/x-ndjson; charset=latin-1"])
async def test_anything_but_ndjson_is_refused(referrals: Referrals, kind: str) -> None:
    answer = await send(referrals, line(referrals, "a"), **{"Content-Type": kind})

    assert (answer.status_code, answer.json()["type"].rpartition("/")[2]) == (415, "not-ndjson")
    assert await count(referrals) == 0


async def test_another_role_may_not_send_lines(referrals: Referrals) -> None:
    assert (await send(referrals, line(referrals, "a"), who="iscg-95")).status_code == 403


async def test_the_documented_example_works(referrals: Referrals) -> None:
    content = referrals.openapi()["paths"][ADDRESS]["post"]["requestBody"]["content"]["application/x-ndjson"]

    assert [one["outcome"] for one in results(await send(referrals, content["examples"]["example-1"]["value"].encode()))] == ["created"]


async def test_a_line_whose_referral_is_wrong_is_told_with_its_key(referrals: Referrals) -> None:
    sent = line(referrals, "readable", commune="nowhere") + b'{"key":"bad key","referral":{}}\n' + b'{"key":7,"referral":{}}\n[]\n'

    said = results(await send(referrals, sent))

    assert [(one["key"], one["outcome"]) for one in said] == [
        ("readable", "refused"),
        (None, "refused"),
        (None, "refused"),
        (None, "refused"),
    ]


async def test_a_sender_that_never_ends_a_line_is_told_and_its_place_is_free(referrals: Referrals) -> None:
    referrals.runtime.settings = referrals.runtime.settings.model_copy(update={"body_timeout_seconds": 0.5})

    async def content() -> AsyncIterator[bytes]:
        yield line(referrals, "a") + line(referrals, "b")
        while True:
            await asyncio.sleep(0.05)
            yield b" "

    async with asyncio.timeout(60):
        said = results(await send(referrals, content()))

    assert [(one["line"], one["key"], one["outcome"]) for one in said] == [(1, "a", "created"), (2, "b", "created"), (3, None, "refused")]
    assert said[2]["problem"]["type"].endswith("/too-slow")
    assert said[2]["problem"]["status"] == 408
