"""A Kafka-protocol broker out of the confluent-kafka wheel: librdkafka's mock cluster, in a process of its own, on loopback, in memory only.

It forgets everything when it ends, keeps about 5 MB per partition and drops the oldest silently, has no admin API, and serves one consumer
per group: enough for one machine and for tests, never for production. To a client a restart looks like that of a real broker that lost its disk.
"""

import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from random import SystemRandom
from typing import Self

from libs.embedded import children
from libs.embedded.errors import CannotStart

HOST = "127.0.0.1"
_ROOT = Path(__file__).parents[2]
_READY_SECONDS = 15.0


_CHANCE = SystemRandom()  # not the shared generator: hypothesis sets that one back, and two processes would draw the same ports


def free_port() -> int:
    """A port of loopback that was free a moment ago.

    Below those that the system gives to outgoing connections: a client that tries again and again to reach a dead server on one of those ends up
    connected to itself, and the server cannot come back (seen with a killed broker).
    """
    while True:
        port = _CHANCE.randrange(12_000, 30_000)
        with socket.socket() as probe, suppress(OSError):  # in use: another one
            probe.bind((HOST, port))
            return port


class Broker:
    """The broker's process. The port is its own from the first moment: a client may be given the address before the broker is there."""

    def __init__(self, port: int | None = None) -> None:
        self.port = port or free_port()
        self.process: subprocess.Popen[bytes] | None = None

    @classmethod
    def started(cls, port: int | None = None) -> Self:
        broker = cls(port)
        broker.start()
        return broker

    @property
    def bootstrap_servers(self) -> str:
        return f"{HOST}:{self.port}"

    @property
    def command(self) -> str:
        """Its command line."""
        return " ".join(self._program)

    @property
    def _program(self) -> list[str]:
        return [sys.executable, "-m", "libs.embedded.broker_process", "--port", str(self.port)]

    def start(self) -> None:
        """Returns when it answers, 0.2 s later. Raises `CannotStart`."""
        self.launch()
        self.wait()

    def launch(self) -> subprocess.Popen[bytes]:
        """The first half of `start`: the process is there, but does not answer yet."""
        if is_listening(self.port):
            raise CannotStart(
                f"Le port {self.port} est pris, et le courtier embarqué en a besoin : arrêtez le programme qui l'occupe, "
                "ou indiquez votre courtier Kafka par KAFKA_BOOTSTRAP_SERVERS."
            )
        self.process = children.start(self._program, cwd=_ROOT, ends_with=signal.SIGKILL)
        return self.process

    def wait(self) -> None:
        """The second half of `start`."""
        deadline = time.monotonic() + _READY_SECONDS
        while not is_listening(self.port):
            if self.process is None or self.process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise CannotStart(
                    "Le courtier embarqué ne démarre pas (paquet confluent-kafka) : installez les dépendances par « make run », "
                    "ou indiquez votre courtier Kafka par KAFKA_BOOTSTRAP_SERVERS."
                )
            time.sleep(0.01)

    def stop(self) -> None:
        """It has nothing to save: it is killed. May be called twice."""
        if self.process:
            children.stop(self.process)
            self.process = None

    def restart(self) -> None:
        """The same address, and nothing remembered."""
        self.stop()
        self.start()


def is_listening(port: int) -> bool:
    """Whether a program on this machine accepts connections on that port of loopback."""
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex((HOST, port)) == 0
