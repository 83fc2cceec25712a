"""What is under proof, as in production: PostgreSQL with all its fsyncs, Apache Kafka, and the API and the workers of each service as processes of their own."""

import asyncio
import os
import shutil
import signal
import socket
import subprocess
from dataclasses import replace
from pathlib import Path

import httpx
from aiokafka.admin import AIOKafkaAdminClient

from libs.embedded.broker import free_port
from libs.embedded.house import House, Part, Plan, Report, _until_ready, environment_of

SERVICES = ("referrals", "partners", "funding", "reporting")
REPLICAS = {name: ("api", "api", "worker", "worker") if name == "referrals" else ("both", "both") for name in SERVICES}
"""Two of everything: API, stand-by relay, members of the consumer group; apart where the clients work."""
_CALLED = {"both": "api and worker"}
PARTS = tuple(
    f"{name} {_CALLED.get(role, role)} {place % 2 + 1}" for name, replicas in REPLICAS.items() for place, role in enumerate(replicas)
)
"""The services' processes by name: `referrals api 1`, `referrals worker 2`, `partners api and worker 1`, …"""
KAFKA = Path(__file__).parents[2] / "deploy" / "kafka" / "kafka"
_FROM_OUTSIDE = ("PATH", "HOME", "LANG", "TMPDIR", "JAVA_HOME")


class Kafka:
    """One Apache Kafka broker of `deploy/kafka`, in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.address = f"127.0.0.1:{self.port}"

    async def start(self) -> None:
        await asyncio.to_thread(self._script, "start", "--port", str(self.port))

    def _script(self, command: str, *options: str) -> None:
        program = [str(KAFKA), command, "--dir", str(self.folder), *options]
        log = self.folder.parent / "kafka-script.log"
        with log.open("ab") as output:  # a file: the broker would keep a pipe open
            done = subprocess.run(program, stdout=output, stderr=output, stdin=subprocess.DEVNULL)
        if done.returncode != 0:
            raise RuntimeError(f"{command} of Apache Kafka failed: {log.read_text()[-800:]}")

    async def kill(self) -> None:
        pid = int((self.folder / "kafka.pid").read_text())
        os.kill(pid, signal.SIGKILL)
        while _answers(self.port):  # noqa: ASYNC110 - nothing tells of the end of a process that is no child; its threads hold the port a moment longer
            await asyncio.sleep(0.05)

    def stop(self) -> None:
        self._script("stop")

    def forget(self) -> None:
        """While it is dead: as if it had never been."""
        shutil.rmtree(self.folder / "data")

    def cut(self, topic: str) -> None:
        """While it is dead: the last batch of a topic of one partition is gone, as if it had been acknowledged and not yet on the disk."""
        [segment] = (self.folder / "data" / f"{topic}-0").glob("*.log")
        written, at, last = segment.read_bytes(), 0, 0
        while at < len(written):  # each batch: its first offset in 8 bytes, the length of the rest in 4 (Kafka's record format 2)
            last, at = at, at + 12 + int.from_bytes(written[at + 8 : at + 12], "big")
        os.truncate(segment, last)

    async def topics(self) -> list[str]:
        admin = AIOKafkaAdminClient(bootstrap_servers=self.address)
        await admin.start()
        try:
            return sorted(name for name in await admin.list_topics() if not name.startswith("__"))
        finally:
            await admin.close()

    async def delete_topics(self) -> int:
        admin = AIOKafkaAdminClient(bootstrap_servers=self.address)
        await admin.start()
        try:
            names = [name for name in await admin.list_topics() if not name.startswith("__")]
            await admin.delete_topics(names)
            return len(names)
        finally:
            await admin.close()


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def plan_for(folder: Path, kafka: Kafka) -> Plan:
    environment = {name: os.environ[name] for name in _FROM_OUTSIDE if name in os.environ}
    environment |= {"KAFKA_BOOTSTRAP_SERVERS": kafka.address}
    return Plan(folder, {name: free_port() for name in SERVICES}, free_port(), environment)


class Standing(House):
    """The house, taken apart: `referrals api 1`, `referrals worker 2`, … are parts that die alone."""

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan)
        self.environments: dict[str, dict[str, str]] = {}
        self.second = {name: free_port() for name in SERVICES}
        """The port of each service's second API."""

    async def start(self, report: Report) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        urls = self._start_postgres(report)
        self._start_issuer(report)
        servers = self.plan.environment["KAFKA_BOOTSTRAP_SERVERS"]
        self.environments = {name: environment_of(self.plan, name, urls[name], servers) for name in SERVICES}
        await self._migrate(self.environments, report)
        names = list(PARTS)
        for name in SERVICES:
            doors = [self.plan.services[name], self.second[name]]
            for role in REPLICAS[name]:
                port = free_port() if role == "worker" else doors.pop(0)
                part = self._role(name, role, port)
                self._start(replace(part, name=names.pop(0)))
        async with httpx.AsyncClient(timeout=5, trust_env=False) as client, asyncio.TaskGroup() as waiting:
            for part in self.parts:
                if part.ready_url:
                    waiting.create_task(_until_ready(client, part, report))

    def _role(self, service: str, role: str, port: int) -> Part:
        environment = self.environments[service] | {f"{service.upper()}_PORT": str(port)}
        return self._python(f"{service} {role}", [f"services.{service}", role], environment, f"http://127.0.0.1:{port}/readyz")

    def url(self, service: str) -> str:
        return self.environments[service][f"{service.upper()}_DATABASE_URL"]

    def alive(self, *words: str) -> list[Part]:
        """The parts whose name has one of the words, and whose process runs."""
        return [
            part
            for part in self.parts
            if any(word in part.name for word in words) and part.process is not None and part.process.poll() is None
        ]

    async def silent(self) -> list[str]:
        """The parts that do not answer that they are ready: killed a moment ago, and on their way back."""
        found = []
        async with httpx.AsyncClient(timeout=5, trust_env=False) as client:
            for part in self.parts:
                if part.ready_url:
                    try:
                        ready = (await client.get(part.ready_url)).status_code == 200
                    except httpx.TransportError:
                        ready = False
                    if not ready:
                        found.append(part.name)
        return found
