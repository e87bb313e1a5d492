"""The common part of flows: several markets, and the time limit."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import pytest
import yaml

from candlecast.errors import CandlecastError, ConfigurationError, ExchangeUnavailable
from candlecast.market import Market
from candlecast.settings.settings import Settings
from flows.backfill import backfill
from flows.housekeeping import housekeeping
from flows.ingest import ingest
from flows.jobs.runs import for_each, run_markets, settings_for
from flows.jobs.time_limit import LIMITS
from flows.monitor import monitor
from flows.search import search
from flows.train import train
from flows.walk_forward import walk_forward
from tests.support.manifests import ROOT


def test_failures_of_some_markets_are_reported_with_kind_and_traceback() -> None:
    done = []

    def job(settings: Settings) -> None:
        done.append(settings.market)
        if settings.symbol == "ETHUSDT":
            raise ExchangeUnavailable("does not answer")
        if settings.symbol == "SOLUSDT":
            raise KeyError("close")

    with pytest.raises(CandlecastError) as failed:
        for_each(job, ["BTCUSDT-5m", "ETHUSDT-5m", "SOLUSDT-5m"], 2, at_once=1)

    told = "2 of 3 markets failed: ETHUSDT-5m-h2: does not answer; SOLUSDT-5m-h2: KeyError: 'close'"
    assert str(failed.value) == told
    kept = failed.value.__cause__
    assert isinstance(kept, BaseExceptionGroup)
    assert [type(each) for each in kept.exceptions] == [ExchangeUnavailable, KeyError]
    assert all(each.__traceback__ for each in kept.exceptions)
    assert [(market.symbol, market.horizon) for market in done] == [("BTCUSDT", 2), ("ETHUSDT", 2), ("SOLUSDT", 2)]


HANGING = """
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from flows.jobs import runs, time_limit

time_limit.LIMITS["ingest"] = timedelta(seconds=1)

def job(settings):
    with runs.recorded_run("ingest", settings):  # the database accepts the connection and says nothing
        pass

runs.for_each(job, ["BTCUSDT-5m", "ETHUSDT-5m"], 1, at_once=2)
"""


def test_a_run_that_hangs_in_a_thread_ends_and_its_log_shows_where() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"postgresql://writer@127.0.0.1:{silent.getsockname()[1]}/candlecast"
        ended = subprocess.run(
            [sys.executable, "-c", HANGING],
            env={**os.environ, "CANDLECAST_DATABASE_URL": url},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    assert ended.returncode == os.EX_TEMPFAIL
    assert "ingest runs longer than 0:00:01: the process ends" in ended.stderr
    assert "in open_database" in ended.stderr


def test_every_flow_has_a_time_limit() -> None:
    deployed = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]

    assert {one["name"] for one in deployed} == set(LIMITS)


def test_every_flow_takes_the_name_of_a_market() -> None:
    flows = (backfill, housekeeping, ingest, monitor, search, train, walk_forward)

    assert [flow.name for flow in flows if not {"market", "markets"} & set(flow.parameters.properties)] == []


@pytest.mark.usefixtures("empty_environment")
def test_a_run_works_on_the_market_of_its_name_or_of_its_parts() -> None:
    assert settings_for(None, None, None, "BTCUSDT-1m-h15").market == Market("BTCUSDT", "1m", 15)
    assert settings_for("ETHUSDT", None, 2).market == Market("ETHUSDT", "5m", 2)
    with pytest.raises(ConfigurationError, match="market BTCUSDT-5m and horizon 2 differ"):
        settings_for(None, None, 2, "BTCUSDT-5m")


@pytest.mark.usefixtures("empty_environment")
def test_a_run_without_parameters_works_on_every_market(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CANDLECAST_MARKETS", "BTCUSDT-5m,BTCUSDT-1m-h15")

    assert run_markets(None, None, None, ()) == ["BTCUSDT-5m", "BTCUSDT-1m-h15"]
    assert run_markets(None, None, None, ["ETHUSDT-5m"]) == ["ETHUSDT-5m"]
    assert run_markets("BTCUSDT", "5m", None, ()) == ()


@pytest.mark.usefixtures("empty_environment")
def test_a_run_without_parameters_of_one_market_is_for_it_alone() -> None:
    assert run_markets(None, None, None, ()) == ()
    assert settings_for(None, None, None).market == Market("BTCUSDT", "5m")


def test_the_start_of_a_run_of_ingest_loads_no_library_of_trainings() -> None:
    heavy = "{'scipy', 'matplotlib', 'mlflow', 'tensorflow', 'xgboost', 'evidently', 'sklearn'}"
    found = subprocess.run(
        [sys.executable, "-c", f"import sys, flows.ingest; print(sorted({heavy} & set(sys.modules)))"],
        capture_output=True,
        text=True,
        check=True,
    )

    assert found.stdout == "[]\n"
