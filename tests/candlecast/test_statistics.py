"""Paired tests and bootstrap intervals, against other people's code and against series whose truth is known."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
import statsmodels.api as sm
from arch.bootstrap import StationaryBootstrap, optimal_block_length
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from candlecast.errors import NotEnoughCandles
from candlecast.statistics import (
    Comparison,
    RowFigure,
    bootstrap,
    compare,
    long_run_variance,
    ratio_error,
    student_interval,
)
from tests.support.live_simulation import CORNERS
from tests.support.series import (
    autoregressive,
    held_by_bootstrap,
    held_by_student_interval,
    mean_of,
    overlapping,
    rejections_of_equals,
)
from tests.support.simulated_intervals import held_by_live_intervals


def equal_weights(series: np.ndarray, horizon: int) -> float:
    """The long-run variance of Hansen and Hodrick (1980), lag by lag."""
    off = series - series.mean()
    covariances = [float((off[lag:] * off[: len(off) - lag]).sum()) / len(off) for lag in range(horizon)]
    return covariances[0] + 2 * sum(covariances[1:])


def freedom(n: int, horizon: int) -> float:
    """Degrees of freedom: of the independent outcomes, or of Bartlett's variance (Priestley, 1981) if less."""
    lags = max(horizon - 1, int(4 * (n / 100) ** (2 / 9)))
    return min(n / horizon - 1, 1.5 * n / (lags + 1))


def hac_fit(difference: np.ndarray, lags: int) -> object:
    kwds = {"maxlags": lags, "use_correction": False}
    return sm.OLS(difference, np.ones(len(difference))).fit(cov_type="HAC", cov_kwds=kwds)


@given(
    seed=st.integers(0, 1000),
    memory=st.floats(-0.8, 0.8),
    n=st.integers(30, 600),
    horizon=st.sampled_from([1, 2, 4, 12]),
)
@settings(max_examples=40)
def test_the_test_rests_on_the_hac_variance_of_statsmodels(seed, memory, n, horizon):
    random = np.random.default_rng(seed)
    losses, reference = autoregressive(random, n, memory) + 5, random.normal(5, 1, n)
    lags = max(horizon - 1, int(4 * (n / 100) ** (2 / 9)))
    fitted = hac_fit(losses - reference, lags)
    bartlett = n * fitted.bse[0] ** 2
    equal = equal_weights(losses - reference, horizon) if horizon > 1 else 0.0
    error = np.sqrt(max(bartlett, equal) / n)
    correction = np.sqrt((n + 1 - 2 * horizon + horizon * (horizon - 1) / n) / n)  # as Harvey et al. print it

    comparison = compare(losses, reference, horizon)

    statistic = fitted.params[0] / error * correction
    assert comparison.statistic == pytest.approx(statistic, rel=1e-9)
    assert comparison.p_value == pytest.approx(2 * stats.t.sf(abs(statistic), freedom(n, horizon)))
    assert comparison.p_better == pytest.approx(stats.t.cdf(statistic, freedom(n, horizon)))
    bound = fitted.params[0] + stats.t.ppf(0.95, freedom(n, horizon)) * error / correction
    assert comparison.excess_upper == pytest.approx(bound, abs=1e-9)
    assert long_run_variance(losses - reference, horizon) == pytest.approx(max(bartlett, equal))


@given(seed=st.integers(0, 500), better=st.floats(-0.3, 0.3))
@settings(max_examples=40)
def test_the_bound_is_below_zero_exactly_where_the_one_sided_test_rejects(seed, better):
    random = np.random.default_rng(seed)
    losses, reference = random.normal(5 - better, 1, 200), random.normal(5, 1, 200)

    comparison = compare(losses, reference)

    assert (comparison.excess_upper < 0) == (comparison.p_better < 0.05)
    assert comparison.not_worse(0.0) == (comparison.p_better < 0.05)
    assert comparison.clearly_worse == compare(reference, losses).not_worse(0.0)


def test_errors_of_overlapping_forecasts_are_not_taken_for_evidence():
    random, horizon, n = np.random.default_rng(3), 12, 300
    shocks = random.normal(size=(400, n + horizon - 1))
    differences = np.stack([np.convolve(row, np.ones(horizon), mode="valid") for row in shocks])
    nothing = np.zeros(n)

    rejected = [compare(10 + row, nothing + 10, horizon).p_value < 0.05 for row in differences]
    fooled = [compare(10 + row, nothing + 10, 1).p_value < 0.05 for row in differences]
    naive = stats.ttest_1samp(differences, 0, axis=1).pvalue < 0.05

    assert np.mean(rejected) < 0.08
    assert np.mean(rejected) < np.mean(fooled) < np.mean(naive)


