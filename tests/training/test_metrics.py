"""What forecasts were worth: figures checked by hand and against other people's code."""

from __future__ import annotations

import numpy as np
import pytest
import statsmodels.api as sm
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics as sklearn

from candlecast.forecast import INTERVAL_TARGETS, TARGETS, Forecasts
from training.metrics import Comparison, calibration_error, compare, measure, row_losses

N = 400
RANDOM = np.random.default_rng(5)
LAST = 100_000 * np.exp(np.cumsum(RANDOM.normal(0, 1e-3, N)))
CLOSE = LAST * np.exp(RANDOM.normal(0, 1e-3, N))
HIGH, LOW = np.maximum(LAST, CLOSE) * 1.001, np.minimum(LAST, CLOSE) * 0.999
ACTUAL = np.column_stack([LAST, HIGH, LOW, CLOSE, HIGH - LOW])
UP = CLOSE > LAST


def forecasts_of(targets: np.ndarray, probability_up: np.ndarray, spread: float = 100.0) -> Forecasts:
    centre = targets[:, [TARGETS.index(name) for name in INTERVAL_TARGETS]]
    return Forecasts(
        targets=targets,
        lower=centre - spread,
        upper=centre + spread,
        probability_up=probability_up,
        baseline_close=LAST[: len(targets)],
        baseline_amplitude=np.full(len(targets), 300.0),
        baseline_up=0.48,
    )


NOISY = forecasts_of(ACTUAL * (1 + RANDOM.normal(0, 5e-4, ACTUAL.shape)), RANDOM.uniform(0.2, 0.8, N))
FIGURES = measure(NOISY, ACTUAL)


@pytest.mark.parametrize("name", TARGETS)
def test_errors_are_those_of_scikit_learn(name):
    column = TARGETS.index(name)
    came, forecast = ACTUAL[:, column], NOISY.targets[:, column]

    figures = {figure: FIGURES[f"{name}_{figure}"] for figure in ("mae", "rmse", "mape", "smape", "bias")}

    assert figures["mae"] == pytest.approx(sklearn.mean_absolute_error(came, forecast))
    assert figures["rmse"] == pytest.approx(sklearn.root_mean_squared_error(came, forecast))
    assert figures["mape"] == pytest.approx(100 * sklearn.mean_absolute_percentage_error(came, forecast))
    assert figures["smape"] == pytest.approx(100 * np.mean(np.abs(forecast - came) / ((forecast + came) / 2)))
    assert figures["bias"] == pytest.approx(np.mean(forecast - came))


@pytest.mark.parametrize("name", TARGETS)
def test_every_error_stands_beside_its_baselines_on_the_same_rows(name):
    came = ACTUAL[:, TARGETS.index(name)]
    baseline = np.full(N, 300.0) if name == "amplitude" else LAST

    mae = FIGURES[f"{name}_mae_baseline"]

    assert mae == pytest.approx(sklearn.mean_absolute_error(came, baseline))
    assert FIGURES[f"{name}_skill"] == pytest.approx(1 - FIGURES[f"{name}_mae"] / mae if mae else 0.0)
    assert FIGURES[f"{name}_rmse_baseline"] == pytest.approx(sklearn.root_mean_squared_error(came, baseline))


def test_the_last_close_as_forecast_has_no_skill():
    persistence = np.column_stack([LAST, LAST, LAST, LAST, np.full(N, 300.0)])

    figures = measure(forecasts_of(persistence, np.full(N, 0.48)), ACTUAL)

    assert [figures[f"{name}_skill"] for name in TARGETS] == [0.0] * 5
    assert figures["direction_brier"] == figures["direction_brier_baseline"]
    assert figures["direction_log_loss"] == pytest.approx(figures["direction_log_loss_baseline"])
    assert figures["direction_accuracy"] == figures["direction_accuracy_baseline"] == (~UP).mean()


def test_a_perfect_forecast_has_all_the_skill():
    figures = measure(forecasts_of(ACTUAL, UP.astype(float)), ACTUAL)

    assert figures["close_skill"] == figures["amplitude_skill"] == 1.0
    assert figures["direction_accuracy"] == figures["direction_weighted_accuracy"] == 1.0
    assert figures["direction_brier"] == 0.0
    assert figures["close_coverage"] == 1.0


