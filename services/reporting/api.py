"""Figures over HTTP."""

from typing import Annotated, cast

from fastapi import APIRouter, Query

from libs.chassis.problems import problems
from libs.chassis.runtime import Run
from libs.chassis.security import Caller
from libs.contracts.types import Day, DepartementCode
from services.reporting import queries
from services.reporting.examples import EXAMPLES
from services.reporting.indicators import MEASURES
from services.reporting.reading import ask
from services.reporting.schemas import FiguresOut, IndicatorList
from services.reporting.settings import Settings

router = APIRouter(tags=["Chiffres"])

Name = Query(max_length=40, pattern="^[a-z][a-z0-9_]*$")


@router.get("/v1/indicators", operation_id="list_indicators", openapi_extra=EXAMPLES["list_indicators"], response_model=IndicatorList)
async def list_indicators(caller: Caller) -> IndicatorList:
    """Every indicator: its definition, the unit it counts, how it may be broken down, and whether that is a partition."""
    return IndicatorList(items=[queries.indicator_out(measure) for measure in MEASURES.values()])


@router.get(
    "/v1/figures",
    operation_id="read_figures",
    openapi_extra=EXAMPLES["read_figures"],
    response_model=FiguresOut,
    responses=problems(404, 422),
)
async def read_figures(
    caller: Caller,
    run: Run,
    measure: Annotated[str, Name],
    by: Annotated[str, Name] = "total",
    from_on: Annotated[Day | None, Query(alias="from", description="First day, included")] = None,
    until_on: Annotated[Day | None, Query(alias="until", description="Last day, included")] = None,
    departement: Annotated[DepartementCode | None, Query(description="In that département")] = None,
) -> FiguresOut:
    """One indicator over an interval, broken down, with how far each source was heard.

    Cells about fewer than the threshold are suppressed (`suppressed`, without a value) for everybody but the département's own coordinator.
    This is primary suppression: with the total withheld where it would give a single cell away, and intervals of whole months.
    """
    asked = ask(measure, by, from_on, until_on, departement)
    async with run.database.transaction(repeatable_read=True) as session:
        return await queries.figures(session, caller, asked, cast(Settings, run.settings).suppression_threshold)
