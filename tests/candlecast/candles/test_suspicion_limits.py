"""Limits of the doubt rules, each approached from both sides in a market of equal candles."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import pytest

from candlecast.candles.suspicion import REASONS, find_suspicious, finest_step
from tests.support.steady_market import (
    AT,
    LIMITS,
    VOLUME,
    Limit,
    open_apart,
    set_range,
    set_volume,
    steady_market,
    still_and_open_apart,
)


def doubted(candles: pd.DataFrame) -> dict[int, set[str]]:
    """Reasons by distance from the changed candle, of the doubtful candles only."""
    found = find_suspicious(candles, "5m").to_numpy()
    return {
        int(row) - AT: {REASONS[i] for i in np.flatnonzero(found[row])} for row in np.flatnonzero(found.any(axis=1))
    }


@pytest.mark.parametrize("limit", LIMITS, ids=lambda limit: limit.name)
def test_a_candle_is_doubted_from_its_limit_on(limit: Limit):
    below, above = (doubted(limit.candles(factor)) for factor in (0.99, 1.01))

    assert below == {}
    assert above == {0: {limit.reason}}


@pytest.mark.parametrize(("tick", "is_doubted"), [(2.45, True), (2.55, False)])
def test_a_small_range_is_a_stub_only_in_a_market_of_fine_ticks(tick, is_doubted):
    market = steady_market(tick)
    set_range(market, 2 * tick)
    set_volume(market, 5.0)

    assert doubted(market) == ({0: {"stub"}} if is_doubted else {})


@pytest.mark.parametrize(("gap", "is_doubted"), [(1.98, False), (2.02, True)])
def test_a_candle_without_a_trade_is_doubted_only_before_a_break(gap, is_doubted):
    market = steady_market()
    set_volume(market, 0.0)
    still_and_open_apart(market, 0.0, gap)

    assert doubted(market) == ({0: {"break"}} if is_doubted else {})


@pytest.mark.parametrize(
    ("stubs", "volume", "is_doubted"),
    [
        ((-1, 1), 99, True),
        ((-2, 2), 99, True),
        ((1, 2), 99, True),
        ((-2, -1, 1), 99, True),
        ((-2, -1, 1, 2), 99, True),
        ((-1, 1), 100, False),
        ((-1, 1), 101, False),
        ((-1, 1), 0, False),
        ((1,), 99, False),
        ((-3, 2), 99, False),
        ((-2, 3), 99, False),
    ],
)
def test_between_two_stubs_a_tenth_of_the_volume_is_too_little(stubs, volume, is_doubted):
    market = steady_market()
    for distance in stubs:
        set_range(market, 5.0, AT + distance)
        set_volume(market, 5.0 + distance / 10, AT + distance)
    set_volume(market, volume)

    assert doubted(market) == {distance: {"stub"} for distance in (*stubs, *[0] * is_doubted)}


@pytest.mark.parametrize(("ranges", "doubtful"), [(2.98, [0]), (3.02, [0, 1])])
def test_both_sides_of_a_break_of_three_ranges_are_doubted(ranges, doubtful):
    market = steady_market()
    open_apart(market, 100 * ranges)

    assert doubted(market) == {distance: {"break"} for distance in doubtful}


@pytest.mark.parametrize(("candles", "is_doubted"), [(1, True), (3, True), (4, False)])
def test_up_to_three_closes_off_the_level_are_a_jump(candles, is_doubted):
    market = steady_market()
    market.iloc[AT : AT + candles, :4] += 1550.0

    jumps = [distance for distance, reasons in doubted(market).items() if "jump" in reasons]

    assert bool(jumps) is is_doubted
    assert jumps in ([], [0], [0, 2])  # the second of three lies within its own candle's reach


@pytest.mark.parametrize(("position", "is_doubted"), [(2, False), (3, True), (996, True), (997, False)])
def test_a_level_is_known_with_three_closes_on_each_side(position, is_doubted):
    market = steady_market()
    market.iloc[position, :4] += 1700.0

    assert ("jump" in doubted(market).get(position - AT, set())) is is_doubted


def test_without_volumes_a_wick_is_compared_with_ranges_alone():
    market = steady_market()
    market["volume"] = 0.0
    market.iloc[AT, 1] += 1600.0

    assert doubted(market) == {0: {"jump"}}


def steps(positions: Sequence[int], tick: float = 6.0, gap: float = 1.8, usual: int = 0) -> dict[int, set[str]]:
    """Doubt of candles of two ticks before a break of `gap` ticks; before them one in `usual` candles is such a one."""
    market = steady_market(tick)
    before = range(3, AT - 20, usual) if usual else ()
    still_and_open_apart(market, 2 * tick, gap * tick, [*before, *(AT + distance for distance in positions)])
    return doubted(market)


@pytest.mark.parametrize(("gap", "is_doubted"), [(1.48, False), (1.52, True)])
@pytest.mark.parametrize("first", [[0], [-500], [-100, 0]])
def test_steps_of_a_tick_and_a_half_are_doubted_in_a_row(first, gap, is_doubted):
    positions = [start + distance for start in first for distance in range(6)]

    assert list(steps(positions, gap=gap)) == (positions if is_doubted else [])


def test_a_step_before_a_row_of_steps_does_not_belong_to_it():
    row = [6, 10, 14, 18, 24, 25]

    assert list(steps([0, *row])) == row


@pytest.mark.parametrize(("gap", "is_doubted"), [(19.8, False), (20.2, True)])
def test_a_step_is_a_fifth_of_its_own_range(gap, is_doubted):
    market = steady_market(tick=10.0)
    for distance in range(6):
        open_apart(market, gap, AT + distance)

    assert list(doubted(market)) == (list(range(6)) if is_doubted else [])


def at_one_price(tick: float) -> pd.DataFrame:
    """Candles with equal closes, so that values in units of the close are equal exactly."""
    market = steady_market(tick)
    market["open"] = market["close"] = 100_000.0
    market["high"], market["low"] = 100_050.0, 99_950.0
    market.iloc[::2, 4] -= tick  # no repetition
    return market


@pytest.mark.parametrize(
    ("gap", "count", "is_doubted"), [(10.0, 12, False), (15.0, 12, True), (40.0, 1, False), (45.0, 1, True)]
)
def test_breaks_equal_to_a_limit_of_the_market_are_accepted(gap, count, is_doubted):
    market = at_one_price(tick=5.0)
    for position in range(3, 990, 10):
        open_apart(market, 10.0, position)
    still_and_open_apart(market, 10.0, gap, range(AT, AT + count))

    assert (0 in doubted(market)) is is_doubted


@pytest.mark.parametrize(
    ("extent", "volume", "tick", "is_doubted"),
    [(9.0, 9.0, 2.0, True), (10.0, 9.0, 2.0, False), (9.0, 10.0, 2.0, False), (7.5, 9.0, 2.5, False)],
)
def test_a_stub_equal_to_a_limit_is_accepted(extent, volume, tick, is_doubted):
    market = at_one_price(tick)
    open_apart(market, tick, AT - 100)  # the finest step
    set_range(market, extent)
    set_volume(market, volume)

    assert doubted(market) == ({0: {"stub"}} if is_doubted else {})


def test_only_the_first_side_of_a_break_of_exactly_three_ranges_is_doubted():
    market = at_one_price(tick=2.0)
    open_apart(market, 300.0)

    assert doubted(market) == {0: {"break"}}


def test_a_wick_of_exactly_fifteen_ranges_is_accepted():
    market = at_one_price(tick=2.0)
    market.iloc[AT, 1] = 101_500.0

    assert doubted(market) == {}


@pytest.mark.parametrize(("gap", "is_doubted"), [(10.0, False), (15.0, True)])
def test_a_stub_of_a_market_of_few_ticks_needs_a_break_above_a_high_one(gap, is_doubted):
    market = at_one_price(tick=5.0)
    for position in range(3, 990, 10):
        open_apart(market, 10.0, position)
    open_apart(market, 5.0, AT - 100)  # the finest step
    set_volume(market, 5.0)
    still_and_open_apart(market, 0.0, gap)

    assert doubted(market) == ({0: {"stub"}} if is_doubted else {})


@pytest.mark.parametrize("limit", [limit for limit in LIMITS if "volume" in limit.name], ids=lambda limit: limit.name)
def test_limits_of_volume_hold_in_any_unit(limit: Limit):
    below, above = (limit.candles(factor) for factor in (0.99, 1.01))
    below["volume"] *= 1e-4
    above["volume"] *= 1e-4

    assert doubted(below) == {}
    assert doubted(above) == {0: {limit.reason}}


def test_in_a_market_without_range_a_wick_is_no_jump():
    market = at_one_price(tick=2.0)
    market["high"] = market["low"] = market["close"]
    market.iloc[AT, 1] += 100.0

    assert doubted(market) == {}


@pytest.mark.parametrize(
    ("positions", "is_doubted"),
    [
        (range(5), False),
        (range(6), True),
        ([0, 5, 10, 15, 20, 23], True),
        ([0, 5, 10, 15, 20, 24], False),
    ],
)
def test_six_steps_among_twenty_four_candles_are_too_many(positions, is_doubted):
    assert list(steps(positions)) == (list(positions) if is_doubted else [])


@pytest.mark.parametrize(
    ("positions", "is_doubted"),
    [
        (range(6), False),
        (range(7), True),
        (range(0, 18, 2), False),
        (range(0, 20, 2), True),
    ],
)
def test_where_one_candle_in_twenty_has_a_step_more_are_usual(positions, is_doubted):
    found = steps(positions, usual=20)

    assert bool(found) is is_doubted
    assert set(positions) <= set(found) or not is_doubted


@pytest.mark.parametrize(("last", "is_doubted"), [(7, True), (8, False)])
def test_seven_steps_among_eight_candles_are_too_many_in_a_rough_market(last, is_doubted):
    market, positions = steady_market(tick=6.0), [AT + distance for distance in (0, 1, 2, 3, 5, 6, last)]
    still_and_open_apart(market, 12.0, 15.6, [*range(3, 200, 10), *range(200, AT - 20, 18), *positions])

    assert bool(doubted(market)) is is_doubted


@pytest.mark.parametrize(
    ("positions", "all_of_them"),
    [([0, 1, 4, 5, 8, 9], True), ([0, 1, 4, 5, 8, 10], False), ([0, 1, 2, 3, 4, 5, 7], True)],
)
def test_candles_between_steps_are_doubted_if_most_have_one(positions, all_of_them):
    assert list(steps(positions)) == (list(range(positions[-1] + 1)) if all_of_them else positions)


@pytest.mark.parametrize(("tick", "all_of_them"), [(6.6, False), (6.7, True)])
def test_candles_between_steps_are_doubted_if_a_step_is_wide(tick, all_of_them):
    positions = [0, 5, 10, 15, 20, 23]

    assert list(steps(positions, tick)) == (list(range(24)) if all_of_them else positions)


@pytest.mark.parametrize(("run", "is_doubted"), [(13, False), (14, True)])
def test_a_flat_run_is_longer_than_the_share_of_flat_candles_explains(run, is_doubted):
    market = steady_market()
    for position in [*range(0, AT + 100, 4), *range(AT, AT + run)]:
        set_range(market, 0.0, position)

    assert list(doubted(market)) == (list(range(run)) if is_doubted else [])  # log(1e-8) / log(1/4) = 13.3


@pytest.mark.parametrize(("count", "is_doubted"), [(49, False), (50, True)])
def test_usual_values_need_fifty_candles(count, is_doubted):
    market = steady_market().iloc[AT - count + 1 : AT + 1].copy()
    set_volume(market, 5.0, count - 1)
    market.iloc[-1, :4] = market.iloc[-1, 0]

    assert len(doubted(market)) == is_doubted


@pytest.mark.parametrize(("oldest", "gap", "is_doubted"), [(575, 5.0, False), (576, 15.0, True)])
def test_usual_values_are_those_of_576_candles(oldest, gap, is_doubted):
    market = steady_market()
    wide = slice(AT - oldest, AT - 431)  # just enough for the upper quartile of 576 candles, with the oldest
    market.iloc[wide, 1] += 450
    market.iloc[wide, 2] -= 450
    still_and_open_apart(market, 5.0, gap)

    assert (0 in doubted(market)) is is_doubted


def test_differences_below_a_billionth_are_no_step():
    ohlcv = np.array(
        [[1e5, 1e5 + 1.1e-4, 1e5, 1e5, 1.0], [1e5, 1e5 + 0.9e-4, 1e5, 1e5, 1.0], [1e5, 1e5, 1e5, 1e5, 1.0]]
    )

    assert finest_step(ohlcv, np.array([np.nan, 7.0, np.nan])) == pytest.approx([1.1e-4, 7.0, np.inf], rel=1e-3)


@pytest.mark.parametrize(("volume", "extent"), [(0.0, 50.0), (VOLUME, 0.0)])
def test_a_repetition_without_a_trade_or_without_range_is_not_frozen(volume, extent):
    market = steady_market()
    for position in (AT, AT + 1):
        set_range(market, extent, position)
        set_volume(market, volume, position)

    assert not any("frozen" in reasons for reasons in doubted(market).values())
