"""Filling the store from the archive: several files at once, each in one transaction."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import NamedTuple

import numpy as np

from candlecast.archive.client import ArchiveClient
from candlecast.archive.files import ArchiveFile, plan_days, plan_files
from candlecast.candles.gap_filling import SourceAnswer
from candlecast.candles.gaps import Range
from candlecast.candles.rows import left_out_of
from candlecast.candles.schema import OHLCV_COLUMNS
from candlecast.candles.session import MarketSession
from candlecast.candles.store import UpsertResult
from candlecast.candles.sync import sync_range
from candlecast.errors import CandlecastError, ExchangeError, InvalidCandles
from candlecast.market import floor_time, interval_duration

WORKERS = 4
"""Files downloaded, read and stored at once; they bound the memory of a backfill."""

SAMPLES, SAMPLED = 4, 250
"""Stretches of a stored file, and candles in each, that are compared with the exchange's API."""

PUBLISHED_AFTER = timedelta(days=1)
"""Time after the end of a day from which a missing file means that the archive does not have it."""

_FAILURES = (ExchangeError, InvalidCandles)
_FOREVER = datetime.max.replace(tzinfo=UTC)


class StoredFile(NamedTuple):
    """A requested file, and what storing it changed; `written` is None if the archive does not have it."""

    file: ArchiveFile
    written: UpsertResult | None


class ArchiveFillResult(NamedTuple):
    """Changes of a fill from the archive.

    Attributes:
        written: Candles that were new or had changed.
        remaining: Ranges still missing, to be requested over REST.
    """

    written: UpsertResult
    files: int
    remaining: list[Range]


def fill_from_archive(
    session: MarketSession,
    archive: ArchiveClient,
    ranges: Sequence[Range],
    now: datetime,
    on_file: Callable[[StoredFile], None] = lambda _: None,
    workers: int = WORKERS,
    on_failure: Callable[[ArchiveFile, CandlecastError], None] | None = None,
) -> ArchiveFillResult:
    """Store the archive's candles of `ranges`, one transaction a file; runs may be repeated and may overlap.

    Only files with a missing candle are requested, so the next run resumes an interrupted one. If the archive lacks
    a month, its days are requested. After a failure that ends the fill, running files are finished and no other is
    begun.

    Args:
        ranges: Half-open ranges of open times to fill, aware UTC.
        now: The exchange's clock. Only months and days that had ended by then are requested.
        on_file: Called in the calling thread with each file that was stored or is absent.
        workers: Files in progress at once; each needs a connection of the session's pool.
        on_failure: Called with each file that failed, while the others continue; if None, the first failure ends
            the fill.

    Raises:
        ExchangeUnavailable: No intact file was received, after retries.
        ExchangeRejected: The archive does not serve this client.
        InvalidCandles: A file is damaged; names it.
    """
    market = session.market
    latest = floor_time(now, market.interval)
    wanted = [(start, min(end, latest)) for start, end in ranges if start < latest]
    missing = _missing(session, wanted)
    written, files = UpsertResult(0, 0), 0
    store_file = partial(_store_file, session, archive, wanted)
    pool = ThreadPoolExecutor(workers, thread_name_prefix="archive")
    running: dict[Future[StoredFile], ArchiveFile] = {}
    fatal: CandlecastError | None = None
    try:
        running = {pool.submit(store_file, file): file for file in plan_files(market, missing, now)}
        while running:
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                file = running.pop(future)
                if future.cancelled():
                    continue
                try:
                    stored = future.result()
                except _FAILURES as exc:
                    if on_failure is not None:
                        on_failure(file, exc)
                        continue
                    fatal = fatal or exc
                    for waiting in running:
                        waiting.cancel()
                    continue
                if stored.written is not None:
                    written, files = written + stored.written, files + 1
                elif not file.is_daily and fatal is None:
                    running |= {pool.submit(store_file, day): day for day in plan_days(file, missing, now)}
                on_file(stored)
    finally:
        pool.shutdown(cancel_futures=True)
    if fatal is not None:
        raise fatal
    return ArchiveFillResult(written, files, _missing(session, wanted))


def _store_file(
    session: MarketSession, archive: ArchiveClient, wanted: Sequence[Range], file: ArchiveFile
) -> StoredFile:
    candles = archive.candles(file)
    if candles is None:
        return StoredFile(file, None)
    inside = np.zeros(len(candles), dtype=bool)
    for start, end in wanted:
        if start < file.end and end > file.start:
            inside |= (candles.index >= start) & (candles.index < end)
    written = session.store.upsert(file.symbol, file.interval, candles[inside], "archive")
    return StoredFile(file, written + UpsertResult(0, 0, left_out_of(candles)))


