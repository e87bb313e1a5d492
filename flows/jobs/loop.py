"""The work of each job, without Prefect, for flows, commands and simulations."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple

import pandas as pd

from candlecast.archive.files import ArchiveFile
from candlecast.archive.fill import ArchiveSource, StoredFile, hold_against_exchange
from candlecast.candles.gap_filling import GapSource, RestSource, fill_gaps
from candlecast.candles.gaps import CandleGap, on_grid
from candlecast.candles.quality import MarkResult
from candlecast.candles.store import UpsertResult
from candlecast.candles.sync import SyncResult, closed_before, fetch_doubtful_again, sync_newest, sync_range
from candlecast.errors import (
    BundleError,
    CandlecastError,
    ExchangeError,
    InvalidCandles,
    ModelNotFound,
    NotEnoughCandles,
)
from candlecast.job_runs import last_attempt, last_check, recorded_job
from candlecast.ledger.issue import IssueResult, issue_forecasts
from candlecast.ledger.parity import ParityCheck, parity_message, recorded_within, verify_forecasts
from candlecast.market import known_time
from candlecast.registry.decisions import Decision, record_decision
from candlecast.registry.registry import CHALLENGER, Registry
from candlecast.settings.settings import Settings
from flows.jobs.market import TRAINING_RETRIES, OpenMarket, earliest_needed, open_registry, open_service, source_of
from training.versions import TrainedVersion, pass_gate, train_version, unjudged_version

_LOG = logging.getLogger(__name__)
_SETTLED_AGAIN = timedelta(days=2)
_CORRECTED_WITHIN = timedelta(days=2)  # every backfill requests them again, because ingest has the last hour only
_HOLES_AGAIN = timedelta(days=1)  # a forecast needs an unbroken history, and the next backfill may be hours later
_VERIFIED_EVERY = timedelta(days=1)
_FEWEST_VERIFIED = 24  # of each role, of which the watch needs 12
_IMPORTED_AT_ONCE = 50_000  # rows, which bounds memory
_FAULT_HOLDS = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class IntakeResult:
    """The stored and the doubtful candles of a run of ingest.

    Attributes:
        skew: Exchange's clock minus this machine's clock, for information only. None if it was not measured, and on
            the replay source.
    """

    synced: SyncResult
    marked: MarkResult
    skew: timedelta | None


@dataclass(frozen=True, slots=True)
class BackfillResult:
    """The stored candles of a backfill, the gaps that are left, and the doubtful candles of its range."""

    written: UpsertResult
    missing: list[CandleGap]
    marked: MarkResult


@dataclass(frozen=True, slots=True)
class ImportResult:
    """The rows read from a file, the stored candles, and the doubtful ones among them."""

    read: int
    written: UpsertResult
    marked: MarkResult

    @property
    def unchanged(self) -> int:
        """Rows of the file that were stored with the same values before."""
        return self.read - self.written.inserted - self.written.corrected


def sync(market: OpenMarket) -> IntakeResult:
    """Store the candles closed since the last run, the last few again, and the missing ones of a day; check them."""
    now = market.exchange.server_time()
    holes = market.gaps.listed(market.market, now - _HOLES_AGAIN, now, "open")
    earliest = earliest_needed(market.settings, now)
    if market.store.latest_open_time(*market.market[:2]) is None:
        earliest = _not_before_the_first(market, earliest)
    synced = sync_newest(
        market,
        earliest,
        market.settings.exchange.finality_guard,
        again_from=holes[0].start if holes else None,
    )
    # Gaps are recorded at once, so that no training uses newest candles with a gap.
    start, end = (on_grid(moment, market.market) for moment in (synced.start, synced.now))
    market.gaps.record(market.market, start, end, edges=False)
    _settle_doubts(market, synced)
    marked = market.quality.mark(market.market, synced.start, synced.now)
    skew = None
    if market.settings.source != "replay":
        with suppress(ExchangeError):  # for information only: the candles are stored
            skew = market.exchange.clock_skew()
    return IntakeResult(synced, marked, skew)


def _settle_doubts(market: OpenMarket, synced: SyncResult) -> None:
    """Ask the exchange again for what earlier runs found doubtful; the next run tries again if it does not answer."""
    earliest = earliest_needed(market.settings, synced.now)
    with suppress(ExchangeError):
        if fetch_doubtful_again(market, earliest, synced.start).corrected:
            market.ledger.settle(earliest)


def settle(market: OpenMarket, since: datetime) -> int:
    """Settle the forecasts whose outcome arrived since `since`, and those of the two days before again."""
    return market.ledger.settle(since - _SETTLED_AGAIN)


def issue(market: OpenMarket) -> IssueResult:
    """Record the served models' forecasts of the next candle."""
    with open_service(market.settings) as service:
        return issue_forecasts(market, service, source_of(market.settings))