def test_direction_figures_are_those_of_scikit_learn():
    probability = NOISY.probability_up
    size = np.abs(CLOSE / LAST - 1)
    hit = (probability >= 0.5) == UP

    assert FIGURES["direction_accuracy"] == pytest.approx(sklearn.accuracy_score(UP, probability >= 0.5))
    assert FIGURES["direction_brier"] == pytest.approx(sklearn.brier_score_loss(UP, probability))
    assert FIGURES["direction_log_loss"] == pytest.approx(sklearn.log_loss(UP, probability))
    weighted = sklearn.accuracy_score(UP, probability >= 0.5, sample_weight=size)
    assert FIGURES["direction_weighted_accuracy"] == pytest.approx(weighted)
    assert FIGURES["direction_weighted_error"] == pytest.approx(1 - weighted)
    assert FIGURES["direction_mean_return_hit"] == pytest.approx(size[hit].mean())
    assert FIGURES["direction_mean_return_miss"] == pytest.approx(size[~hit].mean())


def test_candles_that_did_not_move_are_neither_hit_nor_miss():
    actual = ACTUAL.copy()
    actual[:100, 3] = LAST[:100]

    figures = measure(NOISY, actual)

    hits = (NOISY.probability_up >= 0.5) == UP
    assert figures["direction_accuracy"] == pytest.approx(hits[100:].mean())
    assert figures["rows"] == N
    assert len(row_losses(NOISY, actual).brier) == N - 100
    assert len(row_losses(NOISY, actual).close) == N


def test_calibration_error_by_hand():
    probability = np.repeat(np.arange(10) / 10, 20)
    often = np.array([0, 2, 4, 6, 8, 10, 12, 14, 16, 18]) + 2  # of 20: a tenth more often than forecast, everywhere
    up = np.concatenate([np.arange(20) < count for count in often])
    shuffled = np.random.default_rng(1).permutation(len(up))

    error = calibration_error(probability[shuffled], up[shuffled])

    assert error == pytest.approx(0.1)


def test_a_calibrated_probability_has_no_calibration_error():
    probability = np.repeat(np.arange(10) / 10, 20)
    up = np.concatenate([np.arange(20) < count for count in range(0, 20, 2)])

    assert calibration_error(probability, up) == pytest.approx(0.0)


def test_coverage_counts_both_ends_and_width_is_in_quote_currency():
    whole = np.round(ACTUAL)
    exact = forecasts_of(whole, np.full(N, 0.5), spread=10.0)
    came = whole + np.array([0, 10.0, -10.0, 10.5, 0])

    figures = measure(exact, came)

    assert figures["high_coverage"] == figures["low_coverage"] == 1.0
    assert figures["close_coverage"] == 0.0
    assert figures["close_width"] == pytest.approx(20.0)


@given(seed=st.integers(0, 1000), correlation=st.floats(-0.8, 0.8), n=st.integers(30, 600))
@settings(max_examples=25, deadline=None)
def test_the_bound_rests_on_the_hac_variance_of_statsmodels(seed, correlation, n):
    shocks = np.random.default_rng(seed).normal(size=(2, n))
    losses, reference = shocks.copy()
    for row in range(1, n):
        losses[row] += correlation * losses[row - 1]
    fitted = sm.OLS(losses - reference, np.ones(n)).fit(
        cov_type="HAC", cov_kwds={"maxlags": int(4 * (n / 100) ** (2 / 9)), "use_correction": False}
    )

    comparison = compare(losses, reference)

    error = (comparison.excess_upper - (losses - reference).mean()) / stats.norm.ppf(0.95)
    assert error == pytest.approx(fitted.bse[0], rel=1e-9)
    assert comparison.loss - comparison.reference == pytest.approx(fitted.params[0], abs=1e-12)


def test_a_difference_that_lasts_counts_for_less_than_one_that_flickers():
    flicker = np.random.default_rng(1).normal(0.1, 1, 2000)
    lasting = np.repeat(flicker[:200], 10)

    bounds = [compare(losses, np.zeros(2000)).excess_upper - losses.mean() for losses in (lasting, flicker)]

    assert bounds[0] > 1.5 * bounds[1]


def test_not_worse_means_the_whole_interval_lies_below_the_margin():
    comparison = Comparison(loss=100.2, reference=100.0, excess_upper=0.4)

    assert comparison.not_worse(0.005)
    assert not comparison.not_worse(0.004)
    assert comparison.skill == pytest.approx(-0.002)
