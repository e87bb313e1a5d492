"""`candlecast up`, end to end: every part real, on recorded candles, from nothing to retrained, killed and continued.

The tests of this module share one platform and run in their order: it is one story.
"""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterator
from datetime import datetime, timedelta
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pandas as pd
import psutil
import pytest
import requests

from candlecast.client import ForecastClient
from candlecast.registry.registry import CHAMPION
from tests.support.markets import MARKET
from tests.support.up import Platform, eventually

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]

FLOWS = {"backfill", "ingest", "train", "monitor"}
DAILY = {"housekeeping"}
"""Deployments that run too seldom for this test."""
BY_HAND = {"walk-forward", "search"}
"""Deployments without a schedule."""
CANDLE_S = 10
A_FEW_RUNS_S = 180
"""Seconds in which ingest runs several times, also beside a training."""


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """A platform for all tests; its processes are killed at the end."""
    quick = {"LOOKBACK_DAYS": "30", "EPOCHS": "3", "REPLAY_SPEED": str(300 / CANDLE_S)}
    platform = Platform(tmp_path_factory.mktemp("platform") / "home", **quick)
    try:
        platform.start()
        yield platform
    finally:
        platform.kill()


def test_up_says_it_is_a_replay_and_prints_the_addresses(platform):
    printed = platform.printed()

    assert "REPLAY: recorded candles, not the market" in printed
    assert all(platform.url(part) in printed for part in ("SERVICE", "PREFECT", "MLFLOW", "EVIDENTLY"))


def test_the_recorded_day_is_forecast_candle_by_candle_and_settled(platform):
    ((forecasts, targets, settled),) = platform.sql(
        "select count(*), count(distinct f.open_time), count(o.open_time) from forecasts f "
        "left join outcomes o using (symbol, interval, open_time, horizon) where role = 'champion'"
    )

    assert forecasts == targets >= 288
    assert settled >= forecasts - 1


def test_every_forecast_was_written_before_its_target_closed(platform):
    late = platform.sql("select * from forecasts where issued_at >= open_time + interval '5 minutes'")

    assert late == []


def test_stored_candles_equal_the_recording(platform, bundled_candles):
    rows = platform.sql("select open_time, open, high, low, close, volume, trades from candles order by open_time")

    stored = pd.DataFrame(rows).set_index(0)
    recorded = bundled_candles.loc[
        stored.index[0] : stored.index[-1], ["open", "high", "low", "close", "volume", "trades"]
    ]
    assert len(stored) == len(recorded) >= 30 * 288
    assert (stored.to_numpy(dtype="float64") == recorded.to_numpy()).all()


def test_predict_answers_history_cut_from_anywhere(platform, bundled_candles):
    history = bundled_candles.iloc[-200:]

    with ForecastClient(platform.url("SERVICE")) as service:
        answer = service.predict(history, "BTCUSDT", "5m")

    assert answer.open_time == history.index[-1] + timedelta(minutes=5)
    assert answer.low <= min(answer.open, answer.close) <= max(answer.open, answer.close) <= answer.high
    assert answer.direction.up + answer.direction.down == pytest.approx(1)
    assert answer.baseline.close == history["close"].iloc[-1]


def test_predict_names_the_missing_candle(platform, bundled_candles):
    history = bundled_candles.iloc[-200:]
    rows = [
        {"open_time": t.isoformat(), **row.dropna().to_dict()} for t, row in history.drop(history.index[77]).iterrows()
    ]

    response = requests.post(f"{platform.url('SERVICE')}/predict", json={"candles": rows}, timeout=10)

    assert response.status_code == 400
    assert response.json()["row"] == 77
    assert f"{history.index[77]:%Y-%m-%dT%H:%M}" in response.json()["detail"]


