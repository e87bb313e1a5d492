"""From a history to a bundle: fit, export, calibrate, measure, seal."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd

from candlecast.bundle.bundle import Bundle
from candlecast.bundle.load import EVALUATION_MODEL, MODEL
from candlecast.bundle.manifest import FORMAT, EvaluationModel, Manifest
from candlecast.bundle.network import OnnxNetwork, open_network
from candlecast.candles.schema import split_at_gaps
from candlecast.features.features import FEATURE_HASH, FEATURE_NAMES, LOOKBACK
from candlecast.settings import Settings
from training.dataset import Dataset, Indexes
from training.evaluation import forecast_rows, scaled_windows
from training.export import library_versions, require_parity, seal_bundle
from training.families.interface import OnEpoch, calibrated
from training.families.network import export_onnx
from training.families.network_fit import FittedNetwork, fit_network, refit_network
from training.reports.run_report import TrainingResult
from training.splits import Split

_PARITY_WINDOWS = 10_000


@dataclass(frozen=True, slots=True)
class Draft:
    """A bundle that can answer but is not sealed yet.

    Attributes:
        bundle: As it will be served; its manifest lists neither files nor metrics.
        network: As it was fitted.
        trained: What there is to report.
    """

    bundle: Bundle
    network: FittedNetwork
    trained: TrainingResult


def epoch_line(epoch: int, losses: dict[str, float]) -> str:
    """What is told of an epoch."""
    if "refit_loss" in losses:
        return f"refit on all of it, epoch {epoch}: loss {losses['refit_loss']:.5f}"
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
    """Rehearse on the older part, forecast the report slice, then fit the network to be served on all of it.

    Both are exported into `directory`, and their parity with the fitted ones is proved.

    Args:
        candles: What `dataset` was made of.
        on_epoch: Told the losses of both, those of the second fit as `refit_NAME`.

    Raises:
        BundleError: The exported network does not answer like the fitted one.
    """
    fitted = fit_network(settings.model_family, dataset, split, settings, on_epoch)
    evaluation_model = EvaluationModel(
        scaler=fitted.scaler, calibration=calibrated(fitted, dataset, split.calibrate, split.fit)
    )
    evaluation_network = _exported(fitted, directory / EVALUATION_MODEL, dataset, split.calibrate)

    served = refit_network(
        settings.model_family,
        dataset,
        fitted.epochs,
        settings,
        lambda epoch, losses: on_epoch(epoch, {f"refit_{name}": value for name, value in losses.items()}),
    )
    # Of rows that the served network has seen only the rehearsal can say how far forecasts are off.
    unseen = np.concatenate([split.calibrate, split.report])
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
        scaler=served.scaler,
        calibration=calibrated(fitted, dataset, unseen, dataset.ends),
        rehearsal=evaluation_model,
        spans={name: dataset.span(ends) for name, ends in split._asdict().items()}
        | {"refit": dataset.span(dataset.ends)},
        metrics={},
        libraries=library_versions(),
        files={},
    )
    bundle = Bundle(manifest, _exported(served, directory / MODEL, dataset, dataset.ends))
    measured = Bundle(manifest.model_copy(update=dict(evaluation_model)), evaluation_network)
    trained = TrainingResult(
        settings=settings,
        candles=candles,
        dataset=dataset,
        split=split,
        history=fitted.history,
        forecasts=forecast_rows(measured, dataset, split.report),
        ohlcv_only=forecast_rows(measured, dataset, split.report, with_flow=False),
    )
    return Draft(bundle, served, trained)


def _exported(fitted: FittedNetwork, path: Path, dataset: Dataset, ends: Indexes) -> OnnxNetwork:
    """The network in ONNX Runtime, after it has answered like Keras on the newest of the windows `ends`."""
    export_onnx(fitted.model, path)
    network = open_network(path)
    require_parity(fitted.model, network, scaled_windows(fitted.scaler, dataset, ends[-_PARITY_WINDOWS:]))
    return network


def seal_draft(directory: Path, draft: Draft, metrics: dict[str, float]) -> Bundle:
    """Complete the bundle in `directory` with the figures of its report slice, and load it back with every check.

    To them are added `epochs`, how many the rehearsal took, and `val_loss`, its least loss on the stopping slice.
    """
    history = draft.bundle.manifest.history
    stretches = split_at_gaps(draft.trained.candles, draft.bundle.manifest.interval)
    sample = [part for part in stretches if len(part) >= history][-1]
    losses = draft.trained.history["val_loss"]
    fitting = {"epochs": float(len(losses)), "val_loss": min(losses)}
    return seal_bundle(directory, draft.bundle.with_metrics(metrics | fitting), draft.network.model, sample)
