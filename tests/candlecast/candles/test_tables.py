"""Files in the layouts that people have give exactly their candles, or a refusal that names the place."""

from __future__ import annotations

import gzip
import json
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, assume, given, settings
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
        [ms * unit, *map(str, row), (ms + 300_000) * unit - 1, str(row[3] * row[4]), 3, "0.5", "0.7", "0"]
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


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_a_byte_order_mark_does_not_hide_the_first_column(tmp_path, encoding):
    text = CANDLES.to_csv(date_format="%Y-%m-%dT%H:%M:%SZ")
    (tmp_path / "excel.csv").write_bytes(text.encode(encoding))

    assert_read(tmp_path / "excel.csv")


def test_files_put_one_after_the_other_are_read_without_their_headers(tmp_path):
    first, second = (TABLE.assign(open_time=MS)[part].to_csv(index=False) for part in (slice(0, 2), slice(2, 6)))
    (tmp_path / "both.csv").write_text(first + second)
    (tmp_path / "both-marked.csv").write_bytes(first.encode("utf-8-sig") + second.encode("utf-8-sig"))

    assert_read(tmp_path / "both.csv")
    assert_read(tmp_path / "both-marked.csv")


def test_a_fault_behind_a_repeated_header_has_the_row_of_its_candle(tmp_path):
    text = TABLE.assign(open_time=MS).to_csv(index=False).splitlines(keepends=True)
    (tmp_path / "short.csv").write_text("".join([*text[:3], text[0], "1,2\n"]))
    (tmp_path / "bad.csv").write_text("".join([*text[:3], text[0], text[3].replace(text[3].split(",")[0], "x")]))

    for name, said in (("short.csv", "row 2: 2 values for 6 columns"), ("bad.csv", "row 2: open is 'x', not a number")):
        with pytest.raises(InvalidCandles, match=said):
            read_candles(tmp_path / name)


def test_a_spreadsheets_separator_line_is_no_header(tmp_path):
    text = TABLE.assign(open_time=MS).to_csv(index=False, sep=";", lineterminator="\r\n")
    (tmp_path / "excel.csv").write_text("sep=;\r\n" + text, newline="")

    assert_read(tmp_path / "excel.csv")


def test_gzip_files_and_zips_of_macos_are_read(tmp_path):
    text = TABLE.assign(open_time=MS).to_csv(index=False)
    (tmp_path / "mine.csv.gz").write_bytes(gzip.compress(text.encode()))
    (tmp_path / "BTC_USDT-5m.json.gz").write_bytes(gzip.compress(json.dumps(kline_rows()).encode()))
    with zipfile.ZipFile(tmp_path / "mac.zip", "w") as archive:
        archive.writestr("mine.csv", text)
        archive.writestr("__MACOSX/._mine.csv", "Mac OS X")

    for name in ("mine.csv.gz", "BTC_USDT-5m.json.gz", "mac.zip"):
        assert_read(tmp_path / name)


