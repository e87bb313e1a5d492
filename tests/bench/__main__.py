"""`make bench`: what was measured beside what most projects do, as ratios within one run.

Seconds differ from machine to machine and from minute to minute; the ratio of two ways that took turns does not
much. Nothing here is a test. At the end come the guarantees, simulated; the exit status is 1 if one fails.
"""

from __future__ import annotations

import csv
import io
import json
import logging
import subprocess
import sys
import tempfile
import threading
import time
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

import numpy as np
import pandas as pd
import pyarrow as pa
from psycopg_pool import ConnectionPool
from pydantic import SecretStr

from candlecast.archive.fill import fill_from_archive
from candlecast.bundle.network import open_network
from candlecast.candles.schema import CANDLE_COLUMNS
from candlecast.candles.store import CandleStore
from candlecast.database import migrate, open_database
from candlecast.features.base import BASE
from candlecast.features.indicators import INDICATORS
from candlecast.market import Market
from candlecast.replay.recordings import bundled_recordings
from flows.local.postgres import LocalPostgres
from flows.local.stack import free_ports
from tests.bench.dashboard import dashboard
from tests.bench.guarantees.__main__ import main as guarantees
from tests.bench.service import service
from tests.support.archives import ArchiveTransport, archive_client, archive_files
from tests.support.sessions import market_session

ROUNDS = 5

COLUMNS = ", ".join(CANDLE_COLUMNS)
INSERT = f"""
insert into candles (symbol, interval, open_time, {COLUMNS}, source)
values (%s, %s, %s, {", ".join(["%s"] * len(CANDLE_COLUMNS))}, %s)
""".encode()


def main() -> int:
    """Print one line for each comparison, and the tables of the guarantees; return the exit status."""
    candles = bundled_recordings()["BTCUSDT", "5m"]
    print(f"{'what':<58}{'ours':>12}{'usual':>12}{'ratio':>8}")
    inference()
    features(candles)
    training()
    logging.getLogger("psycopg.pool").setLevel(logging.ERROR)
    with empty_database() as pool:
        storing(pool, candles)
        long_history(pool, candles)
    service()
    dashboard()
    return guarantees([])


def inference() -> None:
    """One window through the exported network, beside Keras' `predict`."""
    from training.families.network import build_network, export_onnx, quiet_tensorflow

    quiet_tensorflow()
    window = np.random.default_rng(0).normal(size=(1, 24, len(BASE.names))).astype("float32")
    model = build_network((24, len(BASE.names)), np.zeros(5)).answering
    with tempfile.TemporaryDirectory() as directory:
        export_onnx(model, Path(directory) / "model.onnx")
        network = open_network(Path(directory) / "model.onnx")
        ours, usual = in_turns(
            lambda: repeat(50, lambda: network.answer(window)),
            lambda: repeat(5, lambda: model.predict(window, verbose=0)),
        )
    tell("one window: ONNX Runtime, Keras predict", ours / 50, usual / 5)


def features(candles: pd.DataFrame) -> None:
    """All features of a million candles, beside one of them by `rolling().apply`, and all of them row by row."""
    rows = 1_000_000
    opened = pd.date_range("2016-01-01", periods=rows, freq="5min", tz="UTC", unit="us", name="open_time")
    long = pd.DataFrame(np.resize(candles.to_numpy(), (rows, len(CANDLE_COLUMNS))), opened, CANDLE_COLUMNS)
    log_range = np.log(long["high"] / long["low"])
    weights = (1 - 2 / 49) ** np.arange(BASE.lookback + 1)[::-1]
    ours, usual = in_turns(
        lambda: BASE.build(long),
        lambda: log_range.rolling(BASE.lookback + 1).apply(lambda part: part @ weights / weights.sum(), raw=True),
        rounds=2,
    )
    tell(f"{rows:,} candles: all features, rolling().apply of one", ours, usual)
    row_by_row = repeat(300, lambda: BASE.build(long.iloc[: BASE.lookback + 1])) / 300 * rows
    tell(f"{rows:,} candles: all features, row by row (300 timed)", ours, row_by_row)
    with peak_memory() as peak:
        INDICATORS.build(long)
    indicators, of_talib = in_turns(lambda: INDICATORS.build(long), lambda: talib_indicators(long), rounds=1)
    tell(f"{rows:,} candles: 103 indicators, 16 by TA-Lib", indicators, of_talib)
    print(f"{'  most memory allocated on the way':<58}{peak[0]:>9.0f} MB", flush=True)


