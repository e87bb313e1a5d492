"""Bundles made from training data: fit, calibrate, export, measure, complete."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from candlecast.bundle.bundle import Bundle
from candlecast.bundle.load import EVALUATION_MODEL, MODEL
from candlecast.bundle.manifest import FORMAT, EvaluationModel, Manifest
from candlecast.bundle.network import OnnxNetwork, open_network
from candlecast.settings.settings import Settings
from training.dataset import Dataset, Indexes
from training.evaluation import forecast_rows, scaled_windows
from training.export import library_versions, require_parity, seal_bundle
from training.families.interface import OnEpoch, calibrated
from training.families.network import export_onnx
from training.families.network_fit import FittedNetwork, fit_network, refit_network
from training.reports.run_report import ReportInput
from training.splits import TrainingData

_PARITY_WINDOWS = 10_000


@dataclass(frozen=True, slots=True)
class Draft:
    """Bundle that can answer but lacks its list of files and its metrics."""

    bundle: Bundle
    network: FittedNetwork
    report_input: ReportInput


def epoch_line(epoch: int, losses: dict[str, float]) -> str:
    """Return the progress line of an epoch."""
    if "refit_loss" in losses:
        return f"refit on all of it, epoch {epoch}: loss {losses['refit_loss']:.5f}"
    return f"epoch {epoch}: loss {losses['loss']:.5f}, on the stopping slice {losses['val_loss']:.5f}"


def draft_bundle(directory: Path, run_id: str, data: TrainingData, settings: Settings, on_epoch: OnEpoch) -> Draft:
    """Fit the evaluation model on the older slices and forecast the report slice; then fit the served network on all.

    Both networks are exported into `directory`. Their outputs are compared with Keras's.

    Args:
        on_epoch: Called with the losses of both fits; those of the second are named `refit_NAME`.

    Raises:
        BundleError: The outputs of an exported network differ from Keras's.
    """
    dataset, split = data.dataset, data.split
    fitted = fit_network(settings.training.model_family, dataset, split, settings.training, on_epoch)
    evaluation_model = EvaluationModel(
        scaler=fitted.scaler, calibration=calibrated(fitted, dataset, split.calibrate, split.fit)
    )
    evaluation_network = _exported(fitted, directory / EVALUATION_MODEL, dataset, split.calibrate)

    served = refit_network(
        settings.training.model_family,
        dataset,
        fitted.epochs,
        settings.training,
        lambda epoch, losses: on_epoch(epoch, {f"refit_{name}": value for name, value in losses.items()}),
    )
    # Errors on rows that a network was fitted on are too small, so the evaluation model calibrates the served one.
    unseen = np.concatenate([split.calibrate, split.report])
    manifest = Manifest(
        format=FORMAT,
        run_id=run_id,
        created_at=datetime.now(UTC),
        **dataset.market._asdict(),
        family=settings.training.model_family,
        sequence_length=dataset.sequence_length,
        feature_set=dataset.features.name,
        lookback=dataset.features.lookback,
        feature_names=dataset.features.names,
        feature_hash=dataset.features.hash,
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
    report_input = ReportInput(
        settings=settings,
        data=data,
        history=fitted.history,
        forecasts=forecast_rows(measured, dataset, split.report),
        ohlcv_only=forecast_rows(measured, dataset, split.report, with_flow=False),
    )
    return Draft(bundle, served, report_input)


def _exported(fitted: FittedNetwork, path: Path, dataset: Dataset, ends: Indexes) -> OnnxNetwork:
    """Export to ONNX and compare with Keras on the newest of the windows `ends`."""
    export_onnx(fitted.model, path)
    network = open_network(path)
    require_parity(fitted.model, network, scaled_windows(fitted.scaler, dataset, ends[-_PARITY_WINDOWS:]))
    return network


def seal_draft(directory: Path, draft: Draft, metrics: dict[str, float]) -> Bundle:
    """Complete the bundle in `directory`, and load it back with every check.

    Args:
        metrics: Figures of the report slice. `epochs` of the evaluation model and `val_loss`, its lowest loss on the
            stopping slice, are added.
    """
    data = draft.report_input.data
    newest = data.dataset.span(data.dataset.ends[-1:]).start - data.dataset.market.horizon * data.dataset.market.step
    losses = draft.report_input.history["val_loss"]
    fitting = {"epochs": float(len(losses)), "val_loss": min(losses)}
    return seal_bundle(
        directory, draft.bundle.with_metrics(metrics | fitting), draft.network.model, data.candles.loc[:newest]
    )
