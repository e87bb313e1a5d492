"""Files in the layouts that people have give exactly their candles, or a refusal that names the place."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from candlecast.candles.files import read_candles, read_history
from candlecast.candles.schema import OHLCV_COLUMNS
from candlecast.errors import InvalidCandles
from tests.support.bundles import sound_candles

CANDLES = sound_candles(6)[list(OHLCV_COLUMNS)]
MS = CANDLES.index.as_unit("ms").astype("int64")
TABLE = CANDLES.reset_index(drop=True)


def assert_read(path: Path) -> None:
    read = read_history(path, "5m", "BTCUSDT")
    pd.testing.assert_frame_equal(read[list(OHLCV_COLUMNS)], CANDLES, check_exact=True, check_freq=False)


def kline_rows(unit: int = 1) -> list[list[object]]:
    return [
        [ms * unit, *map(str, row), (ms + 300_000) * unit - 1, "1.5", 3, "0.5", "0.7", "0"]
        for ms, row in zip(MS.tolist(), CANDLES.to_numpy().tolist(), strict=True)
    ]


def test_freqtrades_feather_and_json_are_read(tmp_path):
    TABLE.assign(date=CANDLES.index).to_feather(tmp_path / "BTC_USDT-5m.feather")
    rows = [[ms, *row] for ms, row in zip(MS.tolist(), CANDLES.to_numpy().tolist(), strict=True)]
    (tmp_path / "BTC_USDT-5m.json").write_text(json.dumps(rows))

    assert_read(tmp_path / "BTC_USDT-5m.feather")
    assert_read(tmp_path / "BTC_USDT-5m.json")


@pytest.mark.parametrize("unit", [1, 1000])
def test_the_archives_csv_and_zip_are_read_with_order_flow(tmp_path, unit):
    text = "\r\n".join(",".join(map(str, row)) for row in kline_rows(unit))
    (tmp_path / "BTCUSDT-5m-2025-09.csv").write_text(text)
    with zipfile.ZipFile(tmp_path / "BTCUSDT-5m-2025-09.zip", "w") as archive:
        archive.writestr("BTCUSDT-5m-2025-09.csv", text)

    for name in ("BTCUSDT-5m-2025-09.csv", "BTCUSDT-5m-2025-09.zip"):
        assert_read(tmp_path / name)
        assert read_history(tmp_path / name, "5m")["taker_buy_quote"].tolist() == [0.7] * 6


def test_cryptodatadownload_and_kaggle_are_read(tmp_path):
    newest_first = TABLE.assign(unix=MS, date="2025-06-01 00:00:00", symbol="BTC/USDT").iloc[::-1]
    newest_first = newest_first.rename(columns={"volume": "Volume BTC"}).assign(**{"Volume USDT": 0})
    text = newest_first.to_csv(index=False)
    (tmp_path / "Binance_BTCUSDT_5m.csv").write_text("https://www.CryptoDataDownload.com\n" + text)
    kaggle = TABLE.assign(Timestamp=MS // 1000, Weighted_Price=0, **{"Volume_(Currency)": 0})
    kaggle.rename(columns={"volume": "Volume_(BTC)"}).to_csv(tmp_path / "kaggle.csv", index=False)

    assert_read(tmp_path / "Binance_BTCUSDT_5m.csv")
    assert_read(tmp_path / "kaggle.csv")


def test_a_frame_of_yfinance_and_arrays_of_ccxt_are_read(tmp_path):
    frame = CANDLES.rename(columns=str.capitalize).rename_axis(index="Datetime")
    frame.columns = pd.MultiIndex.from_product([frame.columns, ["BTC-USD"]], names=["Price", "Ticker"])
    frame.to_parquet(tmp_path / "yfinance.parquet")
    pd.DataFrame(np.column_stack([MS, CANDLES.to_numpy()])).to_parquet(tmp_path / "ccxt.parquet")

    assert_read(tmp_path / "yfinance.parquet")
    assert_read(tmp_path / "ccxt.parquet")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_byte_order_mark_does_not_hide_the_first_column(tmp_path, encoding):
    text = CANDLES.to_csv(date_format="%Y-%m-%dT%H:%M:%SZ")
    (tmp_path / "excel.csv").write_bytes(text.encode(encoding))

    assert_read(tmp_path / "excel.csv")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"open_time": MS // 1000}, "row 0: open_time 17[0-9]+ is in seconds; milliseconds since 1970 are wanted"),
        ({"open_time": MS * 1000}, "is in microseconds; milliseconds"),
        ({"open_time": MS * 1_000_000}, "is in nanoseconds; milliseconds"),
        ({"open_time": [f"{at:%d/%m/%Y %H:%M}" for at in CANDLES.index]}, "is neither ISO-8601 with a zone"),
        ({"open_time": [f"{at:%Y-%m-%d %H:%M:%S}" for at in CANDLES.index]}, "has no time zone; write UTC times as"),
        ({"open_time": ["2025-13-01T00:00:00Z"] * 6}, "is no time of the calendar"),
        ({"open_time": MS.astype(float) + 0.5}, "is not a whole number of milliseconds"),
        ({"close": ["1,5"] * 6}, "row 0: close is '1,5', not a number"),
        ({"close": [True] * 6}, "row 0: close is True, not a number"),
        ({"symbol": ["BTC/USDT"] * 3 + ["ETH/USDT"] * 3}, "candles of several symbols: BTC/USDT, ETH/USDT"),
        ({"symbol": "ETH/USDT"}, "its symbol is ETH/USDT, not BTCUSDT"),
        ({"Close": 1.0}, "column close is there twice"),
    ],
)
def test_what_could_be_read_in_two_ways_is_refused(tmp_path, changes, said):
    table = TABLE.assign(open_time=[f"{at:%Y-%m-%dT%H:%M:%SZ}" for at in CANDLES.index]).assign(**changes)
    table.to_csv(tmp_path / "mine.csv", index=False)

    with pytest.raises(InvalidCandles, match=f"mine.csv: .*{said}"):
        read_history(tmp_path / "mine.csv", "5m", "BTCUSDT")


def test_two_columns_of_times_or_volumes_are_refused_by_name(tmp_path):
    two_times = TABLE.assign(date=CANDLES.index, time=CANDLES.index)
    two_volumes = TABLE.drop(columns="volume").assign(unix=MS, **{"Volume BTC": 1, "Volume USDT": 2})
    for table, said in ((two_times, "date, time may all"), (two_volumes, "volume_btc, volume_usdt may all")):
        table.to_csv(tmp_path / "mine.csv", index=False)
        with pytest.raises(InvalidCandles, match=said):
            read_candles(tmp_path / "mine.csv")


def test_naive_times_of_a_parquet_file_are_refused(tmp_path):
    CANDLES.tz_localize(None).to_parquet(tmp_path / "naive.parquet")

    with pytest.raises(InvalidCandles, match=r"naive.parquet: row 0: open_time .* has no time zone"):
        read_candles(tmp_path / "naive.parquet")


def test_an_index_and_a_column_of_one_name_are_refused(tmp_path):
    CANDLES.assign(open_time=MS).to_parquet(tmp_path / "twice.parquet")

    with pytest.raises(InvalidCandles, match="open_time is both the index and a column"):
        read_candles(tmp_path / "twice.parquet")


def test_a_fault_in_a_file_of_newest_first_is_named_by_the_files_row(tmp_path):
    table = TABLE.assign(open_time=MS).iloc[::-1].reset_index(drop=True)
    table.loc[1, "low"] = -1
    table.to_csv(tmp_path / "newest.csv", index=False)

    with pytest.raises(InvalidCandles, match=r"newest.csv: row 1: low is -1"):
        read_history(tmp_path / "newest.csv", "5m")


def test_a_high_that_rounding_left_below_the_close_is_set_to_it(tmp_path):
    sums = CANDLES.copy()
    sums["high"] = sums[["open", "close"]].max(axis=1)
    sums.iloc[2, 1] = np.nextafter(sums.iloc[2, 1], 0)
    sums.to_parquet(tmp_path / "sums.parquet")

    read = read_history(tmp_path / "sums.parquet", "5m")

    assert (read["high"] == CANDLES[["open", "close"]].max(axis=1)).all()


def test_a_zip_of_several_files_is_refused_with_their_names(tmp_path):
    with zipfile.ZipFile(tmp_path / "two.zip", "w") as archive:
        archive.writestr("a.csv", "")
        archive.writestr("b.csv", "")

    with pytest.raises(InvalidCandles, match=r"one .csv file is wanted in it, found a.csv, b.csv"):
        read_candles(tmp_path / "two.zip")


FAULTS = ("none", "drop a cell", "add a cell", "word", "swap", "repeat", "naive", "unit", "header", "shift")


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.data(),
    st.sampled_from(["own", "freqtrade", "kline", "kaggle"]),
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
    st.sampled_from(["\n", "\r\n"]),
    st.sampled_from([",", ";", "\t"]),
    st.booleans(),
    st.sampled_from(FAULTS),
)
def test_any_mixture_gives_the_candles_or_a_refusal(tmp_path, data, layout, encoding, end, separator, newest, fault):
    rows = [[str(row[0]), *map(str, row[1:6])] for row in kline_rows()]
    header = ["open_time", *OHLCV_COLUMNS]
    if layout == "freqtrade":
        header[0] = "date"
        rows = [[at.isoformat(), *row[1:]] for at, row in zip(CANDLES.index, rows, strict=True)]
    elif layout == "kaggle":
        header = ["Timestamp", "Open", "High", "Low", "Close", "Volume_(BTC)", "Volume_(Currency)"]
        rows = [[str(int(row[0]) // 1000), *row[1:], "0"] for row in rows]
    elif layout == "kline":
        header, rows = [], [[str(cell) for cell in row] for row in kline_rows()]
    rows = rows[::-1] if newest else rows
    at = data.draw(st.integers(0, len(rows) - 1))
    cell = data.draw(st.integers(0, len(OHLCV_COLUMNS)))
    if fault == "drop a cell":
        del rows[at][cell]
    elif fault == "add a cell":
        rows[at].insert(cell, "1")
    elif fault == "word":
        rows[at][cell] = data.draw(st.sampled_from(["x", "1,5", "1 000", "0x10", "--", "inf", "1_0"]))
    elif fault == "swap":
        rows[at], rows[at - 1] = rows[at - 1], rows[at]
    elif fault == "repeat":
        rows.insert(at, list(rows[at]))
    elif fault == "naive" and layout == "freqtrade":
        rows = [[row[0].removesuffix("+00:00"), *row[1:]] for row in rows]
    elif fault == "unit" and layout == "own":
        rows = [[row[0][:-3], *row[1:]] for row in rows]
    elif fault == "header" and header:
        header[cell] = "unknown"
    elif fault == "shift":
        rows = [[*row[-1:], *row[:-1]] for row in rows]
    text = io.StringIO(newline="")
    for row in [header, *rows] if header else rows:
        text.write(separator.join(f'"{one}"' if separator in one else one for one in row) + end)
    path = tmp_path / "any.csv"
    path.write_bytes(text.getvalue().encode(encoding))

    try:
        read = read_history(path, "5m")
    except InvalidCandles:
        assert fault != "none"
    else:
        pd.testing.assert_frame_equal(read[list(OHLCV_COLUMNS)], CANDLES, check_exact=True, check_freq=False)
