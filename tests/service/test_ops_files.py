"""Grafana's dashboard and Prometheus' rules query metrics that the service has."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import yaml
from prometheus_client import CollectorRegistry, generate_latest

from service.telemetry.metrics import ServiceMetrics

ROOT = Path(__file__).parents[2]
MONITORING = ROOT / "k8s" / "components" / "monitoring"
OF_KUBERNETES = {
    "CandlecastServiceDown",
    "CandlecastBackupMissing",
    "CandlecastBackupFailed",
    "CandlecastPodsFailing",
    "CandlecastFlowRunsFailing",
    "CandlecastPartDown",
    "CandlecastVolumeFull",
    "CandlecastCertificateExpires",
}


def told() -> set[str]:
    """Names of all series of the service."""
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
    dashboard = json.loads((MONITORING / "candlecast.json").read_text())

    panels = dashboard["panels"]
    expressions = [target["expr"] for panel in panels for target in panel["targets"]]
    assert len({panel["id"] for panel in panels}) == len(panels)
    assert all(panel["description"] for panel in panels)
    assert asked(expressions)
    choices = [choice["definition"] for choice in dashboard["templating"]["list"] if choice["type"] == "query"]
    assert asked([*expressions, *choices]) <= told()
    assert all('namespace=~"$namespace",job=~"$job"' in expression for expression in expressions)


def alerts(group: dict[str, Any]) -> dict[str, Any]:
    return {rule["alert"]: rule for rule in group["rules"]}


def plain() -> dict[str, Any]:
    """The alerts for a Prometheus without the operator, by name."""
    [group] = yaml.safe_load((ROOT / "ops" / "prometheus-rules.yml").read_text())["groups"]
    return alerts(group)


def test_the_rules_alert_of_series_that_exist() -> None:
    rules = plain().values()

    assert asked([rule["expr"] for rule in rules])
    assert asked([rule["expr"] for rule in rules]) <= told()
    assert all(
        rule["annotations"].keys() == {"summary", "description"} and rule["labels"]["severity"] for rule in rules
    )


def test_operator_alerts_cover_one_namespace_and_kubernetes() -> None:
    [group] = yaml.safe_load((MONITORING / "alerts.yaml").read_text())["spec"]["groups"]
    ours, of_operator = plain(), alerts(group)

    assert of_operator.keys() - ours.keys() == OF_KUBERNETES
    for name, rule in ours.items():
        same = of_operator[name]
        of_a_job = re.sub(r" by \(job\) ", "", rule["expr"]).replace("(job, ", "(")
        of_a_namespace = re.sub(r'namespace="candlecast"(, )?', "", same["expr"]).replace("{}", "")
        assert of_a_namespace == of_a_job
        assert (same["for"], same["labels"]) == (rule["for"], rule["labels"])
    assert all('namespace="candlecast"' in rule["expr"] for rule in of_operator.values())
