"""Tests of walk-forward: folds, their candles, and reports."""

from __future__ import annotations

from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from candlecast.errors import ConfigurationError, NotEnoughCandles
from candlecast.features.base import BASE
from candlecast.market import Market, epoch_ms
from candlecast.settings.sources import load_settings
from tests.support.bundles import sound_candles
from tests.support.canaries import slices_share_no_candle
from tests.support.thin_market import with_still_stretch
from training.dataset import build_dataset
from training.families.interface import fit_forecaster
from training.metrics import measure
from training.splits import Split, split_fold
from training.walk_forward.folds import Fold, FoldLengths, folds_of, folds_within
from training.walk_forward.report import fold_line, fold_markdown, fold_table, skill_by_fold, walk_forward_message
from training.walk_forward.walk_forward import FoldReport, measure_fold, measure_folds, pooled


def utc(*date: int) -> datetime:
    return datetime(*date, tzinfo=UTC)  # type: ignore[arg-type]


MARKET = Market("BTCUSDT", "1h")
CANDLES = sound_candles(5 * 31 * 24, MARKET, end=utc(2025, 6, 1, 4))
SETTINGS = load_settings(interval="1h", sequence_length=6)
TWO_AND_ONE = FoldLengths(train_months=2)
FOLDS = folds_of(CANDLES, MARKET, TWO_AND_ONE)

MOMENTS = st.integers(0, 35_000).map(lambda hours: utc(2020, 1, 1) + timedelta(hours=hours))
LENGTHS = st.builds(FoldLengths, st.integers(1, 6), st.integers(1, 3), st.integers(1, 3))


def measured(family: str = "har", folds: list[Fold] = FOLDS, candles: pd.DataFrame = CANDLES) -> list[FoldReport]:
    return measure_folds(candles, folds, family, SETTINGS, lambda _: None)


@pytest.fixture(scope="module")
def reports() -> list[FoldReport]:
    return measured()


def test_folds_are_three_months_one_month_and_a_month_on():
    folds = folds_within(utc(2025, 1, 1), utc(2025, 7, 1), FoldLengths())

    assert folds == [
        Fold(utc(2025, 1, 1), utc(2025, 4, 1), utc(2025, 5, 1)),
        Fold(utc(2025, 2, 1), utc(2025, 5, 1), utc(2025, 6, 1)),
        Fold(utc(2025, 3, 1), utc(2025, 6, 1), utc(2025, 7, 1)),
    ]


def test_a_still_stretch_in_a_fold_costs_only_its_windows(reports):
    inside = CANDLES.index.searchsorted(pd.Timestamp(FOLDS[0].start)) + 500

    [report] = measured(folds=FOLDS[:1], candles=with_still_stretch(CANDLES, inside, 120))

    lost = reports[0].figures["fit_rows"] - report.figures["fit_rows"]
    assert 0 < lost <= 120 - BASE.lookback + SETTINGS.training.sequence_length


@given(start=MOMENTS, days=st.integers(0, 900), lengths=LENGTHS)
def test_folds_follow_each_other_by_one_step_within_the_history(start, days, lengths):
    end = start + timedelta(days=days)
    try:
        folds = folds_within(start, end, lengths)
    except NotEnoughCandles:
        folds = []

    for fold in folds:
        assert start <= fold.start < fold.border < fold.end <= end
    for fold, following in pairwise(folds):
        assert following.start > fold.start
        if lengths.step_months == lengths.validate_months:
            assert following.border == fold.end
    months = lengths.train_months + lengths.validate_months + len(folds) * lengths.step_months
    assert pd.Timestamp(start) + pd.DateOffset(months=months) > pd.Timestamp(end)


@pytest.mark.parametrize("name", [field.name for field in fields(FoldLengths)])
def test_a_length_below_one_month_is_refused(name):
    with pytest.raises(ConfigurationError, match=f"{name} is 0"):
        folds_within(utc(2025, 1, 1), utc(2025, 7, 1), replace(FoldLengths(), **{name: 0}))


def test_a_history_shorter_than_a_fold_is_refused_with_what_to_do():
    with pytest.raises(NotEnoughCandles, match=r"2025-01-01.* fold of 3 \+ 1 months; backfill .* or take fewer months"):
        folds_within(utc(2025, 1, 1), utc(2025, 4, 30), FoldLengths())
    with pytest.raises(NotEnoughCandles, match="no candles of BTCUSDT 1h"):
        folds_of(CANDLES.iloc[:0], MARKET, FoldLengths())


def test_folds_begin_at_the_first_whole_day_and_end_with_the_history():
    days = (CANDLES.index[0].ceil("D"), CANDLES.index[-1] + MARKET.step)

    assert FOLDS[0].start == days[0].to_pydatetime()
    assert FOLDS[-1].end <= days[1] < FOLDS[-1].end + timedelta(days=31)
    assert folds_of(CANDLES, MARKET, TWO_AND_ONE, start=utc(2025, 2, 1), end=utc(2025, 5, 15)) == [
        Fold(utc(2025, 2, 1), utc(2025, 4, 1), utc(2025, 5, 1))
    ]


@given(
    horizon=st.integers(1, 5),
    sequence=st.integers(2, 12),
    gaps=st.lists(st.integers(200, len(CANDLES) - 200), max_size=2),
    which=st.integers(0, len(FOLDS) - 1),
)
@settings(max_examples=25)
def test_the_slices_of_a_fold_share_no_candle_and_respect_the_border(horizon, sequence, gaps, which):
    fold = FOLDS[which]
    dataset = build_dataset(CANDLES.drop(CANDLES.index[gaps]), MARKET._replace(horizon=horizon), sequence, BASE)

    slices_share_no_candle(lambda whole: split_fold(whole, fold), dataset)

    split = split_fold(dataset, fold)
    times = dataset.target_ms[dataset.ends]
    validated = (times >= epoch_ms(fold.border)) & (times < epoch_ms(fold.end))
    np.testing.assert_array_equal(split.report, dataset.ends[validated])
    assert dataset.target_ms[split.fit[0]] >= epoch_ms(fold.start)


