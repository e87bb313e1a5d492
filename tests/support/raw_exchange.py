"""An exchange that serves klines as they are given, sound or not, over HTTP."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pandas as pd

from candlecast.candles.schema import open_times_ms
from candlecast.market import epoch_ms, interval_duration


def klines_of(candles: pd.DataFrame, interval: str) -> list[list[Any]]:
    """Return candles as klines of 12 values."""
    step_ms = int(interval_duration(interval).total_seconds()) * 1000
    return [
        [int(opened), *map(str, row[:5]), int(opened) + step_ms - 1, str(row[5]), int(row[6]), *map(str, row[7:]), "0"]
        for opened, row in zip(open_times_ms(candles), candles.to_numpy().tolist(), strict=True)
    ]


@contextmanager
def raw_exchange(
    klines: Sequence[Sequence[Any]], now: datetime, cap: int = 1000, files: dict[str, bytes] | None = None
) -> Iterator[tuple[str, list[dict[str, str]]]]:
    """Serve `klines`, at most `cap` an answer, and the archive's `files`; give the address and the queries for klines.

    Args:
        now: The exchange's clock; it stands still.
        files: Bodies of archive files and checksums by path.
    """
    asked: list[dict[str, str]] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            pass

        def do_GET(self) -> None:
            url = urlsplit(self.path)
            query = dict(parse_qsl(url.query))
            if url.path == "/api/v3/klines":
                asked.append(query)
                first, last = int(query["startTime"]), int(query["endTime"])
                found = [row for row in klines if first <= row[0] <= min(last, epoch_ms(now))]
                self._send(200, json.dumps(found[: min(cap, int(query["limit"]))]).encode())
            elif url.path == "/api/v3/time":
                self._send(200, json.dumps({"serverTime": epoch_ms(now)}).encode())
            elif url.path == "/api/v3/ping":
                self._send(200, b"{}")
            elif files and url.path in files:
                self._send(200, files[url.path])
            else:
                self._send(404, b"{}")

        def _send(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        server.server_close()
