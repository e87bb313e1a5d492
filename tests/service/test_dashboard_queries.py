"""The queries of the Grafana dashboard, evaluated by promtool over metrics that a service showed."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pandas as pd
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient

from candlecast.api.answers import ForecastAnswer
from tests.service.conftest import LEDGER_MARKET, wait_until
from tests.service.test_alert_rules import NO_PROMTOOL
from tests.support.manifests import K8S
from tests.support.posted import as_rows

pytestmark = pytest.mark.integration
DASHBOARD = json.loads((K8S / "components" / "monitoring" / "candlecast.json").read_text())
QUERIES = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]
LEDGER = "candlecast_newest_recorded_forecast_timestamp_seconds{"


@pytest.mark.skipif(shutil.which("promtool") is None, reason=NO_PROMTOOL)
def test_every_panel_shows_something_of_a_service_that_works(
    service_with_ledger: TestClient,
    ledger_filled: list[ForecastAnswer],
    candles: pd.DataFrame,
    tmp_path: Path,
) -> None:
    doubtful = candles.iloc[:160].copy()
    doubtful.loc[doubtful.index[-2], "high"] *= 3
    body = {"symbol": LEDGER_MARKET.symbol, "candles": as_rows(doubtful)}
    assert service_with_ledger.post("/predict", json=body).json()["abstained"]
    assert service_with_ledger.post("/predict", json={}).status_code == 400
    assert (
        service_with_ledger.post("/predict", json={"symbol": "NOUSDT", "candles": as_rows(candles)}).status_code >= 400
    )
    wait_until(lambda: LEDGER in service_with_ledger.get("/metrics").text)
    shown = service_with_ledger.get("/metrics").text

    labels = {"namespace": "candlecast", "job": "service", "instance": "a"}
    series = [
        {"series": f"{sample.name}{json_labels({**labels, **sample.labels})}", "values": f"{sample.value}+1x10"}
        for family in text_string_to_metric_families(shown)
        for sample in family.samples
    ]
    checks = [
        {
            "expr": f"clamp_max(count({query.replace('$namespace', '.*').replace('$job', '.*')}), 1)",
            "eval_time": "9m",
            "exp_samples": [{"labels": "{}", "value": 1}],
        }
        for query in QUERIES
    ]
    tests = {"tests": [{"interval": "1m", "input_series": series, "promql_expr_test": checks}]}
    (tmp_path / "test.yml").write_text(yaml.safe_dump(tests))
    done = subprocess.run(
        ["promtool", "test", "rules", "test.yml"], cwd=tmp_path, capture_output=True, text=True, check=False
    )

    assert len(QUERIES) >= 16
    assert done.returncode == 0, done.stdout + done.stderr


def json_labels(labels: dict[str, str]) -> str:
    return "{" + ", ".join(f"{name}={json.dumps(value)}" for name, value in labels.items()) + "}"