def talib_indicators(candles: pd.DataFrame) -> None:
    """The indicators of the set that TA-Lib has, over the whole history."""
    import talib

    high, low, close, volume = (candles[name].to_numpy() for name in ("high", "low", "close", "volume"))
    for span in (12, 26, 50, 200):
        talib.EMA(close, span)
    for window in (5, 15, 30, 60):
        talib.SMA(close, window)
    talib.BBANDS(close, 20)
    talib.MACD(close)
    talib.RSI(close, 14)
    talib.STOCH(high, low, close, 14)
    for indicator in (talib.CCI, talib.ADX, talib.ATR):
        indicator(high, low, close, 14)
    talib.MFI(high, low, close, volume, 14)


def training() -> None:
    """An epoch of 90 days, the best loss on the stopping slice and the most memory, each way in its own process."""
    runs = {way: [] for way in ("ours", "usual")}
    for _ in range(2):
        for way, figures in runs.items():
            command = [sys.executable, "-m", "tests.bench.training", way]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            figures.append(json.loads(done.stdout.splitlines()[-1]))
    ours, usual = ({name: median(run[name] for run in figures) for name in figures[0]} for figures in runs.values())
    tell("an epoch of 90 days: ours, Keras with batches of 64", ours["epoch_s"], usual["epoch_s"])
    print(f"{'  best loss on the stopping slice':<58}{ours['loss']:>12.5f}{usual['loss']:>12.5f}")
    print(f"{'  peak memory of the process':<58}{ours['peak_mb']:>9.0f} MB{usual['peak_mb']:>9.0f} MB", flush=True)


@contextmanager
def empty_database() -> Iterator[ConnectionPool]:
    """A migrated database on a server of its own, as its owner."""
    with (
        tempfile.TemporaryDirectory() as directory,
        LocalPostgres(Path(directory) / "postgres", free_ports(1)[0]).running() as server,
        open_database(SecretStr(server.url("candlecast_owner"))) as pool,
    ):
        migrate(pool)
        yield pool


def storing(pool: ConnectionPool, candles: pd.DataFrame) -> None:
    """Candles into PostgreSQL and again, beside `executemany`."""
    store = CandleStore(pool)
    times = pd.DatetimeIndex(candles.index).to_pydatetime()

    def usual_way() -> None:
        rows = [("USUAL", "5m", at, *row, "rest") for at, row in zip(times, candles.to_numpy().tolist(), strict=True)]
        with pool.connection() as connection, connection.cursor() as cursor:
            cursor.execute("delete from candles where symbol = 'USUAL'")
            cursor.executemany(INSERT, rows)

    def our_way() -> None:
        with pool.connection() as connection:
            connection.execute("delete from candles where symbol = 'OURS'")
        store.upsert("OURS", "5m", candles, "rest")

    ours, usual = in_turns(our_way, usual_way, rounds=1)
    again = median(repeat(1, lambda: store.upsert("OURS", "5m", candles, "rest")) for _ in range(3))
    tell(f"{len(candles):,} candles stored: COPY, executemany", ours, usual)
    tell(f"{len(candles):,} candles stored again unchanged: upsert, executemany", again, usual)