@pytest.mark.parametrize("memory", [0.97, 0.99])
def test_slow_forecasts_of_usual_strength_are_tested_at_five_percent(memory):
    assert 0.03 <= rejections_of_equals(1, memory, 0.06, 1000).share <= 0.07


def test_a_difference_that_lasts_counts_for_less_than_one_that_flickers():
    flicker = np.random.default_rng(1).normal(0.1, 1, 2000)
    lasting = np.repeat(flicker[:200], 10)

    bounds = [compare(losses, np.zeros(2000)).excess_upper - losses.mean() for losses in (lasting, flicker)]

    assert bounds[0] > 1.5 * bounds[1]


def test_a_horizon_of_one_is_the_usual():
    losses, reference = np.random.default_rng(5).normal(5, 1, (2, 60))

    assert compare(losses, reference) == compare(losses, reference, 1)
    assert long_run_variance(losses) == long_run_variance(losses, 1)
    assert ratio_error(losses, reference) == ratio_error(losses, reference, 1)
    assert student_interval(5.0, 1.0, 60) == student_interval(5.0, 1.0, 60, 1)
    assert bootstrap({"mean": mean_of(losses)}, seed=1) == bootstrap({"mean": mean_of(losses)}, seed=1, horizon=1)


def test_losses_that_are_all_zero_are_equally_good():
    comparison = compare(np.zeros(50), np.zeros(50))

    assert (comparison.statistic, comparison.p_value, comparison.skill) == (0.0, 1.0, 0.0)


def test_one_value_has_no_variance():
    assert long_run_variance(np.array([3.0])) == 0.0


@pytest.mark.parametrize("noise", [0.0, 1e-16])
def test_of_equal_losses_neither_is_better(noise):
    reference = np.random.default_rng(2).uniform(0.2, 0.3, 500)

    comparison = compare(reference + noise, reference)

    assert abs(comparison.statistic) < 0.01
    assert comparison.p_value > 0.99
    assert not comparison.clearly_worse
    assert comparison.not_worse(0.005)
    assert not comparison.not_worse(0.0)


def test_a_difference_without_any_spread_is_a_finite_number_in_json():
    comparison = compare(np.full(100, 1.1), np.full(100, 1.0))

    assert json.loads(json.dumps(asdict(comparison), allow_nan=False))["statistic"] > 1e6
    assert comparison.clearly_worse


def test_too_few_rows_for_the_horizon_are_refused_with_the_number_needed():
    losses = np.arange(24.0)

    compare(np.append(losses, 4.0), np.zeros(25), horizon=12)

    with pytest.raises(NotEnoughCandles, match="24 forecasts 12 ahead to compare: give at least 25"):
        compare(losses, np.zeros(24), horizon=12)


def test_not_worse_means_the_whole_interval_lies_below_the_margin():
    comparison = Comparison(loss=100.2, reference=100.0, statistic=1.0, p_value=0.3, p_better=0.85, excess_upper=0.4)

    assert comparison.not_worse(0.005)
    assert not comparison.not_worse(0.004)
    assert not replace(comparison, p_better=0.95).clearly_worse
    assert replace(comparison, p_better=0.951).clearly_worse
    assert comparison.skill == pytest.approx(-0.002)


def test_an_interval_of_autocorrelated_rows_has_its_stated_coverage():
    random, n, trials = np.random.default_rng(4), 600, 60
    series = [autoregressive(random, n, 0.6) for _ in range(trials)]

    intervals = [bootstrap({"mean": mean_of(one)}, seed=1)["mean"] for one in series]

    held = np.mean([interval.lower <= 0 <= interval.upper for interval in intervals])
    as_if_independent = np.mean([abs(one.mean()) < 1.96 * one.std() / np.sqrt(n) for one in series])
    assert held >= 0.85
    assert as_if_independent < 0.8


@pytest.mark.parametrize(("horizon", "n"), [(1, 288), (5, 288), (15, 600), (15, 2016), (60, 2016)])
def test_an_interval_of_overlapping_outcomes_has_its_coverage(horizon, n):
    assert 0.92 <= held_by_student_interval(n, horizon, 500).share <= 0.99


@pytest.mark.parametrize("cell", CORNERS, ids=str)
def test_intervals_of_live_skill_have_their_coverage(cell):
    held = held_by_live_intervals(cell, 400)

    assert [name for name, frequency in held.items() if not 0.92 <= frequency.share <= 0.99] == []


@pytest.mark.parametrize("horizon", [1, 15, 60])
def test_an_error_of_few_outcomes_is_at_most_twice_too_large(horizon):
    random = np.random.default_rng(5)
    rows = 2 * horizon + 1
    series = overlapping(random, rows, horizon)

    error, ones = ratio_error(series, np.ones(rows), horizon), np.ones(rows - 1)

    assert 1 <= (error or 0) / np.sqrt(long_run_variance(series, horizon) / rows) <= 2
    assert ratio_error(series[1:], ones, horizon) is None


