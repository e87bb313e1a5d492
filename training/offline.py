"""Versions trained and judged on a file of candles: no database, no registry, no server."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from uuid import uuid4

import pandas as pd

from candlecast.bundle.bundle import Bundle
from candlecast.bundle.forecast import INTERVAL_TARGETS, TARGETS, Forecasts
from candlecast.bundle.manifest import Span, read_manifest
from candlecast.errors import NotEnoughCandles
from candlecast.features.features import FEATURE_NAMES
from candlecast.settings import Settings
from training.bundling import draft_bundle, epoch_line, seal_draft
from training.dataset import Dataset, Indexes, build_dataset
from training.evaluation import Evaluation, ends_within, evaluate, forecast_rows
from training.reports.run_report import report_on
from training.splits import split_by_time

REPORT = "report.html"


@dataclass(frozen=True, slots=True)
class OfflineVersion:
    """A version trained from a file.

    Attributes:
        name: By which `evaluate` finds it.
        report: A page about it, `report.html`, beside its `bundle/`.
        metrics: Figures of its report slice, as MLflow would have them.
    """

    name: str
    report: Path
    metrics: dict[str, float]


@dataclass(frozen=True, slots=True)
class OfflineEvaluation:
    """What a bundle forecast for a stretch of a file, and what that was worth.

    Attributes:
        evaluation: Figures with intervals, and tests.
        forecasts: One row for each target candle, as `forecast_table` makes them.
        in_sample: Rows whose target the version was fitted, calibrated or reported on.
        flow_known: Share of the rows for which order flow was used.
    """

    evaluation: Evaluation
    forecasts: pd.DataFrame
    in_sample: int
    flow_known: float


def train_offline(candles: pd.DataFrame, settings: Settings, tell: Callable[[str], None]) -> OfflineVersion:
    """Fit on a history and keep the bundle below `settings.trained_dir`; it appears there when it is whole.

    Args:
        candles: `CANDLE_COLUMNS`, ascending, closed; may have gaps. All of them are used.

    Raises:
        NotEnoughCandles: The history is too short.
        BundleError: The exported network does not answer like the fitted one.
    """
    dataset = build_dataset(candles, settings.market, settings.sequence_length)
    split = split_by_time(dataset)
    fit, until = dataset.span(split.fit), dataset.span(split.report).end
    tell(f"fitting on {len(split.fit):,} windows, {fit.start:%Y-%m-%d} to {fit.end:%Y-%m-%d}")
    run_id = uuid4().hex
    name = f"{until:%Y%m%dT%H%M}-{run_id[:6]}"
    kept = settings.trained_dir / settings.market.model_name
    for directory in (settings.scratch_dir, kept):
        directory.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="trained-", dir=settings.scratch_dir) as scratch:
        bundle = Path(scratch) / "whole" / "bundle"
        bundle.mkdir(parents=True)
        draft = draft_bundle(
            bundle, run_id, candles, dataset, split, settings, lambda epoch, losses: tell(epoch_line(epoch, losses))
        )
        report = report_on(draft.trained, run_id)
        seal_draft(bundle, draft, report.figures)
        (bundle.parent / REPORT).write_text(report.html)
        bundle.parent.rename(kept / name)
    return OfflineVersion(name, kept / name / REPORT, report.figures)


def newest_offline(settings: Settings) -> str | None:
    """Name of the version that was trained from a file last; None if there is none."""
    made = {
        directory.name: read_manifest(directory / "bundle").created_at
        for directory in (settings.trained_dir / settings.market.model_name).glob("*/")
    }
    return max(made, key=lambda name: made[name]) if made else None


def offline_bundle(settings: Settings, name: str) -> Path:
    """Where the bundle of a version trained from a file is; nothing is there if there is no such version."""
    return settings.trained_dir / settings.market.model_name / name / "bundle"


def evaluate_offline(
    bundle: Bundle, candles: pd.DataFrame, start: datetime, end: datetime | None, *, with_flow: bool, seed: int
) -> OfflineEvaluation:
    """Forecast every candle of `candles` that opens in [start, end), from the candles before it, and measure.

    Args:
        candles: `CANDLE_COLUMNS`, ascending; may have gaps. Those before `start` are history.
        end: None for the end of `candles`.
        with_flow: Use order flow where it is known.

    Raises:
        NotEnoughCandles: No candle of the span has enough others before it, or there are too few to measure.
    """
    manifest = bundle.manifest
    dataset = build_dataset(candles, manifest.market, manifest.sequence_length)
    ends = ends_within(dataset, Span(start=start, end=end or candles.index[-1] + manifest.market.step, rows=0))
    if not len(ends):
        raise NotEnoughCandles(
            f"no candle opens from {start:%Y-%m-%d %H:%M} on{f' and before {end:%Y-%m-%d %H:%M}' if end else ''} with "
            f"the {manifest.history} before it that the version needs; the file has {candles.index[0]:%Y-%m-%d %H:%M} "
            f"to {candles.index[-1]:%Y-%m-%d %H:%M}"
        )
    forecasts = forecast_rows(bundle, dataset, ends, with_flow=with_flow)
    figures = evaluate(forecasts, dataset.actual[ends], dataset.amplitude[ends], horizon=manifest.horizon, seed=seed)
    table = forecast_table(forecasts, dataset, ends)
    known = float(dataset.matrix[ends, FEATURE_NAMES.index("flow_known")].mean()) if with_flow else 0.0
    return OfflineEvaluation(figures, table, int((table.index < manifest.trained_until).sum()), known)


def forecast_table(forecasts: Forecasts, dataset: Dataset, ends: Indexes) -> pd.DataFrame:
    """One row for each forecast, indexed by the target's open_time.

    Columns: `issued_from` (the last candle used), TARGETS, `<target>_lower` and `<target>_upper` of
    INTERVAL_TARGETS, `probability_up`.
    """
    opened = pd.to_datetime(dataset.target_ms[ends], unit="ms", utc=True)
    columns: dict[str, object] = {"issued_from": opened - dataset.market.horizon * dataset.market.step}
    columns |= dict(zip(TARGETS, forecasts.targets.T, strict=True))
    for column, name in enumerate(INTERVAL_TARGETS):
        columns |= {f"{name}_lower": forecasts.lower[:, column], f"{name}_upper": forecasts.upper[:, column]}
    columns["probability_up"] = forecasts.probability_up
    return pd.DataFrame(columns, index=pd.DatetimeIndex(opened, name="open_time"))