@pytest.mark.parametrize("name", ["mine.csv.gz", "mine.json.gz", "mine.zip", "mine.parquet", "mine.feather"])
def test_a_damaged_file_is_refused_by_name(tmp_path, name):
    whole = gzip.compress(b"open_time,open\n" * 1000)
    (tmp_path / name).write_bytes(whole[: len(whole) // 2])

    with pytest.raises(InvalidCandles, match=name):
        read_candles(tmp_path / name)


def test_an_encrypted_zip_is_refused_with_the_reason(tmp_path):
    with zipfile.ZipFile(tmp_path / "locked.zip", "w") as archive:
        archive.writestr("mine.csv", "x")
    content = bytearray((tmp_path / "locked.zip").read_bytes())
    for header, flags in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        content[content.index(header) + flags] |= 1
    (tmp_path / "locked.zip").write_bytes(content)

    with pytest.raises(InvalidCandles, match=r"locked.zip: .*encrypted"):
        read_candles(tmp_path / "locked.zip")


@pytest.mark.parametrize(
    "name", ["ETHUSDT-5m-2025-09.csv", "ETHUSDT-5m.csv", "ETH_USDT-5m.csv", "BTC_USDT_USDT-5m-futures.csv.gz"]
)
def test_a_file_whose_name_states_another_symbol_is_refused(tmp_path, name):
    text = TABLE.assign(open_time=MS).to_csv(index=False).encode()
    (tmp_path / name).write_bytes(gzip.compress(text) if name.endswith("gz") else text)

    with pytest.raises(InvalidCandles, match=rf"{name}: its symbol is {name.split('-')[0]}, not BTCUSDT"):
        read_history(tmp_path / name, "5m", "BTCUSDT")


def test_a_text_with_nul_characters_is_no_utf_8(tmp_path):
    (tmp_path / "wide.csv").write_bytes(TABLE.assign(open_time=MS).to_csv(index=False).encode("utf-16-le"))

    with pytest.raises(InvalidCandles, match=r"wide.csv: character 1 is NUL; save the file as UTF-8"):
        read_candles(tmp_path / "wide.csv")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"open_time": MS // 1000}, "row 0: open_time 17[0-9]+ is in seconds; milliseconds since 1970 are wanted"),
        ({"open_time": MS * 1000}, "is in microseconds; milliseconds"),
        ({"open_time": MS * 1_000_000}, "is in nanoseconds; milliseconds"),
        ({"open_time": [f"{at:%d/%m/%Y %H:%M}" for at in CANDLES.index]}, "is no time; write ISO-8601 with a zone"),
        (
            {"open_time": [f"{ms:.4E}" for ms in MS]},
            r"row 0: open_time 1.7[0-9]+E\+12 was rounded, as by a spreadsheet",
        ),
        ({"open_time": [*map(str, MS[:5]), "Total"]}, "row 5: open_time Total is not written as that of row 0"),
        ({"open_time": [*map(str, MS[:5]), f"{CANDLES.index[5]:%FT%TZ}"]}, "row 5: open_time 20.* is not written as"),
        ({"open_time": ["2025-06-01T24:00:00Z"] * 6}, "row 0: open_time .*T24:00:00Z is no time of the calendar"),
        ({"open_time": [f"{at:%Y-%m-%d %H:%M:%S}" for at in CANDLES.index]}, "has no time zone; write UTC times as"),
        ({"open_time": ["2025-13-01T00:00:00Z"] * 6}, "is no time of the calendar"),
        ({"open_time": MS.astype(float) + 0.5}, "is not a whole number of milliseconds"),
        ({"close": ["1,5"] * 6}, "row 0: close is '1,5', not a number; write a decimal point"),
        ({"close": ["1.234,5"] * 6}, "row 0: close is '1.234,5', not a number; write a decimal point"),
        ({"close": ["1٠"] * 6}, "row 0: close is '1٠', not a number"),
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
    for table, said in (
        (two_times, "date, time may all"),
        (two_volumes, "columns volume_btc, volume_usdt: name the volume of the base asset `volume`"),
    ):
        table.to_csv(tmp_path / "mine.csv", index=False)
        with pytest.raises(InvalidCandles, match=said):
            read_candles(tmp_path / "mine.csv")


@pytest.mark.parametrize("name", ["NEW-5m.csv", "2025-1m.csv", "BTCUSDT-15m-to-5m.csv"])
def test_a_name_that_only_resembles_a_markets_states_nothing(tmp_path, name):
    closed = CANDLES.index + pd.Timedelta(seconds=299)  # milliseconds cut off
    TABLE.assign(open_time=MS, close_time=closed).to_csv(tmp_path / name, index=False)

    assert_read(tmp_path / name)


@pytest.mark.parametrize("name", ["mine.csv", "BTCUSDT-1d-2025-06.csv"])
def test_a_single_candle_of_another_interval_is_refused(tmp_path, name):
    row = kline_rows()[0]
    row[6] = row[0] + 86_400_000 - 1
    (tmp_path / name).write_text(",".join(map(str, row)))

    with pytest.raises(InvalidCandles, match=rf"{name}: its candles are 1440 minutes apart, not 5m; set CANDLECAST_I"):
        read_history(tmp_path / name, "5m", "BTCUSDT")


@pytest.mark.parametrize("symbol", [{}, {"symbol": "BTC/USDT"}])
@pytest.mark.parametrize("column", ["Volume USDT", "Volume ($)", "Volume (€)", "Volume BTCUSDT"])
def test_the_volume_of_the_quote_asset_is_not_taken(tmp_path, symbol, column):
    table = TABLE.drop(columns="volume").assign(unix=MS, **{column: 2}, **symbol)
    table.to_csv(tmp_path / "mine.csv", index=False)

    with pytest.raises(InvalidCandles, match=r"volume_.+: name the volume of the base asset"):
        read_history(tmp_path / "mine.csv", "5m", "BTCUSDT")


def test_a_volume_that_the_quote_volume_contradicts_is_refused(tmp_path):
    paid = TABLE.volume * TABLE.close
    for changes, said in (
        ({"volume": paid, "quote_volume": paid}, "quote_volume is .* times volume x close, not about 1"),
        ({"volume": paid, "base_volume": TABLE.volume}, "columns volume, base_volume may both be"),
    ):
        TABLE.assign(timestamp=MS, **changes).to_csv(tmp_path / "mine.csv", index=False)
        with pytest.raises(InvalidCandles, match=said):
            read_history(tmp_path / "mine.csv", "5m")
    TABLE.assign(timestamp=MS, quote_volume=paid).to_csv(tmp_path / "mine.csv", index=False)
    assert_read(tmp_path / "mine.csv")


def test_points_between_thousands_are_refused_in_a_file_of_semicolons(tmp_path):
    whole = TABLE.assign(timestamp=MS, **{name: TABLE[name].map("{:,.0f}".format) for name in ("open", "close")})
    whole.replace(",", ".", regex=True).to_csv(tmp_path / "mine.csv", index=False, sep=";")

    with pytest.raises(InvalidCandles, match="every open has a point before its last three digits"):
        read_candles(tmp_path / "mine.csv")

    TABLE.assign(timestamp=MS).to_csv(tmp_path / "mine.csv", index=False, sep=";")
    assert_read(tmp_path / "mine.csv")


def test_a_column_that_is_there_twice_is_refused(tmp_path):
    text = TABLE.assign(timestamp=MS, last=1).rename(columns={"last": "Close"}).to_csv(index=False)
    (tmp_path / "mine.csv").write_text(text.replace("Close", "close"))

    with pytest.raises(InvalidCandles, match="column close is there twice"):
        read_candles(tmp_path / "mine.csv")


@pytest.mark.parametrize(
    ("name", "said"), [("zip", "a zip file, or a workbook"), ("gz", "a gzip file"), ("parquet", "a parquet file")]
)
def test_a_file_of_another_format_is_named(tmp_path, name, said):
    text = TABLE.assign(timestamp=MS).to_csv(index=False)
    mine = tmp_path / "mine.csv"
    if name == "parquet":
        CANDLES.to_parquet(mine)
    elif name == "gz":
        mine.write_bytes(gzip.compress(text.encode()))
    else:
        with zipfile.ZipFile(mine, "w") as archive:
            archive.writestr("a.csv", text)

    with pytest.raises(InvalidCandles, match=f"mine.csv: it is {said}.*let its name end"):
        read_candles(mine)


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


FAULTS = ("none", "drop a cell", "add a cell", "word", "swap", "repeat", "naive", "unit", "header", "shift", "joined")
LAYOUTS = ("own", "freqtrade", "kline", "kaggle", "cryptodatadownload", "ccxt", "yfinance")


def rows_of(layout: str) -> tuple[list[str], list[list[str]]]:
    """Return the header, empty if the layout has none, and the rows of a layout."""
    rows = [[str(row[0]), *map(str, row[1:6])] for row in kline_rows()]
    times = [at.isoformat() for at in CANDLES.index]
    if layout == "freqtrade":
        return ["date", *OHLCV_COLUMNS], [[at, *row[1:]] for at, row in zip(times, rows, strict=True)]
    if layout == "yfinance":
        header = ["Datetime", *map(str.capitalize, OHLCV_COLUMNS)]
        return header, [[at.replace("T", " "), *row[1:]] for at, row in zip(times, rows, strict=True)]
    if layout == "kaggle":
        header = ["Timestamp", "Open", "High", "Low", "Close", "Volume_(BTC)", "Volume_(Currency)"]
        return header, [[str(int(row[0]) // 1000), *row[1:], "0"] for row in rows]
    if layout == "cryptodatadownload":
        header = ["unix", *OHLCV_COLUMNS[:4], "Volume BTC", "Volume USDT", "symbol", "date"]
        return header, [[*row, "0", "BTC/USDT", at[:19]] for at, row in zip(times, rows, strict=True)]
    if layout == "kline":
        return [], [[str(cell) for cell in row] for row in kline_rows()]
    return ([], rows) if layout == "ccxt" else (["open_time", *OHLCV_COLUMNS], rows)


def write_table(path: Path, header: list[str], rows: list[list[str]], separator: str, end: str, encoding: str) -> None:
    """Write a table of texts in the format that the name says."""
    if path.suffix in (".parquet", ".feather"):
        table = pd.DataFrame(rows, columns=header or [str(number) for number in range(len(rows[0]))])
        table.to_parquet(path) if path.suffix == ".parquet" else table.to_feather(path)
        return
    lines = [header, *rows] if header else rows
    cells = [[f'"{one}"' if separator in one else one for one in row] for row in lines]
    content = "".join(separator.join(row) + end for row in cells).encode(encoding)
    if ".json" in path.name:
        content = json.dumps(rows).encode(encoding)
    if path.suffix == ".gz":
        content = gzip.compress(content)
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("any.csv", content)
        return
    path.write_bytes(content)


@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.data(),
    st.sampled_from(LAYOUTS),
    st.sampled_from(["csv", "csv", "csv", "csv.gz", "zip", "json", "json.gz", "parquet", "feather"]),
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-32"]),
    st.sampled_from(["\n", "\r\n", "\r"]),
    st.sampled_from([",", ";", "\t"]),
    st.booleans(),
    st.sampled_from(FAULTS),
)
def test_any_mixture_gives_the_candles_or_a_refusal(
    tmp_path, data, layout, ending, encoding, end, separator, newest, fault
):
    header, rows = rows_of(layout)
    assume(not (header and "json" in ending))
    rows = rows[::-1] if newest else rows
    at = data.draw(st.integers(0, len(rows) - 1))
    cell = data.draw(st.integers(0, len(OHLCV_COLUMNS)))
    if fault in ("drop a cell", "add a cell"):
        assume(ending not in ("parquet", "feather"))
    if fault == "drop a cell":
        del rows[at][cell]
    elif fault == "add a cell":
        rows[at].insert(cell, "1")
    elif fault == "word":
        rows[at][cell] = data.draw(st.sampled_from(["x", "1,5", "1 000", "0x10", "--", "inf", "1_0", "٣", ""]))
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
    elif fault == "joined" and header:
        rows.insert(at, list(header))
    path = tmp_path / f"any.{ending}"
    write_table(path, header, rows, separator, end, encoding)

    try:
        read = read_history(path, "5m")
    except InvalidCandles:
        assert fault != "none"
        assert fault != "joined" or ending in ("parquet", "feather")
    else:
        pd.testing.assert_frame_equal(read[list(OHLCV_COLUMNS)], CANDLES, check_exact=True, check_freq=False)
