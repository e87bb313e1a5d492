"""Bundles made from training data: fit, calibrate, export, measure, complete."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from candlecast.bundle.bundle import Bundle
from candlecast.bundle.familiarity import training_limits
from candlecast.bundle.load import EVALUATION_MODEL, MODEL
from candlecast.bundle.manifest import FORMAT, EvaluationModel, Manifest
from candlecast.bundle.network import OnnxNetwork, open_network
from candlecast.settings.settings import Settings
from training.dataset import Dataset, Indexes
from training.evaluation import forecast_rows, scaled_rows, scaled_windows
from training.export import PARITY_TOLERANCE, library_versions, require_parity, seal_bundle
from training.families.interface import OnEpoch, ServableModel, calibrated, servable_family
from training.reports.run_report import ReportInput
from training.splits import TrainingData

_PARITY_WINDOWS = 10_000


@dataclass(frozen=True, slots=True)
class Draft:
    """Bundle that can answer but lacks its list of files and its metrics."""

    bundle: Bundle
    report_input: ReportInput


def epoch_line(epoch: int, losses: dict[str, float], family: str) -> str:
    """Return the progress line of an epoch, or of a round of boosting."""
    step = "round" if family == "xgboost" else "epoch"
    if "refit_loss" in losses:
        return f"refit on all of it, {step} {epoch}: loss {losses['refit_loss']:.5f}"
    return f"{step} {epoch}: loss {losses['loss']:.5f}, on the stopping slice {losses['val_loss']:.5f}"


def draft_bundle(directory: Path, run_id: str, data: TrainingData, settings: Settings, on_epoch: OnEpoch) -> Draft:
    """Fit the evaluation model on the older slices and forecast the report slice; then fit the served model on all.

    Both models are exported into `directory`. The outputs of the graphs are compared with the models'.

    Args:
        on_epoch: Called with the losses of both fits; those of the second are named `refit_NAME`.

    Raises:
        BundleError: The outputs of an exported graph differ from the model's.
    """
    dataset, split, family = data.dataset, data.split, settings.training.model_family
    fitted = servable_family(family)(dataset, split, settings.training, on_epoch)
    evaluation_model = EvaluationModel(
        scaler=fitted.scaler, calibration=calibrated(fitted, dataset, split.calibrate, split.fit)
    )
    evaluation_network = _exported(family, fitted, directory / EVALUATION_MODEL, dataset, split.calibrate)

    served = fitted.refit(
        dataset,
        settings.training,
        lambda epoch, losses: on_epoch(epoch, {f"refit_{name}": value for name, value in losses.items()}),
    )
    # Errors on rows that a model was fitted on are too small, so the evaluation model calibrates the served one.
    unseen = np.concatenate([split.calibrate, split.report])
    manifest = Manifest(
        format=FORMAT,
        run_id=run_id,
        created_at=datetime.now(UTC),
        **dataset.market._asdict(),
        family=family,
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
        libraries=library_versions(family),
        files={},
        contributions=served.contributions(dataset),
        input_limits=training_limits(
            scaled_rows(served.scaler, dataset), dataset.ends, dataset.sequence_length, dataset.features
        ),
    )
    served.save(directory)
    bundle = Bundle(manifest, _exported(family, served, directory / MODEL, dataset, dataset.ends))
    measured = Bundle(manifest.model_copy(update=dict(evaluation_model)), evaluation_network)
    report_input = ReportInput(
        settings=settings,
        data=data,
        history=fitted.history,
        forecasts=forecast_rows(measured, dataset, split.report),
        ohlcv_only=forecast_rows(measured, dataset, split.report, with_flow=False),
    )
    return Draft(bundle, report_input)


def _exported(family: str, fitted: ServableModel, path: Path, dataset: Dataset, ends: Indexes) -> OnnxNetwork:
    """Export to ONNX and compare the answers on the newest of the windows `ends`."""
    fitted.export(path)
    network = open_network(path)
    windows = fitted.probes(scaled_windows(fitted.scaler, dataset, ends[-_PARITY_WINDOWS:]))
    require_parity(fitted.raw, network, windows, PARITY_TOLERANCE[family])
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
    return seal_bundle(directory, draft.bundle.with_metrics(metrics | fitting), data.candles.loc[:newest])
