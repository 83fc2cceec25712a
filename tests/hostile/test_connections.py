"""Many connections that want to be waited for, on a really served process: its memory is bounded, and others are answered meanwhile."""

import asyncio
import socket
import sys
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path

import httpx
import pytest

from libs.chassis.limits import MOST_WAITING
from tests.hostile.process import MB, Served, alive, serving, shows_memory
from tests.planted import seen_red
from tests.waiting import ended, until

pytestmark = shows_memory

MOST_GROWTH = 50 * MB
UNBOUNDED = "from libs.chassis import limits; limits.MOST_HEADERS = limits.MOST_HEADER_BYTES = 10**9; from libs.chassis.serve import main; "
UNBOUNDED += "from services.referrals.app import SERVICE; main(SERVICE, [])"
FLOOD = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


def sent_at_once(stack: ExitStack, served: Served, count: int, raw: bytes, room: int | None = None) -> list[socket.socket]:
    """So many connections that have sent the same, as far as it was taken. `room`: how much they take of an answer before it is read."""
    opened = [stack.enter_context(served.connect(room)) for _ in range(count)]
    more_of(opened, raw)
    return opened


def more_of(connections: list[socket.socket], raw: bytes) -> None:
    for connection in connections:
        with suppress(ConnectionError):  # refused while it was sent
            connection.sendall(raw)


def first_of(connection: socket.socket) -> bytes:
    """The line that an answer begins with; nothing when the connection is cut off."""
    try:
        return connection.recv(65_536).partition(b"\r\n")[0]
    except ConnectionError:
        return b""


async def asked(served: Served, who: str) -> httpx.Response:
    """The answer to a referral that is no JSON."""
    headers = {"Authorization": served.token(who), "Content-Type": "application/json", "Idempotency-Key": "k"}
    async with httpx.AsyncClient(base_url=served.url, timeout=120) as client:
        return await client.post("/v1/referrals", content=b"{", headers=headers)


async def status_of(served: Served, status: int) -> httpx.Response | None:
    """The answer to the fixture's own client, once it is this one."""
    answer = await asked(served, served.client_id)
    return answer if answer.status_code == status else None


async def has_public_status(served: Served, status: int) -> bool:
    async with httpx.AsyncClient(base_url=served.url, timeout=120) as client:
        return (await client.get("/v1/keys")).status_code == status


def all_of(connection: socket.socket) -> bytes:
    """What is answered until the other side ends it."""
    received = b""
    with suppress(ConnectionError):
        while part := connection.recv(65_536):
            received += part
    return received


@pytest.mark.parametrize(("service", "client_id"), [("referrals", "police-95"), ("partners", "coordinator-95")])
async def test_requests_that_nobody_waits_for_do_not_pile_up(
    service: str, client_id: str, database_url: Callable[[str | None], str], tmp_path: Path
) -> None:
    async with serving(service, client_id, database_url(service), tmp_path) as served:
        before = served.forget()

        with ExitStack() as stack:
            flooding = await asyncio.to_thread(sent_at_once, stack, served, 20, FLOOD * (256 * 1024 // len(FLOOD)))
            answering = await alive(served)
            grown = served.memory("VmHWM") - before
            assert grown < MOST_GROWTH, f"{grown // MB} MB"
            assert answering
            answers = await asyncio.to_thread(lambda: [all_of(one) for one in flooding])

        assert max(answer.count(b"HTTP/1.1 404 ") for answer in answers) <= MOST_WAITING + 1
        assert sum(b"too-many-at-once" in answer for answer in answers) > 0


@pytest.mark.parametrize(
    "served", [{"CONCURRENCY_LIMIT": "60", "CLIENT_CONCURRENCY_LIMIT": "40", "BODY_TIMEOUT_SECONDS": "10"}], indirect=True
)
async def test_lines_that_never_end_take_one_clients_share_and_not_for_ever(served: Served) -> None:
    await asked(served, "police-95")  # the issuer's keys are known: nobody waits for them
    before = served.forget()
    begin = served.head("/v1/referrals/batch", Content_Type="application/x-ndjson", Content_Length=str(MB))
    with ExitStack() as stack:
        slow = await asyncio.to_thread(sent_at_once, stack, served, 80, begin)

        async def trickle() -> None:
            while True:
                for connection in slow:
                    with suppress(OSError):  # given up
                        await asyncio.to_thread(connection.send, b" ")
                await asyncio.sleep(0.5)

        trickling = asyncio.create_task(trickle())
        own = await until(lambda: status_of(served, 429))
        neighbour = await asked(served, "police-78")
        again = await until(lambda: status_of(served, 400))
        await ended(trickling)
        answers = await asyncio.to_thread(lambda: [first_of(one) for one in slow])

    assert own
    assert own.headers["retry-after"] == "1"
    assert neighbour.status_code == 400
    assert again
    assert sorted(answer.split()[1] for answer in answers) == [b"200"] * 40 + [b"429"] * 40
    assert served.memory("VmHWM") - before < MOST_GROWTH
    assert await alive(served)


@pytest.mark.parametrize("served", [{"CLIENT_CONCURRENCY_LIMIT": "20"}], indirect=True)
async def test_answers_that_nobody_reads_are_few_and_disturb_nobody(served: Served) -> None:
    before = served.forget()
    with ExitStack() as stack:
        deaf = await asyncio.to_thread(sent_at_once, stack, served, 60, b"", 4096)

        async def asking_shuts_the_public_out() -> bool:  # once what the kernel takes of the answers is full
            await asyncio.to_thread(more_of, deaf, served.head("/openapi.json", "GET") * 2)
            return await has_public_status(served, 503)

        assert await until(asking_shuts_the_public_out, 60)
        own = await asked(served, "police-95")

        assert own.status_code == 400
        assert await alive(served)
        assert served.memory("VmHWM") - before < MOST_GROWTH
        for connection in deaf:
            connection.close()
    assert await until(lambda: has_public_status(served, 200))


async def floods_of_headers_are_refused(served: Served, connections: int) -> None:
    before = served.forget()
    with ExitStack() as stack:
        flooding = await asyncio.to_thread(sent_at_once, stack, served, connections, b"GET /livez HTTP/1.1\r\n" + b"X: aaaaaaaa\r\n" * 90)
        for _ in range(20):
            await asyncio.to_thread(more_of, flooding, b"X: %b\r\n" % (b"a" * 1_000) * 200)
        await asyncio.to_thread(more_of, flooding, b"\r\n")
        answers = await asyncio.to_thread(lambda: [first_of(one) for one in flooding])

    assert served.memory("VmHWM") - before < MOST_GROWTH, "it grows with the headers"
    assert {answer.split()[1] if answer else b"cut off" for answer in answers} <= {b"431", b"cut off"}
    assert await alive(served)


async def test_floods_of_headers_on_many_connections_at_once_are_refused(served: Served) -> None:
    await floods_of_headers_are_refused(served, 200)


async def test_planted_headers_without_a_bound_are_seen_in_the_memory(database_url: Callable[[str | None], str], tmp_path: Path) -> None:
    program = [sys.executable, "-c", UNBOUNDED]
    async with serving("referrals", "police-95", database_url("referrals"), tmp_path, program=program) as served:
        await seen_red(floods_of_headers_are_refused(served, 20), "it grows with the headers")
