"""What referrals says of whole lives, as reporting hears it: records as they lie on a topic."""

from collections.abc import Sequence
from uuid import UUID

from libs.chassis import streams
from libs.chassis.outbox import Speaker, write
from libs.contracts.envelope import Event, Projection
from libs.contracts.projecting import project
from libs.contracts.pseudonyms import PseudonymKeys
from tests.services.reporting.telling import a_life

_KEYS = PseudonymKeys(bytes(32))
_DEPARTEMENTS = ("95", "78")
_LIVES = (2, 3, 4, 5, 2, 3, 3, 5)  # the two erased ones rewrite the log and are rare: measured apart, they would be all there is


def lives(events: int, *, first: int = 1) -> list[Event]:
    """At least so many events: the lives of referrals, told together as they go on together, eight at a time."""
    told: list[Event] = []
    number = first
    while len(told) < events:
        going = [a_life(one, _DEPARTEMENTS[one % 2], _LIVES[one % 8], within_days=365) for one in range(number, number + 8)]
        for step in range(max(map(len, going))):
            told += [life[step] for life in going if step < len(life)]
        number += 8
    return told


def _internal(event: Event, event_id: UUID) -> list[Projection]:
    return project(event, event_id, _KEYS)[:1]


def records(events: Sequence[Event], *, after: streams.Record | None = None) -> list[streams.Record]:
    """The stream `internal` of referrals that holds these events, from number 1 or after a record on."""
    speaker = Speaker("referrals", _internal)
    made: list[streams.Record] = []
    previous = after.digest if after is not None else streams.GENESIS
    for number, event in enumerate(events, after.sequence + 1 if after is not None else 1):
        [said] = write(speaker, event, None)
        record = streams.Record(streams.INTERNAL, 1, number, previous, said.attributes, said.data)
        made.append(record)
        previous = record.digest
    return made
