"""`make bench`: what was measured beside what most projects do, as ratios within one run.

Seconds differ from machine to machine and from minute to minute; the ratio of two ways that took turns does not
much. Nothing here is a test.
"""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
import pandas as pd
from pydantic import SecretStr

from candlecast.bundle import open_network
from candlecast.candles import CANDLE_COLUMNS
from candlecast.database import migrate, open_database
from candlecast.features import FEATURE_NAMES, build_features
from candlecast.recordings import bundled_recordings
from candlecast.store import CandleStore
from flows.local_postgres import LocalPostgres
from flows.local_stack import free_ports

ROUNDS = 5


def main() -> None:
    """Print one line for each comparison."""
    candles = bundled_recordings()["BTCUSDT", "5m"]
    print(f"{'what':<58}{'ours':>12}{'usual':>12}{'ratio':>8}")
    inference()
    features(candles)
    storing(candles)


def inference() -> None:
    """One window through the exported network, beside Keras' `predict`."""
    from training.network import build_network, export_onnx, quiet_tensorflow

    quiet_tensorflow()
    window = np.random.default_rng(0).normal(size=(1, 48, len(FEATURE_NAMES))).astype("float32")
    model = build_network(48, np.zeros(5))
    with tempfile.TemporaryDirectory() as directory:
        export_onnx(model, Path(directory) / "model.onnx")
        network = open_network(Path(directory) / "model.onnx")
        ours, usual = in_turns(
            lambda: repeat(50, lambda: network.answer(window)),
            lambda: repeat(5, lambda: model.predict(window, verbose=0)),
        )
    tell("one window: ONNX Runtime, Keras predict", ours / 50, usual / 5)


def features(candles: pd.DataFrame) -> None:
    """One feature, the volatility, over all rows, and ours all together, beside one `rolling().apply`."""
    log_range = np.log(candles["high"] / candles["low"])
    weights = (1 - 2 / 49) ** np.arange(96)[::-1]
    ours, usual = in_turns(
        lambda: build_features(candles),
        lambda: log_range.rolling(97).apply(lambda part: part[1:] @ weights / weights.sum(), raw=True),
    )
    tell(f"{len(candles):,} candles: all features, rolling().apply of one", ours, usual)


def storing(candles: pd.DataFrame) -> None:
    """Candles into PostgreSQL and again, beside `executemany`."""
    logging.getLogger("psycopg.pool").setLevel(logging.ERROR)
    columns = ", ".join(CANDLE_COLUMNS)
    marks = ", ".join(["%s"] * len(CANDLE_COLUMNS))
    insert = f"insert into candles (symbol, interval, open_time, {columns}, source) values (%s, %s, %s, {marks}, %s)"
    with (
        tempfile.TemporaryDirectory() as directory,
        LocalPostgres(Path(directory) / "postgres", free_ports(1)[0]).running() as server,
        open_database(SecretStr(server.url("candlecast_owner"))) as pool,
    ):
        migrate(pool)
        store = CandleStore(pool)
        times = pd.DatetimeIndex(candles.index).to_pydatetime()

        def usual_way() -> None:
            rows = [
                ("USUAL", "5m", at, *row, "rest") for at, row in zip(times, candles.to_numpy().tolist(), strict=True)
            ]
            with pool.connection() as connection, connection.cursor() as cursor:
                cursor.execute("delete from candles where symbol = 'USUAL'")
                cursor.executemany(insert.encode(), rows)

        def our_way() -> None:
            with pool.connection() as connection:
                connection.execute("delete from candles where symbol = 'OURS'")
            store.upsert("OURS", "5m", candles, "rest")

        ours, usual = in_turns(our_way, usual_way, rounds=3)
        again = median(repeat(1, lambda: store.upsert("OURS", "5m", candles, "rest")) for _ in range(3))
    tell(f"{len(candles):,} candles stored: COPY and upsert, executemany", ours, usual)
    tell(f"{len(candles):,} candles stored again unchanged: upsert, executemany", again, usual)


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
    print(f"{what:<58}{1000 * ours:>9.2f} ms{1000 * usual:>9.2f} ms{usual / ours:>7.1f}x", flush=True)


if __name__ == "__main__":
    main()