def backfill(
    market: OpenMarket,
    start: datetime | None,
    end: datetime | None,
    on_page: Callable[[datetime], None],
    *,
    repair: bool = False,
) -> BackfillResult:
    """Fill every gap of [start, end), correct the last two days, check the candles, settle, and record misses.

    Args:
        start: None for the start of the history that training needs; nothing is requested from before the market's
            first candle.
        end: None for the newest closed candle.
        on_page: Gets the time up to which candles are stored.
        repair: Request every candle of the range again, known outages included, and correct differences. Replaced
            values go to `candle_revisions`.
    """
    now = market.exchange.server_time()
    settled_until = now - market.settings.exchange.finality_guard
    first, last = _not_before_the_first(market, start or earliest_needed(market.settings, now)), end or now
    written = UpsertResult(0, 0)
    if repair:
        written += sync_range(market, first, last, settled_until, on_page)
    files: list[ArchiveFile] = []

    def note(stored: StoredFile) -> None:
        if stored.written is not None:
            files.append(stored.file)
            on_page(stored.file.end)

    def warn(failure: CandlecastError) -> None:
        _LOG.warning("archive skipped: %s", failure)

    archive = ArchiveSource(market, market.archive, settled_until, note, warn)
    sources: list[GapSource] = [archive, RestSource(market, settled_until, on_page)]
    filled = fill_gaps(market, sources, first, last, settled_until, outages_too=repair)
    written += hold_against_exchange(market, files, (first, last), settled_until, warn)
    if not repair:
        written += sync_range(market, max(first, now - _CORRECTED_WITHIN), last, settled_until, lambda _: None)
    marked = market.quality.mark(market.market, first, min(last, now))
    market.ledger.settle(first)
    market.ledger.record_missed("champion", first, now)
    return BackfillResult(written + filled.written, filled.left, marked)


def _not_before_the_first(market: OpenMarket, start: datetime) -> datetime:
    """Return `start`, or when the market's first candle opened if that is later: a young market has a short history."""
    if market.store.has_before(*market.market[:2], start + market.market.step):
        return start
    first = market.exchange.first_open_time(*market.market[:2])
    return start if first is None else max(start, first)


def import_candles(
    market: OpenMarket,
    candles: pd.DataFrame,
    on_part: Callable[[int], None] = lambda _: None,
    *,
    replace: bool = False,
) -> ImportResult:
    """Store candles from a file, record the gaps they fill, check them, and settle forecasts.

    A file is stored in parts; an import that was interrupted continues when it is run again.

    Args:
        candles: Candles that `candlecast.candles.files.require_importable` accepts.
        on_part: Called with the number of rows stored so far.
        replace: Replace candles of the exchange or of the archive that contradict the file.

    Raises:
        InvalidCandles: A candle is not closed by the exchange's clock, or contradicts a stored candle of the exchange
            or of the archive; no candle is stored.
        ExchangeUnavailable: The exchange's clock could not be read.
    """
    symbol, interval, _ = market.market
    settled_until = market.exchange.server_time() - market.settings.exchange.finality_guard
    if len(closed_before(candles, settled_until, market.market.step)) < len(candles):
        raise InvalidCandles(
            f"the candle of {candles.index[-1].isoformat()} is not closed at {settled_until.isoformat()} on the "
            "exchange's clock; import closed candles only"
        )
    parts = [candles.iloc[first : first + _IMPORTED_AT_ONCE] for first in range(0, len(candles), _IMPORTED_AT_ONCE)]
    if not replace:
        _refuse_contradictions(market, candles, parts)
    written, done = UpsertResult(0, 0), 0
    for part in parts:
        written += market.store.upsert(symbol, interval, part, "import", replace=replace)
        done += len(part)
        on_part(done)
    first, last = (candles.index[position].to_pydatetime() for position in (0, -1))
    end = last + market.market.step
    market.gaps.record(market.market, first, end, edges=False)
    marked = market.quality.mark(market.market, first, end)
    market.ledger.settle(first)
    return ImportResult(len(candles), written, marked)


