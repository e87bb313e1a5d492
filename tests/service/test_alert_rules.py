"""The alert rules over simulated hours, by promtool: what fires, when, and what does not."""

from __future__ import annotations

import shutil
import subprocess
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
PROMTOOL = shutil.which("promtool")
NO_PROMTOOL = "NOT TESTED: the alert rules over time. There is no promtool here: apt-get install prometheus"
FORECAST, CANDLE = "candlecast_newest_recorded_forecast_timestamp_seconds", "candlecast_newest_candle_timestamp_seconds"
INTERVAL = "candlecast_interval_seconds"
LAST_BACKUP = 'kube_cronjob_status_last_successful_time{namespace="candlecast", cronjob="backup"}'
HOUR = 60
_LABELS = 'namespace="candlecast", job="service"'


@pytest.fixture(autouse=True)
def promtool() -> None:
    if PROMTOOL is None:
        warnings.warn(NO_PROMTOOL, stacklevel=1)
        pytest.skip(NO_PROMTOOL)


def rule_groups(name: str) -> dict[str, Any]:
    if name == "plain":
        return {"groups": yaml.safe_load((ROOT / "ops" / "prometheus-rules.yml").read_text())["groups"]}
    rules = yaml.safe_load((ROOT / "k8s" / "components" / "monitoring" / "alerts.yaml").read_text())
    return {"groups": rules["spec"]["groups"]}


def of_a_model(metric: str, model: str = "BTCUSDT-5m") -> str:
    return f'{metric}{{{_LABELS}, model="{model}"}}'


