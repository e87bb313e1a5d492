"""Figures of forecasts, checked by hand and against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics as sklearn

from candlecast.bundle.forecast import INTERVAL_TARGETS, TARGETS, Forecasts
from candlecast.errors import NotEnoughCandles
from candlecast.statistics import bootstrap
from training.metrics import calibration_bins, calibration_error, measure, row_figures, row_losses

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
LAST_AMPLITUDE = 250 + 200 * RANDOM.uniform(size=N)
FIGURES = measure(NOISY, ACTUAL, LAST_AMPLITUDE)


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


@pytest.mark.parametrize("name", ["precision", "recall", "f1", "auc"])
def test_figures_of_classes_by_row_are_those_of_all_rows(name):
    tied = forecasts_of(NOISY.targets, np.round(NOISY.probability_up, 1))  # one half, which means a rise, among them

    figure = row_figures(tied, ACTUAL, LAST_AMPLITUDE)[f"direction_{name}"]

    assert figure.of_means(figure.columns.mean(axis=0)) == pytest.approx(measure(tied, ACTUAL)[f"direction_{name}"])


def test_a_resampled_auc_is_nearly_that_of_the_resampled_rows():
    auc, random = row_figures(NOISY, ACTUAL, LAST_AMPLITUDE)["direction_auc"], np.random.default_rng(8)
    drawn = [random.integers(0, N, N) for _ in range(200)]

    near = np.array([auc.of_means(auc.columns[rows].mean(axis=0)) for rows in drawn])

    exact = np.array([sklearn.roc_auc_score(UP[rows], NOISY.probability_up[rows]) for rows in drawn])
    assert near.std() == pytest.approx(exact.std(), rel=0.03)
    assert (near - exact).std() < 0.1 * exact.std()


@pytest.mark.parametrize("share_up", [0, 1])
def test_the_auc_of_rows_that_all_went_one_way_is_one_half(share_up):
    actual = ACTUAL.copy()
    actual[:, 3] = LAST * (1.001 if share_up else 0.999)

    figures = bootstrap(row_figures(NOISY, actual, LAST_AMPLITUDE), seed=1)

    assert figures["direction_auc"] == (0.5, 0.5, 0.5)
    assert figures["direction_recall"].value == pytest.approx(share_up * np.mean(NOISY.probability_up >= 0.5))


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


def test_the_amplitude_stands_beside_the_last_one_too():
    came = ACTUAL[:, 4]

    loss = FIGURES["amplitude_mae_last"]

    assert loss == pytest.approx(sklearn.mean_absolute_error(came, LAST_AMPLITUDE))
    assert FIGURES["amplitude_rmse_last"] == pytest.approx(sklearn.root_mean_squared_error(came, LAST_AMPLITUDE))
    assert FIGURES["amplitude_skill_last"] == pytest.approx(1 - FIGURES["amplitude_mae"] / loss)
    assert FIGURES["amplitude_skill_last"] != FIGURES["amplitude_skill"]


def test_without_the_last_amplitude_everything_else_is_the_same():
    known = measure(NOISY, ACTUAL)

    assert known == {name: value for name, value in FIGURES.items() if not name.endswith("_last")}


def test_high_and_low_together_are_measured_beside_the_last_close():
    both = np.concatenate([ACTUAL[:, 1], ACTUAL[:, 2]])
    forecast = np.concatenate([NOISY.targets[:, 1], NOISY.targets[:, 2]])
    naive = sklearn.mean_absolute_error(both, np.concatenate([LAST, LAST]))

    skill = FIGURES["high_low_skill"]

    assert skill == pytest.approx(1 - sklearn.mean_absolute_error(both, forecast) / naive)


def test_the_most_confident_fifth_is_the_farthest_from_one_half():
    probability = np.full(N, 0.55)
    probability[:40], probability[40:80] = 0.9, 0.1  # the fifth of 400
    up = np.tile([1.0, 0.0], N // 2)
    actual = np.column_stack([LAST, LAST * 1.01, LAST * 0.99, LAST * (1 + 0.001 * (2 * up - 1)), LAST * 0.02])
    actual[:60, 3] = LAST[:60] * 1.001

    figures = measure(forecasts_of(actual, probability), actual)

    assert figures["direction_accuracy_top_fifth"] == pytest.approx((40 + 10) / 80)


def test_equally_confident_forecasts_are_all_the_most_confident():
    figures = measure(forecasts_of(ACTUAL, np.full(N, 0.9)), ACTUAL)

    assert figures["direction_accuracy_top_fifth"] == figures["direction_accuracy"] == pytest.approx(UP.mean())


@pytest.mark.parametrize("rate", [0.5, 0.6])
def test_a_probability_of_one_half_says_rise(rate):
    figures = measure(forecasts_of(ACTUAL, np.full(N, rate))._replace(baseline_up=rate), ACTUAL)

    assert figures["direction_accuracy"] == figures["direction_accuracy_baseline"] == pytest.approx(UP.mean())


def test_without_a_hit_or_a_miss_its_mean_return_is_zero():
    right, wrong = (measure(forecasts_of(ACTUAL, probability), ACTUAL) for probability in (UP * 1.0, ~UP * 1.0))

    assert right["direction_mean_return_miss"] == wrong["direction_mean_return_hit"] == 0.0
    assert right["direction_mean_return_hit"] == wrong["direction_mean_return_miss"] > 0.0


def test_a_wrong_certainty_costs_a_finite_log_loss():
    wrong = measure(forecasts_of(ACTUAL, ~UP * 1.0), ACTUAL)

    assert wrong["direction_log_loss"] == pytest.approx(-np.log(1e-6))


def test_resampled_rows_without_a_move_have_share_zero():
    figure = row_figures(NOISY, ACTUAL, LAST_AMPLITUDE)["direction_accuracy"]

    assert figure.of_means(np.array([[0.0, 0.0], [0.3, 0.6]])).tolist() == [0.0, 0.5]


def test_bins_of_the_calibration_error_are_ten_of_equal_count():
    probability = np.arange(200) / 200

    assert calibration_bins(probability).tolist() == np.repeat(np.arange(10), 20).tolist()


def test_direction_figures_stand_beside_those_of_the_base_rate():
    size = np.abs(CLOSE / LAST - 1)

    weighted, error = FIGURES["direction_weighted_accuracy_baseline"], FIGURES["direction_ece_baseline"]

    assert weighted == pytest.approx(sklearn.accuracy_score(UP, np.zeros(N, bool), sample_weight=size))
    assert error == pytest.approx(abs(0.48 - UP.mean()))
    assert FIGURES["direction_brier_baseline"] == pytest.approx(sklearn.brier_score_loss(UP, np.full(N, 0.48)))
    excess = FIGURES["direction_brier"] - FIGURES["direction_brier_baseline"]
    assert FIGURES["direction_brier_excess"] == pytest.approx(excess)


def test_equal_probabilities_are_one_bin_of_the_calibration_error():
    up = np.arange(200) < 100  # all rises first, so bins by position would be wholly wrong

    assert calibration_error(np.full(200, 0.5), up) == pytest.approx(0.0)
    assert calibration_error(np.full(200, 0.6), up) == pytest.approx(0.1)


def test_rows_of_a_market_that_never_moved_are_refused():
    still = ACTUAL.copy()
    still[:, 3] = LAST

    with pytest.raises(NotEnoughCandles, match="none of 400 closes moved"):
        measure(NOISY, still)


def test_figures_by_row_are_the_figures_of_the_report():
    actual = ACTUAL.copy()
    actual[50:90, 3] = LAST[50:90]  # some candles did not move
    report = measure(NOISY, actual, LAST_AMPLITUDE)

    by_row = {
        name: float(figure.of_means(figure.columns.mean(axis=0)))
        for name, figure in row_figures(NOISY, actual, LAST_AMPLITUDE).items()
    }

    assert by_row == pytest.approx({name: report[name] for name in by_row})
    assert {f"{name}_skill" for name in TARGETS} | {f"{name}_coverage" for name in INTERVAL_TARGETS} <= set(by_row)


def test_the_calibration_error_separates_honest_from_boastful_forecasts():
    random = np.random.default_rng(8)
    n = 4000
    last = np.full(n, 1000.0)
    probability = random.uniform(0.4, 0.6, n)
    close = last + np.where(random.uniform(size=n) < probability, 1.0, -1.0)
    actual = np.column_stack([last, last + 2, last - 2, close, np.full(n, 4.0)])
    boast = np.where(probability > 0.5, 0.9, 0.1)

    intervals = [
        bootstrap(row_figures(_about(last, actual, stated), actual, np.full(n, 4.0)), seed=1)["direction_ece"]
        for stated in (probability, boast)
    ]

    assert intervals[0].lower == 0.0
    assert intervals[0].value < intervals[0].upper < 0.05
    assert intervals[1].lower < 0.35 < intervals[1].upper
    assert intervals[1].lower > 0.3


def _about(last: np.ndarray, targets: np.ndarray, probability_up: np.ndarray) -> Forecasts:
    centre = targets[:, [TARGETS.index(name) for name in INTERVAL_TARGETS]]
    return Forecasts(targets, centre - 1, centre + 1, probability_up, last, np.full(len(last), 4.0), 0.5)
