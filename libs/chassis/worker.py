"""What runs beside the answering of requests: relay, consumer, webhook deliveries, jobs. Each is started again when it fails, and says that it lives."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

import asyncpg
import structlog

from libs.chassis import idempotency, purging, vault
from libs.chassis.audit import CHECKPOINT_SECONDS, KEEP_DAYS, checkpoint_audit
from libs.chassis.deliveries import Deliverer
from libs.chassis.endless import endless
from libs.chassis.health import Heartbeat
from libs.chassis.runtime import Runtime
from libs.chassis.service import Job

_log = structlog.get_logger(__name__)

JOB_LOCK = 0x4A4F4253  # "JOBS"


PURGE_SECONDS = 60.0
"""Of the ten minutes between two of its turns: the other jobs wait meanwhile."""


async def purge_streams(runtime: Runtime) -> None:
    """Until nothing old is left, a transaction for every few thousand events of a stream: what comes in faster than it goes fills the disk."""
    settings, clock = runtime.settings, asyncio.get_running_loop().time
    until, gone = clock() + PURGE_SECONDS, purging.PURGE
    while gone >= purging.PURGE and clock() < until:
        async with runtime.database.transaction() as session:
            gone = await purging.purge(
                session,
                keep_days=settings.retention_days,
                keep_audit_days=KEEP_DAYS,
                unheard_days=settings.unheard_retention_days,
                awaited=settings.awaited(),
                limit=purging.PURGE,
            )


async def purge_idempotency(runtime: Runtime) -> None:
    async with runtime.database.transaction() as session:
        await idempotency.purge(session, hours=runtime.settings.idempotency_hours)


VAULT_SECONDS = 300
"""How often the dead rows of destroyed keys are taken away."""


async def tidy_vault(runtime: Runtime) -> None:
    connection = await runtime.database.connect()
    try:
        await vault.tidy(connection)
    finally:
        connection.terminate()


CHASSIS_JOBS = (
    Job("purge-streams", 600, purge_streams),
    Job("purge-idempotency-keys", 3600, purge_idempotency),
    Job("tidy-vault", VAULT_SECONDS, tidy_vault),
    Job("checkpoint-audit", CHECKPOINT_SECONDS, checkpoint_audit),
)


class Worker:
    """`start` returns at once; `stop` ends everything within `seconds`."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        runtime = self._runtime
        self._keep("relay", runtime.relay.run, runtime.relay.heartbeat, runtime.relay.sending)
        if runtime.consumer is not None:
            self._keep("consumer", runtime.consumer.run, runtime.consumer.heartbeat)
        deliverer = Deliverer(runtime)
        self._keep("deliverer", deliverer.run, deliverer.heartbeat)
        jobs = Jobs(runtime, (*CHASSIS_JOBS, *runtime.service.jobs))
        self._keep("jobs", jobs.run, jobs.heartbeat)
        for loop in runtime.service.loops:
            heartbeat = Heartbeat(loop.name, loop.silence_seconds)
            self._keep(loop.name, partial(loop.run, runtime, heartbeat), heartbeat)

    def _keep(self, name: str, run: Callable[[], Awaitable[None]], *heartbeats: Heartbeat) -> None:
        self._runtime.heartbeats |= {one.name: one for one in heartbeats}
        self._tasks.append(asyncio.create_task(_for_ever(name, run, *heartbeats), name=name))

    async def stop(self, seconds: float = 5) -> None:
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=seconds)


async def _for_ever(name: str, run: Callable[[], Awaitable[None]], *heartbeats: Heartbeat) -> None:
    """Start again what ended, with growing pauses. A heartbeat stops beating when that does not help, and /livez fails."""
    pause = 0.5
    while True:
        started = asyncio.get_running_loop().time()
        try:
            # a task of its own: on Python 3.11 a TaskGroup that failed leaves its task looking cancelled (cancelling() == 1)
            await endless(asyncio.create_task(_awaited(run), name=name))
        except Exception as error:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                return  # a part that was cancelled within a query may end with that query's error
            errors = error.exceptions if isinstance(error, ExceptionGroup) else (error,)
            _log.warning("worker.restarted", part=name, errors=sorted({type(one).__name__ for one in errors}))
            if all(isinstance(one, OSError | asyncpg.PostgresError | asyncpg.InterfaceError | TimeoutError) for one in errors):
                for one in heartbeats:
                    one.beat()  # the database is away: restarting this process would not bring it back
        pause = 0.5 if asyncio.get_running_loop().time() - started > 30 else min(pause * 2, 10)
        await asyncio.sleep(pause)


async def _awaited(run: Callable[[], Awaitable[None]]) -> None:
    await run()


class Jobs:
    """Runs each job every so often, on whichever replica holds the lock."""

    def __init__(self, runtime: Runtime, jobs: Sequence[Job]) -> None:
        self._runtime = runtime
        self._jobs = jobs
        self.heartbeat = Heartbeat("jobs", 900)

    async def run(self) -> None:
        connection = await self._runtime.database.connect()
        try:
            while not await connection.fetchval("SELECT pg_try_advisory_lock($1)", JOB_LOCK):
                self.heartbeat.beat()
                await asyncio.sleep(5)
            due = {job.name: 0.0 for job in self._jobs}
            clock = asyncio.get_running_loop().time
            while True:
                self.heartbeat.beat()
                await connection.fetchval("SELECT 1")  # still the holder of the lock?
                for job in self._jobs:
                    if clock() >= due[job.name]:
                        due[job.name] = clock() + job.every_seconds
                        await self._run(job)
                await asyncio.sleep(min(5.0, max(0.05, min(due.values()) - clock())))
        finally:
            connection.terminate()

    async def _run(self, job: Job) -> None:
        try:
            await job.run(self._runtime)
        except Exception as error:
            # the other jobs go on; this one is tried again when it is next due
            _log.exception("job.failed", job=job.name, error=type(error).__name__)
