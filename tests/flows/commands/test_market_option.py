"""`--market`: commands work on the market that it names, with its horizon and its table of candlecast.toml."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import psycopg
import pytest
from click.testing import Result
from typer.main import get_command
from typer.testing import CliRunner

from candlecast.bundle.forecast import FILE_COLUMNS
from candlecast.candles.files import write_candles
from candlecast.candles.store import CandleStore
from candlecast.database import open_database
from candlecast.errors import ConfigurationError
from candlecast.market import Market
from flows.cli import app
from tests.support.bundles import write_tiny_bundle
from tests.support.markets import STEP
from tests.support.records import forecast_for, record_as_if_in_time

WITHOUT = {"up", "exchange", "migrate", "deploy", "backup", "restore"}
Run = Callable[..., Result]
H3 = Market("BTCUSDT", "5m", 3)


def commands(group: Any, path: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, command in group.commands.items():
        found |= commands(command, f"{path}{name} ") if hasattr(command, "commands") else {path + name: command}
    return found


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_every_command_about_a_market_takes_its_name():
    without = {
        name
        for name, command in commands(get_command(app)).items()
        if "--market" not in [option for parameter in command.params for option in parameter.opts]
    }

    assert without == WITHOUT


@pytest.mark.usefixtures("empty_environment")
@pytest.mark.parametrize("command", [("status",), ("settings",), ("verify",), ("train", "--candles", "x.csv")])
def test_a_malformed_name_ends_a_command_with_the_form(command):
    done = run(*command, "--market", "btc-5m")

    assert isinstance(done.exception, ConfigurationError)
    assert "like BTCUSDT-5m" in str(done.exception)


@pytest.mark.usefixtures("empty_environment")
def test_a_name_and_an_interval_that_differ_are_refused():
    done = run("simulate", "--market", "BTCUSDT-5m-h3", "--interval", "1m")

    assert isinstance(done.exception, ConfigurationError)
    assert "market BTCUSDT-5m-h3 and interval 1m differ" in str(done.exception)


@pytest.fixture
def recipes(empty_environment: None, tmp_path: Path) -> Path:
    path = tmp_path / "candlecast.toml"
    path.write_text(
        "[training]\nepochs = 5\n[markets.BTCUSDT-5m]\nepochs = 3\n[markets.BTCUSDT-5m-h3]\nlookback_days = 9\n"
    )
    return path


def printed(*options: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(run("settings", *options, "--json").stdout)
    return found


def test_settings_are_printed_for_the_default_and_each_other_market(recipes):
    found = printed()

    assert found["training.epochs"] == {"value": "3", "from": f"{recipes} [markets.BTCUSDT-5m]"}
    assert found["markets.BTCUSDT-5m-h3.epochs"] == {"value": "5", "from": str(recipes)}
    assert found["markets.BTCUSDT-5m-h3.family"] == {"value": "lstm", "from": "default"}
    assert found["markets.BTCUSDT-5m-h3.lookback_days"]["from"] == f"{recipes} [markets.BTCUSDT-5m-h3]"


def test_settings_of_one_market_are_printed_alone(recipes):
    found = printed("--market", "BTCUSDT-5m-h3")

    assert found["lookback_days"] == {"value": "9.0", "from": f"{recipes} [markets.BTCUSDT-5m-h3]"}
    assert found["horizon"] == {"value": "3", "from": "argument"}
    assert not [key for key in found if key.startswith("markets.")]


def test_folds_of_a_file_have_the_horizon_of_the_market(recipes, bundled_candles, tmp_path):
    write_candles(tmp_path / "candles.parquet", bundled_candles)
    asked = ("walk-forward", "--candles", tmp_path / "candles.parquet", "--family", "persistence", "--train-months", 1)

    done = run(*asked, "--start", "2025-07-01", "--market", "BTCUSDT-5m-h3")

    assert done.exit_code == 0, done.output
    assert done.stdout.startswith("persistence on BTCUSDT-5m-h3, ")


@pytest.fixture
def recorded(
    recipes: Path, database: Any, replay_exchange: Any, bundled_candles: pd.DataFrame, monkeypatch: Any
) -> Any:
    exchange = replay_exchange(bundled_candles.iloc[: 2 * 288]).url
    for name, value in {
        "DATABASE_URL": database.writer_url.get_secret_value(),
        "SOURCE": "replay",
        "BINANCE_URL": exchange,
        "ARCHIVE_URL": exchange,
    }.items():
        monkeypatch.setenv(f"CANDLECAST_{name}", value)
    with psycopg.connect(database.owner_url.get_secret_value(), autocommit=True) as connection:
        yield connection


@pytest.mark.integration
def test_a_job_of_a_named_market_is_recorded_with_its_horizon(recorded):
    done = run("backfill", "--market", "BTCUSDT-5m-h3")
    status = json.loads(run("status", "--json").stdout)

    assert done.exit_code == 0, done.output
    assert (status["market"], status["jobs"]) == ("BTCUSDT-5m", [])
    assert [one["job"] for one in status["others"]["BTCUSDT-5m-h3"]["jobs"]] == ["backfill"]
    rows = recorded.execute("select symbol, interval, horizon, status from job_runs").fetchall()
    assert rows == [("BTCUSDT", "5m", 3, "completed")]


@pytest.mark.integration
def test_recorded_forecasts_are_written_with_the_columns_of_a_file(recorded, database, bundled_candles, tmp_path):
    first = bundled_candles.index[300].to_pydatetime()
    times = [first + number * STEP for number in range(4)]
    made = [forecast_for(time, horizon=3, close=100.0 + number / 2) for number, time in enumerate(times)]
    made.append(forecast_for(times[1], horizon=3, role="challenger"))
    made.append(forecast_for(times[1]))
    record_as_if_in_time(database.owner_url, made)
    file = tmp_path / "forecasts.parquet"
    span = ("--from", times[1].isoformat(), "--to", times[3].isoformat())

    done = run("forecasts", "export", file, "--market", "BTCUSDT-5m-h3", *span)
    empty = run("forecasts", "export", tmp_path / "none.parquet", "--to", "2000-01-01", "--json")

    assert done.stdout == f"2 forecasts of BTCUSDT-5m-h3 written to {file}, 0 of them abstained\n"
    found = pd.read_parquet(file)
    assert tuple(found.columns) == (*FILE_COLUMNS, "model_version", "issued_at", "abstained")
    assert [*found.index] == times[1:3]
    assert [*found["issued_from"]] == [time - 3 * timedelta(minutes=5) for time in times[1:3]]
    assert found["close"].tolist() == [100.5, 101.0]
    assert json.loads(empty.stdout)["forecasts"] == 0
    assert pd.read_parquet(tmp_path / "none.parquet").dtypes["issued_from"] == found.dtypes["issued_from"]


@pytest.fixture
def stored(recorded: Any, database: Any, bundled_candles: pd.DataFrame) -> pd.DataFrame:
    """Two stored months of the market BTCUSDT-5m-h3, of which one candle is doubtful."""
    candles = bundled_candles.loc["2025-07-01":"2025-08-31"]
    with open_database(database.writer_url) as pool:
        CandleStore(pool).upsert("BTCUSDT", "5m", candles, "test")
    recorded.execute(
        "insert into candle_suspicions (symbol, interval, open_time, reasons) values ('BTCUSDT', '5m', %s, '{break}')",
        [candles.index[-600].to_pydatetime()],
    )
    return candles.drop(candles.index[-600])


@pytest.mark.integration
@pytest.mark.parametrize(
    "command",
    [
        ("walk-forward", "--family", "persistence", "--train-months", 1),
        ("evaluate", "--from", "2025-08-30", "--model", "1"),
    ],
    ids=["walk-forward", "evaluate"],
)
def test_without_a_file_commands_take_the_sound_stored_candles(stored, monkeypatch, tmp_path, command):
    monkeypatch.setenv("CANDLECAST_HOME", str(tmp_path))
    write_tiny_bundle(tmp_path / "trained" / H3.model_name / "1" / "bundle", market=H3)
    write_candles(tmp_path / "candles.parquet", stored)
    asked = (*command, "--market", H3.model_name, "--json")

    done, of_file = run(*asked), run(*asked, "--candles", tmp_path / "candles.parquet")

    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout) == json.loads(of_file.stdout)
