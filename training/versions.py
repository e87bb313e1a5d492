"""From candles to a registered version, and from a registered version to a champion."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import pandas as pd
from psycopg_pool import ConnectionPool

from candlecast.bundle import FORMAT, Bundle, Manifest, open_network
from candlecast.candles import open_times_ms, unbroken
from candlecast.database import only_one
from candlecast.errors import ForeignBundleError
from candlecast.features import FEATURE_HASH, FEATURE_NAMES, LOOKBACK
from candlecast.journal import last_promoted, predecessor_of, promotion_lock, record_promotion
from candlecast.registry import CHALLENGER, CHAMPION, Registry, RunLog, experiment_name
from candlecast.settings import Settings
from candlecast.versions import load_version
from training import plots
from training.dataset import Dataset, Indexes, build_dataset
from training.evaluation import forecast_rows, same_rows, scaled_windows
from training.export import library_versions, require_parity, seal_bundle
from training.gate import Decision, decide
from training.metrics import Losses, measure, row_losses
from training.models import calibrated
from training.network import FittedNetwork, export_onnx, fit_network
from training.splits import Split, split_by_time

_LOGGED_SETTINGS = (
    "source",
    "symbol",
    "interval",
    "horizon",
    "sequence_length",
    "model_family",
    "epochs",
    "batch_size",
    "learning_rate",
    "patience",
    "recency_half_life_days",
    "seed",
)
_PROMOTION_WAIT_S = 60.0
_OHLCV_ONLY = ("close_skill", "amplitude_skill", "direction_accuracy", "direction_brier")

Tell = Callable[[str], None]


class TrainedVersion(NamedTuple):
    """A version that was just registered as challenger.

    Attributes:
        number: Its number in the registry.
        run_id: The MLflow run it came from.
        metrics: Figures of the report slice, as `training.metrics.measure` names them.
    """

    number: str
    run_id: str
    metrics: dict[str, float]


def train_version(candles: pd.DataFrame, settings: Settings, registry: Registry, tell: Tell) -> TrainedVersion:
    """Fit on a history, measure on its last fifth, log everything, register as challenger.

    Args:
        candles: `CANDLE_COLUMNS`, ascending, closed; may have gaps.
        tell: Told in a line what is going on.

    Raises:
        NotEnoughCandles: The history is too short.
        BundleError: The exported network does not answer like the trained one.
        RegistryUnavailable: MLflow does not answer.
    """
    market = settings.market
    dataset = build_dataset(candles, market, settings.sequence_length)
    split = split_by_time(dataset)
    spans = {name: dataset.span(ends) for name, ends in split._asdict().items()}
    parameters: dict[str, object] = {name: getattr(settings, name) for name in _LOGGED_SETTINGS}
    parameters |= {"candles": len(candles), "candles_sha256": candles_digest(candles)}
    for name, span in spans.items():
        parameters |= {f"{name}_start": span.start, f"{name}_end": span.end, f"{name}_rows": span.rows}
    tell(f"fitting {market.model_name} on {len(split.fit):,} windows up to {spans['fit'].end:%Y-%m-%d %H:%M}")
    run_name = f"{market.model_name} until {spans['report'].end:%Y-%m-%d %H:%M}"
    settings.scratch_dir.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(prefix="bundle-", dir=settings.scratch_dir) as scratch,
        registry.run(experiment_name(market), run_name, parameters) as run,
    ):

        def on_epoch(epoch: int, losses: dict[str, float]) -> None:
            run.metrics(losses, step=epoch)
            tell(f"epoch {epoch}: loss {losses['loss']:.5f}, on the stopping slice {losses['val_loss']:.5f}")

        fitted = fit_network(settings.model_family, dataset, split, settings, on_epoch)
        bundle = _bundle(Path(scratch), settings.model_family, fitted, dataset, split, run.run_id)
        metrics = _report(bundle, dataset, split, run)
        run.figure(plots.learning_curves(fitted.history), "learning_curves.png")
        seal_bundle(Path(scratch), bundle.with_metrics(metrics), fitted.model, _newest_sound(candles, bundle))
        run.bundle(Path(scratch))
        run_id = run.run_id
    number = registry.register(market.model_name, run_id, {"trained_until": spans["report"].end.isoformat()})
    registry.set_alias(market.model_name, CHALLENGER, number)
    tell(f"registered version {number}: close skill {100 * metrics['close_skill']:+.2f} % over persistence")
    return TrainedVersion(number, run_id, metrics)


def pass_gate(
    candles: pd.DataFrame, number: str, settings: Settings, registry: Registry, pool: ConnectionPool
) -> Decision:
    """Let the gate decide on a registered version; move the alias and keep the decision, whichever it is.

    Args:
        candles: The history the version was trained on.

    Raises:
        BundleError: The version's bundle is damaged.
        RegistryUnavailable: MLflow does not answer.
    """
    name = settings.market.model_name
    with only_one(pool, promotion_lock(name), wait_s=_PROMOTION_WAIT_S):
        aliases = registry.aliases(name)
        predecessor = aliases.get(CHAMPION)
        if predecessor == number:  # a former try died after it had moved the alias
            predecessor = predecessor_of(pool, name, number) or last_promoted(pool, name, CHAMPION, other_than=number)
        decision = _weigh(candles, number, predecessor, settings, registry)
        registry.tag(name, number, {"gate": "promoted" if decision.promoted else "rejected"})
        registry.tag(name, number, {"gate_reasons": "; ".join(decision.reasons)})
        if decision.promoted:
            registry.set_alias(name, CHAMPION, number)
            if aliases.get(CHALLENGER) == number:
                registry.drop_alias(name, CHALLENGER)
        record_promotion(
            pool,
            name,
            number,
            predecessor,
            CHAMPION,
            promoted=decision.promoted,
            reasons=decision.reasons,
            numbers=decision.numbers,
            decided_by="gate",
        )
    return decision


def _weigh(
    candles: pd.DataFrame, number: str, predecessor: str | None, settings: Settings, registry: Registry
) -> Decision:
    """The gate's decision on a version, against its predecessor too if this build can answer with it."""
    name, cache = settings.market.model_name, settings.models_dir
    challenger, _ = load_version(registry, name, number, cache)
    span = challenger.manifest.spans["report"]
    if predecessor is not None:
        try:
            champion, _ = load_version(registry, name, predecessor, cache)
        except ForeignBundleError as exc:
            alone = _weigh(candles, number, None, settings, registry)
            return alone._replace(reasons=[*alone.reasons, f"not compared with version {predecessor}: {exc}"])
        ours, theirs = same_rows(candles, (challenger, champion), span)
        return decide(_losses(challenger, *ours), _losses(champion, *theirs))
    (ours, _) = same_rows(candles, (challenger, challenger), span)
    return decide(_losses(challenger, *ours), None)


