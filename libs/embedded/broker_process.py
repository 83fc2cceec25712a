"""The embedded broker's own process: `python -m libs.embedded.broker_process --port 9092` runs until it is told to stop.

The mock listens on a port that the kernel picks, and tells it to its clients: after a restart they would look for it in vain. So clients talk
to a fixed port in front of it, and the port in the mock's answers is exchanged for that one.
"""

import argparse
import asyncio
import errno
import os
import signal
import sys
from typing import cast

from confluent_kafka import Producer

from libs.embedded.broker import HOST

_LARGEST_SCANNED = 64 * 1024  # answers that name a broker (Metadata, FindCoordinator) are small; records are passed on unread


class _Link(asyncio.Protocol):
    """One end of a client's connection; `other` is the end facing the other way. Bytes that come before it exists wait."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.other: _Link | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if self.other and self.other.transport:
            self.other.transport.write(data)

    def connection_lost(self, exc: Exception | None) -> None:
        if self.other and self.other.transport:
            self.other.transport.close()

    def pause_writing(self) -> None:
        if self.other and self.other.transport:
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.other and self.other.transport and not self.other.transport.is_closing():
            self.other.transport.resume_reading()


class _ToBroker(_Link):
    """Facing the mock: cuts its answers into whole frames (a length of four bytes, then so many) to exchange the port in those that name it."""

    def __init__(self, hidden_port: int, public_port: int) -> None:
        super().__init__()
        # Every version of the protocol writes a broker as its host's text followed by its port in four bytes.
        self._hidden = HOST.encode() + hidden_port.to_bytes(4, "big")
        self._public = HOST.encode() + public_port.to_bytes(4, "big")
        self._kept = b""
        self._unread = 0  # bytes of a large frame still to pass on

    def data_received(self, data: bytes) -> None:
        data = self._kept + data if self._kept else data
        self._kept = b""
        position, out = 0, []
        while position < len(data):
            if self._unread:
                piece = data[position : position + self._unread]
                self._unread -= len(piece)
            else:
                size = 4 + int.from_bytes(data[position : position + 4], "big") if len(data) - position >= 4 else sys.maxsize
                if size > _LARGEST_SCANNED and size != sys.maxsize:
                    piece = data[position : position + size]
                    self._unread = size - len(piece)
                elif len(data) - position < size:
                    self._kept = data[position:]
                    break
                else:
                    piece = data[position : position + size].replace(self._hidden, self._public)
                    position += size - len(piece)
            position += len(piece)
            out.append(piece)
        if out:
            super().data_received(b"".join(out))


class _FromClient(_Link):
    """Facing a client: reads nothing before the mock's end is connected."""

    def __init__(self, hidden_port: int, public_port: int) -> None:
        super().__init__()
        self._ports = (hidden_port, public_port)
        self._task: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        client = cast(asyncio.Transport, transport)
        client.pause_reading()
        self._task = asyncio.get_running_loop().create_task(self._connect(client))

    async def _connect(self, client: asyncio.Transport) -> None:
        try:
            _, link = await asyncio.get_running_loop().create_connection(lambda: _ToBroker(*self._ports), HOST, self._ports[0])
        except OSError:
            client.abort()  # the client sees a broker that is gone, which is the case
            return
        link.other, self.other = self, link
        client.resume_reading()


async def _serve(port: int) -> None:
    mock = Producer({"test.mock.num.brokers": 1, "bootstrap.servers": "mock", "log_level": 2})
    (hidden,) = mock.list_topics(timeout=10).brokers.values()
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    server = await loop.create_server(lambda: _FromClient(hidden.port, port), HOST, port)
    async with server:
        await stopping.wait()
    os._exit(0)  # librdkafka would wait for its threads


def main() -> None:
    """The process itself."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    port: int = parser.parse_args().port
    try:
        asyncio.run(_serve(port))
    except OSError as error:
        taken = "est pris" if error.errno == errno.EADDRINUSE else f"n'est pas utilisable ({error.strerror})"
        sys.exit(f"Le port {port} {taken}.")


if __name__ == "__main__":
    main()
