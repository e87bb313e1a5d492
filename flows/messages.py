"""What a job did, in the words of `job_runs`, Prefect artifacts and the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

from candlecast.gaps import describe_gaps
from candlecast.issue import Issued
from candlecast.quality import Doubtful, Marked, describe
from candlecast.settings import Settings

if TYPE_CHECKING:
    from flows.loop import Backfilled, Imported, TakenIn
    from monitoring.check import Check
    from training.gate import Decision
    from training.versions import TrainedVersion

_SKEW_TOLD = timedelta(seconds=1)


def ingest_message(taken_in: TakenIn, settled: int, issued: Issued) -> str:
    """One line about a run of ingest."""
    forecasts = ", ".join(
        f"{one.role} v{one.model_version} says {one.close:.2f} for {one.open_time:%Y-%m-%d %H:%M} "
        f"(up {100 * one.probability_up:.1f} %)"
        for one in issued.forecasts
    )
    inserted, corrected = taken_in.synced.written
    without = issued.withheld or (None if forecasts else "no forecast was due, or no model is served yet")
    return (
        f"{inserted} new candles, {corrected} corrected{_doubtful(taken_in.marked)}, {settled} outcomes settled; "
        + "; ".join(filter(None, [forecasts, without, _skew(taken_in.skew)]))
    )


def backfill_message(filled: Backfilled, step: timedelta) -> str:
    """One line about a run of backfill over candles of `step`."""
    inserted, corrected = filled.written
    gaps = describe_gaps(filled.missing, step) if filled.missing else "no gap is left"
    return f"{inserted:,} candles stored, {corrected:,} corrected{_doubtful(filled.marked)}; {gaps}"


def import_message(imported: Imported) -> str:
    """One line about an import."""
    inserted, corrected = imported.written
    return f"{inserted:,} candles stored, {corrected:,} corrected{_doubtful(imported.marked)}"


def _skew(skew: timedelta | None) -> str | None:
    """How far the clocks are apart, where that is worth a word."""
    if skew is None or abs(skew) < _SKEW_TOLD:
        return None
    return f"the exchange's clock is {skew.total_seconds():+.1f} s from this machine's"


def _doubtful(marked: Marked) -> str:
    """What a look at the candles found, to be put behind what was written; nothing if nothing was or is doubtful."""
    parts = [f"{marked.doubtful:,} doubtful"] if marked.doubtful else []
    parts += [f"{marked.lifted:,} no longer doubtful"] if marked.lifted else []
    return "".join(f", {part}" for part in parts)


def train_message(trained: TrainedVersion, decision: Decision, left_out: Sequence[Doubtful]) -> str:
    """What a training came to, as a short list.

    Args:
        left_out: Doubtful candles that the history was without.
    """
    outcome = "is now champion" if decision.promoted else "stays challenger"
    notes = [f"left out of the history: {describe(left_out)}"] if left_out else []
    reasons = "".join(f"\n- {reason}" for reason in [*decision.reasons, *notes])
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
