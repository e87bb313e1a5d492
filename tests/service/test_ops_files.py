"""Grafana's dashboard and Prometheus' rules ask for what the service really tells."""

from __future__ import annotations

import json
import re
from pathlib import Path

import yaml
from prometheus_client import CollectorRegistry, generate_latest

from service.metrics import ServiceMetrics

OPS = Path(__file__).parents[2] / "ops"


def told() -> set[str]:
    """Names of all series that the service can have."""
    metrics = ServiceMetrics(CollectorRegistry())
    types = re.findall(r"^# TYPE (\S+) (\w+)$", generate_latest(metrics.registry).decode(), re.M)
    return {
        name + ending
        for name, kind in types
        for ending in (("_bucket", "_sum", "_count") if kind == "histogram" else ("",))
    }


def asked(expressions: list[str]) -> set[str]:
    return set(re.findall(r"(?<![:\w])candlecast_\w+", " ".join(expressions)))


def test_the_dashboard_shows_series_that_exist() -> None:
    dashboard = json.loads((OPS / "grafana-dashboard.json").read_text())

    panels = dashboard["panels"]
    expressions = [target["expr"] for panel in panels for target in panel["targets"]]
    assert len({panel["id"] for panel in panels}) == len(panels)
    assert all(panel["description"] for panel in panels)
    assert asked(expressions)
    assert asked([*expressions, dashboard["templating"]["list"][1]["definition"]]) <= told()


def test_the_rules_alert_of_series_that_exist() -> None:
    [group] = yaml.safe_load((OPS / "prometheus-rules.yml").read_text())["groups"]

    rules = group["rules"]
    recorded = {rule["record"] for rule in rules if "record" in rule}
    alerts = [rule for rule in rules if "alert" in rule]
    assert asked([rule["expr"] for rule in rules]) <= told()
    assert {name for rule in rules for name in re.findall(r"candlecast:[\w:]+", rule["expr"])} <= recorded
    assert all(
        rule["annotations"].keys() == {"summary", "description"} and rule["labels"]["severity"] for rule in alerts
    )
