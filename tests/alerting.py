"""What the alert rules would say of what a service measures, without Prometheus."""

import re
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]  # schemathesis brings it, without stubs
from prometheus_client.parser import text_string_to_metric_families

ALERTS = Path("deploy/observability/alerts.yaml").read_text(encoding="utf-8")


def rules(text: str = ALERTS) -> dict[str, dict[str, Any]]:
    return {rule["alert"]: rule for group in yaml.safe_load(text)["groups"] for rule in group["rules"]}


RULES = rules()


def firing(alert: str, metrics: str, service: str) -> list[str]:
    """The sentences that an alert on a gauge above 0 says of a service, one for each series that fires; none where there is no such rule."""
    if alert not in RULES:
        return []
    gauge, compared = RULES[alert]["expr"].split(" ", 1)
    assert compared == "> 0"
    found = [one for family in text_string_to_metric_families(metrics) for one in family.samples if one.name == gauge and one.value > 0]
    return [_said(RULES[alert], one.labels) for one in found if one.labels["service"] == service]


def _said(rule: dict[str, Any], labels: dict[str, str]) -> str:
    return re.sub(r"\{\{ \$labels\.(\w+) \}\}", lambda found: labels[found[1]], rule["annotations"]["summary"])
