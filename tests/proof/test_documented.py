"""Every test that docs/proofs.md names exists."""

import ast
import re
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


def test_each_promise_was_seen_red_by_something() -> None:
    rows = [line.split(" | ") for line in Path("docs/proofs.md").read_text(encoding="utf-8").splitlines() if line.startswith("| ")]

    assert len(rows) > 30
    assert [row[0] for row in rows if len(row) != 3 or not row[2].strip(" |")] == []