def test_an_interval_needs_thirty_independent_outcomes():
    assert student_interval(0.0, 1.0, 449, horizon=15) is None
    assert student_interval(0.0, 1.0, 450, horizon=15) is not None
    assert student_interval(0.0, None, 1000) is None


@pytest.mark.parametrize(("rows", "horizon"), [(30, 1), (60, 1), (288, 1), (5000, 1), (460, 15)])
def test_the_quantile_without_scipy_is_student_s(rows, horizon):
    lower, upper = student_interval(3.0, 2.0, rows, horizon) or (0, 0)

    exact, left_out = stats.t.ppf(0.975, freedom(rows, horizon)), 2 * freedom(rows, horizon) ** -4  # the fourth term
    assert [(3.0 - lower) / 2, (upper - 3.0) / 2] == pytest.approx([exact] * 2, rel=0, abs=max(left_out, 1e-12))


@pytest.mark.parametrize("horizon", [1, 4])
def test_the_error_of_a_ratio_is_that_of_its_influence(horizon):
    random, n = np.random.default_rng(10), 200
    whole = random.uniform(1, 3, n)
    part = 0.7 * whole + autoregressive(random, n, 0.5)
    influence = (part - part.mean() / whole.mean() * whole) / whole.mean()
    variance = n * hac_fit(influence, max(horizon - 1, int(4 * (n / 100) ** (2 / 9)))).bse[0] ** 2
    if horizon > 1:
        variance = max(variance, equal_weights(influence, horizon))

    error = ratio_error(part, whole, horizon)

    assert error == pytest.approx(np.sqrt(variance * n / ((n - horizon) * (n - horizon + 1))), rel=1e-9)


@pytest.mark.parametrize(
    ("rows", "memory", "horizon", "cell", "block"),
    [
        pytest.param(450, 0.0, 15, 1, 30, id="twice the horizon"),
        pytest.param(450, 0.0, 2, 1, 4, id="twice the shortest overlap"),
        pytest.param(30_000, 0.0, 5, 3, 4, id="twice the horizon in cells of three rows"),
        pytest.param(410, 0.99, 1, 1, 20, id="a twentieth of the rows"),
        pytest.param(400, 0.6, 1, 1, None, id="what the rows ask for"),
        pytest.param(400, 0.0, 1, 1, 1, id="one row"),
    ],
)
def test_intervals_are_those_of_the_stationary_bootstrap(rows, memory, horizon, cell, block):
    series = autoregressive(np.random.default_rng(13), rows, memory)
    cells = series.reshape(-1, cell).mean(axis=1)
    block = block or round(optimal_block_length(cells)["stationary"].iloc[0])
    drawn = StationaryBootstrap(block, cells, seed=np.random.default_rng(4)).apply(np.mean, 1000)

    interval = bootstrap({"mean": mean_of(series)}, 4, horizon)["mean"]

    assert interval == pytest.approx((series.mean(), *np.quantile(drawn, [0.025, 0.975])))


@pytest.mark.parametrize(("mean", "chance_alone"), [([3.0, 4.0], False), ([0.0, 0.0], True)])
def test_the_lower_end_of_a_norm_leaves_out_what_chance_adds(mean, chance_alone):
    columns = np.random.default_rng(14).normal(mean, 1.0, (300, 2))
    norm = RowFigure(columns, lambda means: np.linalg.norm(means, axis=-1), is_norm=True)

    interval = bootstrap({"norm": norm}, seed=1)["norm"]

    reach = np.sqrt(stats.chi2.ppf(0.975, 2) / 300)  # of the length of a normal pair's mean
    assert interval.value == pytest.approx(np.linalg.norm(columns.mean(axis=0)))
    assert interval.lower == (0.0 if chance_alone else pytest.approx(interval.value - reach, abs=0.02))
    assert interval.upper > interval.value


def test_a_bootstrap_of_overlapping_outcomes_has_its_coverage():
    assert held_by_bootstrap(900, 15, 100).share >= 0.85


def test_blocks_of_the_bootstrap_span_the_overlap_of_outcomes():
    independent = {"mean": mean_of(np.random.default_rng(0).normal(size=450))}  # asks for short blocks

    assert bootstrap(independent, 1, horizon=15) != bootstrap(independent, 1, horizon=1)


def test_an_interval_is_as_wide_as_the_hac_error_makes_it():
    series = autoregressive(np.random.default_rng(6), 5000, 0.5)
    error = hac_fit(series, 30).bse[0]

    interval = bootstrap({"mean": mean_of(series)}, seed=1)["mean"]

    assert interval.value == pytest.approx(series.mean())
    assert interval.upper - interval.lower == pytest.approx(2 * 1.96 * error, rel=0.15)
    assert (interval.upper + interval.lower) / 2 == pytest.approx(series.mean(), abs=0.2 * error)


