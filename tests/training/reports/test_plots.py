"""Tests of plots of a training, including unusual trainings."""

from __future__ import annotations

import io

import numpy as np
import pytest

from tests.support.made_up import made_up_rows
from training.reports import plots

HISTORY = {
    "loss": [0.9, 0.7, 0.6],
    "val_loss": [0.8, 0.75, 0.78],
    "close_loss": [0.5, 0.4, 0.3],
    "val_close_loss": [0.5, 0.5, 0.6],
    "learning_rate": [1e-3, 9e-4, 8e-4],
}


def of_report(rows):
    return {
        "reliability": plots.reliability_diagram(rows),
        "errors": plots.error_histograms(rows),
        "skill": plots.skill_by_hour_of_day(rows),
        "coverage": plots.coverage(rows),
        "close": plots.forecasts_and_actual(rows, "close"),
        "amplitude": plots.forecasts_and_actual(rows, "amplitude"),
    }


def drawn(figure):
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=50)
    return picture.getvalue()


def test_every_picture_of_a_report_says_what_and_in_which_unit():
    for name, figure in of_report(made_up_rows()).items():
        for axes in figure.axes:
            assert axes.get_title(loc="left"), name
        assert figure.axes[-1].get_xlabel(), name
        assert figure.axes[0].get_ylabel(), name
        assert figure.axes[0].get_legend() is not None, name
        assert drawn(figure)


def test_the_learning_curves_mark_the_epoch_whose_weights_were_kept():
    (axes,) = plots.learning_curves(HISTORY).axes

    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert labels == ["fit slice", "stopping slice", "kept: epoch 2"]


def test_every_curve_of_a_fit_has_a_panel_whatever_it_is_called():
    figure = plots.learning_curves_by_target(HISTORY | {"something_new": [1.0, 2.0, 3.0]})

    assert [axes.get_title(loc="left") for axes in figure.axes] == ["close", "learning rate", "something new"]
    assert drawn(figure)


@pytest.mark.parametrize(
    "history",
    [{"loss": [0.5]}, {"loss": [0.5], "val_loss": [0.4]}, {"loss": [np.nan, np.nan], "val_loss": [np.nan, np.nan]}],
)
def test_a_fit_of_one_epoch_or_with_nan_losses_can_be_plotted(history):
    assert drawn(plots.learning_curves(history))
    assert drawn(plots.learning_curves_by_target(history))


def test_a_model_that_equals_persistence_can_be_plotted():
    rows = made_up_rows(close_error=1.0)
    certain = rows._replace(forecasts=rows.forecasts._replace(probability_up=np.full(len(rows.actual), 0.5)))

    for name, figure in of_report(certain).items():
        assert drawn(figure), name


def test_the_picture_of_the_close_ends_with_the_last_forecast():
    rows = made_up_rows()

    (axes,) = plots.forecasts_and_actual(rows, "close").axes

    forecast = next(line for line in axes.get_lines() if line.get_label() == "forecast")
    assert forecast.get_ydata()[-1] == rows.forecasts.targets[-1, 3]
    assert np.datetime64(forecast.get_xdata()[-1], "ms") == np.datetime64(int(rows.target_ms[-1]), "ms")
