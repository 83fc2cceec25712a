"""The alert rules look at metrics that exist, with labels that these have; the alert of a stopped stream says why it stopped."""

import inspect
import re
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]  # schemathesis brings it, without stubs
from prometheus_client.parser import text_string_to_metric_families

from libs.chassis import consumer
from libs.chassis.telemetry import REGISTRY
from libs.contracts.audiences import KINDS
from tests.chassis.answering import Issuer, app_of, calling, service

import_module("services.referrals.app")  # with metrics of its own
ALERTS = Path("deploy/observability/alerts.yaml").read_text(encoding="utf-8")
REASON = "the topic of internal holds number 15, this database only 14"


def rules(text: str = ALERTS) -> dict[str, dict[str, Any]]:
    return {rule["alert"]: rule for group in yaml.safe_load(text)["groups"] for rule in group["rules"]}


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


@pytest.mark.parametrize("alert", rules())
def test_an_alert_looks_at_what_is_measured(alert: str) -> None:
    assert unknown_of(rules()[alert]) == set()


@pytest.mark.parametrize(
    ("written", "instead"),
    [("maillon_loop_silence_seconds", "maillon_loop_silence"), ("$labels.loop", "$labels.name"), ("urgency=", "degree=")],
)
def test_planted_an_alert_on_what_nothing_measures_is_seen(written: str, instead: str) -> None:
    assert [alert for alert, rule in rules(ALERTS.replace(written, instead)).items() if unknown_of(rule)]


def test_the_alert_of_a_listener_looks_for_states_that_the_consumer_has() -> None:
    states = set(re.findall(r"_ill\(\w+, \"(\w+)\"", inspect.getsource(consumer)))

    [looked_for] = re.findall(r"\(([\w|]+)\):", rules()["ListenerStopped"]["expr"])

    assert set(looked_for.split("|")) <= states


async def test_a_counter_whose_increase_is_an_alert_is_there_before_it_first_counts(database_url: Callable[[str | None], str]) -> None:
    """Prometheus sees no increase in a series that begins at 1."""
    counters = {name for rule in rules().values() for name in re.findall(r"\bincrease\((\w+)", rule["expr"])}

    async with calling(app_of(Issuer(), of=replace(service(), name="before"), database_url=database_url("partners"))) as client:
        families = text_string_to_metric_families((await client.get("/metrics")).text)
        found = [one for family in families for one in family.samples if one.name in counters and one.labels["service"] == "before"]

    assert counters
    assert {one.name: one.value for one in found} == dict.fromkeys(counters, 0)
    assert {one.labels["kind"] for one in found} == set(KINDS)


async def test_the_alert_of_a_stopped_stream_says_why_until_it_goes_on(database_url: Callable[[str | None], str]) -> None:
    app = app_of(Issuer(), database_url=database_url("partners"))
    rule = rules()["StreamDiverged"]
    name = rule["expr"].partition(" ")[0]

    async def firing() -> list[dict[str, str]]:
        async with calling(app) as client:
            families = text_string_to_metric_families((await client.get("/metrics")).text)
        return [
            one.labels
            for family in families
            for one in family.samples
            if one.name == name and one.labels["service"] == "partners" and one.value > 0
        ]

    raw = await app.state.runtime.database.connect()
    await raw.execute(
        "INSERT INTO streams (stream, digest, purged_digest, diverged_at, diverged_reason) VALUES ('internal', ''::bytea, ''::bytea, now(), $1)",
        REASON,
    )
    [labels] = await firing()
    await raw.execute("UPDATE streams SET diverged_at = NULL, diverged_reason = NULL")
    afterwards = await firing()
    await raw.close()

    said = re.sub(r"\{\{ \$labels\.(\w+) \}\}", lambda found: labels[found[1]], rule["annotations"]["summary"])
    assert all(word in said for word in ("partners", "internal", REASON)), said
    assert afterwards == []
