"""Figures, read from the counters where they hold the answer and from the rows where they do not, in one snapshot with how far was heard."""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from libs.chassis.projector import reached
from libs.chassis.refusals import NotFound
from libs.chassis.security import Principal
from libs.contracts.territories import DEPARTEMENTS
from libs.contracts.vocabularies import Role
from services.reporting import indicators
from services.reporting.domain import (
    DEPARTEMENT,
    MONTH,
    TOTAL,
    Cell,
    Reader,
    months_of,
    too_small,
)
from services.reporting.indicators import TALLIED, Dimension, Measure
from services.reporting.projections.rows import TABLES
from services.reporting.reading import Asked, breakdowns, check, suppressed_for
from services.reporting.schemas import BreakdownOut, CellOut, FiguresOut, IndicatorOut, SeenOut, TotalOut

_UNKNOWN = "Non renseigné"


def reader_of(caller: Principal) -> Reader:
    employer = caller.organization if caller.role is Role.EMPLOYER else None
    return Reader(caller.role, None if employer is not None else caller.departements(), employer)


def indicator_out(measure: Measure) -> IndicatorOut:
    return IndicatorOut(
        code=measure.code,
        label=measure.label,
        unit=measure.unit,
        definition=measure.definition,
        breakdowns=[_breakdown(measure, by) for by in breakdowns(measure)],
    )


_LABELS = {TOTAL: "Total", DEPARTEMENT: "Département", MONTH: "Mois"}


def _breakdown(measure: Measure, by: str) -> BreakdownOut:
    dimension = measure.dimensions.get(by)
    if dimension is None:
        return BreakdownOut(code=by, label=_LABELS[by], partition=True, definition=None)
    return BreakdownOut(code=by, label=dimension.label, partition=dimension.partition, definition=dimension.definition)


async def lock_names(session: AsyncSession) -> None:
    """To be the first statement of the transaction: it takes no snapshot, so that a rebuild which puts tables in place comes wholly before or after."""
    await session.execute(text(f"LOCK TABLE {', '.join(TABLES)}, tallies IN ACCESS SHARE MODE"))


async def figures(session: AsyncSession, caller: Principal, asked: Asked, threshold: int) -> FiguresOut:
    """One measure, broken down. Raises NotFound (a département outside the perimeter) and the refusals of `reading.check`.

    Cells that rest on fewer than the threshold are suppressed, unless the caller is the département's own coordinator: `value` is null and `suppressed` true.
    This is primary suppression only. The total goes too where it would give a single suppressed cell away; suppression across questions
    comes with the public releases.
    """
    reader = reader_of(caller)
    if asked.departement is not None and reader.departements is not None and asked.departement not in reader.departements:
        raise NotFound
    check(asked, reader)
    await lock_names(session)
    cells = await _cells(session, asked, reader)
    whole = next(iter(cells), None) if asked.by == TOTAL else await _total(session, asked, reader, cells)
    if not suppressed_for(asked, reader):
        threshold = 0
    hidden = [too_small(cell.behind, threshold) for cell in cells]
    total_hidden = whole is not None and (too_small(whole.behind, threshold) or (asked.by != TOTAL and sum(hidden) == 1))
    dimension = asked.dimension
    return FiguresOut(
        measure=asked.measure.code,
        label=asked.measure.label,
        unit=asked.measure.unit,
        definition=asked.measure.definition,
        by=_breakdown(asked.measure, asked.by),
        from_on=asked.from_on,
        until_on=asked.until_on,
        departement=asked.departement,
        threshold=threshold or None,
        cells=[
            CellOut(code=cell.code, label=_label(asked.by, dimension, cell.code), value=None if gone else cell.value, suppressed=gone)
            for cell, gone in zip(cells, hidden, strict=True)
            if asked.by != TOTAL
        ],
        total=TotalOut(
            value=None if total_hidden or (whole is None and _is_delay(asked)) else whole.value if whole else 0, suppressed=total_hidden
        ),
        complete_up_to=[SeenOut.model_validate(one._asdict()) for one in await reached(session, "figures")],
        read_at=datetime.now(UTC),
    )


def _is_delay(asked: Asked) -> bool:
    """Of nothing there is no median, and that is no zero."""
    return asked.measure.aggregate in ("median", "ninetieth")


def _label(by: str, dimension: Dimension | None, code: str) -> str:
    if not code:
        return _UNKNOWN
    if by == DEPARTEMENT:
        return DEPARTEMENTS[code].name if code in DEPARTEMENTS else code
    if dimension is not None and dimension.vocabulary is not None:
        return dimension.vocabulary(code).label
    return code


async def _total(session: AsyncSession, asked: Asked, reader: Reader, cells: list[Cell]) -> Cell | None:
    """Of a partition the sum of its cells; else asked for by itself."""
    partition = asked.dimension is None or asked.dimension.partition
    if partition and asked.measure.aggregate in ("count", "sum"):
        return Cell("", sum(cell.value for cell in cells), sum(cell.behind for cell in cells)) if cells else None
    found = await _cells(session, Asked(asked.measure, TOTAL, asked.from_on, asked.until_on, asked.departement), reader)
    return next(iter(found), None)


