"""Recorded quotes: answered as Binance does while they are of now, and never made up."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import requests

from candlecast.candles.files import write_candles
from candlecast.candles.session import Quote
from candlecast.errors import ExchangeUnavailable, InvalidCandles
from candlecast.exchange.client import ExchangeClient
from candlecast.replay.quotes import QUOTE_COLUMNS, quotes_in
from candlecast.replay.recordings import recordings_in, served_folders

ROWS = [[100.0, 3.0, 100.01, 1.0], [101.5, 0.25, 101.75, 2.0]]


@pytest.fixture
def folder(bundled_candles: pd.DataFrame, tmp_path: Path) -> Path:
    """Candles, and two quotes a second apart, the first with their end."""
    candles = bundled_candles.iloc[:300]
    times = pd.date_range(candles.index[-1], periods=2, freq="1s", name="known_at")
    pd.DataFrame(ROWS, times, list(QUOTE_COLUMNS)).to_parquet(tmp_path / "BTCUSDT-quotes.parquet")
    write_candles(tmp_path / "BTCUSDT-5m.parquet", candles)
    return tmp_path


@pytest.fixture
def replay(replay_exchange: Any, folder: Path) -> Any:
    """An exchange of the folder, at the time of the first quote."""
    candles = recordings_in(folder)["BTCUSDT", "5m"]
    return replay_exchange(candles, now=candles.index[-1].to_pydatetime(), quotes=quotes_in(folder))


def answered(replay: Any, symbol: str = "BTCUSDT") -> requests.Response:
    return requests.get(f"{replay.url}/api/v3/ticker/bookTicker", params={"symbol": symbol}, timeout=10)


def test_a_quote_has_the_exact_shape_of_binance(replay: Any):
    assert answered(replay).json() == {
        "symbol": "BTCUSDT",
        "bidPrice": "100.00000000",
        "bidQty": "3.00000000",
        "askPrice": "100.01000000",
        "askQty": "1.00000000",
    }


def test_the_client_gets_the_newest_quote_until_it_is_a_minute_old(replay: Any):
    found = []
    with ExchangeClient(replay.url) as exchange:
        for seconds in (0, 0.999, 0.001, 60):
            replay.control.advance(timedelta(seconds=seconds))
            found.append(exchange.quote("BTCUSDT"))
    replay.control.advance(timedelta(milliseconds=1))

    start = replay.recording.index[-1].to_pydatetime()
    ages = [0, 0.999, 1, 61]
    assert found == [
        Quote(*ROWS[age >= 1], start + timedelta(seconds=age))  # type: ignore[arg-type]
        for age in ages
    ]
    assert (answered(replay).status_code, answered(replay).json()["code"]) == (503, -1000)


def test_the_client_gets_quotes_after_a_time_without(replay_exchange: Any, folder: Path):
    candles = recordings_in(folder)["BTCUSDT", "5m"]
    early = candles.index[-1].to_pydatetime() - timedelta(minutes=1)
    replay = replay_exchange(candles, now=early, quotes=quotes_in(folder))

    with ExchangeClient(replay.url) as exchange:
        with pytest.raises(ExchangeUnavailable, match="No quote of BTCUSDT is recorded at this time"):
            exchange.quote("BTCUSDT")
        replay.control.advance(timedelta(minutes=1))

        assert exchange.quote("BTCUSDT") is not None


def test_an_unknown_symbol_is_refused_with_the_code_of_binance(replay: Any):
    assert (answered(replay, "ETHUSDT").status_code, answered(replay, "ETHUSDT").json()["code"]) == (400, -1121)


def test_candles_alone_have_no_quote(replay_exchange: Any):
    replay = replay_exchange()

    with ExchangeClient(replay.url) as exchange:
        assert exchange.quote("BTCUSDT") is None
    assert answered(replay).status_code == 404


def test_quotes_come_from_the_folder_of_the_candles(folder: Path, monkeypatch: pytest.MonkeyPatch):
    folder.rename(folder.with_name("minutes"))
    monkeypatch.chdir(folder.parent)

    assert quotes_in(*served_folders("minutes")) == {}  # the folder of this name that ships with the project
    assert quotes_in(*served_folders("./minutes")).keys() == {"BTCUSDT"}


@pytest.mark.parametrize("fault", ["no column ask_quantity", "ascending UTC times"])
def test_a_file_that_is_no_quotes_is_refused(tmp_path: Path, fault: str):
    times = pd.DatetimeIndex(["2025-06-02", "2025-06-01"], tz="UTC")
    columns = QUOTE_COLUMNS[:3] if "column" in fault else QUOTE_COLUMNS
    pd.DataFrame(1.0, times, list(columns)).to_parquet(tmp_path / "BTCUSDT-quotes.parquet")

    with pytest.raises(InvalidCandles, match=fault):
        quotes_in(tmp_path)