def _missing(session: MarketSession, wanted: Sequence[Range]) -> list[Range]:
    symbol, interval, _ = session.market
    return [gap for start, end in wanted for gap in session.store.missing_ranges(symbol, interval, start, end)]


def hold_against_exchange(
    session: MarketSession,
    files: Sequence[ArchiveFile],
    wanted: Range,
    now: datetime,
    on_failure: Callable[[CandlecastError], None],
) -> UpsertResult:
    """Compare a sample of each stored file with the exchange's API, and request its candles there if they differ.

    The sample is SAMPLES stretches of SAMPLED candles, spread evenly: all candles of a file of at most 1,000, else a
    part, in which a few stale rows can be missed.

    Args:
        wanted: Half-open range outside of which nothing is stored.
        now: The exchange's clock.
        on_failure: Called with each file that differs, and with a failure of the exchange, which ends the comparison.

    Returns:
        Candles that the exchange corrected.
    """
    corrected = UpsertResult(0, 0)
    try:
        for file in files:
            if differing := sum(_differing(session, *stretch) for stretch in _stretches(file)):
                start, end = max(file.start, wanted[0]), min(file.end, wanted[1])
                corrected += sync_range(session, start, end, now, lambda _: None)
                on_failure(
                    InvalidCandles(
                        f"archive file {file.name}: {differing} sampled candles differ from the exchange's API, so the "
                        "candles of the file were requested there"
                    )
                )
    except ExchangeError as exc:
        on_failure(exc)
    return corrected


def _stretches(file: ArchiveFile) -> list[Range]:
    step = interval_duration(file.interval)
    apart = max(SAMPLED * step, (file.end - file.start - SAMPLED * step) // (SAMPLES - 1))
    starts = [floor_time(file.start + number * apart, file.interval) for number in range(SAMPLES)]
    return [(start, min(start + SAMPLED * step, file.end)) for start in starts if start < file.end]


def _differing(session: MarketSession, start: datetime, end: datetime) -> int:
    symbol, interval, _ = session.market
    theirs = session.exchange.klines(symbol, interval, start, end)
    ours = session.store.read(symbol, interval, start, end)
    both = theirs.index.intersection(ours.index)
    columns = list(OHLCV_COLUMNS)
    return int((theirs.loc[both, columns] != ours.loc[both, columns]).any(axis=1).sum())


@dataclass(frozen=True, slots=True)
class ArchiveSource:
    """The archive as a `candlecast.candles.gap_filling.GapSource`, to be asked before the REST API.

    Attributes:
        now: The exchange's clock.
        on_file: Called with each file that was stored or is absent.
        on_failure: Called with each failure; the REST API has the same candles.
    """

    session: MarketSession
    archive: ArchiveClient
    now: datetime
    on_file: Callable[[StoredFile], None]
    on_failure: Callable[[CandlecastError], None]

    def fill(self, ranges: Sequence[Range]) -> SourceAnswer:
        """Store the candles of `ranges` from the files of whole past months and days.

        Files that failed, and days that ended less than PUBLISHED_AFTER ago, stay undecided.
        """
        stored: list[UpsertResult] = []
        undecided: list[Range] = [(floor_time(self.now - PUBLISHED_AFTER, "1d"), _FOREVER)]

        def note(file: StoredFile) -> None:
            stored.append(file.written or UpsertResult(0, 0))
            self.on_file(file)

        def note_failure(file: ArchiveFile, failure: CandlecastError) -> None:
            undecided.append((file.start, file.end))
            self.on_failure(failure)

        fill_from_archive(self.session, self.archive, ranges, self.now, note, on_failure=note_failure)
        return SourceAnswer(sum(stored, UpsertResult(0, 0)), undecided)

    def reaches_past(self, moment: datetime) -> bool:
        """Return whether the file of that day has a candle opening at `moment` or later."""
        try:
            for file in plan_files(self.session.market, [(moment, moment + timedelta(microseconds=1))], self.now):
                candles = self.archive.candles(file)
                if candles is not None and (candles.index >= moment).any():
                    return True
        except _FAILURES as exc:
            self.on_failure(exc)
        return False
