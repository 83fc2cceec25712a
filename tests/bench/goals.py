"""What each measure should reach, and whether it did."""

from typing import Literal, NamedTuple

from tests.bench.ground import Line


class Goal(NamedTuple):
    of: Literal["ratio", "value"]
    is_least: bool
    """Else the most."""
    bound: float

    def met_by(self, line: Line) -> bool:
        found: float | None = getattr(line, self.of)
        return found is not None and (found >= self.bound if self.is_least else found <= self.bound)

    def __str__(self) -> str:
        return f"{self.of} {'≥' if self.is_least else '≤'} {self.bound:g}"


GOALS = {
    "intake": Goal("ratio", True, 1.0),
    "relay": Goal("ratio", True, 0.5),
    "consume": Goal("ratio", True, 0.5),
    "bulk": Goal("ratio", True, 0.25),
    "visible.p95": Goal("value", False, 250),
    "visible.idle.p95": Goal("value", False, 50),
    "rebuild": Goal("value", True, 10_000),
    "ready": Goal("value", False, 5),
    "memory": Goal("value", False, 667),  # MiB: 700 MB
    "growth.intake": Goal("ratio", True, 0.83),  # 1.2 times slower at most
    "growth.consume": Goal("ratio", True, 0.83),
    "worklist": Goal("value", False, 20),
}


def judged(line: Line) -> str:
    """One line for a person."""
    said = line.said()
    of = f", {said['ratio']} of {said['baseline']}" if line.baseline is not None else ""
    goal = GOALS.get(line.measure.partition(":")[0])
    end = "no goal" if goal is None else f"goal {goal}: {'met' if goal.met_by(line) else 'missed'}"
    return f"{line.measure}: {said['value']} {line.unit}{of}; {end}"
