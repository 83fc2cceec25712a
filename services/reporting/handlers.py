"""How reporting listens: every type of every source, whole batches at once."""

from collections.abc import Sequence

from sqlalchemy.ext.asyncio import AsyncSession

from libs.chassis.listener import Heard, Listener, Source
from libs.contracts.envelope import Event
from services.reporting import commands, rebuild
from services.reporting.facts import SOURCES


async def on_batch(session: AsyncSession, heard: Sequence[Heard[Event]]) -> None:
    await rebuild.stand_aside(session)
    await commands.hear(session, heard)


async def on_rewind(session: AsyncSession, source: str, after_sequence: int) -> None:
    await rebuild.stand_aside(session)
    await commands.take_back(session, source, after_sequence)


LISTENER = Listener(
    projection="figures",
    sources=tuple(Source(name, handles=frozenset(kinds)) for name, kinds in SOURCES.items()),
    apply=on_batch,
    rewind=on_rewind,
    keeps_log=True,
)
