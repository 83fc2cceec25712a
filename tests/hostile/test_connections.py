"""Many connections that want to be waited for, on a really served process: its memory is bounded, and others are answered meanwhile."""

import asyncio
import socket
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from libs.chassis.limits import MOST_WAITING
from tests.hostile.process import MB, Served, alive, serving, shows_memory

pytestmark = shows_memory

MOST_GROWTH = 50 * MB
FLOOD = b"GET / HTTP/1.1\r\n\r\n"


def sent_at_once(stack: ExitStack, served: Served, count: int, raw: bytes) -> list[socket.socket]:
    """So many connections that have sent the same, as far as it was taken."""
    opened = [stack.enter_context(served.connect()) for _ in range(count)]
    for connection in opened:
        with suppress(ConnectionError):  # refused while it was sent
            connection.sendall(raw)
    return opened


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
