"""What a service does with what it hears: the words `handlers.py` is written in."""

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, NamedTuple, TypeVar

from sqlalchemy.ext.asyncio import AsyncSession

from libs.contracts.envelope import Event

E = TypeVar("E", bound=Event)
Handler = Callable[[AsyncSession, "Heard[Any]"], Awaitable[None]]
BatchHandler = Callable[[AsyncSession, "Sequence[Heard[Event]]"], Awaitable[None]]
Rewind = Callable[[AsyncSession, str, int], Awaitable[None]]
ReadList = Callable[[str], AsyncIterator[dict[str, Any]]]
Bootstrap = Callable[[AsyncSession, str, ReadList], Awaitable[bool]]
"""Makes a source's part of a projection anew from its lists. Returns whether they stand for all that was said before: what is parked of it is then over."""


class Heard(NamedTuple, Generic[E]):
    """One event as a handler gets it."""

    event: E
    source: str
    epoch: int
    sequence: int
    event_id: str
    occurred_at: datetime
    recorded_at: datetime
    subject: str
    data: bytes
    """The JSON text that was said, for a listener that keeps a log: a newer speaker's optional additions are in it."""
    correlation_id: str | None
    traceparent: str | None


@dataclass(frozen=True)
class Source:
    """What is heard of one service. A type in neither list is parked, not skipped: a newer speaker said it."""

    name: str
    handles: Mapping[type[Event], Handler] | Collection[type[Event]]
    ignores: Collection[type[Event]] = ()

    def handler(self, event: type[Event]) -> Handler:
        if not isinstance(self.handles, Mapping):
            raise TypeError(f"{self.name} is handled by batches")
        handler: Handler = self.handles[event]
        return handler


async def forget_nothing(session: AsyncSession, source: str, after_sequence: int) -> None:
    """The `rewind` of a listener whose handlers are upserts of whole states: hearing them again puts everything right."""


@dataclass(frozen=True)
class Listener:
    """A projection: who it hears, what it does with it.

    `apply` takes whole batches where a handler per event would be too slow; `handles` is then a set of types. `rewind` makes the projection forget what it heard
    of a source after a number (the source was restored from a backup). With `keeps_log` that is exact and listening goes on from there;
    without, everything of the source is forgotten and heard anew: from `bootstrap` (the source's lists) where given, else from the start of the feed.
    """

    projection: str
    sources: Sequence[Source]
    apply: BatchHandler | None = None
    rewind: Rewind = forget_nothing
    bootstrap: Bootstrap | None = None
    keeps_log: bool = False