def candles_digest(candles: pd.DataFrame) -> str:
    """SHA-256 over open times and values, so that two runs can be known to have seen the same candles."""
    return hashlib.sha256(open_times_ms(candles).tobytes() + candles.to_numpy(dtype="float64").tobytes()).hexdigest()


def _bundle(
    directory: Path, family_name: str, fitted: FittedNetwork, dataset: Dataset, split: Split, run_id: str
) -> Bundle:
    """Export the network into `directory`, prove its parity, calibrate it."""
    export_onnx(fitted.model, directory / "model.onnx")
    network = open_network(directory / "model.onnx")
    windows = scaled_windows(fitted.scaler, dataset, split.calibrate)
    require_parity(fitted.model, network, windows)
    market = dataset.market
    manifest = Manifest(
        format=FORMAT,
        run_id=run_id,
        created_at=datetime.now(UTC),
        symbol=market.symbol,
        interval=market.interval,
        horizon=market.horizon,
        family=family_name,
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
    return Bundle(manifest, network)


def _report(bundle: Bundle, dataset: Dataset, split: Split, run: RunLog) -> dict[str, float]:
    """Measure on the report slice, with and without order flow, and log figures and plots."""
    actual = dataset.actual[split.report]
    forecasts = forecast_rows(bundle, dataset, split.report)
    blind = measure(forecast_rows(bundle, dataset, split.report, with_flow=False), actual)
    metrics = measure(forecasts, actual) | {f"ohlcv_only_{name}": blind[name] for name in _OHLCV_ONLY}
    run.metrics({f"report_{name}": value for name, value in metrics.items()})
    run.figure(plots.close_forecasts(forecasts, actual), "close.png")
    run.figure(plots.reliability(forecasts, actual), "reliability.png")
    run.figure(plots.residuals(forecasts, actual), "residuals.png")
    return metrics


def _losses(bundle: Bundle, dataset: Dataset, ends: Indexes) -> Losses:
    return row_losses(forecast_rows(bundle, dataset, ends), dataset.actual[ends])


def _newest_sound(candles: pd.DataFrame, bundle: Bundle) -> pd.DataFrame:
    """The newest unbroken stretch that is long enough for a forecast."""
    stretches = [part for part in unbroken(candles, bundle.manifest.interval) if len(part) >= bundle.manifest.history]
    return stretches[-1]