def test_a_split_that_leaves_out_the_purge_is_noticed():
    dataset = build_dataset(CANDLES, MARKET, 6, BASE)

    def unpurged(_: object) -> Split:
        split = split_fold(dataset, FOLDS[0])
        return split._replace(calibrate=np.append(split.calibrate, split.report[0] - 1))

    with pytest.raises(AssertionError):
        slices_share_no_candle(unpurged, dataset)


def test_a_fold_without_candles_to_validate_on_is_refused():
    fold = FOLDS[0]
    candles = CANDLES[(CANDLES.index < fold.border) | (CANDLES.index >= fold.end)]

    with pytest.raises(NotEnoughCandles, match=f"no forecast can be made between {fold.border:%Y-%m-%d}"):
        measure_fold(candles, fold, "har", SETTINGS)


@pytest.mark.parametrize("family", ["har", "trees"])
def test_a_fold_is_fitted_from_nothing_and_knows_its_own_candles_only(family):
    fold = FOLDS[1]
    alone = measure_fold(CANDLES, fold, family, SETTINGS)

    after_another = measured(family, [FOLDS[0], fold])[1].figures
    without_later = measure_fold(CANDLES[CANDLES.index < fold.end], fold, family, SETTINGS)
    without_earlier = measure_fold(CANDLES[CANDLES.index >= fold.start], fold, family, SETTINGS)

    assert alone == after_another == without_later == without_earlier


def test_what_a_fold_trains_on_matters():
    fold = FOLDS[0]
    changed = CANDLES.copy()
    early = changed.index < fold.border - timedelta(days=20)
    changed.loc[early, "high"] *= 1.01

    assert measure_fold(changed, fold, "har", SETTINGS) != measure_fold(CANDLES, fold, "har", SETTINGS)


def test_the_figures_of_a_fold_are_those_of_its_validation_span(reports):
    fold = FOLDS[0]
    known = (CANDLES.index >= fold.start) & (CANDLES.index < fold.end)
    dataset = build_dataset(CANDLES[known], MARKET, SETTINGS.training.sequence_length, BASE)
    split = split_fold(dataset, fold)
    forecasts = fit_forecaster("har", dataset, split, SETTINGS.training, lambda *_: None).forecast(
        dataset, split.report
    )

    expected = measure(forecasts, dataset.actual[split.report], dataset.amplitude[split.report])

    figures = reports[0].figures
    assert {name: figures[name] for name in expected} == pytest.approx(expected)
    assert figures["close_skill_lower"] <= figures["close_skill"] <= figures["close_skill_upper"]
    assert figures["ohlcv_only_amplitude_mae"] == figures["amplitude_mae"]
    assert figures["fit_rows"] == len(split.fit)


def test_all_folds_together_are_what_all_their_rows_are(reports):
    rows, loss, reference = (
        np.array([report.figures[name] for report in reports])
        for name in ("rows", "amplitude_mae", "amplitude_mae_baseline")
    )

    figures = pooled(reports)

    assert figures["amplitude_skill"] == pytest.approx(1 - (rows * loss).sum() / (rows * reference).sum())
    assert figures["rows"] == rows.sum()
    assert figures["folds"] == len(FOLDS) == 3
    for name in ("close_skill", "amplitude_skill", "amplitude_skill_last", "direction_accuracy", "direction_ece"):
        assert pooled(reports[:1])[name] == pytest.approx(reports[0].figures[name])


def test_each_fold_is_reported_when_it_is_measured():
    reported: list[str] = []

    measure_folds(CANDLES, FOLDS[:2], "persistence", SETTINGS, lambda report: reported.append(fold_line(report)))

    assert len(reported) == 2
    assert reported[0].startswith(
        f"{FOLDS[0].border:%Y-%m-%d} to {FOLDS[0].end:%Y-%m-%d}: close +0.000 % over persistence"
    )


def test_the_table_has_a_row_for_each_fold_and_one_for_all(reports):
    table = fold_table(reports)

    assert [row["validated"] for row in table] == [
        *(f"{fold.border:%Y-%m-%d} to {fold.end:%Y-%m-%d}" for fold in FOLDS),
        "all",
    ]
    assert table[0]["amplitude over EWMA %"] == f"{100 * reports[0].figures['amplitude_skill']:.2f}"
    lines = fold_markdown(reports).splitlines()
    assert len(lines) == len(table) + 2
    assert len({line.count("|") for line in lines}) == 1


def test_the_message_says_which_model_where_when_and_how_good(reports):
    message = walk_forward_message(reports, MARKET, "har")

    assert message.startswith(f"har on BTCUSDT-1h, 3 folds, validated {FOLDS[0].border:%Y-%m-%d} to ")
    assert f"amplitude {100 * pooled(reports)['amplitude_skill']:+.2f} % over EWMA" in message
    assert "close above persistence in 0 of them" in message


def test_the_plot_shows_every_fold_in_every_panel(reports):
    figure = skill_by_fold(reports, "har on BTCUSDT-1h")

    assert len(figure.axes) == 3
    for axes in figure.axes:
        points = axes.containers[0].lines[0]
        assert len(points.get_xdata()) == len(reports)
    assert [label.get_text() for label in figure.axes[-1].get_xticklabels()] == [
        f"{fold.border:%Y-%m-%d}" for fold in FOLDS
    ]
