"""The message of each job, for `job_runs`, Prefect artifacts and the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

from candlecast.candles.gaps import describe_gaps
from candlecast.candles.quality import MarkedCandle, MarkResult, describe_doubtful
from candlecast.candles.rows import LeftOut, describe_left_out
from candlecast.ledger.issue import IssueResult
from candlecast.market import Market, price_text
from candlecast.settings.file import market_table
from candlecast.settings.settings import Settings

if TYPE_CHECKING:
    from candlecast.registry.decisions import Decision
    from flows.jobs.loop import BackfillResult, ImportResult, IntakeResult
    from flows.jobs.retention import HousekeepingResult
    from flows.jobs.watch import WatchResult
    from monitoring.check import Check
    from training.search.report import SearchResult
    from training.versions import TrainedVersion

_LEAST_SKEW = timedelta(seconds=1)


def ingest_message(intake: IntakeResult, settled: int, issued: IssueResult) -> str:
    """Return one line about a run of ingest."""
    forecasts = ", ".join(
        f"{one.role} v{one.model_version} says {price_text(one.close)} for {one.open_time:%Y-%m-%d %H:%M} "
        f"(up {100 * one.probability_up:.1f} %)"
        for one in issued.forecasts
    )
    inserted, corrected, left_out = intake.synced.written
    without = issued.withheld or (None if forecasts else "no forecast was due, or no model is served yet")
    return (
        f"{inserted} new candles, {corrected} corrected{_doubtful_phrase(intake.marked)}, {settled} outcomes settled; "
        + "; ".join(filter(None, [forecasts, without, issued.unquoted, _skew_phrase(intake.skew)]))
        + _left_out_phrase(left_out)
    )


def backfill_message(filled: BackfillResult, step: timedelta) -> str:
    """Return one line about a run of backfill over candles of `step`."""
    inserted, corrected, left_out = filled.written
    gaps = describe_gaps(filled.missing, step) if filled.missing else "no gap is left"
    return (
        f"{inserted:,} candles stored, {corrected:,} corrected{_doubtful_phrase(filled.marked)}; {gaps}"
        + _left_out_phrase(left_out)
    )


def search_message(found: SearchResult, market: Market) -> str:
    """Return the best settings of a search, as a table of candlecast.toml and as lines of an environment file."""
    table, environment = "\n".join(market_table(market, found.settings)), "\n".join(found.environment)
    return f"{found.message}\n\nIn candlecast.toml:\n{table}\n\nOr for all markets, as variables:\n{environment}"


def import_message(imported: ImportResult) -> str:
    """Return one line about an import; a file with a refused row is not stored at all."""
    inserted, corrected, _ = imported.written
    return (
        f"{imported.read:,} rows read, {inserted:,} candles stored, {corrected:,} corrected, "
        f"{imported.unchanged:,} unchanged, 0 refused{_doubtful_phrase(imported.marked) or ', 0 doubtful'}"
    )


def _left_out_phrase(left_out: Sequence[LeftOut]) -> str:
    return f"; {describe_left_out(left_out)}" if left_out else ""


def _skew_phrase(skew: timedelta | None) -> str | None:
    if skew is None or abs(skew) < _LEAST_SKEW:
        return None
    return f"the exchange's clock is {skew.total_seconds():+.1f} s from this machine's"


def _doubtful_phrase(marked: MarkResult) -> str:
    parts = [f"{marked.doubtful:,} doubtful"] if marked.doubtful else []
    parts += [f"{marked.lifted:,} no longer doubtful"] if marked.lifted else []
    return "".join(f", {part}" for part in parts)


_OUTCOMES = {
    "promoted": "is now champion",
    "trial": "is now challenger, on trial",
    "rejected": "is rejected",
    "undecided": "waits",
}


def train_message(trained: TrainedVersion, decision: Decision, left_out: Sequence[MarkedCandle]) -> str:
    """Return a short list about a training.

    Args:
        left_out: Doubtful candles that were left out of the history.
    """
    notes = [trained.remark] if trained.remark else []
    notes += [f"left out of the history: {describe_doubtful(left_out)}"] if left_out else []
    return decision_message(decision) + "".join(f"\n- {note}" for note in notes)


def decision_message(decision: Decision) -> str:
    """Return the outcome of a decision and its reasons as a short list."""
    reasons = "".join(f"\n- {reason}" for reason in decision.reasons)
    return f"version {decision.version} {_OUTCOMES[decision.outcome]}:{reasons}"


def monitor_message(outcome: WatchResult, settings: Settings, *, started: bool) -> str:
    """Return a short list about a look at the platform.

    Args:
        started: Whether a training was started if the check asks for one.
    """
    lines, verdict = [], "skipped"
    if outcome.rollback is not None:
        failed, champion = outcome.rollback.failed, outcome.rollback.champion
        place = f"version {champion} is champion again" if champion else "no version can replace it"
        lines.append(f"version {failed} failed, {place}: {'; '.join(outcome.rollback.reasons)}")
    if outcome.trial is not None:
        lines.append(
            f"challenger {outcome.trial.challenger} {outcome.trial.outcome}: {'; '.join(outcome.trial.reasons)}"
        )
    if outcome.check is not None:
        verdict = outcome.check.verdict.verdict
        if outcome.training_due:
            verdict += "; a training was started" if started else "; a training is due: `candlecast train`"
        lines = [*_check_lines(outcome.check, settings), *lines]
    lines += [f"alert {notice.news}: {notice.kind}: {notice.message}" for notice in outcome.notices]
    return verdict + "".join(f"\n- {line}" for line in [*lines, *outcome.notes])


def housekeeping_message(kept: HousekeepingResult, crashed: int) -> str:
    """Return one line about a run of housekeeping, which marked `crashed` runs of Prefect."""
    deleted = f"deleted: {kept.versions} versions, {kept.bundles} bundles on this machine, {kept.runs} MLflow runs"
    return f"{deleted}; marked as crashed: {crashed} runs" if crashed else deleted


def _check_lines(found: Check, settings: Settings) -> list[str]:
    lines = [*found.verdict.reasons]
    if found.performance:
        p, close = found.performance, found.performance.close
        lines.append(
            f"last {p.n} settled forecasts: MAPE {close.mape:.4f} % (persistence {close.baseline_mape:.4f} %), "
            f"skill {100 * close.skill:+.2f} %, direction {100 * p.direction.accuracy:.1f} %"
        )
    if found.drift:
        lines.append(f"{100 * found.drift.share:.0f} % of the inputs drifted")
    if found.reports and found.reports.links:
        lines.append("reports: " + ", ".join(f"{about} {link}" for about, link in found.reports.links.items()))
    return lines