def test_prefect_has_deployments_of_the_loop_with_schedules_and_green_runs(platform):
    eventually(lambda: {run["name"].split()[0] for run in completed_runs(platform)} >= FLOWS, 120)

    deployments = {one["name"]: one for one in platform.prefect("deployments")}

    assert set(deployments) == FLOWS | DAILY | BY_HAND
    assert all(deployments[name]["schedules"][0]["active"] for name in FLOWS | DAILY)
    assert not any(one["paused"] for one in deployments.values())
    assert platform.prefect("artifacts", artifacts={"key": {"any_": ["ingest-btcusdt-5m"]}})
    assert [one["name"] for one in platform.prefect("automations")] == ["candlecast-look-after-failure"]


def test_a_run_starts_one_interpreter_and_only_ingest_yields_to_no_other(platform):
    [pool] = platform.prefect("work_pools")
    command = pool["base_job_template"]["variables"]["properties"]["command"]["default"]
    own = {one["name"]: one["job_variables"] for one in platform.prefect("deployments") if one["job_variables"]}

    # Without a command Prefect starts another interpreter, which only looks where the flow is.
    assert command == f"nice -n 10 {sys.executable} -P -m prefect.engine"
    assert own == {"ingest": {"command": command.removeprefix("nice -n 10 ")}}


FOREIGN = "https://foreign.example"


def test_prefect_starts_no_program_without_the_login(platform):
    api = f"{platform.url('PREFECT')}/api"
    asked = {"Origin": FOREIGN, "Access-Control-Request-Method": "POST"}

    preflight = requests.options(f"{api}/deployments/", headers=asked, timeout=10)
    created = requests.post(f"{api}/work_pools/", json={"name": "mine", "type": "process"}, timeout=10)

    assert preflight.headers.get("Access-Control-Allow-Origin") not in {"*", FOREIGN}
    assert created.status_code == 401
    assert (platform.home / "prefect-login").stat().st_mode & 0o077 == 0
    assert (platform.home / "prefect-login").read_text() in platform.printed()


WRITTEN_TO = {
    "SERVICE": "/predict",
    "EXCHANGE": "/replay/faults",
    "PREFECT": "/api/work_pools/",
    "EVIDENTLY": "/api/projects",
    "MLFLOW": "/api/2.0/mlflow/experiments/create",
}
"""A path of every port of `up` that takes a POST."""