def test_a_ratio_of_means_is_resampled_as_a_ratio():
    random = np.random.default_rng(7)
    reference = random.gamma(2, 1, 4000)
    loss = 0.9 * reference + random.normal(0, 0.05, 4000)  # the spread of both is far above that of the ratio
    skill = RowFigure(np.column_stack([loss, reference]), lambda means: 1 - means[..., 0] / means[..., 1])

    interval = bootstrap({"skill": skill}, seed=1)["skill"]

    error = 0.05 / np.sqrt(4000) / reference.mean()  # delta method
    assert interval.value == pytest.approx(1 - loss.sum() / reference.sum())
    assert interval.upper - interval.lower == pytest.approx(2 * 1.96 * error, rel=0.15)


def test_resampling_many_rows_in_groups_gives_the_same_interval():
    series = np.random.default_rng(8).normal(3, 2, 120_001)

    interval = bootstrap({"mean": mean_of(series)}, seed=1)["mean"]

    assert interval.value == pytest.approx(series.mean())
    assert interval.upper - interval.lower == pytest.approx(2 * 1.96 * 2 / np.sqrt(120_001), rel=0.15)


def test_resampling_depends_on_the_seed_and_not_on_other_figures():
    random = np.random.default_rng(9)
    one, other = mean_of(random.normal(size=200)), mean_of(random.normal(size=200))

    first = bootstrap({"one": one, "other": other}, seed=1)

    assert bootstrap({"other": other, "one": one}, seed=1) == first
    assert bootstrap({"one": one, "other": other}, seed=2) != first


@pytest.mark.parametrize("share", [1.0, 0.0])
def test_a_figure_that_every_row_agrees_on_has_an_interval_without_width(share):
    covered = RowFigure(np.tile([share, 1.0], (400, 1)), lambda means: means[..., 0] / means[..., 1])
    other = mean_of(autoregressive(np.random.default_rng(13), 400, 0.0))  # asks for blocks of one row

    intervals = bootstrap({"coverage": covered, "other": other}, seed=1)

    assert intervals["coverage"] == (share, share, share)
    assert intervals["other"] == bootstrap({"other": other}, seed=1)["other"]


@pytest.mark.parametrize(("horizon", "fewest"), [(1, 30), (15, 450)])
def test_too_few_rows_for_an_interval_are_refused(horizon, fewest):
    with pytest.raises(
        NotEnoughCandles, match=f"{fewest - 1} forecasts to measure: an interval needs at least {fewest}"
    ):
        bootstrap({"mean": mean_of(np.arange(fewest - 1.0))}, 1, horizon)


def test_the_error_of_a_ratio_is_right_for_autocorrelated_rows():
    random = np.random.default_rng(8)
    held, held_by_independent_rows, count = 0, 0, 300
    for _ in range(count):
        level = 10 + autoregressive(random, 288, 0.6)
        losses, reference = 0.9 * level + autoregressive(random, 288, 0.4), level
        off = abs(losses.mean() / reference.mean() - 0.9)
        spread = (losses - losses.mean() / reference.mean() * reference).std() / reference.mean() / np.sqrt(288)
        held += bool(off < 1.96 * ratio_error(losses, reference))
        held_by_independent_rows += bool(off < 1.96 * spread)

    assert 0.90 < held / count < 0.98
    assert held_by_independent_rows / count < 0.85


def test_real_skills_of_neighbouring_half_days_differ_as_rarely_as_claimed(bundled_candles):
    amplitude = (bundled_candles["high"] - bundled_candles["low"]) / bundled_candles["close"]
    naive = amplitude.ewm(span=12).mean()
    rules = [amplitude, 0.85 * naive, *(amplitude.ewm(span=span).mean() for span in (6, 24, 48))]
    reference = (naive.shift(1) - amplitude).abs().to_numpy()[600:]
    differ = []
    for rule in rules:
        losses = (rule.shift(1) - amplitude).abs().to_numpy()[600:]
        count = len(losses) // 144
        halves = list(zip(np.array_split(losses, count), np.array_split(reference, count), strict=True))
        skills = np.array([loss.mean() / base.mean() for loss, base in halves])
        errors = np.array([ratio_error(loss, base) for loss, base in halves])
        differ += list(np.abs(np.diff(skills)) > 1.96 * np.hypot(errors[1:], errors[:-1]))

    assert len(differ) > 1000
    assert 0.03 < np.mean(differ) < 0.065  # 7 % without lags, 13 % with 48


def test_of_a_reference_without_loss_the_ratio_has_no_error():
    assert ratio_error(np.ones(5), np.zeros(5)) == 0.0
