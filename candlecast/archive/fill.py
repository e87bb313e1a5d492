"""Long history from the archive into the store: several files at once, each in one transaction as it arrives."""

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
from candlecast.candles.gaps import Range, SourceAnswer
from candlecast.candles.store import CandleStore, UpsertResult
from candlecast.errors import CandlecastError, ExchangeError, InvalidCandles
from candlecast.market import Market, floor_time

WORKERS = 4
"""Files downloaded, read and stored at once; the memory of a backfill is that of so many files."""

PUBLISHED_AFTER = timedelta(days=1)
"""Time since the end of a day after which its file can be expected; until then its absence says nothing."""

_FAILURES = (ExchangeError, InvalidCandles)
_FOREVER = datetime.max.replace(tzinfo=UTC)


class StoredFile(NamedTuple):
    """A file that was asked for, and what storing it changed; `written` is None if the archive does not have it."""

    file: ArchiveFile
    written: UpsertResult | None


class ArchiveFillResult(NamedTuple):
    """What a fill from the archive did.

    Attributes:
        written: Candles that were new or had changed.
        files: Files downloaded and stored.
        remaining: Ranges that are still missing, for REST: not yet published, or not in the archive.
    """

    written: UpsertResult
    files: int
    remaining: list[Range]


def fill_from_archive(
    archive: ArchiveClient,
    store: CandleStore,
    market: Market,
    ranges: Sequence[Range],
    now: datetime,
    on_file: Callable[[StoredFile], None] = lambda _: None,
    workers: int = WORKERS,
    on_failure: Callable[[ArchiveFile, CandlecastError], None] | None = None,
) -> ArchiveFillResult:
    """Store what the archive has of `ranges`, one transaction a file; safe to run again, and at once.

    Only files that hold a candle the store lacks are asked for, so the next run resumes one that was interrupted.
    A month that the archive does not have is taken from its days. After a failure that ends the fill no further file
    is begun; those under way are finished and stay.

    Args:
        ranges: Half-open ranges of open times to fill, aware UTC: a whole history, or the gaps in it.
        now: The exchange's clock. Only months and days that had ended by then are taken.
        on_file: Told each file that was stored or found absent, by the calling thread.
        workers: Files under way at once; each needs a connection of the store's pool while it is written.
        on_failure: Told each file that could not be had or read, and the others go on; without it the first
            such failure ends the fill.

    Raises:
        ExchangeUnavailable: A file could not be had intact, after retries.
        ExchangeRejected: The archive does not serve this client.
        InvalidCandles: A file is damaged; names it and the row.
    """
    latest = floor_time(now, market.interval)
    wanted = [(start, min(end, latest)) for start, end in ranges if start < latest]
    missing = _missing(store, market, wanted)
    written, files = UpsertResult(0, 0), 0
    store_file = partial(_store_file, archive, store, wanted)
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
    return ArchiveFillResult(written, files, _missing(store, market, wanted))


def _store_file(archive: ArchiveClient, store: CandleStore, wanted: Sequence[Range], file: ArchiveFile) -> StoredFile:
    candles = archive.candles(file)
    if candles is None:
        return StoredFile(file, None)
    inside = np.zeros(len(candles), dtype=bool)
    for start, end in wanted:
        if start < file.end and end > file.start:
            inside |= (candles.index >= start) & (candles.index < end)
    return StoredFile(file, store.upsert(file.symbol, file.interval, candles[inside], "archive"))


def _missing(store: CandleStore, market: Market, wanted: Sequence[Range]) -> list[Range]:
    return [hole for start, end in wanted for hole in store.missing_ranges(market.symbol, market.interval, start, end)]


@dataclass(frozen=True)
class ArchiveSource:
    """The archive as a `candlecast.candles.gaps.GapSource`; put it before the REST API, which takes what it leaves.

    Attributes:
        now: The exchange's clock.
        on_file: Told each file that was stored or found absent.
        on_failure: Told why the archive gave less than it might have; the REST API has the same candles.
    """

    archive: ArchiveClient
    store: CandleStore
    market: Market
    now: datetime
    on_file: Callable[[StoredFile], None]
    on_failure: Callable[[CandlecastError], None]

    def fill(self, ranges: Sequence[Range]) -> SourceAnswer:
        """Store what whole past months and days have of the candles opening in `ranges`.

        It cannot say yet what is missing in files that failed, and in days that ended less than PUBLISHED_AFTER ago.
        """
        stored: list[UpsertResult] = []
        unsaid: list[Range] = [(floor_time(self.now - PUBLISHED_AFTER, "1d"), _FOREVER)]

        def note(file: StoredFile) -> None:
            stored.append(file.written or UpsertResult(0, 0))
            self.on_file(file)

        def note_failure(file: ArchiveFile, failure: CandlecastError) -> None:
            unsaid.append((file.start, file.end))
            self.on_failure(failure)

        fill_from_archive(self.archive, self.store, self.market, ranges, self.now, note, on_failure=note_failure)
        return SourceAnswer(sum(stored, UpsertResult(0, 0)), unsaid)

    def reaches_past(self, moment: datetime) -> bool:
        """Whether the file of that day has a candle opening at `moment` or later."""
        try:
            for file in plan_files(self.market, [(moment, moment + timedelta(microseconds=1))], self.now):
                candles = self.archive.candles(file)
                if candles is not None and (candles.index >= moment).any():
                    return True
        except _FAILURES as exc:
            self.on_failure(exc)
        return False
