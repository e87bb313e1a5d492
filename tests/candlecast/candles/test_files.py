"""Candles from the files that people have."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from candlecast.candles.files import read_candles, read_posted, require_importable, write_candles
from candlecast.candles.schema import CANDLE_COLUMNS, FLOW_COLUMNS, OHLCV_COLUMNS, require_valid
from candlecast.errors import InvalidCandles
from tests.support.bundles import sound_candles

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
    require_valid(candles, "5m")


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


@pytest.mark.parametrize("name", ["out.parquet", "out.csv"])
def test_what_is_written_is_read_back_to_the_last_digit(bundled_candles, tmp_path, name):
    candles = bundled_candles.iloc[:2000].copy()
    candles.iloc[:, 4] /= 3
    candles.iloc[5:9, 5:] = np.nan
    path = tmp_path / name

    write_candles(path, candles)

    pd.testing.assert_frame_equal(read_candles(path), candles, check_exact=True, check_freq=False)


def test_candles_are_written_to_no_other_kind_of_file(tmp_path):
    with pytest.raises(InvalidCandles, match=r"xlsx: the name must end in .parquet or .csv"):
        write_candles(tmp_path / "candles.xlsx", CANDLES)


def test_a_place_that_cannot_be_written_to_is_named(tmp_path):
    with pytest.raises(InvalidCandles, match="absent"):
        write_candles(tmp_path / "absent" / "candles.csv", CANDLES)


def test_a_file_of_plain_ohlcv_with_gaps_can_be_imported():
    plain = CANDLES[list(OHLCV_COLUMNS)].drop(CANDLES.index[2])

    complete = require_importable(Path("mine.csv"), plain, "5m")

    assert tuple(complete.columns) == CANDLE_COLUMNS
    assert complete[list(FLOW_COLUMNS)].isna().to_numpy().all()


@pytest.mark.parametrize(
    ("column", "value", "said"),
    [
        ("low", 99_970.0, "row 3: low"),
        ("high", 1.0, "row 3: high"),
        ("close", -1.0, "row 3: close"),
        ("volume", np.nan, "row 3: volume"),
        ("trades", -5.0, "row 3: trades"),
        ("quote_volume", np.inf, "row 3: quote_volume"),
    ],
)
def test_an_unsound_row_is_refused_by_file_row_and_field(column, value, said):
    unsound = CANDLES.copy()
    unsound.iloc[3, unsound.columns.get_loc(column)] = value

    with pytest.raises(InvalidCandles, match=f"mine.csv: {said}") as refusal:
        require_importable(Path("mine.csv"), unsound, "5m")

    assert (refusal.value.row, refusal.value.field) == (3, column)


@pytest.mark.parametrize(
    ("candles", "interval", "said"),
    [
        (CANDLES.iloc[:0], "5m", "no candle in it"),
        (CANDLES.iloc[[0, 1, 1, 2]], "5m", "row 2: open_time .* repeats"),
        (CANDLES.iloc[[0, 2, 1, 3]], "5m", "row 2: open_time .* earlier"),
        (CANDLES, "1m", "5 minutes apart, not 1m; set CANDLECAST_INTERVAL"),
        (CANDLES, "1h", "off the 1h grid"),
    ],
)
def test_a_file_that_is_no_ascending_series_of_the_interval_is_refused(candles, interval, said):
    with pytest.raises(InvalidCandles, match=f"mine.csv: .*{said}"):
        require_importable(Path("mine.csv"), candles, interval)


def test_a_json_list_is_klines_and_an_object_is_a_body(tmp_path):
    (tmp_path / "klines.json").write_text("[[1, 2]]")
    (tmp_path / "body.json").write_text('{"candles": [], "symbol": "BTCUSDT"}')

    assert read_posted(tmp_path / "klines.json") == {"klines": [[1, 2]]}
    assert read_posted(tmp_path / "body.json") == {"candles": [], "symbol": "BTCUSDT"}


@pytest.mark.parametrize("content", ["{half", "3", '"text"'])
def test_json_of_another_shape_is_refused_by_file_name(tmp_path, content):
    (tmp_path / "body.json").write_text(content)

    with pytest.raises(InvalidCandles, match=r"body\.json"):
        read_posted(tmp_path / "body.json")