def _refuse_contradictions(market: OpenMarket, candles: pd.DataFrame, parts: Sequence[pd.DataFrame]) -> None:
    contradicted = [one for part in parts for one in market.store.contradicted(*market.market[:2], part, "import")]
    if not contradicted:
        return
    opened, source, stored = contradicted[0]
    row = int(candles.index.searchsorted(pd.Timestamp(opened)))
    origin = "exchange's API" if source == "rest" else "archive"
    differing = "; ".join(
        f"{name} is {candles[name].iloc[row]:.15g} in the file and {value:.15g} stored"
        for name, value in stored.items()
        if candles[name].iloc[row] != value
    )
    raise InvalidCandles(
        f"{len(contradicted):,} of {len(candles):,} rows contradict stored candles of the exchange or its archive; the "
        f"first is row {row}, {opened:%Y-%m-%d %H:%M}, against the {origin}: {differing}. Nothing is stored. Check the "
        "file's symbol, interval and time zone, or add --replace to store its values instead",
        row,
    )


def verify_forecasts_daily(market: OpenMarket) -> list[ParityCheck]:
    """Recompute the newest recorded forecasts, at most once a day; record it in `job_runs`.

    They are those of a day, or of 24 candles if that is longer.

    Returns:
        One result per forecast; empty if the last verification is less than a day old by the exchange's clock.
    """
    now = market.exchange.server_time()
    last = last_attempt(market.pool, "verify-forecasts", market.market, now)
    if last is not None and now - last < _VERIFIED_EVERY:
        return []
    with recorded_job(market.pool, "verify-forecasts", market.market, clock=market.exchange.server_time) as report:
        span = max(_VERIFIED_EVERY, _FEWEST_VERIFIED * market.market.step)
        count = recorded_within(market.pool, market.market, span)
        cache = market.settings.models_dir
        checked = verify_forecasts(market, open_registry(market.settings), cache, count)
        report.rows, report.message = len(checked), parity_message(checked)
        return checked


class TrainingResult(NamedTuple):
    """A trained version, and the gate's decision about it."""

    version: TrainedVersion
    decision: Decision


def train(market: OpenMarket, now: datetime, report: Callable[[str], None]) -> TrainingResult:
    """Train a version on the stored history up to `now`, on the exchange's clock, and apply the gate.

    A version that an earlier training left without a decision is judged first.
    """
    registry = training_registry(market.settings)
    judge_leftover(market, registry, now)
    history = market.history(now)
    version = train_version(history, market.settings, registry, report)
    return TrainingResult(version, pass_gate(history, version.number, market.settings, registry, market.pool, now))


def judge_leftover(market: OpenMarket, registry: Registry, now: datetime) -> Decision | None:
    """Apply the gate to a version that an earlier training registered without a decision; None if there is none.

    If the gate cannot run, the version is rejected. The caller holds the lock of the job `train`.
    """
    name = market.market.model_name
    left = unjudged_version(registry, market.pool, name)
    if left is None:
        return None
    try:
        return pass_gate(market.history(now), left, market.settings, registry, market.pool, now)
    except (BundleError, ModelNotFound, NotEnoughCandles) as exc:
        version = registry.version(name, left).identity
        rejection = Decision(version, "rejected", "gate", [f"the gate cannot run: {exc}"], CHALLENGER, as_of=now)
        record_decision(market.pool, name, rejection)
        return rejection


def training_obstacle(market: OpenMarket, now: datetime) -> str | None:
    """Return the reason against a training at `now` for the run that holds the job's lock.

    Returns:
        None if the training may run.
    """
    check = last_check(market.pool, market.market)
    if check is not None and check["verdict"] == "data fault":
        checked_at = known_time(check["checked_at"], now)
        if checked_at is not None and now - checked_at < _FAULT_HOLDS:
            return f"the check of {checked_at:%F %T} found a data fault: {'; '.join(check['reasons'])}"
    last = last_attempt(market.pool, "train", market.market, now, ended=True)
    shortest = market.settings.limits.shortest_wait
    if last is None or now - last >= shortest:
        return None
    return (
        f"the last training began {(now - last) / timedelta(hours=1):.1f} h ago, at least "
        f"{shortest / timedelta(hours=1):g} h must pass (CANDLECAST_TRAIN_MIN_HOURS)"
    )


def training_registry(settings: Settings) -> Registry:
    """Return the registry with more retries, because a failure would lose minutes of fitting."""
    return open_registry(settings, retries=TRAINING_RETRIES)
