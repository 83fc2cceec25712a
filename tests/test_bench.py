"""`make bench` refuses sizes of which nothing could be said, and says whether a goal was met. Nothing is measured here."""

import json
from typing import Any

import pytest

from tests.bench import __main__ as bench
from tests.bench.goals import GOALS, judged
from tests.bench.ground import Line, alone, compared


@pytest.mark.parametrize(
    "arguments",
    [
        ["--rounds", "0"],
        ["--rounds", "-3"],
        ["--rounds", "many"],
        ["--seconds", "0"],
        ["--seconds", "nan"],
        ["--events", "0"],
        ["--only", "x"],
    ],
)
def test_sizes_of_which_nothing_can_be_said_are_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as refused:
        bench._options(arguments)

    assert refused.value.code == 2
    assert arguments[1] in capsys.readouterr().err


@pytest.mark.parametrize(("rounds", "warned"), [("1", True), ("2", True), ("3", False), ("5", False)])
def test_fewer_than_three_rounds_are_measured_with_a_warning(rounds: str, warned: bool, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench._options(["--rounds", rounds]).rounds == int(rounds)

    written = capsys.readouterr()
    assert (written.out, f"Of {rounds} rounds there is no median" in written.err) == ("", warned)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (compared("intake", [(566, 1_668)], "referrals/s"), "intake: 566 referrals/s, 0.34 of 1668; goal ratio ≥ 1: missed"),
        (compared("relay", [(5, 10)], "events/s"), "relay: 5 events/s, 0.5 of 10; goal ratio ≥ 0.5: met"),
        (alone("ready", [4.9, 5.0, 5.1], "s"), "ready: 5.0 s; goal value ≤ 5: met"),
        (alone("rebuild", [9_999], "events/s"), "rebuild: 9999 events/s; goal value ≥ 10000: missed"),
        (alone("visible.p50", [57], "ms"), "visible.p50: 57 ms; no goal"),
        (
            Line("worklist: open (50 rows)", 46, 20, 2.3, "ms p95"),
            "worklist: open (50 rows): 46 ms p95, 2.3 of 20; goal value ≤ 20: missed",
        ),
    ],
    ids=lambda given: given.measure if isinstance(given, Line) else "",
)
def test_each_measure_is_held_against_its_goal(line: Line, said: str) -> None:
    assert judged(line) == said


def test_every_measure_has_a_goal() -> None:
    assert {goal.partition(".")[0] for goal in GOALS} == set(bench.MEASURES)


class _Nothing:
    """Stands for the ground: nothing is started."""

    stage = ""

    async def __aenter__(self) -> "_Nothing":
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    def say(self, what: str) -> None:
        pass


async def test_stdout_holds_the_lines_alone_and_stderr_the_goals(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def measure(on: Any) -> list[Line]:
        return [alone("ready", [4.9], "s")]

    monkeypatch.setattr(bench, "ground", lambda sizes, report: _Nothing())
    monkeypatch.setattr("tests.bench.ready.measure", measure)
    monkeypatch.setattr("structlog.configure", lambda **given: None)

    await bench.main(bench._options(["--only", "ready"]))

    written = capsys.readouterr()
    assert json.loads(written.out) == {"measure": "ready", "value": 4.9, "baseline": None, "ratio": None, "unit": "s"}
    assert "ready: 4.9 s; goal value ≤ 5: met" in written.err


def test_the_ratio_is_the_median_of_the_rounds_own() -> None:
    line = compared("intake", [(1, 1), (1, 10), (9, 10)], "referrals/s")

    assert (line.value, line.baseline, line.ratio) == (1, 10, 0.9)
