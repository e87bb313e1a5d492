"""Training of a registered version, and its way through the gate to challenger or champion."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Literal

import pandas as pd
from psycopg_pool import ConnectionPool

from candlecast.bundle.bundle import Bundle
from candlecast.bundle.load import load_evaluation_model
from candlecast.errors import BundleError, ForeignBundleError, ForeignMarketError, ModelNotFound
from candlecast.job_runs import last_check
from candlecast.market import epoch_ms
from candlecast.registry.decisions import Decision, has_failed, is_decided, newest_decision, record_decision
from candlecast.registry.identity import ModelVersion, registered
from candlecast.registry.lifetime import TRAINED_UNTIL, lifetime_of
from candlecast.registry.promotion import (
    CurrentVersions,
    alias_lock,
    begin_trial,
    current_versions,
    make_champion,
    record_alias_moves,
)
from candlecast.registry.registry import CHALLENGER, CHAMPION, Registry
from candlecast.registry.versions import load_version
from candlecast.settings.settings import Settings
from training.bundling import draft_bundle, epoch_line, seal_draft
from training.dataset import Dataset, Indexes
from training.evaluation import forecast_rows, same_rows
from training.gate import GateResult, decide
from training.metrics import Losses, row_losses
from training.reports.run_report import log_report, training_run
from training.splits import FEWEST_REPORTED, training_data

Compared = Literal["here", "in a trial only", "nowhere"]
"""Where a new version can be compared with the champion."""


@dataclass(frozen=True, slots=True)
class TrainedVersion:
    """Version that was just registered.

    Attributes:
        metrics: Figures of the report slice, named as by `training.metrics.measure`.
        remark: `Dataset.remark` of its history.
    """

    number: str
    run_id: str
    metrics: dict[str, float]
    remark: str | None = None


def train_version(
    candles: pd.DataFrame, settings: Settings, registry: Registry, report: Callable[[str], None]
) -> TrainedVersion:
    """Train on candles, measure on the newest fifth, log to MLflow, and register.

    Args:
        candles: `CANDLE_COLUMNS`, ascending, closed; may have gaps.

    Raises:
        NotEnoughCandles: The history is too short.
        BundleError: The outputs of an exported graph differ from the model's.
        RegistryUnavailable: MLflow does not answer.
    """
    market = settings.market
    data = training_data(candles, settings)
    fit, until = data.dataset.span(data.split.fit), data.dataset.span(data.split.report).end
    report(f"fitting {market.model_name} on {fit.rows:,} windows up to {fit.end:%Y-%m-%d %H:%M}")
    settings.scratch_dir.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(prefix="bundle-", dir=settings.scratch_dir) as scratch,
        training_run(registry, settings, data) as run,
    ):

        def on_epoch(epoch: int, losses: dict[str, float]) -> None:
            run.metrics(losses, step=epoch)
            report(epoch_line(epoch, losses, settings.training.model_family))

        draft = draft_bundle(Path(scratch), run.run_id, data, settings, on_epoch)
        metrics = log_report(run, draft.report_input)
        seal_draft(Path(scratch), draft, metrics)
        run.bundle(Path(scratch))
        run_id = run.run_id
    number = registry.register(market.model_name, run_id, {TRAINED_UNTIL: until.isoformat()})
    report(f"registered version {number}: close skill {100 * metrics['close_skill']:+.2f} % over persistence")
    return TrainedVersion(number, run_id, metrics, data.dataset.remark)


def pass_gate(
    candles: pd.DataFrame, number: str, settings: Settings, registry: Registry, pool: ConnectionPool, now: datetime
) -> Decision:
    """Run the gate on a registered version, move the alias, and record the decision.

    A version that passes becomes challenger and starts a trial on live candles. It becomes champion at once if there
    is no champion, if the champion failed, is of another build or expires before a trial could end. The same holds if
    PROMOTE_AT_ONCE is set and the gate compared it with the champion. It replaces an older challenger unless the last
    check found that one ahead of the champion. A champion whose alias was deleted counts as the champion as long as
    its version is registered.

    Args:
        now: Time by the exchange's clock.

    Raises:
        BundleError: The version's bundle is damaged.
        RegistryUnavailable: MLflow does not answer.
    """

    def run_gate(rival: str | None) -> tuple[GateResult, Compared]:
        return _run_gate(candles, number, rival, settings, registry)

    return apply_gate(run_gate, number, settings, registry, pool, now)


def apply_gate(
    run_gate: Callable[[str | None], tuple[GateResult, Compared]],
    number: str,
    settings: Settings,
    registry: Registry,
    pool: ConnectionPool,
    now: datetime,
) -> Decision:
    """Run a gate, move the alias by its result, and record the decision; see `pass_gate`.

    The lock of the aliases is free while the gate runs, because that takes minutes with a long history. If the rival
    changed meanwhile, the gate runs again.

    Args:
        run_gate: Returns the gate's result beside a rival, if there is one, and how the two were compared.
    """
    name = settings.market.model_name
    version = registry.version(name, number).identity
    known, current = newest_decision(pool, name, version), current_versions(registry, pool, name)
    while known is None:
        rival, no_rival = _rival(registry, settings, pool, current.champion, version, now)
        gate_result, compared = run_gate(rival and rival.number)
        with alias_lock(pool, name):
            current = record_alias_moves(registry, pool, name, now)
            known = newest_decision(pool, name, version)
            if known is None and _rival(registry, settings, pool, current.champion, version, now)[0] == rival:
                reasons = [*gate_result.reasons, *([no_rival] if no_rival else [])]
                result = replace(gate_result, reasons=reasons)
                return _act(registry, settings, pool, current, version, result, compared, now)
    # An earlier attempt ended after it had moved the alias, or a person did.
    return Decision(version, known.decision, known.decided_by, known.reasons, known.alias, known.champion_then)


def _rival(
    registry: Registry,
    settings: Settings,
    pool: ConnectionPool,
    champion: ModelVersion | None,
    version: ModelVersion,
    now: datetime,
) -> tuple[ModelVersion | None, str | None]:
    """Return the champion if the version must be compared with it, and else why it is no rival."""
    name = settings.market.model_name
    if champion is None or champion == version or has_failed(pool, name, champion):
        return None, None
    if registered(registry, name, champion) is None:
        return None, f"not compared with {champion.described}, which was champion: it is no longer in MLflow"
    too_old = _too_old(registry, settings, champion, version, now)
    return (None if too_old else champion), too_old


def _act(
    registry: Registry,
    settings: Settings,
    pool: ConnectionPool,
    current: CurrentVersions,
    version: ModelVersion,
    result: GateResult,
    compared: Compared,
    now: datetime,
) -> Decision:
    """Move the alias by the gate's result and record the decision; call it under `alias_lock`."""
    name, champion = settings.market.model_name, current.champion
    decision = Decision(version, "rejected", "gate", result.reasons, CHALLENGER, champion, result.numbers, as_of=now)
    leader = _leading_challenger(pool, settings, current)
    if not result.passed:
        record_decision(pool, name, decision)
    elif compared == "nowhere" or (compared == "here" and settings.training.promote_at_once):
        decision = replace(decision, outcome="promoted", alias=CHAMPION)
        make_champion(registry, pool, name, decision)
    elif leader is not None:
        decision = replace(decision, outcome="undecided", reasons=[*decision.reasons, leader])
        record_decision(pool, name, decision)
    else:
        decision = replace(decision, outcome="trial")
        begin_trial(registry, pool, name, decision)
    registry.tag(name, version.number, {"gate": decision.outcome, "gate_reasons": "; ".join(decision.reasons)})
    return decision


