"""From a history to a bundle: fit, export, calibrate, measure, seal."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from candlecast.bundle import FORMAT, Bundle, Manifest, open_network
from candlecast.candles import unbroken
from candlecast.features import FEATURE_HASH, FEATURE_NAMES, LOOKBACK
from candlecast.settings import Settings
from training.dataset import Dataset
from training.evaluation import forecast_rows, scaled_windows
from training.export import library_versions, require_parity, seal_bundle
from training.models import OnEpoch, calibrated
from training.network import FittedNetwork, export_onnx, fit_network
from training.run_report import Trained
from training.splits import Split

_PARITY_WINDOWS = 10_000


class Draft(NamedTuple):
    """A bundle that can answer but is not sealed yet.

    Attributes:
        bundle: Its manifest lists neither files nor metrics.
        network: As it was fitted.
        trained: What there is to report.
    """

    bundle: Bundle
    network: FittedNetwork
    trained: Trained


def epoch_line(epoch: int, losses: dict[str, float]) -> str:
    """What is told of an epoch."""
    return f"epoch {epoch}: loss {losses['loss']:.5f}, on the stopping slice {losses['val_loss']:.5f}"


def draft_bundle(
    directory: Path,
    run_id: str,
    candles: pd.DataFrame,
    dataset: Dataset,
    split: Split,
    settings: Settings,
    on_epoch: OnEpoch,
) -> Draft:
    """Fit a network, export it into `directory`, prove its parity, calibrate it, forecast the report slice.

    Args:
        candles: What `dataset` was made of.

    Raises:
        BundleError: The exported network does not answer like the fitted one.
    """
    fitted = fit_network(settings.model_family, dataset, split, settings, on_epoch)
    export_onnx(fitted.model, directory / "model.onnx")
    network = open_network(directory / "model.onnx")
    require_parity(fitted.model, network, scaled_windows(fitted.scaler, dataset, split.calibrate[-_PARITY_WINDOWS:]))
    market = dataset.market
    manifest = Manifest(
        format=FORMAT,
        run_id=run_id,
        created_at=datetime.now(UTC),
        symbol=market.symbol,
        interval=market.interval,
        horizon=market.horizon,
        family=settings.model_family,
        sequence_length=dataset.sequence_length,
        lookback=LOOKBACK,
        feature_names=FEATURE_NAMES,
        feature_hash=FEATURE_HASH,
        scaler=fitted.scaler,
        calibration=calibrated(fitted, dataset, split),
        spans={name: dataset.span(ends) for name, ends in split._asdict().items()},
        metrics={},
        libraries=library_versions(),
        files={},
    )
    bundle = Bundle(manifest, network)
    trained = Trained(
        settings=settings,
        candles=candles,
        dataset=dataset,
        split=split,
        history=fitted.history,
        forecasts=forecast_rows(bundle, dataset, split.report),
        ohlcv_only=forecast_rows(bundle, dataset, split.report, with_flow=False),
    )
    return Draft(bundle, fitted, trained)


def seal_draft(directory: Path, draft: Draft, metrics: dict[str, float]) -> Bundle:
    """Complete the bundle in `directory` with the figures of its report slice, and load it back with every check."""
    history = draft.bundle.manifest.history
    stretches = unbroken(draft.trained.candles, draft.bundle.manifest.interval)
    sample = [part for part in stretches if len(part) >= history][-1]
    return seal_bundle(directory, draft.bundle.with_metrics(metrics), draft.network.model, sample)