def up_to_date(minutes: int, every: int = 5, until: int | None = None) -> str:
    """A time that follows the clock every few minutes, and no longer after `until`."""
    return " ".join(
        str(60 * every * (min(minute, minutes if until is None else until) // every)) for minute in range(minutes + 1)
    )


def firing(
    directory: Path, rules: str, series: dict[str, str], expected: dict[int, Iterable[tuple[str, str]]], *of: str
) -> None:
    """Require that exactly the expected alerts (name and model) of those named `of` fire at each minute."""
    directory.mkdir(exist_ok=True)
    (directory / "rules.yml").write_text(yaml.safe_dump(rule_groups(rules)))
    question = f'count by (alertname, model) (ALERTS{{alertstate="firing", alertname=~"{"|".join(of)}"}})'
    checks = [
        {
            "expr": question,
            "eval_time": f"{minute}m",
            "exp_samples": [
                {"labels": f'{{alertname="{name}"' + f', model="{model}"' * bool(model) + "}", "value": 1}
                for name, model in alerts
            ],
        }
        for minute, alerts in expected.items()
    ]
    given = [{"series": name, "values": values} for name, values in series.items()]
    test = {"interval": "1m", "input_series": given, "promql_expr_test": checks}
    written = {"rule_files": ["rules.yml"], "evaluation_interval": "1m", "tests": [test]}
    (directory / "test.yml").write_text(yaml.safe_dump(written))

    done = subprocess.run(
        [str(PROMTOOL), "test", "rules", "test.yml"], cwd=directory, capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("rules", ["plain", "operator"])
class TestStoppedLedger:
    OF = ("CandlecastForecastsMissing", "CandlecastCandlesMissing", "CandlecastFreshnessUnknown")

    def test_a_dead_ingest_fires_in_three_intervals_while_clients_call(self, tmp_path: Path, rules: str) -> None:
        series = {
            of_a_model(INTERVAL): "300+0x120",
            of_a_model(FORECAST): up_to_date(120, until=62),
            of_a_model(CANDLE): up_to_date(120, until=62),
            of_a_model("candlecast_last_forecast_timestamp_seconds"): "0+60x120",  # clients get answers
        }
        both = [("CandlecastForecastsMissing", "BTCUSDT-5m"), ("CandlecastCandlesMissing", "BTCUSDT-5m")]

        firing(tmp_path, rules, series, {30: [], 60: [], 70: [], 75: both, 120: both}, *self.OF)

    def test_one_silent_market_of_several_fires_alone(self, tmp_path: Path, rules: str) -> None:
        series = {
            of_a_model(INTERVAL): "300+0x120",
            of_a_model(FORECAST): up_to_date(120),
            of_a_model(CANDLE): up_to_date(120),
            of_a_model(INTERVAL, "ETHUSDT-15m"): "900+0x120",
            of_a_model(FORECAST, "ETHUSDT-15m"): up_to_date(120, 15, until=31),
            of_a_model(CANDLE, "ETHUSDT-15m"): up_to_date(120, 15),
        }
        silent = [("CandlecastForecastsMissing", "ETHUSDT-15m")]

        firing(tmp_path, rules, series, {60: [], 75: silent, 120: silent}, *self.OF)

    def test_an_unreachable_database_fires_although_all_times_are_absent(self, tmp_path: Path, rules: str) -> None:
        until_then = up_to_date(30) + " stale"
        series = {
            of_a_model(INTERVAL): "300+0x120",
            of_a_model(FORECAST): until_then,
            of_a_model(CANDLE): until_then,
        }
        unknown = [("CandlecastFreshnessUnknown", "BTCUSDT-5m")]

        firing(tmp_path, rules, series, {30: [], 40: [], 47: unknown, 120: unknown}, *self.OF)

    def test_a_market_that_never_had_a_forecast_fires(self, tmp_path: Path, rules: str) -> None:
        series = {of_a_model(INTERVAL): "300+0x60", of_a_model(CANDLE): up_to_date(60)}

        firing(tmp_path, rules, series, {10: [], 16: [("CandlecastFreshnessUnknown", "BTCUSDT-5m")]}, *self.OF)

    def test_without_any_service_something_fires(self, tmp_path: Path, rules: str) -> None:
        firing(tmp_path, rules, {}, {10: [], 16: [("CandlecastFreshnessUnknown", "")]}, *self.OF)


@pytest.mark.parametrize("rules", ["plain", "operator"])
class TestOldModels:
    @pytest.mark.parametrize(
        ("model", "step_s", "days", "old"),
        [
            ("BTCUSDT-5m", 300, 13, False),
            ("BTCUSDT-5m", 300, 15, True),
            ("BTCUSDT-1d", 86_400, 27, False),
            ("BTCUSDT-1d", 86_400, 29, True),
        ],
    )
    def test_a_model_is_old_after_14_days_or_28_candles(
        self, tmp_path: Path, rules: str, model: str, step_s: int, days: int, old: bool
    ) -> None:
        trained = f'candlecast_model_trained_until_timestamp_seconds{{{_LABELS}, model="{model}", alias="champion"}}'
        series = {of_a_model(INTERVAL, model): f"{step_s}+0x120", trained: f"{-days * 86_400}+0x120"}

        firing(tmp_path, rules, series, {65: [("CandlecastModelOld", model)] if old else []}, "CandlecastModelOld")


class TestBackups:
    OF = ("CandlecastBackupMissing", "CandlecastBackupFailed")

    def test_a_backup_that_never_succeeded_fires_within_a_day(self, tmp_path: Path) -> None:
        series = {'kube_cronjob_info{namespace="candlecast", cronjob="backup"}': "1+0x1440"}

        firing(tmp_path, "operator", series, {24 * HOUR: [("CandlecastBackupMissing", "")]}, *self.OF)

    def test_nightly_backups_are_quiet_until_two_days_after_the_last(self, tmp_path: Path) -> None:
        series = {LAST_BACKUP: up_to_date(96 * HOUR, 24 * HOUR, until=30 * HOUR)}  # the last after 24 hours
        missing = [("CandlecastBackupMissing", "")]

        firing(tmp_path, "operator", series, {12 * HOUR: [], 71 * HOUR: [], 74 * HOUR: missing}, *self.OF)

    def test_a_failed_backup_fires_for_a_day(self, tmp_path: Path) -> None:
        of_job = 'namespace="candlecast", job_name="backup-29"'
        series = {
            LAST_BACKUP: up_to_date(48 * HOUR, 12 * HOUR),
            f'kube_job_failed{{{of_job}, condition="true"}}': "_x60 1+0x3000",
            f"kube_job_created{{{of_job}}}": "_x60 3600+0x3000",
        }
        failed = [("CandlecastBackupFailed", "")]

        firing(tmp_path, "operator", series, {50: [], 70: failed, 20 * HOUR: failed, 26 * HOUR: []}, *self.OF)


class TestThePlatform:
    def test_a_part_without_a_ready_pod_fires(self, tmp_path: Path) -> None:
        ready = "kube_deployment_status_replicas_available"
        series = {
            f'{ready}{{namespace="candlecast", deployment="prefect"}}': "1+0x30 0+0x60",
            f'{ready}{{namespace="candlecast", deployment="mlflow"}}': "1+0x90",
            f'{ready}{{namespace="candlecast", deployment="toolbox"}}': "0+0x90",
        }

        firing(tmp_path, "operator", series, {30: [], 40: [("CandlecastPartDown", "")]}, "CandlecastPartDown")

    def test_a_volume_that_fills_fires(self, tmp_path: Path) -> None:
        of_volume = '{namespace="candlecast", persistentvolumeclaim="reports"}'
        series = {
            f"kubelet_volume_stats_available_bytes{of_volume}": "20-1x20 0+0x60",
            f"kubelet_volume_stats_capacity_bytes{of_volume}": "100+0x90",
        }

        firing(tmp_path, "operator", series, {10: [], 40: [("CandlecastVolumeFull", "")]}, "CandlecastVolumeFull")

    def test_a_certificate_fires_ten_days_before_its_end(self, tmp_path: Path) -> None:
        expiry = 'certmanager_certificate_expiration_timestamp_seconds{namespace="candlecast", name="candlecast-tls"}'
        series = {expiry: f"{11 * 86400}+0x3000"}
        name = "CandlecastCertificateExpires"

        firing(tmp_path, "operator", series, {12 * HOUR: [], 26 * HOUR: [(name, "")]}, name)

    def test_many_failed_flow_runs_fire_and_old_ones_do_not(self, tmp_path: Path) -> None:
        series = {}
        for number in range(5):
            of_job = f'namespace="candlecast", job_name="ingest-{number}"'
            series[f'kube_job_failed{{{of_job}, condition="true"}}'] = "1+0x200"
            series[f"kube_job_created{{{of_job}}}"] = "0+0x200"
        name = "CandlecastFlowRunsFailing"

        firing(tmp_path, "operator", series, {10: [(name, "")], 70: []}, name)
