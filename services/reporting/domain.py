"""Words and rules of reading figures: readers, cells, refusals, intervals, what is too small to show. Pure: no database, no HTTP."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import ClassVar
from uuid import UUID

from libs.chassis.refusals import Forbidden, Invalid
from libs.contracts.vocabularies import Role

TOTAL, DEPARTEMENT, MONTH = "total", "departement", "month"
"""Ways to break down that every measure has (a month only where it has days)."""


@dataclass(frozen=True, slots=True)
class Reader:
    """Who asks, as far as figures are concerned. `departements`: None means all. `employer`: sees what concerns its posts, wherever they are."""

    role: Role
    departements: frozenset[str] | None
    employer: UUID | None


@dataclass(frozen=True, slots=True)
class Cell:
    """`behind`: on how many situations, persons... the value rests; what suppression looks at."""

    code: str
    value: int
    behind: int


# Refusals. They speak of query parameters, which have no JSON pointer: the sentence names them.


class UnknownMeasure(Invalid):
    type: ClassVar[str] = "unknown-measure"
    title: ClassVar[str] = "Indicateur inconnu"

    def __init__(self) -> None:
        super().__init__("Cet indicateur n'existe pas : la liste est à l'adresse /v1/indicators.")


class UnknownBreakdown(Invalid):
    type: ClassVar[str] = "unknown-breakdown"
    title: ClassVar[str] = "Ventilation inconnue"

    def __init__(self, known: Sequence[str]) -> None:
        super().__init__(f"Cet indicateur ne se ventile pas ainsi. Valeurs possibles de « by » : {', '.join(known)}.")


class IntervalRefused(Invalid):
    type: ClassVar[str] = "interval-refused"
    title: ClassVar[str] = "Intervalle impossible"


class DepartementNeeded(Invalid):
    type: ClassVar[str] = "departement-needed"
    title: ClassVar[str] = "Département attendu"

    def __init__(self) -> None:
        super().__init__("Cette ventilation se lit un département à la fois : indiquez « departement ».")


class TooFine(Forbidden):
    type: ClassVar[str] = "breakdown-too-fine"
    title: ClassVar[str] = "Ventilation trop fine pour ce rôle"

    def __init__(self) -> None:
        super().__init__("Cette ventilation montrerait des unités, des postes ou des communes : elle n'est pas ouverte à votre rôle.")


class NotForEmployers(Forbidden):
    type: ClassVar[str] = "measure-not-open"
    title: ClassVar[str] = "Indicateur non ouvert à ce rôle"

    def __init__(self) -> None:
        super().__init__("Un employeur lit les chiffres de ses postes : au total, par mois, par département ou par poste.")


# Rules


def too_small(behind: int, threshold: int) -> bool:
    return 0 < behind < threshold


@dataclass(frozen=True, slots=True)
class Months:
    """An interval as the counters can answer it: whole months (their first days, both included), and the days at its edges."""

    first: date | None
    last: date | None
    some: bool
    edges: tuple[tuple[date, date], ...]


def months_of(from_on: date | None, until_on: date | None) -> Months:
    """Split an interval into whole months and at most two edges of days."""
    if (
        from_on is not None
        and until_on is not None
        and from_on.replace(day=1) == until_on.replace(day=1)
        and not (from_on.day == 1 and (until_on + timedelta(days=1)).day == 1)
    ):
        return Months(None, None, False, ((from_on, until_on),))
    edges = []
    first, last = from_on, until_on.replace(day=1) if until_on is not None else None
    if from_on is not None and from_on.day != 1:
        first = (from_on.replace(day=1) + timedelta(days=31)).replace(day=1)
        edges.append((from_on, first - timedelta(days=1)))
    if until_on is not None and last is not None and (until_on + timedelta(days=1)).day != 1:
        edges.append((last, until_on))
        last = (last - timedelta(days=1)).replace(day=1)
    some = first is None or last is None or first <= last
    return Months(first, last, some, tuple(edges))
