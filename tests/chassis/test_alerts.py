"""The alert rules look at metrics that exist, with labels that these have; the alert of a stopped stream says why it stopped."""

import inspect
import re
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from libs.chassis import consumer
from libs.chassis.runtime import Runtime
from libs.chassis.telemetry import REGISTRY
from libs.contracts.audiences import KINDS
from tests.alerting import ALERTS, RULES, firing, rules
from tests.chassis.answering import Issuer, app_of, calling, service
from tests.planted import seen_red

import_module("services.referrals.app")  # with metrics of its own
REASON = "the topic of internal holds number 15, this database only 14"


def labels_of() -> dict[str, set[str]]:
    """Series → its labels, of every metric."""
    return {
        name: set(one._labelnames) for one, names in REGISTRY._collector_to_names.items() if hasattr(one, "_labelnames") for name in names
    }


def unknown_of(rule: dict[str, Any]) -> set[str]:
    """What a rule names that nothing measures."""
    known, expression = labels_of(), rule["expr"]
    metrics = set(re.findall(r"\bmaillon_\w+", expression))
    selected = set(re.findall(r"(\w+)\s*=~?\s*\"", expression)) | {
        name for by in re.findall(r"\bby \(([\w, ]+)\)", expression) for name in by.split(", ")
    }
    shown = set(re.findall(r"\$labels\.(\w+)", " ".join(rule["annotations"].values())))
    labels = set().union(*(known.get(metric, set()) for metric in metrics))
    return (metrics - known.keys()) | ((selected | shown) - labels) | ({"no metric"} if not metrics else set())


@pytest.mark.parametrize("alert", RULES)
def test_an_alert_looks_at_what_is_measured(alert: str) -> None:
    assert unknown_of(RULES[alert]) == set()


@pytest.mark.parametrize(
    ("written", "instead"),
    [("maillon_loop_silence_seconds", "maillon_loop_silence"), ("$labels.loop", "$labels.name"), ("urgency=", "degree=")],
)
def test_planted_an_alert_on_what_nothing_measures_is_seen(written: str, instead: str) -> None:
    assert [alert for alert, rule in rules(ALERTS.replace(written, instead)).items() if unknown_of(rule)]


def test_the_alert_of_a_listener_looks_for_states_that_the_consumer_has() -> None:
    states = set(re.findall(r"_ill\(\w+, \"(\w+)\"", inspect.getsource(consumer)))

    [looked_for] = re.findall(r"\(([\w|]+)\):", RULES["ListenerStopped"]["expr"])

    assert set(looked_for.split("|")) <= states


async def test_a_counter_whose_increase_is_an_alert_is_there_before_it_first_counts(database_url: Callable[[str | None], str]) -> None:
    """Prometheus sees no increase in a series that begins at 1."""
    counters = {name for rule in RULES.values() for name in re.findall(r"\bincrease\((\w+)", rule["expr"])}

    async with calling(app_of(Issuer(), of=replace(service(), name="before"), database_url=database_url("partners"))) as client:
        families = text_string_to_metric_families((await client.get("/metrics")).text)
        found = [one for family in families for one in family.samples if one.name in counters and one.labels["service"] == "before"]

    assert counters
    assert {one.name: one.value for one in found} == dict.fromkeys(counters, 0)
    assert {one.labels["kind"] for one in found if "kind" in one.labels} == set(KINDS)


async def test_the_alert_of_a_stopped_stream_says_why_until_it_goes_on(database_url: Callable[[str | None], str]) -> None:
    app = app_of(Issuer(), database_url=database_url("partners"))

    async def said() -> list[str]:
        async with calling(app) as client:
            return firing("StreamDiverged", (await client.get("/metrics")).text, "partners")

    raw = await app.state.runtime.database.connect()
    await raw.execute(
        "INSERT INTO streams (stream, digest, purged_digest, diverged_at, diverged_reason) VALUES ('internal', ''::bytea, ''::bytea, now(), $1)",
        REASON,
    )
    stopped = await said()
    await raw.execute("UPDATE streams SET diverged_at = NULL, diverged_reason = NULL")
    afterwards = await said()
    await raw.close()

    assert len(stopped) == 1, "no alert of a stopped stream"
    assert all(word in stopped[0] for word in ("partners", "internal", REASON)), f"it says not what stopped and why: {stopped[0]}"
    assert afterwards == [], "it goes on and the alert as well"


async def test_planted_an_alert_without_its_rule_is_seen(
    database_url: Callable[[str | None], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(RULES, "StreamDiverged")

    await seen_red(test_the_alert_of_a_stopped_stream_says_why_until_it_goes_on(database_url), "no alert of a stopped stream")


@pytest.mark.parametrize(
    ("measured", "because"),
    [
        (lambda found, before: {}, "no alert of a stopped stream"),
        (lambda found, before: dict.fromkeys(found, ""), "it says not what stopped and why"),
        (lambda found, before: found or before, "it goes on and the alert as well"),
    ],
    ids=["nothing", "no reason", "for ever"],
)
async def test_planted_a_stopped_stream_that_is_measured_wrongly_is_seen(
    database_url: Callable[[str | None], str],
    monkeypatch: pytest.MonkeyPatch,
    measured: Callable[[dict[str, str], dict[str, str]], dict[str, str]],
    because: str,
) -> None:
    rightly, before = Runtime.diverged, dict[str, str]()

    async def wrongly(self: Runtime) -> dict[str, str]:
        found = measured(await rightly(self), before)
        before.update(found)
        return found

    monkeypatch.setattr(Runtime, "diverged", wrongly)

    await seen_red(test_the_alert_of_a_stopped_stream_says_why_until_it_goes_on(database_url), because)
