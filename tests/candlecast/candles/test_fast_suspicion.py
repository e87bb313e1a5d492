"""Candles are cleared of suspicion quickly, and never where the full rules would doubt one."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from candlecast.candles.fast_suspicion import doubtful_in_histories, doubtful_in_windows, passes_fast_check
from candlecast.candles.schema import OHLCV_COLUMNS, open_times_ms
from candlecast.candles.suspicion import find_suspicious
from tests.support.bundles import sound_candles
from tests.support.damage import coarse, half_done, stubs
from tests.support.steady_market import (
    AT,
    LIMITS,
    Limit,
    open_apart,
    set_range,
    set_volume,
    steady_market,
    still_and_open_apart,
)

HISTORY = 120
Change = tuple[int, dict[str, float]]


@pytest.fixture(scope="module")
def recorded(bundled_candles: pd.DataFrame) -> pd.DataFrame:
    return bundled_candles.iloc[2000:5000][list(OHLCV_COLUMNS)]


def doubted(candles: pd.DataFrame) -> bool:
    return bool(find_suspicious(candles, "5m").to_numpy().any())


def in_windows(candles: pd.DataFrame, length: int = HISTORY) -> dict[int, int]:
    return doubtful_in_windows(open_times_ms(candles), candles.to_numpy()[:, :5], "5m", length)


def damaged(candles: pd.DataFrame, kind: str, at: int) -> pd.DataFrame:
    """Candles of which the one at `at`, or those from there on, have a fault of a kind."""
    changed = candles.copy()
    rows = {"flat": slice(at, at + 4), "frozen": slice(at, at + 1)}.get(kind, slice(at, at + 1))
    if kind == "stub":
        return stubs(candles, [at])
    if kind == "frozen":
        changed.iloc[at] = candles.iloc[at - 1]
    elif kind == "flat":
        changed.iloc[rows, :4] = candles["close"].iloc[at - 1]
    elif kind == "jump":
        changed.iloc[at, 3] *= 1.05
        changed.iloc[at, 1] = max(changed.iloc[at, 1], changed.iloc[at, 3])
    elif kind == "wick":
        changed.iloc[at, 2] *= 0.9
    elif kind == "gap":
        changed.iloc[at:, :4] *= 1.02
    return changed


@pytest.mark.parametrize("count", [2, 10, 49, 50, 51, 60, 120, 144, 600, 1500])
def test_recorded_candles_are_cleared_at_once_or_after_the_full_rules(recorded: pd.DataFrame, count: int) -> None:
    for start in range(0, len(recorded) - count, 211):
        window = recorded.iloc[start : start + count]
        if passes_fast_check(window.to_numpy()):
            assert not doubted(window)


@pytest.mark.parametrize("traded", [0, 1, 12, 13, 60])
@pytest.mark.parametrize("kind", ["jump", "wick"])
def test_a_jump_is_found_where_hardly_any_candle_has_a_volume(recorded: pd.DataFrame, traded: int, kind: str) -> None:
    quiet = recorded.iloc[:HISTORY].copy()
    quiet.iloc[traded:, 4] = 0.0
    faulty = damaged(quiet, kind, 80)

    assert doubted(faulty)
    assert not passes_fast_check(faulty.to_numpy())
    assert 0 in in_windows(faulty)


def test_recorded_histories_hardly_ever_need_the_full_rules(recorded: pd.DataFrame) -> None:
    windows = [recorded.iloc[start : start + HISTORY].to_numpy() for start in range(0, 2800, 7)]

    cleared = sum(passes_fast_check(window) for window in windows)

    assert cleared > 0.98 * len(windows)


@pytest.mark.parametrize("kind", ["stub", "frozen", "flat", "jump", "wick", "gap"])
def test_what_the_full_rules_doubt_is_never_cleared(recorded: pd.DataFrame, kind: str) -> None:
    seen = 0
    for start in range(0, 2600, 97):
        window = recorded.iloc[start : start + HISTORY]
        for at in (1, 5, 30, 60, 110, 117, 118):
            candles = damaged(window, kind, at)
            if doubted(candles):
                seen += 1
                assert not passes_fast_check(candles.to_numpy()), (start, at)

    assert seen > 50


@pytest.mark.parametrize("unit", [1e-6, 1e3])
@pytest.mark.parametrize("kind", ["stub", "jump", "wick", "gap"])
def test_what_is_doubted_is_not_cleared_at_any_price(recorded: pd.DataFrame, kind: str, unit: float) -> None:
    candles = damaged(recorded.iloc[:HISTORY], kind, 60)
    candles[["open", "high", "low", "close"]] *= unit

    assert doubted(candles)
    assert not passes_fast_check(candles.to_numpy())


def test_made_up_markets_are_not_cleared_where_the_full_rules_doubt_them() -> None:
    random = np.random.default_rng(11)
    disagreed = 0
    for seed in range(150):
        candles = sound_candles(int(random.integers(50, 300)), seed=seed)[list(OHLCV_COLUMNS)].copy()
        for at in random.integers(1, len(candles), 3):
            candles.iloc[at, 4] *= 10.0 ** random.integers(-4, 2)
            candles.iloc[at, 1] *= 1 + 10.0 ** random.uniform(-5, -1)
        for at in random.integers(1, len(candles), 3):  # around the limits of a stub
            candles.iloc[at, 4] *= random.uniform(0, 0.02)
            candles.iloc[at, :4] = candles.iloc[at, 3] + random.uniform(0, 0.3) * (
                candles.iloc[at, :4] - candles.iloc[at, 3]
            )
        disagreed += passes_fast_check(candles.to_numpy()) and doubted(candles)

    assert disagreed == 0


@pytest.mark.parametrize("tick", [0.01, 5.0, 20.0, 50.0])
def test_unfinished_bars_of_any_market_are_not_cleared(recorded: pd.DataFrame, tick: float) -> None:
    random, seen = np.random.default_rng(7), 0
    for start in range(0, 2600, 65):
        window = coarse(recorded.iloc[start : start + HISTORY], tick)
        first, length = int(random.integers(5, 80)), int(random.integers(1, 35))
        candles = coarse(half_done(window, range(first, first + length), random.uniform(0.1, 0.6)), tick)
        if doubted(candles):
            seen += 1
            assert not passes_fast_check(candles.to_numpy()), (start, first, length)
            assert in_windows(candles)

    assert seen > 4


@pytest.mark.parametrize("limit", LIMITS, ids=lambda limit: limit.name)
def test_a_limit_of_the_full_rules_is_a_limit_of_the_fast_check(limit: Limit) -> None:
    below, above = (limit.candles(factor)[list(OHLCV_COLUMNS)].iloc[AT - 200 : AT + 20] for factor in (0.99, 1.01))

    assert passes_fast_check(below.to_numpy()) is limit.cleared
    assert not passes_fast_check(above.to_numpy())
    assert in_windows(below, 210) == {}
    assert in_windows(above, 210) == dict.fromkeys(range(11), 200)


@pytest.mark.parametrize(("steps", "cleared"), [([0, 6, 12, 18], True), ([0, 6, 12, 18, 23], False)])
def test_five_steps_in_a_window_need_the_full_rules(steps: list[int], cleared: bool) -> None:
    market = steady_market(tick=6.0)
    still_and_open_apart(market, 12.0, 10.8, [AT + step for step in steps])

    assert passes_fast_check(market.iloc[AT - 200 : AT + 100].to_numpy()) is cleared


@pytest.mark.parametrize(("flat", "cleared"), [(2, True), (3, False)])
def test_three_flat_candles_need_the_full_rules(flat: int, cleared: bool) -> None:
    market = steady_market()
    for candle in range(flat):
        set_range(market, 0.0, AT + candle)
        set_volume(market, 1000.0 + candle, AT + candle)  # no repetition

    assert passes_fast_check(market.iloc[AT - 200 : AT + 100].to_numpy()) is cleared


def test_each_window_names_its_newest_doubtful_candle(recorded: pd.DataFrame) -> None:
    candles = stubs(recorded.iloc[:400], [200])

    found = in_windows(candles)

    assert set(found) == set(range(200 - HISTORY + 1, 201))
    assert found[200 - HISTORY + 3] == 200


def test_a_window_is_judged_as_if_there_were_no_other_candles(recorded: pd.DataFrame) -> None:
    candles = damaged(stubs(recorded.iloc[:500], [150, 152, 330]), "jump", 250)

    together = in_windows(candles)

    alone = {
        first: first + position
        for first in range(len(candles) - HISTORY + 1)
        for position in in_windows(candles.iloc[first : first + HISTORY]).values()
    }
    assert together == alone
    assert together


def test_rubbish_is_judged_as_a_whole_after_so_many_windows(recorded: pd.DataFrame) -> None:
    candles = stubs(recorded.iloc[:1500], range(100, 1400, 5))

    found = in_windows(candles)

    assert len(found) > 1250


@pytest.mark.parametrize("length", [10, 49, 50, 51])
def test_short_windows_are_judged_too(recorded: pd.DataFrame, length: int) -> None:
    candles = damaged(recorded.iloc[:100], "frozen", 60)

    assert 60 in in_windows(candles, length).values()


def test_sound_windows_are_not_doubted_beyond_the_most_checked_alone() -> None:
    market = steady_market(tick=6.0)
    still_and_open_apart(market, 12.0, 15.6, range(3, 990, 6))  # many steps, as usual in this market
    open_apart(market, 70.0, AT + 21)

    assert in_windows(market, 60) == dict.fromkeys(range(AT + 21 - 58, AT + 22), AT + 21)


def test_each_history_is_judged_alone(recorded: pd.DataFrame) -> None:
    window = recorded.iloc[:HISTORY][list(OHLCV_COLUMNS)]
    histories = [window, stubs(window, [70, 90]), window, stubs(window, [40])]

    found = doubtful_in_histories(
        np.stack([open_times_ms(one) for one in histories]), np.stack([one.to_numpy() for one in histories]), "5m"
    )

    assert found == {1: 90, 3: 40}
    first = stubs(window, [40])
    assert doubtful_in_histories(open_times_ms(first)[None], first.to_numpy()[None], "5m") == {0: 40}