def unjudged_version(registry: Registry, pool: ConnectionPool, model_name: str) -> str | None:
    """Return the newest version if its training ended before the gate decided on it, else None.

    While a training runs, it may be the version of that training.
    """
    newest = registry.newest_version(model_name)
    if newest is None or TRAINED_UNTIL not in newest.tags:
        return None
    return None if is_decided(pool, model_name, newest.identity) else newest.number


def _leading_challenger(pool: ConnectionPool, settings: Settings, current: CurrentVersions) -> str | None:
    """Return why the current challenger keeps its alias, or None unless the last check found it ahead."""
    last, (challenger, champion) = last_check(pool, settings.market), (current.challenger, current.champion)
    trial = (last["numbers"].get("trial") if last else None) or {}
    if challenger is None or champion is None:
        return None
    numbers = (trial.get("challenger"), trial.get("champion"))
    runs = trial.get("runs") or (challenger.run_id, champion.run_id)  # a check of an older build names no runs
    if [*zip(numbers, runs, strict=True)] != [challenger, champion]:
        return None
    if not trial.get("excess", 0.0) < 0:  # a trial that ended without a comparison has no figures
        return None
    return f"version {challenger} is ahead of the champion after {trial['pairs']} forecasts and keeps its trial"


def _too_old(
    registry: Registry, settings: Settings, champion: ModelVersion, version: ModelVersion, now: datetime
) -> str | None:
    """Return why the champion is no rival: it expires before a trial of a fresher version could end; else None."""
    name, expiry = settings.market.model_name, settings.limits.model_expiry
    theirs, ours = (lifetime_of(registry, name, one, expiry) for one in (champion, version))
    trial = settings.limits.trial_forecasts * settings.market.step
    if theirs is None or ours is None or ours <= theirs or not theirs.ends_within(trial, now):
        return None
    return f"not compared with version {champion}: it {theirs.expiry_note(now)}, before a trial could end"


