"""Training and evaluation on a file of candles, without database, registry or server."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from uuid import uuid4

import pandas as pd

from candlecast.bundle.bundle import Bundle, first_unseen_target
from candlecast.bundle.forecast import FILE_COLUMNS, INTERVAL_TARGETS, TARGETS, Forecasts
from candlecast.bundle.manifest import Span, read_manifest
from candlecast.errors import NotEnoughCandles
from candlecast.settings.settings import Settings
from training.bundling import draft_bundle, epoch_line, seal_draft
from training.dataset import Dataset, Indexes, build_dataset
from training.evaluation import Evaluation, ends_within, evaluate, forecast_rows
from training.reports.run_report import make_report
from training.splits import training_data

REPORT = "report.html"


@dataclass(frozen=True, slots=True)
class OfflineVersion:
    """Version trained from a file.

    Attributes:
        name: Name that `candlecast evaluate` takes.
        report: Path of `report.html`, beside `bundle/`.
    """

    name: str
    report: Path
    metrics: dict[str, float]


@dataclass(frozen=True, slots=True)
class OfflineEvaluation:
    """Forecasts of a bundle for a span of a file, and their figures.

    Attributes:
        forecasts: Table with FILE_COLUMNS, one row per target candle.
        in_sample: Number of rows whose target, or a candle between, was in the version's training data.
        flow_known: Share of rows that used order flow.
    """

    evaluation: Evaluation
    forecasts: pd.DataFrame
    in_sample: int
    flow_known: float


def train_offline(candles: pd.DataFrame, settings: Settings, report: Callable[[str], None]) -> OfflineVersion:
    """Train on candles and keep the bundle below `settings.trained_dir`, where it appears when it is complete.

    Args:
        candles: `CANDLE_COLUMNS`, ascending, closed; may have gaps. All are used.

    Raises:
        NotEnoughCandles: The history is too short.
        BundleError: The outputs of an exported graph differ from the model's.
    """
    data = training_data(candles, settings)
    fit, until = data.dataset.span(data.split.fit), data.dataset.span(data.split.report).end
    report(data.dataset.with_remark(f"fitting on {fit.rows:,} windows, {fit.start:%Y-%m-%d} to {fit.end:%Y-%m-%d}"))
    run_id = uuid4().hex
    name = f"{until:%Y%m%dT%H%M}-{run_id[:6]}"
    kept = settings.trained_dir / settings.market.model_name
    for directory in (settings.scratch_dir, kept):
        directory.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="trained-", dir=settings.scratch_dir) as scratch:
        bundle = Path(scratch) / "whole" / "bundle"
        bundle.mkdir(parents=True)
        draft = draft_bundle(
            bundle,
            run_id,
            data,
            settings,
            lambda epoch, losses: report(epoch_line(epoch, losses, settings.training.model_family)),
        )
        page = make_report(draft.report_input, run_id)
        seal_draft(bundle, draft, page.figures)
        (bundle.parent / REPORT).write_text(page.html)
        bundle.parent.rename(kept / name)
    return OfflineVersion(name, kept / name / REPORT, page.figures)


def newest_offline(settings: Settings) -> str | None:
    """Return the name of the version that was trained last from a file, or None without any."""
    made = {
        directory.name: read_manifest(directory / "bundle").created_at
        for directory in (settings.trained_dir / settings.market.model_name).glob("*/")
    }
    return max(made, key=lambda name: made[name]) if made else None


def offline_bundle(settings: Settings, name: str) -> Path:
    """Return the directory of a version's bundle; it does not exist if there is no such version."""
    return settings.trained_dir / settings.market.model_name / name / "bundle"


def evaluate_offline(
    bundle: Bundle, candles: pd.DataFrame, start: datetime, end: datetime | None, *, with_flow: bool, seed: int
) -> OfflineEvaluation:
    """Forecast each candle that opens in [start, end) from the candles before it, and measure.

    Args:
        candles: `CANDLE_COLUMNS`, ascending; may have gaps. Candles before `start` are history.
        end: None for the end of `candles`.
        with_flow: Use order flow where it is known.

    Raises:
        NotEnoughCandles: No candle of the span has enough history, or there are too few to measure.
    """
    manifest = bundle.manifest
    dataset = build_dataset(candles, manifest.market, manifest.sequence_length, manifest.features)
    ends = ends_within(dataset, Span(start=start, end=end or candles.index[-1] + manifest.market.step, rows=0))
    if not len(ends):
        raise NotEnoughCandles(
            dataset.with_remark(
                f"no candle opens from {start:%Y-%m-%d %H:%M} on{f' and before {end:%Y-%m-%d %H:%M}' if end else ''} "
                f"with the {manifest.history} before it that the version needs; the file has "
                f"{candles.index[0]:%Y-%m-%d %H:%M} to {candles.index[-1]:%Y-%m-%d %H:%M}"
            )
        )
    forecasts = forecast_rows(bundle, dataset, ends, with_flow=with_flow)
    figures = evaluate(forecasts, dataset.actual[ends], dataset.amplitude[ends], horizon=manifest.horizon, seed=seed)
    table = forecast_table(forecasts, dataset, ends)
    known = float(dataset.matrix[ends, -1].mean()) if with_flow else 0.0
    unseen_from = first_unseen_target(manifest.trained_until, manifest.market)
    return OfflineEvaluation(figures, table, int((table.index < unseen_from).sum()), known)


def forecast_table(forecasts: Forecasts, dataset: Dataset, ends: Indexes) -> pd.DataFrame:
    """Return one row per forecast, indexed by the target's open_time, with FILE_COLUMNS."""
    opened = pd.to_datetime(dataset.target_ms[ends], unit="ms", utc=True)
    columns: dict[str, object] = {"issued_from": opened - dataset.market.horizon * dataset.market.step}
    columns |= dict(zip(TARGETS, forecasts.targets.T, strict=True))
    for column, name in enumerate(INTERVAL_TARGETS):
        columns |= {f"{name}_lower": forecasts.lower[:, column], f"{name}_upper": forecasts.upper[:, column]}
    columns["probability_up"] = forecasts.probability_up
    return pd.DataFrame(columns, index=pd.DatetimeIndex(opened, name="open_time"), columns=list(FILE_COLUMNS))
