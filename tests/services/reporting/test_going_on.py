"""`python -m services.reporting go-on SOURCE` says by its exit code what came of it, and changes nothing where it cannot be sure."""

import asyncio
from collections.abc import Callable, Sequence

import pytest

from services.reporting import going_on
from services.reporting.settings import Settings
from tests.settings import NOWHERE, settings_for


@pytest.mark.parametrize("arguments", [[], ["prefecture"], ["partners", "funding"], ["--help"]])
def test_a_slip_of_the_pen_does_nothing(arguments: Sequence[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        going_on.go_on_and_exit(arguments)

    assert ended.value.code == 2


async def test_a_source_that_does_not_answer_has_lost_nothing(
    database_url: Callable[[str], str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = settings_for("reporting", Settings, database_url=database_url("reporting"), source_urls={"partners": NOWHERE})
    monkeypatch.setattr(Settings, "load", lambda: settings)

    with pytest.raises(SystemExit) as ended:
        await asyncio.to_thread(going_on.go_on_and_exit, ["partners"])

    assert ended.value.code == 3
    assert "rien n'a été changé" in " ".join(capsys.readouterr().err.split())
