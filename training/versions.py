"""From candles to a registered version, and from a registered version to a champion."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pandas as pd
from psycopg_pool import ConnectionPool

from candlecast.bundle import Bundle, load_rehearsal
from candlecast.database import only_one
from candlecast.errors import ForeignBundleError
from candlecast.journal import last_promoted, predecessor_of, promotion_lock, record_promotion
from candlecast.registry import CHALLENGER, CHAMPION, Registry
from candlecast.settings import Settings
from candlecast.versions import load_version
from training.bundling import draft_bundle, epoch_line, seal_draft
from training.dataset import Dataset, Indexes, build_dataset
from training.evaluation import forecast_rows, same_rows
from training.gate import Decision, decide
from training.metrics import Losses, row_losses
from training.run_report import log_report, training_run
from training.splits import split_by_time

_PROMOTION_WAIT_S = 60.0

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
    until = dataset.span(split.report).end
    tell(
        f"fitting {market.model_name} on {len(split.fit):,} windows up to {dataset.span(split.fit).end:%Y-%m-%d %H:%M}"
    )
    settings.scratch_dir.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(prefix="bundle-", dir=settings.scratch_dir) as scratch,
        training_run(registry, settings, candles, dataset, split) as run,
    ):

        def on_epoch(epoch: int, losses: dict[str, float]) -> None:
            run.metrics(losses, step=epoch)
            tell(epoch_line(epoch, losses))

        draft = draft_bundle(Path(scratch), run.run_id, candles, dataset, split, settings, on_epoch)
        metrics = log_report(run, draft.trained)
        seal_draft(Path(scratch), draft, metrics)
        run.bundle(Path(scratch))
        run_id = run.run_id
    number = registry.register(market.model_name, run_id, {"trained_until": until.isoformat()})
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
    """The gate's decision on a version, against its predecessor too if this build can answer with it.

    Rehearsals are compared: neither of the two has seen the challenger's report slice.
    """
    challenger = _rehearsal(number, settings, registry)
    span, horizon = challenger.manifest.spans["report"], settings.horizon
    if predecessor is not None:
        try:
            champion = _rehearsal(predecessor, settings, registry)
        except ForeignBundleError as exc:
            alone = _weigh(candles, number, None, settings, registry)
            return alone._replace(reasons=[*alone.reasons, f"not compared with version {predecessor}: {exc}"])
        ours, theirs = same_rows(candles, (challenger, champion), span)
        return decide(_losses(challenger, *ours), _losses(champion, *theirs), horizon)
    (ours, _) = same_rows(candles, (challenger, challenger), span)
    return decide(_losses(challenger, *ours), None, horizon)


def _rehearsal(number: str, settings: Settings, registry: Registry) -> Bundle:
    _, directory = load_version(registry, settings.market.model_name, number, settings.models_dir)
    return load_rehearsal(directory)


def _losses(bundle: Bundle, dataset: Dataset, ends: Indexes) -> Losses:
    return row_losses(forecast_rows(bundle, dataset, ends), dataset.actual[ends])
