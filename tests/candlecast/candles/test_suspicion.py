"""Which candles are doubted: each kind of damage by its name, and nothing that the market really did."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from candlecast.candles.schema import OHLCV_COLUMNS, empty_candles
from candlecast.candles.suspicion import READ_AFTER, READ_BEFORE, REASONS, find_suspicious
from candlecast.market import Market
from tests.support.bundles import sound_candles
from tests.support.damage import coarse, half_done, stubs
from tests.support.thin_market import FLAT_MARKETS, flat_market
from tests.support.unfinished_bars import bars_by_minute, plant_by_shares, spread_rows

DAMAGED = 900
HISTORY = 144  # candles of a forecast


@pytest.fixture(scope="module")
def recorded(bundled_candles: pd.DataFrame) -> pd.DataFrame:
    """Five recorded days."""
    return bundled_candles.iloc[: 5 * 288]


def doubted(candles: pd.DataFrame, interval: str = "5m") -> dict[int, set[str]]:
    """Reasons by position, of the doubtful candles only."""
    found = find_suspicious(candles, interval).to_numpy()
    return {int(row): {REASONS[i] for i in np.flatnonzero(found[row])} for row in np.flatnonzero(found.any(axis=1))}


def changed(candles: pd.DataFrame, position: int, **values: float) -> pd.DataFrame:
    damaged = candles.copy()
    for name, value in values.items():
        damaged.iloc[position, damaged.columns.get_loc(name)] = value
    return damaged


def test_four_recorded_months_hold_nothing_doubtful(bundled_candles):
    found = find_suspicious(bundled_candles, "5m")

    assert not found.to_numpy().any()
    assert (tuple(found.columns), len(found)) == (REASONS, len(bundled_candles))


@pytest.mark.parametrize("length", [1, 2, 12, 400])
def test_bars_stored_as_they_opened_are_stubs_alone_and_in_long_runs(recorded, length):
    run = list(range(DAMAGED, DAMAGED + length))

    found = doubted(stubs(recorded, run))

    assert sorted(found) == run
    assert all("stub" in reasons for reasons in found.values())


def test_sound_candles_between_stubs_are_not_doubted(recorded):
    every_other = list(range(DAMAGED, DAMAGED + 100, 2))

    found = doubted(stubs(recorded, every_other))

    assert sorted(found) == every_other


def test_most_bars_stored_half_done_show_as_breaks(recorded):
    spread = list(range(600, 1400, 10))

    found = doubted(half_done(recorded, spread, 0.5))

    assert len(found.keys() & set(spread)) >= 0.75 * len(spread)
    assert found.keys() <= set(spread)
    assert set().union(*found.values()) == {"break"}


def test_a_newest_bar_without_successor_can_still_be_a_stub(recorded):
    newest = len(recorded) - 1

    assert doubted(stubs(recorded, [newest])) == {newest: {"stub"}}


def test_a_table_that_holds_little_but_stubs_is_mostly_doubted(recorded):
    after_the_first = list(range(20, 400))

    found = doubted(stubs(recorded.iloc[:400], after_the_first))

    assert len(found.keys() & set(after_the_first)) >= 0.5 * len(after_the_first)


@pytest.mark.parametrize(("length", "is_doubted"), [(1, False), (2, False), (3, True), (40, True)])
def test_three_candles_in_a_row_without_range_are_a_flat_line(recorded, length, is_doubted):
    flat = recorded.copy()
    price = recorded["close"].iloc[DAMAGED - 1]
    flat.iloc[DAMAGED : DAMAGED + length, :4] = price
    flat.iloc[DAMAGED + length, flat.columns.get_loc("open")] = price
    flat.iloc[DAMAGED + length, 1:3] = [max(price, flat.iloc[DAMAGED + length, 1]), price * 0.99]

    found = doubted(flat)

    flagged = {row for row, reasons in found.items() if "flat" in reasons}
    assert flagged == (set(range(DAMAGED, DAMAGED + length)) if is_doubted else set())


def test_a_market_that_never_moves_is_not_doubted_for_it(bundled_candles):
    still = bundled_candles.iloc[:2000][list(OHLCV_COLUMNS)].copy()
    still[["open", "high", "low", "close"]] = 1.0

    assert doubted(still) == {}


def test_a_feed_that_repeats_itself_is_frozen(recorded):
    frozen = recorded.copy()
    frozen.iloc[DAMAGED + 1 : DAMAGED + 6] = recorded.iloc[DAMAGED].to_numpy()

    found = doubted(frozen)

    flagged = {row for row, reasons in found.items() if "frozen" in reasons}
    assert flagged == set(range(DAMAGED + 1, DAMAGED + 6))


def test_repetition_is_found_even_without_usual_values(recorded):
    few = recorded.iloc[:10].copy()
    few.iloc[6] = few.iloc[5]

    assert doubted(few) == {6: {"frozen"}}


@pytest.mark.parametrize("length", [1, 2, 3])
def test_prices_of_another_unit_are_a_jump_that_comes_back(recorded, length):
    wrong = recorded.copy()
    wrong.iloc[DAMAGED : DAMAGED + length, :4] *= 10

    found = doubted(wrong)

    assert all("jump" in found[row] for row in range(DAMAGED, DAMAGED + length))
    assert found.keys() <= set(range(DAMAGED - 1, DAMAGED + length + 1))


@pytest.mark.parametrize(("field", "factor"), [("high", 1.2), ("low", 0.8)])
def test_a_wick_without_the_volume_for_it_is_a_jump(recorded, field, factor):
    price = recorded["close"].iloc[DAMAGED]

    found = doubted(changed(recorded, DAMAGED, **{field: price * factor}))

    assert found == {DAMAGED: {"jump"}}


def test_a_crash_that_brings_its_volume_is_what_the_market_did(recorded):
    crash = recorded.copy()
    fall = np.linspace(1, 0.9, 6)
    crash.iloc[DAMAGED : DAMAGED + 5, :4] = np.column_stack([fall[:-1], fall[:-1], fall[1:], fall[1:]]) * 100_000
    crash.iloc[DAMAGED : DAMAGED + 5, 4] *= 30
    shift = 90_000 - crash["open"].iloc[DAMAGED + 5]
    crash.iloc[DAMAGED + 5 :, :4] += shift
    crash.iloc[:DAMAGED, :4] += 100_000 - crash["close"].iloc[DAMAGED - 1]

    assert doubted(crash) == {}


def test_the_price_after_a_gap_is_no_break(recorded):
    with_gap = recorded.drop(recorded.index[DAMAGED : DAMAGED + 100])

    assert doubted(with_gap) == {}


def test_a_rule_knows_no_price_and_no_quantity(recorded):
    damaged = stubs(recorded, range(DAMAGED, DAMAGED + 30))
    scaled = damaged[list(OHLCV_COLUMNS)].copy()
    scaled[["open", "high", "low", "close"]] /= 1024
    scaled["volume"] *= 4096

    assert doubted(scaled) == doubted(damaged)


def test_what_is_said_of_a_candle_settles_a_few_candles_later(recorded):
    damaged = half_done(stubs(recorded, range(DAMAGED, DAMAGED + 20)), range(DAMAGED + 20, DAMAGED + 60, 3), 0.6)
    whole = find_suspicious(damaged, "5m").to_numpy()

    for end in range(DAMAGED, DAMAGED + 60):
        cut = find_suspicious(damaged.iloc[:end], "5m").to_numpy()

        np.testing.assert_array_equal(cut[: end - READ_AFTER], whole[: end - READ_AFTER])


@pytest.mark.parametrize("tick", [20.0, 50.0])
def test_sound_candles_of_a_few_ticks_are_not_doubted(recorded, tick):
    market = coarse(recorded, tick)

    assert market.eval("high - low").median() <= 8 * tick
    assert len(doubted(market)) <= 1


@pytest.mark.parametrize("elapsed", [0.2, 0.4])
@pytest.mark.parametrize("tick", [0.01, 20.0])
def test_a_row_of_unfinished_bars_is_doubted_in_any_market(recorded, elapsed, tick):
    run = list(range(DAMAGED, DAMAGED + 60))

    found = doubted(coarse(half_done(recorded, run, elapsed), tick))

    assert len(found.keys() & set(run)) >= 0.85 * len(run)
    assert len(found.keys() - set(run)) <= 2


@pytest.mark.parametrize(
    ("tick", "length", "least"),
    [(0.01, 1, 0.85), (0.01, 8, 0.95), (0.01, 30, 0.95), (0.01, 100, 0.95), (20.0, 30, 0.8), (20.0, 100, 0.9)],
)
def test_planted_bars_are_found_as_often_as_promised(bundled_candles, tick, length, least):
    market = coarse(bundled_candles.iloc[:8_000], tick)
    bars = bars_by_minute(sound_candles(10_000, Market("BTCUSDT", "1m")))
    rows = spread_rows(len(market), length, {1: 90, 8: 400, 30: 600, 100: 1700}[length])

    for minutes in (1, 2):
        planted = plant_by_shares(market, rows, minutes, bars, np.random.default_rng(1))
        found = find_suspicious(planted, "5m").to_numpy().any(axis=1)

        assert found[rows].mean() >= least
        assert np.delete(found, rows).sum() <= len(rows) / length  # one sound candle beside each run


def test_breaks_as_wide_as_the_market_s_own_are_not_doubted(recorded):
    market, random = recorded.copy(), np.random.default_rng(5)
    away = random.choice([0, 10, 20, 30, 40], len(market)) * random.choice([-1, 1], len(market))
    market["open"] += away
    market["high"] = market[["open", "high"]].max(axis=1)
    market["low"] = market[["open", "low"]].min(axis=1)

    assert len(doubted(market)) <= 2


def test_candles_without_a_trade_are_a_fact_of_the_market(recorded):
    halted = recorded.copy()
    halted.iloc[DAMAGED : DAMAGED + 14, :4] = recorded["close"].iloc[DAMAGED - 1]
    halted.iloc[DAMAGED : DAMAGED + 14, 4] = 0
    halted.iloc[DAMAGED + 14, 0] = recorded["close"].iloc[DAMAGED - 1]
    halted.iloc[DAMAGED + 14, 1:3] = [halted.iloc[DAMAGED + 14, :4].max(), halted.iloc[DAMAGED + 14, :4].min()]

    assert doubted(halted) == {}


def test_a_market_that_is_often_flat_is_not_doubted_for_it(recorded):
    quiet = recorded.copy()
    still = np.random.default_rng(3).random(len(quiet)) < 0.4
    for row in np.flatnonzero(still)[1:]:
        quiet.iloc[row, :4] = quiet["close"].iloc[row - 1]
    quiet["open"] = quiet["close"].shift(1).fillna(quiet["open"])
    quiet["high"] = quiet[["open", "high", "close"]].max(axis=1)
    quiet["low"] = quiet[["open", "low", "close"]].min(axis=1)

    assert not any("flat" in reasons for reasons in doubted(quiet).values())


@pytest.mark.parametrize("flat", FLAT_MARKETS)
def test_a_market_that_trades_seldom_is_hardly_ever_doubted(flat):
    marked = find_suspicious(flat_market(flat), "5m").any(axis=1)

    withheld = np.convolve(marked, np.ones(HISTORY))[: len(marked)] > 0

    assert withheld.mean() < 0.05


def test_a_price_that_rises_hundredfold_is_not_doubted_for_it(recorded):
    risen = recorded.copy()
    risen[["open", "high", "low", "close"]] *= np.exp(np.linspace(0, np.log(100), len(risen)))[:, None]
    risen["open"] = risen["close"].shift(1).fillna(risen["open"])
    risen["high"] = risen[["open", "high"]].max(axis=1)
    risen["low"] = risen[["open", "low"]].min(axis=1)

    assert doubted(risen) == {}


def test_marks_do_not_depend_on_how_much_is_given(bundled_candles):
    unfinished = [*range(2850, 3100), *range(3450, 3700), *range(4000, 4060)]  # the first ones decide on the last ones
    damaged = coarse(half_done(bundled_candles.iloc[:4500], unfinished, 0.4), 20.0)
    whole = find_suspicious(damaged, "5m").to_numpy()

    for start in (0, 700, 1500, 4000 - READ_BEFORE):
        part = find_suspicious(damaged.iloc[start:], "5m").to_numpy()
        np.testing.assert_array_equal(part[4000 - start :], whole[4000:])


def test_no_candles_are_no_doubt():
    assert find_suspicious(empty_candles(), "5m").empty
