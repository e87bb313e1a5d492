"""Twenty symbols by two intervals on one machine: how long after its close each has its forecast.

    python -m tests.bench.markets

Every part is real and a process of its own: PostgreSQL, MLflow, Prefect, the worker, the service with forty bundles,
and the replay exchange at the speed of the market. Both intervals close at the same moment. Takes four minutes.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import psutil
import psycopg

from candlecast.market import Market, floor_time
from candlecast.replay.control import ReplayControl
from candlecast.replay.recordings import bundled_recordings
from candlecast.settings.settings import Settings
from flows.deploy.deployment import prefect_client, run_now
from flows.deploy.schedules import start_schedules
from flows.jobs import loop
from flows.jobs.market import open_market
from flows.jobs.runs import settings_for
from flows.local.stack import LocalStack
from tests.support.platforms import make_champions, platform_settings, running, write_recordings

SYMBOLS, INTERVALS = 20, ("5m", "15m")
MARKETS = [Market(f"COIN{number:02}USDT", interval) for interval in INTERVALS for number in range(SYMBOLS)]

_BEFORE = timedelta(seconds=20)  # of a close: time for the worker to see what is scheduled
_LONGEST_S = 180.0
_CANDLES = 4 * 288


def main() -> None:
    """Measure runs of many markets, as scheduled, and then a run for each market, as it would be otherwise."""
    recorded = bundled_recordings()["BTCUSDT", "5m"].iloc[:_CANDLES]
    end = floor_time(recorded.index[-1].to_pydatetime(), "1h")
    closes = [end - timedelta(hours=hours) for hours in (6, 4)]
    with tempfile.TemporaryDirectory(prefix="markets-") as directory:
        home = Path(directory)
        settings = platform_settings(home / "home", MARKETS)
        network = _network(home)
        write_recordings(home / "recordings", recorded.loc[: end - timedelta(minutes=5)], MARKETS)
        with running(settings, closes[0] - timedelta(hours=1), home / "recordings") as stack:
            make_champions(settings, MARKETS, home / "bundles", network=network, sequence_length=24)
            _serve(stack)
            _fill()
            stack.start("worker")
            _tell("as scheduled", _as_scheduled(stack.settings, closes[0]))
            _tell("a run for each market", _one_by_one(stack.settings, closes[1]))


def _network(home: Path) -> bytes:
    """The network that is trained by default, untrained; made in a process of its own, which imports TensorFlow."""
    (home / "network").mkdir()
    command = [sys.executable, "-m", "tests.bench.service", "models", str(home / "network")]
    subprocess.run(command, check=True, capture_output=True)
    return (home / "network" / "model.onnx").read_bytes()


def _serve(stack: LocalStack) -> None:
    began = time.monotonic()
    stack.start("service")
    stack.wait_until_up("service", f"{stack.settings.service.url}/readyz")
    ready_s = time.monotonic() - began
    time.sleep(10)
    processes = [one for one in psutil.process_iter(["cmdline"]) if _is_service(one, stack.settings)]
    memory = ", ".join(f"{one.memory_info().rss / 2**20:.0f} MB" for one in processes)
    print(f"service with {len(MARKETS)} bundles: ready after {ready_s:.1f} s; its processes {memory}", flush=True)


def _is_service(process: psutil.Process, settings: Settings) -> bool:
    return "bentoml" in " ".join(process.info["cmdline"] or []) and str(settings.home) in str(_environment(process))


def _environment(process: psutil.Process) -> dict[str, str]:
    try:
        return process.environ()
    except psutil.Error:
        return {}


def _fill() -> None:
    """The history before the first close, in this process."""
    began = time.monotonic()
    for market in MARKETS:
        with open_market(settings_for(*market)) as opened:
            loop.sync(opened)
    print(f"history of {len(MARKETS)} markets stored in {time.monotonic() - began:.1f} s", flush=True)


def _as_scheduled(settings: Settings, close: datetime) -> list[float]:
    with ReplayControl(settings.exchange.binance_url) as control, open_market(settings) as market:
        control.set(close - _BEFORE)
        start_schedules(market)
        return _lateness(settings, close)


def _one_by_one(settings: Settings, close: datetime) -> list[float]:
    with prefect_client(settings.prefect_api_url) as client:
        ingest = client.read_deployment_by_name("ingest/ingest")
        for schedule in ingest.schedules:
            client.delete_deployment_schedule(ingest.id, schedule.id)
    with ReplayControl(settings.exchange.binance_url) as control:
        control.set(close + timedelta(seconds=2), 1)
    for market in MARKETS:
        run_now(settings.prefect_api_url, "ingest", market._asdict())
    return _lateness(settings, close)


def _lateness(settings: Settings, close: datetime) -> list[float]:
    """Seconds after `close`, on the exchange's clock, at which each market's forecast was issued."""
    assert settings.database.url is not None
    query = "select extract(epoch from issued_at - open_time)::float from forecasts where open_time = %s"
    deadline = time.monotonic() + _LONGEST_S
    with psycopg.connect(settings.database.url.get_secret_value(), autocommit=True) as connection:
        while True:
            found = [late for (late,) in connection.execute(query, [close])]
            if len(found) == len(MARKETS) or time.monotonic() > deadline:
                return found
            time.sleep(0.5)


def _tell(what: str, late_s: list[float]) -> None:
    p50, p95 = np.percentile(late_s, [50, 95]) if late_s else (np.nan, np.nan)
    print(
        f"{what}: {len(late_s)} of {len(MARKETS)} forecast, p50 {p50:.1f} s and p95 {p95:.1f} s after the close, the "
        f"last after {max(late_s, default=np.nan):.1f} s of 300",
        flush=True,
    )


if __name__ == "__main__":
    main()
