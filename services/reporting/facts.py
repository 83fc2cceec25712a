"""The log of the facts that were heard: appended to, read in order, stripped of the ids of erased persons. What projections are rebuilt from."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from libs.chassis.database import copy
from libs.chassis.listener import Heard
from libs.contracts import funding, partners, referrals
from libs.contracts.envelope import Event

SOURCES: dict[str, tuple[type[Event], ...]] = {"referrals": referrals.EVENTS, "partners": partners.EVENTS, "funding": funding.EVENTS}
"""Who is heard, and every type of theirs."""

_TYPES = {kind.type: kind for kinds in SOURCES.values() for kind in kinds}


@dataclass(frozen=True, slots=True)
class Fact:
    source: str
    position: int
    sequence: int
    event: Event


def parse(type: str, data: str) -> Event:
    """An event read back from the log. A type of the log is always known: what is not known is parked before it gets here."""
    return _TYPES[type].model_validate_json(data)


async def append(session: AsyncSession, heard: Sequence[Heard[Event]]) -> list[Event]:
    """Write down what was heard. Returns the events that were not in the log yet, in order: hearing a number twice changes nothing.

    The caller holds the lock of the cursors of these sources: nobody else writes what they say.
    """
    new = await _not_known(session, heard)
    await copy(
        session,
        "facts",
        ("source", "epoch", "sequence", "type", "subject", "occurred_at", "data"),
        [(one.source, one.epoch, one.sequence, one.event.type, one.event.aggregate_id, one.occurred_at, one.data.decode()) for one in new],
    )
    return [one.event for one in new]


async def _not_known(session: AsyncSession, heard: Sequence[Heard[Event]]) -> Sequence[Heard[Event]]:
    sources = sorted({one.source for one in heard})
    rows = await session.execute(
        text(
            "SELECT source, coalesce((SELECT max(sequence) FROM facts WHERE facts.source = named.source), 0) AS last"
            " FROM unnest(CAST(:sources AS text[])) AS named (source)"
        ),
        {"sources": sources},
    )
    last: dict[str, int] = {row.source: row.last for row in rows}
    known: set[tuple[str, int]] = set()
    if any(one.sequence <= last[one.source] for one in heard):  # said again, or parked and replayed: rare
        found = await session.execute(
            text(
                "SELECT source, sequence FROM facts WHERE (source, sequence) IN"
                " (SELECT * FROM unnest(CAST(:sources AS text[]), CAST(:sequences AS bigint[])))"
            ),
            {"sources": [one.source for one in heard], "sequences": [one.sequence for one in heard]},
        )
        known.update((source, sequence) for source, sequence in found)
    new = []
    for one in heard:
        number = (one.source, one.sequence)
        if number not in known:
            known.add(number)  # the same number twice in one batch counts once
            new.append(one)
    return new


async def after(session: AsyncSession, source: str, position: int, limit: int) -> list[Fact]:
    """What was heard of a source after a position, in the order heard.

    Safe to follow: one source's facts are written by one transaction at a time, under the lock of its cursor, so none appears before a position already seen.
    """
    rows = await session.execute(
        text(
            "SELECT position, sequence, type, data FROM facts WHERE source = :source AND position > :position ORDER BY position LIMIT :limit"
        ),
        {"source": source, "position": position, "limit": limit},
    )
    return [Fact(source, position, sequence, parse(type, data)) for position, sequence, type, data in rows]


async def of_subjects(session: AsyncSession, source: str, subjects: Iterable[UUID]) -> list[Event]:
    """Everything heard of some aggregates of a source, in the order heard."""
    rows = await session.execute(
        text("SELECT type, data FROM facts WHERE subject = ANY(CAST(:subjects AS uuid[])) AND source = :source ORDER BY position"),
        {"source": source, "subjects": list(subjects)},
    )
    return [parse(type, data) for type, data in rows]


async def forget_after(session: AsyncSession, source: str, sequence: int) -> list[Event]:
    """Delete what was heard of a source after a number. Returns it, in the order heard."""
    rows = await session.execute(
        text(
            "WITH gone AS (DELETE FROM facts WHERE source = :source AND sequence > :sequence RETURNING position, type, data)"
            " SELECT type, data FROM gone ORDER BY position"
        ),
        {"source": source, "sequence": sequence},
    )
    return [parse(type, data) for type, data in rows]


async def forget_persons(session: AsyncSession, erased: Mapping[UUID, Collection[UUID]]) -> None:
    """Replace the ids of erased persons, by their referrals, in the log and in the projection, by their number within the referral.

    Counts stay, and a rebuild gives them again. The referral's own id stays too: it names no person, and a source restored from a backup says its facts anew
    under that id. The number is the one that corrections call an erased person by from then on (`number_of`).
    """
    rows = (
        await session.execute(
            text(
                "SELECT subject, position, type, data FROM facts WHERE subject = ANY(CAST(:subjects AS uuid[])) AND source = 'referrals' ORDER BY position"
            ),
            {"subjects": list(erased)},
        )
    ).all()
    named: dict[UUID, dict[UUID, None]] = {}
    for subject, _, type, data in rows:
        named.setdefault(subject, {}).update(dict.fromkeys(_persons_of(parse(type, data))))
    numbers: dict[UUID, dict[UUID, UUID]] = {}
    for subject, persons in named.items():
        known = numbers[subject] = {person_id: person_id for person_id in persons if referrals.is_number(person_id)}
        for place, person_id in enumerate(persons, 1):
            if person_id in erased[subject] and person_id not in known:
                free = (number for number in map(referrals.number_of, count(place)) if number not in known.values())
                known[person_id] = next(free)
    renamed = [
        (subject, person_id, number) for subject, known in numbers.items() for person_id, number in known.items() if person_id != number
    ]
    if not renamed:
        return
    await session.execute(
        text(
            "UPDATE facts SET data = new.data FROM unnest(CAST(:positions AS bigint[]), CAST(:texts AS text[])) AS new (position, data)"
            " WHERE facts.source = 'referrals' AND facts.position = new.position"
        ),
        {"positions": [row.position for row in rows], "texts": [_without(row.data, numbers[row.subject]) for row in rows]},
    )
    await session.execute(
        text(
            "UPDATE persons SET person_id = new.number"
            " FROM unnest(CAST(:referrals AS uuid[]), CAST(:persons AS uuid[]), CAST(:numbers AS uuid[])) AS new (referral_id, person_id, number)"
            " WHERE persons.referral_id = new.referral_id AND persons.person_id = new.person_id"
        ),
        {"referrals": [one[0] for one in renamed], "persons": [one[1] for one in renamed], "numbers": [one[2] for one in renamed]},
    )


def _persons_of(event: Any) -> Iterable[UUID]:
    """Every person an event names, in its order."""
    if isinstance(event, referrals.ReferralReceived | referrals.ReferralCorrected):
        return [person.person_id for person in event.persons]
    if isinstance(event, referrals.ReferralErased | referrals.InterviewHeld):
        return event.person_ids
    person_id = getattr(event, "person_id", None)
    return () if person_id is None else (person_id,)


def _without(data: str, persons: dict[UUID, UUID]) -> str:
    for person_id, number in persons.items():
        data = data.replace(str(person_id), str(number))
    return data
