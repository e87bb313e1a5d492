"""What a job did, in the words of `job_runs`, Prefect artifacts and the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from candlecast.ledger import ForecastRecord
from candlecast.settings import Settings
from candlecast.sync import Synced

if TYPE_CHECKING:
    from flows.loop import Backfilled
    from monitoring.check import Check
    from training.gate import Decision
    from training.versions import TrainedVersion


def ingest_message(synced: Synced, settled: int, issued: list[ForecastRecord]) -> str:
    """One line about a run of ingest."""
    forecasts = ", ".join(
        f"{one.role} v{one.model_version} says {one.close:.2f} for {one.open_time:%Y-%m-%d %H:%M} "
        f"(up {100 * one.probability_up:.1f} %)"
        for one in issued
    )
    inserted, corrected = synced.written
    return (
        f"{inserted} new candles, {corrected} corrected, {settled} outcomes settled; "
        f"{forecasts or 'no forecast was due, or no model is served yet'}"
    )


def backfill_message(filled: Backfilled) -> str:
    """One line about a run of backfill."""
    missing = ", ".join(f"{start:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M}" for start, end in filled.missing)
    return f"{filled.written.inserted:,} candles stored; " + (
        f"the exchange does not have {missing}" if missing else "no gap is left"
    )


def train_message(trained: TrainedVersion, decision: Decision) -> str:
    """What a training came to, as a short list."""
    outcome = "is now champion" if decision.promoted else "stays challenger"
    reasons = "".join(f"\n- {reason}" for reason in decision.reasons)
    return f"version {trained.number} {outcome}:{reasons}"


def monitor_message(found: Check, settings: Settings, *, started: bool) -> str:
    """What a check found, as a short list."""
    lines = [*found.verdict.reasons]
    if found.performance:
        p = found.performance
        lines.append(
            f"last {p.n} settled forecasts: MAPE {p.mape:.4f} % (persistence {p.baseline_mape:.4f} %), "
            f"skill {100 * p.skill:+.2f} %, direction {100 * p.direction_accuracy:.1f} %"
        )
    if found.drift:
        address = f"{settings.service_url}/reports/{found.drift.report.name}"
        lines.append(f"{100 * found.drift.share:.0f} % of the inputs drifted: [Evidently report]({address})")
    training = ""
    if found.verdict.action == "train":
        training = "; a training was started" if started else "; a training is due: `candlecast train`"
    return f"{found.verdict.verdict}{training}" + "".join(f"\n- {line}" for line in lines)