async def _cells(session: AsyncSession, asked: Asked, reader: Reader) -> list[Cell]:
    """In the order of their codes; only those that something stands at."""
    tallied = asked.measure.code in TALLIED and (asked.by in (TOTAL, DEPARTEMENT, MONTH) or asked.by in TALLIED[asked.measure.code])
    statement, parameters = (_from_counters if tallied else _from_rows)(asked, reader)
    rows = await session.execute(text(statement), parameters)
    return [Cell(code, value, behind) for code, value, behind in rows]


Question = tuple[str, dict[str, Any]]


def _code_expression(asked: Asked, day: str | None) -> str:
    if asked.by == TOTAL:
        return "''"
    if asked.by == DEPARTEMENT:
        return "departement"
    if asked.by == MONTH:
        return f"to_char({day}, 'YYYY-MM')"
    return indicators.code_expression(asked.measure.dimensions[asked.by])


def _where_readers(asked: Asked, reader: Reader) -> tuple[list[str], dict[str, Any]]:
    """Conditions on the rows of a projection that keep a reader within its perimeter."""
    conditions: list[str] = []
    parameters: dict[str, Any] = {}
    departements = (
        [asked.departement] if asked.departement is not None else sorted(reader.departements) if reader.departements is not None else None
    )
    if departements is not None:
        conditions.append("departement = ANY(CAST(:departements AS text[]))")
        parameters["departements"] = departements
    if reader.employer is not None:
        conditions.append(
            "employer_id = CAST(:employer AS uuid)"
            if asked.measure.table == "posts"
            else "post_id IN (SELECT post_id FROM posts WHERE employer_id = CAST(:employer AS uuid))"
        )
        parameters["employer"] = reader.employer
    return conditions, parameters


def _from_rows(asked: Asked, reader: Reader) -> Question:
    measure = asked.measure
    conditions, parameters = _where_readers(asked, reader)
    if measure.day is not None:
        conditions.append(f"{measure.day} IS NOT NULL")
    if measure.given is not None:
        conditions.append(measure.given)
    for name, sign, at in (("from_on", ">=", asked.from_on), ("until_on", "<=", asked.until_on)):
        if at is not None and measure.day is not None:
            conditions.append(f"{measure.day} {sign} CAST(:{name} AS date)")
            parameters[name] = at
        elif at is not None and measure.year is not None:
            conditions.append(f"{measure.year} {sign} CAST(:{name} AS integer)")
            parameters[name] = at.year
    value = {
        "count": "count(*)",
        "sum": f"coalesce(sum({measure.value}), 0)::bigint",
        "median": f"percentile_disc(0.5) WITHIN GROUP (ORDER BY {measure.value})",
        "ninetieth": f"percentile_disc(0.9) WITHIN GROUP (ORDER BY {measure.value})",
    }[measure.aggregate]
    where = " AND ".join(conditions) or "true"
    code = _code_expression(asked, measure.day)
    return f"SELECT {code} AS code, {value}, count(*) FROM {measure.table} WHERE {where} GROUP BY 1 ORDER BY 1", parameters  # noqa: S608 - names of our own


def _from_counters(asked: Asked, reader: Reader) -> Question:
    """Whole months out of the counters, the days at the edges out of the rows."""
    measure = asked.measure
    months = months_of(asked.from_on, asked.until_on)
    parts = []
    row_conditions, parameters = _where_readers(asked, reader)
    if months.some:
        conditions = ["measure = :measure", "dimension = :dimension"]
        parameters |= {"measure": measure.code, "dimension": asked.by if asked.dimension is not None else indicators.TOTAL}
        code = {TOTAL: "''", DEPARTEMENT: "departement", MONTH: "to_char(month, 'YYYY-MM')"}.get(asked.by, "code")
        if reader.employer is not None:  # its posts are one breakdown of the counters: a total of them is its sum
            parameters["dimension"] = "post"
            conditions.append("code IN (SELECT post_id::text FROM posts WHERE employer_id = CAST(:employer AS uuid))")
        if "departements" in parameters:
            conditions.append("departement = ANY(CAST(:departements AS text[]))")
        for name, sign, at in (("first", ">=", months.first), ("last", "<=", months.last)):
            if at is not None:
                conditions.append(f"month {sign} CAST(:{name} AS date)")
                parameters[name] = at
        parts.append(f"SELECT {code} AS code, number FROM tallies WHERE {' AND '.join(conditions)}")  # noqa: S608 - names of our own
    for place, (first, last) in enumerate(months.edges):
        parameters |= {f"edge_{place}": first, f"end_{place}": last}
        conditions = [*row_conditions, f"{measure.day} BETWEEN CAST(:edge_{place} AS date) AND CAST(:end_{place} AS date)"]
        parts.append(
            f"SELECT {_code_expression(asked, measure.day)} AS code, 1 AS number FROM {measure.table} WHERE {' AND '.join(conditions)}"  # noqa: S608
        )
    inner = " UNION ALL ".join(parts) or "SELECT '' AS code, 0 AS number"
    return (
        f"SELECT code, sum(number)::bigint AS number, sum(number)::bigint FROM ({inner}) AS found GROUP BY code HAVING sum(number) <> 0 ORDER BY code",  # noqa: S608
        parameters,
    )
