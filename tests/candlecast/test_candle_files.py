"""Candles from the files that people have."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from candlecast.candle_files import read_candles
from candlecast.candles import CANDLE_COLUMNS, OHLCV_COLUMNS, require_sound
from candlecast.errors import InvalidCandles
from tests.bundles import sound_candles

CANDLES = sound_candles(6)


def written(path: Path, table: pd.DataFrame) -> Path:
    if path.suffix == ".parquet":
        table.to_parquet(path)
    else:
        table.to_csv(path, index=table.index.name == "open_time")
    return path


@pytest.mark.parametrize("name", ["candles.parquet", "candles.csv"])
def test_candles_come_back_as_they_were_written(tmp_path, name):
    path = written(tmp_path / name, CANDLES)

    candles = read_candles(path)

    pd.testing.assert_frame_equal(candles, CANDLES, check_freq=False)
    require_sound(candles, "5m")


@pytest.mark.parametrize("name", ["candles.parquet", "candles.csv"])
def test_times_may_be_milliseconds_since_1970(tmp_path, name):
    table = CANDLES.reset_index()
    table["open_time"] = table["open_time"].astype("int64") // 1000
    path = written(tmp_path / name, table)

    candles = read_candles(path)

    pd.testing.assert_index_equal(candles.index, CANDLES.index, exact=True)


def test_times_of_another_zone_become_utc(tmp_path):
    table = CANDLES.reset_index()
    table["open_time"] = [moment.tz_convert("Asia/Tokyo").isoformat() for moment in CANDLES.index]
    path = written(tmp_path / "candles.csv", table)

    candles = read_candles(path)

    pd.testing.assert_index_equal(candles.index, CANDLES.index, exact=True)


def test_order_flow_is_taken_if_it_is_there_and_other_columns_are_left(tmp_path):
    table = CANDLES[[*OHLCV_COLUMNS, "trades"]].assign(remark="mine")
    path = written(tmp_path / "candles.csv", table)

    candles = read_candles(path)

    assert tuple(candles.columns) == (*OHLCV_COLUMNS, "trades")
    assert set(candles.dtypes) == {np.dtype("float64")}


def test_the_files_order_is_kept(tmp_path):
    path = written(tmp_path / "candles.parquet", CANDLES.iloc[::-1])

    candles = read_candles(path)

    assert list(candles.index) == list(CANDLES.index[::-1])


def test_a_missing_column_is_named_beside_those_found(tmp_path):
    path = written(tmp_path / "candles.csv", CANDLES.drop(columns=["high", "volume"]))

    with pytest.raises(InvalidCandles, match=r"column high, volume missing; found open_time, open, low"):
        read_candles(path)


@pytest.mark.parametrize(
    ("column", "value", "said"),
    [("close", "n/a!", "n/a!"), ("open_time", "yesterday", "yesterday"), ("open_time", "", "row 2: open_time")],
)
def test_a_malformed_value_is_refused(tmp_path, column, value, said):
    table = CANDLES.reset_index().astype(object)
    table.loc[2, column] = value
    path = written(tmp_path / "candles.csv", table)

    with pytest.raises(InvalidCandles, match=f"{path.name}.*{said}"):
        read_candles(path)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("candles.parquet", b"no parquet"),
        ("candles.csv", b""),
        ("candles.csv", b"\xff\xfe\x00\xd8"),
        ("candles.txt", b""),
    ],
)
def test_a_file_that_is_something_else_is_refused_by_name(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content)

    with pytest.raises(InvalidCandles, match=name):
        read_candles(path)


@pytest.mark.parametrize("name", ["absent.parquet", "absent.csv"])
def test_a_file_that_is_not_there_is_refused_by_name(tmp_path, name):
    with pytest.raises(InvalidCandles, match=name):
        read_candles(tmp_path / name)


def test_the_candles_that_ship_with_candlecast_can_be_read(bundled_candles, tmp_path):
    path = written(tmp_path / "all.parquet", bundled_candles)

    candles = read_candles(path)

    assert tuple(candles.columns) == CANDLE_COLUMNS
    assert len(candles) == 35_424
