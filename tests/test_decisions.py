"""Decision records: one number each, and whoever names one names one that there is."""

import re
from collections import Counter
from pathlib import Path

RECORDS = sorted(Path("docs/decisions").glob("*.md"))
NAMED = re.compile(r"\b(?:docs/decisions/|[Dd]ecisions? )(\d{4})\b")


def test_each_decision_has_a_number_of_its_own_which_its_title_says() -> None:
    numbers = [record.name[:4] for record in RECORDS]

    assert numbers
    assert [number for number, times in Counter(numbers).items() if times > 1] == []
    assert [record.name for record in RECORDS if not record.read_text(encoding="utf-8").startswith(f"# {record.name[:4]} ")] == []


def test_every_decision_that_is_named_is_there() -> None:
    files = [
        file for room in ("libs", "services", "tests", "deploy", "docs") for kind in ("py", "md") for file in Path(room).rglob(f"*.{kind}")
    ]
    named = {
        (found, str(file))
        for file in [*files, Path("README.md"), Path("CHANGELOG.md")]
        for found in NAMED.findall(file.read_text(encoding="utf-8"))
    }

    assert len(named) > 20
    assert sorted(one for one in named if one[0] not in {record.name[:4] for record in RECORDS}) == []