def long_history(pool: ConnectionPool, recorded: pd.DataFrame) -> None:
    """24 monthly archive files, a million candles, into PostgreSQL; the memory that takes; the gaps in them."""
    market = Market("BTCUSDT", "1m")
    start, after_3_months, end = (datetime(*month, 1, tzinfo=UTC) for month in ((2024, 1), (2024, 4), (2026, 1)))
    opened = pd.date_range(start, end, freq=market.step, inclusive="left", unit="us", name="open_time")
    candles = pd.DataFrame(np.resize(recorded.to_numpy(), (len(opened), len(CANDLE_COLUMNS))), opened, CANDLE_COLUMNS)
    files = archive_files(candles, market)
    session, archive = market_session(pool, market), archive_client(ArchiveTransport(files))
    store = session.store

    def our_way(until: datetime = end) -> None:
        fill_from_archive(session, archive, [(start, until)], end, workers=3)

    empty(pool)
    before = repeat(1, our_way)
    empty(pool)
    usual = repeat(1, lambda: load_the_usual_way(pool, files))
    empty(pool)
    after = repeat(1, our_way)
    what = f"{len(candles):,} candles, 24 archive files: ours, executemany"
    tell_rate(what, len(candles), (before + after) / 2, usual)
    peaks_mb = []
    for until in (after_3_months, end):
        empty(pool)
        with peak_memory() as peak:
            our_way(until)
        peaks_mb.append(peak[0])
    print(f"{'  most memory allocated on the way: 3 files, 24 files':<58}{peaks_mb[0]:>9.1f} MB{peaks_mb[1]:>9.1f} MB")
    whole = median(repeat(1, lambda: store.missing_ranges("BTCUSDT", "1m", start, end)) for _ in range(3))
    with pool.connection() as connection:
        connection.execute("delete from candles where extract(epoch from open_time)::bigint % 60000 = 0")
    holed = median(repeat(1, lambda: store.missing_ranges("BTCUSDT", "1m", start, end)) for _ in range(3))
    gaps = len(store.missing_ranges("BTCUSDT", "1m", start, end))
    print(f"{f'  gaps found: none, {gaps:,} all over':<58}{1000 * whole:>9.0f} ms{1000 * holed:>9.0f} ms")


def load_the_usual_way(pool: ConnectionPool, files: Mapping[str, bytes]) -> None:
    """Unzip, split, convert and insert row by row, a transaction a file."""
    for path, content in files.items():
        if not path.endswith(".zip"):
            continue
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            text = archive.read(archive.namelist()[0]).decode()
        rows = []
        for opened, *row in csv.reader(io.StringIO(text)):
            seconds = int(opened) / (1e6 if len(opened) == 16 else 1e3)
            at = datetime.fromtimestamp(seconds, tz=UTC)
            values = [float(value) for value in (*row[:5], *row[6:10])]
            rows.append(("BTCUSDT", "1m", at, *values, "archive"))
        with pool.connection() as connection, connection.cursor() as cursor:
            cursor.executemany(INSERT, rows)


def empty(pool: ConnectionPool) -> None:
    """Make both sides begin with the same table."""
    with pool.connection() as connection:
        connection.execute("truncate candles")


@contextmanager
def peak_memory() -> Iterator[list[float]]:
    """Most memory that Python, numpy and Arrow allocate meanwhile, in MB; filled in on the way out."""
    done, peak_mb = threading.Event(), [0.0]
    tracemalloc.start()
    arrow_before = pa.total_allocated_bytes()

    def watch() -> None:
        while not done.wait(0.002):
            now = tracemalloc.get_traced_memory()[0] + pa.total_allocated_bytes() - arrow_before
            peak_mb[0] = max(peak_mb[0], now / 1e6)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield peak_mb
    finally:
        done.set()
        watcher.join()
        tracemalloc.stop()


def in_turns(ours: Callable[[], object], usual: Callable[[], object], rounds: int = ROUNDS) -> tuple[float, float]:
    """Median seconds of two ways that take turns, after one round for warming up."""
    pairs = [(repeat(1, ours), repeat(1, usual)) for _ in range(rounds + 1)][1:]
    return median(pair[0] for pair in pairs), median(pair[1] for pair in pairs)


def repeat(times: int, way: Callable[[], object]) -> float:
    """Seconds for doing it so many times."""
    started = time.perf_counter()
    for _ in range(times):
        way()
    return time.perf_counter() - started


def tell(what: str, ours: float, usual: float) -> None:
    """Print a comparison; the ratio is how many times faster ours is."""
    digits = 1 if usual > ours / 10 else 3
    print(f"{what:<58}{1000 * ours:>9.2f} ms{1000 * usual:>9.2f} ms{usual / ours:>7.{digits}f}x", flush=True)


def tell_rate(what: str, rows: int, ours: float, usual: float) -> None:
    """Print a comparison in rows a second."""
    print(f"{what:<58}{rows / ours / 1000:>8.0f} k/s{rows / usual / 1000:>8.0f} k/s{usual / ours:>7.1f}x", flush=True)


if __name__ == "__main__":
    sys.exit(main())