@pytest.fixture
def page_elsewhere() -> Iterator[str]:
    """Address of a page whose name is not a name of the platform, and resolves to this machine as by DNS rebinding."""
    with ThreadingHTTPServer(("127.0.0.1", 0), SimpleHTTPRequestHandler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://foreign.example:{server.server_port}"
        server.shutdown()


def test_every_port_refuses_a_page_of_another_site_in_a_browser(platform, browser, page_elsewhere):
    page, posted = browser.new_page(), []
    page.on("response", lambda response: posted.append(response.status) if response.request.method == "POST" else None)
    page.goto(page_elsewhere)
    for part, path in WRITTEN_TO.items():
        send = "address => fetch(address, {method: 'POST', mode: 'no-cors', body: '{}'})"
        page.evaluate(send, f"{platform.url(part)}{path}")

    rebound = [browser.new_page().goto(f"http://rebound.example:{platform.ports[part]}/") for part in WRITTEN_TO]

    assert posted == [403] * len(WRITTEN_TO)
    assert [page.status if page else None for page in rebound] == [403] * len(WRITTEN_TO)


def test_the_owner_reaches_the_pages_of_mlflow_and_prefect(platform, browser):
    page = browser.new_page()
    page.goto(f"{platform.url('MLFLOW')}/#/models")
    page.get_by_text("BTCUSDT-5m").first.wait_for()

    page.goto(platform.url("PREFECT"))
    page.get_by_role("textbox").fill((platform.home / "prefect-login").read_text())
    page.keyboard.press("Enter")
    page.get_by_text("Flow Runs").first.wait_for()


def test_mlflow_has_the_run_with_metrics_plots_and_the_champion(platform):
    import mlflow

    number = platform.registry().aliases("BTCUSDT-5m")[CHAMPION]
    version = platform.registry().version("BTCUSDT-5m", number)
    client = mlflow.MlflowClient(platform.url("MLFLOW"))
    run = client.get_run(version.run_id)

    assert {"report_close_mae", "report_close_mae_baseline", "report_close_skill"} <= set(run.data.metrics)
    assert {"plots/close.png", "plots/reliability.png"} <= {
        f.path for f in client.list_artifacts(version.run_id, "plots")
    }
    assert client.get_metric_history(version.run_id, "val_loss")
    assert version.tags["gate"] == "promoted"


def test_new_forecasts_appear_and_are_settled_while_it_runs(platform):
    before = newest_target(platform)

    eventually(lambda: newest_target(platform) >= before + timedelta(minutes=10), A_FEW_RUNS_S)
    eventually(
        lambda: platform.sql("select max(open_time) from outcomes")[0][0] >= before + timedelta(minutes=5), A_FEW_RUNS_S
    )


def test_monitor_reports_and_starts_a_training_when_the_last_is_a_day_old(platform):
    eventually(lambda: platform.sql("select 1 from monitoring_checks where action = 'train'"), 300)
    eventually(lambda: len(platform.registry().versions("BTCUSDT-5m")) >= 2, 240)

    ((reports, numbers),) = platform.sql(
        "select reports, numbers from monitoring_checks where reports <> '{}' order by id limit 1"
    )
    pages = [requests.get(f"{platform.url('SERVICE')}/reports/{report}", timeout=10) for report in reports]

    assert [page.status_code for page in pages] == [200] * len(reports)
    assert any("volatility_trend" in page.text for page in pages)
    projects = requests.get(f"{platform.url('EVIDENTLY')}/api/projects", timeout=10).json()
    assert [project["name"] for project in projects] == ["BTCUSDT-5m"]
    assert {"mape", "baseline_mape", "skill", "mape_ratio"} <= set(numbers["performance"])


def test_alerts_are_events_in_prefect(platform):
    wanted = {"filter": {"event": {"name": ["candlecast.alert.happened"]}}}

    events = platform.ask_prefect("events", wanted)["events"]

    messages = [event["payload"]["message"] for event in events]
    assert any(message.startswith("version 1 is champion (gate)") for message in messages)


def test_the_page_shows_what_the_api_says_and_asks_nobody_else(platform, browser):
    page = browser.new_page()
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.on(
        "request",
        lambda request: None if request.url.startswith(platform.url("SERVICE")) else complaints.append(request.url),
    )

    champions = [served_champion(platform)]
    page.goto(platform.url("SERVICE"))
    now = page.locator("#now[aria-busy=false]")
    now.get_by_text("Probability up").wait_for()
    shown = now.inner_text()
    latest = requests.get(f"{platform.url('SERVICE')}/forecasts/latest", timeout=10).json()
    champions.append(served_champion(platform))  # the gate may have moved the alias meanwhile

    assert any(f"{forecast['close']:,.2f}" in shown for forecast in forecasts_since(platform, latest))
    assert any(f"v{champion} lstm" in shown for champion in champions)
    assert "REPLAY" in page.inner_text("#source")
    assert (page.get_attribute("#link-evidently", "href") or "").rstrip("/") == platform.url("EVIDENTLY")
    assert complaints == []


def test_moving_the_alias_changes_what_is_served_without_a_failed_request(platform, bundled_candles):
    eventually(lambda: jobs(platform, "train") == {"completed"}, 240)
    registry = platform.registry()
    present = registry.aliases("BTCUSDT-5m")[CHAMPION]
    other = next(one.number for one in registry.versions("BTCUSDT-5m") if one.number != present)
    answers: list[str] = []

    def ask_until_changed() -> None:
        with ForecastClient(platform.url("SERVICE")) as service:
            while not answers or answers[-1] != other:
                answers.append(service.predict(bundled_candles.iloc[-200:], "BTCUSDT", "5m").model.version)

    asking = threading.Thread(target=ask_until_changed, daemon=True)
    asking.start()
    eventually(lambda: bool(answers), 60)

    registry.set_alias("BTCUSDT-5m", CHAMPION, other)
    asking.join(timeout=120)

    assert not asking.is_alive()
    assert answers == [present] * (len(answers) - 1) + [other]


def test_a_move_by_hand_is_recorded_as_one(platform):
    registry = platform.registry()
    served = registry.aliases("BTCUSDT-5m")[CHAMPION]

    eventually(
        lambda: (
            (served, "person") in platform.sql("select version, decided_by from promotions order by id desc limit 1")
        ),
        300,
    )


def test_status_tells_what_runs_and_how_fresh_it_is(platform):
    told: dict[str, Any] = {}

    def is_fresh() -> bool:
        told.update(json.loads(platform.run("status", "--json").stdout))
        age_s = told.get("candle_age_s")
        return age_s is not None and age_s < 600

    eventually(is_fresh, 120)

    assert set(told["processes"]) == {"postgres", "mlflow", "prefect", "exchange", "service", "worker", "evidently"}
    assert all(state.startswith("running") for state in told["processes"].values())
    assert told["source"] == "replay"
    assert told["served"][CHAMPION]["version"] == platform.registry().aliases("BTCUSDT-5m")[CHAMPION]
    assert told["check"]["verdict"] in {"healthy", "drift", "too early"}


def test_a_second_up_in_the_same_home_is_refused(platform):
    second = platform.run("up")

    assert second.returncode == 1
    assert "candlecast: " in second.stderr


def test_after_kill_9_of_everything_up_continues_without_loss_or_doubling(platform):
    eventually(lambda: "running" not in jobs(platform, "train"), 240)
    candles = platform.sql("select * from candles order by open_time")
    forecasts = platform.sql("select * from forecasts order by open_time, role")
    versions = {one.number: one.tags.get("gate") for one in platform.registry().versions("BTCUSDT-5m")}
    champion = platform.registry().aliases("BTCUSDT-5m")[CHAMPION]

    platform.kill()
    platform.process.wait(timeout=30)
    platform.start()

    assert platform.sql("select * from candles order by open_time")[: len(candles)] == candles
    continued = platform.sql("select * from forecasts order by open_time, role")
    assert set(forecasts) <= set(continued)
    assert len({(row[2], row[4]) for row in continued}) == len(continued)
    now = {one.number: one.tags.get("gate") for one in platform.registry().versions("BTCUSDT-5m")}
    assert versions.items() <= now.items()
    assert platform.registry().aliases("BTCUSDT-5m")[CHAMPION] == champion
    before = newest_target(platform)
    eventually(lambda: newest_target(platform) > before, A_FEW_RUNS_S)


def test_prefect_is_left_without_orphans_of_the_former_life(platform):
    killed = [run for run in platform.prefect("flow_runs") if run["state_type"] == "CRASHED"]
    running = [run for run in platform.prefect("flow_runs") if run["state_type"] == "RUNNING"]

    started = datetime.fromtimestamp(psutil.Process(platform.process.pid).create_time()).astimezone()
    assert all(datetime.fromisoformat(run["start_time"]) > started for run in running)
    assert all(datetime.fromisoformat(run["start_time"]) < started for run in killed if run["start_time"])


def test_ctrl_c_ends_every_process(platform):
    code = platform.stop()

    assert code == 0
    assert platform.processes() == []
    assert "everything is stopped" in platform.printed()


def completed_runs(platform: Platform) -> list[dict[str, Any]]:
    return platform.prefect("flow_runs", flow_runs={"state": {"type": {"any_": ["COMPLETED"]}}})


def served_champion(platform: Platform) -> str:
    with ForecastClient(platform.url("SERVICE")) as service:
        return service.model(MARKET).models[CHAMPION].version


def forecasts_since(platform: Platform, latest: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the latest forecast and the one before; a new one may arrive between two requests."""
    earlier = requests.get(f"{platform.url('SERVICE')}/forecasts?limit=2&role=champion", timeout=10).json()
    return [latest, *earlier["forecasts"]]


def newest_target(platform: Platform) -> datetime:
    moment: datetime = platform.sql("select max(open_time) from forecasts")[0][0]
    return moment


def jobs(platform: Platform, job: str) -> set[str]:
    return {row[0] for row in platform.sql(f"select status from job_runs where job = '{job}' and status <> 'skipped'")}
