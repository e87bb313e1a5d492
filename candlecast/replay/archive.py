"""The public archive of a replay exchange: monthly and daily zips of its recordings."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache

import pandas as pd
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from candlecast.archive.zips import archive_zip, checksum_line
from candlecast.candles.schema import open_times_ms
from candlecast.market import epoch_ms
from candlecast.replay.faults import Faults
from candlecast.replay.injector import FaultInjector

_ZIPS_KEPT = 16
_NOT_FOUND = b'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>NoSuchKey</Code></Error>'


@dataclass(frozen=True, slots=True)
class _File:
    symbol: str
    interval: str
    name: str
    start: datetime
    end: datetime
    monthly: bool


class ReplayArchive:
    """The route `/data/spot/{monthly,daily}/klines/SYMBOL/INTERVAL/NAME`, for zips and their `.CHECKSUM`.

    A file exists once its month or day has ended on the exchange's clock, if the recording has a candle in it. It
    holds the recorded candles of its period without those that `Faults.gap` removes.

    Args:
        recordings: Candles by (symbol, interval).
        injector: The exchange's clock and faults.
    """

    def __init__(self, recordings: Mapping[tuple[str, str], pd.DataFrame], injector: FaultInjector) -> None:
        self._recordings = recordings
        self._injector = injector
        self._zip = lru_cache(maxsize=_ZIPS_KEPT)(self._make_zip)

    async def respond(self, request: Request) -> Response:
        """Answer a request."""
        return await self._injector.answer_archive(await self._file_answer(**request.path_params))

    async def _file_answer(self, kind: str, symbol: str, interval: str, name: str) -> Response:
        zip_name = name.removesuffix(".CHECKSUM")
        file = _parse(kind, symbol, interval, zip_name)
        if file is None or (symbol, interval) not in self._recordings or self._is_missing(file):
            return Response(_NOT_FOUND, 404, media_type="application/xml")
        content = await run_in_threadpool(self._zip, file, self._injector.faults)
        if not content:
            return Response(_NOT_FOUND, 404, media_type="application/xml")
        if name == zip_name:
            return Response(content, media_type="application/zip")
        if self._injector.faults.hits_file("wrong_checksum", zip_name):
            self._injector.count("wrong_checksum")
            content += b"?"
        return Response(checksum_line(content, zip_name), media_type="text/plain")

    def _is_missing(self, file: _File) -> bool:
        if self._injector.now_ms() < epoch_ms(file.end):
            return True
        if self._injector.faults.hits_file("missing_month" if file.monthly else "missing_day", file.name):
            self._injector.count("missing_month" if file.monthly else "missing_day")
            return True
        return False

    def _make_zip(self, file: _File, faults: Faults) -> bytes:
        recording = self._recordings[file.symbol, file.interval]
        candles = recording[(recording.index >= file.start) & (recording.index < file.end)]
        candles = candles[[not faults.hits_bar("gap", int(opened_ms)) for opened_ms in open_times_ms(candles)]]
        return b"" if candles.empty else archive_zip(candles, file.symbol, file.interval, file.name)


def _parse(kind: str, symbol: str, interval: str, name: str) -> _File | None:
    monthly = kind == "monthly"
    match = re.fullmatch(re.escape(f"{symbol}-{interval}-") + r"(\d{4}-\d\d)" + r"(-\d\d)?\.zip", name)
    if kind not in {"monthly", "daily"} or not match or (match[2] is None) != monthly:
        return None
    try:
        start = datetime.strptime(match[1] + (match[2] or "-01"), "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError:
        return None
    end = (start + timedelta(days=32)).replace(day=1) if monthly else start + timedelta(days=1)
    return _File(symbol, interval, name, start, end, monthly)