def _run_gate(
    candles: pd.DataFrame, number: str, rival: str | None, settings: Settings, registry: Registry
) -> tuple[GateResult, Compared]:
    """Return the gate's result, and how the version was compared with `rival`.

    Evaluation models are compared, on the rows of the report slice that come after both calibration slices. Neither
    was fitted, stopped or calibrated on them, even if LOOKBACK_DAYS grew between the two trainings. A rival of another
    build or market cannot be compared. With fewer rows than a report slice needs, or if the rival's files are damaged
    or were replaced, only a trial can compare the two.
    """
    challenger = _evaluation_model(number, settings, registry)
    span, horizon = challenger.manifest.spans["report"], settings.horizon
    reasons: list[str] = []
    compared: Compared = "nowhere"
    if rival is not None:
        try:
            champion = _evaluation_model(rival, settings, registry)
        except (ForeignBundleError, ForeignMarketError, ModelNotFound) as exc:
            reasons = [f"not compared with version {rival}: {exc}"]
        except BundleError as exc:  # a service may hold the files that were registered, and serve them
            reasons, compared = [f"not compared with version {rival}: {exc}"], "in a trial only"
        else:
            (ours, rows), (theirs, their_rows) = same_rows(candles, (challenger, champion), span)
            alone = _losses(challenger, ours, rows)
            unseen = ours.target_ms[rows] >= epoch_ms(champion.manifest.spans["report"].start)
            if unseen.sum() < FEWEST_REPORTED * horizon:
                note = (
                    f"not compared with version {rival}: {unseen.sum()} forecasts are of candles after both "
                    f"calibration slices, {FEWEST_REPORTED * horizon} are needed; the trial decides"
                )
                result = decide(alone, None, horizon)
                return replace(result, reasons=[*result.reasons, note]), "in a trial only"
            shared = alone if unseen.all() else _losses(challenger, ours, rows[unseen])
            result = decide(alone, _losses(champion, theirs, their_rows[unseen]), horizon, shared=shared)
            return result, "here"
    (ours, rows), _ = same_rows(candles, (challenger, challenger), span)
    result = decide(_losses(challenger, ours, rows), None, horizon)
    return replace(result, reasons=[*result.reasons, *reasons]), compared


def _evaluation_model(number: str, settings: Settings, registry: Registry) -> Bundle:
    _, directory = load_version(registry, settings.market.model_name, number, settings.models_dir)
    return load_evaluation_model(directory)


def _losses(bundle: Bundle, dataset: Dataset, ends: Indexes) -> Losses:
    return row_losses(forecast_rows(bundle, dataset, ends), dataset.actual[ends])
