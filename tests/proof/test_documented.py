"""Every test that docs/proofs.md names exists; it names the campaign only where the campaign was seen red."""

import ast
import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import pytest

NAMED = sorted(set(re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", Path("docs/proofs.md").read_text(encoding="utf-8"))))


@cache
def _there(path: str) -> set[str]:
    tree = ast.parse(Path(path).read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")}


@pytest.mark.parametrize(("path", "name"), NAMED, ids=[name for _, name in NAMED])
def test_it_exists(path: str, name: str) -> None:
    assert name in _there(path)


def test_every_plant_has_its_row() -> None:
    planted = {
        (str(path), name)
        for path in sorted(Path("tests").rglob("test_*.py"))
        for name in _there(str(path))
        if name.startswith("test_planted_")
    }

    assert len(planted) > 100
    assert sorted(planted - set(NAMED)) == []


HEAD, _, TABLES = Path("docs/proofs.md").read_text(encoding="utf-8").partition("\n## ")
ROWS = [line.strip("|").split(" | ") for line in TABLES.splitlines() if line.startswith("| ")]
_MAY_SKIP = re.compile(r"pytest\.skip\(|mark\.skipif\(|^@shows_memory", re.MULTILINE)


def not_named(head: str) -> list[str]:
    """The files of proofs that a machine may pass over, and the head of docs/proofs.md does not say when."""
    files = sorted({path for path, _ in NAMED})
    return [path for path in files if _MAY_SKIP.search(Path(path).read_text(encoding="utf-8")) and path not in head]


def test_what_a_bare_machine_passes_over_is_said_first() -> None:
    assert not_named(HEAD) == []


def test_planted_a_file_that_is_passed_over_in_silence_is_told() -> None:
    assert not_named(HEAD.replace("tests/chassis/test_acls.py", "")) == ["tests/chassis/test_acls.py"]


def test_each_promise_was_seen_red_by_something() -> None:
    assert len(ROWS) > 30
    assert [row[0] for row in ROWS if len(row) != 3] == []
    assert unplanted(ROWS) == []


def unplanted(rows: Sequence[Sequence[str]]) -> list[str]:
    """The promises that no test of the house takes away: what was seen red by hand once is seen by nobody again."""
    return [row[0] for row in rows[1:] if row[0] != rows[0][0] and "::test_" not in row[2]]


def test_planted_a_promise_that_was_seen_red_by_hand_alone_is_told() -> None:
    by_hand = ["it holds", "campaign", "a campaign of 10,000 commits, before it was mended"]

    assert unplanted([*ROWS, by_hand]) == ["it holds"]


def test_what_the_campaign_shows_its_judgement_was_seen_red_for() -> None:
    """In a test of the judgement, or with the fault planted in a campaign: a scene of a few events says nothing about the campaign."""
    shown = [row for row in ROWS if row[1].startswith("campaign")]

    assert shown
    assert [row[0] for row in shown if "tests/proof/test_judging.py::" not in row[2] and "planted in the campaign" not in row[2]] == []
