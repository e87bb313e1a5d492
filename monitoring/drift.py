"""Whether the market still looks like what the model was trained on: Evidently over the model's inputs."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from candlecast.candles import Market
from candlecast.features import FEATURE_NAMES, FLOW_NAMES, build_features
from candlecast.seasons import SEASON_NAMES

WATCHED = tuple(name for name in FEATURE_NAMES if name not in {*SEASON_NAMES, "flow_known"})
"""Inputs that can drift; the seasons and the flag cannot."""

DISTANCE_THRESHOLD = 0.25
"""Wasserstein distance, in standard deviations of the reference, from which an input counts as drifted.

An effect size, not a p-value: on autocorrelated candles every p-value is significant before long.
"""

_REFERENCE_ROWS = 5000


class Drift(NamedTuple):
    """Drift of the watched inputs.

    Attributes:
        share: Share of the inputs that drifted.
        distances: Distance of each input.
        report: The HTML report.
    """

    share: float
    distances: dict[str, float]
    report: Path


def input_rows(candles: pd.DataFrame) -> pd.DataFrame:
    """The watched inputs of unbroken candles; order flow only where it is known."""
    matrix = build_features(candles).matrix
    rows = pd.DataFrame(matrix, columns=list(FEATURE_NAMES))
    unknown = [] if rows["flow_known"].all() else list(FLOW_NAMES)
    return rows[[name for name in WATCHED if name not in unknown]]


def measure_drift(
    reference: pd.DataFrame, current: pd.DataFrame, market: Market, now: datetime, directory: Path, keep: int
) -> Drift:
    """Compare inputs with those the model was fitted on, and write the report.

    Args:
        reference: `input_rows` of the training span; thinned evenly to some thousand.
        current: `input_rows` of the recent past.
        now: The exchange's clock, the report's name.
        directory: Where reports are kept.
        keep: How many of them; the oldest go.
    """
    from evidently import DataDefinition, Dataset, Report
    from evidently.presets import DataDriftPreset

    shared = [name for name in reference.columns if name in current.columns]
    thinned = reference.iloc[np.linspace(0, len(reference) - 1, min(len(reference), _REFERENCE_ROWS)).astype(int)]
    definition = DataDefinition(numerical_columns=shared)
    snapshot = Report([DataDriftPreset(method="wasserstein", threshold=DISTANCE_THRESHOLD)]).run(
        Dataset.from_pandas(current[shared], data_definition=definition),
        Dataset.from_pandas(thinned[shared], data_definition=definition),
    )
    distances = {
        metric["config"]["column"]: float(metric["value"])
        for metric in snapshot.dict()["metrics"]
        if "column" in metric["config"]
    }
    directory.mkdir(parents=True, exist_ok=True)
    report = directory / f"{market.model_name}-{now:%Y%m%dT%H%M%SZ}.html"
    draft = report.with_suffix(".partial")
    snapshot.save_html(str(draft))
    draft.replace(report)
    # The digit begins a time: another horizon's reports (BTCUSDT-5m-h3-...) are not ours to count.
    for old in sorted(directory.glob(f"{market.model_name}-[0-9]*.html"))[:-keep]:
        old.unlink(missing_ok=True)
    drifted = sum(distance >= DISTANCE_THRESHOLD for distance in distances.values())
    return Drift(drifted / len(distances), distances, report)
