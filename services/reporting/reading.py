"""Who may ask which figure: a table of breakdowns and the readers they are open to. Pure."""

from dataclasses import dataclass
from datetime import date, timedelta

from libs.contracts.vocabularies import Role
from services.reporting.domain import (
    DEPARTEMENT,
    MONTH,
    TOTAL,
    DepartementNeeded,
    IntervalRefused,
    NotForEmployers,
    Reader,
    TooFine,
    UnknownBreakdown,
    UnknownMeasure,
)
from services.reporting.indicators import MEASURES, Dimension, Measure


@dataclass(frozen=True, slots=True)
class Asked:
    """One question: a measure, how to break it down, over which days (both included)."""

    measure: Measure
    by: str
    from_on: date | None
    until_on: date | None
    departement: str | None

    @property
    def dimension(self) -> Dimension | None:
        return self.measure.dimensions.get(self.by)


def ask(measure: str, by: str, from_on: date | None, until_on: date | None, departement: str | None) -> Asked:
    """Raises UnknownMeasure."""
    if measure not in MEASURES:
        raise UnknownMeasure
    return Asked(MEASURES[measure], by, from_on, until_on, departement)


_SEES_PLACES = frozenset({Role.COORDINATOR, Role.ADMINISTRATOR})
_EMPLOYER_BREAKDOWNS = frozenset({TOTAL, DEPARTEMENT, MONTH, "post"})


def breakdowns(measure: Measure) -> list[str]:
    """Every value of `by` for a measure."""
    return [TOTAL, DEPARTEMENT, *([MONTH] if measure.day else []), *measure.dimensions]


def check(asked: Asked, reader: Reader) -> None:
    """Whether this reader may ask this. Raises UnknownBreakdown, IntervalRefused, TooFine, NotForEmployers, DepartementNeeded."""
    measure, dimension = asked.measure, asked.dimension
    if asked.by not in breakdowns(measure):
        raise UnknownBreakdown(breakdowns(measure))
    if asked.from_on is not None and asked.until_on is not None and asked.until_on < asked.from_on:
        raise IntervalRefused("La fin de l'intervalle (« until ») précède son début (« from »).")
    if measure.day is None and measure.year is None and (asked.from_on or asked.until_on):
        raise IntervalRefused("Cet indicateur dit l'état actuel : il se lit sans « from » ni « until ».")
    if reader.role is Role.EMPLOYER:
        if measure.personal and (measure.table == "persons" or asked.by not in _EMPLOYER_BREAKDOWNS):
            raise NotForEmployers
    elif dimension is not None and dimension.local and measure.personal and reader.role not in _SEES_PLACES:
        raise TooFine
    if dimension is not None and dimension.code == "commune" and asked.departement is None:
        raise DepartementNeeded
    if suppressed_for(asked, reader) and not _whole_months(asked):
        raise IntervalRefused(
            "Pour votre rôle, un intervalle se compose de mois entiers : deux intervalles voisins montreraient sinon une seule situation."
        )


def suppressed_for(asked: Asked, reader: Reader) -> bool:
    """Small cells about persons and situations are hidden from everybody but the coordinator of the département itself."""
    return asked.measure.personal and reader.role is not Role.COORDINATOR


def _whole_months(asked: Asked) -> bool:
    return (asked.from_on is None or asked.from_on.day == 1) and (asked.until_on is None or (asked.until_on + timedelta(days=1)).day == 1)
