"""Evidently snapshots of inputs, candles, forecasts and direction, which become pages."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from candlecast.candles.quality import MarkedCandle
from candlecast.candles.schema import CANDLE_COLUMNS
from monitoring.drift import DRIFTED_SHARE, Inputs

if TYPE_CHECKING:
    from evidently.core.report import Snapshot

    from monitoring.live_losses import SettledForecasts


def inputs_page(inputs: Inputs, now: datetime) -> Snapshot:
    """Report the drift of the inputs from the training, with the distances of `monitoring.drift.measure_drift`."""
    from evidently import DataDefinition, Report
    from evidently.presets import DataDriftPreset

    definition = DataDefinition(numerical_columns=list(inputs.reference.columns))
    preset = DataDriftPreset(
        method="wasserstein", per_column_threshold=inputs.limits, drift_share=DRIFTED_SHARE, include_tests=False
    )
    return _run(Report([preset]), inputs.current, inputs.reference, definition, now)


def candles_page(current: pd.DataFrame, before: pd.DataFrame, doubtful: list[MarkedCandle], now: datetime) -> Snapshot:
    """Report the quality of the newest candles beside earlier ones.

    Args:
        current: `CANDLE_COLUMNS` on the whole grid; a missing candle is a row of NaN.
        doubtful: Doubtful candles of both spans.
    """
    from evidently import DataDefinition, Report
    from evidently.presets import DataSummaryPreset

    marked = pd.DatetimeIndex([one.open_time for one in doubtful], tz="UTC")

    def with_flags(candles: pd.DataFrame) -> pd.DataFrame:
        return candles.assign(
            missing=candles["close"].isna().astype(int), doubtful=candles.index.isin(marked).astype(int)
        )

    definition = DataDefinition(numerical_columns=[*CANDLE_COLUMNS, "missing", "doubtful"])
    report = Report([DataSummaryPreset()], include_tests=False)
    return _run(report, with_flags(current), with_flags(before), definition, now)


def forecasts_page(settled: SettledForecasts, now: datetime) -> Snapshot:
    """Report the errors of close and amplitude; the reference is the baseline on the same candles."""
    from evidently import DataDefinition, Regression, Report
    from evidently.presets import RegressionPreset

    table = pd.DataFrame(settled._asdict())
    names = ("close", "amplitude")
    columns = [column for name in names for column in (name, f"actual_{name}")]
    baseline = table.assign(**{name: table[f"baseline_{name}"] for name in names})
    definition = DataDefinition(
        numerical_columns=columns,
        regression=[Regression(name=name, target=f"actual_{name}", prediction=name) for name in names],
    )
    report = Report([RegressionPreset(regression_name=name) for name in names])
    return _run(report, table[columns], baseline[columns], definition, now)


def direction_page(settled: SettledForecasts, now: datetime) -> Snapshot | None:
    """Report the quality of the direction beside the base rate's; None if all closes moved the same way."""
    from evidently import BinaryClassification, DataDefinition, Report
    from evidently.presets import ClassificationPreset

    moved = settled.moved
    up = (settled.actual_close > settled.reference_close)[moved].astype(int)
    if len(np.unique(up)) < 2:
        return None
    current, baseline = (
        pd.DataFrame({"up": up, "probability": probability[moved]})
        for probability in (settled.probability_up, settled.baseline_up)
    )
    definition = DataDefinition(
        categorical_columns=["up"],
        numerical_columns=["probability"],
        classification=[BinaryClassification(target="up", prediction_probas="probability", pos_label=1)],
    )
    return _run(Report([ClassificationPreset()]), current, baseline, definition, now)


def _run(report: Any, current: pd.DataFrame, reference: pd.DataFrame, definition: Any, now: datetime) -> Snapshot:
    from evidently import Dataset

    def dataset(table: pd.DataFrame) -> Any:
        return Dataset.from_pandas(table.reset_index(drop=True), data_definition=definition)

    with _without_warnings():
        return report.run(dataset(current), dataset(reference), timestamp=now.replace(tzinfo=None))


@contextmanager
def _without_warnings() -> Iterator[None]:
    """Suppress the warnings of pandas and scikit-learn, which Evidently causes by the hundred."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
