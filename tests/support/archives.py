"""Archive files made from candles, and a transport that serves them without a server."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

import pandas as pd
import requests
from requests.adapters import BaseAdapter

from candlecast.archive.client import ArchiveClient
from candlecast.archive.files import ArchiveFile
from candlecast.archive.zips import archive_zip, checksum_line
from candlecast.market import Market

ARCHIVE_URL = "http://archive.test"


def archive_files(candles: pd.DataFrame, market: Market, *, daily: bool = False) -> dict[str, bytes]:
    """Every monthly (or daily) zip of a series and its `.CHECKSUM`, by path."""
    content = {}
    for start, part in candles.groupby(pd.DatetimeIndex(candles.index).floor("D") if daily else _months(candles)):
        opened = start.to_pydatetime()
        end = opened + timedelta(days=1) if daily else (opened + timedelta(days=31)).replace(day=1)
        file = ArchiveFile(market.symbol, market.interval, opened, end)
        zipped = archive_zip(part, market.symbol, market.interval, file.name)
        content |= {file.path: zipped, f"{file.path}.CHECKSUM": checksum_line(zipped, file.name)}
    return content


def _months(candles: pd.DataFrame) -> pd.DatetimeIndex:
    days = pd.DatetimeIndex(candles.index).floor("D")
    return days - pd.to_timedelta(days.day - 1, unit="D")


class ArchiveTransport(BaseAdapter):
    """Answers requests from `content`, 404 for what is not in it.

    Attributes:
        asked: Paths of all requests, in order.
        most_at_once: Most requests that were under way at the same time.
        before: Called with each path first; what it returns, if not None, is the answer's body.
    """

    def __init__(
        self, content: Mapping[str, bytes], before: Callable[[str], bytes | None] = lambda _: None, takes_s: float = 0
    ) -> None:
        super().__init__()
        self.content = content
        self.before = before
        self.asked: list[str] = []
        self.most_at_once = 0
        self._takes_s = takes_s
        self._under_way = 0
        self._lock = threading.Lock()

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        path = str(request.path_url)
        with self._lock:
            self.asked.append(path)
            self._under_way += 1
            self.most_at_once = max(self.most_at_once, self._under_way)
        try:
            time.sleep(self._takes_s)
            body = self.before(path) or self.content.get(path)
        finally:
            with self._lock:
                self._under_way -= 1
        response = requests.Response()
        response.request, response.url = request, str(request.url)
        response.status_code = 404 if body is None else 200
        response._content = body or b""
        return response

    def close(self) -> None:
        pass

    @property
    def zips(self) -> list[str]:
        """Names of the zips that were asked for, in order."""
        return [path.rpartition("/")[2] for path in self.asked if path.endswith(".zip")]


def archive_client(transport: BaseAdapter) -> ArchiveClient:
    """A client that asks `transport`, and does not wait between attempts."""
    session = requests.Session()
    session.mount(ARCHIVE_URL, transport)
    return ArchiveClient(ARCHIVE_URL, session=session, sleep=lambda _: None)
