"""Answers that never end, or are too large, are given up."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest
import requests

from candlecast.archive.client import ArchiveClient
from candlecast.archive.files import ArchiveFile
from candlecast.errors import ExchangeRejected, ExchangeUnavailable
from candlecast.exchange.client import ExchangeClient
from candlecast.exchange.requests import BoundedSession

DRIPPED = [b" "] * 1000
ENDLESS = itertools.repeat(b" " * 65_536)


@contextmanager
def server_sending(pieces: Iterable[bytes], pause_s: float, chunked: bool, status: int = 200) -> Iterator[str]:
    """Answer every request with the pieces, as chunks or until the connection ends."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            pass

        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Location", "/elsewhere")
            self.send_header(*(("Transfer-Encoding", "chunked") if chunked else ("Connection", "close")))
            self.end_headers()
            for piece in pieces:
                try:
                    self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece) if chunked else piece)
                except OSError:  # the client has gone
                    return
                time.sleep(pause_s)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize("chunked", [True, False])
def test_an_answer_that_drips_is_given_up_in_time(chunked: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BoundedSession, "longest_s", 0.5)
    with server_sending(DRIPPED, 0.1, chunked) as url, ExchangeClient(url, sleep=lambda _: None) as exchange:
        began = time.monotonic()

        with pytest.raises(ExchangeUnavailable, match=r"the answer did not end within 0\.5 s"):
            exchange.server_time()

    assert time.monotonic() - began < 20


def test_a_quote_that_drips_is_given_up_in_seconds() -> None:
    with server_sending(DRIPPED, 0.1, chunked=True) as url, ExchangeClient(url) as exchange:
        began = time.monotonic()

        with pytest.raises(ExchangeUnavailable, match=r"the answer did not end within 1\.5 s"):
            exchange.quote("BTCUSDT")

    assert time.monotonic() - began < 20


@pytest.mark.timeout(60)  # without a bound it does not end
@pytest.mark.parametrize("chunked", [True, False])
def test_an_endless_answer_is_refused_at_its_size(chunked: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BoundedSession, "largest_bytes", 1_000_000)
    with server_sending(ENDLESS, 0, chunked) as url, ArchiveClient(url) as archive:
        with pytest.raises(ExchangeRejected, match=r"larger than 1 MB; correct CANDLECAST_ARCHIVE_URL"):
            archive.candles(
                ArchiveFile("BTCUSDT", "5m", datetime(2025, 6, 1, tzinfo=UTC), datetime(2025, 7, 1, tzinfo=UTC))
            )


@pytest.mark.timeout(60)  # without a bound it does not end
def test_an_endless_redirect_is_refused_at_its_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BoundedSession, "largest_bytes", 1_000_000)

    with server_sending(ENDLESS, 0, chunked=True, status=302) as url, BoundedSession() as session:
        with pytest.raises(requests.RequestException, match="larger than 1 MB"):
            session.get(url, timeout=10)
