"""Tests of drift: none in an unchanged market, and an alarm in a changed one."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import wasserstein_distance

from candlecast.bundle.manifest import Manifest, Span, read_manifest
from candlecast.candles.schema import OHLCV_COLUMNS
from candlecast.errors import NotEnoughCandles, TooFewTrades
from candlecast.features.base import BASE
from candlecast.market import Market
from candlecast.replay.alterations import scale_volatility
from monitoring.drift import (
    VOLATILITY,
    WINDOW,
    Drift,
    Inputs,
    drift_limits,
    drift_window,
    fewest_rows,
    input_rows,
    measure_drift,
    monitored_inputs,
)
from tests.support.bundles import sound_candles
from tests.support.thin_market import FLAT_MARKETS, flat_market, with_still_stretch

MONITORED = (*BASE.of_market, VOLATILITY)
TRAINED_DAYS = 40


@pytest.fixture(scope="module")
def trained(bundled_candles: pd.DataFrame) -> pd.DataFrame:
    """Inputs of the training span."""
    return input_rows(bundled_candles.iloc[: TRAINED_DAYS * 288], "5m", BASE)


@pytest.fixture(scope="module")
def limits(trained: pd.DataFrame) -> dict[str, float]:
    return drift_limits(trained, trained.iloc[::4], WINDOW)


def drift(trained: pd.DataFrame, limits: dict[str, float], current: pd.DataFrame) -> Drift:
    return measure_drift(Inputs(trained.iloc[::4], current, limits))


def last_week(candles: pd.DataFrame, days: int) -> pd.DataFrame:
    return input_rows(candles.iloc[(days - 7) * 288 - BASE.lookback : days * 288], "5m", BASE)


@pytest.mark.parametrize("days_later", [1, 3, 7, 10])
def test_recorded_weeks_after_the_training_have_not_drifted(bundled_candles, trained, limits, days_later):
    measured = drift(trained, limits, last_week(bundled_candles, TRAINED_DAYS + days_later))

    assert not measured.alarming
    assert 0.3 < measured.volatility_ratio < 3
    assert set(measured.distances) == set(measured.limits) == set(MONITORED)


@pytest.mark.parametrize("factor", [3.0, 1 / 3])
def test_a_market_three_times_or_a_third_as_volatile_has_drifted(bundled_candles, trained, limits, factor):
    turn = bundled_candles.index[TRAINED_DAYS * 288].to_pydatetime()
    other = scale_volatility(bundled_candles.iloc[: (TRAINED_DAYS + 8) * 288], turn, factor)

    measured = drift(trained, limits, last_week(other, TRAINED_DAYS + 8))

    assert measured.alarming
    assert VOLATILITY in measured.drifted
    assert measured.volatility_ratio == pytest.approx(
        factor * drift(trained, limits, last_week(bundled_candles, TRAINED_DAYS + 8)).volatility_ratio, rel=0.1
    )


def test_the_same_rows_are_at_no_distance(trained, limits):
    measured = drift(trained, limits, trained.iloc[::4])

    assert (measured.share, measured.volatility_ratio) == (0.0, 1.0)
    assert max(measured.distances.values()) < 1e-9


def test_an_input_that_shifted_is_the_one_reported_in_standard_deviations(trained, limits):
    current = trained.iloc[::4].assign(body=trained["body"].iloc[::4] + trained["body"].iloc[::4].std(ddof=0))

    measured = drift(trained, limits, current)

    assert measured.drifted == ["body"]
    assert measured.distances["body"] == pytest.approx(1.0, abs=0.01)
    assert not measured.alarming  # one input is below the share


def test_a_share_of_the_inputs_is_the_market(trained, limits):
    names = ["body", "ret", "acc", "amp"]
    current = trained.iloc[::4].assign(**{name: trained[name] + trained[name].std() for name in names})

    measured = drift(trained, limits, current)

    assert sorted(measured.drifted) == sorted(names)
    assert measured.alarming


def test_an_input_may_be_a_bit_further_off_than_ever_in_the_training(trained, limits):
    widest = {
        name: max(
            drift(trained, limits, trained.loc[start : start + WINDOW]).distances[name]
            for start in pd.date_range(trained.index[0], trained.index[-1] - WINDOW, freq="1D")
        )
        for name in ("amp", VOLATILITY)
    }

    assert {name: limits[name] / widest[name] for name in widest} == pytest.approx(dict.fromkeys(widest, 1.25))


def test_short_windows_beside_gaps_do_not_set_limits(trained, limits):
    hole = (trained.index >= trained.index[288]) & (trained.index < trained.index[9 * 288])

    holed = drift_limits(trained[~hole], trained.iloc[::4], WINDOW)

    assert all(holed[name] <= 1.05 * limits[name] for name in limits)


def test_order_flow_that_one_side_lacks_is_left_out():
    plain = input_rows(sound_candles(400)[list(OHLCV_COLUMNS)], "5m", BASE)

    assert set(plain.columns) == set(MONITORED) - set(BASE.flow_names)


def test_input_rows_leave_out_calendar_and_flag_and_skip_gaps():
    candles = sound_candles(700).drop(sound_candles(700).index[[300, 310]])

    rows = input_rows(candles, "5m", BASE)

    assert list(rows.columns) == list(MONITORED)
    assert len(rows) == 300 - BASE.lookback + 389 - BASE.lookback
    assert np.isfinite(rows.to_numpy()).all()
    assert not {"day_sin", "weekend", "flow_known"} & set(MONITORED)


def test_too_few_candles_in_a_row_are_said():
    with pytest.raises(NotEnoughCandles, match=f"nowhere {BASE.lookback + 1} of them in a row"):
        input_rows(sound_candles(BASE.lookback), "5m", BASE)


@pytest.mark.parametrize("flat", FLAT_MARKETS)
def test_the_finite_rows_of_a_flat_market_are_compared(flat):
    candles = flat_market(flat)

    rows = input_rows(candles, "5m", BASE)

    assert np.isfinite(rows.to_numpy()).all()
    assert len(rows) >= (0.9 if flat == "96 %" else 1) * (len(candles) - BASE.lookback)


def test_rows_in_a_still_stretch_are_left_out():
    rows = input_rows(with_still_stretch(sound_candles(700), 200, 150), "5m", BASE)

    assert len(rows) == 700 - BASE.lookback - (150 - BASE.lookback)
    assert np.isfinite(rows.to_numpy()).all()


def test_a_market_that_never_moved_leaves_nothing_to_compare():
    with pytest.raises(TooFewTrades, match=r"100\.0 % of 300 candles have no range and 100\.0 % no trade: prices or"):
        input_rows(with_still_stretch(sound_candles(301), 1, 300).iloc[1:], "5m", BASE)


def test_the_window_is_whole_weeks():
    assert WINDOW % timedelta(days=7) == timedelta(0)


def test_distances_are_those_that_evidently_shows(trained, limits):
    current = trained.iloc[-2016:]

    measured = drift(trained, limits, current)

    reference = trained.iloc[::4]
    for name, distance in measured.distances.items():
        shown = wasserstein_distance(reference[name], current[name]) / reference[name].std(ddof=0)
        assert distance == pytest.approx(shown)


@pytest.mark.parametrize(("interval", "days"), [("5m", 7), ("1d", 7), ("1w", 49)])
def test_the_newest_inputs_are_at_least_seven_candles(interval, days):
    assert drift_window(Market("BTCUSDT", interval), timedelta(days=700)) == timedelta(days=days)
    assert drift_window(Market("BTCUSDT", interval), timedelta(days=20)) == timedelta(days=5)


def trained_from_to(tiny_bundle: Path, start: datetime, end: datetime) -> Manifest:
    """Manifest of a version that was fitted on the first half of a span and reported on the second."""
    half = start + (end - start) / 2
    spans = {"fit": Span(start=start, end=half, rows=1), "report": Span(start=half, end=end, rows=1)}
    return read_manifest(tiny_bundle).model_copy(update={"spans": spans})


@pytest.mark.integration
def test_the_newest_inputs_are_compared_with_those_of_the_whole_training(pool, store, tiny_bundle, bundled_candles):
    stored = bundled_candles.iloc[: 40 * 288]
    store.upsert("BTCUSDT", "5m", stored, "rest")
    times = bundled_candles.index.to_pydatetime()
    manifest = trained_from_to(tiny_bundle, times[10 * 288], times[30 * 288])

    inputs = monitored_inputs(pool, manifest, times[40 * 288])

    a_quarter = timedelta(days=5)
    rows = input_rows(stored.iloc[10 * 288 - BASE.lookback : 30 * 288], "5m", BASE)
    current = input_rows(stored.iloc[35 * 288 - BASE.lookback :], "5m", BASE)
    assert len(inputs.reference) == 5000
    assert (inputs.reference.index[0], inputs.reference.index[-1]) == (rows.index[0], rows.index[-1])
    assert inputs.limits == pytest.approx(drift_limits(rows, inputs.reference, a_quarter))
    pd.testing.assert_frame_equal(inputs.current, current, check_freq=False)


@pytest.mark.integration
def test_less_than_half_of_the_newest_inputs_are_too_few(pool, store, tiny_bundle, bundled_candles):
    stored = bundled_candles.iloc[: 30 * 288]
    store.upsert("BTCUSDT", "5m", stored, "rest")
    times = bundled_candles.index.to_pydatetime()
    manifest = trained_from_to(tiny_bundle, times[288], times[29 * 288])

    half = monitored_inputs(pool, manifest, times[33 * 288 + 143])

    assert len(half.current) == 3.5 * 288 + 1
    with pytest.raises(NotEnoughCandles, match="1,008 of the newest 1,104 candles have inputs, 1,009 are needed"):
        monitored_inputs(pool, manifest, times[33 * 288 + 144])


def test_no_limit_is_below_a_tenth_of_a_standard_deviation():
    times = pd.date_range("2025-06-01", periods=20 * 288, freq="5min", tz="UTC")
    days_alike = pd.DataFrame({"body": np.tile(np.arange(288.0), 20)}, index=times)

    assert drift_limits(days_alike, days_alike, timedelta(days=5)) == {"body": 0.1}


@pytest.mark.parametrize(
    ("window", "starts"),
    [
        (timedelta(days=7), timedelta(days=9)),
        (timedelta(days=14), timedelta(days=9)),
        (timedelta(hours=7), timedelta(hours=101)),
    ],
)
def test_the_widest_window_is_found_day_by_day_or_by_sevenths(window, starts):
    times = pd.date_range("2025-06-01", periods=30 * 288, freq="5min", tz="UTC")
    apart = (times >= times[0] + starts) & (times <= times[0] + starts + window)
    rows = pd.DataFrame({"body": apart.astype("float64")}, index=times)

    limits = drift_limits(rows, rows, window)

    share = apart.mean()
    assert limits["body"] == pytest.approx(1.25 * (1 - share) / np.sqrt(share * (1 - share)))


@pytest.mark.parametrize(("days", "share"), [(10, 0.7), (7, 1.0), (4, 1.0)])
def test_half_the_usual_rows_of_a_window_are_enough(days, share):
    rows = pd.DataFrame({"body": 0.0}, index=pd.date_range("2025-06-01", periods=days * 288 + 1, freq="5min", tz="UTC"))

    assert fewest_rows(rows, timedelta(days=7)) == pytest.approx(0.5 * share * len(rows))


def test_an_input_that_never_changed_in_the_training_may_change_a_little():
    still = pd.DataFrame({"body": np.zeros(100), VOLATILITY: np.zeros(100)})

    distances = measure_drift(Inputs(still, still + 0.00005, {"body": 0.1, VOLATILITY: 0.1})).distances

    assert distances["body"] == pytest.approx(0.05)  # in thousandths


def test_every_input_at_its_limit_is_the_whole_share(trained, limits):
    current = trained.iloc[-2016:]
    distances = drift(trained, limits, current).distances

    assert drift(trained, distances, current).share == 1.0


def test_an_input_drifted_at_its_limit_and_the_market_at_its_share():
    at_the_limit = Drift(0.0, {"body": 0.5, "ret": 0.49}, {"body": 0.5, "ret": 0.5}, 1.0)

    assert at_the_limit.drifted == ["body"]
    assert [replace(at_the_limit, share=share).alarming for share in (0.29, 0.3)] == [False, True]
