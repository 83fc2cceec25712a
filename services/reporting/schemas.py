"""What answers say."""

from libs.chassis.strict import Answer
from libs.contracts.types import Count, Day, DepartementCode, Instant


class BreakdownOut(Answer):
    """`partition`: each unit falls into exactly one cell; otherwise cells do not add up to the total."""

    code: str
    label: str
    partition: bool
    definition: str | None


class IndicatorOut(Answer):
    code: str
    label: str
    unit: str
    definition: str
    breakdowns: list[BreakdownOut]


class IndicatorList(Answer):
    items: list[IndicatorOut]


class CellOut(Answer):
    """`code` is empty where nothing is known. A suppressed cell rests on too few: its `value` is null."""

    code: str
    label: str
    value: int | None
    suppressed: bool


class TotalOut(Answer):
    """`value` is null when suppressed, and for a delay of nothing."""

    value: int | None
    suppressed: bool


class SeenOut(Answer):
    """Complete up to event number `sequence` of the source, whose head was `head_sequence` at `head_seen_at` (null: not asked yet).

    But for `missed` events, which were no longer kept when they could have been heard.
    """

    source: str
    epoch: Count
    sequence: Count
    head_sequence: Count | None
    head_seen_at: Instant | None
    missed: Count


class FiguresOut(Answer):
    """One indicator. `threshold`: cells below it are suppressed for this reader; null when nothing is."""

    measure: str
    label: str
    unit: str
    definition: str
    by: BreakdownOut
    from_on: Day | None
    until_on: Day | None
    departement: DepartementCode | None
    threshold: Count | None
    cells: list[CellOut]
    total: TotalOut
    complete_up_to: list[SeenOut]
    read_at: Instant
