"""A speaker for tests of the streams: facts of imaginary units, told to `internal` and to their département."""

from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import UUID, uuid4

from libs.chassis import streams
from libs.chassis.database import Database, RawConnection
from libs.chassis.outbox import SESSION_KEY, Speaker, append
from libs.chassis.relay import stamp
from libs.contracts.envelope import Event, Projection
from libs.contracts.partners import UnitClosed

MORNING = datetime(2026, 11, 23, 8, 0, tzinfo=UTC)


def project(event: Event, event_id: UUID) -> Sequence[Projection]:
    data = event.model_dump_json().encode()
    subject = f"{event.aggregate[0]}/{event.aggregate_id}"
    return [
        Projection(audience="internal", event_id=str(event_id), subject=subject, data=data),
        Projection(audience="departement:95", event_id=str(event_id), subject=subject, data=data),
    ]


def database(url: str, source: str = "partners") -> Database:
    return Database(url, pool_size=10, info={SESSION_KEY: Speaker(source, project)})


def fact(unit_id: UUID | None = None, closed_at: datetime = MORNING) -> UnitClosed:
    return UnitClosed(departement="95", unit_id=unit_id or uuid4(), closed_at=closed_at)


async def say(speaker: Database, *events: Event) -> None:
    async with speaker.transaction() as session:
        await append(session, *events)


async def stamp_all(speaker: Database) -> int:
    connection = await speaker.connect()
    try:
        return await drain(connection)
    finally:
        await connection.close()


async def drain(connection: RawConnection) -> int:
    total = 0
    while stamped := await stamp(connection):
        total += stamped
    return total


async def everything(speaker: Database, stream: str = streams.INTERNAL) -> list[streams.Record]:
    """All kept events of a stream, in order."""
    async with speaker.transaction() as session:
        head = await streams.head(session, stream)
        return await streams.read(session, stream, head.purged_sequence, 1_000_000)


def broken_links(records: Sequence[streams.Record]) -> list[int]:
    """The numbers at which a chain that begins at the genesis does not hold."""
    wrong = []
    previous, number = streams.GENESIS, 0
    for record in records:
        if record.sequence != number + 1 or record.previous_digest != previous:
            wrong.append(record.sequence)
        previous, number = record.digest, record.sequence
    return wrong
