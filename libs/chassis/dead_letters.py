"""Replaying and discarding parked events: under the same lock as the listener, in order."""

from typing import ClassVar
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from libs.chassis import streams
from libs.chassis.parking import decide, read
from libs.chassis.projector import Projector
from libs.chassis.refusals import Conflict, NotFound


class NotParked(Conflict):
    type: ClassVar[str] = "not-parked"
    title: ClassVar[str] = "Événement déjà traité"


class ReplayFailed(Conflict):
    type: ClassVar[str] = "replay-failed"
    title: ClassVar[str] = "Rejeu impossible"


async def replay(session: AsyncSession, projector: Projector, letter_id: UUID, by: str) -> list[UUID]:
    """Try the parked events of one aggregate again, in order, from the first on; those that take effect are marked.

    Takes the cursor's lock, as the listener does. Stops at the first that still fails: raises ReplayFailed when that is the very first, so that nothing changed.
    Returns the ids of those that took effect.
    """
    letter = await read(session, letter_id)
    if letter.projection != projector.projection:
        raise NotFound
    await projector.cursor(session, letter.source, lock=True)
    if (await read(session, letter_id)).status != "parked":
        raise NotParked("Cet événement a déjà été rejoué ou écarté.")
    rows = (
        await session.execute(
            text(
                "SELECT id, stream, epoch, sequence, attributes, data FROM dead_letters"
                " WHERE projection = :projection AND source = :source AND subject = :subject AND status = 'parked' ORDER BY epoch, sequence"
            ),
            {"projection": letter.projection, "source": letter.source, "subject": letter.subject},
        )
    ).all()
    done: list[UUID] = []
    for row in rows:
        record = streams.Record(row.stream, row.epoch, row.sequence, streams.GENESIS, bytes(row.attributes), bytes(row.data))
        failure = await projector.replay_one(session, letter.source, record)
        if failure is not None:
            if not done:
                raise ReplayFailed("L'événement échoue toujours : corrigez la cause, puis rejouez-le, ou écartez-le en donnant la raison.")
            break
        await decide(session, row.id, "replayed", by, None)
        done.append(row.id)
    return done


async def discard(session: AsyncSession, projector: Projector, letter_id: UUID, by: str, reason: str) -> None:
    """Give one event up for good. Its successors stay parked until they are replayed."""
    letter = await read(session, letter_id)
    await projector.cursor(session, letter.source, lock=True)
    if (await read(session, letter_id)).status != "parked":
        raise NotParked("Cet événement a déjà été rejoué ou écarté.")
    await decide(session, letter_id, "discarded", by, reason)
